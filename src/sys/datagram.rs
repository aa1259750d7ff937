//! Unix sockets of datagrams as sd_notify(3) speaks over them, without connections.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::poll;
use crate::sys::process::retry;

/// How long a receiver that has as much as it takes is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A socket that never blocks.
pub fn new() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_DGRAM)".into())
}

/// A socket file `name` in the directory behind `dir`, to which everybody may write who sees it; one that
/// is there is replaced.
pub fn bind(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        result => result.call(|| format!("unlinkat({name:?})"))?,
    }
    let socket = new()?;
    // Linux: a socket path has at most 107 bytes (unix(7)); the directory may be deeper than that.
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str()).call(|| format!("sockaddr_un({path:?})"))?;
    rustix::net::bind(&socket, &address).call(|| format!("bind({name:?})"))?;
    // Whatever the umask: users of the container may be others than the owner.
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(0o666), AtFlags::empty())
        .call(|| format!("fchmodat({name:?})"))?;
    Ok(socket)
}

/// One datagram; `None` if there is none. One that is larger than `buffer` comes empty.
///
/// Linux: descriptors that are beside it are closed, since nobody takes them (unix(7)).
pub fn receive<'b>(socket: &OwnedFd, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (filled, length) =
        retry(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC)).ok()?;
    let whole = if length > filled { 0 } else { filled };
    Some(&buffer[..whole])
}

/// Sends one datagram.
pub fn send(socket: &OwnedFd, bytes: &[u8], to: &SocketAddrUnix) -> Result<()> {
    let send = || retry(|| rustix::net::sendto(socket, bytes, SendFlags::NOSIGNAL, to));
    let mut sent = send();
    if sent == Err(Errno::AGAIN) {
        // Linux: whether an unconnected socket can be written to says nothing of one receiver.
        poll::ready([Some((socket.as_fd(), PollFlags::empty()))], Some(PATIENCE))?;
        sent = send();
    }
    sent.map(drop).call(|| format!("sendto({to:?})"))
}
