//! What sockets of the Internet families need besides rustix: data that is looked at before it is taken,
//! and datagrams with the local address they came to.
#![expect(
    unsafe_code,
    reason = "SO_PEEK_OFF, MSG_TRUNC and IP_PKTINFO have no safe wrapper"
)]

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::SocketAddrV6;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::process::check;
use crate::sys::process::last_errno;

fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> Result<()> {
    // SAFETY: the kernel reads one int, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length_of::<i32>(),
        )
    };
    check(result.into(), || {
        format!("setsockopt({level}, {option}, {value})")
    })
}

/// Lets a socket have addresses that are not this host's, and what it sends be routed as its mark says (ip(7), `IP_TRANSPARENT`;
/// socket(7), `SO_MARK`).
///
/// Linux: needs `CAP_NET_ADMIN` over its network namespace, which is not asked for when it is bound.
pub fn stand_in(socket: BorrowedFd<'_>, is_v4: bool, mark: u32) -> Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())?;
    if is_v4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1)
    }
}

/// Who does not answer is asked once more, and then it is ETIMEDOUT: after three seconds (tcp(7), `TCP_SYNCNT`).
pub fn give_up_soon(socket: BorrowedFd<'_>) -> Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, 1)
}

/// Where the next `MSG_PEEK` begins: that many bytes after what was taken last; taking moves it along.
///
/// Linux: for TCP since 6.9.
pub fn set_peek_offset(socket: BorrowedFd<'_>, offset: i32) -> Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, offset)
}

/// Takes data of a TCP socket without copying them; returns how many bytes that were (tcp(7), `MSG_TRUNC`). Of other
/// sockets some are copied, and forgotten.
pub fn discard(socket: BorrowedFd<'_>, length: usize) -> rustix::io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer, and no socket can write to a null one.
    let taken = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            length,
            libc::MSG_TRUNC | libc::MSG_DONTWAIT,
        )
    };
    match usize::try_from(taken).map_err(|_| last_errno()) {
        Err(Errno::FAULT) => {
            let mut forgotten = [0; 4096];
            let some = length.min(forgotten.len());
            let flags = rustix::net::RecvFlags::DONTWAIT;
            rustix::net::recv(socket, &mut forgotten[..some], flags).map(|(taken, _)| taken)
        }
        taken => taken,
    }
}

/// Lets `receive_datagram` know the local address of each datagram.
pub fn want_local_address(socket: BorrowedFd<'_>, is_v4: bool) -> Result<()> {
    if is_v4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    }
}

/// Room for two control messages, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; 96]);

