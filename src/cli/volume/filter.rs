//! `--filter` of the volume commands: values of one key are alternatives, except for labels; keys
//! must all fit.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;
use regex::Regex;

use crate::cli::filter;
use crate::cli::filter::has;
use crate::container::uses;
use crate::engine::Engine;
use crate::volume;
use crate::volume::Volume;

enum Filter {
    All(bool),
    Anonymous(bool),
    Dangling(bool),
    Driver(String),
    Label(String),
    NotLabel(String),
    Name(Regex),
    Option(String),
    Scope(String),
    Since(Timestamp),
    Until(Timestamp),
}

pub struct Filters {
    by_key: BTreeMap<String, Vec<Filter>>,
    /// Volumes in use, where a filter asks for them.
    used: BTreeSet<String>,
}

impl Filters {
    pub fn parse(engine: &Engine, words: &[String]) -> anyhow::Result<Filters> {
        let mut filters = Filters {
            by_key: BTreeMap::new(),
            used: BTreeSet::new(),
        };
        for word in words {
            let (key, value) = filter::split(word)?;
            let filter = one(engine, word, key, value)?;
            if let Filter::Dangling(_) = filter {
                filters.used = uses::volumes(&engine.dirs)?.into_keys().collect();
            }
            filters
                .by_key
                .entry(key.to_owned())
                .or_default()
                .push(filter);
        }
        Ok(filters)
    }

    pub fn fit(&self, volume: &Volume) -> bool {
        filter::all_fit(&self.by_key, |one| self.fits(one, volume))
    }

    /// `all=true`, for `prune`.
    pub fn wants_all(&self) -> bool {
        let filters = self.by_key.get("all").into_iter().flatten();
        filters
            .into_iter()
            .any(|filter| matches!(filter, Filter::All(true)))
    }

    pub fn says_anonymous(&self) -> bool {
        self.by_key.contains_key("anonymous")
    }

    fn fits(&self, filter: &Filter, volume: &Volume) -> bool {
        match filter {
            Filter::All(_) => true,
            Filter::Anonymous(wanted) => volume.anonymous == *wanted,
            Filter::Dangling(wanted) => self.used.contains(&volume.name) != *wanted,
            Filter::Driver(name) | Filter::Scope(name) => name == "local",
            Filter::Label(label) => has(&volume.labels, label),
            Filter::NotLabel(label) => !has(&volume.labels, label),
            Filter::Name(pattern) => pattern.is_match(&volume.name),
            Filter::Option(option) => has(&volume.options, option),
            Filter::Since(moment) => volume.created > *moment,
            Filter::Until(moment) => volume.created <= *moment,
        }
    }
}

fn one(engine: &Engine, word: &str, key: &str, value: &str) -> anyhow::Result<Filter> {
    let boolean = || filter::boolean(word, value);
    Ok(match key {
        "all" => Filter::All(boolean()?),
        "anonymous" => Filter::Anonymous(boolean()?),
        "dangling" => Filter::Dangling(boolean()?),
        "driver" => Filter::Driver(value.to_owned()),
        "label" => Filter::Label(value.to_owned()),
        "label!" => Filter::NotLabel(value.to_owned()),
        "name" => Filter::Name(filter::pattern(word, value)?),
        "opt" => Filter::Option(value.to_owned()),
        "scope" => Filter::Scope(value.to_owned()),
        "since" | "after" => Filter::Since(volume::find(&engine.dirs, value)?.created),
        "until" => Filter::Until(filter::moment(word, value)?),
        _ => {
            return Err(filter::expected(
                word,
                "one of the keys after, all, anonymous, dangling, driver, label, label!, name, opt, scope, since, until",
            ));
        }
    })
}
