//! What else of the host matters: the TUN device, the run directory, and whether containers
//! outlive the user's last session.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Finding;
use super::systemd_runs;
use crate::config::ids::user_name;
use crate::config::registries::Registries;
use crate::engine::boot;
use crate::error;

const MAKE_TUN: &str = "sudo modprobe tun || \
    sudo sh -c 'mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200'";

/// Networks in user mode need it.
pub(super) fn tun() -> Finding {
    let name = "/dev/net/tun";
    let opened = OpenOptions::new().read(true).write(true).open(name);
    let Err(err) = opened else {
        return Finding::ok(name, "can be opened");
    };
    let fix = match err.kind() {
        ErrorKind::NotFound => MAKE_TUN,
        ErrorKind::PermissionDenied => "sudo chmod 666 /dev/net/tun",
        _ => "sudo modprobe tun",
    };
    let what = format!("no network in user mode: {err}");
    Finding::warn(name, what, Some(fix.to_owned()))
}

/// Where images come from.
pub(super) fn registries() -> Finding {
    let name = "registries";
    match Registries::load(None) {
        Ok(registries) => {
            let search = registries.search().join(", ");
            Finding::ok(name, format!("short names are looked for in {search}"))
        }
        Err(err) => {
            let what = format!("no image can be pulled: {}", error::message(&err));
            Finding::warn(name, what, None)
        }
    }
}

/// Where state lives that must not outlive a boot.
pub(super) fn runtime_dir() -> Finding {
    let name = "XDG_RUNTIME_DIR";
    let uid = rustix::process::geteuid().as_raw();
    let made_by_systemd = systemd_runs().then(|| format!("export {name}=/run/user/{uid}"));
    let Some(path) = std::env::var_os(name) else {
        if uid == 0 {
            return Finding::ok(name, "not set: /run/rbox is used");
        }
        let what = format!("not set: /tmp/rbox-{uid} is used");
        return Finding::warn(name, what, made_by_systemd);
    };
    let path = Path::new(&path);
    let shown = path.display();
    let elsewhere = made_by_systemd.or_else(|| Some(format!("unset {name}")));
    let found = match path.metadata() {
        Ok(found) => found,
        Err(err) => {
            let fix = Some(format!("mkdir -m 700 -p '{shown}'"));
            return Finding::warn(name, format!("{shown}: {err}"), fix);
        }
    };
    if !found.is_dir() {
        return Finding::fail(name, format!("{shown} is no directory"), elsewhere);
    }
    if found.uid() != uid {
        let owner = found.uid();
        let what = format!("{shown} belongs to uid {owner}, and you are uid {uid}");
        return Finding::warn(name, what, elsewhere);
    }
    if found.mode() & 0o077 != 0 {
        let what = format!(
            "{shown} is open to others: mode {:03o}",
            found.mode() & 0o777
        );
        return Finding::warn(name, what, Some(format!("chmod 700 '{shown}'")));
    }
    Finding::ok(name, shown.to_string())
}

/// systemd ends the processes of a user who has logged out, unless told to let them linger.
pub(super) fn linger() -> Option<Finding> {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 || !systemd_runs() {
        return None;
    }
    let name = "linger";
    let user = user_name(uid)?;
    if Path::new("/var/lib/systemd/linger").join(&user).exists() {
        return Some(Finding::ok(name, "containers outlive your last session"));
    }
    Some(Finding::warn(
        name,
        "containers are ended when you log out",
        Some("loginctl enable-linger".to_owned()),
    ))
}

/// Whether containers come back.
pub(super) fn reboot() -> Finding {
    let survival = boot::survival();
    match survival.missing {
        None => Finding::ok("reboot", "containers with a restart policy come back"),
        Some(missing) => Finding::warn("reboot", missing, survival.fix),
    }
}
