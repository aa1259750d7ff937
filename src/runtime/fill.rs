//! What is done to the content of a mount before the container sees it: a new volume is filled from the
//! image, everything in it is given to the container's user. By descriptors: no link is followed, and
//! nothing of the container is executed.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use anyhow::ensure;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FlockOperation;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;

use crate::store::copy;
use crate::store::copy::Marks;
use crate::store::copy::SameOwners;
use crate::store::remove;
use crate::sys::path;
use crate::sys::process::retry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// `UID:GID`.
    pub fn parse(text: &str) -> anyhow::Result<Owner> {
        let (uid, gid) = text.split_once(':').context("an owner is UID:GID")?;
        Ok(Owner {
            uid: uid.parse()?,
            gid: gid.parse()?,
        })
    }

    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

/// Where a new volume is filled, beside its own place: a rename makes it whole at once.
const UNFINISHED: &str = ".filling";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A volume that has perhaps never been used.
pub struct NewVolume<'a> {
    /// The directory above it.
    pub dir: BorrowedFd<'a>,
    pub name: &'a Path,
    /// The file in `dir` that says so.
    pub mark: &'a str,
    /// The owner that it was made for.
    pub owner: Option<Owner>,
}

impl NewVolume<'_> {
    /// The volume; on first use its owner is set, and with `copy` it is filled, as the image has it at
    /// the same place.
    pub fn fill(
        &self,
        image: Option<OwnedFd>,
        copy: bool,
        user: &dyn Fn() -> anyhow::Result<Owner>,
    ) -> anyhow::Result<OwnedFd> {
        let cannot = "cannot fill the new volume";
        let dir = rustix::fs::openat(self.dir, ".", DIRECTORY, Mode::empty())
            .context("cannot open the volume")?;
        // Another container may be about to use it for the first time too.
        retry(|| rustix::fs::flock(&dir, FlockOperation::LockExclusive))
            .context("cannot lock the volume")?;
        let is_new = rustix::fs::statat(&dir, self.mark, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let image = image.filter(|image| path::is_dir(image.as_fd()).unwrap_or(false));
        if is_new {
            if copy && let Some(image) = &image {
                self.copy(dir.as_fd(), image.as_fd()).context(cannot)?;
            }
            let volume = rustix::fs::openat(&dir, self.name, DIRECTORY, Mode::empty())?;
            give(&volume, self.owner, image.as_ref(), user).context(cannot)?;
            rustix::fs::unlinkat(&dir, self.mark, AtFlags::empty()).context(cannot)?;
        }
        rustix::fs::openat(&dir, self.name, DIRECTORY, Mode::empty())
            .context("cannot open the volume")
    }

    fn copy(&self, dir: BorrowedFd<'_>, image: BorrowedFd<'_>) -> anyhow::Result<()> {
        remove::remove_entry(dir, c_string(UNFINISHED))?;
        rustix::fs::mkdirat(dir, UNFINISHED, Mode::from(0o755))?;
        let unfinished = rustix::fs::openat(dir, UNFINISHED, DIRECTORY, Mode::empty())?;
        copy_content(image, unfinished.as_fd())?;
        // Linux: a directory may take the place of an empty one (rename(2)).
        match rustix::fs::renameat(dir, UNFINISHED, dir, self.name) {
            // Somebody has put something into it: that stays.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Ok(remove::remove_entry(dir, c_string(UNFINISHED))?)
            }
            result => Ok(result?),
        }
    }
}

