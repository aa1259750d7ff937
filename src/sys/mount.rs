//! Mounts by descriptor: a file system or a clone of a mount is made detached, given its
//! attributes, and then attached where a descriptor points. Paths are looked up only by `sys::path`.
#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;
use rustix::mount::UnmountFlags;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::process::check;

/// Attributes of a mount (`nosuid`, `ro`…), as mount_setattr(2) names them.
pub use rustix::mount::MountAttrFlags as Attributes;

/// A parameter of a file system: `lowerdir+=a`, or a bare flag.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    String(&'a str, &'a str),
    Flag(&'a str),
}

/// A file system that is being configured (fsopen(2), Linux 5.2).
pub struct FileSystem(OwnedFd, String);

impl FileSystem {
    pub fn open(kind: &str) -> Result<FileSystem> {
        let fd = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .call(|| format!("fsopen({kind:?})"))?;
        Ok(FileSystem(fd, kind.to_owned()))
    }

    pub fn set(&self, parameter: Parameter<'_>) -> Result<()> {
        match parameter {
            Parameter::String(key, value) => {
                rustix::mount::fsconfig_set_string(self.0.as_fd(), key, value).call(|| {
                    let said = kernel_message(self.0.as_fd());
                    format!("fsconfig({}, {key}={value:?}){said}", self.1)
                })
            }
            Parameter::Flag(key) => {
                rustix::mount::fsconfig_set_flag(self.0.as_fd(), key).call(|| {
                    let said = kernel_message(self.0.as_fd());
                    format!("fsconfig({}, {key}){said}", self.1)
                })
            }
        }
    }

    /// Creates the superblock and one detached mount of it.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.0.as_fd()).map_err(|errno| {
            let said = kernel_message(self.0.as_fd());
            crate::sys::SyscallError {
                call: format!("fsconfig({}, FSCONFIG_CMD_CREATE){said}", self.1),
                errno,
            }
        })?;
        rustix::mount::fsmount(self.0.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .call(|| format!("fsmount({})", self.1))
    }
}

/// What the kernel wrote to the log of a file system context, in parentheses.
fn kernel_message(context: BorrowedFd<'_>) -> String {
    // Linux: read(2) of the context gives one message a call, "e overlay: …" for an error,
    // and ENODATA when there is none (fsopen(2)).
    let mut buffer = [0u8; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&buffer[2..length]);
            format!(" ({})", text.trim())
        }
        _ => String::new(),
    }
}

/// A detached clone of the mount at `path` below `dir` (open_tree(2), Linux 5.2), whole
/// or only the one mount.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(dir, path, flags)
        .call(|| format!("open_tree({}, {path:?}, {flags:?})", dir.as_raw_fd()))
}

/// Attaches a detached mount onto the file or directory behind `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        target,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .call(|| format!("move_mount({}, {})", mount.as_raw_fd(), target.as_raw_fd()))
}

/// Linux: `mount_attr` of mount_setattr(2), version 0 (5.12).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What is to be changed of a mount.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub set: Attributes,
    pub clear: Attributes,
    /// How mounts below it propagate from then on.
    pub propagation: Option<MountPropagationFlags>,
    /// The user namespace whose id map the mount shows owners through (Linux 5.12).
    pub idmap: Option<BorrowedFd<'a>>,
}

impl Default for Change<'_> {
    fn default() -> Self {
        Change {
            set: Attributes::empty(),
            clear: Attributes::empty(),
            propagation: None,
            idmap: None,
        }
    }
}

/// Linux: `MOUNT_ATTR_IDMAP` (linux/mount.h).
const ATTR_IDMAP: u64 = 0x0010_0000;

/// Sets attributes of an existing mount; `recursive` includes all mounts below it.
pub fn set_attributes(mount: BorrowedFd<'_>, set: Attributes, recursive: bool) -> Result<()> {
    let change = Change {
        set,
        ..Change::default()
    };
    self::change(mount, &change, recursive)
}

