//! Whether two directories that were filled from the same archive are the same: names, kinds, owners, modes, times and
//! content of files, attributes, devices, links. By descriptors, never through a symlink.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::fd::AsFd;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::store::helper::Helper;

const BUFFER: usize = 128 << 10;
/// The largest list of names of attributes, and the largest attribute (xattr(7)).
const XATTR_MAX: usize = 64 << 10;

/// In what `new` differs from `old`, both relative to `base`: the first file that is found, and how.
pub fn trees(base: &Path, old: &str, new: &str) -> Result<Option<String>> {
    let answer = Helper::start("compare", base, &[old, new])
        .and_then(Helper::finish)
        .with_context(|| format!("cannot compare files in {}", base.display()))?;
    serde_json::from_str(&answer).context("cannot read what the comparison says")
}

/// In the helper process: directories below its root, as a line of JSON.
pub fn compare_here(old: &str, new: &str) -> Result<String> {
    let found = compare(&open_root(old)?, &open_root(new)?)?;
    Ok(serde_json::to_string(&found)?)
}

fn open_root(name: &str) -> Result<OwnedFd> {
    let opened = rustix::fs::openat(CWD, name, DIRECTORY, Mode::empty());
    opened.with_context(|| format!("cannot open {name}"))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn compare(old: &OwnedFd, new: &OwnedFd) -> Result<Option<String>> {
    let mut waiting = vec![Vec::new()];
    // Files with several names: their content is looked at once.
    let mut seen = HashSet::new();
    while let Some(path) = waiting.pop() {
        let cannot = || format!("cannot look into /{}", String::from_utf8_lossy(&path));
        let pair = [open_below(old, &path), open_below(new, &path)];
        let [old, new] = pair.map(|dir| dir.with_context(cannot));
        let (old, new) = (old?, new?);
        let found = directory(old.as_fd(), new.as_fd(), &path, &mut waiting, &mut seen);
        if let Some(found) = found.with_context(cannot)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn open_below(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
}

/// Two directories, without what is in those below; these are put to what waits.
fn directory(
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    path: &[u8],
    waiting: &mut Vec<Vec<u8>>,
    seen: &mut HashSet<[u64; 4]>,
) -> Result<Option<String>> {
    let say = |name: &[u8], what: &str| {
        let whole = Path::new("/").join(OsStr::from_bytes(path));
        let whole = whole.join(OsStr::from_bytes(name));
        Ok(Some(format!("{}: {what}", whole.display())))
    };
    if let Some(what) = attributes(old, new)? {
        return say(b"", what);
    }
    let (old_names, new_names) = (names(old)?, names(new)?);
    if let Some(name) = old_names.difference(&new_names).next() {
        return say(name.as_bytes(), "it should be there");
    }
    if let Some(name) = new_names.difference(&old_names).next() {
        return say(name.as_bytes(), "it should not be there");
    }
    for name in &old_names {
        let stats = [old, new].map(|dir| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        let [old_stat, new_stat] = stats;
        let (old_stat, new_stat) = (old_stat?, new_stat?);
        if let Some(what) = looks(&old_stat, &new_stat) {
            return say(name.as_bytes(), what);
        }
        let ids = [
            old_stat.st_dev,
            old_stat.st_ino,
            new_stat.st_dev,
            new_stat.st_ino,
        ];
        let what = match FileType::from_raw_mode(old_stat.st_mode) {
            FileType::Directory => {
                let lead = if path.is_empty() {
                    vec![]
                } else {
                    [path, b"/"].concat()
                };
                waiting.push([&lead, name.as_bytes()].concat());
                None
            }
            FileType::RegularFile if old_stat.st_nlink == 1 || seen.insert(ids) => {
                contents(old, new, name)?
            }
            FileType::Symlink => {
                let links = [old, new].map(|dir| rustix::fs::readlinkat(dir, name, Vec::new()));
                let [old_link, new_link] = links;
                (old_link? != new_link?).then_some("it leads elsewhere")
            }
            _ => None,
        };
        if let Some(what) = what {
            return say(name.as_bytes(), what);
        }
    }
    Ok(None)
}

fn names(dir: BorrowedFd<'_>) -> Result<BTreeSet<CString>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn looks(old: &Stat, new: &Stat) -> Option<&'static str> {
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    let is_file = kind(old) == FileType::RegularFile;
    if kind(old) != kind(new) {
        Some("it is of another kind")
    } else if old.st_mode != new.st_mode {
        Some("it has another mode")
    } else if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid) {
        Some("it has another owner")
    } else if old.st_rdev != new.st_rdev {
        Some("it is another device")
    } else if is_file && old.st_nlink != new.st_nlink {
        Some("it has another number of names")
    } else if is_file && old.st_size != new.st_size {
        Some("it has another size")
    } else if is_file && (old.st_mtime, old.st_mtime_nsec) != (new.st_mtime, new.st_mtime_nsec) {
        Some("it was changed at another time")
    } else {
        None
    }
}

fn contents(
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    name: &CString,
) -> Result<Option<&'static str>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = rustix::fs::openat(old, name, flags, Mode::empty())?;
    let new = rustix::fs::openat(new, name, flags, Mode::empty())?;
    if let Some(what) = attributes(old.as_fd(), new.as_fd())? {
        return Ok(Some(what));
    }
    let (mut old, mut new) = (File::from(old), File::from(new));
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let count = old.read(&mut left)?;
        if count == 0 {
            let ends = new.read(&mut right)? == 0;
            return Ok((!ends).then_some("it has other content"));
        }
        let same = new.read_exact(&mut right[..count]).is_ok() && left[..count] == right[..count];
        if !same {
            return Ok(Some("it has other content"));
        }
    }
}

fn attributes(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<Option<&'static str>> {
    let same = xattrs(old)? == xattrs(new)?;
    Ok((!same).then_some("it has other attributes"))
}

fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = vec![0; XATTR_MAX];
    let count = match rustix::fs::flistxattr(fd, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        count => count?,
    };
    let mut found = Vec::new();
    for name in list[..count].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; XATTR_MAX];
        let path = OsStr::from_bytes(name);
        let count = rustix::fs::fgetxattr(fd, path, &mut value[..])?;
        value.truncate(count);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    fn fill(dir: &Path) {
        std::fs::create_dir_all(dir.join("d/e")).unwrap();
        for (name, content) in [("d/f", "one"), ("d/e/g", "two"), ("h", "")] {
            std::fs::write(dir.join(name), content).unwrap();
            let file = File::options().write(true).open(dir.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        std::fs::hard_link(dir.join("d/f"), dir.join("again")).unwrap();
        std::os::unix::fs::symlink("d", dir.join("link")).unwrap();
    }

    fn difference(change: impl Fn(&Path)) -> Option<String> {
        let base = scratch("compare");
        let (old, new) = (base.path().join("old"), base.path().join("new"));
        fill(&old);
        fill(&new);
        change(&new);
        let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap();
        compare(&open(&old), &open(&new)).unwrap()
    }

    #[test]
    fn differences_are_found_and_told() {
        assert_eq!(difference(|_| ()), None);
        let back = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        let found = difference(|new| {
            std::fs::write(new.join("d/e/g"), "twO").unwrap();
            back(&new.join("d/e/g"));
        });
        assert_eq!(found.unwrap(), "/d/e/g: it has other content");
        let found = difference(|new| std::fs::write(new.join("d/e/g"), "two").unwrap());
        assert_eq!(found.unwrap(), "/d/e/g: it was changed at another time");
        let found = difference(|new| std::fs::write(new.join("h"), "x").unwrap());
        assert_eq!(found.unwrap(), "/h: it has another size");
        let found = difference(|new| std::fs::write(new.join("d/more"), "x").unwrap());
        assert_eq!(found.unwrap(), "/d/more: it should not be there");
        let found = difference(|new| std::fs::remove_file(new.join("h")).unwrap());
        assert_eq!(found.unwrap(), "/h: it should be there");
        let found = difference(|new| {
            std::fs::set_permissions(new.join("d/e"), PermissionsExt::from_mode(0o700)).unwrap();
        });
        assert_eq!(found.unwrap(), "/d/e: it has another mode");
        let found = difference(|new| {
            std::fs::remove_file(new.join("link")).unwrap();
            std::os::unix::fs::symlink("e", new.join("link")).unwrap();
        });
        assert_eq!(found.unwrap(), "/link: it leads elsewhere");
        let found = difference(|new| {
            std::fs::remove_file(new.join("again")).unwrap();
            std::fs::write(new.join("again"), "one").unwrap();
            back(&new.join("again"));
        });
        assert_eq!(found.unwrap(), "/again: it has another number of names");
        let found = difference(|new| {
            let file = File::open(new.join("d")).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(&file, "user.x", b"y", flags).unwrap();
        });
        assert_eq!(found.unwrap(), "/d/: it has other attributes");
    }
}
