//! What the `linux` part of a specification must be beyond its schema, and what of the rest needs it.

use oci_spec::runtime::Linux;
use oci_spec::runtime::LinuxDeviceType;
use oci_spec::runtime::LinuxIdMapping;
use oci_spec::runtime::LinuxMemoryPolicy;
use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::MemoryPolicyFlagType;
use oci_spec::runtime::MemoryPolicyModeType;
use oci_spec::runtime::Spec;

use crate::oci::runtime::check;
use crate::oci::runtime::check::Checked;
use crate::oci::runtime::check::absolute;
use crate::oci::runtime::check::twice;
use crate::oci::runtime::check::wrong;
use crate::oci::runtime::shape::Mistake;
use crate::oci::runtime::shape::member;
use crate::oci::runtime::shape::quoted;

/// Linux: user_namespaces(7), since 4.15.
const MOST_MAPPINGS: usize = 340;

/// Linux: 12 and 20 bits (linux/kdev_t.h).
const LARGEST_MAJOR: i64 = (1 << 12) - 1;
const LARGEST_MINOR: i64 = (1 << 20) - 1;

/// Linux: `IFNAMSIZ` counts the NUL at the end.
const LONGEST_INTERFACE: usize = 15;

/// Parameters of an IPC namespace (ipc/ipc_sysctl.c).
const IPC: [&str; 11] = [
    "kernel/auto_msgmni",
    "kernel/msg_next_id",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
];

/// Which namespaces a container has of its own, or joins.
struct Namespaces<'a>(&'a [LinuxNamespace]);

impl Namespaces<'_> {
    fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.0.iter().any(|one| one.typ() == kind)
    }

    fn makes(&self, kind: LinuxNamespaceType) -> bool {
        let mut all = self.0.iter();
        all.any(|one| one.typ() == kind && one.path().is_none())
    }

    /// `at` asks for something that is of a namespace.
    fn need(&self, at: &str, kind: LinuxNamespaceType, name: &str) -> Checked {
        if self.has(kind) {
            return Ok(());
        }
        let said = format!("expected namespace \"{name}\" in linux.namespaces, found none");
        wrong(at, said)
    }
}

pub fn spec(spec: &Spec) -> Checked {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.namespaces().as_deref());
    let namespaces = Namespaces(listed.unwrap_or_default());
    for (member, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if name.is_some() {
            namespaces.need(member, LinuxNamespaceType::Uts, "uts")?;
        }
    }
    let Some(linux) = linux else {
        return Ok(());
    };
    check_namespaces(&namespaces)?;
    users(linux, &namespaces)?;
    clocks(linux, &namespaces)?;
    devices(linux)?;
    interfaces(linux, &namespaces)?;
    parameters(spec, linux, &namespaces)?;
    paths(linux, &namespaces)?;
    let below_linux = |mistake: Mistake| mistake.below("linux");
    if let Some(resources) = linux.resources() {
        let checked = check::resources(resources);
        checked.map_err(|mistake| below_linux(mistake.below("resources")))?;
    }
    if let Some(found) = linux.seccomp() {
        seccomp(found).map_err(|mistake| below_linux(mistake.below("seccomp")))?;
    }
    if let Some(policy) = linux.memory_policy() {
        let checked = memory_policy(policy);
        checked.map_err(|mistake| below_linux(mistake.below("memoryPolicy")))?;
    }
    let personality = linux.personality().as_ref();
    let flags = personality.and_then(|personality| personality.flags().as_ref());
    match flags.and_then(|flags| flags.first()) {
        // "Currently there are no flag values supported."
        Some(flag) => {
            let said = format!("unknown flag {}: expected none", quoted(flag));
            wrong("linux.personality.flags[0]", said)
        }
        None => Ok(()),
    }
}

fn check_namespaces(namespaces: &Namespaces<'_>) -> Checked {
    if let Some(index) = twice(namespaces.0.iter().map(LinuxNamespace::typ)) {
        let said = "the same namespace is there twice";
        return wrong(format!("linux.namespaces[{index}].type"), said);
    }
    for (index, namespace) in namespaces.0.iter().enumerate() {
        if let Some(path) = namespace.path() {
            absolute(format!("linux.namespaces[{index}].path"), path)?;
        }
    }
    Ok(())
}

