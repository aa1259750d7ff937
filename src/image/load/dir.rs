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
use crate::image::record::Image;
use crate::oci::digest::Digest;

pub fn load(load: &Load<'_>) -> Result<Image> {
    let bytes = load.archive.small("manifest.json", MANIFEST_MAX)?;
    let found = match manifest::parse(&bytes, None)? {
        Document::Manifest(manifest) => Found {
            manifest,
            digest: Digest::sha256_of(&bytes),
            bytes,
        },
        // Of several platforms: their manifests are beside it, too.
        Document::Index(index) => {
            let read = |descriptor: &Descriptor| {
                let name = format!("{}.manifest.json", descriptor.digest.hex());
                let bytes = load.archive.small(&name, MANIFEST_MAX)?;
                if !descriptor.digest.matches(&bytes) {
                    bail!(
                        "wrong digest: {name:?} does not match {}",
                        descriptor.digest
                    );
                }
                Ok((bytes, Some(descriptor.media_type.clone())))
            };
            manifest::resolve(&index, &load.wanted_platform(), &read)?
        }
    };
    let image = oci::load_image(load, Layout::Flat, &found)?;
    load.name_image(image, load.name.iter().cloned().collect())
}
