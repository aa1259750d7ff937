//! Paths inside a root that somebody else wrote: every look-up starts at a descriptor of that
//! root and cannot leave it (openat2(2) with RESOLVE_IN_ROOT, Linux 5.6).

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::SyscallError;

/// Opens `path` as a process whose root directory is `root` would; symbolic links are followed
/// inside that root, magic links of procfs not at all.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(root, path, flags, Links::Follow)
}

/// The same, but a symbolic link anywhere on the way is ELOOP.
pub fn open_real(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(root, path, flags, Links::Refuse)
}

/// The same as `open_in_root`, but what is mounted inside that root is not gone into (EXDEV).
pub fn open_in_mount(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open(root, path, flags, Links::FollowInMount)
}

/// What a look-up does with symbolic links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    /// And stays in the mount where it begins.
    FollowInMount,
    Refuse,
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match links {
        Links::Follow => {}
        Links::FollowInMount => resolve |= ResolveFlags::NO_XDEV,
        Links::Refuse => resolve |= ResolveFlags::NO_SYMLINKS,
    }
    loop {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Linux: EAGAIN says that a rename or mount raced with ".." of this walk; EINTR as ever.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => {
                return result.call(|| format!("openat2({}, {path:?})", root.as_raw_fd()));
            }
        }
    }
}

/// What a mount needs at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Directory,
    File,
}

/// The place that a mount goes to, as an O_PATH descriptor; missing directories on the way and
/// the last component are made (mode 0755, an empty file 0644).
///
/// A symbolic link on the way is followed inside the root; a missing component is made in the
/// directory that was really reached.
pub fn open_or_create(root: BorrowedFd<'_>, path: &Path, target: Target) -> Result<OwnedFd> {
    create(root, path, target, Links::Follow)
}

/// The same, but a symbolic link anywhere on the way is ELOOP.
pub fn open_or_create_real(root: BorrowedFd<'_>, path: &Path, target: Target) -> Result<OwnedFd> {
    create(root, path, target, Links::Refuse)
}

/// The same as `open_or_create`, but a symbolic link in the last place is itself the place.
pub fn open_or_create_itself(root: BorrowedFd<'_>, path: &Path, target: Target) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::NOFOLLOW, Links::Follow) {
        Err(err) if err.errno == Errno::NOENT => open_or_create(root, path, target),
        found => found,
    }
}

/// Linux: MAXSYMLINKS.
const LINKS_MAX: usize = 40;

fn create(root: BorrowedFd<'_>, path: &Path, target: Target, links: Links) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match open(root, &path, OFlags::PATH, links) {
            Err(err) if err.errno == Errno::NOENT => {}
            result => return result,
        }
        // A link that leads nowhere, as /etc/resolv.conf of many images does: made where it leads.
        match create_missing(root, &path, target, links)? {
            Some(further) => path = further,
            None => return open(root, &path, OFlags::PATH, links),
        }
    }
    Err(SyscallError {
        call: format!("openat2({}, {path:?})", root.as_raw_fd()),
        errno: Errno::LOOP,
    })
}

/// Makes what is missing of a path, up to a link that leads nowhere: then the path to make instead.
fn create_missing(
    root: BorrowedFd<'_>,
    path: &Path,
    target: Target,
    links: Links,
) -> Result<Option<PathBuf>> {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(_) | Component::ParentDir => Some(component.as_os_str()),
            _ => None,
        })
        .collect();
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut reached = PathBuf::new();
    let mut dir = open(root, Path::new("/"), directory, links)?;
    for (index, name) in names.iter().enumerate() {
        let is_last = index + 1 == names.len();
        let above = reached.clone();
        reached.push(name);
        if *name != ".." {
            let made = if is_last && target == Target::File {
                make_file(dir.as_fd(), Path::new(name))?
            } else {
                make_dir(dir.as_fd(), Path::new(name))?
            };
            if !made && let Ok(to) = rustix::fs::readlinkat(&dir, *name, Vec::new()) {
                let lost = open(root, &reached, OFlags::PATH, links);
                if lost.is_err_and(|err| err.errno == Errno::NOENT) {
                    let to = Path::new(OsStr::from_bytes(to.as_bytes()));
                    let mut further = above.join(to);
                    further.extend(&names[index + 1..]);
                    return Ok(Some(further));
                }
            }
        }
        if !is_last {
            dir = open(root, &reached, directory, links)?;
        }
    }
    Ok(None)
}

/// Whether it was made; `false` if something is there.
fn make_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<bool> {
    match rustix::fs::mkdirat(dir, name, Mode::from(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(SyscallError {
            call: format!("mkdirat({name:?})"),
            errno,
        }),
    }
}

/// Whether it was made; `false` if something is there.
fn make_file(dir: BorrowedFd<'_>, name: &Path) -> Result<bool> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::from(0o644)) {
        Ok(_) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(SyscallError {
            call: format!("openat({name:?}, O_CREAT)"),
            errno,
        }),
    }
}

