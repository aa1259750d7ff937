//! Capabilities, and the paths that are hidden or read-only.

use std::collections::HashSet;

use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxBuilder;
use oci_spec::runtime::LinuxCapabilities;
use oci_spec::runtime::LinuxCapabilitiesBuilder;

use crate::container::config::Config;
use crate::container::config::security::Seccomp;

/// What Docker and Podman leave to a container's root.
pub const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Files that tell of the host, or through which it can be reached (Docker's and Podman's lists).
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

pub fn capabilities(_config: &Config) -> anyhow::Result<LinuxCapabilities> {
    let capabilities: HashSet<Capability> = DEFAULT_CAPABILITIES.into();
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()?)
}

pub fn restrict(linux: LinuxBuilder, config: &Config) -> LinuxBuilder {
    let owned =
        |paths: &[&str]| -> Vec<String> { paths.iter().map(|path| (*path).to_owned()).collect() };
    let linux = linux
        .masked_paths(owned(&MASKED))
        .readonly_paths(owned(&READ_ONLY));
    match &config.security.seccomp {
        Seccomp::Profile(profile) => linux.seccomp(profile.as_ref().clone()),
        Seccomp::Default | Seccomp::Unconfined => linux,
    }
}
