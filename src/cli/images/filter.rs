//! `--filter` of the commands for images: values of one key are alternatives, except for labels; keys must all
//! fit. `!=` asks for the contrary.

use std::collections::BTreeMap;
use std::collections::HashSet;

use jiff::Timestamp;
use regex::Regex;

use crate::cli::filter;
use crate::cli::filter::expected;
use crate::cli::filter::has;
use crate::engine::Engine;
use crate::engine::images;
use crate::image;
use crate::image::about::Family;
use crate::image::names::Name;
use crate::image::names::Named;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::text::glob;
use crate::text::time;

/// What there is to filter by.
const KEYS: &str = "before, containers, dangling, digest, id, intermediate, label, manifest, readonly, reference, since, until";

enum Filter {
    /// Made before this, and another image than that of this id.
    Before(Option<Timestamp>, Digest),
    Containers(bool),
    Dangling(bool),
    Digest(String),
    Id(String),
    Intermediate(bool),
    Label(String),
    Manifest(bool),
    ReadOnly(bool),
    Reference(Pattern),
    Since(Option<Timestamp>, Digest),
    Until(Timestamp),
    Not(Box<Filter>),
}

/// A name of an image, or a shell pattern for such; or (the start of) an id.
pub struct Pattern {
    text: String,
    glob: Option<Regex>,
}

impl Pattern {
    pub fn parse(text: &str) -> Option<Pattern> {
        let is_glob = text.contains(['*', '?', '[', '\\']);
        let glob = if is_glob {
            Some(glob::parse(text)?)
        } else {
            None
        };
        Some(Pattern {
            text: text.to_owned(),
            glob,
        })
    }

    /// Of the repository alone or with the tag; from the registry, or from any slash on.
    pub fn fits(&self, reference: &Reference) -> bool {
        let whole = reference.to_string();
        let repository = reference.name();
        let tagged = format!("{repository}:{}", reference.tag().unwrap_or_default());
        [whole, repository, tagged].iter().any(|form| {
            let slashes = form.match_indices('/').map(|(at, _)| at + 1);
            let mut parts = std::iter::once(0).chain(slashes).map(|at| &form[at..]);
            match &self.glob {
                Some(glob) => parts.any(|part| glob.is_match(part)),
                None => parts.any(|part| part == self.text),
            }
        })
    }

    fn fits_id(&self, id: &Digest) -> bool {
        let start = self.text.strip_prefix("sha256:").unwrap_or(&self.text);
        self.glob.is_none() && start.len() >= 3 && id.hex().starts_with(start)
    }
}

pub struct Filters {
    by_key: BTreeMap<String, Vec<Filter>>,
    /// Images that containers use.
    used: HashSet<String>,
}

impl Filters {
    pub fn parse(engine: &Engine, words: &[String]) -> anyhow::Result<Filters> {
        let mut by_key: BTreeMap<String, Vec<Filter>> = BTreeMap::new();
        for word in words {
            let (key, value) = filter::split(word)?;
            let (plain, negated) = match key.strip_suffix('!') {
                Some(plain) => (plain, true),
                None => (key, false),
            };
            let mut one = one(engine, word, plain, value)?;
            if negated {
                one = Filter::Not(Box::new(one));
            }
            by_key.entry(key.to_owned()).or_default().push(one);
        }
        let asks_for_use = by_key.keys().any(|key| key.starts_with("containers"));
        let used = if asks_for_use {
            images::users(engine)?.into_keys().collect()
        } else {
            HashSet::new()
        };
        Ok(Filters { by_key, used })
    }

    /// Names as well as images are asked for.
    pub fn add_references(&mut self, patterns: Vec<Pattern>) {
        if !patterns.is_empty() {
            let filters = self.by_key.entry("reference".into()).or_default();
            filters.extend(patterns.into_iter().map(Filter::Reference));
        }
    }

    /// Whether intermediate images are asked for.
    pub fn ask_for_intermediate(&self) -> bool {
        self.by_key
            .keys()
            .any(|key| key.starts_with("intermediate"))
    }

    /// The images that fit, each with those of its names that do.
    pub fn choose(&self, engine: &Engine, images: Vec<Named>) -> Vec<Named> {
        let asks_for_family = self
            .by_key
            .keys()
            .any(|key| key.starts_with("dangling") || key.starts_with("intermediate"));
        let parents = asks_for_family.then(|| parents(engine, &images));
        let found = images.into_iter().enumerate().filter_map(|(index, named)| {
            let is_parent = parents.as_ref().is_some_and(|parents| parents[index]);
            self.one(named, is_parent)
        });
        found.collect()
    }