/// Whether the descriptor is of a directory.
pub fn is_dir(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).call(|| format!("fstat({})", fd.as_raw_fd()))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The text of a regular file inside the root, at most `limit` bytes of it; `None` if there is none.
pub fn read_in_root(root: BorrowedFd<'_>, path: &Path, limit: u64) -> Result<Option<String>> {
    // O_NONBLOCK: a FIFO put there must not block the open.
    let file = match open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Err(err) if matches!(err.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            return Ok(None);
        }
        result => result?,
    };
    let stat = rustix::fs::fstat(file.as_fd()).call(|| format!("fstat({path:?})"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|err| SyscallError {
            call: format!("read({path:?})"),
            errno: Errno::from_io_error(&err).unwrap_or(Errno::IO),
        })?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Opens a file again that was opened with O_PATH and looked at: the same file, whatever has its name
/// by now. With O_PATH alone nothing happens to a device or FIFO.
pub struct Reopen(OwnedFd);

impl Reopen {
    /// Must: be called where /proc is still the host's; what is at that place in a container could lead
    /// anywhere.
    pub fn new() -> Result<Reopen> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).call(|| "open(/proc)".into())?;
        let kind = rustix::fs::fstatfs(&proc).call(|| "fstatfs(/proc)".into())?;
        if kind.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(SyscallError {
                call: "fstatfs(/proc)".into(),
                errno: Errno::NODEV,
            });
        }
        Ok(Reopen(proc))
    }

    pub fn open(&self, file: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::openat(&self.0, link(file), flags | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({}, {flags:?})", file.as_raw_fd()))
    }

    /// chmod(2) of a file that must not be opened.
    pub fn change_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<()> {
        rustix::fs::chmodat(&self.0, link(file), mode, rustix::fs::AtFlags::empty())
            .call(|| format!("chmod({}, {mode:?})", file.as_raw_fd()))
    }
}

/// Linux: the link of a process's own descriptor is followed to the very file (proc(5), /proc/PID/fd).
fn link(file: BorrowedFd<'_>) -> String {
    format!("self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!("rbox-path-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fd = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn links_stay_inside_the_root() {
        let (dir, root) = scratch("links");
        std::fs::create_dir(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", dir.join("relative")).unwrap();
        for name in ["absolute", "relative", "/../etc/passwd"] {
            let text = read_in_root(root.as_fd(), Path::new(name), 100).unwrap();
            assert_eq!(text.as_deref(), Some("inside"), "{name}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn missing_targets_are_made_where_links_lead() {
        let (dir, root) = scratch("targets");
        symlink("/real", dir.join("link")).unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        open_or_create(root.as_fd(), Path::new("/link/a/b"), Target::Directory).unwrap();
        open_or_create(root.as_fd(), Path::new("/link/a/file"), Target::File).unwrap();
        assert!(dir.join("real/a/b").is_dir());
        assert!(dir.join("real/a/file").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_target_behind_a_link_that_leads_nowhere_is_made_there() {
        let (dir, root) = scratch("dangling");
        let out = format!("../../../../../../..{}/out", dir.display());
        std::fs::create_dir_all(dir.join("etc/sub")).unwrap();
        for (link, to) in [
            ("link", "/nowhere"),
            ("etc/resolv.conf", "../run/systemd/resolv.conf"),
            ("etc/sub/up", "../../../../up"),
            ("chain", "link/more"),
            ("escape", out.as_str()),
            ("loop", "loop"),
        ] {
            symlink(to, dir.join(link)).unwrap();
        }
        let make = |path: &str, target| open_or_create(root.as_fd(), Path::new(path), target);
        make("/link/a", Target::Directory).unwrap();
        make("etc/resolv.conf", Target::File).unwrap();
        make("/etc/sub/up", Target::File).unwrap();
        make("/chain/file", Target::File).unwrap();
        make("/escape", Target::Directory).unwrap();
        make("/etc/../etc/new", Target::Directory).unwrap();
        for made in ["nowhere/a", "nowhere/more", "etc/new"] {
            assert!(dir.join(made).is_dir(), "{made}");
        }
        for made in ["run/systemd/resolv.conf", "up", "nowhere/more/file"] {
            assert!(dir.join(made).is_file(), "{made}");
        }
        assert!(!dir.join("out").exists());
        for (path, target) in [("/loop", Target::File), ("/loop/a", Target::Directory)] {
            assert_eq!(make(path, target).unwrap_err().errno, Errno::LOOP);
        }
        let real = open_or_create_real(root.as_fd(), Path::new("/link"), Target::Directory);
        assert_eq!(real.unwrap_err().errno, Errno::LOOP);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn magic_links_are_not_followed() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let err =
            open_in_root(root.as_fd(), Path::new("/proc/self/cwd"), OFlags::PATH).unwrap_err();
        assert_eq!(err.errno, Errno::LOOP);
    }
}
