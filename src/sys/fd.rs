//! Descriptors that arrive by number from the program that executed this one.
#![expect(unsafe_code, reason = "a descriptor arrives by its number")]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::io::FdFlags;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::process::check;

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

/// A copy of a descriptor that the caller of this program left open for us, and we do not own.
/// `None` for what is closed, and for what this program itself opened, all of which is close-on-exec.
pub fn of_caller(number: i32) -> Option<OwnedFd> {
    // SAFETY: only asked and duplicated here; a number that is no descriptor gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(borrowed).ok()?;
    if flags.contains(FdFlags::CLOEXEC) {
        return None;
    }
    rustix::io::fcntl_dupfd_cloexec(borrowed, 3).ok()
}

/// A copy whose number is at least `least`.
pub fn above(fd: &OwnedFd, least: i32) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, least).call(|| format!("fcntl(F_DUPFD_CLOEXEC, {least})"))
}

/// Makes it the descriptor `number` of the next program, whatever that was.
///
/// Must: be followed by exec or exit alone, since something in this process may own `number`.
pub fn place(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: plain integers; what else had the number is not used any more, as the caller promises.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), number, 0) };
    check(result.into(), || {
        format!("dup3({}, {number})", fd.as_raw_fd())
    })
}
