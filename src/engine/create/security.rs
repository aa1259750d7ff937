//! What the container's processes will be allowed to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::container::config::Process;
use crate::container::config::Security;
use crate::container::config::process::Network;
use crate::container::config::security::Capabilities;
use crate::container::config::security::Choice;
use crate::container::config::security::Paths;
use crate::container::config::security::Seccomp;
use crate::container::spec;
use crate::engine::seccomp;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub capabilities: Capabilities,
    pub privileged: bool,
    pub no_new_privileges: bool,
    /// Absent is the default for the kind of container.
    pub seccomp: Option<Seccomp>,
    pub paths: Paths,
    pub proc_options: Vec<String>,
    pub apparmor: Option<String>,
    pub label: Label,
    pub sysctls: BTreeMap<String, String>,
    pub hooks_dirs: Vec<PathBuf>,
    pub root_emulation: bool,
}

/// Parts of an SELinux context; absent ones are those of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    pub user: Option<String>,
    pub role: Option<String>,
    pub kind: Option<String>,
    pub level: Option<String>,
}

pub fn decide(wish: Wish, process: &Process) -> anyhow::Result<Security> {
    check_capabilities(&wish.capabilities)?;
    for name in wish.sysctls.keys() {
        check_sysctl(name, process)?;
    }
    let seccomp = wish.seccomp.unwrap_or(if wish.privileged {
        Seccomp::Unconfined
    } else {
        Seccomp::Default
    });
    let security = Security {
        apparmor: wish.apparmor.map(apparmor).transpose()?.flatten(),
        selinux: selinux(wish.label)?,
        capabilities: wish.capabilities,
        privileged: wish.privileged,
        no_new_privileges: wish.no_new_privileges,
        seccomp,
        paths: wish.paths,
        proc_options: wish.proc_options,
        sysctls: wish.sysctls,
        hooks_dirs: wish.hooks_dirs,
        root_emulation: wish.root_emulation,
    };
    check_profile(&security)?;
    Ok(security)
}

/// So that a profile which cannot be used is refused before there is a container.
fn check_profile(security: &Security) -> anyhow::Result<()> {
    if let Some(profile) = spec::security::profile(security)? {
        seccomp::compiled(&profile)?;
    }
    Ok(())
}

fn check_capabilities(capabilities: &Capabilities) -> anyhow::Result<()> {
    match (&capabilities.add, &capabilities.drop) {
        (Choice::All, Choice::All) => Err(fail(
            Kind::Usage,
            "--cap-add=ALL and --cap-drop=ALL exclude each other",
        )),
        (Choice::These(add), Choice::These(drop)) => {
            match add.iter().find(|one| drop.contains(one)) {
                Some(both) => Err(fail(
                    Kind::Usage,
                    format!("capability CAP_{both} cannot be added and dropped at once"),
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Linux: parameters of the System V and POSIX queues belong to the IPC namespace, those of the
/// network to the network namespace, and kernel.domainname to the UTS namespace; all others are the machine's.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

fn check_sysctl(name: &str, process: &Process) -> anyhow::Result<()> {
    let in_network = name.starts_with("net.");
    if in_network && process.network == Network::Host {
        return Err(fail(
            Kind::Usage,
            format!("--sysctl {name} would change the host's network, which the container shares"),
        )
        .hint("leave `--network host` away, or set it on the host with `sysctl -w`"));
    }
    let in_ipc = IPC_SYSCTLS.contains(&name) || name.starts_with("fs.mqueue.");
    if in_network || in_ipc || name == "kernel.domainname" {
        return Ok(());
    }
    Err(fail(
        Kind::Usage,
        format!("--sysctl {name} belongs to the whole machine, not to a container"),
    )
    .hint("a container has its own net.*, fs.mqueue.*, kernel.domainname, kernel.msg*, kernel.sem and kernel.shm*"))
}

/// The profile to use; none where there is nothing to confine.
fn apparmor(profile: String) -> anyhow::Result<Option<String>> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'));
    match (profile.as_str(), enabled) {
        ("unconfined", _) => Ok(None),
        (_, true) => Ok(Some(profile)),
        (_, false) => Err(fail(
            Kind::Unsupported,
            format!("--security-opt apparmor={profile}: this host has no AppArmor"),
        )),
    }
}

/// The caller's context with the parts that were asked for.
fn selinux(label: Label) -> anyhow::Result<Option<String>> {
    if label == Label::default() {
        return Ok(None);
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(fail(
            Kind::Unsupported,
            "--security-opt label: this host has no SELinux",
        )
        .hint("only `--security-opt label=disable` means something here"));
    }
    let own = std::fs::read_to_string("/proc/self/attr/current")
        .context("cannot read the caller's SELinux context")?;
    let mut parts = own.trim_end_matches(['\0', '\n']).splitn(4, ':');
    let mut part = |asked: Option<String>| asked.or(parts.next().map(str::to_owned));
    let user = part(label.user);
    let role = part(label.role);
    let kind = part(label.kind);
    let level = label.level.or(parts.next().map(str::to_owned));
    let whole: Vec<String> = [user, role, kind, level].into_iter().flatten().collect();
    Ok(Some(whole.join(":")))
}
