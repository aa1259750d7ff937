//! Pulling from a registry (OCI distribution specification 1.1, and Docker's registry before it).
//! Every byte is verified against a digest; only a tag is taken on the registry's word.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image::config;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Manifest;
use crate::image::names;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::image::registry::client::Client;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

pub use access::Access;

mod access;
mod auth;
mod authfile;
mod blob;
mod client;
mod helper;
mod http;
mod proxy;
pub mod push;
mod resolver;
mod tls;

#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    pub access: Access,
    /// Of another machine than this one.
    pub platform: Option<Platform>,
}

/// Fetches an image and gives it the name it was asked for by. Starts threads, which have ended
/// when it returns.
pub fn pull(
    dirs: &Dirs,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    pull_locked(dirs, reference, options, progress)
        .with_context(|| format!("cannot pull \"{reference}\""))
}

fn pull_locked(
    dirs: &Dirs,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Image> {
    let client = Client::connect(reference, &options.access)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let (manifest, digest, bytes) = manifest_for(&client, reference, &platform)?;
    let config_bytes = match blobs::get(dirs, &manifest.config.digest) {
        Ok(bytes) => bytes,
        Err(_) => blob::small(&client, &manifest.config, CONFIG_MAX)?,
    };
    let parsed = config::parse(&config_bytes)?;
    if parsed.diff_ids.len() != manifest.layers.len() {
        bail!(
            "the manifest has {} layers, and the image config {}",
            manifest.layers.len(),
            parsed.diff_ids.len()
        );
    }
    let source = Layers {
        client: &client,
        layers: &manifest.layers,
    };
    ingest::layers(dirs, &parsed.diff_ids, &source, progress)?;
    let mut image = ingest::image(dirs, &config_bytes, &manifest, &digest, &bytes)?;
    let name = match reference.digest() {
        Some(digest) => reference.by_digest(digest.clone()),
        None => reference.clone(),
    };
    names::save(dirs, &name, &image)?;
    image.names = vec![name];
    Ok(image)
}

/// The manifest that a reference stands for, and for this platform where there are several.
fn manifest_for(
    client: &Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Manifest, Digest, Vec<u8>)> {
    let (bytes, media_type) = client.manifest(&reference.manifest_name())?;
    if let Some(digest) = reference.digest() {
        check(digest, &bytes)?;
    }
    let descriptor = match manifest::parse(&bytes, media_type.as_deref())? {
        Document::Manifest(manifest) => {
            let digest = match reference.digest() {
                Some(digest) => digest.clone(),
                None => Digest::sha256_of(&bytes),
            };
            return Ok((manifest, digest, bytes));
        }
        Document::Index(index) => manifest::choose(&index, platform)?.clone(),
    };
    let (bytes, media_type) = client.manifest(&descriptor.digest.to_string())?;
    check(&descriptor.digest, &bytes)?;
    match manifest::parse(&bytes, media_type.as_deref())? {
        Document::Manifest(manifest) => Ok((manifest, descriptor.digest, bytes)),
        Document::Index(_) => bail!("its index points to another index"),
    }
}

fn check(digest: &Digest, bytes: &[u8]) -> Result<()> {
    if !digest.matches(bytes) {
        bail!("wrong digest: the registry sent another manifest than {digest}");
    }
    Ok(())
}

struct Layers<'a> {
    client: &'a Client,
    layers: &'a [Descriptor],
}

impl Source for Layers<'_> {
    fn size(&self, index: usize) -> Option<u64> {
        Some(self.layers[index].size)
    }

    fn digest(&self, index: usize) -> Option<&Digest> {
        Some(&self.layers[index].digest)
    }

    fn copy(&self, index: usize, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        blob::copy(self.client, &self.layers[index], from, sink)
    }
}