/// The same without a lock and a name beside it: an empty volume is filled where it is.
pub fn fill_in_place(
    volume: BorrowedFd<'_>,
    image: Option<OwnedFd>,
    copy: bool,
    owner: Option<Owner>,
    user: &dyn Fn() -> anyhow::Result<Owner>,
) -> anyhow::Result<()> {
    let cannot = "cannot fill the new volume";
    let dir = rustix::fs::openat(volume, ".", DIRECTORY, Mode::empty()).context(cannot)?;
    retry(|| rustix::fs::flock(&dir, FlockOperation::LockExclusive)).context(cannot)?;
    let mut entries = Dir::read_from(&dir).context(cannot)?;
    if entries
        .any(|entry| !entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
    {
        return Ok(());
    }
    let image = image.filter(|image| path::is_dir(image.as_fd()).unwrap_or(false));
    if copy && let Some(image) = &image {
        copy_content(image.as_fd(), dir.as_fd()).context(cannot)?;
    }
    give(&dir, owner, image.as_ref(), user).context(cannot)
}

/// Gives a new volume the owner that it was made for, or that the image has at its place, or else the
/// container's user.
fn give(
    volume: &OwnedFd,
    owner: Option<Owner>,
    image: Option<&OwnedFd>,
    user: &dyn Fn() -> anyhow::Result<Owner>,
) -> anyhow::Result<()> {
    let mut mode = None;
    let owner = match (owner, image) {
        (Some(owner), _) => owner,
        (None, Some(image)) => {
            let stat = rustix::fs::fstat(image)?;
            mode = Some(Mode::from_raw_mode(stat.st_mode));
            Owner {
                uid: stat.st_uid,
                gid: stat.st_gid,
            }
        }
        (None, None) => user()?,
    };
    let (uid, gid) = owner.ids();
    match rustix::fs::fchown(volume, uid, gid) {
        // With a single id every file belongs to it already.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    if let Some(mode) = mode {
        rustix::fs::fchmod(volume, mode)?;
    }
    Ok(())
}

fn c_string(text: &str) -> std::ffi::CString {
    std::ffi::CString::new(text).expect("a constant has no NUL byte")
}

/// Copies what is in a directory of the image, with owners, modes and times.
pub fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> anyhow::Result<()> {
    let from = rustix::fs::openat(from, ".", DIRECTORY, Mode::empty())?;
    let to = rustix::fs::openat(to, ".", DIRECTORY, Mode::empty())?;
    copy::tree(from.as_fd(), to.as_fd(), Marks::Apply, &SameOwners)
        .context("cannot copy what the image has there")
}

/// Levels that are gone down into: one descriptor each.
const DEPTH_MAX: usize = 500;

/// Gives a file, or a directory with everything in it, to this owner.
pub fn chown_tree(top: BorrowedFd<'_>, owner: Owner) -> anyhow::Result<()> {
    let cannot = || format!("cannot give it to {}:{}", owner.uid, owner.gid);
    chown_entry(top, Path::new(""), owner).with_context(cannot)?;
    if path::is_dir(top)? {
        let dir = rustix::fs::openat(top, ".", DIRECTORY, Mode::empty()).with_context(cannot)?;
        chown_below(dir, owner).with_context(cannot)?;
    }
    Ok(())
}

fn chown_below(top: OwnedFd, owner: Owner) -> anyhow::Result<()> {
    let mut levels = vec![Dir::new(top)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.read() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        let dir = level.fd()?;
        // A link is given away itself; what takes its place meanwhile is not gone into.
        chown_entry(dir, path, owner).with_context(|| path.display().to_string())?;
        match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
            Ok(below) => {
                ensure!(
                    levels.len() < DEPTH_MAX,
                    "it is more than {DEPTH_MAX} directories deep"
                );
                levels.push(Dir::new(below)?);
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
            Err(errno) => return Err(errno).with_context(|| path.display().to_string()),
        }
    }
    Ok(())
}

fn chown_entry(dir: BorrowedFd<'_>, name: &Path, owner: Owner) -> rustix::io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let stat = match rustix::fs::statat(dir, name, flags) {
        Err(Errno::NOENT) => return Ok(()),
        result => result?,
    };
    if (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid) {
        return Ok(());
    }
    let (uid, gid) = owner.ids();
    match rustix::fs::chownat(dir, name, uid, gid, flags) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_two_numbers() {
        assert_eq!(Owner::parse("1:2").unwrap(), Owner { uid: 1, gid: 2 });
        for wrong in ["", "1", "1:", ":1", "a:b", "-1:0"] {
            assert!(Owner::parse(wrong).is_err(), "{wrong}");
        }
    }
}
