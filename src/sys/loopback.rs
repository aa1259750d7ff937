//! The loopback interface of a new network namespace, which the kernel makes but does not start.
#![expect(unsafe_code, reason = "SIOCSIFFLAGS has no safe wrapper")]

use std::os::fd::AsRawFd;

use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::process::check;

/// Brings `lo` up in the network namespace of this process (netdevice(7)).
pub fn up() -> Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .call(|| "socket(AF_INET, SOCK_DGRAM)".into())?;
    // SAFETY: ifreq is a plain struct of integers and arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).expect("IFF_UP is 1");
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is live.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into(), || "ioctl(SIOCSIFFLAGS, lo)".into())
}
