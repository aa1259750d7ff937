//! Control groups: which version, and which controllers this user may use for containers.

use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use super::Finding;
use super::read;
use super::systemd_runs;

const NAME: &str = "cgroups";

/// What resource limits need.
const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

const DELEGATE: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && \
    printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
    sudo tee /etc/systemd/system/user@.service.d/delegate.conf && \
    sudo systemctl daemon-reload";

const UNIFY: &str = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' \
    /etc/default/grub && sudo update-grub && sudo reboot";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V2,
    /// v1 controllers beside a v2 tree.
    Hybrid,
    V1,
    None,
}

/// What there is for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    pub version: Version,
    /// Controllers that may be given to groups made by this user.
    pub delegated: Vec<String>,
}

impl Cgroups {
    pub fn detect() -> Cgroups {
        let mounts = read("/proc/self/mountinfo").unwrap_or_default();
        let (version, mount) = version_of(&mounts);
        let delegated = match mount {
            Some(mount) => delegated(&mount, &read("/proc/self/cgroup").unwrap_or_default()),
            None => Vec::new(),
        };
        Cgroups { version, delegated }
    }
}

/// The version, and where the v2 tree is mounted (proc(5), mountinfo).
fn version_of(mountinfo: &str) -> (Version, Option<PathBuf>) {
    let mut v1 = false;
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else {
            continue;
        };
        match kind.split(' ').next() {
            Some("cgroup") => v1 = true,
            Some("cgroup2") => v2 = v2.or(place.split(' ').nth(4).map(PathBuf::from)),
            _ => {}
        }
    }
    let version = match (v1, &v2) {
        (false, Some(_)) => Version::V2,
        (true, Some(_)) => Version::Hybrid,
        (true, None) => Version::V1,
        (false, None) => Version::None,
    };
    (version, v2)
}

/// Controllers of the group of this process, if it may make groups in it, or else of the
/// user's systemd manager, which makes groups on request.
fn delegated(mount: &Path, own: &str) -> Vec<String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let uid = rustix::process::geteuid().as_raw();
    let manager = format!("user.slice/user-{uid}.slice/user@{uid}.service");
    let groups = [mount.join(path.unwrap_or("")), mount.join(manager)];
    let writable = |path: PathBuf| {
        // W_OK for the real ids, which are the effective ones: rbox is not set-uid.
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
    };
    let group = groups
        .iter()
        .find(|group| writable(group.join("cgroup.subtree_control")));
    let names = group.and_then(|group| read(group.join("cgroup.controllers")));
    let names = names.unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn finding() -> Finding {
    judge(&Cgroups::detect(), systemd_runs())
}

fn judge(cgroups: &Cgroups, systemd: bool) -> Finding {
    let version = match cgroups.version {
        Version::V2 => "version 2",
        Version::Hybrid => "hybrid (version 1 beside version 2)",
        Version::V1 => "version 1",
        Version::None => {
            return Finding::warn(NAME, "not mounted: no resource limits", None);
        }
    };
    let missing: Vec<&str> = WANTED
        .into_iter()
        .filter(|wanted| !cgroups.delegated.iter().any(|name| name == wanted))
        .collect();
    if missing.is_empty() {
        return Finding::ok(NAME, format!("{version} with {}", WANTED.join(", ")));
    }
    let what = format!(
        "{version}, no {} for this user: such limits cannot be set",
        missing.join(", ")
    );
    let fix = match cgroups.version {
        _ if !systemd => None,
        Version::V2 => Some(DELEGATE),
        _ => Some(UNIFY),
    };
    Finding::warn(NAME, what, fix.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::State;

    #[test]
    fn versions_are_told_from_the_mounts() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let v2 = "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let other = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let version = |parts: &[&str]| version_of(&parts.concat());
        let at = Some(PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(version(&[other, v2]), (Version::V2, at.clone()));
        assert_eq!(version(&[v1, other, v2]), (Version::Hybrid, at));
        assert_eq!(version(&[v1]), (Version::V1, None));
        assert_eq!(version(&[other, "junk"]), (Version::None, None));
    }

    #[test]
    fn missing_controllers_come_with_the_drop_in() {
        let cgroups = |version, names: &[&str]| Cgroups {
            version,
            delegated: names.iter().map(ToString::to_string).collect(),
        };
        let finding = judge(&cgroups(Version::V2, &["memory", "pids"]), true);
        assert_eq!(finding.state, State::Warn);
        let what = "version 2, no cpu, cpuset, io for this user: such limits cannot be set";
        assert_eq!(finding.what, what);
        let fix = finding.fix.unwrap();
        assert!(fix.contains("user@.service.d/delegate.conf"), "{fix}");
        assert!(fix.contains("Delegate=cpu cpuset io memory pids"), "{fix}");
        assert_eq!(judge(&cgroups(Version::V2, &WANTED), true).state, State::Ok);
        assert_eq!(judge(&cgroups(Version::V1, &[]), false).fix, None);
    }
}
