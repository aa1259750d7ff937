//! The mounts of the specification, in the order in which they are made: what lies higher in the tree
//! first, so that nothing covers what is mounted below it.

use std::path::Path;

use oci_spec::runtime::Mount;
use oci_spec::runtime::MountBuilder;

use crate::container::config::Config;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Shm;
use crate::container::config::process::Network;
use crate::container::spec::Host;
use crate::container::spec::user_mounts;

pub fn mounts(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let own = user_mounts::mounts(config, &host.places)?;
    // What the user has put in the place of something, or above it, is meant: but an empty file system
    // above it has nothing to show at its place.
    let covered = |place: &Path| {
        own.iter().any(|mount| {
            let memory = matches!(mount.typ().as_deref(), Some("tmpfs" | "ramfs"));
            place == mount.destination() || !memory && place.starts_with(mount.destination())
        })
    };
    let mut mounts = of_kernel(config, host)?;
    mounts.extend(engine_files(host)?);
    if let Some((source, destination)) = &host.notify {
        let options = ["nosuid", "noexec", "nodev"];
        mounts.push(bind(source, Path::new(destination), &options)?);
    }
    if config.files.systemd {
        mounts.extend(systemd_mounts(config)?);
    }
    if config.files.read_only && config.files.read_only_tmpfs {
        for place in ["/run", "/tmp", "/var/tmp"] {
            let there = mounts
                .iter()
                .any(|mount| mount.destination() == Path::new(place));
            if !there {
                let mode = if place == "/run" {
                    "mode=755"
                } else {
                    "mode=1777"
                };
                mounts.push(mount(
                    "tmpfs",
                    place,
                    &["nosuid", "nodev", "tmpcopyup", mode],
                )?);
            }
        }
    }
    mounts.retain(|mount| !covered(mount.destination()));
    // These were asked for by their directory, which may be in a volume.
    let replaced = |copy: &Mount| {
        let mut places = own.iter().map(Mount::destination);
        places.any(|place| place == copy.destination())
    };
    let copies = chroot_files(config, host)?.into_iter();
    mounts.extend(copies.filter(|copy| !replaced(copy)));
    mounts.extend(own);
    mounts.sort_by_key(|mount| mount.destination().components().count());
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
    // systemd manages the groups below its own.
    let groups = if config.files.systemd { "rw" } else { kernel };
    let groups = ["nosuid", "noexec", "nodev", groups];
    let kernel = ["nosuid", "noexec", "nodev", kernel];
    let mut mounts = vec![
        mount("proc", "/proc", &proc)?,
        mount(
            "tmpfs",
            "/dev",
            &[
                "nosuid",
                "strictatime",
                "mode=755",
                "size=65536k",
                writable(config),
            ],
        )?,
        terminals(host)?,
    ];
    // Linux: mqueue shows an IPC namespace, and only its owner may mount it.
    if config.process.namespaces.ipc != Namespace::Host {
        mounts.push(mount("mqueue", "/dev/mqueue", &usual)?);
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
        mounts.push(mount("sysfs", "/sys", &kernel)?);
        let cgroup = "/sys/fs/cgroup";
        if config.process.namespaces.cgroup == Namespace::Host {
            mounts.push(bind(Path::new(cgroup), Path::new(cgroup), &kernel)?);
        } else if host.unified_cgroup {
            mounts.push(build(
                "cgroup2",
                Some(Path::new("cgroup")),
                Path::new(cgroup),
                words(&groups),
            )?);
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
    let options = [
        "nosuid",
        "noexec",
        "nodev",
        "mode=1777",
        &size,
        writable(config),
    ];
    let source = Some(Path::new("shm"));
    build("tmpfs", source, Path::new(place), words(&options)).map(Some)
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
    mount("devpts", "/dev/pts", &options)
}

/// With --read-only --read-only-tmpfs=false nothing at all can be written.
fn writable(config: &Config) -> &'static str {
    let closed = config.files.read_only && !config.files.read_only_tmpfs;
    if closed { "ro" } else { "rw" }
}

fn engine_files(host: &Host) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for (source, destination) in &host.files {
        let mut options = vec!["nosuid", "noexec", "nodev"];
        if *destination == "/etc/localtime" {
            // In most images a link to the file of a zone, which is to stay what it is.
            options.push("rbox.cover");
        }
        mounts.push(bind(source, Path::new(destination), &options)?);
    }
    Ok(mounts)
}

/// The same files in the directories of `--chrootdirs`.
fn chroot_files(config: &Config, host: &Host) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    if config.files.chroot_dirs.is_empty() {
        return Ok(mounts);
    }
    for file in engine_files(host)? {
        let inside = file.destination();
        let inside = inside.strip_prefix("/").unwrap_or(inside);
        for chroot in &config.files.chroot_dirs {
            let mut copy = file.clone();
            copy.set_destination(chroot.join(inside));
            mounts.push(copy);
        }
    }
    Ok(mounts)
}

/// As podman has them.
fn systemd_mounts(config: &Config) -> anyhow::Result<Vec<Mount>> {
    let size = config.files.systemd_size.map(|size| format!("size={size}"));
    let places = ["/run", "/run/lock", "/tmp", "/var/log/journal"];
    let mounts = places.map(|place| {
        let mut options = vec!["nosuid", "nodev"];
        if place != "/run/lock" {
            options.push("tmpcopyup");
        }
        if place == "/tmp" {
            options.push("mode=1777");
        }
        options.extend(size.as_deref());
        mount("tmpfs", place, &options)
    });
    mounts.into_iter().collect()
}

pub fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|option| (*option).to_owned()).collect()
}

fn mount(kind: &str, destination: &str, options: &[&str]) -> anyhow::Result<Mount> {
    build(kind, None, Path::new(destination), words(options))
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> anyhow::Result<Mount> {
    let mut all = words(&["rbind", "rprivate"]);
    all.extend(words(options));
    build("bind", Some(source), destination, all)
}

/// A mount; a file system without a source is called by its type.
pub fn build(
    kind: &str,
    source: Option<&Path>,
    destination: &Path,
    options: Vec<String>,
) -> anyhow::Result<Mount> {
    Ok(MountBuilder::default()
        .typ(kind)
        .source(source.unwrap_or(Path::new(kind)))
        .destination(destination)
        .options(options)
        .build()?)
}
