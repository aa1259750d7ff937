//! The end of a container as it is recorded, and what is taken away with it.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use crate::container::config::Config;
use crate::container::config::process::Network;
use crate::container::events;
use crate::container::record::Container;
use crate::container::status::Exit as Ended;
use crate::container::status::Limited;
use crate::container::status::RunLock;
use crate::container::uses;
use crate::network::hub::Keeper;
use crate::network::members;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::remove;
use crate::supervisor::Supervisor;
use crate::supervisor::client::Client;
use crate::supervisor::protocol::Reply;
use crate::supervisor::restart::Left;
use crate::supervisor::restart::Next;
use crate::sys::idmap::Root;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::userns;
use crate::volume;

/// How long connections of a container that has ended may take to say what its programs have said already.
pub const LAST_WORDS: Duration = Duration::from_secs(3);

impl Supervisor<'_> {
    /// What there is to say of a run that has ended, and what is left of it.
    pub fn end_run(&mut self, exit: &Exit) -> Ended {
        self.tell_kills();
        let mut run = self.run.take();
        let handler = run.as_mut().and_then(|run| run.handler.as_mut());
        if let Some(Err(err)) = handler.map(|handler| handler.end()) {
            self.log_error(&err);
        }
        let started = run.as_ref().map_or_else(Timestamp::now, |run| run.started);
        let mut record = record_of(started, exit, None);
        record.restarts = self.restarts.count;
        if let Some(mut run) = run {
            if let Some(relay) = &mut run.relay {
                relay.end();
            }
            self.kept.left = Left {
                relay: run.relay,
                group: run.group,
                userns: run.running.userns,
            };
        }
        if let Some(group) = &self.kept.left.group {
            record.limited = group.counts();
        }
        leave_networks(self.dirs, &self.container);
        journal::add(self.dirs, &events::died(&self.container, &record));
        record
    }

    /// Records the end, tells it, and lets go of everything; the exit status of this process.
    pub fn finish(mut self, lock: &RunLock, mut exit: Ended) -> anyhow::Result<i32> {
        let asked = self.next.is_end();
        let status = self
            .sdnotify
            .as_ref()
            .map_or(0, |notifier| notifier.status(exit.status, asked));
        let Left {
            mut relay,
            mut group,
            userns,
        } = self.kept.left;
        // Who hears of the end may want the ports.
        self.kept.listeners = None;
        if let Some(relay) = &mut relay
            && !self.container.config.process.publish.is_empty()
        {
            relay.wait_for_ports();
        }
        self.log.close();
        exit.stopped = self.next == Next::Stopped;
        let recorded = record_end(self.dirs, &self.container, &exit, true);
        if self.next != Next::Interrupted {
            self.container.set_wanted(false).ok();
        }
        let volumes = if self.container.config.remove {
            // What is not taken away now is left for `volume prune`.
            retire_volumes(self.dirs, &self.container.config).unwrap_or_default()
        } else {
            // Who starts the container again makes the same group.
            if let Some(group) = group.take() {
                group.remove();
            }
            lock.release()?;
            vec![]
        };
        drop(self.listener);
        tell_all(self.clients, exit)?;
        if let Some(relay) = relay {
            relay.drain();
        }
        if let Some(group) = group {
            group.remove();
        }
        if self.container.config.remove {
            remove_files(&self.container, &volumes, userns.as_ref());
        }
        recorded.map(|()| status)
    }
}

/// Tells the exit to all who want to hear it, however long they take.
fn tell_all(mut clients: Vec<Client>, exit: Ended) -> anyhow::Result<()> {
    for client in &mut clients {
        client.tell(&Reply::Exit(Exit {
            status: exit.status,
            signal: exit.signal,
        }));
    }
    while !clients.is_empty() {
        let now = Instant::now();
        clients.retain_mut(|client| {
            client.flush() && client.has_queue() && client.farewell_ends().is_none_or(|at| at > now)
        });
        let next = clients.iter().filter_map(Client::farewell_ends).min();
        let left = next.and_then(|at| Timespec::try_from(at - now).ok());
        let mut fds: Vec<PollFd<'_>> = clients
            .iter()
            .map(|client| PollFd::new(&client.socket, PollFlags::OUT))
            .collect();
        if !fds.is_empty() {
            process::retry(|| rustix::event::poll(&mut fds, left.as_ref()))?;
        }
    }
    Ok(())
}

pub fn record_of(started: Timestamp, exit: &Exit, err: Option<&anyhow::Error>) -> Ended {
    Ended {
        status: exit.status,
        signal: exit.signal,
        started,
        finished: Timestamp::now(),
        error: err.map(crate::error::message),
        limited: Limited::default(),
        restarts: 0,
        stopped: false,
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

/// Its places are free, and what its supervisor has open is nobody's concern any more.
fn leave_networks(dirs: &Dirs, container: &Container) {
    if container.config.process.network == Network::Bridge {
        members::remove_all(dirs, &container.config.id);
        Keeper::remove(dirs, &container.config.id);
    }
}

/// The moment from which on the container counts as ended, or with `--rm` as gone.
pub fn record_end(
    dirs: &Dirs,
    container: &Container,
    exit: &Ended,
    has_run: bool,
) -> anyhow::Result<()> {
    let process = &container.config.process;
    for path in [&process.files.init, &process.files.supervisor]
        .into_iter()
        .flatten()
    {
        std::fs::remove_file(path).ok();
    }
    leave_networks(dirs, container);
    if !container.config.remove {
        return container.save_exit(exit);
    }
    if !has_run {
        return discard(dirs, container);
    }
    container.free_name(dirs)?;
    events::add(dirs, container, "remove");
    container.remove_id_file();
    Ok(())
}

/// What `--rm` promises holds too where nothing could be started. What fails here is collected by the
/// next command that creates a container (`engine::sweep`).
///
/// Must: be called with the run lock held.
pub fn discard(dirs: &Dirs, container: &Container) -> anyhow::Result<()> {
    container.free_name(dirs)?;
    events::add(dirs, container, "remove");
    container.remove_id_file();
    remove::remove_tree(&container.run)?;
    remove::remove_tree(&container.data)?;
    for left in retire_volumes(dirs, &container.config)? {
        remove::remove_tree(&left)?;
    }
    Ok(())
}

/// Deletes the files of a container whose name is free already. What fails here is collected by
/// the next command that creates a container (`engine::sweep`).
pub fn remove_files(container: &Container, volumes: &[PathBuf], userns: Option<&OwnedFd>) {
    let remove = || -> anyhow::Result<()> {
        // First what would not be found without the data.
        remove::remove_tree(&container.run)?;
        for tree in std::iter::once(&container.data).chain(volumes) {
            match userns {
                Some(userns) => remove_as_root_of(userns, tree)?,
                // In a namespace of its own that has all ids of the user.
                None => remove::remove_tree(tree)?,
            }
        }
        Ok(())
    };
    remove().ok();
}

/// Takes the anonymous volumes of a container that is gone from where they are found; what is to be
/// deleted of them.
pub fn retire_volumes(dirs: &Dirs, config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = uses::anonymous(config);
    if names.is_empty() {
        return Ok(vec![]);
    }
    let _alone = volume::lock_for_removal(dirs)?;
    // The records of all containers are only read where they have something to tell: there may be many.
    if names.iter().any(|name| volume::is_shared(dirs, name)) {
        // With a record that cannot be read nothing is known: they are for `volume prune`.
        let Ok(used) = uses::volumes(dirs) else {
            return Ok(vec![]);
        };
        names.retain(|name| !used.contains_key(name));
    }
    let mut left = Vec::new();
    for name in &names {
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