/// Changes an existing mount; `recursive` includes all mounts below it.
pub fn change(mount: BorrowedFd<'_>, change: &Change<'_>, recursive: bool) -> Result<()> {
    let idmap = change.idmap.map_or(0, |_| ATTR_IDMAP);
    let attr = MountAttr {
        set: u64::from(change.set.bits()) | idmap,
        clear: change.clear.bits().into(),
        propagation: change.propagation.map_or(0, |flags| flags.bits().into()),
        userns_fd: change
            .idmap
            .map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the empty path is NUL-terminated, and `attr` has the size that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(result, || {
        format!("mount_setattr({}, {change:?})", mount.as_raw_fd())
    })
}

/// Changes how mounts below `path` propagate to and from other mount namespaces.
pub fn set_propagation(path: &Path, flags: MountPropagationFlags) -> Result<()> {
    rustix::mount::mount_change(path, flags).call(|| format!("mount({path:?}, {flags:?})"))
}

/// The classic mount(2), for what the new interface of an older kernel lacks.
pub fn mount_classic(kind: &str, target: &Path, options: &CStr) -> Result<()> {
    rustix::mount::mount(
        kind,
        target,
        kind,
        rustix::mount::MountFlags::empty(),
        options,
    )
    .call(|| format!("mount({kind}, {target:?}, {options:?})"))
}

/// Makes the directory behind `root` the root of this mount namespace, and lets go of the old one.
pub fn pivot_into(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).call(|| format!("fchdir({})", root.as_raw_fd()))?;
    // Linux: pivot_root(".", ".") stacks the old root on top of the new one, at the same place, so
    // no directory for it is needed (pivot_root(2), NOTES).
    rustix::process::pivot_root(c".", c".").call(|| "pivot_root(\".\", \".\")".into())?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
        .call(|| "umount2(\".\", MNT_DETACH)".into())?;
    rustix::process::chdir(c"/").call(|| "chdir(\"/\")".into())
}

/// The same where the root mount of the namespace cannot be pivoted, as that of an initramfs: the directory behind
/// `root`, which is a mount, is moved over it. The old root stays below, out of reach for who has no CAP_SYS_CHROOT.
pub fn move_into(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).call(|| format!("fchdir({})", root.as_raw_fd()))?;
    leave_kernels(root);
    rustix::mount::mount_move(c".", c"/").call(|| "mount(\".\", \"/\", MS_MOVE)".into())?;
    rustix::process::chroot(c".").call(|| "chroot(\".\")".into())?;
    rustix::process::chdir(c"/").call(|| "chdir(\"/\")".into())
}

/// Takes away the procfs and sysfs of the old root: while they are there, fully visible, somebody in a user namespace of
/// the container's could mount others, without the covers of those that the container has (mount_too_revealing()).
fn leave_kernels(root: BorrowedFd<'_>) {
    let own = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo");
    let (Ok(own), Ok(mounts)) = (own, mounts) else {
        return;
    };
    for line in mounts.lines().rev() {
        let (mount, kind) = line.split_once(" - ").unwrap_or((line, ""));
        let place = mount.split(' ').nth(4).map_or(Path::new(""), Path::new);
        if (kind.starts_with("proc ") || kind.starts_with("sysfs ")) && !place.starts_with(&own) {
            // Linux: EINVAL for one that came from a namespace of other privilege, which nobody there can use either.
            rustix::mount::unmount(place, UnmountFlags::DETACH).ok();
        }
    }
}

/// What a mount option such as `nosuid` or `rro` does to attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeOption {
    pub attribute: Attributes,
    /// It takes the attribute away, as `rw` does.
    pub clears: bool,
    /// It is said of all mounts below too, as by `rro`.
    pub recursive: bool,
}

/// The attributes named by a mount option of the OCI runtime specification; `None` for other options.
pub fn attribute(option: &str) -> Option<AttributeOption> {
    if let Some((attribute, clears)) = plain_attribute(option) {
        return Some(AttributeOption {
            attribute,
            clears,
            recursive: false,
        });
    }
    let (attribute, clears) = plain_attribute(option.strip_prefix('r')?)?;
    Some(AttributeOption {
        attribute,
        clears,
        recursive: true,
    })
}

fn plain_attribute(option: &str) -> Option<(Attributes, bool)> {
    Some(match option {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, false),
        "atime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, true),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, false),
        "nostrictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
        // Linux: the value 0 of the three that exclude each other.
        "relatime" => (MountAttrFlags::empty(), false),
        "norelatime" => (MountAttrFlags::empty(), true),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
        "diratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "nosymfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, false),
        "symfollow" => (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, true),
        _ => return None,
    })
}

/// How mounts propagate by an option such as `rslave`, and whether it is said of all mounts below.
pub fn propagation(option: &str) -> Option<(MountPropagationFlags, bool)> {
    Some(match option {
        "private" => (MountPropagationFlags::PRIVATE, false),
        "rprivate" => (MountPropagationFlags::PRIVATE, true),
        "slave" => (MountPropagationFlags::DOWNSTREAM, false),
        "rslave" => (MountPropagationFlags::DOWNSTREAM, true),
        "shared" => (MountPropagationFlags::SHARED, false),
        "rshared" => (MountPropagationFlags::SHARED, true),
        "unbindable" => (MountPropagationFlags::UNBINDABLE, false),
        "runbindable" => (MountPropagationFlags::UNBINDABLE, true),
        _ => return None,
    })
}
