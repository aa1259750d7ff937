//! Which version of control groups this machine has, where the tree of version 2 is mounted, and what of it
//! belongs to this user.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Access;
use serde::Serialize;

use crate::sys::idmap;

/// The controllers that resource limits need.
pub const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The commands that give this machine version 2 alone.
pub const UNIFY: &str = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' \
    /etc/default/grub && sudo update-grub && sudo reboot";

/// The commands that delegate the wanted controllers, and `also`, to the users of this machine.
pub fn delegation(also: Option<&str>) -> String {
    let mut names = WANTED.to_vec();
    names.extend(also.filter(|also| !WANTED.contains(also)));
    format!(
        "sudo mkdir -p /etc/systemd/system/user@.service.d && \
         printf '[Service]\\nDelegate={}\\n' | \
         sudo tee /etc/systemd/system/user@.service.d/delegate.conf && \
         sudo systemctl daemon-reload",
        names.join(" ")
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V2,
    /// v1 controllers beside a v2 tree.
    Hybrid,
    V1,
    None,
}

/// The tree of version 2, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Where the v2 tree is mounted, also that of a hybrid machine.
    pub mount: Option<PathBuf>,
    /// Which group is the root of that mount, as `/proc/PID/cgroup` would name it: `/`, unless a part of the
    /// tree is bound there.
    root: PathBuf,
}

/// Whether version 2 is all there is, where every system mounts it. Quicker than to find it (`Hierarchy::detect`):
/// each start of a container asks.
pub fn is_unified() -> bool {
    // Linux: CGROUP2_SUPER_MAGIC (linux/magic.h).
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == 0x6367_7270)
}

impl Hierarchy {
    pub fn detect() -> Hierarchy {
        Hierarchy::of_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// proc(5), mountinfo. The first mount of version 2 counts: others are copies of it.
    fn of_mounts(mountinfo: &str) -> Hierarchy {
        let mut v1 = false;
        let mut v2 = None;
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let mut fields = place.split(' ').skip(3);
            match kind.split(' ').next() {
                Some("cgroup") => v1 = true,
                Some("cgroup2") if v2.is_none() => {
                    v2 = fields.next().map(unescape).zip(fields.next().map(unescape));
                }
                _ => {}
            }
        }
        let version = match (v1, &v2) {
            (false, Some(_)) => Version::V2,
            (true, Some(_)) => Version::Hybrid,
            (true, None) => Version::V1,
            (false, None) => Version::None,
        };
        let (root, mount) = v2.map_or((PathBuf::new(), None), |(root, mount)| (root, Some(mount)));
        Hierarchy {
            version,
            mount,
            root,
        }
    }

    /// The directory of the group that a line of `/proc/PID/cgroup` names; none where it is outside of what is
    /// mounted, as `0::/../..` in a cgroup namespace is.
    pub fn directory(&self, proc_cgroup: &str) -> Option<PathBuf> {
        let mount = self.mount.as_ref()?;
        let group = proc_cgroup
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?;
        // Linux: the group of a process was removed, and the process is still in it.
        let group = group.strip_suffix(" (deleted)").unwrap_or(group);
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        let inside = below
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        inside.then(|| mount.join(below))
    }

    /// The directory of the group of this process.
    pub fn own(&self) -> Option<PathBuf> {
        self.directory(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
    }

    /// The group of the systemd manager that makes groups for this user on request.
    pub fn manager(&self) -> Option<PathBuf> {
        let group = match host_uid() {
            0 => String::new(),
            uid => format!("user.slice/user-{uid}.slice/user@{uid}.service"),
        };
        self.mount.as_ref().map(|mount| mount.join(group))
    }

    /// Controllers of the group of this process, if this user may make groups in it, or else of the user's
    /// systemd manager.
    pub fn delegated(&self) -> Vec<String> {
        let mut groups = [self.own(), self.manager()];
        if host_uid() == 0 {
            groups.reverse();
        }
        let group = groups
            .into_iter()
            .flatten()
            .find(|group| is_writable(&group.join("cgroup.subtree_control")));
        let names =
            group.and_then(|group| std::fs::read_to_string(group.join("cgroup.controllers")).ok());
        names
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }
}

/// Who we are outside of the user namespace that we are in, in which Podman runs a runtime as "root".
pub(super) fn host_uid() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    let maps = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    idmap::outside(&idmap::parse(&maps), uid).unwrap_or(uid)
}

/// access(2) asks for the real ids, which are the effective ones: rbox is not set-uid.
pub(super) fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

/// proc(5): space, tab, newline and backslash are written as `\040`.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = (first == b'\\').then(|| after.get(..3)).flatten();
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const V2: &str = "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const OTHER: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";

    fn of(parts: &[&str]) -> Hierarchy {
        Hierarchy::of_mounts(&parts.concat())
    }

    #[test]
    fn versions_are_told_from_the_mounts() {
        let told = |parts: &[&str]| (of(parts).version, of(parts).mount);
        let at = Some(PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(told(&[OTHER, V2]), (Version::V2, at.clone()));
        assert_eq!(told(&[V1, OTHER, V2]), (Version::Hybrid, at));
        assert_eq!(told(&[V1]), (Version::V1, None));
        assert_eq!(told(&[OTHER, "junk"]), (Version::None, None));
        let odd = "31 25 0:27 / /mnt/a\\040b\\134 rw - cgroup2 none rw\n";
        assert_eq!(told(&[odd]).1, Some(PathBuf::from("/mnt/a b\\")));
    }

    #[test]
    fn groups_outside_of_the_mount_have_no_directory() {
        let whole = of(&[V2]);
        let cases = [
            ("0::/", Some("/sys/fs/cgroup/")),
            (
                "1:cpu:/x\n0::/a/b.scope\n",
                Some("/sys/fs/cgroup/a/b.scope"),
            ),
            ("0::/a (deleted)\n", Some("/sys/fs/cgroup/a")),
            ("0::/../..\n", None),
            ("0::/a/../b\n", None),
            ("1:cpu:/\n", None),
        ];
        for (line, directory) in cases {
            assert_eq!(
                whole.directory(line),
                directory.map(PathBuf::from),
                "{line:?}"
            );
        }
        let part = "31 25 0:27 /docker/c1 /sys/fs/cgroup rw - cgroup2 none rw\n";
        let part = of(&[part]);
        assert_eq!(
            part.directory("0::/docker/c1/x"),
            Some(PathBuf::from("/sys/fs/cgroup/x"))
        );
        assert_eq!(part.directory("0::/docker/c2"), None);
    }

    #[test]
    fn the_drop_in_names_what_is_wanted() {
        let text = delegation(None);
        assert!(
            text.contains("Delegate=cpu cpuset io memory pids\\n"),
            "{text}"
        );
        let text = delegation(Some("hugetlb"));
        assert!(text.contains("io memory pids hugetlb\\n"), "{text}");
        assert_eq!(delegation(Some("io")), delegation(None));
    }
}
