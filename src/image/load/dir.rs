//! The `dir` transport of skopeo and Podman: `manifest.json` is the manifest itself, and its blobs are
//! files beside it, named by their digests.

use anyhow::Result;
use anyhow::bail;

use crate::image::layout::Layout;
use crate::image::load::Load;
use crate::image::load::oci;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Found;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::manifest::Manifest;
use crate::image::record::Image;
use crate::oci::digest::Digest;

pub fn load(load: &Load<'_>) -> Result<Image> {
    let found = match top(load)? {
        (Document::Manifest(manifest), bytes) => only(manifest, bytes),
        (Document::Index(index), _) => {
            let platform = load.wanted_platform();
            manifest::resolve(&index, &platform, &|one| read_listed(load, one))?
        }
    };
    let image = oci::load_image(load, Layout::Flat, &found)?;
    load.name_image(image, load.name.iter().cloned().collect())
}

/// The manifests of all images, for whatever platform.
pub fn every(load: &Load<'_>) -> Result<Vec<Found>> {
    match top(load)? {
        (Document::Manifest(manifest), bytes) => Ok(vec![only(manifest, bytes)]),
        (Document::Index(index), _) => manifest::all(&index, &|one| read_listed(load, one)),
    }
}

/// What `manifest.json` is.
fn top(load: &Load<'_>) -> Result<(Document, Vec<u8>)> {
    let bytes = load.archive.small("manifest.json", MANIFEST_MAX)?;
    Ok((manifest::parse(&bytes, None)?, bytes))
}

fn only(manifest: Manifest, bytes: Vec<u8>) -> Found {
    Found {
        manifest,
        digest: Digest::sha256_of(&bytes),
        bytes,
    }
}

/// The manifests of an index are beside it, too.
fn read_listed(load: &Load<'_>, descriptor: &Descriptor) -> Result<(Vec<u8>, Option<String>)> {
    let name = format!("{}.manifest.json", descriptor.digest.hex());
    let bytes = load.archive.small(&name, MANIFEST_MAX)?;
    if !descriptor.digest.matches(&bytes) {
        bail!(
            "wrong digest: {name:?} does not match {}",
            descriptor.digest
        );
    }
    Ok((bytes, Some(descriptor.media_type.clone())))
}
