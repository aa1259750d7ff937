//! Looking for images: Docker's search (its registry's API of version 1), else what the catalog of a registry
//! lists (OCI distribution specification, and Docker's registry before it).

use anyhow::Result;
use serde::Deserialize;

use crate::config::registries::Registries;
use crate::image::registry::access::Access;
use crate::image::registry::authfile;
use crate::image::registry::client::Client;
use crate::oci::reference::DOCKER_HUB;
use crate::oci::reference::Reference;

/// A repository that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub registry: String,
    /// With its registry.
    pub name: String,
    pub description: String,
    pub stars: u64,
    pub official: bool,
    pub automated: bool,
}

/// The entries of an answer to `/v1/search`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    name: String,
    description: Option<String>,
    star_count: u64,
    is_official: bool,
    is_automated: bool,
}

/// Looks for a word in one registry.
pub fn search(
    registry: &str,
    term: &str,
    limit: usize,
    access: &Access,
    registries: &Registries,
) -> Result<Vec<Found>> {
    let client = connect(registry, "", access, registries)?;
    if !term.is_empty()
        && let Some(entries) = client.search(term, limit)?
    {
        return Ok(entries
            .into_iter()
            .take(limit)
            .map(|entry| entry.found(registry))
            .collect());
    }
    let mut names = client.list("/v2/_catalog", "repositories", |name| name.contains(term))?;
    // The one that is called so comes first.
    names.sort_by_key(|name| name != term);
    names.truncate(limit);
    let found = names.into_iter().map(|name| Entry {
        name,
        ..Entry::default()
    });
    Ok(found.map(|entry| entry.found(registry)).collect())
}

impl Entry {
    fn found(self, registry: &str) -> Found {
        let is_short = registry == DOCKER_HUB && self.is_official && !self.name.contains('/');
        let middle = if is_short { "library/" } else { "" };
        Found {
            registry: registry.to_owned(),
            name: format!("{registry}/{middle}{}", self.name),
            description: self.description.unwrap_or_default().replace('\n', " "),
            stars: self.star_count,
            official: self.is_official,
            automated: self.is_automated,
        }
    }
}

/// The tags of a repository, as its registry orders them.
pub fn tags(
    reference: &Reference,
    access: &Access,
    registries: &Registries,
) -> Result<Vec<String>> {
    let repository = reference.repository();
    let client = connect(reference.registry(), repository, access, registries)?;
    client.list(&format!("/v2/{repository}/tags/list"), "tags", |_| true)
}

fn connect(
    registry: &str,
    repository: &str,
    access: &Access,
    registries: &Registries,
) -> Result<Client> {
    let sources = registries.sources(&format!("{registry}/{repository}"))?;
    let insecure = sources.last().is_some_and(|source| source.insecure);
    let credentials = authfile::find(registry, repository, access, registries)?;
    Client::open(registry, repository, insecure, access, credentials)
}
