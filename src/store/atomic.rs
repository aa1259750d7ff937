//! Files that are replaced whole or not at all: written beside their place under a `.tmp-` name,
//! made durable, renamed over it, and the directory made durable too.

use std::fs::DirBuilder;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use rustix::fd::BorrowedFd;
use rustix::fs::AtFlags;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::error::WithHint;
use crate::oci::digest::hex;

/// What unfinished files and directories begin with.
pub const TEMP_PREFIX: &str = ".tmp-";

/// Of files that everybody may read.
pub const OPEN: Mode = Mode::from_raw_mode(0o644);

/// Whether a file must outlive a power cut (the store) or not even a reboot (the run directory).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Durable,
    Volatile,
}

/// Makes a directory in which only we may write, whatever the umask (CVE-2024-25621).
pub fn make_dir(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

/// The same with those above it, where they are not there yet.
pub fn make_dirs(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o755).recursive(true).create(path)
}

/// Writes a file of mode 0600, in place of what was there.
pub fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    replace(path, bytes, durability, false)
        .map_err(with_space_hint)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The same with mode 0644, whatever the umask.
pub fn write_open(path: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    replace(path, bytes, durability, true)
        .map_err(with_space_hint)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, bytes: &[u8], durability: Durability, open: bool) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        anyhow::bail!("it is no file name");
    };
    let dir = open_dir(parent)?;
    let temp = temp_name();
    let fd = rustix::fs::openat(
        &dir,
        &temp,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    let written = || -> Result<()> {
        let mut file = File::from(fd);
        // Held until the rename, so that a sweep leaves the file alone.
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        file.write_all(bytes)?;
        if open {
            rustix::fs::fchmod(&file, OPEN)?;
        }
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        rustix::fs::renameat(&dir, &temp, &dir, name)?;
        if durability == Durability::Durable {
            rustix::fs::fsync(&dir)?;
        }
        Ok(())
    }();
    if written.is_err() {
        // The first error is the one to tell; a file that stays is swept later.
        rustix::fs::unlinkat(&dir, &temp, AtFlags::empty()).ok();
    }
    written
}

/// Lets everybody read a directory who is let through those above it.
pub fn open_dir_to_all(dir: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fchmod(dir, Mode::from_raw_mode(0o755)).context("cannot set its mode")
}

/// Makes a rename or a removal in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    let synced = open_dir(path).and_then(|dir| Ok(rustix::fs::fsync(&dir)?));
    synced.with_context(|| format!("cannot sync directory {}", path.display()))
}

/// The file system that a directory is on gets all that was written to it on disk: one call for many
/// files. Returns the number of its device.
pub fn sync_file_system(path: &Path) -> Result<u64> {
    let synced = open_dir(path).and_then(|dir| {
        rustix::fs::syncfs(&dir)?;
        Ok(rustix::fs::fstat(&dir)?.st_dev)
    });
    synced
        .map_err(with_space_hint)
        .with_context(|| format!("cannot sync {}", path.display()))
}

fn open_dir(path: &Path) -> Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A name that no other process uses.
pub fn temp_name() -> PathBuf {
    PathBuf::from(format!("{TEMP_PREFIX}{}", random_hex()))
}

/// 16 random hexadecimal digits.
pub fn random_hex() -> String {
    let mut bytes = [0u8; 8];
    // Linux: getrandom(2) of up to 256 bytes fails only before the pool is ready, which it is
    // when user processes start, and is never short.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("getrandom(2) works");
    hex(&bytes)
}

/// A full disk is worth a hint wherever it shows.
pub fn with_space_hint(err: anyhow::Error) -> anyhow::Error {
    let full = |errno: Option<i32>| {
        errno.is_some_and(|errno| errno == libc::ENOSPC || errno == libc::EDQUOT)
    };
    let is_full = err.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        let errno = cause.downcast_ref::<rustix::io::Errno>();
        full(io.and_then(std::io::Error::raw_os_error))
            || full(errno.map(|errno| errno.raw_os_error()))
    });
    if is_full { err.hint(SPACE_HINT) } else { err }
}

/// For whoever reads that the disk is full.
pub const SPACE_HINT: &str = "make room: `rbox rmi` removes images, `rbox rm` removes containers";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_else() {
        let base = scratch("atomic");
        let path = base.path().join("record");
        write(&path, b"one, and more", Durability::Durable).unwrap();
        write(&path, b"two", Durability::Volatile).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_no_temporary_is_left() {
        let base = scratch("atomic-fail");
        let path = base.path().join("record");
        std::fs::create_dir_all(path.join("full")).unwrap();
        let err = write(&path, b"x", Durability::Durable).unwrap_err();
        let text = crate::error::message(&err);
        assert!(
            text.starts_with(&format!("cannot write {}: ", path.display())),
            "{text}"
        );
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_has_a_hint() {
        let err = with_space_hint(rustix::io::Errno::NOSPC.into());
        assert_eq!(crate::error::hint(&err), Some(SPACE_HINT));
        let err = with_space_hint(rustix::io::Errno::PERM.into());
        assert_eq!(crate::error::hint(&err), None);
    }
}
