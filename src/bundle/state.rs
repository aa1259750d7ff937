//! What is known of one container, and the status that follows from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::anyhow;
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use serde::Deserialize;
use serde::Serialize;

use crate::bundle::agent::Agent;
use crate::bundle::root::missing;
use crate::bundle::root::open_dir;
use crate::cgroup::Group;
use crate::cgroup::place::Placed;
use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime as runtime_spec;
use crate::runtime::gate;
use crate::sys::poll;
use crate::sys::process;

const STATE: &str = "state.json";
pub const CONFIG: &str = "config.json";

/// A process, and never another one that got its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// In clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// A pidfd of it; `None` once it has ended, whether or not somebody has waited for it.
    pub fn open(&self) -> Option<OwnedFd> {
        let pidfd = process::open_started(self.pid, self.start)?;
        let ended = poll::readable([Some(pidfd.as_fd())], Some(Duration::ZERO));
        (!matches!(ended, Ok([true]))).then_some(pidfd)
    }

    pub fn is_alive(&self) -> bool {
        self.open().is_some()
    }

    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

/// What state.json says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub creator: Process,
    /// Absent until all is made.
    pub init: Option<Process>,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub created: Timestamp,
    /// Its specification has hooks for these.
    pub poststart: bool,
    pub poststop: bool,
    /// It may have a class of Intel RDT.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resctrl: bool,
    pub shares_keyring: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// The kernel ends all of its processes with the first.
    pub own_pids: bool,
    pub cgroup: Placed,
}

impl State {
    /// Writes it in the directory of the container.
    pub fn write_in(&self, dir: BorrowedFd<'_>) -> anyhow::Result<()> {
        write_in(dir, STATE, &serde_json::to_vec(self)?)
    }
}

pub fn write_config(dir: BorrowedFd<'_>, bytes: &[u8]) -> anyhow::Result<()> {
    write_in(dir, CONFIG, bytes)
}

/// Replaces a file whole. One process writes at a time, and nothing need outlive a reboot.
fn write_in(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let temp = format!(".{name}");
    let write = || -> anyhow::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, &temp, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(file).write_all(bytes)?;
        Ok(rustix::fs::renameat(dir, &temp, dir, name)?)
    };
    write().with_context(|| format!("cannot write {name}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// As the specification has it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// Removes a directory that is no container's any more.
pub fn remove_rest(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot remove {}", dir.display())),
    }
}

/// A container that has a name.
#[derive(Debug)]
pub struct Container {
    pub dir: PathBuf,
    pub fd: OwnedFd,
    pub state: State,
}

impl Container {
    /// `None` if there is none, or delete was killed while it removed the rest.
    pub fn read(dir: &Path, id: &str) -> anyhow::Result<Option<Container>> {
        let path = dir.join(STATE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => {
                return Err(err).with_context(|| format!("cannot read the state of \"{id}\""));
            }
        };
        let state = serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand {}", path.display()))?;
        match open_dir(dir) {
            Ok(fd) => Ok(Some(Container {
                dir: dir.to_owned(),
                fd,
                state,
            })),
            // Removed in this moment.
            Err(_) if !dir.exists() => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Removes its directory. Without its state it is no container any more, whatever stays: of several that do this
    /// one wins.
    pub fn remove(&self) -> anyhow::Result<()> {
        let removed = rustix::fs::unlinkat(&self.fd, STATE, AtFlags::empty());
        if removed == Err(Errno::NOENT) {
            return Err(missing(&self.state.id));
        }
        removed.with_context(|| format!("cannot remove the state of \"{}\"", self.state.id))?;
        remove_rest(&self.dir)
    }

    /// Its specification, as it was created.
    pub fn spec(&self) -> anyhow::Result<Spec> {
        let path = self.dir.join(CONFIG);
        let bytes = match std::fs::read(&path) {
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                return Err(missing(&self.state.id));
            }
            bytes => bytes.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let spec = runtime_spec::parse(&bytes, &mut |_| {});
        spec.map_err(|mistake| anyhow!("cannot understand {}: {mistake}", path.display()))
    }

    /// Its control group, if it has one.
    pub fn group(&self) -> anyhow::Result<Option<Group>> {
        self.state.cgroup.group()
    }

    /// Its init, while that is there.
    pub fn init(&self) -> Option<(Process, OwnedFd)> {
        let init = self.state.init?;
        Some((init, init.open()?))
    }

    pub fn status(&self) -> anyhow::Result<Status> {
        let Some(init) = self.state.init else {
            return Ok(if self.state.creator.is_alive() {
                Status::Creating
            } else {
                Status::Stopped
            });
        };
        if !init.is_alive() {
            return Ok(Status::Stopped);
        }
        if gate::is_waiting(self.fd.as_fd())? {
            return Ok(Status::Created);
        }
        if let Some(group) = self.group()?
            && group.is_frozen()?
        {
            return Ok(Status::Paused);
        }
        Ok(Status::Running)
    }

    /// Whether its creator was killed before it was done.
    pub fn is_abandoned(&self) -> bool {
        self.state.init.is_none() && !self.state.creator.is_alive()
    }

    /// Init of a container that has one, whatever it does.
    pub fn live(&self) -> anyhow::Result<(Process, OwnedFd)> {
        // containerd and others look for these words.
        self.init()
            .ok_or_else(|| fail(Kind::WrongStatus, "container not running"))
    }
}
