//! The devices of a container, in /dev and where the specification has them: made where the kernel lets us, and else
//! mounts that show those of the host.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;
use oci_spec::runtime::LinuxDevice;
use oci_spec::runtime::LinuxDeviceType;
use oci_spec::runtime::Spec;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;

use crate::runtime::Bundle;
use crate::runtime::Userns;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::path;
use crate::sys::path::Target;

/// The devices that every container has (OCI runtime specification, "Default Devices"), with their numbers (devices.txt).
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// One that the container is to have.
struct Device<'a> {
    path: &'a Path,
    kind: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
}

impl<'a> Device<'a> {
    fn listed(device: &'a LinuxDevice) -> anyhow::Result<Device<'a>> {
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => bail!("expected a device of type b, c, u or p"),
        };
        let number = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(
                u32::try_from(device.major())?,
                u32::try_from(device.minor())?,
            ),
        };
        Ok(Device {
            path: device.path(),
            kind,
            number,
            mode: device.file_mode().unwrap_or(0o666),
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
        })
    }

    fn is(&self, stat: &rustix::fs::Stat) -> bool {
        let kind = FileType::from_raw_mode(stat.st_mode);
        kind == self.kind && (kind == FileType::Fifo || stat.st_rdev == self.number)
    }

    /// Makes it anew, or makes what is there right.
    fn make(&self, dir: BorrowedFd<'_>, name: &Path) -> anyhow::Result<()> {
        let mode = Mode::from_bits_truncate(self.mode);
        match rustix::fs::mknodat(dir, name, self.kind, mode, self.number) {
            Err(Errno::EXIST) => {
                let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                ensure!(self.is(&found), "something else is there already");
            }
            made => made?,
        }
        let (uid, gid) = self.owner;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        // Linux: the umask takes part in mknod(2), and chown(2) takes set-id bits away.
        rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
        Ok(())
    }

    /// A clone of the host's, which must be the same device.
    fn of_host(&self) -> anyhow::Result<OwnedFd> {
        let tree = clone_device(self.path)?;
        let stat = rustix::fs::fstat(&tree)?;
        ensure!(
            self.is(&stat),
            "that of the host is another device, and without being root of the host none can be made"
        );
        Ok(tree)
    }
}

/// Those of a container.
pub struct Devices<'a> {
    all: Vec<(Device<'a>, Option<OwnedFd>)>,
    /// The container is to have those of its own alone.
    hardened: bool,
}

impl<'a> Devices<'a> {
    /// Clones what is to be shown of the host.
    ///
    /// Must: run in a mount namespace of our own, with the host's files.
    pub fn prepare(bundle: &Bundle<'a>) -> anyhow::Result<Devices<'a>> {
        // Linux: mknod(2) takes CAP_MKNOD in the first user namespace, and elsewhere the file opens nothing.
        let shown = bundle.hardened || !matches!(bundle.userns, Userns::Host);
        let mut all = Vec::new();
        let listed = listed(bundle.spec);
        for (path, major, minor) in DEFAULT {
            let path = Path::new(path);
            if !listed.iter().any(|device| device.path() == path) {
                all.push(Device {
                    path,
                    kind: FileType::CharacterDevice,
                    number: rustix::fs::makedev(major, minor),
                    mode: 0o666,
                    owner: (0, 0),
                });
            }
        }
        for device in listed {
            all.push(Device::listed(device)?);
        }
        let prepare = |device: Device<'a>| {
            let shown = shown && device.kind != FileType::Fifo;
            let tree = shown.then(|| device.of_host()).transpose();
            let tree = tree.with_context(|| cannot(device.path))?;
            Ok((device, tree))
        };
        Ok(Devices {
            all: all
                .into_iter()
                .map(prepare)
                .collect::<anyhow::Result<_>>()?,
            hardened: bundle.hardened && matches!(bundle.userns, Userns::Host),
        })
    }

    /// Makes or attaches them, and the links beside them.
    pub fn attach(self, root: BorrowedFd<'_>) -> anyhow::Result<()> {
        let dev = path::open_or_create_real(root, Path::new("/dev"), Target::Directory)
            .context("cannot make /dev")?;
        for (device, tree) in self.all {
            attach(root, &dev, &device, tree).with_context(|| cannot(device.path))?;
        }
        for (name, target) in LINKS {
            match rustix::fs::symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("cannot make /dev/{name}"));
                }
            }
        }
        Ok(())
    }

    /// A device that is made in the container opens nothing there: those it may use are mounts of their own.
    /// In a user namespace the kernel has it so anyhow.
    pub fn closes_others(&self) -> bool {
        self.hardened
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot make device {}", path.display())
}

fn listed(spec: &Spec) -> &[LinuxDevice] {
    let linux = spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.devices().as_deref());
    devices.unwrap_or_default()
}

fn attach(
    root: BorrowedFd<'_>,
    dev: &OwnedFd,
    device: &Device<'_>,
    tree: Option<OwnedFd>,
) -> anyhow::Result<()> {
    let name = device.path.file_name().context("it has no name")?;
    let name = Path::new(name);
    let above = device.path.parent().unwrap_or(Path::new("/"));
    let found;
    let dir = if above == Path::new("/dev") {
        dev.as_fd()
    } else {
        found = path::open_or_create_real(root, above, Target::Directory)?;
        found.as_fd()
    };
    let tree = match tree {
        Some(tree) => tree,
        None => match device.make(dir, name) {
            Err(err) if is_denied(&err) && device.kind != FileType::Fifo => device.of_host()?,
            made => return made,
        },
    };
    let target = path::open_or_create_real(dir, name, Target::File)?;
    mount::attach(tree.as_fd(), target.as_fd())?;
    Ok(())
}

fn is_denied(err: &anyhow::Error) -> bool {
    err.downcast_ref::<Errno>() == Some(&Errno::PERM)
}

/// A device of the host as a mount that shows it and lets nobody change it.
///
/// Linux: a read-only mount refuses chmod, chown and utimes of a device but not to write to it. Root of
/// a container that root started is the owner of the host's /dev/null in all but name.
pub fn clone_device(path: &Path) -> anyhow::Result<OwnedFd> {
    let cannot = || format!("cannot use the host's {}", path.display());
    // A link, as those below /dev/disk are, leads to the device.
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(cannot)?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    ensure!(
        matches!(kind, FileType::CharacterDevice | FileType::BlockDevice),
        "{} of the host is not a device",
        path.display()
    );
    let tree = mount::clone_tree(file.as_fd(), c"", false).with_context(cannot)?;
    mount::set_attributes(tree.as_fd(), Attributes::MOUNT_ATTR_RDONLY, false)?;
    Ok(tree)
}
