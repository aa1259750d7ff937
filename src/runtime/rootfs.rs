//! The container's tree of mounts. What can be made detached is made before the ids are mapped,
//! while the helpers work (`Prepared`); it is attached, and the rest done, afterwards.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::Mount;
use oci_spec::runtime::Spec;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Bundle;
use crate::runtime::Overlay;
use crate::runtime::Rootfs;
use crate::runtime::devices::Devices;
use crate::runtime::devices::clone_device;
use crate::runtime::fill::Owner;
use crate::runtime::flatten;
use crate::runtime::mount_options::Style;
use crate::runtime::mounts;
use crate::runtime::mounts::Made;
use crate::runtime::process;
use crate::sys;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;
use crate::sys::path;
use crate::sys::path::Target;
use crate::sys::terminal::Pty;

/// The directories of the root file system, opened by the caller's own user: root of the container may
/// be somebody who cannot get through the directories above them.
pub struct Opened {
    /// Layers, top first.
    pub lower: Vec<OwnedFd>,
    /// See `Overlay`.
    pub contents: Vec<OwnedFd>,
    pub upper: OwnedFd,
    pub work: OwnedFd,
    pub merged: OwnedFd,
}

impl Opened {
    pub fn open(overlay: &Overlay) -> sys::Result<Opened> {
        let lower = overlay.lower.iter();
        let lower = lower.map(|layer| open_dir(&overlay.base.join(layer)));
        let contents = overlay.contents.iter();
        let contents = contents.map(|place| open_dir(place));
        Ok(Opened {
            lower: lower.collect::<sys::Result<_>>()?,
            contents: contents.collect::<sys::Result<_>>()?,
            upper: open_dir(&overlay.upper)?,
            work: open_dir(&overlay.work)?,
            merged: open_dir(&overlay.merged)?,
        })
    }
}

/// The same of any root file system.
enum Source {
    Layers(Opened),
    Directory(OwnedFd),
}

/// The path of an open file, for calls that take no descriptor of it.
///
/// Linux: the link of a process's own descriptor is followed whatever stands in the way of the file's
/// real path (proc_fd_access_allowed() asks for rights that a process has over itself).
fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Mounts made, and not yet attached.
pub struct Prepared<'a> {
    source: Source,
    /// One a mount of the specification.
    mounts: Vec<Made>,
    devices: Option<Devices<'a>>,
}

/// Makes what needs no ids.
///
/// Must: run in a mount namespace of our own, with the host's files.
pub fn prepare<'a>(
    bundle: &Bundle<'a>,
    idmapped: Vec<Option<OwnedFd>>,
) -> anyhow::Result<Prepared<'a>> {
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let source = match bundle.rootfs {
        Rootfs::Overlay(overlay) | Rootfs::Copy(overlay) => Source::Layers(Opened::open(overlay)?),
        Rootfs::Directory(path) => Source::Directory(open_dir(path)?),
    };
    // Linux: the root of a new file system belongs to who makes it.
    let owned = bundle.root_is_caller;
    let style = Style::of(bundle);
    let mut idmapped = idmapped.into_iter();
    let made = mounts.iter().map(|mount| match idmapped.next().flatten() {
        Some(tree) => Ok(Made::Mount(tree)),
        None => mounts::prepare(mount, owned, style),
    });
    let made = made.collect::<anyhow::Result<_>>()?;
    // A /dev of the user's own is as he wants it.
    let is_own = |mount: &Mount| mount.destination() == Path::new("/dev") && mounts::is_bind(mount);
    let devices = (!mounts.iter().any(is_own)).then(|| Devices::prepare(bundle));
    let devices = devices.transpose()?;
    // Nothing that is attached from here on may propagate to the host. What was cloned goes on as it was.
    let propagation = if mounts::any_slave(mounts) {
        MountPropagationFlags::DOWNSTREAM
    } else {
        MountPropagationFlags::PRIVATE
    };
    mount::set_propagation(Path::new("/"), propagation | MountPropagationFlags::REC)?;
    Ok(Prepared {
        source,
        mounts: made,
        devices,
    })
}

impl Prepared<'_> {
    /// Attaches everything and returns the root.
    ///
    /// Must: run as root of the user namespace, after its ids are mapped.
    pub fn attach(self, bundle: &Bundle<'_>) -> anyhow::Result<OwnedFd> {
        let spec = bundle.spec;
        let root = match (bundle.rootfs, &self.source) {
            // Linux: overlay checks as the mounter's ids whether it may write to the upper
            // directory, which before they are mapped it may not (EACCES).
            (Rootfs::Overlay(overlay), Source::Layers(opened)) => mount_overlay(overlay, opened)?,
            (Rootfs::Copy(overlay), Source::Layers(opened)) => {
                flatten::copy(opened).with_context(|| {
                    format!("cannot copy the image to {}", overlay.merged.display())
                })?;
                mount_directory(&opened.merged)?
            }
            (Rootfs::Directory(_), Source::Directory(directory)) => mount_directory(directory)?,
            _ => bail!("the root file system is not the one that was opened"),
        };
        // Must: before any volume is there, whose files are the host's.
        if let Some(accounts) = bundle.accounts {
            accounts.add(root.as_fd())?;
        }
        let owner = || {
            let user = process::container_user(bundle, root.as_fd())?;
            Ok(Owner {
                uid: user.uid,
                gid: user.gid,
            })
        };
        let style = Style::of(bundle);
        for (mount, made) in spec.mounts().iter().flatten().zip(self.mounts) {
            mounts::attach(root.as_fd(), mount, made, style, &owner)
                .with_context(|| format!("cannot mount \"{}\"", mount.destination().display()))?;
        }
        let closes = self.devices.as_ref().is_some_and(Devices::closes_others);
        if let Some(devices) = self.devices {
            devices.attach(root.as_fd())?;
        }
        if closes {
            close_to_devices(root.as_fd())?;
        }
        Ok(root)
    }
}

