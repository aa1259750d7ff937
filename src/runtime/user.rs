//! `--user` and an image's USER, looked up in the passwd and group files of the root file system:
//! `name`, `uid`, each with `:group` or `:gid`.

use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::Context;

use crate::error::Kind;
use crate::error::fail;
use crate::sys::path;

/// A passwd file larger than this is not read to its end.
const LIMIT: u64 = 4 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub home: String,
}

/// A user as people and images name it, looked up inside the root file system.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// `name`, `uid`, `name:group`, `uid:gid`…
    pub user: &'a str,
    /// More groups, by name or number.
    pub groups: &'a [String],
    /// The process keeps the supplementary groups that it has.
    pub keep_groups: bool,
}

impl Wanted<'_> {
    pub fn of(user: &str) -> Wanted<'_> {
        Wanted {
            user,
            groups: &[],
            keep_groups: false,
        }
    }
}

/// Says what is wrong with a user, as far as that shows without the files of the container.
pub fn check(user: &str) -> Result<(), String> {
    let parts: Vec<&str> = user.split(':').collect();
    if parts.len() > 2 {
        return Err("expected USER or USER:GROUP".into());
    }
    for part in parts {
        check_group(part)?;
    }
    Ok(())
}

/// The same for one name or id.
pub fn check_group(group: &str) -> Result<(), String> {
    match number(group) {
        Some(Err(())) => Err(format!("expected an id from 0 to {MAX}")),
        _ if group.contains(|c: char| c.is_control()) => {
            Err("a name has no control characters".into())
        }
        _ => Ok(()),
    }
}

/// Looks up a user in the root file system behind `root`.
pub fn find(root: BorrowedFd<'_>, wanted: Wanted<'_>) -> anyhow::Result<User> {
    let read = |file| {
        path::read_in_root(root, Path::new(file), LIMIT)
            .with_context(|| format!("cannot read {file} of the container"))
    };
    let passwd = read("/etc/passwd")?.unwrap_or_default();
    let group = read("/etc/group")?.unwrap_or_default();
    let mut user = resolve(wanted.user, &passwd, &group)?;
    for name in wanted.groups {
        let gid = group_id(name, &group)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// One line of a passwd file.
pub struct Account<'a> {
    pub name: &'a str,
    pub uid: u32,
    gid: u32,
    home: &'a str,
}

pub fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Account {
            name: fields.first()?,
            uid: id(fields.get(2)?).ok()??,
            gid: id(fields.get(3)?).ok()??,
            home: fields.get(5).copied().unwrap_or_default(),
        })
    })
}

/// Name, gid and members of each line of a group file.
pub fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((
            *fields.first()?,
            id(fields.get(2)?).ok()??,
            fields.get(3).copied().unwrap_or_default(),
        ))
    })
}

fn resolve(user: &str, passwd: &str, group: &str) -> anyhow::Result<User> {
    let (who, with_group) = match user.split_once(':') {
        // As Docker has it: `1:` is `1`.
        Some((who, group)) => (who, (!group.is_empty()).then_some(group)),
        None => (user, None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let id = id(who)?;
    let account = accounts(passwd).find(|account| match id {
        Some(uid) => account.uid == uid,
        None => account.name == who,
    });
    let (uid, default_gid, home) = match (&account, id) {
        (Some(account), _) => (account.uid, account.gid, account.home),
        (None, Some(uid)) => (uid, 0, ""),
        (None, None) => {
            return Err(fail(
                Kind::NotFound,
                format!("no user \"{who}\" in /etc/passwd of the container"),
            ));
        }
    };
    let gid = match with_group {
        Some(name) => group_id(name, group)?,
        None => default_gid,
    };
    // As Docker has it: a group that is named takes the place of the supplementary groups too.
    // The primary group is among them: a process that changes its gid must not by that leave a
    // group to which a file denies something (CVE-2022-36109, CVE-2022-2989).
    let mut all = vec![gid];
    if let (Some(account), None) = (&account, with_group) {
        all.extend(
            groups(group)
                .filter(|(_, _, members)| members.split(',').any(|member| member == account.name))
                .map(|(_, other, _)| other)
                .filter(|other| *other != gid),
        );
    }
    Ok(User {
        uid,
        gid,
        groups: all,
        home: match (home, uid) {
            ("", 0) => "/root".into(),
            ("", _) => "/".into(),
            (home, _) => home.into(),
        },
    })
}

pub fn group_id(name: &str, group: &str) -> anyhow::Result<u32> {
    if let Some(gid) = id(name)? {
        return Ok(gid);
    }
    groups(group)
        .find(|(known, _, _)| *known == name)
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| {
            fail(
                Kind::NotFound,
                format!("no group \"{name}\" in /etc/group of the container"),
            )
        })
}

/// A numeric id; `None` for a name. A number that is no id is an error and never a wrapped or
/// truncated one, which could be 0 (CVE-2024-40635, CVE-2026-46680).
pub fn id(text: &str) -> anyhow::Result<Option<u32>> {
    match number(text) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(())) => Err(fail(
            Kind::Usage,
            format!("\"{text}\" is not an id: expected a number from 0 to {MAX}"),
        )),
    }
}

