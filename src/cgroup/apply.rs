//! Writes settings to a group, and says why where that fails.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::io::Errno;

use crate::cgroup::Group;
use crate::cgroup::Setting;
use crate::cgroup::Settings;
use crate::cgroup::UNIFY;
use crate::cgroup::delegation;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

impl Group {
    /// Writes the settings. A controller that the group does not have is an error that says why, with the
    /// commands that delegate it; a value that the kernel refuses is one with the file and the value.
    pub fn apply(&self, settings: &Settings) -> Result<()> {
        self.check_memory(settings)?;
        let mut refused = Vec::new();
        for setting in &settings.list {
            match self.set(setting)? {
                Ok(()) => {}
                // Some values fit only once another is written: cpu.max.burst is at most the quota of cpu.max.
                Err(Errno::INVAL) => refused.push(setting),
                Err(errno) => return Err(self.refusal(setting, errno)),
            }
        }
        for setting in refused {
            self.set(setting)?
                .map_err(|errno| self.refusal(setting, errno))?;
        }
        Ok(())
    }

    /// Writes one; the inner error is what the kernel says of the value.
    fn set(&self, setting: &Setting) -> Result<rustix::io::Result<()>> {
        let tried = self.try_set(setting);
        if !matches!(tried, Err(Errno::NOENT)) {
            return Ok(tried);
        }
        if setting.optional {
            return Ok(Ok(()));
        }
        self.obtain(setting.controller())
            .with_context(|| format!("cannot set {}", setting.file))?;
        match self.try_set(setting) {
            Err(Errno::NOENT) => Err(fail(
                Kind::Unsupported,
                format!(
                    "cannot set {0}: this kernel does not have {0}",
                    setting.file
                ),
            )),
            tried => Ok(tried),
        }
    }

    fn try_set(&self, setting: &Setting) -> rustix::io::Result<()> {
        match (self.write(&setting.file, &setting.value), &setting.instead) {
            (Err(Errno::NOENT), Some((file, value))) => self.write(file, value),
            (written, _) => written,
        }
    }

    fn refusal(&self, setting: &Setting, errno: Errno) -> anyhow::Error {
        let Setting { file, value, .. } = setting;
        anyhow::Error::new(std::io::Error::from(errno)).context(format!(
            "cannot write {value:?} to {file} of control group {:?}",
            self.path()
        ))
    }

    pub(super) fn check_memory(&self, settings: &Settings) -> Result<()> {
        let Some(limit) = settings.checked_memory else {
            return Ok(());
        };
        let used = self.read("memory.current").unwrap_or_default();
        let used = used.trim().parse().unwrap_or(0);
        if used <= limit {
            return Ok(());
        }
        Err(fail(
            Kind::Conflict,
            format!("cannot set memory.max: {used} bytes are in use, more than {limit}"),
        ))
    }

    /// Enables a controller that is missing here from where it is on; why that cannot be, otherwise.
    fn obtain(&self, controller: &str) -> Result<()> {
        let mut below = vec![self.path()];
        // The paths above the mount are no groups: `open` fails there.
        for path in self.path().ancestors().skip(1) {
            let Ok(Some(above)) = Group::open(path) else {
                break;
            };
            if above.has(controller) {
                return enable_down(&above, &below, controller);
            }
            below.push(path);
        }
        if self.has(controller) {
            return Ok(());
        }
        Err(absent(controller))
    }

    fn has(&self, controller: &str) -> bool {
        let names = self.controllers().unwrap_or_default();
        names.iter().any(|name| name == controller)
    }
}

/// Enables a controller in a group and those of `below` (the lowest first) but the lowest.
fn enable_down(top: &Group, below: &[&Path], controller: &str) -> Result<()> {
    let enable = |group: &Group| match group.enable(controller) {
        Err(err) if is_denied(&err) => Err(undelegated(controller)),
        enabled => enabled,
    };
    enable(top)?;
    for path in below.iter().skip(1).rev() {
        if let Some(group) = Group::open(path)? {
            enable(&group)?;
        }
    }
    Ok(())
}

fn is_denied(err: &anyhow::Error) -> bool {
    let errno = err.root_cause().downcast_ref::<Errno>();
    errno.is_some_and(|errno| matches!(*errno, Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Of a controller that is not this user's to enable.
fn undelegated(controller: &str) -> anyhow::Error {
    let err = fail(
        Kind::Unsupported,
        format!("the controller \"{controller}\" is not delegated to this user"),
    );
    if systemd_runs() {
        err.hint(format!(
            "delegate it with `{}`",
            delegation(Some(controller))
        ))
    } else {
        err
    }
}

/// Of a controller that no group above has either.
pub(super) fn absent(controller: &str) -> anyhow::Error {
    let table = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let in_v1 = is_in_v1(&table, controller);
    let why = if in_v1 {
        "belongs to version 1 of control groups on this machine"
    } else {
        "is not there: this kernel does not have it, or who made the group above keeps it"
    };
    let err = fail(
        Kind::Unsupported,
        format!("the controller \"{controller}\" {why}"),
    );
    if in_v1 && systemd_runs() {
        err.hint(format!("switch this machine to version 2 with `{UNIFY}`"))
    } else {
        err
    }
}

/// `/proc/cgroups`: name, number of the hierarchy of version 1 (0 is none), and more.
fn is_in_v1(table: &str, controller: &str) -> bool {
    let name = match controller {
        "io" => "blkio",
        name => name,
    };
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(name) && words.next().is_some_and(|hierarchy| hierarchy != "0")
    })
}

/// Whether systemd is this machine's init (sd_booted(3)).
fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_version_1_are_known() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nblkio\t7\t1\t1\nhugetlb\t0\t1\t1\n";
        assert!(is_in_v1(table, "cpuset"));
        assert!(is_in_v1(table, "io"));
        assert!(!is_in_v1(table, "hugetlb"));
        assert!(!is_in_v1(table, "memory"));
    }
}
