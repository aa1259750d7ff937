//! Which devices the processes of a group may open and make: an eBPF program on the group.

mod compile;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;

use anyhow::Context;
use anyhow::Result;
use oci_spec::runtime::LinuxDeviceCgroup;
use oci_spec::runtime::LinuxDeviceType;
use rustix::io::Errno;

use crate::cgroup::Group;
use crate::error::Kind;
use crate::error::fail;
use crate::sys;
use crate::sys::bpf::DeviceProgram;
use crate::sys::limits;

/// By this name our program is known among those of others, of systemd for one.
const NAME: &str = "rbox_devices";

/// Linux: kinds of devices (BPF_DEVCG_DEV_*).
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Linux: ways of access (BPF_DEVCG_ACC_*).
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;

/// One rule, with what does not matter left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Rule {
    fn is_for_everything(&self) -> bool {
        let any = self.kind.is_none() && self.major.is_none() && self.minor.is_none();
        any && self.access == ALL
    }
}

/// What each container may have, whatever its rules say: runc adds these after those of a config.json. Making
/// nodes; null, zero, full, random, urandom, tty, ptmx and the terminals behind it, and tun.
const ALWAYS: [(u32, Option<u32>, Option<u32>, u32); 11] = [
    (CHARACTER, None, None, MAKE),
    (BLOCK, None, None, MAKE),
    (CHARACTER, Some(1), Some(3), ALL),
    (CHARACTER, Some(1), Some(5), ALL),
    (CHARACTER, Some(1), Some(7), ALL),
    (CHARACTER, Some(1), Some(8), ALL),
    (CHARACTER, Some(1), Some(9), ALL),
    (CHARACTER, Some(5), Some(0), ALL),
    (CHARACTER, Some(5), Some(2), ALL),
    (CHARACTER, Some(136), None, ALL),
    (CHARACTER, Some(10), Some(200), ALL),
];

/// Whether this process may restrict devices: eBPF programs of this kind are for the root of the machine, not for
/// that of a user namespace. There the rules do without: nobody can make device nodes in a user namespace, and
/// opening those of the machine takes the permissions of the user.
pub fn are_restrictable() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Restricts the group and all in it to the rules: nothing is allowed to begin with, later rules win, and what
/// each container needs (`ALWAYS`) is allowed in the end. A second call for the same group replaces the first.
///
/// Must: `are_restrictable()`; anything else is EPERM.
pub fn restrict(group: &Group, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let mut rules = check(rules)?;
    let all = |rule: &Rule| rule.allow && rule.is_for_everything();
    let context = || {
        format!(
            "cannot restrict devices for control group {:?}",
            group.path()
        )
    };
    if rules.last().is_some_and(all) {
        return release(group).with_context(context);
    }
    rules.extend(ALWAYS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }));
    attach(group, &rules).with_context(context)
}

/// Takes away what an earlier call attached.
fn release(group: &Group) -> Result<()> {
    for old in DeviceProgram::attached(group.as_fd(), NAME)? {
        old.detach(group.as_fd())?;
    }
    Ok(())
}

/// Whether the rules can be enforced: nothing is done yet.
pub fn validate(rules: &[LinuxDeviceCgroup]) -> Result<()> {
    check(rules).map(|_| ())
}

fn attach(group: &Group, rules: &[Rule]) -> Result<()> {
    let program = load(&compile::compile(rules))?;
    let old = DeviceProgram::attached(group.as_fd(), NAME)?;
    // Before the old one goes: meanwhile both must allow.
    program.attach(group.as_fd())?;
    for old in old {
        old.detach(group.as_fd())?;
    }
    Ok(())
}

fn load(instructions: &[sys::bpf::Instruction]) -> Result<DeviceProgram> {
    match DeviceProgram::load(instructions, NAME) {
        // Linux before 5.11: programs count as locked memory, of which 64 KiB are usual, for all of a user.
        Err(err) if err.errno == Errno::PERM => {
            let hard = limits::hard("RLIMIT_MEMLOCK")?;
            limits::set("RLIMIT_MEMLOCK", u64::MAX, u64::MAX).map_err(|_| err)?;
            let program = DeviceProgram::load(instructions, NAME);
            limits::set("RLIMIT_MEMLOCK", hard, hard)?;
            Ok(program?)
        }
        program => Ok(program?),
    }
}

fn check(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let checked = rules.iter().enumerate().map(|(index, rule)| {
        check_one(rule).map_err(|why| {
            fail(
                Kind::Usage,
                format!("linux.resources.devices[{index}].{why}"),
            )
        })
    });
    checked.collect()
}

fn check_one(rule: &LinuxDeviceCgroup) -> std::result::Result<Rule, String> {
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(BLOCK),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(CHARACTER),
        LinuxDeviceType::P => return Err("type \"p\": expected a, b or c".into()),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| {
            format!("{name} {value}: expected the number of a device, or -1 for each")
        }),
    };
    let (major, minor) = (
        number("major", rule.major())?,
        number("minor", rule.minor())?,
    );
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MAKE,
            _ => return Err(format!("access {letter:?}: expected some of r, w and m")),
        };
    }
    let all_devices = kind.is_none() && major.is_none() && minor.is_none();
    if access == 0 {
        if rule.allow() {
            return Err("access: expected some of r, w and m".into());
        }
        access = ALL;
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major,
        minor,
        // As in version 1: a rule for all devices is for all ways of access.
        access: if all_devices { ALL } else { access },
    })
}
