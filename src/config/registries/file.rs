//! One registries.conf as it is written (containers-registries.conf(5), versions 1 and 2), checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    pub unqualified_search_registries: Option<Vec<String>>,
    pub credential_helpers: Option<Vec<String>>,
    pub short_name_mode: Option<String>,
    #[serde(default, rename = "registry")]
    pub registries: Vec<Registry>,
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    #[serde(rename = "registries")]
    version_1: Option<Version1>,
}

/// What holds for names that begin with `prefix`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(
    default,
    rename_all(deserialize = "kebab-case", serialize = "PascalCase")
)]
pub struct Registry {
    pub prefix: String,
    pub location: String,
    pub insecure: bool,
    pub blocked: bool,
    #[serde(rename(deserialize = "mirror", serialize = "Mirrors"))]
    pub mirrors: Vec<Mirror>,
    pub mirror_by_digest_only: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(
    default,
    rename_all(deserialize = "kebab-case", serialize = "PascalCase")
)]
pub struct Mirror {
    pub location: String,
    pub insecure: bool,
    pub pull_from_mirror: PullFromMirror,
}

/// For which references a mirror serves.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PullFromMirror {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Default, Deserialize)]
struct Version1 {
    #[serde(default)]
    search: List,
    #[serde(default)]
    insecure: List,
    #[serde(default)]
    block: List,
}

#[derive(Debug, Default, Deserialize)]
struct List {
    #[serde(default)]
    registries: Vec<String>,
}

impl File {
    /// The error is a text for people: what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = toml::from_str(text).map_err(|err| one_line(&err))?;
        if let Some(old) = file.version_1.take() {
            file.take_version_1(old)?;
        }
        for registry in &mut file.registries {
            registry.check()?;
        }
        for (name, value) in &file.aliases {
            check_alias(name, value)?;
        }
        Ok(file)
    }

    fn take_version_1(&mut self, old: Version1) -> Result<(), String> {
        let newer = !self.registries.is_empty() || self.unqualified_search_registries.is_some();
        if newer {
            return Err("it mixes the forms of version 1 and version 2".to_owned());
        }
        self.unqualified_search_registries = Some(old.search.registries);
        let mut registries: BTreeMap<String, Registry> = BTreeMap::new();
        let lists = [(old.insecure, true), (old.block, false)];
        for (list, insecure) in lists {
            for location in list.registries {
                let registry = registries.entry(location.clone()).or_default();
                registry.location = location;
                registry.insecure |= insecure;
                registry.blocked |= !insecure;
            }
        }
        self.registries = registries.into_values().collect();
        Ok(())
    }
}

/// The library shows the line with a mark below it; here are the place and the reason.
fn one_line(err: &toml::de::Error) -> String {
    let text = err.message().replace('\n', " ");
    text.replace(|sign: char| sign.is_control(), "?")
}

impl Registry {
    fn check(&mut self) -> Result<(), String> {
        self.location = clean(&self.location)?;
        if self.prefix.is_empty() {
            if self.location.is_empty() {
                return Err("a [[registry]] has neither prefix nor location".to_owned());
            }
            self.prefix.clone_from(&self.location);
        } else {
            self.prefix = clean(&self.prefix)?;
        }
        match self.prefix.strip_prefix("*.") {
            Some(domain) if domain.is_empty() || domain.contains(['/', '*', ':', '@']) => {
                return Err(format!("prefix {:?} is not *.DOMAIN", self.prefix));
            }
            None if self.prefix.contains('*') => {
                return Err(format!("prefix {:?} is not *.DOMAIN", self.prefix));
            }
            None if self.location.is_empty() => self.location.clone_from(&self.prefix),
            _ => {}
        }
        for mirror in &mut self.mirrors {
            mirror.location = clean(&mirror.location)?;
            if mirror.location.is_empty() {
                return Err(format!("a mirror of {:?} has no location", self.prefix));
            }
            if self.mirror_by_digest_only && mirror.pull_from_mirror != PullFromMirror::All {
                return Err(format!(
                    "{:?} has mirror-by-digest-only, and a mirror with pull-from-mirror",
                    self.prefix
                ));
            }
        }
        Ok(())
    }
}

/// A registry with or without a path; no URL.
fn clean(location: &str) -> Result<String, String> {
    if location.contains("://") {
        return Err(format!(
            "{location:?} has a scheme, and is a host with or without a path"
        ));
    }
    Ok(location.trim_end_matches('/').to_owned())
}

fn check_alias(name: &str, value: &str) -> Result<(), String> {
    let plain = |text: &str| {
        let last = text.rsplit('/').next().unwrap_or(text);
        !text.is_empty() && !last.contains([':', '@'])
    };
    // An empty value takes the alias of an earlier file away.
    if !plain(name) || !(value.is_empty() || plain(value) && value.contains('/')) {
        return Err(format!(
            "alias {name:?} = {value:?}: a short name stands for a full one, both without tag and digest"
        ));
    }
    Ok(())
}
