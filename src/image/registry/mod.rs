//! Pulling from a registry (OCI distribution specification 1.1, and Docker's registry before it).
//! Every byte is verified against a digest; only a tag is taken on the registry's word.

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

use crate::config::registries::Registries;
use crate::config::registries::Source as Place;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::config;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
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
pub use auth::Credentials;

mod access;
pub mod auth;
pub mod authfile;
pub mod blob;
pub mod client;
pub mod download;
mod helper;
mod http;
pub mod login;
mod proxy;
pub mod push;
pub mod remote;
mod resolver;
pub mod search;
pub mod short;
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
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let (client, found) = find(reference, &options.access, &platform)?;
    let Found { image, index } = found;
    let manifest::Found {
        manifest,
        digest,
        bytes,
    } = image;
    manifest::refuse_foreign(&manifest)?;
    let config_bytes = match blobs::get(dirs, &manifest.config.digest) {
        Ok(bytes) => bytes,
        Err(_) => blob::small(&client, &manifest.config, CONFIG_MAX)?,
    };
    let parsed = config::parse(&config_bytes)?;
    parsed.check_layers(&manifest)?;
    if let (None, Some(wanted)) = (&index, &options.platform) {
        check_platform(wanted, &parsed.platform)?;
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
    let named = match &index {
        Some((digest, bytes)) => {
            blobs::put(dirs, digest, bytes)?;
            digest
        }
        None => &digest,
    };
    names::save_as(dirs, &name, &image, named)?;
    image.names = vec![name];
    Ok(image)
}

/// An image that stands for no others besides it must be for the platform that is asked for.
fn check_platform(wanted: &Platform, found: &Platform) -> Result<()> {
    if wanted.rank(found).is_some() {
        return Ok(());
    }
    let text = format!("it is for {found}, and not for {wanted}");
    let hint = "leave out `--platform`, `--os`, `--arch` and `--variant` to have it as it is";
    Err(fail(Kind::NotFound, text).hint(hint))
}

/// The digest that the registry has for a name now: of an index, where there is one.
pub fn digest(reference: &Reference, options: &PullOptions) -> Result<Digest> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let (_, found) = find(reference, &options.access, &platform)
        .with_context(|| format!("cannot look for \"{reference}\""))?;
    Ok(found.index.map_or(found.image.digest, |(digest, _)| digest))
}

/// What a registry has under a name.
struct Found {
    image: manifest::Found,
    /// The index that the image was chosen from.
    index: Option<(Digest, Vec<u8>)>,
}

/// The first of the places of an image that has it: the mirrors of registries.conf, then its own.
fn find(reference: &Reference, access: &Access, platform: &Platform) -> Result<(Client, Found)> {
    let registries = Registries::load(access.registries_conf.as_deref())?;
    let mut failed: Vec<String> = Vec::new();
    let mut last = None;
    let for_mirrors = access.of_others();
    let sources = registries.sources(&reference.to_string())?;
    for (index, source) in sources.iter().enumerate() {
        if let Some(err) = last.take() {
            failed.push(error::message(&err));
        }
        let is_mirror = index + 1 < sources.len();
        let access = if is_mirror { &for_mirrors } else { access };
        match find_at(source, access, &registries, platform) {
            Ok(found) => return Ok(found),
            Err(err) => last = Some(err),
        }
    }
    let err = last.unwrap_or_else(|| anyhow!("there is no place to look for it"));
    if failed.is_empty() {
        return Err(err);
    }
    Err(err.context(format!("mirrors failed too ({})", failed.join("; "))))
}

fn find_at(
    source: &Place,
    access: &Access,
    registries: &Registries,
    platform: &Platform,
) -> Result<(Client, Found)> {
    let reference: Reference = source.reference.parse()?;
    let (registry, repository) = (reference.registry(), reference.repository());
    let credentials = authfile::find(registry, repository, access, registries)?;
    let client = Client::open(registry, repository, source.insecure, access, credentials)?;
    let found = manifest_for(&client, &reference, platform)?;
    Ok((client, found))
}

/// The manifest that a reference stands for, and for this platform where there are several.
fn manifest_for(client: &Client, reference: &Reference, platform: &Platform) -> Result<Found> {
    let (bytes, media_type) = client.manifest(&reference.manifest_name())?;
    let digest = match reference.digest() {
        Some(digest) => digest.clone(),
        None => Digest::sha256_of(&bytes),
    };
    check(&digest, &bytes)?;
    match manifest::parse(&bytes, media_type.as_deref())? {
        Document::Manifest(manifest) => Ok(Found {
            image: manifest::Found {
                manifest,
                digest,
                bytes,
            },
            index: None,
        }),
        Document::Index(index) => {
            let read = |descriptor: &Descriptor| {
                let (bytes, media_type) = client.manifest(&descriptor.digest.to_string())?;
                check(&descriptor.digest, &bytes)?;
                Ok((bytes, media_type))
            };
            Ok(Found {
                image: manifest::resolve(&index, platform, &read)?,
                index: Some((digest, bytes)),
            })
        }
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

    fn is_far(&self) -> bool {
        true
    }

    fn copy(&self, index: usize, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        blob::copy(self.client, &self.layers[index], from, sink)
    }
}
