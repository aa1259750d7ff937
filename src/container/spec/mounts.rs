//! The mounts of the specification, in the order in which they are made.

use std::path::Path;

use oci_spec::runtime::Mount;
use oci_spec::runtime::MountBuilder;

use crate::container::config::Config;
use crate::container::config::process::Network;
use crate::container::spec::Host;

pub fn mounts(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let shm_size = format!("size={}", config.files.shm_size);
    let mut proc = vec!["nosuid", "noexec", "nodev"];
    proc.extend(config.security.proc_options.iter().map(String::as_str));
    // What is the kernel's own to set is left to whoever has the privilege for it.
    let kernel = if config.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &proc)?,
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
        match config.process.network {
            Network::None => mount(
                "sysfs",
                "sysfs",
                "/sys",
                &["nosuid", "noexec", "nodev", kernel],
            )?,
            Network::Host => bind(
                Path::new("/sys"),
                Path::new("/sys"),
                &["nosuid", "noexec", "nodev", kernel],
            )?,
        },
    ];
    if host.unified_cgroup && config.process.network == Network::None {
        mounts.push(mount(
            "cgroup2",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", kernel],
        )?);
    }
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