    fn one(&self, mut named: Named, is_parent: bool) -> Option<Named> {
        let fit = filter::all_fit(&self.by_key, |one| self.fits(one, &named, is_parent));
        if !fit {
            return None;
        }
        // Of the names those that were asked for, unless the image was meant.
        if let Some(filters) = self.by_key.get("reference") {
            let by_id = filters.iter().any(
                |one| matches!(one, Filter::Reference(pattern) if pattern.fits_id(&named.image.id)),
            );
            if !by_id {
                named.names.retain(|name| {
                    filters.iter().any(
                        |one| matches!(one, Filter::Reference(pattern) if pattern.fits(&name.reference)),
                    )
                });
            }
        }
        Some(named)
    }

    fn fits(&self, filter: &Filter, named: &Named, is_parent: bool) -> bool {
        let image = &named.image;
        let created = || time::parse_rfc3339(image.created.as_deref()?);
        match filter {
            Filter::Before(moment, id) => image.id != *id && created() < *moment,
            Filter::Since(moment, id) => image.id != *id && created() > *moment,
            Filter::Until(moment) => created().is_none_or(|created| created <= *moment),
            Filter::Containers(wanted) => self.used.contains(&image.id.to_string()) == *wanted,
            Filter::Dangling(wanted) => (named.names.is_empty() && !is_parent) == *wanted,
            Filter::Intermediate(wanted) => (named.names.is_empty() && is_parent) == *wanted,
            Filter::Digest(text) => digests(named).any(|digest| {
                digest.to_string() == *text || digest.hex().starts_with(text.as_str())
            }),
            Filter::Id(start) => image.id.hex().starts_with(start.as_str()),
            Filter::Label(label) => has(&image.config.untrusted().labels, label),
            Filter::Manifest(wanted) => image.is_list() == *wanted,
            Filter::ReadOnly(wanted) => named.image.store.is_some() == *wanted,
            Filter::Reference(pattern) => {
                let mut names = named.names.iter();
                names.any(|name| pattern.fits(&name.reference)) || pattern.fits_id(&image.id)
            }
            Filter::Not(inner) => !self.fits(inner, named, is_parent),
        }
    }
}

fn digests(named: &Named) -> impl Iterator<Item = &Digest> {
    let of_names = named.names.iter().map(|name: &Name| &name.manifest_digest);
    of_names.chain([&named.image.manifest_digest])
}

/// By index, whether an image is one from which another was made.
pub fn parents(engine: &Engine, images: &[Named]) -> Vec<bool> {
    if images.iter().all(|named| !named.names.is_empty()) {
        return vec![false; images.len()];
    }
    let all: Vec<_> = images.iter().map(|named| &named.image).collect();
    let family = Family::of(&engine.dirs, &all);
    (0..all.len())
        .map(|index| family.has_children(index))
        .collect()
}

fn one(engine: &Engine, word: &str, key: &str, value: &str) -> anyhow::Result<Filter> {
    let flag = || {
        let known = [("true", true), ("1", true), ("false", false), ("0", false)];
        let found = known.into_iter().find(|(text, _)| *text == value);
        found
            .map(|(_, flag)| flag)
            .ok_or_else(|| expected(word, "true or false"))
    };
    let made = || {
        let image = image::find(&engine.dirs, value)?;
        let created = image.created.as_deref().and_then(time::parse_rfc3339);
        anyhow::Ok((created, image.id))
    };
    Ok(match key {
        "after" | "since" => {
            let (moment, id) = made()?;
            Filter::Since(moment, id)
        }
        "before" => {
            let (moment, id) = made()?;
            Filter::Before(moment, id)
        }
        // Podman's third value: containers of other tools, of which there are none.
        "containers" if value == "external" => Filter::Not(Box::new(Filter::Id(String::new()))),
        "containers" => Filter::Containers(flag()?),
        "dangling" => Filter::Dangling(flag()?),
        "digest" => Filter::Digest(value.to_owned()),
        "id" => Filter::Id(value.strip_prefix("sha256:").unwrap_or(value).to_owned()),
        "intermediate" => Filter::Intermediate(flag()?),
        "label" => Filter::Label(value.to_owned()),
        "manifest" => Filter::Manifest(flag()?),
        "readonly" => Filter::ReadOnly(flag()?),
        "reference" => Filter::Reference(
            Pattern::parse(value)
                .ok_or_else(|| expected(word, "a name of an image, or a pattern"))?,
        ),
        "until" => Filter::Until(filter::moment(word, value)?),
        _ => return Err(expected(word, &format!("one of the keys {KEYS}"))),
    })
}
