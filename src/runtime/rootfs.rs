//! The container's tree of mounts. What can be made detached is made before the ids are mapped,
//! while the helpers work (`Prepared`); it is attached, and the rest done, afterwards.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::ensure;
use oci_spec::runtime::Mount;
use oci_spec::runtime::Spec;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Overlay;
use crate::runtime::Rootfs;
use crate::runtime::flatten;
use crate::sys;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;
use crate::sys::path;
use crate::sys::path::Target;
use crate::sys::terminal::Pty;

/// The devices that every container has (OCI runtime specification, "Default Devices").
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts made, and not yet attached.
pub struct Prepared {
    /// One a mount of the specification; none where it needs the ids.
    mounts: Vec<Option<OwnedFd>>,
    devices: Vec<OwnedFd>,
}

/// Makes what needs no ids.
///
/// Must: run in a mount namespace of our own, with the host's files.
pub fn prepare(spec: &Spec) -> anyhow::Result<Prepared> {
    // Nothing that happens here may propagate to the host.
    mount::set_propagation(
        Path::new("/"),
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let mounts = spec.mounts().iter().flatten().map(|mount| {
        if needs_ids(mount) {
            return Ok(None);
        }
        make_mount(mount).map(Some)
    });
    let mounts = mounts.collect::<anyhow::Result<_>>()?;
    let devices = DEVICES.iter().map(|name| clone_device(name));
    Ok(Prepared {
        mounts,
        devices: devices.collect::<anyhow::Result<_>>()?,
    })
}

/// Linux: devpts takes a gid, which must be mapped when the superblock is made.
fn needs_ids(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("devpts")
}

impl Prepared {
    /// Attaches everything and returns the root.
    ///
    /// Must: run as root of the user namespace, after its ids are mapped.
    pub fn attach(self, spec: &Spec, rootfs: &Rootfs) -> anyhow::Result<OwnedFd> {
        let root = match rootfs {
            // Linux: overlay checks as the mounter's ids whether it may write to the upper
            // directory, which before they are mapped it may not (EACCES).
            Rootfs::Overlay(overlay) => mount_overlay(overlay)?,
            Rootfs::Copy(overlay) => {
                flatten::copy(overlay)?;
                mount_directory(&overlay.merged)?
            }
        };
        for (mount, prepared) in spec.mounts().iter().flatten().zip(self.mounts) {
            attach_mount(root.as_fd(), mount, prepared)
                .with_context(|| format!("cannot mount \"{}\"", mount.destination().display()))?;
        }
        make_devices(root.as_fd(), self.devices).context("cannot make /dev")?;
        Ok(root)
    }
}

/// Mounts the layers on `merged` and returns the root of it.
fn mount_overlay(overlay: &Overlay) -> anyhow::Result<OwnedFd> {
    rustix::process::chdir(&overlay.base)
        .with_context(|| format!("cannot enter {}", overlay.base.display()))?;
    let detached = overlay_detached(overlay);
    let root = match detached {
        // Linux: before 6.5 there is no lowerdir+ (EINVAL), and before 5.12 overlay cannot be
        // mounted detached; the option string of mount(2) does all of it in one page.
        Err(err) if err.errno == Errno::INVAL => overlay_classic(overlay).map_err(|_| err),
        Ok(detached) => {
            let merged = open_dir(&overlay.merged)?;
            mount::attach(detached.as_fd(), merged.as_fd()).map(|()| detached)
        }
        Err(err) => Err(err),
    };
    root.map_err(|err| {
        let text = format!(
            "cannot mount an overlay on {}: {err}",
            overlay.upper.display()
        );
        fail(Kind::Unsupported, text)
    })
}

fn overlay_detached(overlay: &Overlay) -> sys::Result<OwnedFd> {
    let fs = FileSystem::open("overlay")?;
    fs.set(Parameter::String("source", "overlay"))?;
    for layer in &overlay.lower {
        fs.set(Parameter::String("lowerdir+", &layer.to_string_lossy()))?;
    }
    fs.set(Parameter::String(
        "upperdir",
        &overlay.upper.to_string_lossy(),
    ))?;
    fs.set(Parameter::String(
        "workdir",
        &overlay.work.to_string_lossy(),
    ))?;
    fs.set(Parameter::Flag("userxattr"))?;
    if overlay.volatile {
        fs.set(Parameter::Flag("volatile"))?;
    }
    fs.mount(Attributes::empty())
}

fn overlay_classic(overlay: &Overlay) -> sys::Result<OwnedFd> {
    // Colons and commas separate; in a path they are escaped by a backslash.
    let escape = |path: &Path| {
        let text = path.to_string_lossy();
        text.replace('\\', "\\\\")
            .replace(':', "\\:")
            .replace(',', "\\,")
    };
    let lower: Vec<String> = overlay.lower.iter().map(|layer| escape(layer)).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr{}",
        lower.join(":"),
        escape(&overlay.upper),
        escape(&overlay.work),
        if overlay.volatile { ",volatile" } else { "" }
    );
    let invalid = |_| sys::SyscallError {
        call: format!("mount(overlay, {options:?})"),
        errno: Errno::INVAL,
    };
    let options = std::ffi::CString::new(options.clone()).map_err(invalid)?;
    mount::mount_classic("overlay", &overlay.merged, &options)?;
    open_dir(&overlay.merged)
}

