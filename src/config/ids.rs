//! Which ids a container of this user gets: /etc/passwd, /etc/subuid and /etc/subgid read by
//! our own parsers (static glibc cannot use NSS), and the helpers that may write the map.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use rustix::thread::CapabilitySet;
use serde::Deserialize;
use serde::Serialize;

use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;

/// The maps for this user, and why there is only one id where that is so.
#[derive(Debug)]
pub struct Ids {
    pub maps: IdMaps,
    pub single_because: Option<String>,
}

impl Ids {
    pub fn detect() -> anyhow::Result<Ids> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid == 0 && may_map_any_id() {
            let maps = identity()?;
            if has_several(&maps.uids) && has_several(&maps.gids) {
                return Ok(Ids {
                    maps,
                    single_because: None,
                });
            }
            // Root of a namespace with one id: there is no more to give, nor for helpers to write.
            return Ok(Ids {
                maps: single(uid, gid),
                single_because: Some("this user namespace has one id".into()),
            });
        }
        match sub_ids(uid, gid) {
            Ok(maps) => Ok(Ids {
                maps,
                single_because: None,
            }),
            Err(reason) => Ok(Ids {
                maps: single(uid, gid),
                single_because: Some(reason),
            }),
        }
    }
}

/// Linux: a process with CAP_SETUID (CAP_SETGID) in the parent namespace may map any of the ids
/// that exist there (user_namespaces(7)). True for root, and for root of most containers.
pub fn may_map_any_id() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

fn identity() -> anyhow::Result<IdMaps> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        anyhow::Ok(identity_of(&text))
    };
    Ok(IdMaps {
        writer: Writer::Privileged,
        uids: read("/proc/self/uid_map")?,
        gids: read("/proc/self/gid_map")?,
    })
}

/// Every id that a namespace with this map has, mapped to itself.
fn identity_of(map: &str) -> Vec<IdRange> {
    let mut map = idmap::parse(map);
    for range in &mut map {
        range.outside = range.inside;
    }
    map
}

fn has_several(ranges: &[IdRange]) -> bool {
    ranges.len() > 1 || ranges.iter().any(|range| range.count > 1)
}

/// Who writes these maps for a child of ours.
pub fn writer(uids: &[IdRange], gids: &[IdRange]) -> Result<Writer, String> {
    if may_map_any_id() {
        return Ok(Writer::Privileged);
    }
    let own = |ranges: &[IdRange], id: u32| matches!(ranges, [one] if (one.outside, one.count) == (id, 1));
    if own(uids, rustix::process::geteuid().as_raw())
        && own(gids, rustix::process::getegid().as_raw())
    {
        return Ok(Writer::Single);
    }
    Ok(Writer::Helpers {
        newuidmap: helper("newuidmap")?,
        newgidmap: helper("newgidmap")?,
    })
}

/// The map that needs no help: uid 0 is the user.
pub fn single(uid: u32, gid: u32) -> IdMaps {
    let one = |outside| {
        vec![IdRange {
            inside: 0,
            outside,
            count: 1,
        }]
    };
    IdMaps {
        writer: Writer::Single,
        uids: one(uid),
        gids: one(gid),
    }
}

fn sub_ids(uid: u32, gid: u32) -> Result<IdMaps, String> {
    let name = user_name(uid);
    let who = name.clone().unwrap_or_else(|| format!("uid {uid}"));
    let ranges = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let ranges = sub_id_ranges(&text, name.as_deref(), uid);
        if ranges.is_empty() {
            return Err(format!("{who} has no range in {path}"));
        }
        Ok(ranges)
    };
    let uids = ranges("/etc/subuid")?;
    let gids = ranges("/etc/subgid")?;
    Ok(IdMaps {
        writer: Writer::Helpers {
            newuidmap: helper("newuidmap")?,
            newgidmap: helper("newgidmap")?,
        },
        uids: container_map(uid, &uids),
        gids: container_map(gid, &gids),
    })
}

/// 0 is the user, 1… are the ranges, one after the other.
fn container_map(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside: u32 = 1;
    for (start, count) in ranges {
        let count = (*count).min(u32::MAX - inside);
        map.push(IdRange {
            inside,
            outside: *start,
            count,
        });
        inside += count;
    }
    map
}

/// The ranges (start, count) that a subuid(5) file gives to a user, by name or by number.
pub fn sub_id_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if Some(owner) != name && owner != number {
                return None;
            }
            let start: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            (count > 0 && start.checked_add(count - 1).is_some()).then_some((start, count))
        })
        .collect()
}

