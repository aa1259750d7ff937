//! The mounts of the specification, in the order in which they are made.

use std::path::Path;

use oci_spec::runtime::Mount;
use oci_spec::runtime::MountBuilder;

use crate::container::config::Config;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Shm;
use crate::container::config::process::Network;
use crate::container::spec::Host;

pub fn mounts(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = of_kernel(config, host)?;
    for (source, destination) in &host.files {
        // A volume of the user's at the same place wins.
        let taken = config
            .files
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
    for volume in &config.files.volumes {
        let mode = if volume.read_only { "ro" } else { "rw" };
        mounts.push(bind(
            &volume.source,
            &volume.destination,
            &["nosuid", "nodev", mode],
        )?);
    }
    Ok(mounts)
}

/// The file systems of the kernel: each shows a namespace, of this container or of who shares it.
fn of_kernel(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let usual = ["nosuid", "noexec", "nodev"];
    let mut proc = usual.to_vec();
    proc.extend(config.security.proc_options.iter().map(String::as_str));
    // What is the kernel's own to set is left to whoever has the privilege for it.
    let kernel = if config.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let kernel = ["nosuid", "noexec", "nodev", kernel];
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &proc)?,
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        terminals(host)?,
    ];
    // Linux: mqueue shows an IPC namespace, and only its owner may mount it.
    if config.process.namespaces.ipc != Namespace::Host {
        mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &usual)?);
    } else if host.mqueue {
        mounts.push(bind(
            Path::new("/dev/mqueue"),
            Path::new("/dev/mqueue"),
            &usual,
        )?);
    }
    mounts.extend(shm(config)?);
    // Linux: sysfs shows a network namespace, and only its owner may mount it.
    if config.process.network == Network::Host {
        mounts.push(bind(Path::new("/sys"), Path::new("/sys"), &kernel)?);
    } else {
        mounts.push(mount("sysfs", "sysfs", "/sys", &kernel)?);
        let cgroup = "/sys/fs/cgroup";
        if config.process.namespaces.cgroup == Namespace::Host {
            mounts.push(bind(Path::new(cgroup), Path::new(cgroup), &kernel)?);
        } else if host.unified_cgroup {
            mounts.push(mount("cgroup2", "cgroup", cgroup, &kernel)?);
        }
    }
    Ok(mounts)
}

/// Shared memory goes with the IPC namespace.
fn shm(config: &Config) -> anyhow::Result<Option<Mount>> {
    let namespaces = &config.process.namespaces;
    let place = "/dev/shm";
    if namespaces.ipc == Namespace::Host {
        let host = Path::new(place);
        return bind(host, host, &["nosuid", "noexec", "nodev"]).map(Some);
    }
    if namespaces.ipc == Namespace::Private && namespaces.shm == Shm::None {
        return Ok(None);
    }
    let size = format!("size={}", config.files.shm_size);
    let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
    mount("tmpfs", "shm", place, &options).map(Some)
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
    if host.tty_group {
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
