//! The group of a container of the OCI runtime: from `linux.cgroupsPath`, `--systemd-cgroup` and what this
//! machine has.
//!
//! ```text
//! let plan = place::plan(&wish)?;           // before anything is made: bad paths, limits that cannot be met
//! let group = plan.make()?;                 // cgroupfs: made, limited, devices restricted: CLONE_INTO_CGROUP
//! let group = plan.enter(pid)?;             // where that gave none: made around the process, then the same
//! ```
//!
//! Where there is no tree of version 2, or nothing in it is ours, containers run without a group; only who asked
//! for a limit is told why that cannot be. Rules for devices are no limits: they are enforced where the kernel lets
//! us (`devices`), and left out, with a warning, on a machine that has version 1 alone.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Group;
use crate::cgroup::Hierarchy;
use crate::cgroup::Settings;
use crate::cgroup::Version;
use crate::cgroup::apply::absent;
use crate::cgroup::devices;
use crate::cgroup::hierarchy::is_writable;
use crate::cgroup::settings;
use crate::cgroup::systemd;
use crate::cgroup::systemd::Bus;
use crate::cgroup::systemd::Property;
use crate::cgroup::systemd::Scope;
use crate::cgroup::systemd::Value;
use crate::error::Kind;
use crate::error::fail;

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
    /// There is none; why, if somebody might wonder.
    Without { why: Option<String> },
    /// A directory below the mount of the tree, to be made before the process.
    Directory { path: PathBuf, limits: Limits },
    /// A scope of systemd, made around the process.
    Scope {
        bus: Bus,
        unit: String,
        slice: String,
        description: String,
        limits: Limits,
    },
}

/// What the group is for.
#[derive(Clone, Debug)]
pub struct Limits {
    resources: LinuxResources,
    settings: Settings,
}

/// What the state file keeps of it, for kill, pause, update, events and delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The directory of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The unit, where systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// It is a unit of the user's systemd.
    #[serde(default)]
    pub user: bool,
}

/// Decides; nothing is made yet. Limits that cannot be met are an error that says why.
pub fn plan(wish: &Wish<'_>) -> Result<Plan> {
    let resources = wish.resources.cloned().unwrap_or_default();
    let settings = settings(&resources)?;
    devices::validate(resources.devices().as_deref().unwrap_or_default())?;
    let hierarchy = Hierarchy::detect();
    if let Some(mount) = &hierarchy.mount {
        check_controllers(mount, &settings)?;
    }
    let limits = Limits {
        resources,
        settings,
    };
    if wish.systemd {
        return scope(wish, limits);
    }
    let Some(mount) = &hierarchy.mount else {
        let why = match hierarchy.version {
            Version::V1 => "this machine has control groups of version 1 alone",
            _ => "no control groups are mounted",
        };
        return without(&limits, why.into());
    };
    directory(wish, limits, mount, hierarchy.own())
}

/// A controller that the root of the tree does not have will not be found below.
fn check_controllers(mount: &Path, settings: &Settings) -> Result<()> {
    let root = Group::open(mount)?.context("the mount of control groups is gone")?;
    let there = root.controllers()?;
    let missing = |name: &str| !there.iter().any(|there| there == name) && name != "cgroup";
    let mut needed = settings.list.iter().filter(|setting| !setting.optional);
    match needed.find(|setting| missing(setting.controller())) {
        Some(setting) => Err(absent(setting.controller()))
            .with_context(|| format!("cannot set {}", setting.file)),
        None => Ok(()),
    }
}

fn without(limits: &Limits, why: String) -> Result<Plan> {
    match limits
        .settings
        .list
        .iter()
        .find(|setting| !setting.optional)
    {
        Some(setting) => Err(fail(
            Kind::Unsupported,
            format!("cannot set {}: {why}", setting.file),
        )),
        None => Ok(Plan::Without { why: Some(why) }),
    }
}

