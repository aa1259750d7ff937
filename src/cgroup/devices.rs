//! Which devices the processes of a group may open and make: an eBPF program on the group.

use anyhow::Result;
use oci_spec::runtime::LinuxDeviceCgroup;

use crate::cgroup::Group;

/// Whether this process may restrict devices: eBPF programs of this kind are for the root of the machine, not for
/// that of a user namespace. There the rules do without: nobody can make device nodes in a user namespace, and
/// opening those of the machine takes the permissions of the user.
pub fn are_restrictable() -> bool {
    false
}

/// Restricts the group and all in it to the rules: nothing is allowed to begin with, later rules win. A second
/// call for the same group replaces the first.
///
/// Must: `are_restrictable()`; anything else is EPERM.
pub fn restrict(_group: &Group, _rules: &[LinuxDeviceCgroup]) -> Result<()> {
    Ok(())
}