fn users(linux: &Linux, namespaces: &Namespaces<'_>) -> Checked {
    for (member, map) in [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ] {
        let given = map.as_ref().is_some_and(|map| !map.is_empty());
        if given {
            namespaces.need(member, LinuxNamespaceType::User, "user")?;
        } else if namespaces.makes(LinuxNamespaceType::User) {
            return wrong(member, "missing: a new user namespace needs it");
        }
        mappings(member, map.as_deref())?;
    }
    Ok(())
}

/// Linux: what user_namespaces(7) says of a map.
pub fn mappings(at: &str, map: Option<&[LinuxIdMapping]>) -> Checked {
    let map = map.unwrap_or_default();
    if map.len() > MOST_MAPPINGS {
        return wrong(at, format!("expected at most {MOST_MAPPINGS} mappings"));
    }
    for (index, one) in map.iter().enumerate() {
        let at = format!("{at}[{index}]");
        if one.size() == 0 {
            return wrong(format!("{at}.size"), "expected an integer above 0, found 0");
        }
        for (member, first) in [
            ("containerID", one.container_id()),
            ("hostID", one.host_id()),
        ] {
            // The last id is (uid_t)-1, which is none.
            if first.checked_add(one.size()).is_none() {
                let said = format!("{} ids from {first} on are too many", one.size());
                return wrong(format!("{at}.{member}"), said);
            }
        }
        let overlap = |a: u32, of: u32, b: u32, size: u32| a < b + size && b < a + of;
        for other in &map[..index] {
            let (size, others) = (one.size(), other.size());
            for (member, a, b) in [
                ("containerID", one.container_id(), other.container_id()),
                ("hostID", one.host_id(), other.host_id()),
            ] {
                if overlap(a, size, b, others) {
                    return wrong(format!("{at}.{member}"), "it is mapped twice");
                }
            }
        }
    }
    Ok(())
}

fn clocks(linux: &Linux, namespaces: &Namespaces<'_>) -> Checked {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|all| !all.is_empty()) else {
        return Ok(());
    };
    let unknown = offsets
        .keys()
        .find(|clock| !matches!(clock.as_str(), "boottime" | "monotonic"));
    if let Some(clock) = unknown {
        let at = member("linux.timeOffsets", clock);
        return wrong(at, "unknown clock: expected one of boottime, monotonic");
    }
    if namespaces.makes(LinuxNamespaceType::Time) {
        return Ok(());
    }
    wrong(
        "linux.timeOffsets",
        "expected a new namespace \"time\" in linux.namespaces, found none",
    )
}

fn devices(linux: &Linux) -> Checked {
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let at = |member: &str| format!("linux.devices[{index}].{member}");
        absolute(at("path"), device.path())?;
        if device.typ() == LinuxDeviceType::P {
            continue;
        }
        for (member, number, largest) in [
            ("major", device.major(), LARGEST_MAJOR),
            ("minor", device.minor(), LARGEST_MINOR),
        ] {
            if !(0..=largest).contains(&number) {
                let said = format!("expected an integer from 0 to {largest}, found {number}");
                return wrong(at(member), said);
            }
        }
    }
    Ok(())
}

fn interfaces(linux: &Linux, namespaces: &Namespaces<'_>) -> Checked {
    let Some(devices) = linux.net_devices().as_ref().filter(|all| !all.is_empty()) else {
        return Ok(());
    };
    namespaces.need("linux.netDevices", LinuxNamespaceType::Network, "network")?;
    let mut devices: Vec<_> = devices.iter().collect();
    devices.sort_unstable_by_key(|(host, _)| *host);
    let mut taken = Vec::new();
    for (host, device) in devices {
        let at = member("linux.netDevices", host);
        let name = device.name().as_ref();
        let named = format!("{at}.name");
        for (at, name) in [(&at, Some(host)), (&named, name)] {
            if let Some(name) = name.filter(|name| !is_interface(name)) {
                let said = format!("{} is no name of a network interface", quoted(name));
                return wrong(at, said);
            }
        }
        let name = name.unwrap_or(host);
        if taken.contains(&name) {
            return wrong(named, format!("{} is there twice", quoted(name)));
        }
        taken.push(name);
    }
    Ok(())
}

/// Linux: dev_valid_name().
fn is_interface(name: &str) -> bool {
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0x0b;
    !matches!(name, "" | "." | "..") && name.len() <= LONGEST_INTERFACE && !name.bytes().any(bad)
}

