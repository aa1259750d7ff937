//! Locks between processes: flock(2) on a file made for the purpose, held by a descriptor that
//! is closed on exec. The kernel releases them with the process, however it ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::store::atomic::with_space_hint;
use crate::sys::process::retry;

/// A lock that is held until this value is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Waits until nobody holds the lock exclusively.
    pub fn shared(path: &Path) -> Result<Self> {
        let lock = Self::take(path, FlockOperation::LockShared)?;
        Ok(lock.expect("a lock that is waited for is had"))
    }

    /// Waits until nobody else holds the lock.
    pub fn exclusive(path: &Path) -> Result<Self> {
        let lock = Self::take(path, FlockOperation::LockExclusive)?;
        Ok(lock.expect("a lock that is waited for is had"))
    }

    /// `None` where somebody holds the lock exclusively.
    #[cfg(test)]
    pub fn try_shared(path: &Path) -> Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockShared)
    }

    /// `None` where somebody else holds the lock.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// The file itself, for locks that have something in them.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Removes the lock's file and releases it. Those who wait for it see that the file is
    /// another one, and start again.
    pub fn remove(self) {
        // A lock file that stays is a harmless empty file.
        std::fs::remove_file(&self.path).ok();
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let cannot = || format!("cannot lock {}", path.display());
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
                .map_err(|err| with_space_hint(err.into()))
                .with_context(cannot)?;
            match retry(|| rustix::fs::flock(&file, operation)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(err) => return Err(err).with_context(cannot),
            }
            // While this process waited, the holder may have removed the file (`remove`).
            let held = file.metadata().with_context(cannot)?;
            let named = path.symlink_metadata();
            if named.is_ok_and(|named| named.ino() == held.ino() && named.dev() == held.dev()) {
                return Ok(Some(Self {
                    path: path.to_owned(),
                    file,
                }));
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[test]
    fn exclusive_means_alone_and_shared_means_together() {
        let base = scratch("lock");
        let path = base.path().join("lock");
        let first = Lock::shared(&path).unwrap();
        let second = Lock::try_shared(&path).unwrap();
        assert!(second.is_some());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop((first, second));
        let alone = Lock::try_exclusive(&path).unwrap().unwrap();
        assert!(Lock::try_shared(&path).unwrap().is_none());
        drop(alone);
        assert!(Lock::try_shared(&path).unwrap().is_some());
    }

    #[test]
    fn a_removed_lock_is_not_held_by_those_who_waited_for_it() {
        let base = scratch("lock-removed");
        let path = base.path().join("lock");
        let held = Lock::exclusive(&path).unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || Lock::exclusive(&path).unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        held.remove();
        let lock = waiter.join().unwrap();
        assert!(path.exists());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(lock);
    }
}
