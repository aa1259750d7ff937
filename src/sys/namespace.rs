//! Namespaces behind descriptors: which kind one is, whose it is; time namespaces; personality(2).
#![expect(
    unsafe_code,
    reason = "the ioctls of nsfs and personality have no safe wrapper"
)]

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::process::check;

/// Linux: linux/nsfs.h, `_IO(0xb7, 1)` and `_IO(0xb7, 3)` (4.9, 4.11).
const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// A file as a descriptor; it need not be a namespace.
pub fn open(path: &Path) -> Result<OwnedFd> {
    // O_NONBLOCK: a FIFO there must not block.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))
}

/// Its kind (`CLONE_NEW*`); ENOTTY for what is no namespace.
pub fn kind(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check(kind.into(), || {
        format!("ioctl({}, NS_GET_NSTYPE)", fd.as_raw_fd())
    })?;
    Ok(kind)
}

/// The user namespace that owns it; EPERM where that is not ours nor below it.
pub fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: NS_GET_USERNS takes no argument.
    let owner = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_USERNS) };
    check(owner.into(), || {
        format!("ioctl({}, NS_GET_USERNS)", fd.as_raw_fd())
    })?;
    // SAFETY: the ioctl succeeded and returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// Whether both are the same namespace.
pub fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool> {
    let id = |fd: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(fd).call(|| format!("fstat({})", fd.as_raw_fd()))?;
        Ok((stat.st_dev, stat.st_ino))
    };
    Ok(id(one)? == id(other)?)
}

/// Our own namespace, by its name in /proc/self/ns.
pub fn own(name: &str) -> Result<OwnedFd> {
    open(&Path::new("/proc/self/ns").join(name))
}

/// The clock offsets of the time namespace that our children will be in.
///
/// Must: be opened while we are dumpable; it stays ours afterwards.
pub fn open_time_offsets() -> Result<OwnedFd> {
    let path = "/proc/self/timens_offsets";
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?})"))
}

/// Writes one offset. Linux: they may be written until the first process is in the namespace
/// (time_namespaces(7)).
pub fn set_time_offset(offsets: &OwnedFd, clock: &str, seconds: i64, nanos: u32) -> Result<()> {
    let line = format!("{clock} {seconds} {nanos}");
    rustix::io::write(offsets.as_fd(), line.as_bytes())
        .call(|| format!("write(timens_offsets, {line:?})"))?;
    Ok(())
}

/// personality(2): the execution domain of this process and what it executes.
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: a plain integer.
    let result = unsafe { libc::personality(domain.into()) };
    check(result.into(), || format!("personality({domain:#x})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_tells_its_kind_and_owner() {
        let net = own("net").unwrap();
        assert_eq!(kind(net.as_fd()).unwrap(), libc::CLONE_NEWNET);
        assert!(same(net.as_fd(), own("net").unwrap().as_fd()).unwrap());
        assert!(!same(net.as_fd(), own("uts").unwrap().as_fd()).unwrap());
        let file = open(Path::new("/dev/null")).unwrap();
        assert_eq!(
            kind(file.as_fd()).unwrap_err().errno,
            rustix::io::Errno::NOTTY
        );
    }
}
