//! Lines that are added to the passwd and group files of a container at its start, so that its user has
//! a name: those of the image's own files stay. Run by init, on the container's own root file system
//! before anything of the host's is mounted in it.

use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rustix::fs::OFlags;

use crate::config::ids::Account;
use crate::runtime::user;
use crate::sys::path;
use crate::sys::path::Target;

/// A passwd file larger than this is not read to its end.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What may have to be added.
#[derive(Debug)]
pub struct Accounts {
    /// The container's user; one that is given by number gets a line where it has none.
    pub user: String,
    /// Without a name of its group the group file is left alone.
    pub users: Vec<Account>,
    /// Takes the place of the lines of passwd: `$USERNAME`, `$UID`, `$GID`, `$NAME`, `$HOME`.
    pub passwd_entry: Option<String>,
    /// The same of group: `$GROUPNAME`, `$GID`, `$USERLIST`.
    pub group_entry: Option<String>,
    /// Of the container's user.
    pub home: String,
    /// Whether a file that cannot be written is an error: what was asked for must be there.
    pub required: bool,
}

impl Accounts {
    /// Adds what is missing to the files below `root`.
    pub fn add(&self, root: BorrowedFd<'_>) -> Result<()> {
        match self.try_add(root) {
            Err(err) if self.required => Err(err),
            // A name for the user is a convenience.
            _ => Ok(()),
        }
    }

    fn try_add(&self, root: BorrowedFd<'_>) -> Result<()> {
        let read = |file| path::read_in_root(root, Path::new(file), LIMIT);
        let passwd = read("/etc/passwd")?.unwrap_or_default();
        let group = read("/etc/group")?.unwrap_or_default();
        let (users, groups) = self.missing(&passwd, &group)?;
        append(root, "/etc/passwd", &passwd, &users)?;
        append(root, "/etc/group", &group, &groups)
    }

    /// The lines to be added to the two files.
    fn missing(&self, passwd: &str, group: &str) -> Result<(String, String)> {
        let mut known = passwd.to_owned();
        let mut known_groups = group.to_owned();
        let mut added = (String::new(), String::new());
        let own = self.own(passwd, group)?;
        for account in self.users.iter().chain(&own) {
            let taken = user::accounts(&known)
                .any(|other| other.uid == account.uid || other.name == account.name);
            if !taken {
                let line = self.passwd_line(account);
                known.push_str(&line);
                added.0.push_str(&line);
            }
            let Some(name) = &account.group else {
                continue;
            };
            let taken = user::groups(&known_groups)
                .any(|(other, gid, _)| gid == account.gid || other == name);
            if !taken {
                let line = self.group_line(account, name);
                known_groups.push_str(&line);
                added.1.push_str(&line);
            }
        }
        Ok(added)
    }

    /// The container's user, where it is given by number.
    fn own(&self, passwd: &str, group: &str) -> Result<Option<Account>> {
        let (who, of_group) = self.user.split_once(':').unwrap_or((&self.user, ""));
        let Some(uid) = user::id(who)? else {
            return Ok(None);
        };
        let known = user::accounts(passwd).any(|account| account.uid == uid);
        let gid = match of_group {
            // The primary group of an account has its line already.
            "" if known => return Ok(None),
            "" => 0,
            name => user::group_id(name, group)?,
        };
        Ok(Some(Account {
            name: uid.to_string(),
            uid,
            gid,
            full_name: "container user".into(),
            home: self.home.clone(),
            group: Some(gid.to_string()),
        }))
    }

    fn passwd_line(&self, account: &Account) -> String {
        let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
        let template = match &self.passwd_entry {
            Some(entry) => entry,
            None => "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh",
        };
        fill(
            template,
            &[
                ("$USERNAME", &account.name),
                ("$UID", &uid),
                ("$GID", &gid),
                ("$NAME", &account.full_name),
                ("$HOME", &account.home),
            ],
        )
    }

    fn group_line(&self, account: &Account, name: &str) -> String {
        let gid = account.gid.to_string();
        let template = match &self.group_entry {
            Some(entry) => entry,
            None => "$GROUPNAME:x:$GID:$USERLIST",
        };
        fill(
            template,
            &[
                ("$GROUPNAME", name),
                ("$GID", &gid),
                ("$USERLIST", &account.name),
            ],
        )
    }
}

