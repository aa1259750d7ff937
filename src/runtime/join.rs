//! Namespaces that a container shares: found and checked by who starts it, joined by a process between
//! the supervisor and the container's init.
//!
//! ```text
//!  supervisor          joiner (child)                      init (its sibling)
//!  fork ------------>  namespaces of our own user namespace
//!                      the user namespace of the others, and these
//!                      clone3(CLONE_PARENT | the rest) ---> goes on as any init
//!       <-- pidfd ---  ends
//! ```
//!
//! Linux: to join a namespace takes CAP_SYS_ADMIN in the user namespace that owns it and in one's own
//! (setns(2)). Without root that is so for namespaces of a user namespace that we made, from inside
//! it; so who joins one namespace of a container is in that container's user namespace too.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::ensure;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Kind;
use crate::error::fail;
use crate::runtime::report;
use crate::runtime::report::Received;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::mount;
use crate::sys::namespace;
use crate::sys::path;
use crate::sys::process;
use crate::sys::process::Side;
use crate::sys::socket;

/// What is joined instead of made.
#[derive(Debug, Default)]
pub struct Joins {
    /// The user namespace that owns those of `inner`, until it is taken.
    owner: Option<OwnedFd>,
    /// Those of our own user namespace: only root can join such.
    outer: Vec<(LinuxNamespaceType, OwnedFd)>,
    inner: Vec<(LinuxNamespaceType, OwnedFd)>,
}

/// `CLONE_NEW*`, and the name below /proc/PID/ns.
pub fn kind(kind: LinuxNamespaceType) -> (i32, &'static str) {
    match kind {
        LinuxNamespaceType::Mount => (libc::CLONE_NEWNS, "mnt"),
        LinuxNamespaceType::Cgroup => (libc::CLONE_NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (libc::CLONE_NEWUTS, "uts"),
        LinuxNamespaceType::Ipc => (libc::CLONE_NEWIPC, "ipc"),
        LinuxNamespaceType::User => (libc::CLONE_NEWUSER, "user"),
        LinuxNamespaceType::Pid => (libc::CLONE_NEWPID, "pid"),
        LinuxNamespaceType::Network => (libc::CLONE_NEWNET, "net"),
        LinuxNamespaceType::Time => (libc::CLONE_NEWTIME, "time"),
    }
}

impl Joins {
    pub fn is_empty(&self) -> bool {
        self.outer.is_empty() && self.inner.is_empty()
    }

    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let all = self.outer.iter().chain(&self.inner);
        all.map(|(_, fd)| fd.as_fd())
    }

    /// The user namespace that has to be joined too.
    pub fn take_owner(&mut self) -> Option<OwnedFd> {
        self.owner.take()
    }

    /// Adds a namespace; `false` if it is the one that we are in, so that there is nothing to join.
    pub fn add(&mut self, of: LinuxNamespaceType, fd: OwnedFd) -> anyhow::Result<bool> {
        let (flag, name) = kind(of);
        ensure!(
            namespace::kind(fd.as_fd()).is_ok_and(|found| found == flag),
            "it is no {name} namespace"
        );
        if namespace::same(fd.as_fd(), namespace::own(name)?.as_fd())? {
            return Ok(false);
        }
        let owner = match namespace::owner(fd.as_fd()) {
            Err(err) if err.errno == Errno::PERM => {
                return Err(fail(
                    Kind::Unsupported,
                    "it belongs to a user namespace that is not below ours",
                ));
            }
            owner => owner?,
        };
        if namespace::same(owner.as_fd(), namespace::own("user")?.as_fd())? {
            self.outer.push((of, fd));
        } else {
            self.add_owner(owner)?;
            self.inner.push((of, fd));
        }
        Ok(true)
    }

    fn add_owner(&mut self, user: OwnedFd) -> anyhow::Result<()> {
        match &self.owner {
            None => self.owner = Some(user),
            Some(known) if namespace::same(known.as_fd(), user.as_fd())? => {}
            Some(_) => {
                return Err(fail(
                    Kind::Conflict,
                    "it belongs to another user namespace than the others that are joined",
                ));
            }
        }
        Ok(())
    }

    /// Joins all of them.
    ///
    /// Must: run in a process of its own that is not dumpable: processes of the other container have
    /// its user from here on.
    pub fn enter(&self, user: Option<&OwnedFd>, ids: &IdMaps) -> anyhow::Result<()> {
        let enter = |(of, fd): &(LinuxNamespaceType, OwnedFd)| {
            let (flag, name) = kind(*of);
            process::setns(fd.as_fd(), flag)
                .with_context(|| format!("cannot join the {name} namespace"))
        };
        self.outer.iter().try_for_each(enter)?;
        if let Some(user) = user {
            join_user(user, ids)?;
        }
        self.inner.iter().try_for_each(enter)
    }
}

/// Joins a user namespace, which must have the ids that the container's files were made for.
fn join_user(user: &OwnedFd, ids: &IdMaps) -> anyhow::Result<()> {
    process::setns(user.as_fd(), libc::CLONE_NEWUSER).context("cannot join the user namespace")?;
    for (file, expected) in [("uid_map", &ids.uids), ("gid_map", &ids.gids)] {
        let path = format!("/proc/self/{file}");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        if !same_ids(&text, expected) {
            return Err(fail(
                Kind::Conflict,
                "cannot join the user namespace: it has other ids than this container",
            ));
        }
    }
    Ok(())
}

/// Linux: the lines are as they were written, up to five; more are sorted.
fn same_ids(map: &str, expected: &[IdRange]) -> bool {
    let mut found: Vec<Vec<u32>> = map
        .lines()
        .map(|line| {
            line.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect()
        })
        .collect();
    let mut expected: Vec<Vec<u32>> = expected
        .iter()
        .map(|range| vec![range.inside, range.outside, range.count])
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    found == expected
}

/// Clones a mount of the process behind a pidfd, at a path in its own root directory; `None` if no file
/// system of memory is there. The clone is attached nowhere.
///
/// Must: be called by a single-threaded process.
pub fn clone_mount_of(init: BorrowedFd<'_>, path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let (ours, theirs) = socket::pair()?;
    match process::fork()? {
        Side::Child => {
            drop(ours);
            let status = match clone_inside(init, path, &theirs) {
                Ok(()) => 0,
                Err(err) => {
                    report::send_error(theirs.as_fd(), &err);
                    1
                }
            };
            process::exit_now(status)
        }
        Side::Parent(child) => {
            drop(theirs);
            let received = report::receive(&ours);
            process::wait(child.pidfd.as_fd())?;
            Ok(match received? {
                Received::Descriptor(mount, _) => Some(mount),
                _ => None,
            })
        }
    }
}

fn clone_inside(init: BorrowedFd<'_>, path: &Path, socket: &OwnedFd) -> anyhow::Result<()> {
    // Must: before any namespace is joined, see runtime/mod.rs.
    process::set_dumpable(false)?;
    process::setns(init, libc::CLONE_NEWUSER).context("cannot join the user namespace")?;
    process::setns(init, libc::CLONE_NEWNS).context("cannot join the mount namespace")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let place = path::open_in_root(root.as_fd(), path, flags)?;
    // Linux: TMPFS_MAGIC (linux/magic.h).
    if rustix::fs::fstatfs(&place)?.f_type == 0x0102_1994 {
        let tree = mount::clone_tree(place.as_fd(), c"", false)?;
        report::send_descriptor(socket.as_fd(), tree.as_fd(), 0)?;
    }
    Ok(())
}
