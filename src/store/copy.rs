//! Copying directory trees: by descriptors, never through a symlink. With its owners, modes, times,
//! extended attributes, hard links and holes; owners may change on the way.
//!
//! The walk holds two descriptors at a time, however deep the tree is.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::SeekFrom;
use rustix::fs::Stat;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::store::remove;

/// Names of overlayfs's own marks under `userxattr`.
const OPAQUE: &CStr = c"user.overlay.opaque";
const WHITEOUT: &CStr = c"user.overlay.whiteout";
const OTHERS: &[u8] = b"user.overlay.";
const CAPABILITY: &CStr = c"security.capability";

/// What becomes of whiteouts and opaque directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// They are files like others: the copy is a layer.
    Keep,
    /// They remove what is there: the layer is copied over those below it.
    Apply,
}

/// Who owns the files of the copy, as ids of this process's user namespace.
pub trait Owners {
    /// The owner in the copy of what `uid` and `gid` own; `None` leaves it to this process.
    fn of(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>>;
    /// Who is root where file capabilities of the copy are to count (`rootid` of capabilities(7)); they
    /// are copied as they are for `None`.
    fn root(&self) -> Option<u32>;
}

/// Everybody keeps what he has, as far as this process may say so.
pub struct SameOwners;

impl Owners for SameOwners {
    fn of(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>> {
        Ok(Some((uid, gid)))
    }

    fn root(&self) -> Option<u32> {
        None
    }
}

/// Copies all that is in the directory `from` into the directory `to`, and its own attributes.
pub fn tree(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    marks: Marks,
    owners: &dyn Owners,
) -> Result<()> {
    let mut copy = Copy {
        from,
        to,
        marks,
        owners,
        links: HashMap::new(),
        left: vec![PathBuf::new()],
    };
    while let Some(path) = copy.left.pop() {
        copy.directory(&path)
            .with_context(|| format!("cannot copy /{}", path.display()))?;
    }
    Ok(())
}

struct Copy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    marks: Marks,
    owners: &'a dyn Owners,
    /// Where a file with several names was copied to first, by its inode.
    links: HashMap<u64, PathBuf>,
    /// Directories that are made, and not yet filled.
    left: Vec<PathBuf>,
}

fn open_dir(top: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(
        top,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

impl Copy<'_> {
    fn directory(&mut self, path: &Path) -> Result<()> {
        let from = open_dir(self.from, path)?;
        let to = open_dir(self.to, path)?;
        if self.marks == Marks::Apply && is_marked(from.as_fd(), OPAQUE) {
            empty(to.as_fd())?;
        }
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                self.entry(from.as_fd(), to.as_fd(), name, path)
                    .with_context(|| name.to_string_lossy().into_owned())?;
            }
        }
        let stat = rustix::fs::fstat(&from)?;
        self.attributes(from.as_fd(), to.as_fd(), &stat)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: PathBuf,
    ) -> Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            self.make_dir(to, name)?;
            self.left.push(path);
            return Ok(());
        }
        if self.marks == Marks::Apply {
            remove::remove_entry(to, name.to_owned())?;
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                // A container may have the copy already and change it: no link is to lead out of it.
                let above = open_dir(self.to, first.parent().unwrap_or(Path::new("")))?;
                let first = first.file_name().unwrap_or_default();
                rustix::fs::linkat(&above, first, to, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert(stat.st_ino, path);
        }
        match kind {
            FileType::RegularFile => self.file(from, to, name, &stat),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                self.own(to, name, &stat)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
                rustix::fs::mknodat(to, name, FileType::Fifo, Mode::RUSR, 0)?;
                change_fifo(to, name, mode)?;
                self.own(to, name, &stat)
            }
            FileType::CharacterDevice if stat.st_rdev == 0 && self.marks == Marks::Keep => {
                rustix::fs::mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0)?;
                Ok(())
            }
            // Sockets and devices mean nothing in a copy, and whiteouts have done their work.
            _ => Ok(()),
        }
    }

    fn make_dir(&self, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        match rustix::fs::mkdirat(to, name, Mode::RWXU) {
            Err(Errno::EXIST) if self.marks == Marks::Apply => {}
            result => return Ok(result?),
        }
        let there = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
            remove::remove_entry(to, name.to_owned())?;
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
        }
        Ok(())
    }

    /// Owner and times of what must not be opened.
    fn own(&self, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
        if let Some((uid, gid)) = self.owners.of(stat.st_uid, stat.st_gid)? {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            tolerate_unmapped(rustix::fs::chownat(
                to,
                name,
                Some(uid),
                Some(gid),
                nofollow,
            ))?;
        }
        rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn file(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
        if self.marks == Marks::Apply && is_marked(source.as_fd(), WHITEOUT) {
            return Ok(());
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        content(source.as_fd(), target.as_fd(), stat.st_size.cast_unsigned())?;
        self.attributes(source.as_fd(), target.as_fd(), stat)
    }

    /// Owner, mode, extended attributes and times, in this order: a change of owner drops set-id bits
    /// and file capabilities.
    fn attributes(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        if let Some((uid, gid)) = self.owners.of(stat.st_uid, stat.st_gid)? {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            tolerate_unmapped(rustix::fs::fchown(to, Some(uid), Some(gid)))?;
        }
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for name in attribute_names(from)? {
            let is_mark = name.as_c_str() == OPAQUE || name.as_c_str() == WHITEOUT;
            if is_mark && self.marks == Marks::Apply {
                continue;
            }
            self.attribute(from, to, &name)?;
        }
        rustix::fs::futimens(to, &times(stat))?;
        Ok(())
    }

    fn attribute(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let mut value = vec![0u8; 64 << 10];
        let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value) else {
            return Ok(());
        };
        value.truncate(length);
        if name == CAPABILITY
            && let Some(root) = self.owners.root()
        {
            value = capability_for(&value, root);
        }
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            // A copied layer without its marks would show what it hides, and files without what is in them.
            Err(err) if name.to_bytes().starts_with(OTHERS) => Err(err.into()),
            // Attributes of security modules may not be written by us, and are not the image's.
            _ => Ok(()),
        }
    }
}