/// As runc has it: a path from the root of the tree, or else one below our own group; without any, a group that is
/// called as the container and the process that makes it.
fn directory(wish: &Wish<'_>, limits: Limits, mount: &Path, own: Option<PathBuf>) -> Result<Plan> {
    let asked = wish.path.filter(|path| !path.as_os_str().is_empty());
    // Another `--root` may have a container of this id.
    let unnamed = PathBuf::from(format!("{}-{}", wish.id, std::process::id()));
    let path = asked.unwrap_or(&unnamed);
    let base = if path.is_absolute() {
        Some(mount.to_owned())
    } else {
        own
    };
    let Some(base) = base else {
        return without(&limits, "our own control group is out of sight".into());
    };
    let below = cleaned(path);
    if below.as_os_str().is_empty() {
        return Err(fail(
            Kind::Usage,
            format!("linux.cgroupsPath {path:?}: expected a group below the root"),
        ));
    }
    let path = base.join(below);
    let mut above = path.ancestors();
    let existing = above.find(|path| path.is_dir()).unwrap_or(mount);
    if is_writable(existing) {
        return Ok(Plan::Directory { path, limits });
    }
    let place = existing.display();
    without(
        &limits,
        format!("control group {place} is not ours to write to"),
    )
}

/// The path without `.` and `..`, from whatever root.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// `SLICE:PREFIX:NAME`, as runc has it.
fn scope(wish: &Wish<'_>, limits: Limits) -> Result<Plan> {
    let bus = Bus::of_caller();
    let default = match bus {
        Bus::System => "system.slice",
        Bus::User => "user.slice",
    };
    let path = wish.path.map(Path::to_string_lossy).unwrap_or_default();
    let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
        [""] => ("", "rbox", wish.id),
        [slice, prefix, name] if !name.is_empty() => (slice, prefix, name),
        _ => {
            return Err(fail(
                Kind::Usage,
                format!(
                    "linux.cgroupsPath {path:?}: expected SLICE:PREFIX:NAME for --systemd-cgroup"
                ),
            ));
        }
    };
    let slice = if slice.is_empty() { default } else { slice };
    systemd::expand(slice)?;
    let name = match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}-{name}"),
    };
    Ok(Plan::Scope {
        bus,
        unit: format!("{}.scope", systemd::escape(&name)),
        slice: slice.to_owned(),
        description: format!("container {}", wish.id),
        limits,
    })
}

impl Limits {
    /// Before the process does anything.
    fn impose(&self, group: &Group) -> Result<()> {
        group.apply(&self.settings)?;
        if devices::are_restrictable() {
            let rules = self.resources.devices().as_deref();
            devices::restrict(group, rules.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Linux: nothing can be cloned into a group with this limit, only be moved there.
    fn forbids_clone(&self) -> bool {
        self.settings.value("pids.max") == Some("0")
    }
}

impl Plan {
    /// Makes the group of `Plan::Directory`, limits it and restricts its devices. None where `enter` does it.
    pub fn make(&self) -> Result<Option<Group>> {
        match self {
            Plan::Directory { path, limits } if !limits.forbids_clone() => {
                let group = Group::create(path)?;
                limits.impose(&group)?;
                Ok(Some(group))
            }
            _ => Ok(None),
        }
    }

    /// Makes the group around the process where `make` did not, and limits it.
    pub fn enter(&self, pid: Pid) -> Result<Option<Group>> {
        match self {
            Plan::Without { .. } => Ok(None),
            Plan::Directory { path, limits } => {
                let group = Group::create(path)?;
                group.add(pid)?;
                limits.impose(&group)?;
                Ok(Some(group))
            }
            Plan::Scope {
                bus,
                unit,
                slice,
                description,
                limits,
            } => {
                let mut properties = systemd::properties(&limits.settings);
                properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
                let path = systemd::start_scope(&Scope {
                    bus: *bus,
                    unit: unit.clone(),
                    slice: slice.clone(),
                    pids: vec![pid],
                    description: description.clone(),
                    delegate: true,
                    properties,
                })?;
                let group = Group::open(&path)?
                    .with_context(|| format!("systemd made no control group {path:?}"))?;
                limits.impose(&group)?;
                Ok(Some(group))
            }
        }
    }

    /// What to keep of it: before it is made, so that a crash leaves nothing unknown, and once the group is there.
    pub fn placed(&self, group: Option<&Group>) -> Placed {
        let path = group.map(|group| group.path().to_owned());
        match self {
            Plan::Without { .. } => Placed::default(),
            Plan::Directory { path, .. } => Placed {
                path: Some(path.clone()),
                ..Placed::default()
            },
            Plan::Scope { bus, unit, .. } => Placed {
                path,
                unit: Some(unit.clone()),
                user: *bus == Bus::User,
            },
        }
    }

    /// What was asked for and is not done, for the log.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Plan::Without { why: Some(why) } if devices::are_restrictable() => {
                vec![format!("the use of devices is not restricted: {why}")]
            }
            _ => Vec::new(),
        }
    }
}

