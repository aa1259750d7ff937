//! The group of a container of the OCI runtime: from `linux.cgroupsPath`, `--systemd-cgroup` and what this
//! machine has.
//!
//! ```text
//! let plan = place::plan(&wish)?;           // before anything is made: bad paths, limits that cannot be met
//! let group = plan.make()?;                 // cgroupfs: made, limited, devices restricted: CLONE_INTO_CGROUP
//! let group = plan.enter(pid)?;             // systemd: a scope with the process in it, then the same
//! ```

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Group;
use crate::cgroup::systemd::Bus;

/// What the caller of the runtime asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub path: Option<&'a Path>,
    /// `--systemd-cgroup`.
    pub systemd: bool,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
}

/// Where the group will be.
#[derive(Clone, Debug)]
pub enum Plan {
    /// There is none: no tree, or nothing in it is ours, and nobody asked for a limit.
    Without,
    /// A directory below the mount of the tree, to be made before the process.
    Directory {
        path: PathBuf,
        resources: Option<LinuxResources>,
    },
    /// A scope of systemd, made around the process.
    Scope {
        bus: Bus,
        unit: String,
        slice: String,
        id: String,
        resources: Option<LinuxResources>,
    },
}

/// What the state file keeps of it, for kill, pause, update, events and delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The directory of the group.
    pub path: Option<PathBuf>,
    /// The unit, where systemd made it, and whether it is a unit of the user's systemd.
    pub unit: Option<String>,
    pub user: bool,
}

/// Decides; nothing is made yet. Limits that cannot be met are an error that says why.
pub fn plan(_wish: &Wish<'_>) -> Result<Plan> {
    Ok(Plan::Without)
}

impl Plan {
    /// Makes the group of `Plan::Directory`, limits it and restricts its devices; none for the others.
    pub fn make(&self) -> Result<Option<Group>> {
        Ok(None)
    }

    /// Makes the scope of `Plan::Scope` around the process and limits it; none for the others.
    pub fn enter(&self, _pid: Pid) -> Result<Option<Group>> {
        Ok(None)
    }

    /// What to keep of it, once the group is there.
    pub fn placed(&self, _group: Option<&Group>) -> Placed {
        Placed::default()
    }

    /// What was asked for and is not done, for the log: device rules where they cannot be enforced.
    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Placed {
    /// The group, if it is still there.
    pub fn group(&self) -> Result<Option<Group>> {
        self.path.as_deref().map_or(Ok(None), Group::open)
    }

    /// New limits (`rbox oci update`): all of them, not only what changes.
    pub fn update(&self, _resources: &LinuxResources) -> Result<()> {
        Ok(())
    }

    /// Stops the unit and removes the group, which must be without processes; gone already is fine.
    pub fn remove(&self) -> Result<()> {
        Ok(())
    }
}
