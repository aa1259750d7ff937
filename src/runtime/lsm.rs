//! Labels of the Linux security modules: AppArmor's profile and SELinux's context, which the kernel
//! gives to a process at its next execve(2).

use std::path::Path;

use anyhow::Context;
use oci_spec::runtime::Process;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::procfs::Procfs;

pub fn is_labelled(process: &Process) -> bool {
    process.apparmor_profile().is_some() || process.selinux_label().is_some()
}

/// Whether the host knows the labels that are asked for.
///
/// Must: run where /sys is the host's.
pub fn check(process: &Process, mount_label: Option<&String>) -> anyhow::Result<()> {
    let lacks = |member: &str, module: &str| {
        let text = format!("cannot set {member}: this host has no {module}");
        Err(fail(Kind::Unsupported, text))
    };
    if process.apparmor_profile().is_some() {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|enabled| enabled.starts_with('Y')) {
            return lacks("process.apparmorProfile", "AppArmor");
        }
    }
    for (member, label) in [
        ("process.selinuxLabel", process.selinux_label().as_ref()),
        ("linux.mountLabel", mount_label),
    ] {
        if label.is_some() && !Path::new("/sys/fs/selinux/enforce").exists() {
            return lacks(member, "SELinux");
        }
    }
    Ok(())
}

/// Asks for the labels that the specification names.
pub fn label_next_exec(procfs: &Procfs, process: &Process) -> anyhow::Result<()> {
    if let Some(profile) = process.apparmor_profile() {
        let value = format!("exec {profile}");
        // Linux: AppArmor has a directory of its own since 5.8; before, the file is the first module's.
        procfs
            .write("thread-self/attr/apparmor/exec", &value)
            .or_else(|first| {
                let older = procfs.write("thread-self/attr/exec", &value);
                older.map_err(|_| first)
            })
            .hint("`sudo aa-status` lists the profiles that are loaded")
            .with_context(|| format!("cannot use AppArmor profile \"{profile}\""))?;
    }
    if let Some(context) = process.selinux_label() {
        procfs
            .write("thread-self/attr/exec", context)
            .with_context(|| format!("cannot use SELinux context \"{context}\""))?;
    }
    Ok(())
}