/// Mounts the layers on `merged` and returns the root of it.
pub fn mount_overlay(overlay: &Overlay, opened: &Opened) -> anyhow::Result<OwnedFd> {
    let detached = overlay_detached(overlay, opened);
    let root = match detached {
        // Linux: before 6.5 there is no lowerdir+ (EINVAL), and before 5.12 overlay cannot be
        // mounted detached; the option string of mount(2) does all of it in one page.
        Err(err) if err.errno == Errno::INVAL && opened.contents.is_empty() => {
            overlay_classic(overlay, opened).map_err(|_| err)
        }
        Ok(detached) => mount::attach(detached.as_fd(), opened.merged.as_fd()).map(|()| detached),
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

fn overlay_detached(overlay: &Overlay, opened: &Opened) -> sys::Result<OwnedFd> {
    let fs = FileSystem::open("overlay")?;
    fs.set(Parameter::String("source", "overlay"))?;
    for layer in &opened.lower {
        fs.set(Parameter::String("lowerdir+", &by_descriptor(layer)))?;
    }
    for place in &opened.contents {
        fs.set(Parameter::String("datadir+", &by_descriptor(place)))?;
    }
    fs.set(Parameter::String("upperdir", &by_descriptor(&opened.upper)))?;
    fs.set(Parameter::String("workdir", &by_descriptor(&opened.work)))?;
    fs.set(Parameter::Flag("userxattr"))?;
    if overlay.volatile {
        fs.set(Parameter::Flag("volatile"))?;
    }
    fs.mount(Attributes::empty())
}

fn overlay_classic(overlay: &Overlay, opened: &Opened) -> sys::Result<OwnedFd> {
    let lower: Vec<String> = opened.lower.iter().map(by_descriptor).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr{}",
        lower.join(":"),
        by_descriptor(&opened.upper),
        by_descriptor(&opened.work),
        if overlay.volatile { ",volatile" } else { "" }
    );
    let invalid = |_| sys::SyscallError {
        call: format!("mount(overlay, {options:?})"),
        errno: Errno::INVAL,
    };
    let options = std::ffi::CString::new(options.clone()).map_err(invalid)?;
    let merged = by_descriptor(&opened.merged);
    mount::mount_classic("overlay", Path::new(&merged), &options)?;
    // Linux: a descriptor shows what it was opened on; the mount on top of it is found by its path.
    // Where root of the container cannot go there, this fails and the image is copied instead.
    open_dir(&overlay.merged)
}

pub fn open_dir(path: &Path) -> sys::Result<OwnedFd> {
    use crate::sys::Call;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))
}

/// Makes a directory a mount of its own, which pivot_root(2) asks for.
pub fn mount_directory(directory: &OwnedFd) -> anyhow::Result<OwnedFd> {
    let mount = || {
        let tree = mount::clone_tree(directory.as_fd(), c"", true)?;
        mount::attach(tree.as_fd(), directory.as_fd())?;
        sys::Result::Ok(tree)
    };
    mount().context("cannot use it as a root file system")
}

/// A device that is made in the container opens nothing there: those it may use are mounts of their own.
/// In a user namespace the kernel has it so anyhow.
fn close_to_devices(root: BorrowedFd<'_>) -> anyhow::Result<()> {
    let dev = path::open_or_create_real(root, Path::new("/dev"), Target::Directory)?;
    for place in [root, dev.as_fd()] {
        mount::set_attributes(place, Attributes::MOUNT_ATTR_NODEV, false)?;
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

/// How mounts propagate in the root file system from here on.
///
/// Must: run when it is entered. Linux: a shared mount can neither be pivoted to nor moved.
pub fn propagate(spec: &Spec) -> anyhow::Result<()> {
    let linux = spec.linux().as_ref();
    let wanted = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
    let Some((propagation, recursive)) = wanted.and_then(mount::propagation) else {
        return Ok(());
    };
    let flags = if recursive {
        propagation | MountPropagationFlags::REC
    } else {
        propagation
    };
    mount::set_propagation(Path::new("/"), flags).context("cannot set rootfsPropagation")
}

/// Covers the masked paths, and makes others read-only.
pub fn restrict(root: BorrowedFd<'_>, spec: &Spec) -> anyhow::Result<()> {
    close_dev(root, spec)?;
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

/// Makes /dev read-only where that is wanted, now that everything is in it.
fn close_dev(root: BorrowedFd<'_>, spec: &Spec) -> anyhow::Result<()> {
    let read_only = |mount: &Mount| {
        let mut options = mount.options().iter().flatten();
        mounts::is_dev(mount) && options.any(|option| option == "ro")
    };
    if spec.mounts().iter().flatten().any(read_only) {
        let dev = path::open_or_create_real(root, Path::new("/dev"), Target::Directory)?;
        mount::set_attributes(dev.as_fd(), Attributes::MOUNT_ATTR_RDONLY, false)
            .context("cannot make /dev read-only")?;
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
        clone_device(Path::new("/dev/null"))?
    };
    mount::attach(cover.as_fd(), target.as_fd())?;
    Ok(())
}
