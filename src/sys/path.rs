//! Paths inside a root that somebody else wrote: every look-up starts at a descriptor of that
//! root and cannot leave it (openat2(2) with RESOLVE_IN_ROOT, Linux 5.6).

use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;

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

/// What a look-up does with symbolic links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    Refuse,
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if links == Links::Refuse {
        resolve |= ResolveFlags::NO_SYMLINKS;
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

fn create(root: BorrowedFd<'_>, path: &Path, target: Target, links: Links) -> Result<OwnedFd> {
    match open(root, path, OFlags::PATH, links) {
        Err(err) if err.errno == Errno::NOENT => {}
        result => return result,
    }
    let names: Vec<&std::ffi::OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let Some((last, parents)) = names.split_last() else {
        return open(root, Path::new("/"), OFlags::PATH, links);
    };
    let mut reached = std::path::PathBuf::new();
    let mut dir = open(
        root,
        Path::new("/"),
        OFlags::PATH | OFlags::DIRECTORY,
        links,
    )?;
    for name in parents {
        reached.push(name);
        dir = match open(root, &reached, OFlags::PATH | OFlags::DIRECTORY, links) {
            Err(err) if err.errno == Errno::NOENT => {
                make_dir(dir.as_fd(), Path::new(name))?;
                open(root, &reached, OFlags::PATH | OFlags::DIRECTORY, links)?
            }
            result => result?,
        };
    }
    match target {
        Target::Directory => make_dir(dir.as_fd(), Path::new(last))?,
        Target::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
            match rustix::fs::openat(
                dir.as_fd(),
                *last,
                flags | OFlags::CLOEXEC,
                Mode::from(0o644),
            ) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(SyscallError {
                        call: format!("openat({last:?}, O_CREAT)"),
                        errno,
                    });
                }
            }
        }
    }
    open(root, path, OFlags::PATH, links)
}

fn make_dir(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(SyscallError {
            call: format!("mkdirat({name:?})"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (std::path::PathBuf, OwnedFd) {
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
    fn a_dangling_link_as_target_is_refused() {
        let (dir, root) = scratch("dangling");
        symlink("/nowhere", dir.join("link")).unwrap();
        let err = open_or_create(root.as_fd(), Path::new("/link"), Target::Directory).unwrap_err();
        assert_eq!(err.errno, Errno::NOENT);
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
