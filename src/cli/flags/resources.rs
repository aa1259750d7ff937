//! Flags that say what a container may use of the machine, and in which control group.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::cli::flags::limits::HEADING;
use crate::cli::flags::limits::LimitFlags;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::DeviceRule;
use crate::container::config::resources::Resources;
use crate::error::Kind;
use crate::error::fail;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = HEADING)]
pub struct ResourceFlags {
    /// Write a file of the control group, as memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE", value_parser = conf)]
    cgroup_conf: Vec<(String, String)>,

    /// Make the control group below this one: a slice of systemd, or a path
    #[arg(long, value_name = "GROUP", value_parser = parent)]
    cgroup_parent: Option<PathBuf>,

    /// Which control groups are made: enabled, disabled, no-conmon (none for the supervisor), or split
    /// (below the group that rbox is in)
    #[arg(long, value_name = "MODE", default_value = "enabled", value_parser = cgroups)]
    cgroups: Cgroups,

    /// Let the container use devices: its kind, numbers and rights, as c 10:* rwm; with --userns host
    #[arg(long, value_name = "RULE", value_parser = device_rule)]
    device_cgroup_rule: Vec<DeviceRule>,

    #[command(flatten)]
    limits: LimitFlags,

    /// Refused: version 2 of control groups cannot do without the kill
    #[arg(long, hide = true)]
    oom_kill_disable: bool,
}

impl ResourceFlags {
    pub fn into_resources(self) -> anyhow::Result<Resources> {
        if self.oom_kill_disable {
            let text = "--oom-kill-disable is not possible: cgroup v2 always kills where memory is out; --oom-score-adj makes other processes go first";
            return Err(fail(Kind::Unsupported, text));
        }
        let mut conf = BTreeMap::new();
        for (file, value) in self.cgroup_conf {
            conf.insert(file, value);
        }
        Ok(Resources {
            limits: self.limits.into_limits()?,
            cgroups: self.cgroups,
            parent: self
                .cgroup_parent
                .filter(|parent| !parent.as_os_str().is_empty()),
            conf,
            device_rules: self.device_cgroup_rule,
        })
    }
}

fn cgroups(text: &str) -> Result<Cgroups, String> {
    match text {
        "enabled" => Ok(Cgroups::Enabled),
        "disabled" => Ok(Cgroups::Disabled),
        "no-conmon" => Ok(Cgroups::NoConmon),
        "split" => Ok(Cgroups::Split),
        _ => Err("expected enabled, disabled, no-conmon or split".into()),
    }
}

/// `memory.high=1g`: one file of the group itself.
fn conf(text: &str) -> Result<(String, String), String> {
    const EXPECTED: &str = "expected a file of the group and its value, as memory.high=1073741824";
    let (file, value) = text.split_once('=').ok_or(EXPECTED)?;
    let (controller, name) = file.split_once('.').ok_or(EXPECTED)?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if controller.is_empty() || name.is_empty() || !file.bytes().all(word) || value.contains('\0') {
        return Err(EXPECTED.into());
    }
    // Linux: these say who is in the group and what its children are, not what it may use.
    if controller == "cgroup" {
        return Err("expected a file of a controller, not of the group itself".into());
    }
    Ok((file.to_owned(), value.to_owned()))
}

fn parent(text: &str) -> Result<PathBuf, String> {
    const EXPECTED: &str =
        "expected a slice such as user-web.slice, or a path with no `.` and `..` in it";
    let odd = |part: &str| part == ".." || part == "." || part.contains('\0');
    if text.split('/').any(odd) {
        return Err(EXPECTED.into());
    }
    if let (Some(name), false) = (text.strip_suffix(".slice"), text.contains('/')) {
        // systemd.slice(5): the dashes name the slices above it.
        if name != "-" && (name.starts_with('-') || name.ends_with('-') || name.contains("--")) {
            return Err(EXPECTED.into());
        }
    }
    Ok(text.into())
}

/// `c 10:200 rwm`.
fn device_rule(text: &str) -> Result<DeviceRule, String> {
    let rule = DeviceRule::parse(text);
    rule.ok_or("expected a kind (a, b or c), numbers and rights, as c 10:* rwm".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_devices_are_read() {
        let rule = device_rule("c 10:* rwm").unwrap();
        assert_eq!(rule.text(), "c 10:* rwm");
        assert_eq!((rule.major, rule.minor), (Some(10), None));
        for wrong in [
            "",
            "c 10:*",
            "d 1:1 r",
            "c 1 r",
            "c 1:1 x",
            "c 1:1 ",
            "c -1:1 r",
            "c 1:1 r w",
        ] {
            assert!(device_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_and_parents_stay_in_their_place() {
        assert_eq!(
            conf("memory.high=1"),
            Ok(("memory.high".into(), "1".into()))
        );
        for wrong in [
            "memory",
            "memory.high",
            "../x.y=1",
            "a/b.c=1",
            ".x=1",
            "cgroup.procs=1",
        ] {
            assert!(conf(wrong).is_err(), "{wrong}");
        }
        for right in ["a.slice", "/a/b", "a", "user-web.slice", "-.slice"] {
            assert!(parent(right).is_ok(), "{right}");
        }
        for wrong in ["../a", "a/../b", "a--b.slice", "-a.slice", "./a"] {
            assert!(parent(wrong).is_err(), "{wrong}");
        }
    }
}