/// Ids above it are not safe in programs that keep them in a signed number.
const MAX: u32 = i32::MAX.cast_unsigned();

/// `None` for what is not all digits.
fn number(text: &str) -> Option<Result<u32, ()>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = text.parse::<u32>().ok().filter(|id| *id <= MAX);
    Some(id.ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\nbad:x:y:0::/:\nminus:x:4294967295:0::/:\nplus:x:+0:0::/:\nnohome:x:5:5:::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:bob,ann\naudio:x:29:ann\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(user, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn all_forms_resolve() {
        assert_eq!(ids(""), (0, 0, vec![0], "/root".into()));
        assert_eq!(
            ids("ann"),
            (1000, 100, vec![100, 10, 29], "/home/ann".into())
        );
        assert_eq!(
            ids("1000"),
            (1000, 100, vec![100, 10, 29], "/home/ann".into())
        );
        assert_eq!(ids("ann:audio"), (1000, 29, vec![29], "/home/ann".into()));
        assert_eq!(ids("ann:7"), (1000, 7, vec![7], "/home/ann".into()));
        assert_eq!(ids("4000"), (4000, 0, vec![0], "/".into()));
        assert_eq!(ids(":wheel"), (0, 10, vec![10], "/root".into()));
        // Never root, whatever stands there instead of a group (CVE-2026-30892).
        assert_eq!(ids("5:"), (5, 5, vec![5], "/".into()));
        assert_eq!(ids("4000:"), (4000, 0, vec![0], "/".into()));
        assert_eq!(ids("nohome"), (5, 5, vec![5], "/".into()));
    }

    #[test]
    fn what_no_container_can_have_is_seen_without_one() {
        for good in [
            "",
            "ann",
            "1000",
            "1000:100",
            "ann:wheel",
            ":wheel",
            "00",
            "1:",
            "+0",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let id = Err("expected an id from 0 to 2147483647".to_owned());
        for wrong in [
            "4294967296",
            "2147483648",
            "0:4294967295",
            "99999999999999999999:1",
        ] {
            assert_eq!(check(wrong), id, "{wrong}");
        }
        assert_eq!(check("a:b:c"), Err("expected USER or USER:GROUP".into()));
        assert!(check("a\nb").is_err());
    }

    #[test]
    fn what_is_no_user_is_an_error_that_quotes_it() {
        let message = |user| resolve(user, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(
            message("eve"),
            "no user \"eve\" in /etc/passwd of the container"
        );
        assert_eq!(
            message("bad"),
            "no user \"bad\" in /etc/passwd of the container"
        );
        // setresuid(2) leaves -1 as it is, which would be root.
        assert_eq!(
            message("minus"),
            "no user \"minus\" in /etc/passwd of the container"
        );
        assert_eq!(
            message("plus"),
            "no user \"plus\" in /etc/passwd of the container"
        );
        assert_eq!(
            message("ann:x"),
            "no group \"x\" in /etc/group of the container"
        );
        for id in ["4294967296", "2147483648", "18446744073709551616"] {
            assert_eq!(
                message(id),
                format!("\"{id}\" is not an id: expected a number from 0 to 2147483647")
            );
        }
        for (name, quoted) in [("+0", "+0"), (" 0", " 0"), ("0x0", "0x0"), ("٠", "٠")] {
            assert_eq!(
                message(name),
                format!("no user \"{quoted}\" in /etc/passwd of the container")
            );
        }
        assert_eq!(
            message("-1"),
            "no user \"-1\" in /etc/passwd of the container"
        );
    }
}
