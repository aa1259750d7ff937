//! Sockets in the container's network namespace, for the network process, which is where no namespace can be joined.
//! A process makes them that goes there for a moment.
//!
//! A connection from one of them never leaves the namespace, and is made in the name of any address all the same
//! (Documentation/networking/tproxy.rst): the socket is transparent and has a mark, what the container answers has the
//! mark of what it answers to (ip-sysctl, `tcp_fwmark_accept`, `fwmark_reflect`), and for what has the mark each address is a local one.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

use crate::network::setting;
use crate::sys::inet;
use crate::sys::link;
use crate::sys::netlink::Batch;
use crate::sys::process;
use crate::sys::process::Side;
use crate::sys::socket;

/// Of connections that stay in the namespace, and their table.
const MARK: u32 = 0x7262_6f78;
const TABLE: u8 = 114;

/// How many sockets are made at once: few at first, for most containers have few clients, and twice as many each time
/// that more are wanted soon.
const FEW: usize = 8;
const MANY: usize = socket::MOST_DESCRIPTORS;
const SOON: Duration = Duration::from_secs(1);

pub struct Door {
    init: OwnedFd,
    next: usize,
    last: Option<Instant>,
    /// For IPv4, and for IPv6.
    has_ways: [bool; 2],
}

impl Door {
    /// To the namespaces of a process.
    pub fn new(init: OwnedFd) -> Door {
        Door {
            init,
            next: FEW,
            last: None,
            has_ways: [false; 2],
        }
    }

    /// Some sockets for TCP that may have any address; none where they cannot be had.
    ///
    /// Must: be called by a single-threaded process.
    pub fn sockets(&mut self, is_v4: bool) -> anyhow::Result<Vec<OwnedFd>> {
        let is_soon = self.last.is_some_and(|last| last.elapsed() < SOON);
        self.next = if is_soon {
            (self.next * 2).min(MANY)
        } else {
            FEW
        };
        self.last = Some(Instant::now());
        let (ours, theirs) = socket::pair()?;
        match process::fork()? {
            Side::Child => {
                drop(ours);
                self.send(theirs.as_fd(), is_v4).ok();
                process::exit_now(0)
            }
            Side::Parent(child) => {
                drop(theirs);
                let made = socket::receive_all(ours.as_fd(), &mut [0]);
                process::wait(child.pidfd.as_fd())?;
                let (_, made) = made?;
                self.has_ways[usize::from(!is_v4)] |= !made.is_empty();
                Ok(made)
            }
        }
    }

    /// Runs in a process of its own.
    fn send(&self, to: BorrowedFd<'_>, is_v4: bool) -> anyhow::Result<()> {
        // Must: before the namespace is joined, whose root may look into the processes in it.
        process::set_dumpable(false)?;
        // Linux: EINVAL for who is in that user namespace already; such a container has none of its own.
        match process::setns(self.init.as_fd(), libc::CLONE_NEWUSER) {
            Err(err) if err.errno == Errno::INVAL => {}
            joined => joined?,
        }
        // Linux: a change of credentials sets it anew.
        process::set_dumpable(false)?;
        process::setns(self.init.as_fd(), libc::CLONE_NEWNET)?;
        // It has a copy of all descriptors, the run lock among them. Linux: changes of credentials clear this (prctl(2)).
        process::set_parent_death_signal(libc::SIGKILL)?;
        if !self.has_ways[usize::from(!is_v4)] {
            open_ways(is_v4)?;
        }
        // As many as there may be.
        let made: Vec<OwnedFd> = (0..self.next)
            .map_while(|_| make_socket(is_v4).ok())
            .collect();
        let made: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        Ok(socket::send_all(to, b"s", &made)?)
    }
}

fn open_ways(is_v4: bool) -> anyhow::Result<()> {
    let family = if is_v4 { libc::AF_INET } else { libc::AF_INET6 };
    setting::set("ipv4/tcp_fwmark_accept", "1")?;
    // What no socket answers, as the reset of a port that nobody listens on.
    let reflect = if is_v4 { "ipv4" } else { "ipv6" };
    setting::set(&format!("{reflect}/fwmark_reflect"), "1")?;
    let mut batch = Batch::default();
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let route = link::all_is_local(family, TABLE);
    batch.push(
        libc::RTM_NEWROUTE,
        flags,
        &route,
        "RTM_NEWROUTE, local".into(),
    );
    // Linux: without NLM_F_EXCL a rule that is there is there twice.
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let rule = link::rule(family, MARK, TABLE);
    batch.push(libc::RTM_NEWRULE, flags, &rule, "RTM_NEWRULE".into());
    match batch.run() {
        Err(err) if err.errno != Errno::EXIST => Err(err.into()),
        _ => Ok(()),
    }
}

fn make_socket(is_v4: bool) -> anyhow::Result<OwnedFd> {
    let family = if is_v4 {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    inet::stand_in(socket.as_fd(), is_v4, MARK)?;
    inet::give_up_soon(socket.as_fd())?;
    // The port of a client that was there a minute ago.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}
