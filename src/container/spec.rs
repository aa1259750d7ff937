//! Container to OCI runtime specification. Pure: the same input gives the same specification.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxBuilder;
use oci_spec::runtime::LinuxCapabilitiesBuilder;
use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceBuilder;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Mount;
use oci_spec::runtime::MountBuilder;
use oci_spec::runtime::ProcessBuilder;
use oci_spec::runtime::RootBuilder;
use oci_spec::runtime::Spec;
use oci_spec::runtime::SpecBuilder;

use crate::container::config::Config;
use crate::container::config::Network;
use crate::container::config::Seccomp;

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

/// What the machine, and not the user, decides.
pub struct Host {
    /// Only id 0 is mapped.
    pub single_id: bool,
    /// /sys/fs/cgroup is cgroup v2.
    pub unified_cgroup: bool,
    /// Files made for this start, and where the container sees them.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Rows and columns of the terminal that asks.
    pub size: Option<(u16, u16)>,
}

/// The specification of one start of a container.
pub fn of(config: &Config, host: Host) -> anyhow::Result<Spec> {
    let capabilities: HashSet<Capability> = DEFAULT_CAPABILITIES.into();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()?;
    let mut process = ProcessBuilder::default()
        .terminal(config.terminal)
        .args(config.args())
        .env(environment(config))
        .cwd(PathBuf::from(if config.workdir.is_empty() {
            "/"
        } else {
            &config.workdir
        }))
        .capabilities(capabilities)
        .no_new_privileges(config.no_new_privileges);
    if let (true, Some((rows, columns))) = (config.terminal, host.size) {
        let size = oci_spec::runtime::BoxBuilder::default()
            .height(u64::from(rows))
            .width(u64::from(columns))
            .build()?;
        process = process.console_size(size);
    }
    let mut process = process.build()?;
    process.set_rlimits(None);
    let owned =
        |paths: &[&str]| -> Vec<String> { paths.iter().map(|path| (*path).to_owned()).collect() };
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(config.network)?)
        .masked_paths(owned(&MASKED))
        .readonly_paths(owned(&READ_ONLY));
    if let Seccomp::Profile(profile) = &config.seccomp {
        linux = linux.seccomp(profile.as_ref().clone());
    }
    let linux = linux.build()?;
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(config.read_only)
        .build()?;
    Ok(SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .hostname(config.hostname.clone())
        .mounts(mounts(config, &host)?)
        .process(process)
        .linux(linux)
        .build()?)
}

/// The image's and the user's variables, with what a container has in any case.
fn environment(config: &Config) -> Vec<String> {
    let mut env = config.env.clone();
    let mut add = |name: &str, value: &str| {
        let prefix = format!("{name}=");
        if !env.iter().any(|variable| variable.starts_with(&prefix)) {
            env.push(format!("{prefix}{value}"));
        }
    };
    add(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    add("HOSTNAME", &config.hostname);
    add("container", "rbox");
    if config.terminal {
        add("TERM", "xterm");
    }
    env
}

fn namespaces(network: Network) -> anyhow::Result<Vec<LinuxNamespace>> {
    let mut kinds = vec![
        LinuxNamespaceType::User,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    if network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    let made = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    Ok(made.collect::<Result<_, _>>()?)
}

fn mounts(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let shm_size = format!("size={}", config.shm_size);
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        terminals(host)?,
        mount(
            "mqueue",
            "mqueue",
            "/dev/mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
        mount(
            "tmpfs",
            "shm",
            "/dev/shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm_size],
        )?,
        // Linux: sysfs shows a network namespace, and only its owner may mount it.
        match config.network {
            Network::None => mount(
                "sysfs",
                "sysfs",
                "/sys",
                &["nosuid", "noexec", "nodev", "ro"],
            )?,
            Network::Host => bind(
                Path::new("/sys"),
                Path::new("/sys"),
                &["nosuid", "noexec", "nodev", "ro"],
            )?,
        },
    ];
    if host.unified_cgroup && config.network == Network::None {
        mounts.push(mount(
            "cgroup2",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "ro"],
        )?);
    }
    for (source, destination) in &host.files {
        // A volume of the user's at the same place wins.
        let taken = config
            .volumes
            .iter()
            .any(|volume| Path::new(destination).starts_with(&volume.destination));
        if !taken {
            mounts.push(bind(
                source,
                Path::new(destination),
                &["nosuid", "noexec", "nodev"],
            )?);
        }
    }
    for volume in &config.volumes {
        let mode = if volume.read_only { "ro" } else { "rw" };
        mounts.push(bind(
            &volume.source,
            &volume.destination,
            &["nosuid", "nodev", mode],
        )?);
    }
    Ok(mounts)
}

fn terminals(host: &Host) -> anyhow::Result<Mount> {
    let mut options = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    // Linux: gid 5, the tty group of every distribution, must be mapped when devpts is mounted.
    if !host.single_id {
        options.push("gid=5");
    }
    mount("devpts", "devpts", "/dev/pts", &options)
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> anyhow::Result<Mount> {
    Ok(MountBuilder::default()
        .typ(kind)
        .source(source)
        .destination(destination)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()?)
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> anyhow::Result<Mount> {
    let options = ["rbind", "rprivate"].iter().chain(options);
    Ok(MountBuilder::default()
        .typ("bind")
        .source(source)
        .destination(destination)
        .options(
            options
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()?)
}
