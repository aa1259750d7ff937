//! What the mounts of a container need to know of the host at a start: where volumes are, the
//! directories of overlays, the nodes of devices.

use std::path::PathBuf;

use anyhow::Context;

use crate::container::mounts::Mount;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::spec::user_mounts::Places;
use crate::container::spec::user_mounts::Volume;
use crate::engine::Engine;
use crate::engine::devices;
use crate::engine::ids;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::remove::remove_tree;
use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::volume;
use crate::volume::From;

/// Looks at what is used and at nothing else.
pub fn find(engine: &Engine, container: &Container, maps: &IdMaps) -> anyhow::Result<Places> {
    let files = &container.config.files;
    let mut places = Places {
        data: engine.dirs.data.clone(),
        ..Places::default()
    };
    for (number, mount) in files.mounts.iter().enumerate() {
        if let Source::Volume { name, .. } = &mount.source {
            let found = find_volume(engine, name, maps)?;
            if found.fill {
                places.filled.push(name.clone());
            }
            places.volumes.insert(name.clone(), found);
        }
        if mount.options.overlay.is_some() || matches!(mount.source, Source::Image { .. }) {
            places.overlays.insert(
                number,
                make_overlay(engine, container, maps, number, mount)?,
            );
        }
    }
    if container.config.security.privileged {
        places.devices = devices::all()?;
    }
    for device in &files.devices {
        places.devices.extend(devices::nodes(device)?);
    }
    Ok(places)
}

fn find_volume(engine: &Engine, name: &str, maps: &IdMaps) -> anyhow::Result<Volume> {
    let dirs = &engine.dirs;
    let found = volume::by_name(dirs, name)?.ok_or_else(|| volume::missing(name))?;
    let mounted = found
        .mounted()
        .with_context(|| format!("cannot use volume \"{name}\""))?;
    let mut place = Volume {
        path: found.data(dirs),
        options: mounted.words,
        owner: mounted.owner,
        ..Volume::default()
    };
    match mounted.source {
        From::Own if found.is_new(dirs) => {
            let default = &engine.ids()?.maps;
            // Root of the container has capabilities over files of the ids that it has, and of no other.
            if idmap::inside(&maps.uids, rustix::process::geteuid().as_raw()).is_some() {
                place.mark = Some(volume::NEW);
            } else {
                volume::give_up(dirs, name)?;
                ids::make_dirs(&volume::place(dirs, name), &[volume::DATA], default, maps)?;
                place.fill = true;
            }
        }
        From::Own => {}
        From::Directory(path) => place.path = path,
        From::Tmpfs => {
            let mut options = std::mem::take(&mut place.options);
            if let Some((uid, gid)) = mounted.owner {
                options.extend([format!("uid={uid}"), format!("gid={gid}")]);
            }
            place.file_system = Some(("tmpfs".into(), options));
        }
    }
    Ok(place)
}

/// The directories that take the changes of an overlay. Those of the container's own are empty at
/// each start, as what is written to such a mount is gone at the end, like that of a tmpfs.
fn make_overlay(
    engine: &Engine,
    container: &Container,
    maps: &IdMaps,
    number: usize,
    mount: &Mount,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    if engine.dirs.no_overlay().exists() {
        return Err(fail(
            Kind::Unsupported,
            format!(
                "cannot mount \"{}\": the file system of {} takes no overlays",
                mount.destination.display(),
                engine.dirs.data.display()
            ),
        )
        .hint("`rbox doctor` tells more"));
    }
    if let Some(overlay) = &mount.options.overlay
        && let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work)
    {
        return Ok((upper.clone(), work.clone()));
    }
    let base = container.data.join("overlays").join(number.to_string());
    remove_tree(&base)?;
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    ids::make_dirs(&base, &["upper", "work"], &engine.ids()?.maps, maps)?;
    Ok((base.join("upper"), base.join("work")))
}