/// One line of a template; each variable is replaced in one pass, so that no value is taken for a
/// variable. A value that would be several fields or lines is left out.
fn fill(template: &str, variables: &[(&str, &str)]) -> String {
    let mut line = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        line.push_str(&rest[..at]);
        rest = &rest[at..];
        let variable = variables.iter().find(|(name, _)| rest.starts_with(name));
        let (length, value) = variable.map_or((1, "$"), |(name, value)| (name.len(), *value));
        if !value.contains(|c: char| c == ':' || c.is_control()) {
            line.push_str(value);
        }
        rest = &rest[length..];
    }
    line.push_str(rest);
    line.push('\n');
    line
}

fn append(root: BorrowedFd<'_>, name: &str, there: &str, lines: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let write = || -> Result<()> {
        path::open_or_create(root, Path::new(name), Target::File)?;
        // O_NONBLOCK: a FIFO of the image must not block the start.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK;
        let mut file = File::from(path::open_in_root(root, Path::new(name), flags)?);
        ensure!(file.metadata()?.is_file(), "it is not a file");
        if !there.is_empty() && !there.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        file.write_all(lines.as_bytes())?;
        Ok(())
    };
    write().with_context(|| format!("cannot add a line to {name} of the container"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:ann\n";

    fn accounts(user: &str) -> Accounts {
        Accounts {
            user: user.into(),
            users: vec![],
            passwd_entry: None,
            group_entry: None,
            home: "/srv".into(),
            required: true,
        }
    }

    fn missing(accounts: &Accounts) -> (String, String) {
        accounts.missing(PASSWD, GROUP).unwrap()
    }

    #[test]
    fn a_user_given_by_number_gets_a_name() {
        let table = [
            ("", "", ""),
            ("ann", "", ""),
            ("0", "", ""),
            ("1000", "", ""),
            ("4000", "4000:*:4000:0:container user:/srv:/bin/sh\n", ""),
            (
                "4000:wheel",
                "4000:*:4000:10:container user:/srv:/bin/sh\n",
                "",
            ),
            (
                "4000:5000",
                "4000:*:4000:5000:container user:/srv:/bin/sh\n",
                "5000:x:5000:4000\n",
            ),
            ("1000:5000", "", "5000:x:5000:1000\n"),
            ("ann:5000", "", ""),
        ];
        for (user, passwd, group) in table {
            let lines = missing(&accounts(user));
            assert_eq!(lines, (passwd.into(), group.into()), "{user}");
        }
    }

    #[test]
    fn users_of_the_host_are_added_once() {
        let account = |name: &str, uid, group: Option<&str>| Account {
            name: name.into(),
            uid,
            gid: uid,
            full_name: "Full".into(),
            home: "/srv".into(),
            group: group.map(str::to_owned),
        };
        let accounts = Accounts {
            users: vec![
                account("eve", 1001, Some("eve")),
                account("eve", 1002, None),
                account("other", 1000, None),
                account("ann", 7, None),
            ],
            ..accounts("1001:1001")
        };
        let (passwd, group) = missing(&accounts);
        assert_eq!(passwd, "eve:*:1001:1001:Full:/srv:/bin/sh\n");
        assert_eq!(group, "eve:x:1001:eve\n");
    }

    #[test]
    fn templates_are_filled_and_values_cannot_make_fields() {
        let accounts = Accounts {
            passwd_entry: Some("$USERNAME-$UID-$GID-$NAME-$HOME-$X-$".into()),
            group_entry: Some("$GROUPNAME=$GID=$USERLIST".into()),
            home: "/a:b\nroot::0:0::/:".into(),
            ..accounts("4000:5000")
        };
        let (passwd, group) = missing(&accounts);
        assert_eq!(passwd, "4000-4000-5000-container user--$X-$\n");
        assert_eq!(group, "5000=5000=4000\n");
        assert_eq!(fill("$NAME", &[("$NAME", "$UID"), ("$UID", "7")]), "$UID\n");
    }
}
