//! Where the output of the container will be kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex::Regex;

use crate::container::config::Log;
use crate::container::config::log::Driver;
use crate::container::config::log::Rotation;

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub driver: Driver,
    pub options: BTreeMap<String, String>,
    pub path: Option<PathBuf>,
    pub rotation: Option<Rotation>,
    pub tag: Option<String>,
    pub attributes: BTreeMap<String, String>,
    /// Of the container, by name or pattern, that become attributes.
    pub labels: Vec<String>,
    pub labels_regex: Option<Regex>,
    pub env: Vec<String>,
    pub env_regex: Option<Regex>,
    pub non_blocking: bool,
}

pub fn decide(wish: Wish, labels: &BTreeMap<String, String>, env: &[String]) -> Log {
    let is_wanted = |key: &str, names: &[String], regex: &Option<Regex>| {
        names.iter().any(|name| name == key)
            || regex.as_ref().is_some_and(|regex| regex.is_match(key))
    };
    let mut attributes = wish.attributes;
    for (key, value) in labels {
        if is_wanted(key, &wish.labels, &wish.labels_regex) {
            attributes.insert(key.clone(), value.clone());
        }
    }
    // Where both have a key, the variable counts, as with docker.
    for (key, value) in env.iter().filter_map(|variable| variable.split_once('=')) {
        if is_wanted(key, &wish.env, &wish.env_regex) {
            attributes.insert(key.to_owned(), value.to_owned());
        }
    }
    Log {
        driver: wish.driver,
        options: wish.options,
        path: wish.path,
        rotation: wish.rotation,
        tag: wish.tag,
        attributes,
        non_blocking: wish.non_blocking,
    }
}
