//! `system df`: what the store takes on disk, and what removing the unused would free. Layers and blobs that
//! images share count once.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;

use crate::container::record::Container;
use crate::container::uses;
use crate::engine::Engine;
use crate::engine::images;
use crate::image::about;
use crate::image::layers;
use crate::image::layers::Packed;
use crate::image::names;
use crate::image::names::Named;
use crate::oci::digest::Digest;
use crate::store::measure;
use crate::volume;
use crate::volume::Volume;

/// One kind of things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub total: usize,
    /// Images that containers use, containers that run, volumes in use.
    pub active: usize,
    /// Bytes on disk.
    pub size: u64,
    /// Of them those that pruning would free.
    pub reclaimable: u64,
}

#[derive(Debug)]
pub struct Usage {
    pub images: Vec<ImageUse>,
    pub containers: Vec<ContainerUse>,
    pub volumes: Vec<VolumeUse>,
    /// Layers, blobs and records, each once, whoever refers to them.
    pub image_part: Part,
    pub container_part: Part,
    pub volume_part: Part,
}

#[derive(Debug)]
pub struct ImageUse {
    pub named: Named,
    pub size: u64,
    /// What other images have too.
    pub shared: u64,
    pub containers: usize,
}

#[derive(Debug)]
pub struct ContainerUse {
    pub container: Container,
    pub running: bool,
    pub volumes: usize,
    pub size: u64,
}

#[derive(Debug)]
pub struct VolumeUse {
    pub volume: Volume,
    /// Containers that use it.
    pub links: usize,
    pub size: u64,
}

impl Usage {
    /// Of all that is in the store.
    pub fn total(&self) -> u64 {
        self.image_part.size + self.container_part.size + self.volume_part.size
    }
}

/// What is in the store; `bad` hears of records that cannot be read.
pub fn measure(engine: &Engine, mut bad: impl FnMut(anyhow::Error)) -> Result<Usage> {
    let (containers, container_part) = containers(engine, &mut bad)?;
    let (images, image_part) = images(engine, &mut bad)?;
    let (volumes, volume_part) = volumes(engine, &mut bad)?;
    Ok(Usage {
        images,
        containers,
        volumes,
        image_part,
        container_part,
        volume_part,
    })
}

fn containers(
    engine: &Engine,
    bad: &mut impl FnMut(anyhow::Error),
) -> Result<(Vec<ContainerUse>, Part)> {
    let sizes = sizes_in(&engine.dirs.containers())?;
    let mut part = Part {
        total: sizes.len(),
        size: sizes.values().sum(),
        ..Part::default()
    };
    let mut kept = 0;
    let mut found = Vec::new();
    for container in Container::list(&engine.dirs, |one| bad(one.err))? {
        let size = sizes.get(&container.config.id).copied().unwrap_or(0);
        let running = container.status_to_show().is_running();
        if running {
            part.active += 1;
            kept += size;
        }
        let mounts = container.config.files.mounts.iter();
        let volumes = mounts.filter(|mount| {
            matches!(
                mount.source,
                crate::container::mounts::Source::Volume { .. }
            )
        });
        found.push(ContainerUse {
            volumes: volumes.count(),
            container,
            running,
            size,
        });
    }
    part.reclaimable = part.size.saturating_sub(kept);
    Ok((found, part))
}

