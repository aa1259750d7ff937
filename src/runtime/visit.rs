//! Work among the files of a container by a process of our own, which executes nothing.
//!
//! ```text
//!  caller                    visitor (a fork of it)
//!  clone ------------------> running container: joins its user and mount namespace
//!                            else: new ones, where its root file system is mounted for this visit
//!        <----------- "r" -- what it sees as / is the container's root
//!                            work
//!        <- "+" and bytes, or "-" and the error; its end
//! ```
//!
//! The visitor is a fork and never executes a program, looks nothing up on behalf of a library, and is not
//! dumpable in a running container (see runtime/mod.rs): neither the container's programs nor its libraries
//! have a part in it (CVE-2019-14271). It is not in the container's pid namespace, nor in any other but the
//! two. It dies with its caller, and the mounts of a stopped container with it.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::Pid;

use crate::error::Kind;
use crate::error::Told;
use crate::error::kind;
use crate::runtime::Rootfs;
use crate::runtime::flatten;
use crate::runtime::rootfs;
use crate::runtime::rootfs::Opened;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::Root;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::path;
use crate::sys::path::Reopen;
use crate::sys::path::Target;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::userns;

/// The container to visit.
pub enum Visited<'a> {
    Running {
        /// Its init.
        init: BorrowedFd<'a>,
        /// Who is root there; `None` without a user namespace of its own.
        root: Option<Root>,
    },
    /// Must: be kept from being started for as long as the visit lasts.
    Stopped {
        rootfs: &'a Rootfs,
        /// `None` without a user namespace of its own.
        ids: Option<&'a IdMaps>,
        shown: &'a [Shown],
    },
}

/// A file or directory that a container which does not run is shown with.
pub struct Shown {
    /// `None` for an empty directory.
    pub source: Option<PathBuf>,
    /// What of the source is shown, looked up inside it.
    pub subpath: Option<PathBuf>,
    pub destination: PathBuf,
    pub read_only: bool,
}

/// What the work is given.
pub struct Inside {
    /// The root of the container.
    pub root: OwnedFd,
    pub reopen: Reopen,
}

impl Inside {
    /// The root file system alone: nothing that is mounted in it.
    pub fn without_mounts(&self) -> anyhow::Result<OwnedFd> {
        mount::clone_tree(self.root.as_fd(), c"", false)
            .context("cannot look below the container's mounts")
    }
}

/// A process at work in a container. Dropped, it is killed.
pub struct Visitor {
    child: Option<Child>,
    answer: File,
}

/// Sends a visitor; returns when it is there.
///
/// Must: be called by a single-threaded process.
pub fn start(
    visited: &Visited<'_>,
    work: impl FnOnce(Inside) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Visitor> {
    let (answer, theirs) = userns::pipe()?;
    let (mapped_rx, mapped_tx) = userns::pipe()?;
    let (flags, ids) = match visited {
        Visited::Running { .. } => (0, None),
        Visited::Stopped { ids: None, .. } => (libc::CLONE_NEWNS, None),
        Visited::Stopped { ids, .. } => (libc::CLONE_NEWUSER | libc::CLONE_NEWNS, *ids),
    };
    let child = match process::clone(flags)? {
        Side::Child => {
            drop((answer, mapped_tx));
            run(visited, mapped_rx, theirs, work)
        }
        Side::Parent(child) => child,
    };
    drop((theirs, mapped_rx, work));
    let mut visitor = Visitor {
        child: Some(child),
        answer: File::from(answer),
    };
    if let (Some(ids), Some(child)) = (ids, &visitor.child) {
        ids.write(child.pid.as_raw_pid().cast_unsigned())
            .context("cannot map ids")?;
    }
    // A child that is gone shows in its answer below.
    File::from(mapped_tx).write_all(&[1]).ok();
    let mut first = [0];
    if visitor.answer.read(&mut first)? == 1 && first == *b"r" {
        return Ok(visitor);
    }
    Err(match first {
        [b'-'] => visitor.refusal(),
        _ => anyhow::anyhow!("the process that goes into the container died"),
    })
}

impl Visitor {
    /// Waits until the work is done, and returns what it returned.
    pub fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        let mut first = [0];
        if self.answer.read(&mut first)? == 0 {
            bail!("the process in the container died");
        }
        if first == *b"-" {
            return Err(self.refusal());
        }
        let mut bytes = Vec::new();
        self.answer.read_to_end(&mut bytes)?;
        self.wait();
        Ok(bytes)
    }

    /// Its pid, while it is at work.
    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(|child| child.pid)
    }

    /// Lets it go on without us.
    pub fn leave(mut self) {
        self.child = None;
    }

    fn refusal(&mut self) -> anyhow::Error {
        let mut bytes = Vec::new();
        let read = self.answer.read_to_end(&mut bytes);
        self.wait();
        match (read, serde_json::from_slice::<Told>(&bytes)) {
            (Ok(_), Ok(told)) => told.into_error(),
            _ => anyhow::anyhow!("the process in the container died"),
        }
    }

    fn wait(&mut self) {
        if let Some(child) = self.child.take() {
            // Its answer has told what there is to tell.
            process::wait(child.pidfd.as_fd()).ok();
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // It fails only where the visitor has ended already.
            crate::sys::signal::send(child.pidfd.as_fd(), libc::SIGKILL).ok();
        }
        self.wait();
    }
}