impl Placed {
    /// The group, if it is still there.
    pub fn group(&self) -> Result<Option<Group>> {
        self.path.as_deref().map_or(Ok(None), Group::open)
    }

    fn bus(&self) -> Bus {
        if self.user { Bus::User } else { Bus::System }
    }

    /// New limits (`rbox oci update`): all of them, not only what changes.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let limits = Limits {
            settings: settings(resources)?,
            resources: resources.clone(),
        };
        let Some(group) = self.group()? else {
            return without(&limits, "the container has no control group".into()).map(|_| ());
        };
        group.check_memory(&limits.settings)?;
        if let Some(unit) = &self.unit {
            systemd::set_properties(self.bus(), unit, &systemd::properties(&limits.settings))?;
        }
        limits.impose(&group)
    }

    /// Stops the unit and removes the group, which must be without processes; gone already is fine.
    pub fn remove(&self) -> Result<()> {
        if let Some(unit) = &self.unit {
            systemd::stop(self.bus(), unit)?;
        }
        match self.group()? {
            Some(group) => group.remove(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    fn wish(path: &str, systemd: bool) -> Result<Plan> {
        plan(&Wish {
            id: "c1",
            path: Some(Path::new(path)),
            systemd,
            resources: None,
        })
    }

    #[test]
    fn scopes_are_named_by_slice_prefix_and_name() {
        let default = match Bus::of_caller() {
            Bus::System => "system.slice",
            Bus::User => "user.slice",
        };
        for (path, unit, slice) in [
            ("", "rbox-c1.scope", default),
            (":libpod:abc", "libpod-abc.scope", default),
            ("a-b.slice::x", "x.scope", "a-b.slice"),
            (
                "machine.slice:docker:a+b",
                "docker-a\\x2bb.scope",
                "machine.slice",
            ),
        ] {
            let Plan::Scope {
                unit: made,
                slice: below,
                ..
            } = wish(path, true).unwrap()
            else {
                panic!("{path}: no scope");
            };
            assert_eq!((made.as_str(), below.as_str()), (unit, slice), "{path}");
        }
        for bad in ["/docker/abc", "a:b", "a:b:", "a:b:c:d"] {
            assert_eq!(
                error::message(&wish(bad, true).unwrap_err()),
                format!(
                    "linux.cgroupsPath {bad:?}: expected SLICE:PREFIX:NAME for --systemd-cgroup"
                )
            );
        }
    }

    #[test]
    fn paths_stay_below_the_root() {
        for (path, clean) in [
            ("/a/b", "a/b"),
            ("a/./b/", "a/b"),
            ("/../../a/../b", "b"),
            ("..", ""),
            ("/", ""),
        ] {
            assert_eq!(cleaned(Path::new(path)), Path::new(clean));
        }
        if Hierarchy::detect().mount.is_some() {
            assert_eq!(
                error::message(&wish("/..", false).unwrap_err()),
                "linux.cgroupsPath \"/..\": expected a group below the root"
            );
        }
    }
}
