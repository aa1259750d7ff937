//! The control group of a container, and its own beside it.
//!
//! ```text
//! rbox-ID.scope/   made by systemd, delegated        rbox-ID/   made by us: the container alone
//!     container/   its processes and limits
//!     supervisor/  this process
//! ```
//!
//! systemd is asked while init makes its mounts; a group that we make ourselves is there before init, which is
//! born into it. Linux: moving a process waits for all others that are in fork or exec, for milliseconds.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use oci_spec::runtime::LinuxDeviceCgroup;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::cgroup::Group;
use crate::cgroup::Settings;
use crate::cgroup::devices;
use crate::cgroup::systemd;
use crate::cgroup::systemd::Bus;
use crate::cgroup::systemd::Scope;
use crate::container::status::Limited;

/// What is to be made.
pub struct Plan {
    pub place: Option<Place>,
    pub settings: Settings,
    /// Without it the container must not run.
    pub needed: bool,
    /// The supervisor goes along.
    pub supervisor: bool,
    pub devices: Vec<LinuxDeviceCgroup>,
}

pub enum Place {
    Directory(PathBuf),
    /// Two in a group that is ours, in which no process may be left.
    Split {
        container: PathBuf,
        supervisor: PathBuf,
    },
    Scope {
        bus: Bus,
        unit: String,
        slice: String,
        description: String,
    },
}

/// The group of a start. It goes again, unless the container comes to be.
pub struct Maker<'a> {
    plan: &'a Plan,
    /// Where it was for the run before, below what this process is in since then.
    again: Option<&'a Path>,
    made: RefCell<Option<Group>>,
}

impl Maker<'_> {
    /// Makes it, unless it is made around init.
    pub fn new<'a>(plan: &'a Plan, before: Option<&'a Path>) -> anyhow::Result<Maker<'a>> {
        let stays = match &plan.place {
            None => false,
            // A scope without a process is gone.
            Some(Place::Scope { .. }) => plan.supervisor,
            Some(Place::Directory(_) | Place::Split { .. }) => true,
        };
        let again = before.filter(|_| stays);
        let made = match directory(plan, again) {
            Err(_) if !plan.needed => None,
            made => made?,
        };
        Ok(Maker {
            plan,
            again,
            made: RefCell::new(made),
        })
    }

    /// For a process that is born into it.
    pub fn descriptor(&self) -> anyhow::Result<Option<OwnedFd>> {
        let made = self.made.borrow();
        let fd = made
            .as_ref()
            .map(|group| group.as_fd().try_clone_to_owned());
        Ok(fd.transpose()?)
    }

    /// Whether `place` is to be called.
    pub fn is_scope(&self) -> bool {
        self.again.is_none() && matches!(self.plan.place, Some(Place::Scope { .. }))
    }

    /// Takes the container's first process, before it goes on.
    pub fn place(&self, pid: Pid) -> anyhow::Result<()> {
        let mut made = self.made.borrow_mut();
        if let Some(group) = made.as_ref() {
            // The first attempt to make the container has failed.
            return group.add(pid);
        }
        match scope(self.plan, pid) {
            Err(err) if self.plan.needed => Err(err),
            Err(_) => Ok(()),
            Ok(group) => {
                *made = group;
                Ok(())
            }
        }
    }

    /// The container runs.
    pub fn finish(self) -> Option<Watched> {
        self.made.take().map(Watched::new)
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.made.take() {
            group.kill().ok();
            group.remove().ok();
        }
    }
}

fn directory(plan: &Plan, again: Option<&Path>) -> anyhow::Result<Option<Group>> {
    let group = match (&plan.place, again) {
        (_, Some(path)) => Group::create(path)?,
        (None | Some(Place::Scope { .. }), None) => return Ok(None),
        (Some(Place::Directory(path)), None) => Group::create(path)?,
        (
            Some(Place::Split {
                container,
                supervisor,
            }),
            None,
        ) => split(container, supervisor)?,
    };
    match limit(&group, plan) {
        Ok(()) => Ok(Some(group)),
        Err(err) => {
            group.remove().ok();
            Err(err)
        }
    }
}

fn split(container: &Path, supervisor: &Path) -> anyhow::Result<Group> {
    let ours = Group::create(supervisor)?;
    ours.add(rustix::process::getpid())?;
    // The command that started us and stays is the unit's first process.
    if let Some(parent) = rustix::process::getppid() {
        ours.add(parent).ok();
    }
    Group::create(container)
}

fn limit(group: &Group, plan: &Plan) -> anyhow::Result<()> {
    group.apply(&plan.settings)?;
    if !plan.devices.is_empty() && devices::are_restrictable() {
        devices::restrict(group, &plan.devices)?;
    }
    Ok(())
}

fn scope(plan: &Plan, pid: Pid) -> anyhow::Result<Option<Group>> {
    let Some(Place::Scope {
        bus,
        unit,
        slice,
        description,
    }) = &plan.place
    else {
        return Ok(None);
    };
    let own = rustix::process::getpid();
    let mut pids = vec![pid];
    if plan.supervisor {
        pids.push(own);
    }
    let path = systemd::start_scope(&Scope {
        bus: *bus,
        unit: unit.clone(),
        slice: slice.clone(),
        pids,
        description: description.clone(),
        delegate: true,
        properties: vec![],
    })?;
    let above = Group::open(&path)?.context("the scope has no group")?;
    let container = leaf(&above, "container")?;
    container.add(pid)?;
    if plan.supervisor {
        leaf(&above, "supervisor")?.add(own)?;
    }
    above.enable_all().ok();
    limit(&container, plan)?;
    Ok(Some(container))
}

/// A group without controllers yet. Linux: while processes are above it, enabling one would make both threaded,
/// in which there is no memory controller (cgroups(7), "thread mode").
fn leaf(above: &Group, name: &str) -> anyhow::Result<Group> {
    let path = above.path().join(name);
    std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Group::open(&path)?.context("the group is gone again")
}

/// The group of a container that runs.
pub struct Watched {
    group: Group,
    events: Option<OwnedFd>,
    oom_kills: u64,
}

impl Watched {
    pub fn new(group: Group) -> Watched {
        Watched {
            events: rustix::fs::openat(
                group.as_fd(),
                "memory.events",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .ok(),
            group,
            oom_kills: 0,
        }
    }

    pub fn path(&self) -> &Path {
        self.group.path()
    }

    /// Ready with POLLPRI when the kernel has counted something.
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// How many processes were killed for want of memory since the last call.
    pub fn new_kills(&mut self) -> u64 {
        if let Some(events) = &self.events {
            // Linux: a descriptor of such a file is ready until it is read (kernfs).
            rustix::io::pread(events, &mut [0; 256], 0).ok();
        }
        let counts = self.group.counts();
        let new = counts.oom_kill.saturating_sub(self.oom_kills);
        self.oom_kills = counts.oom_kill;
        new
    }

    pub fn counts(&self) -> Limited {
        counted(&self.group)
    }

    /// Kills what is left in it.
    pub fn end(&self) {
        self.group.kill().ok();
    }

    pub fn remove(self) {
        self.group.remove().ok();
    }
}

/// How often the limits of a group were met.
pub fn counted(group: &Group) -> Limited {
    let counts = group.counts();
    Limited {
        oom_kills: counts.oom_kill,
        pids_refused: counts.pids_max,
        throttled_periods: counts.throttled_periods,
        throttled_microseconds: counts.throttled_usec,
    }
}
