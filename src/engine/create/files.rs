//! What the container will see of files beside those of its image.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::container::config::Files;
use crate::container::config::Identity;
use crate::container::config::Process;
use crate::container::config::files::Rootfs;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Namespaces;
use crate::container::config::namespaces::Shm;
use crate::container::mounts;
use crate::container::mounts::Mount;
use crate::container::mounts::Options;
use crate::container::mounts::Source;
use crate::container::mounts::VolumesFrom;
use crate::container::mounts::device::Asked;
use crate::container::mounts::device::Device;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::devices;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::config::ImageConfig;

/// Bytes of /dev/shm, as in Docker and Podman.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub mounts: Vec<Mount>,
    pub volumes_from: Vec<VolumesFrom>,
    pub image_volumes: ImageVolumes,
    pub devices: Vec<Asked>,
    pub cdi_dirs: Vec<PathBuf>,
    pub read_only: bool,
    pub read_only_tmpfs: bool,
    pub shm_size: Option<u64>,
    pub systemd: Systemd,
    pub systemd_size: Option<u64>,
    pub chroot_dirs: Vec<PathBuf>,
    pub rootfs: Option<Rootfs>,
}

/// What becomes of the volumes that an image names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageVolumes {
    Anonymous,
    Tmpfs,
    Ignore,
}

/// Whether the container is set up for systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Systemd {
    /// If its command is an init.
    Auto,
    Always,
    Never,
}

pub fn decide(
    engine: &Engine,
    wish: Wish,
    image: &ImageConfig,
    identity: &Identity,
    process: &Process,
) -> anyhow::Result<Files> {
    if let Some(size) = wish.shm_size {
        refuse_shm_size(size, &process.namespaces)?;
    }
    let mut all = wish.mounts;
    refuse_doubles(&all)?;
    for from in &wish.volumes_from {
        add_missing(&mut all, mounts_of(engine, from)?);
    }
    add_missing(&mut all, image_mounts(wish.image_volumes, image));
    for mount in &mut all {
        check(mount)?;
        if let Source::Image { .. } = mount.source {
            find_image(engine, identity, mount)?;
        }
    }
    let mut devices: Vec<Device> = Vec::new();
    let mut cdi_devices = Vec::new();
    for device in wish.devices {
        match device {
            Asked::Cdi(name) => cdi_devices.push(name),
            Asked::Node(device) => {
                devices::nodes(&device)?;
                devices.push(device);
            }
        }
    }
    if !cdi_devices.is_empty() {
        crate::config::cdi::resolve(&wish.cdi_dirs, &cdi_devices)?;
    }
    if let Some(rootfs) = &wish.rootfs
        && !rootfs.path.is_dir()
    {
        return Err(fail(
            Kind::NotFound,
            format!("root file system {} is no directory", rootfs.path.display()),
        ));
    }
    Ok(Files {
        mounts: all,
        devices,
        cdi_devices,
        cdi_dirs: wish.cdi_dirs,
        read_only: wish.read_only,
        read_only_tmpfs: wish.read_only_tmpfs,
        shm_size: wish.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        systemd: match wish.systemd {
            Systemd::Always => true,
            Systemd::Never => false,
            Systemd::Auto => is_init(&process.args()),
        },
        systemd_size: wish.systemd_size,
        chroot_dirs: wish.chroot_dirs,
        rootfs: wish.rootfs,
    })
}

/// Only a /dev/shm of its own has a size that a container can choose.
fn refuse_shm_size(size: u64, namespaces: &Namespaces) -> anyhow::Result<()> {
    let why = match (&namespaces.ipc, namespaces.shm) {
        (Namespace::Private, Shm::None) => "with --ipc none there is no /dev/shm",
        (Namespace::Private, _) => return Ok(()),
        _ => "/dev/shm is of the IPC namespace that the container joins",
    };
    Err(fail(Kind::Usage, format!("--shm-size=\"{size}\": {why}")))
}

fn refuse_doubles(mounts: &[Mount]) -> anyhow::Result<()> {
    let mut places = HashSet::new();
    match mounts
        .iter()
        .find(|mount| !places.insert(&mount.destination))
    {
        Some(double) => Err(fail(
            Kind::Usage,
            format!(
                "two mounts at \"{}\": expected one for each place",
                double.destination.display()
            ),
        )),
        None => Ok(()),
    }
}

/// Adds mounts at places where there is none yet.
fn add_missing(mounts: &mut Vec<Mount>, more: Vec<Mount>) {
    for mount in more {
        if !mounts
            .iter()
            .any(|known| known.destination == mount.destination)
        {
            mounts.push(mount);
        }
    }
}

/// The volumes and directories of the host that another container has.
fn mounts_of(engine: &Engine, from: &VolumesFrom) -> anyhow::Result<Vec<Mount>> {
    let container = Container::find(&engine.dirs, &from.container)?;
    let mut mounts = container.config.files.mounts;
    mounts.retain(|mount| matches!(mount.source, Source::Bind { .. } | Source::Volume { .. }));
    for mount in &mut mounts {
        if let Some(read_only) = from.read_only {
            mount.options.read_only = read_only;
        }
        mount.options.relabel |= from.relabel;
    }
    Ok(mounts)
}

