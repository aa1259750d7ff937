//! What a directory of overlayfs changes in the layers below it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::store::copy;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Kind {
    Added,
    Changed,
    Deleted,
}

/// Its paths begin with a slash.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    pub kind: Kind,
    pub path: Vec<u8>,
}

/// The changes in the order of their paths, a directory before what is in it. What `leaves_out` names, by
/// paths without the first slash, is passed over with all that is in it.
pub fn find(
    upper: &OwnedFd,
    lower: &[OwnedFd],
    leaves_out: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Change>> {
    let mut found = Changes {
        upper,
        lower,
        leaves_out,
        changes: Vec::new(),
    };
    found.directory(Path::new(""))?;
    Ok(found.changes)
}

struct Changes<'a> {
    upper: &'a OwnedFd,
    /// The top one first.
    lower: &'a [OwnedFd],
    leaves_out: &'a dyn Fn(&Path) -> bool,
    changes: Vec<Change>,
}

fn open_dir(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(top, path, flags, Mode::empty(), resolve)
}

fn names(dir: &OwnedFd) -> Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(dir: &OwnedFd, name: &OsStr, stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => stat.st_rdev == 0,
        FileType::RegularFile if stat.st_size == 0 => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::empty())
                .is_ok_and(|file| copy::is_whiteout(file.as_fd()))
        }
        _ => false,
    }
}

impl Changes<'_> {
    fn directory(&mut self, path: &Path) -> Result<()> {
        let dir = match open_dir(self.upper, path) {
            Err(Errno::NOENT) => return Ok(()),
            dir => dir?,
        };
        let own = names(&dir)?;
        let mut all = own.clone();
        if copy::is_opaque(dir.as_fd()) {
            all.extend(self.names_below(path)?);
        }
        for name in all {
            let path = path.join(&name);
            if (self.leaves_out)(&path) {
                continue;
            }
            if own.contains(&name) {
                self.entry(&dir, &name, &path)?;
            } else {
                self.add(Kind::Deleted, &path);
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        let below = self.below(path)?;
        if is_whiteout(dir, name, &stat) {
            if below.is_some() {
                self.add(Kind::Deleted, path);
            }
            return Ok(());
        }
        let kind = if below.is_some() {
            Kind::Changed
        } else {
            Kind::Added
        };
        let place = self.changes.len();
        let same =
            below.is_some_and(|below| is_dir(&stat) && is_dir(&below) && alike(&stat, &below));
        self.add(kind, path);
        if is_dir(&stat) {
            self.directory(path)?;
        }
        // A directory that is only there because it was looked into is not changed.
        if same && self.changes.len() == place + 1 {
            self.changes.truncate(place);
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, path: &Path) {
        let path = [b"/", path.as_os_str().as_bytes()].concat();
        self.changes.push(Change { kind, path });
    }

    /// What the layers below have at a path.
    fn below(&self, path: &Path) -> Result<Option<Stat>> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        for layer in self.lower {
            match open_dir(layer, above) {
                Ok(dir) => {
                    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => return Ok((!is_whiteout(&dir, name, &stat)).then_some(stat)),
                        Err(Errno::NOENT) => {}
                        Err(err) => return Err(err.into()),
                    }
                    if is_hidden(layer, above) {
                        return Ok(None);
                    }
                }
                // Something that is no directory, a whiteout for one, hides what is below it.
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(Errno::NOENT) if is_hidden(layer, above) => return Ok(None),
                Err(Errno::NOENT) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(None)
    }

    /// The names in a directory of the layers below.
    fn names_below(&self, path: &Path) -> Result<BTreeSet<OsString>> {
        let mut found = BTreeSet::new();
        for layer in self.lower {
            match open_dir(layer, path) {
                Ok(dir) => found.extend(names(&dir)?),
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(Errno::NOENT) => {}
                Err(err) => return Err(err.into()),
            }
            if is_hidden(layer, path) {
                break;
            }
        }
        let mut there = BTreeSet::new();
        for name in found {
            if self.below(&path.join(&name))?.is_some() {
                there.insert(name);
            }
        }
        Ok(there)
    }
}

/// Whether a layer hides what those below it have in a directory.
fn is_hidden(layer: &OwnedFd, path: &Path) -> bool {
    let mut above: Option<PathBuf> = Some(path.to_owned());
    while let Some(path) = above {
        if open_dir(layer, &path).is_ok_and(|dir| copy::is_opaque(dir.as_fd())) {
            return true;
        }
        above = path.parent().map(Path::to_owned);
    }
    false
}

/// As containers/storage compares directories.
fn alike(one: &Stat, other: &Stat) -> bool {
    (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
        && (one.st_mtime, one.st_mtime_nsec) == (other.st_mtime, other.st_mtime_nsec)
}