fn open_dir(path: &Path) -> sys::Result<OwnedFd> {
    use crate::sys::Call;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))
}

/// Makes a directory a mount of its own, which pivot_root(2) asks for.
fn mount_directory(directory: &Path) -> anyhow::Result<OwnedFd> {
    let cannot = || format!("cannot use {} as a root file system", directory.display());
    let target = open_dir(directory).with_context(cannot)?;
    let tree = mount::clone_tree(target.as_fd(), c"", true).with_context(cannot)?;
    mount::attach(tree.as_fd(), target.as_fd()).with_context(cannot)?;
    Ok(tree)
}

fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount
            .options()
            .iter()
            .flatten()
            .any(|option| option == "bind" || option == "rbind")
}

fn make_mount(mount: &Mount) -> anyhow::Result<OwnedFd> {
    let made = if is_bind(mount) {
        let source = mount.source().as_deref().unwrap_or(Path::new("/"));
        return bind(source, mount)
            .with_context(|| format!("cannot mount \"{}\"", source.display()));
    } else {
        make_file_system(mount)
    };
    let made = match (made, mount.typ().as_deref()) {
        (Err(err), Some(kind @ ("proc" | "sysfs"))) if err.errno == Errno::PERM => {
            // Linux: a new procfs or sysfs may be mounted in a user namespace only where one is
            // fully visible already, which in a container with masked paths it is not
            // (mount_too_revealing()), and sysfs only with a network namespace of our own. The one
            // that is there is shown instead; procfs finds /proc/self by the reader's own pid there.
            let path = if kind == "proc" { c"/proc" } else { c"/sys" };
            mount::clone_tree(rustix::fs::CWD, path, true).and_then(|tree| {
                mount::set_attributes(tree.as_fd(), attributes(mount), true)?;
                Ok(tree)
            })
        }
        (made, _) => made,
    };
    made.with_context(|| format!("cannot mount \"{}\"", mount.destination().display()))
}

fn attributes(mount: &Mount) -> Attributes {
    mount
        .options()
        .iter()
        .flatten()
        .filter_map(|option| mount::attribute(option))
        .fold(Attributes::empty(), |all, one| all | one)
}

fn make_file_system(mount: &Mount) -> sys::Result<OwnedFd> {
    let fs = FileSystem::open(mount.typ().as_deref().unwrap_or_default())?;
    if let Some(source) = mount.source() {
        fs.set(Parameter::String("source", &source.to_string_lossy()))?;
    }
    for option in mount.options().iter().flatten() {
        if mount::attribute(option).is_some() || is_default(option) {
            continue;
        }
        match option.split_once('=') {
            Some((key, value)) => fs.set(Parameter::String(key, value))?,
            None => fs.set(Parameter::Flag(option))?,
        }
    }
    fs.mount(attributes(mount))
}

/// Options that say what is so without them.
fn is_default(option: &str) -> bool {
    matches!(
        option,
        "rw" | "suid" | "dev" | "exec" | "relatime" | "async" | "private" | "rprivate"
    )
}

fn bind(source: &Path, mount: &Mount) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(source, flags, Mode::empty())?;
    // Linux: mounts that came from a namespace of other privilege are locked together, and cannot
    // be cloned one without the other (mount_namespaces(7)); hence always recursive.
    let tree = mount::clone_tree(source.as_fd(), c"", true)?;
    mount::set_attributes(tree.as_fd(), attributes(mount), true)?;
    Ok(tree)
}

