//! Capabilities, and the paths that are hidden or read-only.

use std::collections::HashMap;
use std::collections::HashSet;

use anyhow::Context;
use glob::MatchOptions;
use glob::Pattern;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxBuilder;
use oci_spec::runtime::LinuxCapabilities;
use oci_spec::runtime::LinuxCapabilitiesBuilder;
use oci_spec::runtime::LinuxSeccomp;

use crate::container::config::Config;
use crate::container::config::Security;
use crate::container::config::security::Choice;
use crate::container::config::security::Seccomp;
use crate::oci::seccomp::Surroundings;
use crate::oci::seccomp::kernel_version;

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

/// All that Linux has (capabilities(7)); those that a kernel does not know are left out when they are set.
const ALL_CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
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

/// What no process of the container can ever get beyond.
pub fn bounding(security: &Security) -> HashSet<Capability> {
    let all: HashSet<Capability> = ALL_CAPABILITIES.into();
    if security.privileged {
        return all;
    }
    let usual: HashSet<Capability> = DEFAULT_CAPABILITIES.into();
    let add = security.capabilities.add.set(&all);
    let drop = security.capabilities.drop.set(&all);
    match (&security.capabilities.add, &security.capabilities.drop) {
        (Choice::All, _) => &all - &drop,
        (_, Choice::All) => add,
        _ => &(&usual - &drop) | &add,
    }
}

/// The five sets. Another user than root has those that were added by name, through the ambient set
/// (capabilities(7)); nothing is inheritable otherwise (CVE-2022-24769).
pub fn capabilities(config: &Config) -> anyhow::Result<LinuxCapabilities> {
    let security = &config.security;
    let bounding = bounding(security);
    let user = config.identity.user.split(':').next().unwrap_or_default();
    let (held, ambient) = if matches!(user, "" | "0" | "root") {
        (bounding.clone(), HashSet::new())
    } else {
        let added = security.capabilities.add.set(&bounding);
        let added: HashSet<Capability> = &added & &bounding;
        (added.clone(), added)
    };
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(held.clone())
        .permitted(held)
        .inheritable(ambient.clone())
        .ambient(ambient)
        .build()?)
}

/// Hidden and read-only paths, the profile of system calls, kernel parameters.
pub fn restrict(linux: LinuxBuilder, config: &Config) -> anyhow::Result<LinuxBuilder> {
    let security = &config.security;
    let (masked, read_only) = if security.privileged {
        (vec![], vec![])
    } else {
        (still(&MASKED, security)?, still(&READ_ONLY, security)?)
    };
    let own = security.paths.mask.iter();
    let masked = masked
        .into_iter()
        .chain(own.map(|path| path.to_string_lossy().into_owned()))
        .collect::<Vec<_>>();
    let sysctls: HashMap<String, String> = security.sysctls.clone().into_iter().collect();
    let linux = linux
        .masked_paths(masked)
        .readonly_paths(read_only)
        .sysctl(sysctls);
    Ok(match profile(security)? {
        Some(profile) => linux.seccomp(profile),
        None => linux,
    })
}

/// The user's own profile, with the rules that count for this container on this kernel.
pub fn profile(security: &Security) -> anyhow::Result<Option<LinuxSeccomp>> {
    let Seccomp::Profile(profile) = &security.seccomp else {
        return Ok(None);
    };
    let uname = rustix::system::uname();
    let surroundings = Surroundings {
        capabilities: &bounding(security),
        kernel: kernel_version(&uname.release().to_string_lossy()).unwrap_or((u32::MAX, 0)),
    };
    profile
        .resolve(&surroundings)
        .context("cannot read the seccomp profile")
        .map(Some)
}

/// What is left of a list when the user has uncovered paths.
fn still(paths: &[&str], security: &Security) -> anyhow::Result<Vec<String>> {
    let strict = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let mut left = Vec::new();
    for path in paths {
        let mut uncovered = false;
        for pattern in &security.paths.unmask {
            let below = path.strip_prefix(pattern.trim_end_matches('/'));
            uncovered |= pattern == "ALL"
                || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                || Pattern::new(pattern)?.matches_with(path, strict);
        }
        if !uncovered {
            left.push((*path).to_owned());
        }
    }
    Ok(left)
}
