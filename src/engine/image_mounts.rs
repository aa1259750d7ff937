//! `image mount` and `image unmount`: the files of an image by a path of the host, read-only. As those of a container
//! (see `mounted`) they are in the mount namespace of a process of ours, and go with it, however it ends.
//!
//! ```text
//! RUN/images/<image id>.json   true while that process is there
//! RUN/images/lock              held while images are mounted and unmounted
//! ```

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;

use crate::engine::Engine;
use crate::engine::ids;
use crate::engine::images;
use crate::engine::visit;
use crate::error::Kind;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::runtime::Overlay;
use crate::runtime::Rootfs;
use crate::runtime::visit::Visited;
use crate::store::atomic::Durability;
use crate::store::lock::Lock;
use crate::store::record;
use crate::store::record::Record;
use crate::store::remove::remove_tree;
use crate::store::temp::TempDir;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mounted {
    pid: i32,
    start_ticks: u64,
    /// How often it was mounted, and not unmounted since.
    count: u32,
    /// What overlayfs needs besides the layers; swept when the process has ended.
    scratch: PathBuf,
}

impl Record for Mounted {
    const NOUN: &'static str = "image mount";
    const VERSION: u32 = 1;
}

fn dir(engine: &Engine) -> PathBuf {
    engine.dirs.run.join("images")
}

fn file(engine: &Engine, id: &Digest) -> PathBuf {
    dir(engine).join(format!("{}.json", id.hex()))
}

fn holder(engine: &Engine, id: &Digest) -> anyhow::Result<Option<(Mounted, OwnedFd)>> {
    let mounted: Option<Mounted> = record::load_if_present(&file(engine, id))?;
    Ok(mounted.and_then(|mounted| {
        let process = process::open_started(mounted.pid, mounted.start_ticks)?;
        Some((mounted, process))
    }))
}

/// Where the files of an image are, if they are mounted.
pub fn path(engine: &Engine, id: &Digest) -> anyhow::Result<Option<PathBuf>> {
    let holder = holder(engine, id)?;
    Ok(holder.map(|(mounted, _)| PathBuf::from(format!("/proc/{}/root", mounted.pid))))
}

/// Mounts the files of an image, or counts one more who uses them; their path.
///
/// Must: be called by a single-threaded process.
pub fn mount(engine: &Engine, image: &Image) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot mount image {}", image.id.short());
    let _lock = lock(engine).with_context(cannot)?;
    if let Some((mut mounted, _)) = holder(engine, &image.id).with_context(cannot)? {
        mounted.count = mounted.count.saturating_add(1);
        let file = file(engine, &image.id);
        record::save(&file, &mounted, Durability::Volatile).with_context(cannot)?;
    } else {
        hold(engine, image).with_context(cannot)?;
    }
    images::record(engine, "mount", &image.id, image.id.hex());
    let path = path(engine, &image.id)?.context("it has ended just now");
    path.with_context(cannot)
}

fn lock(engine: &Engine) -> anyhow::Result<Lock> {
    match rustix::fs::mkdir(dir(engine), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context("cannot make its directory"),
    }
    Lock::exclusive(&dir(engine).join("lock"))
}

/// Leaves a process with the files.
fn hold(engine: &Engine, image: &Image) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let maps = &engine.ids()?.maps;
    // The image stays while its layers are opened.
    let _store = Lock::shared(&dirs.lock_file())?;
    let stack = image::additional::stack(dirs, image, &maps.tag(), &engine.note)?;
    let scratch = TempDir::create_in(&dirs.tmp())?;
    ids::make_dirs(scratch.path(), &["upper", "work", "merged"], maps, maps)?;
    let overlay = Overlay {
        base: dirs.data.clone(),
        lower: stack.lower,
        contents: stack.contents,
        upper: scratch.path().join("upper"),
        work: scratch.path().join("work"),
        merged: scratch.path().join("merged"),
        volatile: true,
    };
    let rootfs = if dirs.no_overlay().exists() {
        Rootfs::Copy(overlay)
    } else {
        Rootfs::Overlay(overlay)
    };
    let visited = Visited::Stopped {
        rootfs: &rootfs,
        ids: Some(maps),
        shown: &[],
    };
    let close = |inside: &crate::runtime::visit::Inside| {
        let closed =
            mount::set_attributes(inside.root.as_fd(), Attributes::MOUNT_ATTR_RDONLY, true);
        closed.context("cannot make it read-only")
    };
    visit::stay(&visited, scratch.as_fd(), close, |pid| {
        let mounted = Mounted {
            pid: pid.as_raw_pid(),
            start_ticks: process::start_ticks(pid).context("it has ended already")?,
            count: 1,
            scratch: scratch.path().to_owned(),
        };
        record::save(&file(engine, &image.id), &mounted, Durability::Volatile)
    })?;
    scratch.leave();
    Ok(())
}

/// Unmounts the files of an image once nobody is left who mounted them; by force at once.
pub fn unmount(engine: &Engine, id: &Digest, force: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot unmount image {}", id.short());
    let _lock = lock(engine).with_context(cannot)?;
    let Some((mut mounted, process)) = holder(engine, id).with_context(cannot)? else {
        return Err(fail(Kind::WrongStatus, "it is not mounted")).with_context(cannot);
    };
    images::record(engine, "unmount", id, id.hex());
    mounted.count = mounted.count.saturating_sub(1);
    if mounted.count > 0 && !force {
        let file = file(engine, id);
        return record::save(&file, &mounted, Durability::Volatile).with_context(cannot);
    }
    signal::send(process.as_fd(), libc::SIGKILL).with_context(cannot)?;
    poll::readable([Some(process.as_fd())], None).with_context(cannot)?;
    std::fs::remove_file(file(engine, id)).with_context(cannot)?;
    remove_tree(&mounted.scratch).with_context(cannot)
}
