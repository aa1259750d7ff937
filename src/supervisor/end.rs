//! The end of a container as it is recorded, and what is taken away with it.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;

use crate::container::events;
use crate::container::record::Container;
use crate::container::record::Limited;
use crate::container::uses;
use crate::store::dirs::Dirs;
use crate::store::remove;
use crate::sys::idmap::Root;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::userns;
use crate::volume;

pub fn record_of(
    started: Timestamp,
    exit: &Exit,
    err: Option<&anyhow::Error>,
) -> crate::container::record::Exit {
    crate::container::record::Exit {
        status: exit.status,
        signal: exit.signal,
        started,
        finished: Timestamp::now(),
        error: err.map(crate::error::message),
        limited: Limited::default(),
    }
}

/// A pid for other programs to read, whole at any time.
pub fn write_pid(path: &Path, pid: i32) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let written =
        std::fs::write(&name, pid.to_string()).and_then(|()| std::fs::rename(&name, path));
    if written.is_err() {
        std::fs::remove_file(&name).ok();
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The moment from which on the container counts as ended, or with `--rm` as gone.
pub fn record_end(
    dirs: &Dirs,
    container: &Container,
    exit: &crate::container::record::Exit,
    has_run: bool,
) -> anyhow::Result<()> {
    let files = &container.config.process.files;
    for path in [&files.init, &files.supervisor].into_iter().flatten() {
        std::fs::remove_file(path).ok();
    }
    if container.config.remove {
        container.free_name(dirs)?;
        events::add(dirs, container, "remove");
        container.remove_id_file();
        if !has_run {
            remove::remove_tree(&container.data)?;
            for left in retire_volumes(dirs, container)? {
                remove::remove_tree(&left)?;
            }
            remove::remove_tree(&container.run)?;
        }
        return Ok(());
    }
    container.save_exit(exit)
}

/// Deletes the files of a container whose name is free already. What fails here is collected by
/// the next command that creates a container (`engine::sweep`).
pub fn remove_files(container: &Container, volumes: &[PathBuf], userns: Option<&OwnedFd>) {
    let remove = || -> anyhow::Result<()> {
        for tree in std::iter::once(&container.data).chain(volumes) {
            match userns {
                Some(userns) => remove_as_root_of(userns, tree)?,
                // In a namespace of its own that has all ids of the user.
                None => remove::remove_tree(tree)?,
            }
        }
        remove::remove_tree(&container.run)
    };
    remove().ok();
}

/// Takes the anonymous volumes of a container that is gone from where they are found; what is to be
/// deleted of them.
pub fn retire_volumes(dirs: &Dirs, container: &Container) -> anyhow::Result<Vec<PathBuf>> {
    let names = uses::anonymous(&container.config);
    if names.is_empty() {
        return Ok(vec![]);
    }
    let _alone = volume::lock_for_removal(dirs)?;
    let used = uses::volumes(dirs)?;
    let mut left = Vec::new();
    for name in names.iter().filter(|name| !used.contains_key(*name)) {
        left.extend(volume::retire(dirs, name)?);
    }
    Ok(left)
}

/// Removes a tree as root of the container's user namespace, which is still there because we
/// hold a descriptor of it: no new map has to be written.
fn remove_as_root_of(userns: &OwnedFd, path: &Path) -> anyhow::Result<()> {
    match process::fork()? {
        process::Side::Child => {
            let work = || -> anyhow::Result<()> {
                process::setns(userns.as_fd(), libc::CLONE_NEWUSER)?;
                userns::become_root(Root {
                    uid: 0,
                    gid: 0,
                    keeps_groups: true,
                })?;
                remove::remove_tree(path)
            };
            process::exit_now(i32::from(work().is_err()))
        }
        process::Side::Parent(child) => {
            let exit = process::wait(child.pidfd.as_fd())?;
            anyhow::ensure!(exit.status == 0, "cannot remove {}", path.display());
            Ok(())
        }
    }
}
