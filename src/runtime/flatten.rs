//! The layers of an image copied into one directory, for stores whose file system overlayfs cannot
//! write to (another overlay, in a nested container). Run by init, as root of the user namespace.
//!
//! The copy is made beside `merged` and renamed onto it, so that a copy that was cut off is made anew.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::runtime::Overlay;

/// Names of overlayfs's own marks under `userxattr`.
const OPAQUE: &CStr = c"user.overlay.opaque";
const WHITEOUT: &CStr = c"user.overlay.whiteout";

/// Copies the layers into `merged`, unless an earlier start has done so.
pub fn copy(overlay: &Overlay) -> anyhow::Result<()> {
    let done = overlay.merged.join("../copied");
    if done.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot copy the image to {}", overlay.merged.display());
    let target = open_dir(&overlay.merged).with_context(cannot)?;
    empty(target.as_fd()).with_context(cannot)?;
    let mut links = HashMap::new();
    for layer in overlay.lower.iter().rev() {
        let source = open_dir(&overlay.base.join(layer)).with_context(cannot)?;
        links.clear();
        copy_dir(
            source.as_fd(),
            target.as_fd(),
            &mut links,
            target.as_fd(),
            Path::new(""),
        )
        .with_context(cannot)?;
    }
    std::fs::write(done, "").with_context(cannot)
}

/// Copies what is in a directory, and what the directory itself is, into an empty one.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> anyhow::Result<()> {
    copy_dir(from, to, &mut HashMap::new(), to, Path::new(""))
}

/// Where a file with several names was copied to first, by its inode in the layer.
type Links = HashMap<u64, std::path::PathBuf>;

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        dir,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn copy_dir(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    links: &mut Links,
    top: BorrowedFd<'_>,
    at: &Path,
) -> anyhow::Result<()> {
    if is_marked(from, OPAQUE) {
        empty(to)?;
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let path = at.join(OsStr::from_bytes(name.to_bytes()));
        copy_entry(from, to, name, links, top, &path)
            .with_context(|| path.display().to_string())?;
    }
    let stat = rustix::fs::fstat(from)?;
    copy_attributes(from, to, &stat)?;
    Ok(())
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    links: &mut Links,
    top: BorrowedFd<'_>,
    path: &Path,
) -> anyhow::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Directory {
        match rustix::fs::mkdirat(to, name, Mode::from(0o700)) {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    remove(to, name)?;
                    rustix::fs::mkdirat(to, name, Mode::from(0o700))?;
                }
            }
            result => result?,
        }
        let inner = open_at(from, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let copy = open_at(to, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        return copy_dir(inner.as_fd(), copy.as_fd(), links, top, path);
    }
    remove(to, name)?;
    let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    if whiteout {
        return Ok(());
    }
    if stat.st_nlink > 1 {
        if let Some(first) = links.get(&stat.st_ino) {
            rustix::fs::linkat(top, first, to, name, AtFlags::empty())?;
            return Ok(());
        }
        links.insert(stat.st_ino, path.to_owned());
    }
    match kind {
        FileType::RegularFile => {
            // O_NONBLOCK: a FIFO that takes its place must not block the open.
            let source = open_at(from, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
            if !is_marked(source.as_fd(), WHITEOUT) {
                copy_file(source, to, name, &stat)?;
            }
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
            let (uid, gid) = owner(&stat);
            rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).ok();
        }
        FileType::Fifo => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
        }
        // Sockets and devices mean nothing in a copy.
        _ => {}
    }
    Ok(())
}

fn copy_file(source: OwnedFd, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> anyhow::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target = rustix::fs::openat(to, name, flags, Mode::from(0o600))?;
    let (mut reader, mut writer) = (
        std::fs::File::from(source.try_clone()?),
        std::fs::File::from(target.try_clone()?),
    );
    // std copies by copy_file_range(2), which shares blocks where the file system can.
    std::io::copy(&mut reader, &mut writer)?;
    copy_attributes(source.as_fd(), target.as_fd(), stat)
}

fn owner(stat: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
}

/// Owner, extended attributes, mode and times, in this order: a change of owner drops set-id bits.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> anyhow::Result<()> {
    let (uid, gid) = owner(stat);
    match rustix::fs::fchown(to, uid, gid) {
        // EINVAL, EPERM: an owner that is not mapped here; the file keeps ours.
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        Err(errno) => return Err(errno).context("chown"),
    }
    for name in attribute_names(from)? {
        if name.as_c_str() == OPAQUE || name.as_c_str() == WHITEOUT {
            continue;
        }
        let mut value = vec![0u8; 64 * 1024];
        if let Ok(length) = rustix::fs::fgetxattr(from, name.as_c_str(), &mut value) {
            // Attributes of security modules may not be written by us, and are not the image's.
            rustix::fs::fsetxattr(to, name.as_c_str(), &value[..length], XattrFlags::empty()).ok();
        }
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    let time = |seconds, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    let times = rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(to, &times)?;
    Ok(())
}

fn attribute_names(file: BorrowedFd<'_>) -> anyhow::Result<Vec<std::ffi::CString>> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(file, &mut names) {
        Err(Errno::NOTSUP) => 0,
        result => result?,
    };
    let names = names[..length].split_inclusive(|byte| *byte == 0);
    Ok(names
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(CStr::to_owned)
        .collect())
}

fn is_marked(file: BorrowedFd<'_>, mark: &CStr) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::fgetxattr(file, mark, &mut value).is_ok()
}

/// Removes what is there under a name, if anything.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr) -> anyhow::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let inner = open_at(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            empty(inner.as_fd())?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn empty(dir: BorrowedFd<'_>) -> anyhow::Result<()> {
    let names: Vec<std::ffi::CString> = Dir::read_from(dir)?
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .collect::<rustix::io::Result<_>>()?;
    for name in names {
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            remove(dir, &name)?;
        }
    }
    Ok(())
}
