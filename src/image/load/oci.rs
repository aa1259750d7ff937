//! OCI layouts, as directories and as archives: `index.json` lists images and indexes of them, and all
//! else is a blob by its digest.

use std::collections::HashMap;

use anyhow::Result;
use anyhow::bail;

use crate::image::archive::Archive;
use crate::image::config;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::layout::CONTAINERD_NAME;
use crate::image::layout::Layout;
use crate::image::layout::REF_NAME;
use crate::image::load::Load;
use crate::image::load::copy_part;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Found;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::names;
use crate::image::record::Image;
use crate::image::transport::Part;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

/// Manifests that are looked at when one is looked for by its config.
const MANIFESTS_MAX: usize = 1000;
/// And bytes of them, which are held in memory.
const MANIFESTS_SIZE_MAX: u64 = 4 * MANIFEST_MAX;

pub fn load(load: &Load<'_>) -> Result<Vec<Image>> {
    let descriptors = index(&load.archive)?;
    let host = load.wanted_platform();
    let mut loaded = Vec::new();
    let mut others = Vec::new();
    for (index, descriptor) in descriptors.iter().enumerate() {
        if !is_wanted(load.part, index, descriptor) {
            others.extend(told_name(descriptor));
            continue;
        }
        let platform = descriptor.platform.as_ref();
        if let Some(platform) = platform.filter(|platform| host.rank(platform).is_none()) {
            others.push(platform.to_string());
            continue;
        }
        let found = read_manifest(&load.archive, descriptor, &host)?;
        let image = load_image(load, Layout::Blobs, &found)?;
        let names = match load.name.clone() {
            Some(name) => vec![name],
            None => reference_of(descriptor),
        };
        loaded.push(load.name_image(image, names)?);
    }
    if loaded.is_empty() {
        return Err(load.nothing(&others));
    }
    Ok(loaded)
}

fn index(archive: &Archive) -> Result<Vec<Descriptor>> {
    let bytes = archive.small("index.json", MANIFEST_MAX)?;
    match manifest::parse(&bytes, None)? {
        Document::Index(descriptors) if descriptors.len() <= MANIFESTS_MAX => Ok(descriptors),
        Document::Index(_) => bail!("\"index.json\" has more than {MANIFESTS_MAX} images"),
        Document::Manifest(_) => bail!("\"index.json\" of the archive is no index"),
    }
}

fn is_wanted(part: Option<&Part>, index: usize, descriptor: &Descriptor) -> bool {
    match part {
        None => true,
        Some(Part::Index(number)) => *number == index,
        Some(Part::Name(name)) => {
            let local = |text: &str| Reference::parse_in(text, names::LOCAL).ok();
            let same = |told: &str| {
                told == name || local(told).is_some_and(|told| local(name) == Some(told))
            };
            let annotation = |key: &str| descriptor.annotations.as_ref()?.get(key);
            let told = [annotation(REF_NAME), annotation(CONTAINERD_NAME)];
            told.into_iter().flatten().any(|told| same(told))
        }
    }
}

fn told_name(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations.as_ref()?;
    let name = annotations.get(CONTAINERD_NAME);
    name.or_else(|| annotations.get(REF_NAME)).cloned()
}

fn reference_of(descriptor: &Descriptor) -> Vec<Reference> {
    // What is no reference is a name for something else; the image can be used by its ID.
    told_name(descriptor)
        .and_then(|name| Reference::parse_in(&name, names::LOCAL).ok())
        .into_iter()
        .collect()
}

/// The manifest for a platform that a descriptor of the index leads to.
fn read_manifest(archive: &Archive, descriptor: &Descriptor, platform: &Platform) -> Result<Found> {
    let listed = std::slice::from_ref(descriptor);
    manifest::resolve(listed, platform, &|one| read_listed(archive, one))
}

fn read_listed(archive: &Archive, descriptor: &Descriptor) -> Result<(Vec<u8>, Option<String>)> {
    let bytes = read_blob(archive, Layout::Blobs, descriptor, MANIFEST_MAX)?;
    Ok((bytes, Some(descriptor.media_type.clone())))
}