/// One datagram: its length, who sent it, and to which of our addresses. It does not wait.
pub fn receive_datagram(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> rustix::io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    // SAFETY: sockaddr_storage is integers and arrays, for which all zeroes is a value.
    let mut name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut control = Control([0; 96]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as above; some libcs have padding in it that cannot be named.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = length_of::<libc::sockaddr_storage>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: all pointers of the message are to buffers above that outlive the call, with their true lengths.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| last_errno())?;
    let peer = address(&name).ok_or(Errno::AFNOSUPPORT)?;
    let filled = (message.msg_controllen as usize).min(control.0.len());
    Ok((length, peer, local_address(&control.0[..filled])))
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is large enough and aligned for every family, and this one is AF_INET.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with AF_INET6.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The address in the first control message (`cmsghdr`: length, level, type; then the data).
fn local_address(control: &[u8]) -> Option<IpAddr> {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let level = i32::from_ne_bytes(control.get(HEAD - 8..HEAD - 4)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(HEAD - 4..HEAD)?.try_into().ok()?);
    match (level, kind) {
        // struct in_pktinfo: interface, the address to answer from, the address in the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let bytes: [u8; 4] = control.get(HEAD + 4..HEAD + 8)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let bytes: [u8; 16] = control.get(HEAD..HEAD + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// Where datagrams go, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sending {
    /// Not for a socket that is connected.
    pub to: Option<SocketAddr>,
    /// The local address that they come from.
    pub from: Option<IpAddr>,
    /// There are many, each of this size but the last one, which may be smaller (udp(7), `UDP_SEGMENT`).
    pub size: Option<u16>,
}

/// Sends a datagram, or many. It does not wait.
///
/// Linux: many are EINVAL where one does not fit the MTU of the way.
pub fn send_datagrams(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    sending: Sending,
) -> rustix::io::Result<()> {
    let mut control = Control([0; 96]);
    let mut used = sending
        .from
        .map_or(0, |from| write_source(&mut control, from));
    if let Some(size) = sending.size {
        used += write_size(&mut control.0[used..], size);
    }
    let name = sending.to.map(sockaddr);
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is pointers and integers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some((name, length)) = &name {
        message.msg_name = (&raw const *name).cast_mut().cast();
        message.msg_namelen = *length;
    }
    message.msg_iov = (&raw const part).cast_mut();
    message.msg_iovlen = 1;
    if used > 0 {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = used as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all pointers of the message are to values above that outlive the call, which only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("addresses are short")
}

fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("families are small numbers")
}

fn sockaddr(to: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: sockaddr_storage is integers and arrays, for which all zeroes is a value.
    let mut name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match to {
        SocketAddr::V4(to) => {
            // SAFETY: a sockaddr_storage is large enough and aligned for every family.
            let name = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in>() };
            name.sin_family = family(libc::AF_INET);
            name.sin_port = to.port().to_be();
            name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
            length_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            // SAFETY: as above.
            let name = unsafe { &mut *(&raw mut name).cast::<libc::sockaddr_in6>() };
            name.sin6_family = family(libc::AF_INET6);
            name.sin6_port = to.port().to_be();
            name.sin6_addr.s6_addr = to.ip().octets();
            name.sin6_scope_id = to.scope_id();
            length_of::<libc::sockaddr_in6>()
        }
    };
    (name, length)
}

/// Writes a control message that says which address to send from; returns its length.
fn write_source(control: &mut Control, from: IpAddr) -> usize {
    match from {
        IpAddr::V4(from) => {
            let mut data = [0; 12];
            data[4..8].copy_from_slice(&from.octets());
            write_control(&mut control.0, libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        }
        IpAddr::V6(from) => {
            let mut data = [0; 20];
            data[..16].copy_from_slice(&from.octets());
            let kind = libc::IPV6_PKTINFO;
            write_control(&mut control.0, libc::IPPROTO_IPV6, kind, &data)
        }
    }
}

fn write_size(control: &mut [u8], size: u16) -> usize {
    let data = size.to_ne_bytes();
    write_control(control, libc::SOL_UDP, libc::UDP_SEGMENT, &data)
}

fn write_control(control: &mut [u8], level: i32, kind: i32, data: &[u8]) -> usize {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let length = HEAD + data.len();
    control[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
    control[HEAD - 8..HEAD - 4].copy_from_slice(&level.to_ne_bytes());
    control[HEAD - 4..HEAD].copy_from_slice(&kind.to_ne_bytes());
    control[HEAD..length].copy_from_slice(data);
    length.next_multiple_of(size_of::<usize>())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn datagrams_carry_the_local_address_both_ways() {
        for (any, own) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let server = UdpSocket::bind(any).unwrap();
            want_local_address(server.as_fd(), any.starts_with('0')).unwrap();
            let own: IpAddr = own.parse().unwrap();
            let client = UdpSocket::bind((own, 0)).unwrap();
            client
                .send_to(b"question", (own, server.local_addr().unwrap().port()))
                .unwrap();
            let mut buffer = [0; 16];
            let (length, peer, local) = loop {
                match receive_datagram(server.as_fd(), &mut buffer) {
                    Err(Errno::AGAIN) => std::thread::yield_now(),
                    other => break other.unwrap(),
                }
            };
            assert_eq!(&buffer[..length], b"question");
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(local, Some(own));
            let sending = Sending {
                to: Some(peer),
                from: local,
                size: Some(6),
            };
            send_datagrams(server.as_fd(), b"answerreplyx", sending).unwrap();
            for text in [b"answer", b"replyx"] {
                let (length, from) = client.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], text);
                assert_eq!(from.ip(), own);
            }
        }
    }
}
