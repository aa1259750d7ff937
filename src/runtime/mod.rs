//! Bundle to process. Knows nothing of images, networks or the engine's store.
//!
//! # Theory of operation
//!
//! ```text
//!  caller (supervisor)              init (child, pid 1 of the container)
//!  -------------------              ------------------------------------
//!  clone3(all namespaces) --------> private mounts, root file system and all other
//!  id maps: both helpers at once    mounts made detached          } side by side
//!  "mapped" ----------------------> becomes root of its namespace
//!                                   attaches mounts, pivot_root, devices, masks
//!           <------- pty master ---  (with a terminal)
//!                                   credentials, capabilities, seccomp
//!           <------- listener -----  (of a filter whose calls wait for an answer: `notify`)
//!                                   waits for its start, if that is another's to give (`gate`)
//!                                   exec of the trampoline, which execs the command
//!           <------------- ready --
//!  end of file: it runs <---------- (the socket is close-on-exec)
//!           <------- {"failed"} ---  or any step failed
//! ```
//!
//! * Until the last step init is a fork of the caller, not a new program: its memory belongs to the
//!   host's user namespace and it is not dumpable, so nothing in a container can ptrace it or read
//!   its descriptors (CVE-2016-9962). With `exec` the same holds for the process that joins.
//! * The command is never executed from the host's rbox binary, which its root could then open
//!   for writing through /proc/PID/exe (CVE-2019-5736), but from a read-only clone of it (`trampoline`).
//! * Everything below the root file system is looked up by `sys::path`, from a descriptor of it.
//! * Only the last program of the chain, the user's, runs with the container's privileges and is
//!   visible to it with ordinary rights.
//!
//! | kernel feature | since | used for | without it |
//! |---|---|---|---|
//! | clone3 with pidfd | 5.3 | init, exec | no containers |
//! | openat2 | 5.6 | paths in a root | no containers |
//! | setns of several namespaces by pidfd | 5.8 | exec | no exec |
//! | close_range with CLOEXEC | 5.11 | no inherited descriptors | no containers |
//! | overlay in a user namespace (`userxattr`) | 5.11 | root file system | a copy of the image |
//! | mount_setattr | 5.12 | read-only trees, the trampoline | no containers |
//! | exec enters the time namespace of children | 6.3 | private time namespace | refused |
//! | overlay `datadir+` with `userxattr` | 6.16 | images of additional stores | these are copied |
//! | overlay `lowerdir+` | 6.5 | many layers, long paths | one option string of a page |

pub mod accounts;
pub mod caps;
mod devices;
pub mod exec;
mod fill;
mod flatten;
pub mod gate;
pub mod hooks;
mod idmapped;
mod init;
pub mod interface;
pub mod join;
mod lsm;
mod mount_options;
mod mounts;
mod net_devices;
pub mod notify;
mod overlays;
mod process;
mod procfs;
mod reaper;
mod report;
pub mod resctrl;
mod rootfs;
mod schedule;
pub mod seccomp;
mod spawn;
mod sysctl;
mod timens;
pub mod trampoline;
pub mod user;
pub mod visit;

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use oci_spec::runtime::Linux;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Process;
use oci_spec::runtime::Spec;
use rustix::process::Pid;

use crate::runtime::gate::Gate;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::Root;

pub use accounts::Accounts;
pub use hooks::Hooked;
pub use interface::Interface;
pub use join::Joins;
pub use mount_options::NAMES as MOUNT_OPTIONS;
pub use seccomp::Filter;
pub use spawn::Running;
pub use spawn::Stdio;
pub use spawn::create;
pub use user::Wanted;

/// What to run: an OCI runtime specification, and what it leaves open.
pub struct Bundle<'a> {
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    pub userns: &'a Userns,
    /// The ids that are mapped in its user namespace.
    pub ids: &'a IdMaps,
    /// Root of the container is, outside, who makes it.
    pub root_is_caller: bool,
    /// It takes the place of `process.user`.
    pub user: Option<Wanted<'a>>,
    /// What is added to the passwd and group files of the container before its start.
    pub accounts: Option<&'a Accounts>,
    /// The filters of system calls, compiled, in the order in which they are installed; at most one has calls that
    /// wait for an answer.
    pub filters: &'a [Filter],
    /// Namespaces that others made.
    pub joins: &'a Joins,
    /// The interface of its network namespace beside loopback, whose other end the caller gets.
    pub interface: Option<&'a Interface>,
    /// Who connects its network namespace, in place of an interface that its init makes.
    pub wire: Option<&'a dyn Wire>,
    /// A mount for /dev/shm, attached nowhere.
    pub shm: Option<BorrowedFd<'a>>,
    /// Pid 1 is an init of ours, and the process of the specification its child.
    pub init: bool,
    /// `HOME` is set where the specification does not.
    pub set_home: bool,
    pub preserved: &'a [Preserved],
    /// Its control group.
    pub cgroup: Option<Placement<'a>>,
    /// It waits there to be started, and is not tied to who made it.
    pub gate: Option<&'a Gate>,
    /// Who gets the listener of its filter, with the pid of init, instead of the caller.
    pub pass_on: Option<&'a dyn Fn(OwnedFd, Pid) -> anyhow::Result<()>>,
    /// It keeps the session keyring of who made it.
    pub shares_keyring: bool,
    /// Its root directory is changed and not its root mount, for hosts whose root cannot be pivoted (an initramfs).
    pub no_pivot: bool,
    /// More than the letter of the specification: attributes of a bind mount hold for the mounts below it too, mounts
    /// are private unless they say otherwise, and no device can be used but those that are listed.
    pub hardened: bool,
    /// What hooks are told of the container: its id, and a directory.
    pub id: &'a str,
    pub directory: &'a Path,
}

