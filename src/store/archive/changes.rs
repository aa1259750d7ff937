//! What a directory of overlayfs changes in the layers below it.

use std::collections::BTreeMap;
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
        lower: Stack(lower),
        leaves_out,
        changes: Vec::new(),
    };
    found.directory(Path::new(""))?;
    Ok(found.changes)
}

struct Changes<'a> {
    upper: &'a OwnedFd,
    lower: Stack<'a>,
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
            all.extend(self.lower.names_in(path)?);
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
        let below = self.lower.at(path)?;
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
}

/// Layers as they are seen together, the top one first.
#[derive(Clone, Copy)]
struct Stack<'a>(&'a [OwnedFd]);

impl Stack<'_> {
    /// What it has at a path.
    fn at(&self, path: &Path) -> Result<Option<Stat>> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        for layer in self.0 {
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

    /// The names in one of its directories.
    fn names_in(&self, path: &Path) -> Result<BTreeSet<OsString>> {
        let mut found = BTreeSet::new();
        for layer in self.0 {
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
            if self.at(&path.join(&name))?.is_some() {
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

/// What is compared of a file of two trees.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Look {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    /// Nothing of a directory, whose entries are looked at themselves.
    size: i64,
    mtime: (i64, u64),
}

impl Look {
    fn of(stat: &Stat) -> Look {
        let directory = is_dir(stat);
        Look {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            device: stat.st_rdev,
            size: if directory { 0 } else { stat.st_size },
            mtime: if directory {
                (0, 0)
            } else {
                (stat.st_mtime, stat.st_mtime_nsec)
            },
        }
    }

    /// Archives have whole seconds, or parts of them.
    fn is_same(&self, other: &Look) -> bool {
        let whole = self.mtime.1 == 0 || other.mtime.1 == 0;
        let times = if whole {
            self.mtime.0 == other.mtime.0
        } else {
            self.mtime == other.mtime
        };
        let rest = |look: &Look| (look.mode, look.owner, look.device, look.size);
        times && rest(self) == rest(other)
    }
}

/// All files of a stack of layers, by their paths, which begin with a slash.
pub fn files(
    stack: &[OwnedFd],
    leaves_out: &dyn Fn(&Path) -> bool,
) -> Result<BTreeMap<PathBuf, Look>> {
    let stack = Stack(stack);
    let mut found = BTreeMap::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(directory) = rest.pop() {
        for name in stack.names_in(&directory)? {
            let path = directory.join(name);
            // It may go meanwhile.
            let Some(stat) = stack.at(&path)?.filter(|_| !leaves_out(&path)) else {
                continue;
            };
            found.insert(Path::new("/").join(&path), Look::of(&stat));
            if is_dir(&stat) {
                rest.push(path);
            }
        }
    }
    Ok(found)
}

/// What `new` has that `old` has not, or otherwise, or no more: a directory before what is in it, and one in
/// which something is changed too.
pub fn between(old: &BTreeMap<PathBuf, Look>, new: &BTreeMap<PathBuf, Look>) -> Vec<Change> {
    let mut found: BTreeMap<&Path, Kind> = BTreeMap::new();
    for (path, look) in new {
        match old.get(path) {
            None => {
                found.insert(path, Kind::Added);
            }
            Some(before) if !before.is_same(look) => {
                found.insert(path, Kind::Changed);
            }
            Some(_) => {}
        }
    }
    for path in old.keys().filter(|path| !new.contains_key(*path)) {
        // With a directory goes what is in it.
        if path
            .parent()
            .is_none_or(|above| above == Path::new("/") || new.contains_key(above))
        {
            found.insert(path, Kind::Deleted);
        }
    }
    let changed: Vec<&Path> = found.keys().copied().collect();
    for path in changed {
        let above = path.ancestors().skip(1);
        for directory in above.take_while(|above| *above != Path::new("/")) {
            found.entry(directory).or_insert(Kind::Changed);
        }
    }
    let change = |(path, kind): (&Path, Kind)| Change {
        kind,
        path: path.as_os_str().as_bytes().to_vec(),
    };
    found.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_trees_are_compared_by_what_they_have() {
        let file = |size: i64, nanoseconds: u64| Look {
            mode: 0o100_644,
            owner: (0, 0),
            device: 0,
            size,
            mtime: (1, nanoseconds),
        };
        let dir = Look {
            mode: 0o040_755,
            size: 0,
            mtime: (0, 0),
            ..file(0, 0)
        };
        let tree = |files: &[(&str, &Look)]| -> BTreeMap<PathBuf, Look> {
            let files = files.iter();
            files
                .map(|(path, look)| (PathBuf::from(path), (*look).clone()))
                .collect()
        };
        let old = tree(&[
            ("/a", &dir),
            ("/a/gone", &dir),
            ("/a/gone/x", &file(1, 0)),
            ("/a/whole", &file(1, 0)),
            ("/b", &dir),
            ("/b/other", &file(1, 5)),
            ("/same", &dir),
            ("/top", &file(1, 0)),
        ]);
        let new = tree(&[
            ("/a", &dir),
            ("/a/whole", &file(1, 7)),
            ("/b", &dir),
            ("/b/other", &file(1, 6)),
            ("/new", &dir),
            ("/new/y", &file(1, 0)),
            ("/same", &dir),
        ]);
        let found: Vec<String> = between(&old, &new)
            .into_iter()
            .map(|change| {
                let path = String::from_utf8(change.path).unwrap();
                format!("{:?} {path}", change.kind)
            })
            .collect();
        assert_eq!(
            found,
            [
                "Changed /a",
                "Deleted /a/gone",
                "Changed /b",
                "Changed /b/other",
                "Added /new",
                "Added /new/y",
                "Deleted /top",
            ]
        );
        assert_eq!(between(&new, &new), []);
    }
}
