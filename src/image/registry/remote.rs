//! Manifests of a registry, without the images: for lists, and to be looked at.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image::config;
use crate::image::lists::Entry;
use crate::image::lists::EntryPlatform;
use crate::image::lists::Index;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Document;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::registry::Access;
use crate::image::registry::blob;
use crate::image::registry::check;
use crate::image::registry::client::Client;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

/// The bytes of all manifests of an index, which are held in memory.
const MANIFESTS_SIZE_MAX: u64 = 8 * MANIFEST_MAX;

/// A manifest or index as the registry has it.
pub fn raw(reference: &Reference, access: &Access) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read the manifest of \"{reference}\"");
    let client = Client::connect(reference, access).with_context(cannot)?;
    let (bytes, _) = fetch(&client, &reference.manifest_name()).with_context(cannot)?;
    if let Some(digest) = reference.digest() {
        check(digest, &bytes).with_context(cannot)?;
    }
    Ok(bytes)
}

fn fetch(client: &Client, name: &str) -> Result<(Vec<u8>, Option<String>)> {
    let (bytes, media_type) = client.manifest(name)?;
    // What is neither an image nor an index is refused here.
    manifest::parse(&bytes, media_type.as_deref())?;
    Ok((bytes, media_type))
}

/// The images of a reference, each with its manifest: all of an index, or the one for a platform.
pub fn entries(
    reference: &Reference,
    access: &Access,
    all: bool,
    platform: &Platform,
) -> Result<Vec<(Entry, Vec<u8>)>> {
    let cannot = || format!("cannot read the manifest of \"{reference}\"");
    let client = Client::connect(reference, access).with_context(cannot)?;
    found(&client, reference, all, platform).with_context(cannot)
}

fn found(
    client: &Client,
    reference: &Reference,
    all: bool,
    platform: &Platform,
) -> Result<Vec<(Entry, Vec<u8>)>> {
    let (bytes, media_type) = client.manifest(&reference.manifest_name())?;
    if let Some(digest) = reference.digest() {
        check(digest, &bytes)?;
    }
    let index = match manifest::parse(&bytes, media_type.as_deref())? {
        Document::Index(index) => index,
        Document::Manifest(manifest) => {
            let config = blob::small(client, &manifest.config, CONFIG_MAX)?;
            let platform = config::parse(&config)?.platform;
            let digest = reference.digest().cloned();
            let entry = Entry {
                media_type: manifest.media_type,
                digest: digest.unwrap_or_else(|| Digest::sha256_of(&bytes)),
                size: bytes.len() as u64,
                platform: Some(EntryPlatform::from(&platform)),
                annotations: std::collections::BTreeMap::new(),
            };
            return Ok(vec![(entry, bytes)]);
        }
    };
    let chosen = manifest::choose(&index, platform).map(|one| one.digest.clone());
    let mut wanted = Index::parse(&bytes)?.manifests;
    if !all {
        let chosen = chosen?;
        wanted.retain(|entry| entry.digest == chosen);
    }
    let mut entries = Vec::new();
    let mut total = 0;
    for entry in wanted {
        total += entry.size.min(MANIFEST_MAX);
        if total > MANIFESTS_SIZE_MAX {
            bail!("its manifests have more than {MANIFESTS_SIZE_MAX} bytes");
        }
        let (bytes, _) = client.manifest(&entry.digest.to_string())?;
        check(&entry.digest, &bytes)?;
        if bytes.len() as u64 != entry.size {
            bail!(
                "wrong size: {} is no manifest of {} bytes",
                entry.digest,
                entry.size
            );
        }
        entries.push((entry, bytes));
    }
    Ok(entries)
}