/// The mode of a FIFO that its owner may read; what has taken its place meanwhile keeps its own.
///
/// Linux: chmod(2) follows links, and there is no other before 6.6. To read a FIFO it can be opened without
/// anybody who writes (fifo(7), O_NONBLOCK).
fn change_fifo(to: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fifo = rustix::fs::openat(to, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fifo)?;
    ensure!(
        FileType::from_raw_mode(stat.st_mode) == FileType::Fifo,
        "something else has taken the place of the copy"
    );
    rustix::fs::fchmod(&fifo, mode)?;
    Ok(())
}

/// Linux: chown(2) is EINVAL for an id that is not mapped here, and EPERM where it is the owner that has
/// none; the file keeps ours.
fn tolerate_unmapped(result: rustix::io::Result<()>) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).context("chown"),
    }
}

/// Linux: `vfs_ns_cap_data` (linux/capability.h): revision and flags, two pairs of masks, and since
/// revision 3 the uid of the root in whose user namespaces the capabilities count.
fn capability_for(value: &[u8], root: u32) -> Vec<u8> {
    const REVISION_3: u32 = 0x0300_0000;
    const MASKS: usize = 20;
    let Some((masks, flags)) = value.get(..MASKS).zip(value.first_chunk::<4>()) else {
        return value.to_vec();
    };
    let flags = u32::from_le_bytes(*flags) & 0x00ff_ffff;
    let mut changed = (REVISION_3 | flags).to_le_bytes().to_vec();
    changed.extend(&masks[4..]);
    changed.extend(root.to_le_bytes());
    changed
}

fn times(stat: &Stat) -> rustix::fs::Timestamps {
    let time = |seconds, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The bytes of a file: shared with the source where the file system can, and holes stay holes.
fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    rustix::fs::ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?.min(size);
        range(from, to, start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let length = usize::try_from(end - source).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
            Ok(0) => bail!("the file became shorter"),
            Ok(_) | Err(Errno::INTR) => {}
            // Linux: not between or on all file systems (copy_file_range(2)).
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return range_by_hand(from, to, source, end);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn range_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: u64, end: u64) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    while at < end {
        let count = rustix::io::pread(from, &mut buffer, at)?;
        if count == 0 {
            bail!("the file became shorter");
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = rustix::io::pwrite(to, rest, at)?;
            rest = &rest[written..];
            at += written as u64;
        }
    }
    Ok(())
}

/// The names of all extended attributes of a file.
pub fn attribute_names(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = vec![0u8; 64 << 10];
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

/// Whether a directory hides what the layers below have in it. Linux: "x" says that it has whiteouts
/// which are files (6.7).
pub fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 8];
    let length = rustix::fs::fgetxattr(dir, OPAQUE, &mut value);
    length.is_ok_and(|length| &value[..length] == b"y")
}

/// Whether an empty file hides the one of its name in the layers below.
pub fn is_whiteout(file: BorrowedFd<'_>) -> bool {
    is_marked(file, WHITEOUT)
}

fn is_marked(file: BorrowedFd<'_>, mark: &CStr) -> bool {
    let mut value = [0u8; 8];
    rustix::fs::fgetxattr(file, mark, &mut value).is_ok()
}

