//! `mount` and `unmount`: the files of a container by a path of the host.
//!
//! They are in a mount namespace always: that of a container which runs, or that of a process of ours that
//! stays with those of one which does not, holding its run lock. The path leads there by way of
//! /proc/PID/root, for who owns the container and for root. With the process the mounts go, however it ends.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;
use serde::Serialize;

use crate::container::events;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::visit::Visit;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::atomic::Durability;
use crate::store::record;
use crate::store::record::Record;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;

/// `mount.json` in the runtime directory: true while that process is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mounted {
    pid: i32,
    start_ticks: u64,
    /// How often it was mounted, and not unmounted since.
    count: u32,
}

impl Record for Mounted {
    const NOUN: &'static str = "container mount";
    const VERSION: u32 = 1;
}

fn file(container: &Container) -> PathBuf {
    container.run.join("mount.json")
}

/// The process that stays with the files of a container.
fn holder(container: &Container) -> anyhow::Result<Option<(Mounted, OwnedFd)>> {
    let mounted: Option<Mounted> = record::load_if_present(&file(container))?;
    let Some(mounted) = mounted else {
        return Ok(None);
    };
    let process = process::open_started(mounted.pid, mounted.start_ticks);
    // One that has ended may still have its pid, but no lock.
    if !Container::is_locked_at(&container.run)? {
        return Ok(None);
    }
    Ok(process.map(|process| (mounted, process)))
}

/// That process, where there is one.
pub fn by(container: &Container) -> anyhow::Result<Option<OwnedFd>> {
    Ok(holder(container)?.map(|(_, process)| process))
}

/// Why a container cannot be locked that does not run: its files are mounted.
pub fn in_the_way(container: &Container) -> Option<anyhow::Error> {
    holder(container).ok()??;
    let hint = format!("unmount it with `rbox unmount {}`", container.name);
    Some(fail(Kind::Conflict, "its files are mounted").hint(hint))
}

/// Where the files of a container are, if they are mounted.
pub fn path(container: &Container) -> anyhow::Result<Option<PathBuf>> {
    let pid = match container.status()? {
        Status::Running(state) => Some(state.pid),
        _ => holder(container)?.map(|(mounted, _)| mounted.pid),
    };
    Ok(pid.map(|pid| PathBuf::from(format!("/proc/{pid}/root"))))
}

/// Mounts the files of a container, or counts one more who uses them; their path.
///
/// Must: be called by a single-threaded process.
pub fn mount(engine: &Engine, container: &Container) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot mount container \"{}\"", container.name);
    if let Some((mut mounted, _)) = holder(container).with_context(cannot)? {
        mounted.count = mounted.count.saturating_add(1);
        record::save(&file(container), &mounted, Durability::Volatile).with_context(cannot)?;
    } else if !container.status()?.is_running() {
        hold(engine, container).with_context(cannot)?;
    }
    events::add(&engine.dirs, container, "mount");
    let path = path(container)?.context("it has ended just now");
    path.with_context(cannot)
}

/// Leaves a process with the files of a container that does not run.
fn hold(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    if let Status::Exited(exit) = container.status()? {
        // Where nobody has seen its end that is told by what is cleared next.
        container.save_exit(&exit)?;
    }
    let visit = Visit::open(engine, container)?;
    visit.stay(|pid| {
        let mounted = Mounted {
            pid: pid.as_raw_pid(),
            start_ticks: process::start_ticks(pid).context("it has ended already")?,
            count: 1,
        };
        record::save(&file(container), &mounted, Durability::Volatile)
    })
}

/// Unmounts the files of a container once nobody is left who mounted them; by force at once.
pub fn unmount(engine: &Engine, container: &Container, force: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot unmount container \"{}\"", container.name);
    let Some((mut mounted, process)) = holder(container).with_context(cannot)? else {
        let text = if container.status()?.is_running() {
            "it is running, and its files are mounted for as long as it does"
        } else {
            "it is not mounted"
        };
        return Err(fail(Kind::WrongStatus, text)).with_context(cannot);
    };
    events::add(&engine.dirs, container, "unmount");
    mounted.count = mounted.count.saturating_sub(1);
    if mounted.count > 0 && !force {
        return record::save(&file(container), &mounted, Durability::Volatile).with_context(cannot);
    }
    signal::send(process.as_fd(), libc::SIGKILL).with_context(cannot)?;
    poll::readable([Some(process.as_fd())], None).with_context(cannot)?;
    std::fs::remove_file(file(container)).with_context(cannot)
}
