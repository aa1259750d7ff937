//! Labels of the Linux security modules: AppArmor's profile and SELinux's context, which the kernel
//! gives to a process at its next execve(2).

use anyhow::Context;
use oci_spec::runtime::Process;

use crate::error::WithHint;
use crate::runtime::procfs::Procfs;

pub fn is_labelled(process: &Process) -> bool {
    process.apparmor_profile().is_some() || process.selinux_label().is_some()
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