/// The manifests of all images, for whatever platform.
pub fn every(load: &Load<'_>) -> Result<Vec<Found>> {
    let listed = index(&load.archive)?.into_iter().enumerate();
    let wanted = listed.filter(|(index, one)| is_wanted(load.part, *index, one));
    let wanted: Vec<Descriptor> = wanted.map(|(_, one)| one).collect();
    manifest::all(&wanted, &|one| read_listed(&load.archive, one))
}

/// The manifests of an archive that has all they speak of, by the digest of their config. An archive
/// that is not such a one has none.
pub fn manifests_by_config(archive: &Archive) -> HashMap<Digest, Found> {
    let mut found = HashMap::new();
    let Ok(mut queue) = index(archive) else {
        return found;
    };
    let (mut looked_at, mut size) = (0, 0);
    while let Some(descriptor) = queue.pop() {
        looked_at += 1;
        size += descriptor.size.min(MANIFEST_MAX);
        if looked_at > MANIFESTS_MAX || size > MANIFESTS_SIZE_MAX {
            break;
        }
        let Ok(bytes) = read_blob(archive, Layout::Blobs, &descriptor, MANIFEST_MAX) else {
            continue;
        };
        match manifest::parse(&bytes, Some(&descriptor.media_type)) {
            Ok(Document::Index(index)) => queue.extend(index.into_iter().take(MANIFESTS_MAX)),
            Ok(Document::Manifest(manifest)) => {
                let has = |one: &Descriptor| {
                    let name = Layout::Blobs.name(&one.digest);
                    archive
                        .part(&name)
                        .is_ok_and(|part| part.size() == one.size)
                };
                if has(&manifest.config) && manifest.layers.iter().all(has) {
                    let config = manifest.config.digest.clone();
                    let digest = descriptor.digest;
                    found.entry(config).or_insert(Found {
                        manifest,
                        digest,
                        bytes,
                    });
                }
            }
            Err(_) => {}
        }
    }
    found
}

fn read_blob(
    archive: &Archive,
    layout: Layout,
    descriptor: &Descriptor,
    size_max: u64,
) -> Result<Vec<u8>> {
    let bytes = archive.small(&layout.name(&descriptor.digest), size_max)?;
    if bytes.len() as u64 != descriptor.size || !descriptor.digest.matches(&bytes) {
        bail!(
            "wrong digest: {} bytes of the archive do not match {}",
            bytes.len(),
            descriptor.digest
        );
    }
    Ok(bytes)
}

pub fn load_image(load: &Load<'_>, layout: Layout, found: &Found) -> Result<Image> {
    let (archive, manifest) = (&load.archive, &found.manifest);
    manifest::refuse_foreign(manifest)?;
    let config_bytes = read_blob(archive, layout, &manifest.config, CONFIG_MAX)?;
    let parsed = config::parse(&config_bytes)?;
    if !load.is_for_platform(&parsed.platform) {
        return Err(load.nothing(&[parsed.platform.to_string()]));
    }
    parsed.check_layers(manifest)?;
    let source = Layers {
        archive,
        layout,
        layers: &manifest.layers,
    };
    ingest::layers(load.dirs, &parsed.diff_ids, &source, load.progress)?;
    ingest::image(
        load.dirs,
        &config_bytes,
        manifest,
        &found.digest,
        &found.bytes,
    )
}

struct Layers<'a> {
    archive: &'a Archive,
    layout: Layout,
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
        let descriptor = &self.layers[index];
        let mut part = self.archive.part(&self.layout.name(&descriptor.digest))?;
        if part.size() != descriptor.size {
            bail!(
                "wrong size: the archive has {} bytes of {}, and the manifest promises {}",
                part.size(),
                descriptor.digest,
                descriptor.size
            );
        }
        part.pass(from);
        copy_part(part, sink)
    }
}
