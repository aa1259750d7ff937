//! Locks tied to an open file description (`F_OFD_SETLK`, Linux 3.15): inherited by fork, gone when
//! the last descriptor closes, and testable without being taken.
#![expect(unsafe_code, reason = "OFD locks have no safe wrapper")]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::process::check;

fn whole_file(kind: i32) -> libc::flock {
    // SAFETY: flock is a plain struct of integers, for which all zeroes is a value: the whole file
    // from its start; l_pid must be 0 for OFD locks (fcntl(2)).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(kind).expect("F_RDLCK, F_WRLCK and F_UNLCK are 0, 1 and 2");
    lock
}

/// Takes the exclusive lock; `false` if somebody else holds it.
pub fn try_exclusive(file: BorrowedFd<'_>) -> Result<bool> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: `lock` is a live struct flock.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    match check(result.into(), || {
        format!("fcntl({}, F_OFD_SETLK)", file.as_raw_fd())
    }) {
        Ok(()) => Ok(true),
        Err(err) if matches!(err.errno, Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Gives the lock back while the descriptor stays open, here and in processes that inherited it.
pub fn release(file: BorrowedFd<'_>) -> Result<()> {
    let lock = whole_file(libc::F_UNLCK);
    // SAFETY: `lock` is a live struct flock.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    check(result.into(), || {
        format!("fcntl({}, F_OFD_SETLK, F_UNLCK)", file.as_raw_fd())
    })
}

/// Whether somebody else holds the exclusive lock; takes nothing.
pub fn is_held(file: BorrowedFd<'_>) -> Result<bool> {
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: `lock` is a live struct flock that the kernel may write to.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    check(result.into(), || {
        format!("fcntl({}, F_OFD_GETLK)", file.as_raw_fd())
    })?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_held_lock_is_seen_and_not_taken_twice() {
        let path = std::env::temp_dir().join(format!("rbox-lock-{}", std::process::id()));
        let open = || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .unwrap()
        };
        let (first, second) = (open(), open());
        assert!(!is_held(second.as_fd()).unwrap());
        assert!(try_exclusive(first.as_fd()).unwrap());
        assert!(is_held(second.as_fd()).unwrap());
        assert!(!try_exclusive(second.as_fd()).unwrap());
        let inherited = first.try_clone().unwrap();
        drop(first);
        assert!(is_held(second.as_fd()).unwrap(), "a copy keeps the lock");
        release(inherited.as_fd()).unwrap();
        assert!(try_exclusive(second.as_fd()).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