/// Connects a container's network namespace from outside.
pub trait Wire {
    /// Returns the other end of its way to the world.
    fn connect(&self, namespace: BorrowedFd<'_>) -> anyhow::Result<OwnedFd>;
}

/// How a process comes into its control group.
#[derive(Clone, Copy)]
pub enum Placement<'a> {
    /// From its beginning.
    Into(BorrowedFd<'a>),
    /// By who makes it, before it does anything.
    By(&'a dyn Fn(Pid) -> anyhow::Result<()>),
}

impl Placement<'_> {
    /// For the clone.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Placement::Into(group) => Some(*group),
            Placement::By(_) => None,
        }
    }
}

/// Which user namespace the container has.
#[derive(Debug)]
pub enum Userns {
    /// A new one.
    New,
    /// A new one inside another, in which ids are those of the host.
    Within(OwnedFd),
    /// None of its own: for root alone, whose capabilities in the container are real ones.
    Host,
    /// One that exists.
    Join(OwnedFd),
}

impl Bundle<'_> {
    /// Descriptors of others that it refers to, last those that are preserved.
    pub fn given(&self) -> Vec<BorrowedFd<'_>> {
        let preserved = self.preserved.iter().map(|kept| kept.fd.as_fd());
        let user = match self.userns {
            Userns::Join(user) | Userns::Within(user) => Some(user.as_fd()),
            Userns::New | Userns::Host => None,
        };
        let joined = self.joins.fds().chain(user);
        joined.chain(self.shm).chain(preserved).collect()
    }

    /// Whether init is made by a process that has joined namespaces.
    fn joins_first(&self) -> bool {
        !self.joins.is_empty() || matches!(self.userns, Userns::Join(_) | Userns::Within(_))
    }

    /// Whether the kernel ends all processes of the container with its first.
    pub fn has_pid_namespace(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
        namespaces.into_iter().flatten().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
        })
    }

    pub fn hooked(&self) -> Hooked<'_> {
        Hooked {
            spec: self.spec,
            id: self.id,
            bundle: self.directory,
        }
    }

    /// Who sets things up in the container.
    pub fn root(&self) -> Root {
        let mut root = self.ids.root();
        root.keeps_groups |= self.user.is_some_and(|user| user.keep_groups);
        root
    }
}

/// A descriptor of the caller that the container's process gets, under this number.
#[derive(Debug)]
pub struct Preserved {
    pub number: i32,
    pub fd: OwnedFd,
}

/// Where the root file system comes from.
#[derive(Debug)]
pub enum Rootfs {
    /// Layers below a writable directory, joined by overlayfs.
    Overlay(Overlay),
    /// The same layers, copied into `merged` at the first start.
    Copy(Overlay),
    /// A directory of the user's.
    Directory(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Overlay {
    /// What `lower` is relative to: the kernel takes at most 255 bytes for one layer's path.
    pub base: PathBuf,
    /// Layers, top first.
    pub lower: Vec<PathBuf>,
    /// Where contents are that files of the layers refer to.
    pub contents: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory to mount on.
    pub merged: PathBuf,
    /// Do without syncing the upper directory: its content need not outlive the container.
    pub volatile: bool,
}

/// The process to become: shared by a container's first process and by those that join it.
pub struct Program<'a> {
    /// It is killed when its parent ends.
    pub dies_with_parent: bool,
    pub process: &'a Process,
    pub user: Option<Wanted<'a>>,
    /// A working directory that is missing is made, as Docker does at the start of a container;
    /// for `exec` it is an error.
    pub make_workdir: bool,
    pub filters: &'a [Filter],
    /// Whose startContainer hooks are run before it.
    pub hooked: Option<Hooked<'a>>,
    /// See `Bundle`.
    pub init: bool,
    pub set_home: bool,
    pub preserved: &'a [Preserved],
    /// See `Bundle`.
    pub gate: Option<&'a Gate>,
    /// What the specification says of all processes of the container.
    pub linux: Option<&'a Linux>,
}