/// Removes all that is in a directory.
pub fn empty(dir: BorrowedFd<'_>) -> Result<()> {
    let names: Vec<CString> = Dir::read_from(dir)?
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .collect::<rustix::io::Result<_>>()?;
    for name in names {
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            remove::remove_entry(dir, name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn copy(from: &Path, to: &Path, marks: Marks) {
        tree(open(from).as_fd(), open(to).as_fd(), marks, &SameOwners).unwrap();
    }

    #[test]
    fn a_copy_has_links_holes_modes_times_and_marks() {
        let base = scratch("copy");
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("a/file"), "text").unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let sparse = std::fs::File::create(from.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 64 << 20).unwrap();
        let top = open(&from);
        rustix::fs::mknodat(&top, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(from.join("fifo"), mode(0o206)).unwrap();
        std::fs::set_permissions(from.join("a/b"), mode(0o2510)).unwrap();
        std::fs::set_permissions(from.join("a/file"), mode(0o4711)).unwrap();
        let b = open(&from.join("a/b"));
        rustix::fs::fsetxattr(&b, OPAQUE, b"y", XattrFlags::empty()).unwrap();
        let (char, none) = (FileType::CharacterDevice, Mode::empty());
        rustix::fs::mknodat(&b, c"gone", char, none, 0).unwrap();
        copy(&from, &to, Marks::Keep);
        let meta = |name: &str| to.join(name).symlink_metadata().unwrap();
        assert_eq!(std::fs::read(to.join("a/b/same")).unwrap(), b"text");
        assert_eq!(meta("a/file").ino(), meta("a/b/same").ino());
        assert_eq!(meta("a/file").mode() & 0o7777, 0o4711);
        assert_eq!(meta("a/b").mode() & 0o7777, 0o2510);
        assert_eq!(meta("fifo").mode() & 0o7777, 0o206);
        let there = from.join("a/b").metadata().unwrap();
        assert_eq!(meta("a/b").modified().unwrap(), there.modified().unwrap());
        assert_eq!(meta("a/b/gone").rdev(), 0);
        assert!(is_marked(open(&to.join("a/b")).as_fd(), OPAQUE));
        assert!(meta("link").is_symlink());
        assert_eq!(meta("sparse").len(), (64 << 20) + 3);
        assert!(meta("sparse").blocks() < 1000);
    }

    /// Changes the copy while it is made, as a container does that has the volume too.
    struct Swaps {
        to: PathBuf,
        outside: PathBuf,
    }

    impl Owners for Swaps {
        fn of(&self, _: u32, _: u32) -> Result<Option<(u32, u32)>> {
            for name in ["a", "b"] {
                let place = self.to.join(name);
                if place.join("file").exists() && !self.to.join("moved").exists() {
                    std::fs::rename(&place, self.to.join("moved"))?;
                    std::os::unix::fs::symlink(&self.outside, &place)?;
                }
            }
            Ok(None)
        }

        fn root(&self) -> Option<u32> {
            None
        }
    }

    #[test]
    fn who_swaps_links_gets_no_file_of_the_host() {
        let base = scratch("copy-swap");
        let [from, to, outside] = ["from", "to", "outside"].map(|name| base.path().join(name));
        for dir in [&from.join("a"), &from.join("b"), &to, &outside] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(from.join("a/file"), "image").unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("b/file")).unwrap();
        let secret = outside.join("file");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let swaps = Swaps {
            to: to.clone(),
            outside: outside.clone(),
        };
        let (source, target) = (open(&from), open(&to));
        let copied = tree(source.as_fd(), target.as_fd(), Marks::Apply, &swaps);
        assert!(to.join("moved/file").exists());
        assert!(copied.is_err());
        std::os::unix::fs::symlink(&secret, to.join("fifo")).unwrap();
        assert!(change_fifo(target.as_fd(), c"fifo", Mode::from(0o666)).is_err());
        let meta = secret.metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o777), (1, 0o600));
    }

    #[test]
    fn marks_remove_what_is_below() {
        let base = scratch("copy-marks");
        let [low, high, to] = ["low", "high", "to"].map(|name| base.path().join(name));
        for dir in [
            low.join("old"),
            low.join("opaque"),
            high.join("opaque"),
            to.clone(),
        ] {
            std::fs::create_dir_all(dir).unwrap();
        }
        for name in ["old/file", "opaque/file", "gone", "stays"] {
            std::fs::write(low.join(name), "low").unwrap();
        }
        let top = open(&high);
        let (char, none) = (FileType::CharacterDevice, Mode::empty());
        rustix::fs::mknodat(&top, c"gone", char, none, 0).unwrap();
        std::fs::write(high.join("old"), "a file now").unwrap();
        let opaque = open(&high.join("opaque"));
        rustix::fs::fsetxattr(&opaque, OPAQUE, b"y", XattrFlags::empty()).unwrap();
        copy(&low, &to, Marks::Apply);
        copy(&high, &to, Marks::Apply);
        let mut names: Vec<String> = std::fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["old", "opaque", "stays"]);
        assert_eq!(std::fs::read(to.join("old")).unwrap(), b"a file now");
        assert_eq!(std::fs::read_dir(to.join("opaque")).unwrap().count(), 0);
        assert!(!is_marked(open(&to.join("opaque")).as_fd(), OPAQUE));
    }

    #[test]
    fn capabilities_of_files_count_for_another_root() {
        let two: Vec<u8> = [[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
        let three = capability_for(&two, 1000);
        assert_eq!(three.len(), 24);
        assert_eq!(three[..8], [1, 0, 0, 3, 0, 4, 0, 0]);
        assert_eq!(three[20..], 1000u32.to_le_bytes());
        assert_eq!(capability_for(&three, 7)[20..], 7u32.to_le_bytes());
        assert_eq!(capability_for(&[1, 2], 7), [1, 2]);
    }
}
