//! `--filter` of the network commands: values of one key are alternatives, except for labels; keys must all fit.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;
use regex::Regex;

use crate::cli::filter;
use crate::cli::filter::has;
use crate::engine::Engine;
use crate::engine::networks;
use crate::network::record::Network;

/// The keys of `ls`, and those of `prune`.
pub const OF_LS: &str = "dangling, driver, id, label, label!, name, scope, type, until";
pub const OF_PRUNE: &str = "label, label!, until";

enum Filter {
    Dangling(bool),
    Driver(String),
    Id(Regex),
    Label(String),
    NotLabel(String),
    Name(Regex),
    Scope(String),
    /// Made by a user, and not always there.
    Custom(bool),
    Until(Timestamp),
}

pub struct Filters {
    by_key: BTreeMap<String, Vec<Filter>>,
    /// Networks in use, where a filter asks for them.
    used: BTreeSet<String>,
}

impl Filters {
    pub fn parse(engine: &Engine, words: &[String], keys: &str) -> anyhow::Result<Filters> {
        let mut filters = Filters {
            by_key: BTreeMap::new(),
            used: BTreeSet::new(),
        };
        for word in words {
            let (key, value) = filter::split(word)?;
            if !keys.split(", ").any(|known| known == key) {
                return Err(filter::expected(word, &format!("one of the keys {keys}")));
            }
            let filter = one(word, key, value)?;
            if let Filter::Dangling(_) = filter {
                filters.used = networks::users(&engine.dirs)?.into_keys().collect();
            }
            filters
                .by_key
                .entry(key.to_owned())
                .or_default()
                .push(filter);
        }
        Ok(filters)
    }

    pub fn fit(&self, network: &Network) -> bool {
        filter::all_fit(&self.by_key, |one| self.fits(one, network))
    }

    fn fits(&self, filter: &Filter, network: &Network) -> bool {
        match filter {
            Filter::Dangling(wanted) => {
                let is_used = network.is_default() || self.used.contains(&network.name);
                is_used != *wanted
            }
            Filter::Driver(driver) => network.driver.name() == driver,
            Filter::Id(pattern) => pattern.is_match(&network.id),
            Filter::Label(label) => has(&network.labels, label),
            Filter::NotLabel(label) => !has(&network.labels, label),
            Filter::Name(pattern) => pattern.is_match(&network.name),
            Filter::Scope(scope) => scope == "local",
            Filter::Custom(wanted) => network.is_default() != *wanted,
            Filter::Until(moment) => network.created < *moment,
        }
    }
}

fn one(word: &str, key: &str, value: &str) -> anyhow::Result<Filter> {
    Ok(match key {
        "dangling" => Filter::Dangling(filter::boolean(word, value)?),
        "driver" => Filter::Driver(value.to_owned()),
        "id" => Filter::Id(filter::pattern(word, value)?),
        "label" => Filter::Label(value.to_owned()),
        "label!" => Filter::NotLabel(value.to_owned()),
        "name" => Filter::Name(filter::pattern(word, value)?),
        "scope" => Filter::Scope(value.to_owned()),
        "type" => match value {
            "custom" => Filter::Custom(true),
            "builtin" => Filter::Custom(false),
            _ => return Err(filter::expected(word, "custom or builtin")),
        },
        _ => Filter::Until(filter::moment(word, value)?),
    })
}
