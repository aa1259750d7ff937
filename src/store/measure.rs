//! How much is in directories that containers have filled, where files belong to sub-ids: by
//! descriptors, never through a symlink.

use std::collections::HashSet;
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
use rustix::io::Errno;

use crate::store::helper::Helper;

/// How many directories one helper is asked for: its answer is one short line.
const AT_ONCE: usize = 1000;

/// Directories below one another of which descriptors are held at once; what lies deeper is not
/// counted.
const DEPTH: usize = 500;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The bytes of files.
    Bytes,
    /// What files and directories take on disk.
    Blocks,
}

impl Count {
    fn verb(self) -> &'static str {
        match self {
            Count::Bytes => "measure",
            Count::Blocks => "blocks",
        }
    }
}

/// The bytes of the files in each of these directories, given relative to `base`; 0 for one that does
/// not exist.
pub fn sizes(base: &Path, names: &[String]) -> Result<Vec<u64>> {
    count(base, names, Count::Bytes)
}

/// What each of these directories, or files, takes on disk, in bytes; 0 for one that does not exist.
pub fn on_disk(base: &Path, names: &[String]) -> Result<Vec<u64>> {
    count(base, names, Count::Blocks)
}

fn count(base: &Path, names: &[String], what: Count) -> Result<Vec<u64>> {
    let mut sizes = Vec::with_capacity(names.len());
    let mut hidden = Vec::new();
    let dir = open(CWD, base).with_context(|| format!("cannot open {}", base.display()))?;
    for (index, name) in names.iter().enumerate() {
        sizes.push(match size_of(dir.as_fd(), Path::new(name), what) {
            // Not our own directories: those of sub-ids.
            Err(Errno::ACCESS | Errno::PERM) => {
                hidden.push(index);
                0
            }
            size => size.with_context(|| format!("cannot measure {name}"))?,
        });
    }
    for indexes in hidden.chunks(AT_ONCE) {
        let names: Vec<&str> = indexes.iter().map(|index| names[*index].as_str()).collect();
        let answer = Helper::start(what.verb(), base, &names)
            .and_then(Helper::finish)
            .with_context(|| format!("cannot measure the files in {}", base.display()))?;
        let found: Vec<u64> = serde_json::from_str(&answer).context("cannot read the sizes")?;
        for (index, size) in indexes.iter().zip(found) {
            sizes[*index] = size;
        }
    }
    Ok(sizes)
}

/// In the helper process: of directories below its root, as a line of JSON.
pub fn measure_here(names: &[&str], what: Count) -> Result<String> {
    let root = open(CWD, Path::new("/"))?;
    let sizes = names
        .iter()
        .map(|name| size_of(root.as_fd(), Path::new(name), what))
        .collect::<Result<Vec<u64>, Errno>>()?;
    Ok(serde_json::to_string(&sizes)?)
}

fn open(dir: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn size_of(dir: BorrowedFd<'_>, name: &Path, what: Count) -> Result<u64, Errno> {
    let top = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(0),
        top => top?,
    };
    let mut size = if what == Count::Blocks {
        blocks(&top)
    } else {
        0
    };
    let mut stack = match open(dir, name) {
        Err(Errno::NOENT) => return Ok(0),
        Err(Errno::NOTDIR | Errno::LOOP) if what == Count::Blocks => return Ok(size),
        top => vec![Dir::new(top?)?],
    };
    // Files with several names.
    let mut seen = HashSet::new();
    while let Some(dir) = stack.last_mut() {
        let Some(entry) = dir.read() else {
            stack.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let fd = dir.fd()?;
        let stat = match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let once = stat.st_nlink == 1 || {
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            is_dir || seen.insert((stat.st_dev, stat.st_ino))
        };
        if what == Count::Blocks && once {
            size += blocks(&stat);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if stack.len() < DEPTH => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(stack[stack.len() - 1].fd()?, name, flags, Mode::empty()) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    below => stack.push(Dir::new(below?)?),
                }
            }
            FileType::RegularFile if once && what == Count::Bytes => {
                size += u64::try_from(stat.st_size).unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(size)
}

/// Linux: the unit of st_blocks is 512 bytes (stat(2)).
fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[test]
    fn files_count_once_and_links_and_what_is_missing_not() {
        let base = scratch("measure");
        let dir = base.path().join("a");
        std::fs::create_dir_all(dir.join("b/c")).unwrap();
        std::fs::write(dir.join("b/c/file"), [0; 1000]).unwrap();
        std::fs::hard_link(dir.join("b/c/file"), dir.join("twin")).unwrap();
        std::fs::write(dir.join("other"), [0; 23]).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let names = ["a".to_owned(), "missing".to_owned()];
        assert_eq!(sizes(base.path(), &names).unwrap(), [1023, 0]);
        let used = on_disk(base.path(), &names).unwrap();
        let du = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(&dir)
            .output()
            .unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let du = du.split_whitespace().next().unwrap();
        assert_eq!(used, [du.parse().unwrap(), 0]);
        let file = ["a/other".to_owned()];
        let stat = rustix::fs::stat(dir.join("other")).unwrap();
        assert_eq!(on_disk(base.path(), &file).unwrap(), [blocks(&stat)]);
    }
}
