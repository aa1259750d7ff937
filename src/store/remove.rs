//! Removing directory trees that a container or a layer filled: by descriptors, never through
//! a symlink, and inside a user namespace where files belong to sub-ids.

use std::ffi::CString;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::fd::AsFd;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::store::atomic;
use crate::store::helper::Helper;

/// Removes a directory and all that is in it; a file or a symlink by that name is removed as
/// such. That it does not exist is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    let cannot = || format!("cannot remove {}", path.display());
    match remove_as_we_are(path) {
        Ok(()) => return Ok(()),
        // Not our own files: those of sub-ids.
        Err(Errno::ACCESS | Errno::PERM) => {}
        Err(err) => return Err(err).with_context(cannot),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
    else {
        return Err(Errno::INVAL).with_context(cannot);
    };
    let helper = Helper::start("remove", parent, &[name]).with_context(cannot)?;
    helper.finish().with_context(cannot)?;
    Ok(())
}

/// In the helper process: removes one entry of its root directory.
pub fn remove_here(name: &str) -> Result<()> {
    remove_as_we_are(Path::new(&format!("/{name}")))?;
    Ok(())
}

fn remove_as_we_are(path: &Path) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    remove_entry(parent.as_fd(), name)
}

/// A directory that is being emptied.
struct Level {
    dir: OwnedFd,
    /// What is still to be removed in it.
    names: Vec<CString>,
    /// Its own name in the level above.
    name: CString,
}

/// Levels of which descriptors are held at once.
const DEPTH_MAX: usize = 64;

/// Removes one entry of a directory, with all that is in it. The walk keeps one descriptor a
/// level on a stack of its own. A tree may be deeper than descriptors last: what lies too deep is
/// moved up to the top first.
pub fn remove_entry(parent: BorrowedFd<'_>, name: CString) -> Result<(), Errno> {
    if unlink(parent, &name)? {
        return Ok(());
    }
    let mut stack = Vec::new();
    stack.extend(open_level(parent, name)?);
    while let Some(level) = stack.last_mut() {
        if let Some(name) = level.names.pop() {
            if !unlink(level.dir.as_fd(), &name)? {
                let below = open_level(level.dir.as_fd(), name)?;
                stack.extend(below);
                if stack.len() > DEPTH_MAX {
                    move_to_top(&mut stack)?;
                }
            }
            continue;
        }
        let Some(Level { name, .. }) = stack.pop() else {
            break;
        };
        let above = stack.last().map_or(parent, |level| level.dir.as_fd());
        gone(rustix::fs::unlinkat(above, &name, AtFlags::REMOVEDIR))?;
    }
    Ok(())
}

/// Moves the lowest directory into the top one, to be removed from there later.
fn move_to_top(stack: &mut Vec<Level>) -> Result<(), Errno> {
    let Some(lowest) = stack.pop() else {
        return Ok(());
    };
    let new_name = CString::new(atomic::temp_name().as_os_str().as_encoded_bytes())
        .map_err(|_| Errno::INVAL)?;
    if let [top, .., above] = stack.as_mut_slice() {
        rustix::fs::renameat(&above.dir, &lowest.name, &top.dir, &new_name)?;
        top.names.push(new_name);
    }
    Ok(())
}

/// `false` for a directory.
fn unlink(dir: BorrowedFd<'_>, name: &CString) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // Some file systems say EPERM for a directory, as POSIX wants (unlink(2)).
        Err(Errno::PERM) if is_dir(dir, name) => Ok(false),
        Err(err) => Err(err),
    }
}

fn is_dir(dir: BorrowedFd<'_>, name: &CString) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_level(parent: BorrowedFd<'_>, name: CString) -> Result<Option<Level>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, &name, flags, Mode::empty());
    let dir = match open() {
        // Our own, with a mode that keeps us out, such as overlay's work/work.
        Err(Errno::ACCESS) => {
            make_accessible(parent, &name)?;
            open()?
        }
        // Somebody else removes it too.
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&dir)?;
    if stat.st_mode & 0o700 != 0o700 {
        // Where it is not ours to change, removal of what is in it tells.
        rustix::fs::fchmod(&dir, Mode::RWXU).ok();
    }
    Ok(Some(Level {
        names: names(&dir)?,
        dir,
        name,
    }))
}

/// Gives our own directory the owner's permissions, not through a symlink.
fn make_accessible(parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // Linux: fchmod(2) refuses an O_PATH descriptor, its /proc link is accepted.
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
    rustix::fs::chmod(link, Mode::RWXU)
}

fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn removes_the_tree_and_not_what_links_point_to() {
        let base = scratch("remove");
        let keep = base.path().join("keep");
        std::fs::create_dir(&keep).unwrap();
        std::fs::write(keep.join("file"), "x").unwrap();
        let tree = base.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::write(tree.join("a/b/c/file"), "x").unwrap();
        std::os::unix::fs::symlink(&keep, tree.join("a/link")).unwrap();
        std::fs::create_dir(tree.join("closed")).unwrap();
        std::fs::write(tree.join("closed/file"), "x").unwrap();
        std::fs::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(keep.join("file").exists());
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&keep, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(keep.join("file").exists() && !link.is_symlink());
        remove_tree(&base.path().join("nothing")).unwrap();
        remove_tree(&base.path().join("nothing/at/all")).unwrap();
    }

    #[test]
    fn a_deep_tree_goes_too() {
        let base = scratch("deep");
        let root = base.path().join("0");
        rustix::fs::mkdir(&root, Mode::RWXU).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut dir = rustix::fs::open(&root, flags, Mode::empty()).unwrap();
        for _ in 0..300 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "d", flags, Mode::empty()).unwrap();
        }
        drop(dir);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }
}
