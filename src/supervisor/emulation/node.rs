//! An empty regular file in the place of a device, of the mode that was asked for: whoever made a device goes on to set
//! its mode and times.
//!
//! A child of the supervisor makes it, and answers the call. It is no more than the process that asks: it goes into the
//! user namespace of that process, to its root directory, which is one of that process's mounts, and keeps only the
//! capabilities that are effective there; like a process that joins a container it cannot be traced from inside. What
//! else may confine that process we could not take on, so there is no file where that may be so: Landlock (from the first landlock_restrict_self(2) in
//! the container on), and a label of AppArmor or SELinux.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;

use crate::sys::notify::Answer;
use crate::sys::notify::Listener;
use crate::sys::notify::Notification;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::signal;

/// Children at a time: a file system of the container may keep one waiting.
const MOST: usize = 4;

/// Linux: PATH_MAX, with the NUL.
const PATH_MAX: usize = 4096;

/// The children that make files.
#[derive(Default)]
pub struct Nodes {
    children: Vec<Child>,
}

/// A file to make.
pub struct Request<'a> {
    pub call: &'a Notification,
    pub listener: Listener<'a>,
    /// `None`: the working directory.
    pub directory: Option<i32>,
    /// Where its path is in the memory of the caller.
    pub path: u64,
    pub mode: u32,
}

impl Nodes {
    pub fn make(&mut self, request: &Request<'_>) -> Result<Answer, Errno> {
        self.children.retain(|child| !has_ended(child));
        if self.children.len() >= MOST {
            return Err(Errno::NOMEM);
        }
        let caller = Caller::of(request).ok_or(Errno::PERM)?;
        // From here on what was opened is known to be the caller's.
        let memory = request.listener.memory(request.call).ok_or(Errno::PERM)?;
        let path = read_path(&memory, request.path)?;
        match process::fork().map_err(|err| err.errno)? {
            Side::Parent(child) => {
                self.children.push(child);
                Ok(Answer::Later)
            }
            Side::Child => {
                let made = caller.make(&path, request.mode);
                let answer = made.map_or_else(Answer::Errno, |()| Answer::Return(0));
                request.listener.answer(request.call.id, answer).ok();
                process::exit_now(0)
            }
        }
    }

    /// Ends those that still wait.
    pub fn end(&mut self) {
        for child in self.children.drain(..) {
            signal::send(child.pidfd.as_fd(), libc::SIGKILL).ok();
            process::wait(child.pidfd.as_fd()).ok();
        }
    }
}

fn has_ended(child: &Child) -> bool {
    let ended = poll::readable([Some(child.pidfd.as_fd())], Some(Duration::ZERO));
    matches!(ended, Ok([true])) && process::wait(child.pidfd.as_fd()).is_ok()
}

/// What a child takes on.
struct Caller {
    user: OwnedFd,
    root: OwnedFd,
    /// That of relative paths, if it exists.
    directory: Option<OwnedFd>,
    umask: Mode,
    capabilities: CapabilitySet,
}

impl Caller {
    fn of(request: &Request<'_>) -> Option<Caller> {
        let tid = request.call.tid;
        let open = |name: &str, flags| {
            let path = format!("/proc/{tid}/{name}");
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
        let field = |name: &str, radix| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))?;
            u64::from_str_radix(value.trim(), radix).ok()
        };
        let directory = match request.directory {
            Some(number) => format!("fd/{number}"),
            None => "cwd".into(),
        };
        Some(Caller {
            user: open("ns/user", OFlags::RDONLY)?,
            root: open("root", OFlags::PATH | OFlags::DIRECTORY)?,
            directory: open(&directory, OFlags::PATH | OFlags::DIRECTORY),
            umask: Mode::from_raw_mode(field("Umask", 8)?.try_into().ok()?),
            capabilities: CapabilitySet::from_bits_retain(field("CapEff", 16)?),
        })
    }

    /// Runs in a process of its own.
    fn make(&self, path: &[u8], mode: u32) -> Result<(), Errno> {
        // Must: before the namespace is joined, as with `exec`.
        process::set_dumpable(false).map_err(|err| err.errno)?;
        process::setns(self.user.as_fd(), libc::CLONE_NEWUSER).map_err(|err| err.errno)?;
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(".")?;
        rustix::process::umask(self.umask);
        let sets = CapabilitySets {
            effective: self.capabilities,
            permitted: self.capabilities,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets)?;
        // It has a copy of all descriptors, the run lock among them. Linux: changes of credentials clear this (prctl(2)).
        process::set_parent_death_signal(libc::SIGKILL).map_err(|err| err.errno)?;

        let (parent, name) = split(path)?;
        let parent = if parent.starts_with(b"/") {
            open_directory(self.root.as_fd(), parent)?
        } else {
            let base = self.directory.as_ref().ok_or(Errno::NOTDIR)?;
            open_directory(base.as_fd(), parent)?
        };
        // Linux: the bits of the type are those of the kind.
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(
            &parent,
            OsStr::from_bytes(name),
            FileType::RegularFile,
            mode,
            0,
        )
    }
}

/// Magic links of a procfs of the host, should the container have one, would lead to what this process has open.
fn open_directory(base: std::os::fd::BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(base, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
}

/// The directory and the name in it, with the errors of mknod(2) for what is no name of a file.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = match at {
        Some(at) => (&path[..=at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    match name {
        b"" => Err(Errno::NOENT),
        b"." | b".." => Err(Errno::EXIST),
        _ => Ok((parent, name)),
    }
}

fn read_path(memory: &File, at: u64) -> Result<Vec<u8>, Errno> {
    let mut path = vec![0; PATH_MAX];
    // What follows the path may not be mapped: a read that begins where memory is ends where it ends.
    let length = memory.read_at(&mut path, at).map_err(|_| Errno::FAULT)?;
    let end = path[..length].iter().position(|byte| *byte == 0);
    path.truncate(end.ok_or(if length == PATH_MAX {
        Errno::NAMETOOLONG
    } else {
        Errno::FAULT
    })?);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        let parts = |path: &'static str| split(path.as_bytes());
        assert_eq!(parts("null"), Ok((&b"."[..], &b"null"[..])));
        assert_eq!(parts("/null"), Ok((&b"/"[..], &b"null"[..])));
        assert_eq!(parts("a/../b"), Ok((&b"a/../"[..], &b"b"[..])));
        assert_eq!(parts(""), Err(Errno::NOENT));
        assert_eq!(parts("a/"), Err(Errno::NOENT));
        assert_eq!(parts("a/.."), Err(Errno::EXIST));
    }
}