/// The rest of a visitor's life, away from who sent it: with the mounts, and this descriptor alone.
pub fn stay_alone(null: &OwnedFd, kept: u32) -> anyhow::Result<Vec<u8>> {
    rustix::process::setsid().context("cannot start a session")?;
    rustix::process::chdir("/").context("cannot enter /")?;
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    rustix::stdio::dup2_stderr(null)?;
    if kept > 3 {
        process::close_range(3, kept - 1)?;
    }
    process::close_range(kept + 1, u32::MAX)?;
    // Linux: whose credentials have changed is looked at by root alone, until it says otherwise (proc(5)).
    // Nothing of the container is executed that could do so.
    process::set_dumpable(true)?;
    loop {
        // A signal that is not ignored ends it.
        rustix::event::pause();
    }
}

fn run(
    visited: &Visited<'_>,
    mapped: OwnedFd,
    answer: OwnedFd,
    work: impl FnOnce(Inside) -> anyhow::Result<Vec<u8>>,
) -> ! {
    let mut answer = File::from(answer);
    let done = enter(visited, mapped).and_then(|inside| {
        answer.write_all(b"r")?;
        work(inside)
    });
    let bytes = match done {
        Ok(bytes) => [b"+", bytes.as_slice()].concat(),
        Err(err) => {
            let told = serde_json::to_vec(&Told::of(&err)).unwrap_or_default();
            [b"-", told.as_slice()].concat()
        }
    };
    let status = answer.write_all(&bytes).map_or(1, |()| 0);
    process::exit_now(status)
}

fn enter(visited: &Visited<'_>, mapped: OwnedFd) -> anyhow::Result<Inside> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    let reopen = Reopen::new().context("cannot use /proc")?;
    match visited {
        Visited::Running { init, root } => join(*init, *root)?,
        Visited::Stopped { rootfs, ids, shown } => {
            let root = ids.map(IdMaps::root);
            let tree = mount_all(rootfs, root, shown, mapped)?;
            mount::pivot_into(tree.as_fd())?;
        }
    }
    // Linux: a change of credentials clears it (prctl(2)).
    process::set_parent_death_signal(libc::SIGKILL)?;
    rustix::process::umask(Mode::empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    Ok(Inside { root, reopen })
}

fn join(init: BorrowedFd<'_>, root: Option<Root>) -> anyhow::Result<()> {
    // Must: before any namespace is joined, see runtime/mod.rs.
    process::set_dumpable(false)?;
    if root.is_some() {
        process::setns(init, libc::CLONE_NEWUSER).context("cannot join the user namespace")?;
    }
    // Linux: / and the working directory are the root of that namespace from here on (setns(2)).
    process::setns(init, libc::CLONE_NEWNS).context("cannot join the mount namespace")?;
    root.map_or(Ok(()), userns::become_root)
}

/// Mounts a container that does not run, in a mount namespace of our own.
fn mount_all(
    rootfs: &Rootfs,
    root: Option<Root>,
    shown: &[Shown],
    mapped: OwnedFd,
) -> anyhow::Result<OwnedFd> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount::set_propagation(std::path::Path::new("/"), private)?;
    // Must: before the user changes, who may be somebody that cannot get there.
    let opened = match rootfs {
        Rootfs::Overlay(overlay) | Rootfs::Copy(overlay) => Some(Opened::open(overlay)?),
        Rootfs::Directory(_) => None,
    };
    let mut trees = Vec::new();
    for one in shown {
        trees.push(
            clone_shown(one)
                .with_context(|| format!("cannot mount \"{}\"", one.destination.display()))?,
        );
    }
    let directory = match rootfs {
        Rootfs::Directory(path) => Some(rootfs::open_dir(path)?),
        _ => None,
    };
    userns::wait_for_map(mapped)?;
    root.map_or(Ok(()), userns::become_root)?;
    let tree = match (rootfs, opened, directory) {
        (Rootfs::Overlay(overlay), Some(opened), _) => {
            match rootfs::mount_overlay(overlay, &opened) {
                // A file system that takes no overlay: the container's start will copy too.
                Err(err) if kind(&err) == Some(Kind::Unsupported) => {
                    flatten::copy(&opened).map_err(|_| err)?;
                    rootfs::mount_directory(&opened.merged)?
                }
                tree => tree?,
            }
        }
        (Rootfs::Copy(_), Some(opened), _) => {
            flatten::copy(&opened)?;
            rootfs::mount_directory(&opened.merged)?
        }
        (_, _, Some(directory)) => rootfs::mount_directory(&directory)?,
        _ => bail!("the container has no root file system"),
    };
    for (one, shown_tree) in shown.iter().zip(trees) {
        attach(tree.as_fd(), one, shown_tree)
            .with_context(|| format!("cannot mount \"{}\"", one.destination.display()))?;
    }
    Ok(tree)
}

fn clone_shown(shown: &Shown) -> anyhow::Result<Option<OwnedFd>> {
    let Some(path) = &shown.source else {
        return Ok(None);
    };
    // Linux: only mounts of one's own mount namespace can be cloned (open_tree(2)): it is opened here.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut source = rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", path.display()))?;
    if let Some(subpath) = &shown.subpath {
        source = path::open_in_root(source.as_fd(), subpath, OFlags::PATH)?;
    }
    let tree = mount::clone_tree(source.as_fd(), c"", true)?;
    if shown.read_only {
        mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, true)?;
    }
    Ok(Some(tree))
}

fn attach(root: BorrowedFd<'_>, shown: &Shown, tree: Option<OwnedFd>) -> anyhow::Result<()> {
    let is_file = match &tree {
        Some(tree) => !path::is_dir(tree.as_fd())?,
        None => false,
    };
    let target = if is_file {
        Target::File
    } else {
        Target::Directory
    };
    let place = path::open_or_create(root, &shown.destination, target)?;
    match tree {
        Some(tree) => Ok(mount::attach(tree.as_fd(), place.as_fd())?),
        None => Ok(()),
    }
}
