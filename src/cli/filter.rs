//! `--filter` of the container commands: values of one key are alternatives, except for labels; keys
//! must all fit.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use regex::Regex;

use crate::cli::port;
use crate::container::config::Config;
use crate::container::config::Restart;
use crate::container::health;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::text::publish;
use crate::text::publish::Publish;
use crate::text::time;

/// What there is to filter by.
const KEYS: &str = "ancestor, annotation, annotation!, before, command, exited, health, id, label, label!, name, network, publish, restart-policy, should-start-on-boot, since, status, until, volume";

/// By the words of `podman ps`; `stopped` is what Docker calls `exited`.
const STATUSES: [&str; 12] = [
    "created",
    "dead",
    "exited",
    "initialized",
    "paused",
    "removing",
    "restarting",
    "running",
    "stopped",
    "stopping",
    "unknown",
    "unreadable",
];

const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

enum Filter {
    Ancestor(String, Option<Box<Image>>),
    Annotation(String),
    NotAnnotation(String),
    Before(Timestamp),
    Command(String),
    Exited(i32),
    Health(&'static str),
    Id(Regex),
    IdPrefix(String),
    Label(String),
    NotLabel(String),
    Name(Regex),
    Network(String),
    Publish(Vec<Publish>),
    RestartPolicy(Restart),
    Since(Timestamp),
    StartsAtBoot(bool),
    Status(String),
    Until(Timestamp),
    Volume(String),
}

pub struct Filters(BTreeMap<String, Vec<Filter>>);

impl Filters {
    pub fn parse(engine: &Engine, words: &[String]) -> anyhow::Result<Filters> {
        let mut filters = Filters(BTreeMap::new());
        for word in words {
            let (key, value) = split(word)?;
            let filter = one(engine, word, key, value)?;
            filters.0.entry(key.to_owned()).or_default().push(filter);
        }
        Ok(filters)
    }

    /// As docker and podman: who asks for a status means containers that do not run, too.
    pub fn ask_for_status(&self) -> bool {
        self.0.contains_key("status")
    }

    pub fn fit(&self, container: &Container, status: &Status) -> bool {
        all_fit(&self.0, |one| fits(one, container, status))
    }
}

/// Key and value of a filter, of whatever things.
pub fn split(word: &str) -> anyhow::Result<(&str, &str)> {
    let pair = word.split_once('=');
    pair.ok_or_else(|| expected(word, "KEY=VALUE"))
}

pub fn expected(word: &str, what: &str) -> anyhow::Error {
    fail(Kind::Usage, format!("--filter=\"{word}\": expected {what}"))
}

/// Values of one key are alternatives, except for what a thing has many of; keys must all fit.
pub fn all_fit<F>(by_key: &BTreeMap<String, Vec<F>>, fits: impl Fn(&F) -> bool) -> bool {
    by_key.iter().all(|(key, filters)| {
        let mut fitting = filters.iter().map(&fits);
        if key.starts_with("label") || key.starts_with("annotation") {
            fitting.all(|fits| fits)
        } else {
            fitting.any(|fits| fits)
        }
    })
}

pub fn boolean(word: &str, value: &str) -> anyhow::Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(expected(word, "true or false")),
    }
}

pub fn pattern(word: &str, value: &str) -> anyhow::Result<Regex> {
    Regex::new(value).map_err(|_| expected(word, "a regular expression"))
}

/// A time, or how long ago.
pub fn moment(word: &str, value: &str) -> anyhow::Result<Timestamp> {
    let moment = time::parse_since(value, Timestamp::now(), &time::local_zone());
    moment.map_err(|_| expected(word, "a time, or how long ago"))
}

