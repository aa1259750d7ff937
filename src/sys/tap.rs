//! TAP devices: an Ethernet interface of a network namespace, the other end of which is a descriptor
//! (Documentation/networking/tuntap.rst).
#![expect(
    unsafe_code,
    reason = "TUNSETIFF and TUNSETOFFLOAD have no safe wrapper"
)]

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::process::check;

const DEVICE: &str = "/dev/net/tun";

/// Whether this process may have the device at all: it is missing on small hosts, and in containers.
pub fn check_device() -> Result<()> {
    device().map(drop)
}

fn device() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(DEVICE, flags, Mode::empty()).call(|| format!("open({DEVICE:?})"))
}

/// Makes the interface `name` in the network namespace of this process. Each frame has a `virtio_net_hdr` before
/// it, checksums of TCP and UDP are left to whoever needs them, and segments of TCP may be larger than the MTU.
///
/// Linux: needs `CAP_NET_ADMIN` in the user namespace of the network namespace.
pub fn open(name: &str) -> Result<OwnedFd> {
    let tap = device()?;
    // SAFETY: ifreq is a plain struct of integers and arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("the flags have 16 bits");
    // SAFETY: TUNSETIFF reads and writes one ifreq, which is live.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(result.into(), || format!("ioctl(TUNSETIFF, {name:?})"))?;
    set_offload(&tap, SEGMENTS)?;
    Ok(tap)
}

const SEGMENTS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

/// Lets frames of many datagrams come (`VIRTIO_NET_HDR_GSO_UDP_L4`), where such may go there too: since Linux 6.2.
pub fn joins_datagrams(tap: &OwnedFd) -> bool {
    set_offload(tap, SEGMENTS | libc::TUN_F_USO4 | libc::TUN_F_USO6).is_ok()
}

fn set_offload(tap: &OwnedFd, offload: libc::c_uint) -> Result<()> {
    // SAFETY: the argument of TUNSETOFFLOAD is the flags themselves.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, offload) };
    check(result.into(), || {
        format!("ioctl(TUNSETOFFLOAD, {offload:#x})")
    })
}