fn attach_mount(
    root: BorrowedFd<'_>,
    mount: &Mount,
    prepared: Option<OwnedFd>,
) -> anyhow::Result<()> {
    let made = match prepared {
        Some(made) => made,
        None => make_mount(mount)?,
    };
    let kind = if path::is_dir(made.as_fd())? {
        Target::Directory
    } else {
        Target::File
    };
    let target = if is_bind(mount) {
        path::open_or_create(root, mount.destination(), kind)?
    } else {
        // An image that has /proc as a link would otherwise choose where the kernel's own file
        // systems appear (CVE-2019-19921, CVE-2023-28642).
        path::open_or_create_real(root, mount.destination(), kind)?
    };
    ensure!(
        path::is_dir(target.as_fd())? == (kind == Target::Directory),
        "one of source and destination is a directory and the other is not"
    );
    // What is mounted there would be under the container, where nobody sees it.
    let (place, top) = (rustix::fs::fstat(&target)?, rustix::fs::fstat(root)?);
    ensure!(
        (place.st_dev, place.st_ino) != (top.st_dev, top.st_ino),
        "it is the root directory of the container"
    );
    mount::attach(made.as_fd(), target.as_fd())?;
    Ok(())
}

/// A device of the host as a mount that shows it and lets nobody change it.
///
/// Linux: a read-only mount refuses chmod, chown and utimes of a device but not to write to it. Root of
/// a container that root started is the owner of the host's /dev/null in all but name.
pub fn clone_device(name: &str) -> anyhow::Result<OwnedFd> {
    let path = std::ffi::CString::new(format!("/dev/{name}"))?;
    let tree = mount::clone_tree(rustix::fs::CWD, &path, false)
        .with_context(|| format!("cannot use the host's /dev/{name}"))?;
    let stat = rustix::fs::fstat(&tree)?;
    ensure!(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice,
        "/dev/{name} of the host is not a device"
    );
    mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, false)?;
    Ok(tree)
}

fn make_devices(root: BorrowedFd<'_>, devices: Vec<OwnedFd>) -> anyhow::Result<()> {
    let dev = path::open_or_create_real(root, Path::new("/dev"), Target::Directory)?;
    for (name, device) in DEVICES.iter().zip(devices) {
        let target = path::open_or_create_real(dev.as_fd(), Path::new(name), Target::File)?;
        mount::attach(device.as_fd(), target.as_fd()).with_context(|| format!("/dev/{name}"))?;
    }
    for (name, target) in DEVICE_LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("/dev/{name}")),
        }
    }
    Ok(())
}

/// Shows the terminal as /dev/console, which is where pid 1 looks for one.
pub fn make_console(root: BorrowedFd<'_>, pty: &Pty) -> anyhow::Result<()> {
    let dev = path::open_or_create_real(root, Path::new("/dev"), Target::Directory)?;
    let target = path::open_or_create_real(dev.as_fd(), Path::new("console"), Target::File)?;
    // The slave is cloned by its descriptor: its path could have been replaced (CVE-2025-52565).
    let tree =
        mount::clone_tree(pty.slave.as_fd(), c"", false).context("cannot show the terminal")?;
    mount::attach(tree.as_fd(), target.as_fd())?;
    Ok(())
}

/// Covers the masked paths, and makes others read-only.
pub fn restrict(root: BorrowedFd<'_>, spec: &Spec) -> anyhow::Result<()> {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    for hidden in linux.masked_paths().iter().flatten() {
        mask(root, Path::new(hidden)).with_context(|| format!("cannot mask {hidden}"))?;
    }
    for fixed in linux.readonly_paths().iter().flatten() {
        let make = || -> anyhow::Result<()> {
            let Some(target) = existing(root, Path::new(fixed))? else {
                return Ok(());
            };
            let tree = mount::clone_tree(target.as_fd(), c"", true)?;
            mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, true)?;
            mount::attach(tree.as_fd(), target.as_fd())?;
            Ok(())
        };
        make().with_context(|| format!("cannot make {fixed} read-only"))?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    match path::open_in_root(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        // EACCES: with a single id some of the host's files below /sys cannot even be reached.
        Err(err) if matches!(err.errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn mask(root: BorrowedFd<'_>, path: &Path) -> anyhow::Result<()> {
    let Some(target) = existing(root, path)? else {
        return Ok(());
    };
    let cover = if path::is_dir(target.as_fd())? {
        let fs = FileSystem::open("tmpfs")?;
        fs.set(Parameter::String("size", "0k"))?;
        fs.mount(Attributes::MOUNT_ATTR_RDONLY)?
    } else {
        // The host's /dev/null: that of the container is in the container's hands (CVE-2025-31133).
        clone_device("null")?
    };
    mount::attach(cover.as_fd(), target.as_fd())?;
    Ok(())
}
