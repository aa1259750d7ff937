//! Unix sockets that keep packets whole (SOCK_SEQPACKET), and descriptors sent over them.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::SyscallError;
use crate::sys::process::retry;

/// A connected pair.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)".into())
}

/// Listens on the socket file `name` in the directory behind `dir`; one that is there is replaced.
pub fn listen(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    match rustix::fs::unlinkat(dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => {
            return Err(SyscallError {
                call: format!("unlinkat({name:?})"),
                errno,
            });
        }
    }
    let socket = seqpacket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::bind(&socket, &address(dir, name)?).call(|| format!("bind({name:?})"))?;
    rustix::net::listen(&socket, 128).call(|| format!("listen({name:?})"))?;
    Ok(socket)
}

/// Connects to the socket file `name` in the directory behind `dir`.
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = seqpacket(SocketFlags::CLOEXEC)?;
    let address = address(dir, name)?;
    retry(|| rustix::net::connect(&socket, &address)).call(|| format!("connect({name:?})"))?;
    Ok(socket)
}

/// A box at the socket file `name` in the directory behind `dir`, into which others put descriptors.
pub fn mailbox(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let socket = datagram()?;
    rustix::net::bind(&socket, &address(dir, name)?).call(|| format!("bind({name:?})"))?;
    Ok(socket)
}

/// A socket that leads into that box; `None` if there is none, or nobody has it any more.
pub fn open_mailbox(dir: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>> {
    let socket = datagram()?;
    let address = address(dir, name)?;
    match retry(|| rustix::net::connect(&socket, &address)) {
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        result => result
            .call(|| format!("connect({name:?})"))
            .map(|()| Some(socket)),
    }
}

/// Connects to a stream socket of others.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_STREAM)".into())?;
    // Linux: a socket path has at most 107 bytes (unix(7)); a longer one is named by its directory.
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    let named = match (path.parent(), name) {
        (Some(parent), Some(name)) if path.as_os_str().len() > 107 => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(parent, flags, Mode::empty())
                .call(|| format!("open({parent:?})"))?;
            let address = address(dir.as_fd(), name)?;
            retry(|| rustix::net::connect(&socket, &address))
                .call(|| format!("connect({path:?})"))?;
            return Ok(socket);
        }
        _ => SocketAddrUnix::new(path).call(|| format!("sockaddr_un({path:?})"))?,
    };
    retry(|| rustix::net::connect(&socket, &named)).call(|| format!("connect({path:?})"))?;
    Ok(socket)
}

fn datagram() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_DGRAM)".into())
}

fn seqpacket(flags: SocketFlags) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_SEQPACKET)".into())
}

/// Linux: a socket path has at most 107 bytes (unix(7)), and state directories may be deeper than
/// that; the directory is named by its descriptor instead.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    SocketAddrUnix::new(path.as_str()).call(|| format!("sockaddr_un({path:?})"))
}

/// Sends one packet, with at most one descriptor beside it.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    retry(|| {
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
    .call(|| format!("sendmsg({})", socket.as_raw_fd()))?;
    Ok(())
}

/// What a receive gave.
pub struct Packet {
    /// How many bytes of the buffer are filled; 0 is the end of the stream.
    pub length: usize,
    pub fd: Option<OwnedFd>,
}

/// Receives one packet into `buffer`; a packet that is larger is an error, never cut.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut receive = || {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    };
    // Linux: a peer that closes before it has read all we sent makes one call fail with ECONNRESET; what
    // it sent before can be received after that, and then the end.
    let received = match retry(&mut receive) {
        Err(Errno::CONNRESET) => retry(receive),
        result => result,
    }
    .call(|| format!("recvmsg({})", socket.as_raw_fd()))?;
    let fd = descriptors(&mut control).next();
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(SyscallError {
            call: format!(
                "recvmsg({}): packet larger than {}",
                socket.as_raw_fd(),
                buffer.len()
            ),
            errno: Errno::MSGSIZE,
        });
    }
    Ok(Packet {
        length: received.bytes,
        fd,
    })
}

/// How many descriptors one packet may carry here. Linux takes 253 (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 250;

/// Sends one packet, with at most `MOST_DESCRIPTORS` beside it.
pub fn send_all(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let (bytes, flags) = ([IoSlice::new(bytes)], SendFlags::NOSIGNAL);
    retry(|| rustix::net::sendmsg(socket, &bytes, &mut control, flags))
        .call(|| format!("sendmsg({})", socket.as_raw_fd()))?;
    Ok(())
}

/// Receives such a packet: how many bytes of the buffer are filled (0 is the end of the stream), and its descriptors.
pub fn receive_all(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)
    })
    .call(|| format!("recvmsg({})", socket.as_raw_fd()))?;
    Ok((received.bytes, descriptors(&mut control).collect()))
}

fn descriptors(control: &mut RecvAncillaryBuffer<'_>) -> impl Iterator<Item = OwnedFd> {
    control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
}

/// Whether the process at the other end has our own uid.
pub fn peer_is_us(socket: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|credentials| credentials.uid == rustix::process::geteuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_did_not_listen_is_heard_to_the_end() {
        let (ours, theirs) = pair().unwrap();
        send(theirs.as_fd(), b"last words", None).unwrap();
        send(ours.as_fd(), b"unread", None).unwrap();
        drop(theirs);
        let mut buffer = [0; 16];
        let packet = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..packet.length], b"last words");
        assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap().length, 0);
    }
}
