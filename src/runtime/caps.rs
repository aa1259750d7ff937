//! Capabilities: names and numbers, and the five sets of a process (capabilities(7)).

use std::collections::HashSet;

use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxCapabilities;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;

use crate::sys::Call;
use crate::sys::Result;

/// In the order of their numbers (linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability, by its name without `CAP_`.
fn number(name: &str) -> Option<u32> {
    let index = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(index).ok()
}

fn bits(set: Option<&HashSet<Capability>>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| {
            let name = capability.to_string();
            number(name.strip_prefix("CAP_").unwrap_or(&name))
        })
        .fold(0, |bits, number| bits | 1 << number)
}

/// The sets of a specification, as bit masks.
#[derive(Clone, Copy, Debug)]
pub struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    pub fn of(spec: Option<&LinuxCapabilities>) -> Sets {
        let set = |get: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
            bits(spec.and_then(|spec| get(spec).as_ref()))
        };
        Sets {
            bounding: set(LinuxCapabilities::bounding),
            effective: set(LinuxCapabilities::effective),
            permitted: set(LinuxCapabilities::permitted),
            inheritable: set(LinuxCapabilities::inheritable),
            ambient: set(LinuxCapabilities::ambient),
        }
    }

    /// Takes every capability that is not in the bounding set out of that of this process, so
    /// that no later exec brings it back.
    pub fn bound(&self) -> Result<()> {
        for number in 0..=63 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            // Linux: PR_CAPBSET_READ is EINVAL for numbers that this kernel does not have.
            let Ok(present) = rustix::thread::capability_is_in_bounding_set(capability) else {
                break;
            };
            if present && self.bounding & 1 << number == 0 {
                rustix::thread::remove_capability_from_bounding_set(capability)
                    .call(|| format!("prctl(PR_CAPBSET_DROP, {number})"))?;
            }
        }
        Ok(())
    }

    /// Sets the others. What cannot be granted is left out, as the specification asks: what the process itself does
    /// not have (a nested container may hold less), and ambient ones that are not permitted and inheritable
    /// (capabilities(7)).
    pub fn apply(&self) -> Result<()> {
        let now = permitted_now()?;
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective & now),
            permitted: CapabilitySet::from_bits_retain(self.permitted & now),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable & now),
        };
        rustix::thread::set_capabilities(None, sets).call(|| "capset".into())?;
        rustix::thread::clear_ambient_capability_set()
            .call(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".into())?;
        let ambient = self.ambient & self.permitted & self.inheritable & now;
        for number in 0..=63 {
            if ambient & 1 << number != 0 {
                let capability = CapabilitySet::from_bits_retain(1 << number);
                rustix::thread::configure_capability_in_ambient_set(capability, true)
                    .call(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {number})"))?;
            }
        }
        Ok(())
    }
}

/// Makes all that is permitted effective, which a change from uid 0 to another takes away.
pub fn raise_permitted() -> Result<()> {
    let permitted = CapabilitySet::from_bits_retain(permitted_now()?);
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).call(|| "capset".into())
}

fn permitted_now() -> Result<u64> {
    let sets = rustix::thread::capabilities(None).call(|| "capget".into())?;
    Ok(sets.permitted.bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification_have_the_kernels_numbers() {
        let set = HashSet::from([
            Capability::Chown,
            Capability::SysAdmin,
            Capability::CheckpointRestore,
            Capability::Bpf,
        ]);
        assert_eq!(bits(Some(&set)), 1 | 1 << 21 | 1 << 40 | 1 << 39);
        assert_eq!(bits(None), 0);
    }
}