fn images(engine: &Engine, bad: &mut impl FnMut(anyhow::Error)) -> Result<(Vec<ImageUse>, Part)> {
    // What others have takes nothing of this user's.
    let dirs = &engine.dirs.alone();
    let all = names::all_named(dirs, bad)?;
    let used = images::users(engine).unwrap_or_default();
    let mut sizes = sizes_in(&dirs.layers())?;
    for algorithm in ["sha256", "sha512"] {
        for (hex, size) in sizes_in(&dirs.blobs().join(algorithm))? {
            sizes.insert(format!("{algorithm}:{hex}"), size);
        }
    }
    let records: u64 = [dirs.image_ids(), dirs.image_refs()]
        .iter()
        .map(|dir| sizes_in(dir).map(|sizes| sizes.values().sum::<u64>()))
        .sum::<Result<u64>>()?;
    let parts: Vec<HashSet<String>> = all.iter().map(|named| parts_of(engine, named)).collect();
    let mut kept: HashSet<String> = match images::layers_in_use(engine) {
        Ok(in_use) => in_use
            .iter()
            .flat_map(|layer| files_of(engine, layer))
            .collect(),
        // What a container whose record cannot be read uses is not known: nothing would be removed.
        Err(_) => sizes.keys().cloned().collect(),
    };
    let mut owners: HashMap<&str, u32> = HashMap::new();
    let mut active = 0;
    for (named, parts) in all.iter().zip(&parts) {
        if used.contains_key(&named.image.id.to_string()) {
            active += 1;
            kept.extend(parts.iter().cloned());
        }
        for part in parts {
            *owners.entry(part).or_default() += 1;
        }
    }
    let size_of = |part: &String| sizes.get(part).copied().unwrap_or(0);
    let uses = all.iter().zip(&parts).map(|(named, parts)| {
        let shared = parts.iter().filter(|part| owners[part.as_str()] > 1);
        let users = used.get(&named.image.id.to_string());
        ImageUse {
            named: named.clone(),
            size: parts.iter().map(size_of).sum(),
            shared: shared.map(size_of).sum(),
            containers: users.map_or(0, Vec::len),
        }
    });
    let uses: Vec<ImageUse> = uses.collect();
    let size: u64 = sizes.values().sum();
    let kept: u64 = kept.iter().map(size_of).sum();
    let part = Part {
        total: all.len(),
        active,
        size: size + records,
        reclaimable: size - kept.min(size),
    };
    Ok((uses, part))
}

/// The layers and blobs of an image, by the names of their files.
fn parts_of(engine: &Engine, named: &Named) -> HashSet<String> {
    let layers = named.image.layers.iter();
    let mut parts: HashSet<String> = layers.flat_map(|layer| files_of(engine, layer)).collect();
    let blobs = about::blobs(&engine.dirs, &named.image);
    let of_names = named.names.iter().map(|name| name.manifest_digest.clone());
    parts.extend(
        blobs
            .into_iter()
            .chain(of_names)
            .map(|blob: Digest| blob.to_string()),
    );
    parts
}

/// A layer, and the blob that it came as.
fn files_of(engine: &Engine, layer: &Digest) -> Vec<String> {
    let loaded = layers::load(&engine.dirs, layer).ok().flatten();
    let packed = loaded.and_then(|layer| layer.packed);
    let blob = match packed {
        Some(Packed::Blob(digest)) => Some(digest.to_string()),
        _ => None,
    };
    [Some(layer.hex().to_owned()), blob]
        .into_iter()
        .flatten()
        .collect()
}

fn volumes(engine: &Engine, bad: &mut impl FnMut(anyhow::Error)) -> Result<(Vec<VolumeUse>, Part)> {
    let dirs = &engine.dirs;
    let all = volume::list(dirs, bad)?;
    let users = uses::volumes(dirs).unwrap_or_default();
    let sizes = sizes_in(&dirs.volumes())?;
    let mut part = Part {
        total: all.len(),
        size: sizes.values().sum(),
        ..Part::default()
    };
    let mut kept = 0;
    let mut found = Vec::new();
    for volume in all {
        let place = volume::place(dirs, &volume.name);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let size = sizes.get(&*name).copied().unwrap_or(0);
        let links = users
            .get(&volume.name)
            .map_or(0, std::collections::BTreeSet::len);
        if links > 0 {
            part.active += 1;
            kept += size;
        }
        found.push(VolumeUse {
            volume,
            links,
            size,
        });
    }
    part.reclaimable = part.size.saturating_sub(kept);
    Ok((found, part))
}

/// What each entry of a directory takes; none where there is no such directory.
fn sizes_in(dir: &Path) -> Result<HashMap<String, u64>> {
    let entries = match std::fs::read_dir(dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        entries => entries?,
    };
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let sizes = measure::on_disk(dir, &names)?;
    Ok(names.into_iter().zip(sizes).collect())
}
