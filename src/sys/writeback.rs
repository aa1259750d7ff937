//! Writing to disk ahead of a sync, so that the sync finds little left to do.
#![expect(unsafe_code, reason = "sync_file_range(2) has no safe wrapper")]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Has the kernel begin to write a part of a file to disk, and does not wait for it. A length of 0 is all from
/// `offset` on. It is advice: that a file system does not take it is no error.
pub fn begin(fd: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    // SAFETY: plain integers; nothing of this process's memory is read or written.
    unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