fn fits(filter: &Filter, container: &Container, status: &Status) -> bool {
    let config = &container.config;
    match filter {
        Filter::Ancestor(given, image) => descends(config, given, image.as_deref()),
        Filter::Annotation(one) => has(&config.annotations, one),
        Filter::NotAnnotation(one) => !has(&config.annotations, one),
        Filter::Before(moment) => config.created < *moment,
        Filter::Command(command) => config.process.args().first() == Some(command),
        Filter::Exited(wanted) => {
            matches!(status, Status::Exited(exit) if exit.status == *wanted)
        }
        Filter::Health(wanted) => {
            let report = health::of(container, status);
            report.map_or("none", |report| report.status.name()) == *wanted
        }
        Filter::Id(pattern) => pattern.is_match(&config.id),
        Filter::IdPrefix(prefix) => config.id.starts_with(prefix.as_str()),
        Filter::Label(label) => has(&config.labels, label),
        Filter::NotLabel(label) => !has(&config.labels, label),
        Filter::Name(pattern) => pattern.is_match(&container.name),
        Filter::Network(name) => config.process.network_names().contains(name),
        Filter::Publish(wanted) => port::published(status).iter().any(|one| {
            let mut wanted = wanted.iter();
            wanted.any(|wanted| wanted.port == one.host_port && wanted.protocol == one.protocol)
        }),
        // As podman: a number of times is no part of it.
        Filter::RestartPolicy(wanted) => config.restart.name() == wanted.name(),
        Filter::Since(moment) => config.created > *moment,
        Filter::StartsAtBoot(wanted) => container.starts_at_boot() == *wanted,
        Filter::Status(name) => status.name() == name,
        Filter::Until(moment) => config.created <= *moment,
        Filter::Volume(given) => config.files.mounts.iter().any(|mount| {
            mount.destination == Path::new(given)
                || match &mount.source {
                    Source::Volume { name, .. } => name == given,
                    Source::Bind { path } => path == Path::new(given),
                    _ => false,
                }
        }),
    }
}

/// Of that image, or of one that was made from it.
fn descends(config: &Config, given: &str, image: Option<&Image>) -> bool {
    match image {
        Some(image) => {
            config.image_id == image.id.to_string()
                || !image.layers.is_empty() && config.layers.starts_with(&image.layers)
        }
        // The image has gone since.
        None => config.image == given || config.image_id.ends_with(given) && given.len() == 64,
    }
}

/// `KEY`, or `KEY=VALUE`.
pub fn has(pairs: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => pairs.get(key).is_some_and(|known| known == value),
        None => pairs.contains_key(wanted),
    }
}

fn one(engine: &Engine, word: &str, key: &str, value: &str) -> anyhow::Result<Filter> {
    let expected = |what: &str| expected(word, what);
    let pattern = || pattern(word, value);
    let created = || Container::find(&engine.dirs, value).map(|found| found.config.created);
    Ok(match key {
        "ancestor" => Filter::Ancestor(
            value.to_owned(),
            image::find(&engine.dirs, value).ok().map(Box::new),
        ),
        "annotation" => Filter::Annotation(value.to_owned()),
        "annotation!" => Filter::NotAnnotation(value.to_owned()),
        "before" => Filter::Before(created()?),
        "command" => Filter::Command(value.to_owned()),
        "exited" => Filter::Exited(value.parse().map_err(|_| expected("an exit status"))?),
        "health" => match HEALTH.into_iter().find(|name| *name == value) {
            Some(name) => Filter::Health(name),
            None => return Err(expected(&format!("one of {}", HEALTH.join(", ")))),
        },
        // As podman: digits are the beginning of an id.
        "id" if value.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Filter::IdPrefix(value.to_owned())
        }
        "id" => Filter::Id(pattern()?),
        "label" => Filter::Label(value.to_owned()),
        "label!" => Filter::NotLabel(value.to_owned()),
        "name" => Filter::Name(pattern()?),
        "network" => Filter::Network(value.to_owned()),
        "pod" => {
            return Err(fail(
                Kind::Unsupported,
                format!("--filter=\"{word}\": rbox has no pods"),
            ));
        }
        "publish" => Filter::Publish(
            publish::parse(value).map_err(|_| expected("ports of the host, as 8080 or 53/udp"))?,
        ),
        "restart-policy" => Filter::RestartPolicy(
            Restart::parse(value)
                .map_err(|_| expected("no, on-failure, always or unless-stopped"))?,
        ),
        "should-start-on-boot" => {
            Filter::StartsAtBoot(value.parse().map_err(|_| expected("true or false"))?)
        }
        "since" | "after" => Filter::Since(created()?),
        "status" if value == "stopped" => Filter::Status("exited".into()),
        "status" if STATUSES.contains(&value) => Filter::Status(value.to_owned()),
        "status" => return Err(expected(&format!("one of {}", STATUSES.join(", ")))),
        "until" => Filter::Until(moment(word, value)?),
        "volume" => Filter::Volume(value.to_owned()),
        _ => return Err(expected(&format!("one of the keys {KEYS}"))),
    })
}
