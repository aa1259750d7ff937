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

/// Looks up a user in the root file system behind `root`.
pub fn find(root: BorrowedFd<'_>, user: &str) -> anyhow::Result<User> {
    let read = |file| {
        path::read_in_root(root, Path::new(file), LIMIT)
            .with_context(|| format!("cannot read {file} of the container"))
    };
    let passwd = read("/etc/passwd")?.unwrap_or_default();
    let group = read("/etc/group")?.unwrap_or_default();
    resolve(user, &passwd, &group)
}

/// One line of a passwd file.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
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
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
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
        Some((who, group)) => (who, Some(group)),
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

fn group_id(name: &str, group: &str) -> anyhow::Result<u32> {
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
fn id(text: &str) -> anyhow::Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= i32::MAX.cast_unsigned() => Ok(Some(id)),
        _ => Err(fail(
            Kind::Usage,
            format!(
                "\"{text}\" is not an id: expected a number from 0 to {}",
                i32::MAX
            ),
        )),
    }
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
        assert_eq!(ids("nohome"), (5, 5, vec![5], "/".into()));
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
        assert_eq!(
            message("-1"),
            "no user \"-1\" in /etc/passwd of the container"
        );
    }
}