/// An image may ask for volumes at places of its own files: never over those of the kernel.
fn image_mounts(wanted: ImageVolumes, image: &ImageConfig) -> Vec<Mount> {
    if wanted == ImageVolumes::Ignore {
        return vec![];
    }
    let places = image.volumes.iter().filter_map(|place| {
        let place = mounts::destination(&format!("/{}", place.trim_start_matches('/'))).ok()?;
        let of_kernel = ["/proc", "/sys", "/dev"]
            .iter()
            .any(|kernel| place.starts_with(kernel));
        let climbs = place.components().any(|part| part.as_os_str() == "..");
        (!of_kernel && !climbs).then_some(place)
    });
    let mount = |destination| Mount {
        source: match wanted {
            ImageVolumes::Tmpfs => Source::Tmpfs,
            _ => Source::volume(""),
        },
        destination,
        options: Options {
            // Programs of an image run from its volumes as from everywhere else in it.
            exec: Some(true),
            suid: Some(wanted == ImageVolumes::Anonymous),
            ..Options::default()
        },
    };
    places.map(mount).collect()
}

fn check(mount: &Mount) -> anyhow::Result<()> {
    let place = mount.destination.display();
    if mount.options.relabel && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(fail(
            Kind::Unsupported,
            format!("cannot relabel what is mounted at \"{place}\": rbox writes no SELinux labels"),
        )
        .hint("leave out z, Z and relabel=, and label it yourself with `chcon`"));
    }
    let Source::Bind { path } = &mount.source else {
        return Ok(());
    };
    let dirs = mount.options.overlay.iter();
    let dirs = dirs.flat_map(|overlay| overlay.upper.iter().chain(&overlay.work));
    for path in std::iter::once(path).chain(dirs) {
        let found = if mount.options.keep_link {
            path.symlink_metadata().map(|_| true)
        } else {
            path.try_exists()
        };
        match found {
            Ok(true) => {}
            Ok(false) => {
                return Err(fail(
                    Kind::NotFound,
                    format!("volume source {} does not exist", path.display()),
                )
                .hint(format!("make it: `mkdir -p {}`", path.display())));
            }
            Err(err) => {
                return Err(err).with_context(|| format!("cannot use {}", path.display()));
            }
        }
    }
    if mount.options.overlay.is_some() && !path.is_dir() {
        return Err(fail(
            Kind::Usage,
            format!("option O needs a directory, and {} is none", path.display()),
        ));
    }
    if mount.options.chown && mount.options.overlay.is_none() && belongs_to_system(path) {
        return Err(fail(
            Kind::Usage,
            format!(
                "option U would give {} of the host to the container's user",
                path.display()
            ),
        )
        .hint("use a directory of your own, or leave out U"));
    }
    Ok(())
}

/// Directories whose owner is not to be changed with all that is in them, by whatever name.
fn belongs_to_system(path: &Path) -> bool {
    const SYSTEM: [&str; 20] = [
        "/",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/etc/passwd",
        "/etc/pki",
        "/home",
        "/lib",
        "/lib64",
        "/media",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/usr",
        "/var",
    ];
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    SYSTEM.iter().any(|system| real == Path::new(system))
}

fn find_image(engine: &Engine, identity: &Identity, mount: &mut Mount) -> anyhow::Result<()> {
    let Source::Image {
        reference,
        layers,
        lower,
        contents,
    } = &mut mount.source
    else {
        return Ok(());
    };
    let image = image::find(&engine.dirs, reference)?;
    let (_, stack) = super::layers(engine, &image, identity)?;
    (*lower, *contents) = (stack.lower, stack.contents);
    *layers = image.layers;
    Ok(())
}

/// As podman tells an init, behind a shell that a Dockerfile puts before it too.
fn is_init(args: &[String]) -> bool {
    let args = match args {
        [shell, flag, rest @ ..] if shell == "/bin/sh" && flag == "-c" => rest,
        all => all,
    };
    args.first().is_some_and(|command| {
        ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"].contains(&command.as_str())
            || Path::new(command).file_name() == Some("systemd".as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_name() {
        let is = |args: &[&str]| is_init(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(is(&["/sbin/init"]) && is(&["systemd"]) && is(&["/lib/systemd/systemd", "x"]));
        assert!(is(&["/bin/sh", "-c", "/usr/sbin/init"]));
        assert!(!is(&[]) && !is(&["init"]) && !is(&["sh", "/sbin/init"]));
    }

    #[test]
    fn an_image_has_no_volumes_over_what_is_the_kernels() {
        let image = ImageConfig {
            volumes: [
                "/data",
                "rel",
                "/",
                "/proc",
                "/dev/x",
                "/sys/..",
                "/a/../proc",
                "",
            ]
            .map(String::from)
            .to_vec(),
            ..ImageConfig::default()
        };
        let places: Vec<PathBuf> = image_mounts(ImageVolumes::Anonymous, &image)
            .into_iter()
            .map(|mount| mount.destination)
            .collect();
        assert_eq!(places, [Path::new("/data"), Path::new("/rel")]);
        assert_eq!(image_mounts(ImageVolumes::Ignore, &image), []);
    }
}
