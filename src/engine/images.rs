//! Images and the containers that use them.

use std::collections::HashSet;

use anyhow::Context;

use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::remove;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::remove::Removed;
use crate::oci::digest::Digest;
use crate::store::journal;
use crate::store::journal::Event;

/// Removes an image by one of its names. Its last name is not taken while containers use it,
/// unless by force: then they go too.
pub fn remove(engine: &Engine, name: &str, force: bool) -> anyhow::Result<Removed> {
    let cannot = || format!("cannot remove image \"{name}\"");
    let id = match image::find(&engine.dirs, name) {
        Err(err) if force && error::kind(&err) != Some(Kind::NotFound) => {
            let id = image::names::find_unreadable(&engine.dirs, name)?;
            id.ok_or(err).with_context(cannot)?
        }
        image => image.with_context(cannot)?.id,
    };
    let users = Container::list(&engine.dirs, drop)?
        .into_iter()
        .filter(|container| container.config.image_id == id.to_string());
    let last = image::names::of(&engine.dirs, &id)?.len() <= 1;
    for container in users {
        if !force && !last {
            continue;
        }
        if !force {
            let text = format!("container \"{}\" uses it", container.name);
            return Err(fail(Kind::Conflict, text))
                .hint(format!(
                    "remove the container with `rbox rm {}`, or use `rbox rmi -f {name}`",
                    container.name
                ))
                .with_context(cannot);
        }
        remove::remove(engine, &container, true, false).with_context(cannot)?;
    }
    let removed = image::remove::remove(&engine.dirs, name, force, &|| layers_in_use(engine))?;
    for name in &removed.untagged {
        record(engine, "untag", &id, &name.to_string());
    }
    if let Some(id) = &removed.deleted {
        record(engine, "remove", id, name);
    }
    Ok(removed)
}

/// Gives an image a further name.
pub fn tag(engine: &Engine, image: &str, name: &str) -> anyhow::Result<()> {
    let name = image::tag(&engine.dirs, image, name)?.to_string();
    let image = image::find(&engine.dirs, &name)?;
    record(engine, "tag", &image.id, &name);
    Ok(())
}

/// Writes what happened to an image into the journal.
pub fn record(engine: &Engine, action: &str, id: &Digest, name: &str) {
    journal::add(&engine.dirs, &Event::new("image", action, id.hex(), name));
}

/// The image that rbox brings along. One of an older rbox goes when nothing uses it any more.
pub fn built_in(engine: &Engine) -> anyhow::Result<Image> {
    let before = image::find(&engine.dirs, image::hello::REFERENCE).ok();
    let image = image::hello::ensure(&engine.dirs, &image::progress::Silent)?;
    if let Some(before) = before
        && before.id != image.id
        && image::names::of(&engine.dirs, &before.id)?.is_empty()
    {
        // It stays where a container uses it.
        remove(engine, &before.id.to_string(), false).ok();
    }
    Ok(image)
}

/// The layers that containers stand on.
fn layers_in_use(engine: &Engine) -> anyhow::Result<HashSet<Digest>> {
    let mut damaged = None;
    let containers = Container::list(&engine.dirs, |one| damaged = Some(one.err))?;
    if let Some(err) = damaged {
        // What a container whose record cannot be read uses is not known.
        return Err(err);
    }
    Ok(containers
        .into_iter()
        .flat_map(|container| {
            let mounts = container.config.files.mounts.into_iter();
            let mounted = mounts.flat_map(|mount| match mount.source {
                Source::Image { layers, .. } => layers,
                _ => vec![],
            });
            container.config.layers.into_iter().chain(mounted)
        })
        .collect())
}