/// Kernel parameters of namespaces that the container has; the others are the host's.
fn parameters(spec: &Spec, linux: &Linux, namespaces: &Namespaces<'_>) -> Checked {
    let mut names: Vec<&String> = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    for name in names {
        let at = member("linux.sysctl", name);
        let path = parameter_path(name);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong(at, "it is no name of a kernel parameter");
        }
        if path == "kernel/hostname" && spec.hostname().is_some() {
            return wrong(at, "expected without hostname only");
        }
        let Some(kind) = parameter_namespace(&path) else {
            return wrong(
                at,
                "it is not in a namespace, and would be set for the host",
            );
        };
        let namespace = match kind {
            LinuxNamespaceType::Uts => "uts",
            LinuxNamespaceType::Network => "network",
            LinuxNamespaceType::User => "user",
            _ => "ipc",
        };
        namespaces.need(&at, kind, namespace)?;
    }
    Ok(())
}

/// The kind of namespace that has a kernel parameter of this path.
pub fn parameter_namespace(path: &str) -> Option<LinuxNamespaceType> {
    match path {
        "kernel/hostname" | "kernel/domainname" => Some(LinuxNamespaceType::Uts),
        path if path.starts_with("net/") => Some(LinuxNamespaceType::Network),
        path if path.starts_with("user/") => Some(LinuxNamespaceType::User),
        path if path.starts_with("fs/mqueue/") || IPC.contains(&path) => {
            Some(LinuxNamespaceType::Ipc)
        }
        _ => None,
    }
}

/// The path of a kernel parameter below /proc/sys. As in sysctl(8), what comes first, a dot or a slash, is the
/// separator, and the other stands for the separator's character in a name.
pub fn parameter_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn paths(linux: &Linux, namespaces: &Namespaces<'_>) -> Checked {
    for (member, listed) in [
        ("linux.maskedPaths", linux.masked_paths()),
        ("linux.readonlyPaths", linux.readonly_paths()),
    ] {
        let listed = listed.as_deref().unwrap_or_default();
        if !listed.is_empty() {
            namespaces.need(member, LinuxNamespaceType::Mount, "mount")?;
        }
        for (index, path) in listed.iter().enumerate() {
            absolute(format!("{member}[{index}]"), path.as_ref())?;
        }
    }
    Ok(())
}

fn seccomp(seccomp: &LinuxSeccomp) -> Checked {
    let errno = |at: String, action: LinuxSeccompAction, given: Option<u32>| {
        let takes = matches!(
            action,
            LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
        );
        if given.is_some() && !takes {
            return wrong(at, "expected with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
        }
        Ok(())
    };
    let default = seccomp.default_action();
    if default == LinuxSeccompAction::ScmpActNotify {
        return wrong(
            "defaultAction",
            "expected SCMP_ACT_NOTIFY for single system calls only",
        );
    }
    errno(
        "defaultErrnoRet".into(),
        default,
        seccomp.default_errno_ret(),
    )?;
    let mut notifies = false;
    for (index, call) in seccomp.syscalls().iter().flatten().enumerate() {
        let at = |member: &str| format!("syscalls[{index}].{member}");
        if call.names().is_empty() {
            return wrong(at("names"), "expected a name, found none");
        }
        errno(at("errnoRet"), call.action(), call.errno_ret())?;
        notifies |= call.action() == LinuxSeccompAction::ScmpActNotify;
    }
    match seccomp.listener_path() {
        Some(path) => absolute("listenerPath", path),
        None if notifies => wrong("listenerPath", "missing: SCMP_ACT_NOTIFY needs it"),
        None if seccomp.listener_metadata().is_some() => {
            wrong("listenerMetadata", "expected with listenerPath only")
        }
        None => Ok(()),
    }
}

/// Linux: what set_mempolicy(2) says of modes, nodes and flags.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Checked {
    let named = policy.nodes().is_some();
    match policy.mode() {
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal if named => {
            return wrong("nodes", format!("expected none with {}", policy.mode()));
        }
        MemoryPolicyModeType::MpolDefault
        | MemoryPolicyModeType::MpolLocal
        | MemoryPolicyModeType::MpolPreferred => {}
        mode if !named => return wrong("nodes", format!("missing: {mode} needs it")),
        _ => {}
    }
    let flags = policy.flags().as_deref().unwrap_or_default();
    let both = [
        MemoryPolicyFlagType::MpolFStaticNodes,
        MemoryPolicyFlagType::MpolFRelativeNodes,
    ];
    if both.iter().all(|flag| flags.contains(flag)) {
        let said = "expected one of MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES, found both";
        return wrong("flags", said);
    }
    Ok(())
}
