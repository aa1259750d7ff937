//! System calls and mounts tried for real, in a child that is root of its own user and
//! mount namespaces.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;

use super::Finding;
use super::read;
use crate::store::dirs::Dirs;
use crate::store::temp::TempDir;
use crate::sys;
use crate::sys::Call;
use crate::sys::idmap::IdMaps;
use crate::sys::mount::Attributes;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;
use crate::sys::userns;

/// One trial; `errno` is zero where it worked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Probe {
    pub name: String,
    pub errno: i32,
    pub message: String,
}

const OVERLAY: &str = "overlay";
const OVERLAY_PLUS: &str = "overlay with lowerdir+";

impl Probe {
    fn new(name: &str, result: sys::Result<()>) -> Probe {
        let (errno, message) = match result {
            Ok(()) => (0, String::new()),
            Err(err) => (err.errno.raw_os_error(), err.to_string()),
        };
        Probe {
            name: name.to_owned(),
            errno,
            message,
        }
    }

    /// Forbidden although the kernel has it.
    pub fn is_denied(&self) -> bool {
        let denied = [Errno::PERM, Errno::ACCESS].map(Errno::raw_os_error);
        !self.name.starts_with(OVERLAY) && denied.contains(&self.errno)
    }

    fn is_missing(&self) -> bool {
        !self.name.starts_with(OVERLAY) && self.errno != 0 && !self.is_denied()
    }
}

/// Tries everything; the overlay only where there is a store.
pub(super) fn run(maps: &IdMaps, store: Option<&Dirs>) -> Result<Vec<Probe>> {
    let scratch = match store {
        Some(dirs) => Some(TempDir::create_in(&dirs.tmp())?),
        None => None,
    };
    let place = scratch.as_ref().map(TempDir::path);
    let answer = userns::run(maps, libc::CLONE_NEWNS, || {
        Ok(serde_json::to_vec(&try_all(place))?)
    })?;
    Ok(serde_json::from_slice(&answer)?)
}

fn try_all(place: Option<&Path>) -> Vec<Probe> {
    let mut probes = vec![
        Probe::new("openat2", try_openat2()),
        Probe::new("close_range", sys::process::close_on_exec_from(1 << 20)),
        Probe::new("fsopen", tmpfs().map(drop)),
        Probe::new("mount_setattr", try_mount_setattr()),
    ];
    if let Some(place) = place {
        probes.push(Probe::new(OVERLAY, try_overlay(place, "lowerdir")));
        probes.push(Probe::new(OVERLAY_PLUS, try_overlay(place, "lowerdir+")));
    }
    probes
}

fn try_openat2() -> sys::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).call(|| "open(\"/\")".into())?;
    sys::path::open_in_root(root.as_fd(), Path::new("proc"), OFlags::PATH).map(drop)
}

fn tmpfs() -> sys::Result<OwnedFd> {
    FileSystem::open("tmpfs")?.mount(Attributes::MOUNT_ATTR_NODEV)
}

fn try_mount_setattr() -> sys::Result<()> {
    // Without the one there is no mount to try the other on.
    let Ok(mount) = tmpfs() else { return Ok(()) };
    sys::mount::set_attributes(mount.as_fd(), Attributes::MOUNT_ATTR_RDONLY, false)
}

fn try_overlay(place: &Path, lower: &str) -> sys::Result<()> {
    let at = place.join(lower);
    let result = use_overlay(&at, lower);
    // The directories below must not be somebody's working directory when they go.
    rustix::process::chdir("/").ok();
    // The kernel makes work/work with mode 0, which only root of this namespace may enter.
    std::fs::remove_dir_all(&at).ok();
    result
}

/// Mounts an overlay whose directories are in the store's file system, changes a file of the
/// lower layer (copy-up) and removes another (whiteout), as every container does.
fn use_overlay(at: &Path, lower: &str) -> sys::Result<()> {
    for dir in ["", "lower", "upper", "work"] {
        let path = at.join(dir);
        rustix::fs::mkdir(&path, Mode::RWXU).call(|| format!("mkdir({})", path.display()))?;
    }
    for file in ["changed", "removed"] {
        write(rustix::fs::CWD, &at.join("lower").join(file))?;
    }
    // Relative names need no escaping of the colons and commas in a path.
    rustix::process::chdir(at).call(|| format!("chdir({})", at.display()))?;
    let overlay = FileSystem::open("overlay")?;
    overlay.set(Parameter::String(lower, "lower"))?;
    overlay.set(Parameter::String("upperdir", "upper"))?;
    overlay.set(Parameter::String("workdir", "work"))?;
    overlay.set(Parameter::Flag("userxattr"))?;
    let mount = overlay.mount(Attributes::MOUNT_ATTR_NODEV)?;
    write(mount.as_fd(), Path::new("changed"))?;
    rustix::fs::unlinkat(&mount, "removed", rustix::fs::AtFlags::empty())
        .call(|| "unlinkat(overlay, \"removed\")".into())
}

fn write(dir: BorrowedFd<'_>, path: &Path) -> sys::Result<()> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(dir, path, flags, mode)
        .call(|| format!("openat({})", path.display()))?;
    rustix::io::write(&file, b"x")
        .map(drop)
        .call(|| format!("write({})", path.display()))
}

/// The version, and which system calls are missing.
pub(super) fn kernel(probes: Option<&Vec<Probe>>) -> Finding {
    let name = "kernel";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut missing: Vec<&str> = probes
        .into_iter()
        .flatten()
        .filter(|probe| probe.is_missing())
        .map(|probe| probe.name.as_str())
        .collect();
    if !seccomp() {
        missing.push("seccomp filters (CONFIG_SECCOMP_FILTER)");
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let what = format!("Linux {release} lacks {missing}: rbox needs 5.12 or newer");
        return Finding::fail(name, what, None);
    }
    if probes.is_none() {
        return Finding::ok(name, format!("Linux {release}"));
    }
    let calls = "clone3, openat2, fsopen, mount_setattr, pidfd, close_range, seccomp";
    Finding::ok(name, format!("Linux {release} with {calls}"))
}

/// Whether the kernel has seccomp filters (proc(5): the line is there only then).
pub fn seccomp() -> bool {
    read("/proc/self/status").is_some_and(|status| status.contains("\nSeccomp:"))
}

/// Whether overlay works in the store's file system.
pub(super) fn overlay(dirs: &Dirs, probes: &[Probe]) -> Finding {
    let found = |name: &str| probes.iter().find(|probe| probe.name == name);
    let works = |name: &str| found(name).is_some_and(|probe| probe.errno == 0);
    let kind = file_system(&dirs.data);
    if works(OVERLAY_PLUS) {
        return Finding::ok(OVERLAY, format!("works on {kind}"));
    }
    if works(OVERLAY) {
        return Finding::ok(OVERLAY, format!("works on {kind}, without lowerdir+"));
    }
    let said = found(OVERLAY).map_or("not tried", |probe| probe.message.as_str());
    let place = dirs.data.display();
    Finding::warn(
        OVERLAY,
        format!(
            "cannot be mounted with userxattr in {place} ({kind}): {said}; each container gets a copy of its image"
        ),
        Some("export XDG_DATA_HOME=/a/directory/on/ext4-xfs-or-btrfs".to_owned()),
    )
}

/// The name of a path's file system, by the numbers of linux/magic.h.
pub fn file_system(path: &Path) -> String {
    let magic = rustix::fs::statfs(path).map_or(0, |found| found.f_type);
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x0102_1997 => "9p",
        _ => return format!("file system {magic:#x}"),
    };
    name.to_owned()
}
