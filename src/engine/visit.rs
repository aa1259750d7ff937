//! Going into a container's files: as it sees them while it runs; else mounted for the visit, with the run
//! lock held, so that it is not started, removed or visited by others meanwhile.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::container::config::identity::Userns;
use crate::container::mounts::Mount;
use crate::container::mounts::Source;
use crate::container::record;
use crate::container::record::Container;
use crate::container::status::RunLock;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::not_running;
use crate::engine::groups;
use crate::engine::ids;
use crate::engine::mounted;
use crate::engine::start;
use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Rootfs;
use crate::runtime::visit;
use crate::runtime::visit::Inside;
use crate::runtime::visit::Shown;
use crate::runtime::visit::Visited;
use crate::runtime::visit::Visitor;
use crate::sys::idmap::IdMaps;
use crate::sys::process;
use crate::sys::userns;
use crate::volume;
use crate::volume::From;

/// How long somebody else may be busy with a container that does not run.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// A container that can be gone into, for as long as this is held.
pub struct Visit<'a> {
    container: &'a Container,
    ids: IdMaps,
    how: How,
}

enum How {
    Running(OwnedFd),
    Stopped {
        rootfs: Rootfs,
        shown: Vec<Shown>,
        lock: RunLock,
    },
}

impl<'a> Visit<'a> {
    pub fn open(engine: &Engine, container: &'a Container) -> anyhow::Result<Visit<'a>> {
        let maps = ids::of(&container.config.identity)?;
        let how = match running_or_locked(engine, container)? {
            Held::Running(init) => How::Running(init),
            Held::Lock(lock) => How::Stopped {
                rootfs: start::rootfs(engine, container, &maps)?,
                shown: shown(engine, container)?,
                lock,
            },
        };
        Ok(Visit {
            container,
            ids: maps,
            how,
        })
    }

    /// Leaves a process of ours with the mounted files of a container that does not run. It
    /// holds the run lock, and stays until it is killed. `note` hears of it before it is on its own.
    ///
    /// Must: be called by a single-threaded process.
    pub fn stay(self, note: impl FnOnce(Pid) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let How::Stopped { lock, .. } = &self.how else {
            return Err(fail(Kind::Conflict, "it was started meanwhile"));
        };
        stay(&self.visited(), lock.as_fd(), |_| Ok(()), note)
    }

    /// Whether the owners of its files are recorded in their attributes.
    pub fn owners_recorded(&self) -> bool {
        self.ids.is_single()
    }

    /// Sends a process of ours inside; returns when it is there.
    ///
    /// Must: be called by a single-threaded process.
    pub fn send(
        &self,
        work: impl FnOnce(Inside) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Visitor> {
        visit::start(&self.visited(), work)
    }

    fn visited(&self) -> Visited<'_> {
        let own_ids = self.container.config.identity.userns != Userns::Host;
        match &self.how {
            How::Running(init) => Visited::Running {
                init: init.as_fd(),
                root: own_ids.then(|| self.ids.root()),
            },
            How::Stopped { rootfs, shown, .. } => Visited::Stopped {
                rootfs,
                ids: own_ids.then_some(&self.ids),
                shown,
            },
        }
    }
}

/// Leaves a process of ours with mounted files and this descriptor. `prepare` is done there, and `note` hears of it
/// before it is on its own.
///
/// Must: be called by a single-threaded process.
pub fn stay(
    visited: &Visited<'_>,
    kept: BorrowedFd<'_>,
    prepare: impl FnOnce(&Inside) -> anyhow::Result<()>,
    note: impl FnOnce(Pid) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let kept = kept.as_raw_fd().cast_unsigned();
    let (noted, note_it) = userns::pipe()?;
    let (alone, leave) = userns::pipe()?;
    let visitor = visit::start(visited, move |inside| {
        prepare(&inside)?;
        File::from(noted).read_exact(&mut [0])?;
        process::set_parent_death_signal(0)?;
        drop(leave);
        visit::stay_alone(&null, kept)
    })?;
    note(visitor.pid().context("it has ended already")?)?;
    File::from(note_it).write_all(b"n")?;
    // Its end of this pipe is closed when our own end is no longer its.
    File::from(alone).read_to_end(&mut Vec::new())?;
    visitor.leave();
    Ok(())
}

/// A container that stays as it is.
pub enum Held {
    /// Its init, or who stays with its mounted files.
    Running(OwnedFd),
    Lock(RunLock),
}

/// Waits until a container either runs or is nobody's.
pub fn running_or_locked(engine: &Engine, container: &Container) -> anyhow::Result<Held> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Status::Running(state) = container.status()? {
            match process::open_started(state.pid, state.start_ticks) {
                Some(init) => return Ok(Held::Running(init)),
                // Its supervisor has not recorded the end yet.
                None if Instant::now() > end => return Err(not_running(container)),
                None => {}
            }
        } else if let Some(holder) = mounted::by(container)? {
            // It holds the lock, and is with the files as init would be.
            return Ok(Held::Running(holder));
        } else if let Some(lock) = container.try_lock()? {
            if !container.still_exists(&engine.dirs) {
                return Err(record::missing(&container.name));
            }
            if let Some(group) = container.clear_state()? {
                groups::clear(&group);
            }
            return Ok(Held::Lock(lock));
        }
        if Instant::now() > end {
            let text = "it is being started, removed or copied by somebody else";
            return Err(fail(Kind::Conflict, text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The directories and files of the host that a container which does not run is shown with. At the place of a
/// volume that is new there is only a directory: the volume will be filled with what is found in that.
fn shown(engine: &Engine, container: &Container) -> anyhow::Result<Vec<Shown>> {
    let mut shown = Vec::new();
    for mount in &container.config.files.mounts {
        let options = &mount.options;
        if options.overlay.is_some() || options.idmap.is_some() {
            continue;
        }
        let source = match source(engine, mount)? {
            Place::Of(path) => Some(path),
            Place::New => None,
            Place::Nowhere => continue,
        };
        shown.push(Shown {
            source,
            subpath: options.subpath.clone(),
            destination: mount.destination.clone(),
            read_only: options.read_only,
        });
    }
    shown.sort_by_key(|one: &Shown| one.destination.components().count());
    Ok(shown)
}

/// Where the files of a mount are.
enum Place {
    Of(PathBuf),
    /// A volume that nobody has used.
    New,
    Nowhere,
}

fn source(engine: &Engine, mount: &Mount) -> anyhow::Result<Place> {
    let dirs = &engine.dirs;
    Ok(match &mount.source {
        // What has gone since is an error at the next start, and none of who looks at the container.
        Source::Bind { path } if path.symlink_metadata().is_ok() => Place::Of(path.clone()),
        Source::Volume { name, .. } => match volume::by_name(dirs, name)? {
            None => Place::Nowhere,
            Some(found) => match found.mounted()?.source {
                From::Own if found.is_new(dirs) => Place::New,
                From::Own => Place::Of(found.data(dirs)),
                From::Directory(path) => Place::Of(path),
                From::Tmpfs => Place::Nowhere,
            },
        },
        _ => Place::Nowhere,
    })
}
