//! Descriptors that arrive by number from the program that executed this one.
#![expect(unsafe_code, reason = "a descriptor arrives by its number")]

use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::io::FdFlags;

/// Takes over the descriptor that was left open for us under this number, and makes it
/// close-on-exec again. `None` if there is none, or it is one of the standard three.
pub fn inherited(number: i32) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: only flagged here; a number that is no descriptor gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is valid, as fcntl just showed, and was left open for this program by the one that
    // executed it, so that nothing else here owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