/// A helper that can do its work: executable, and set-uid or with file capabilities.
fn helper(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/bin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    let Some(path) = found else {
        return Err(format!("{name} is not installed"));
    };
    if has_privilege(&path) {
        Ok(path)
    } else {
        Err(format!(
            "{} is neither set-uid nor has it file capabilities",
            path.display()
        ))
    }
}

fn has_privilege(path: &Path) -> bool {
    let set_uid = path
        .metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o4000 != 0);
    let mut value = [0u8; 64];
    set_uid || rustix::fs::getxattr(path, "security.capability", &mut value).is_ok()
}

/// The login name of a uid: from /etc/passwd, else from `getent`, which knows LDAP and SSSD.
pub fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&passwd, uid).or_else(|| {
        let output = Command::new("getent")
            .args(["passwd", &uid.to_string()])
            .output()
            .ok()?;
        name_in(&String::from_utf8_lossy(&output.stdout), uid)
    })
}

/// A user of the host, or one that a container is to know by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub full_name: String,
    pub home: String,
    /// The name of its group, where that is to be known too.
    pub group: Option<String>,
}

/// The user of this name or number: from /etc/passwd, else from `getent`.
pub fn account(who: &str) -> Option<Account> {
    account_in(&host_file("passwd", who), who)
}

/// The name of a group.
pub fn group_name(gid: u32) -> Option<String> {
    let text = host_file("group", &gid.to_string());
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let found = fields.get(2)?.parse() == Ok(gid);
        found.then(|| fields[0].to_owned())
    })
}

/// A file of /etc, and what `getent` has to add to it about one key.
fn host_file(database: &str, key: &str) -> String {
    let mut text = std::fs::read_to_string(format!("/etc/{database}")).unwrap_or_default();
    let is_there = text
        .lines()
        .any(|line| line.split(':').take(3).any(|field| field == key));
    // A key that looks like an option is one for getent.
    if !is_there
        && !key.starts_with('-')
        && let Ok(output) = Command::new("getent").args([database, key]).output()
    {
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    text
}

fn account_in(passwd: &str, who: &str) -> Option<Account> {
    let number: Option<u32> = who.parse().ok();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, ..] = fields.as_slice() else {
            return None;
        };
        let uid: u32 = uid.parse().ok()?;
        if *name != who && Some(uid) != number {
            return None;
        }
        Some(Account {
            name: (*name).to_owned(),
            uid,
            gid: gid.parse().ok()?,
            full_name: gecos.split(',').next().unwrap_or_default().to_owned(),
            home: (*home).to_owned(),
            group: None,
        })
    })
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_junk_is_passed_over() {
        let text = "ann:100000:65536\n# note\n1000:300000:10\nbob:1:1\nann:x:1\nann:4294967295:2\nann:5:0\n";
        assert_eq!(
            sub_id_ranges(text, Some("ann"), 1000),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(sub_id_ranges(text, None, 7), []);
    }

    #[test]
    fn several_ranges_follow_each_other_inside() {
        let map = container_map(1000, &[(100_000, 65536), (300_000, 10)]);
        let inside: Vec<(u32, u32, u32)> = map
            .iter()
            .map(|range| (range.inside, range.outside, range.count))
            .collect();
        assert_eq!(
            inside,
            [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 10)]
        );
    }

    #[test]
    fn the_identity_map_keeps_what_the_namespace_has() {
        let map =
            identity_of("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(
            map,
            [
                IdRange {
                    inside: 0,
                    outside: 0,
                    count: 1
                },
                IdRange {
                    inside: 1,
                    outside: 1,
                    count: 65536
                }
            ]
        );
    }

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let passwd = "ann:x:1000:100:Ann A.,room 7,,:/home/ann:/bin/sh\nshort:x:7\n";
        let ann = Account {
            name: "ann".into(),
            uid: 1000,
            gid: 100,
            full_name: "Ann A.".into(),
            home: "/home/ann".into(),
            group: None,
        };
        assert_eq!(account_in(passwd, "ann"), Some(ann.clone()));
        assert_eq!(account_in(passwd, "1000"), Some(ann));
        for who in ["short", "7", "bob", "", "100"] {
            assert_eq!(account_in(passwd, who), None, "{who}");
        }
    }

    #[test]
    fn names_come_from_the_third_field() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in(passwd, 7), None);
    }
}
