//! Requests to rtnetlink(7), in one batch.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::netlink;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::SyscallError;

/// The body of a request: a struct of the kernel's, and attributes after it.
#[derive(Clone, Default)]
pub struct Body(Vec<u8>);

impl Body {
    pub fn new(head: &[u8]) -> Body {
        Body(head.to_vec())
    }

    /// Linux: length and kind, 16 bits each, and the value, padded to four bytes.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Body {
        let length = u16::try_from(4 + value.len()).expect("attributes are short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The same with other bytes at a place of its head.
    #[must_use]
    pub fn with_head(mut self, at: usize, bytes: &[u8]) -> Body {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn with_nested(self, kind: u16, attributes: &Body) -> Body {
        self.with(kind, &attributes.0)
    }
}

/// Requests that are made one after the other.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each is called in an error, and whether it may fail.
    requests: Vec<(String, bool)>,
}

impl Batch {
    /// A request that must succeed; `what` is how strace(1) would show it.
    pub fn push(&mut self, kind: u16, flags: i32, body: &Body, what: String) {
        self.add(kind, flags, body, what, false);
    }

    /// A request whose failure changes nothing for the others.
    pub fn try_push(&mut self, kind: u16, flags: i32, body: &Body, what: String) {
        self.add(kind, flags, body, what, true);
    }

    fn add(&mut self, kind: u16, flags: i32, body: &Body, what: String, may_fail: bool) {
        let length = u32::try_from(16 + body.0.len()).expect("requests are short");
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags)
            .expect("flags have 16 bits");
        let number = u32::try_from(self.requests.len()).expect("there are few requests");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(number.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(&body.0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.requests.push((what, may_fail));
    }

    /// Makes the requests in the network namespace of this process.
    pub fn run(self) -> Result<()> {
        let socket = open()?;
        rustix::net::send(&socket, &self.bytes, SendFlags::empty())
            .call(|| "send(netlink)".into())?;
        let mut buffer = vec![0; 32 * 1024];
        let mut answered = 0;
        while answered < self.requests.len() {
            let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())
                .call(|| "recv(netlink)".into())?;
            let mut rest = &buffer[..length];
            while let Some((number, errno, after)) = answer(rest) {
                rest = after;
                answered += 1;
                let (what, may_fail) = self
                    .requests
                    .get(number)
                    .map_or(("", true), |(what, may_fail)| (what, *may_fail));
                if errno != 0 && !may_fail {
                    return Err(SyscallError {
                        call: format!("netlink({what})"),
                        errno: Errno::from_raw_os_error(errno),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The number of a network interface in the network namespace of this process; ENODEV where there is none.
pub fn interface(name: &str) -> Result<u32> {
    let kind = SocketType::DGRAM;
    rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)
        .and_then(|any| rustix::net::netdevice::name_to_index(&any, name))
        .call(|| format!("ioctl(SIOCGIFINDEX, {name:?})"))
}

/// The bodies of all messages that answer a request for everything there is of a kind.
pub fn dump(kind: u16, body: &Body) -> Result<Vec<Vec<u8>>> {
    let mut batch = Batch::default();
    batch.add(kind, libc::NLM_F_DUMP, body, String::new(), false);
    let socket = open()?;
    rustix::net::send(&socket, &batch.bytes, SendFlags::empty()).call(|| "send(netlink)".into())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())
            .call(|| "recv(netlink)".into())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, after)) = message(rest) {
            rest = after;
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                libc::NLMSG_ERROR => {
                    let errno = body
                        .first_chunk()
                        .map_or(0, |errno| i32::from_ne_bytes(*errno));
                    return Err(SyscallError {
                        call: format!("netlink(dump {kind})"),
                        errno: Errno::from_raw_os_error(-errno),
                    });
                }
                _ => found.push(body.to_vec()),
            }
        }
    }
}

/// The first message: its kind, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, rest))
}

/// The attributes after the head of a body: kind and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn open() -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )
    .call(|| "socket(AF_NETLINK)".into())?;
    rustix::net::connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))
        .call(|| "connect(netlink)".into())?;
    Ok(socket)
}

/// The first message of an answer: which request it is for, its errno (0: it was done), and what follows.
fn answer(bytes: &[u8]) -> Option<(usize, i32, &[u8])> {
    let field = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let length = u32::from_ne_bytes(field(0)?) as usize;
    let number = u32::from_ne_bytes(field(8)?) as usize;
    // Linux: struct nlmsgerr, a negative errno first, then the header of the request.
    let errno = -i32::from_ne_bytes(field(16)?);
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((number, errno, rest))
}
