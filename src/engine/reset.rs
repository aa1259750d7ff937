//! `system reset`: everything of this user's store goes.

use std::path::Path;

use anyhow::Context;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::image_mounts;
use crate::engine::remove;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::store::lock::Lock;
use crate::store::remove::remove_tree;

/// Stops and removes all containers, and then the directories of the store.
pub fn reset(engine: &Engine) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let mut damaged = Vec::new();
    for container in Container::list(dirs, |one| damaged.push(one.container))? {
        remove::remove(engine, &container, true, true)?;
    }
    for container in damaged {
        remove::remove_unreadable(engine, &container)?;
    }
    for image in image::list(dirs, drop)? {
        if image_mounts::path(engine, &image.id)?.is_some() {
            image_mounts::unmount(engine, &image.id, true)?;
        }
    }
    let Some(lock) = Lock::try_exclusive(&dirs.lock_file())? else {
        return Err(fail(Kind::Conflict, "another rbox is using the store"))
            .hint("try again when it is done")
            .context("cannot reset the store");
    };
    // The lock's file last: where it is, the directories are expected to be.
    empty(&dirs.data, Some(&dirs.lock_file()))?;
    empty(&dirs.run, None)?;
    lock.remove();
    for dir in [&dirs.data, &dirs.run] {
        remove_empty(dir)?;
    }
    Ok(())
}

fn empty(dir: &Path, keep: Option<&Path>) -> anyhow::Result<()> {
    let cannot = || format!("cannot empty {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if Some(path.as_path()) != keep {
            remove_tree(&path).with_context(cannot)?;
        }
    }
    Ok(())
}

/// A link to a directory elsewhere is the user's own, and stays.
fn remove_empty(dir: &Path) -> anyhow::Result<()> {
    if dir.is_symlink() {
        return Ok(());
    }
    std::fs::remove_dir(dir).with_context(|| format!("cannot remove {}", dir.display()))
}
