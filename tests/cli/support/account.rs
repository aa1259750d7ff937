//! The users that tests run rbox as. Root makes the two plain ones once on a machine;
//! an ordinary user can only be itself.
use std::process::Command;
use std::sync::OnceLock;

use super::place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: &'static str,
    pub uid: u32,
    pub gid: u32,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user with ranges in /etc/subuid and /etc/subgid.
pub fn plain() -> Account {
    static PLAIN: OnceLock<Account> = OnceLock::new();
    *PLAIN.get_or_init(|| {
        if is_root() {
            open_devices();
            made("rboxtest", &[])
        } else {
            Account {
                name: "",
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            }
        }
    })
}

/// A user with no range; only root can become it.
pub fn without_subids() -> Option<Account> {
    static WITHOUT: OnceLock<Option<Account>> = OnceLock::new();
    *WITHOUT.get_or_init(|| {
        is_root().then(|| {
            made(
                "rboxnosub",
                &["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"],
            )
        })
    })
}

pub fn root() -> Option<Account> {
    is_root().then_some(Account {
        name: "root",
        uid: 0,
        gid: 0,
    })
}

fn made(name: &'static str, options: &[&str]) -> Account {
    let _lock = place::lock("accounts.lock");
    if look_up(name).is_none() {
        let status = Command::new("useradd")
            .args(["--create-home", "--shell", "/bin/sh"])
            .args(options)
            .arg(name)
            .status()
            .expect("useradd is in Debian's passwd package");
        assert!(status.success(), "useradd {name}: {status}");
    }
    look_up(name).expect("useradd has just made the user")
}

fn look_up(name: &'static str) -> Option<Account> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid })
    })
}

/// What the udev rules of distributions do.
fn open_devices() {
    use std::os::unix::fs::PermissionsExt;
    for device in ["/dev/net/tun", "/dev/fuse"] {
        if let Ok(meta) = std::fs::metadata(device)
            && meta.permissions().mode() & 0o666 != 0o666
        {
            std::fs::set_permissions(device, PermissionsExt::from_mode(0o666)).unwrap();
        }
    }
}
