//! What a crash or a power cut leaves of containers: directories that no name points to, and
//! a process whose supervisor was killed.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;
use rustix::process::PidfdFlags;

use crate::container::record::Container;
use crate::container::record::State;
use crate::engine::Engine;
use crate::store::lock::Lock;
use crate::store::record;
use crate::store::remove::remove_tree;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;

/// Removes directories of containers that do not exist. Does nothing, at the price of two directory
/// listings, where there are none, and leaves them to the next time where somebody makes a container.
pub fn sweep(engine: &Engine) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let count = |path: &std::path::Path| std::fs::read_dir(path).map(Iterator::count);
    if count(&dirs.containers())? <= count(&dirs.names())? {
        return Ok(());
    }
    // Who creates a container holds this lock shared from the first directory to the name.
    let Some(_alone) = Lock::try_exclusive(&dirs.lock_file())? else {
        return Ok(());
    };
    let mut named = HashSet::new();
    for name in std::fs::read_dir(dirs.names())? {
        if let Some(id) = std::fs::read_link(name?.path())?.file_name() {
            named.insert(id.to_owned());
        }
    }
    for entry in std::fs::read_dir(dirs.containers())? {
        let id = entry?.file_name();
        let data = dirs.containers().join(&id);
        let run = dirs.run_containers().join(&id);
        // A container with --rm is removed by its own supervisor, which holds the run lock.
        if named.contains(&id) || Container::is_locked_at(&run)? {
            continue;
        }
        remove_tree(&data)?;
        remove_tree(&run)?;
    }
    Ok(())
}

/// Ends the process of a container whose supervisor was killed. The kernel has done so already, by
/// the parent-death signal, unless the process has given that up (prctl(2)).
///
/// Must: be called with the container's run lock held, which says that no supervisor lives.
pub fn end_leftover(container: &Container) -> anyhow::Result<()> {
    let Some(state) = record::load_if_present::<State>(&container.state_file())? else {
        return Ok(());
    };
    let Some(pid) = Pid::from_raw(state.pid) else {
        return Ok(());
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    // The pid may be another process's by now.
    if process::start_ticks(state.pid) != Some(state.start_ticks) {
        return Ok(());
    }
    signal::send(pidfd.as_fd(), libc::SIGKILL).context("cannot end what is left of it")?;
    poll::readable([Some(pidfd.as_fd())], Some(Duration::from_secs(10)))?;
    Ok(())
}
