//! The `dir` transport of skopeo and Podman: `manifest.json` is the manifest itself, and its blobs are
//! files beside it, named by their digests.

use anyhow::Result;

use crate::image::layout::Layout;
use crate::image::load::Load;
use crate::image::load::oci;
use crate::image::load::oci::Found;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::record::Image;
use crate::oci::digest::Digest;

pub fn load(load: &Load<'_>) -> Result<Image> {
    let mut bytes = load.archive.small("manifest.json", MANIFEST_MAX)?;
    let manifest = match manifest::parse(&bytes, None)? {
        Document::Manifest(manifest) => manifest,
        // Of several platforms: their manifests are beside it, too.
        Document::Index(index) => {
            let chosen = manifest::choose(&index, &load.wanted_platform())?;
            let name = format!("{}.manifest.json", chosen.digest.hex());
            bytes = load.archive.small(&name, MANIFEST_MAX)?;
            if !chosen.digest.matches(&bytes) {
                anyhow::bail!("wrong digest: {name:?} does not match {}", chosen.digest);
            }
            match manifest::parse(&bytes, Some(&chosen.media_type))? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => anyhow::bail!("its index points to another index"),
            }
        }
    };
    let found = Found {
        manifest,
        digest: Digest::sha256_of(&bytes),
        bytes,
    };
    let image = oci::load_image(load, Layout::Flat, &found)?;
    load.name_image(image, load.name.iter().cloned().collect())
}
