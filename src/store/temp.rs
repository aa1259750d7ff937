//! Unfinished directories and files: made under a `.tmp-` name with their flock held, so that
//! what a killed process left can be told from what is in use, and swept.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rustix::fd::AsFd;
use rustix::fd::BorrowedFd;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::store::atomic;
use crate::store::atomic::with_space_hint;
use crate::store::remove;

/// A directory that is removed with all that is in it, unless it is renamed to its place.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    /// Holds the flock (shared, so that a helper process may hold it as well).
    dir: rustix::fd::OwnedFd,
    kept: bool,
}

impl TempDir {
    pub fn create_in(parent: &Path) -> Result<Self> {
        let cannot = || format!("cannot create a directory in {}", parent.display());
        loop {
            let path = parent.join(atomic::temp_name());
            rustix::fs::mkdir(&path, Mode::RWXU)
                .map_err(|err| with_space_hint(err.into()))
                .with_context(cannot)?;
            // A sweep may take the directory away before it is locked.
            if let Some(dir) = lock_dir(&path).with_context(cannot)? {
                return Ok(Self {
                    path,
                    dir,
                    kept: false,
                });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it to a process that has inherited its descriptor: it is swept when that has ended.
    pub fn leave(mut self) {
        self.kept = true;
    }

    /// The file system gets all that was written to it on disk (one call for many files).
    pub fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(&self.dir)
            .map_err(|err| with_space_hint(err.into()))
            .with_context(|| format!("cannot sync {}", self.path.display()))
    }

    /// Moves the directory to its place. `false`, and the directory is removed, where there is
    /// one by that name already.
    pub fn rename_to(mut self, place: &Path) -> Result<bool> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &self.path, cwd, place, flags) {
            Ok(()) => {
                self.kept = true;
                Ok(true)
            }
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(err) => Err(err).with_context(|| format!("cannot create {}", place.display())),
        }
    }

    /// Puts the directory in the place of another, which is removed.
    pub fn exchange_with(self, place: &Path) -> Result<()> {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, &self.path, cwd, place, flags)
            .with_context(|| format!("cannot replace {}", place.display()))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is swept by the next command.
            remove::remove_tree(&self.path).ok();
        }
    }
}

impl AsFd for TempDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// `None` when the directory has gone in the meantime.
fn lock_dir(path: &Path) -> Result<Option<rustix::fd::OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other?,
    };
    rustix::fs::flock(&dir, FlockOperation::LockShared)?;
    Ok((rustix::fs::fstat(&dir)?.st_nlink > 0).then_some(dir))
}

/// A file without a name: gone with the process, however that ends.
pub fn nameless_file(parent: &Path) -> Result<File> {
    let cannot = || format!("cannot create a file in {}", parent.display());
    let open = |flags: i32| {
        let mut options = File::options();
        options.read(true).write(true).mode(0o600);
        options.custom_flags(flags).clone()
    };
    match open(libc::O_TMPFILE).open(parent) {
        // Not every file system has O_TMPFILE (open(2)).
        Err(err) if matches!(err.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = parent.join(atomic::temp_name());
            let file = open(libc::O_NOFOLLOW)
                .create_new(true)
                .open(&path)
                .with_context(cannot)?;
            std::fs::remove_file(&path).with_context(cannot)?;
            Ok(file)
        }
        other => other
            .map_err(|err| with_space_hint(err.into()))
            .with_context(cannot),
    }
}

/// How long a temporary file is left alone: between its creation and its flock, and on file
/// systems without flock, only its age shows that it may be in use.
const FILE_AGE_MIN: Duration = Duration::from_mins(1);

/// Removes what killed processes left in a directory. What cannot be removed stays for the next.
pub fn sweep(parent: &Path) -> Result<()> {
    sweep_older(parent, FILE_AGE_MIN)
}

/// The same for who knows, by a lock of his own, that nobody is making files there: they go whatever their age.
pub fn sweep_alone(parent: &Path) -> Result<()> {
    sweep_older(parent, Duration::ZERO)
}

fn sweep_older(parent: &Path, file_age_min: Duration) -> Result<()> {
    let entries = std::fs::read_dir(parent)
        .with_context(|| format!("cannot read directory {}", parent.display()))?;
    for entry in entries.flatten() {
        let is_temp = entry
            .file_name()
            .to_string_lossy()
            .starts_with(atomic::TEMP_PREFIX);
        if is_temp {
            sweep_one(&entry.path(), file_age_min).ok();
        }
    }
    Ok(())
}

fn sweep_one(path: &Path, file_age_min: Duration) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return remove::remove_tree(path);
    }
    // A time in the future has no age.
    let age = metadata.modified()?.elapsed().unwrap_or_default();
    if age >= file_age_min && metadata.nlink() > 0 {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A directory for one test, removed at its end.
    pub fn scratch(name: &str) -> TempDir {
        let base = std::env::temp_dir().join(format!("rbox-test-{name}"));
        std::fs::create_dir_all(&base).unwrap();
        TempDir::create_in(&base).unwrap()
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let base = scratch("sweep");
        let held = TempDir::create_in(base.path()).unwrap();
        let mut left = TempDir::create_in(base.path()).unwrap();
        std::fs::create_dir(left.path().join("diff")).unwrap();
        std::fs::write(left.path().join("diff/file"), "x").unwrap();
        left.kept = true;
        let left_path = left.path().to_owned();
        drop(left);
        let young = base.path().join(".tmp-young");
        std::fs::write(&young, "").unwrap();
        let old = base.path().join(".tmp-old");
        let file = File::create(&old).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        drop(file);
        sweep(base.path()).unwrap();
        assert!(held.path().exists() && young.exists());
        assert!(!left_path.exists() && !old.exists());
        sweep_alone(base.path()).unwrap();
        assert!(held.path().exists() && !young.exists());
    }

    #[test]
    fn a_directory_takes_its_place_once() {
        let base = scratch("rename");
        let place = base.path().join("place");
        let make = || TempDir::create_in(base.path()).unwrap();
        assert!(make().rename_to(&place).unwrap());
        assert!(!make().rename_to(&place).unwrap());
        let other = make();
        std::fs::write(other.path().join("new"), "").unwrap();
        other.exchange_with(&place).unwrap();
        assert!(place.join("new").exists());
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_nameless_file_leaves_no_name() {
        let base = scratch("nameless");
        let file = nameless_file(base.path()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
