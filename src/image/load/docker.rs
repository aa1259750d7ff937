//! docker-archive: `manifest.json` lists images, each with a config and its layers as files of any name.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;

use crate::image::archive::Archive;
use crate::image::config;
use crate::image::config::Parsed;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::layers;
use crate::image::layout::Layout;
use crate::image::load::Load;
use crate::image::load::copy_part;
use crate::image::load::oci;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::manifest::Manifest;
use crate::image::record::Image;
use crate::image::transport::Part;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// More images than this, or names of all of them, are no archive that anybody made.
const IMAGES_MAX: usize = 1000;
const NAMES_MAX: usize = 2000;

pub fn load(load: &Load<'_>) -> Result<Vec<Image>> {
    let bytes = load.archive.small("manifest.json", MANIFEST_MAX)?;
    let listed: Vec<Listed> =
        serde_json::from_slice(&bytes).context("cannot read \"manifest.json\" of the archive")?;
    if listed.is_empty() {
        bail!("the archive holds no image");
    }
    if listed.len() > IMAGES_MAX {
        bail!("the archive has more than {IMAGES_MAX} images");
    }
    let tags = listed.iter().flat_map(|listed| &listed.repo_tags);
    if tags.map(Vec::len).sum::<usize>() > NAMES_MAX {
        bail!("the archive has more than {NAMES_MAX} names of images");
    }
    // Docker since 25 writes an OCI layout around it, which has the manifests that the images came with.
    let manifests = oci::manifests_by_config(&load.archive);
    let mut loaded = Vec::new();
    let mut others = Vec::new();
    for (index, listed) in listed.iter().enumerate() {
        let all = names(listed)?;
        let Some(names) = wanted_names(load.part, index, &all)? else {
            others.extend(all.iter().map(ToString::to_string));
            continue;
        };
        let config_bytes = load.archive.small(&listed.config, CONFIG_MAX)?;
        let parsed = config::parse(&config_bytes)?;
        if !load.is_for_platform(&parsed.platform) {
            others.push(parsed.platform.to_string());
            continue;
        }
        let image = match manifests.get(&Digest::sha256_of(&config_bytes)) {
            Some(found) => oci::load_image(load, Layout::Blobs, found)?,
            None => load_one(load, listed, &config_bytes, &parsed)?,
        };
        loaded.push(load.name_image(image, names)?);
    }
    if loaded.is_empty() {
        return Err(load.nothing(&others));
    }
    Ok(loaded)
}

fn names(listed: &Listed) -> Result<Vec<Reference>> {
    let tags = listed.repo_tags.iter().flatten();
    tags.map(|name| name.parse()).collect()
}

/// The names that an image gets; `None` where it is not the one that is wanted.
fn wanted_names(
    part: Option<&Part>,
    index: usize,
    names: &[Reference],
) -> Result<Option<Vec<Reference>>> {
    Ok(match part {
        Some(Part::Index(number)) => (*number == index).then(|| names.to_vec()),
        Some(Part::Name(name)) => {
            let name: Reference = name.parse()?;
            names.contains(&name).then(|| vec![name])
        }
        None => Some(names.to_vec()),
    })
}

/// An image without a manifest: its layers are plain tars, named by what they unpack to.
fn load_one(
    load: &Load<'_>,
    listed: &Listed,
    config_bytes: &[u8],
    parsed: &Parsed,
) -> Result<Image> {
    let diff_ids = &parsed.diff_ids;
    if diff_ids.len() != listed.layers.len() {
        bail!(
            "the archive has {} layers of an image with {}",
            listed.layers.len(),
            diff_ids.len()
        );
    }
    let source = Layers {
        archive: &load.archive,
        names: &listed.layers,
    };
    ingest::layers(load.dirs, diff_ids, &source, load.progress)?;
    let ids_tag = layers::ids_tag(load.dirs)?;
    let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: None,
    };
    let mut descriptors = Vec::new();
    for diff_id in diff_ids {
        let layer = layers::find(load.dirs, diff_id, &ids_tag)?;
        let size = layer.map_or(0, |layer| layer.tar_size);
        descriptors.push(descriptor(manifest::OCI_LAYER, diff_id.clone(), size));
    }
    let manifest = Manifest {
        media_type: manifest::OCI_MANIFEST.to_owned(),
        config: descriptor(
            manifest::OCI_CONFIG,
            Digest::sha256_of(config_bytes),
            config_bytes.len() as u64,
        ),
        layers: descriptors,
    };
    ingest::made(load.dirs, config_bytes, &manifest)
}

/// Layers without digests of their own. What they unpack to is verified against the config, and
/// that is the image's ID.
struct Layers<'a> {
    archive: &'a Archive,
    names: &'a [String],
}

impl Source for Layers<'_> {
    fn size(&self, index: usize) -> Option<u64> {
        let part = self.archive.part(&self.names[index]).ok()?;
        Some(part.size())
    }

    fn digest(&self, _: usize) -> Option<&Digest> {
        None
    }

    fn copy(&self, index: usize, _: u64, sink: &mut Sink<'_>) -> Result<()> {
        copy_part(self.archive.part(&self.names[index])?, sink)
    }
}
