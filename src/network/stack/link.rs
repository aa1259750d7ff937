//! The container's end: the TAP device, and what all protocols share.

use std::cell::Cell;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::Context;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Itimerspec;
use rustix::time::TimerfdClockId;
use rustix::time::TimerfdFlags;
use rustix::time::TimerfdTimerFlags;
use rustix::time::Timespec;

use crate::config::addresses::Addresses;
use crate::network::stack::fragment;
use crate::network::stack::meter::Meter;
use crate::network::stack::packet;
use crate::network::stack::packet::Path;
use crate::network::stack::route::Router;
use crate::network::stack::slab::Timers;
use crate::network::stack::slab::Token;
use crate::sys::pages::Pages;
use crate::sys::tap;

/// Why a packet goes nowhere, as ICMP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    Net,
    Host,
    Port,
    Forbidden,
}

impl Unreachable {
    pub fn of(errno: Errno) -> Unreachable {
        match errno {
            Errno::NETUNREACH => Unreachable::Net,
            Errno::CONNREFUSED => Unreachable::Port,
            Errno::ACCESS | Errno::PERM => Unreachable::Forbidden,
            _ => Unreachable::Host,
        }
    }

    /// Type and code (RFC 792, RFC 1812; RFC 4443).
    fn code(self, is_v4: bool) -> [u8; 2] {
        match (self, is_v4) {
            (Unreachable::Net, true) => [3, 0],
            (Unreachable::Host, true) => [3, 1],
            (Unreachable::Port, true) => [3, 3],
            (Unreachable::Forbidden, true) => [3, 13],
            (Unreachable::Net, false) => [1, 0],
            (Unreachable::Forbidden, false) => [1, 1],
            (Unreachable::Host, false) => [1, 3],
            (Unreachable::Port, false) => [1, 4],
        }
    }
}

const FRAME: usize = packet::HEADROOM + 2 * packet::FRAME;

pub struct Link {
    tap: Option<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
    pub timers: Timers,
    pub router: Router,
    pub meter: Meter,
    pub addresses: Addresses,
    /// Of the container's interface.
    pub mac: [u8; 6],
    /// Of that interface.
    pub mtu: u16,
    /// The container has asked for a router, and may have made addresses from its prefix.
    pub tells_prefix: bool,
    /// The number of the last packet that was cut.
    idents: Cell<u32>,
    /// The resolver knows names, and is asked them over TCP too.
    pub has_names: bool,
    /// When what is being done was begun.
    pub now: Instant,
    /// A frame that is being written, with room for one more datagram behind it.
    pub frame: Pages,
    /// A frame may carry many datagrams.
    pub joins_datagrams: bool,
}

impl Link {
    pub fn new(
        addresses: Addresses,
        (mac, mtu): ([u8; 6], u16),
        router: Router,
    ) -> anyhow::Result<Link> {
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .context("cannot make a timer")?;
        let link = Link {
            tap: None,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?,
            timer,
            armed: None,
            timers: Timers::default(),
            router,
            meter: Meter::default(),
            addresses,
            mac,
            mtu,
            tells_prefix: false,
            idents: Cell::new(0),
            has_names: false,
            now: Instant::now(),
            frame: Pages::new(FRAME),
            joins_datagrams: false,
        };
        link.watch(&link.timer, Token::TIMER, epoll::EventFlags::IN)?;
        Ok(link)
    }

    /// Gives back what was written to.
    pub fn rest(&mut self) {
        self.frame.clear();
    }

    pub fn look_at_clock(&mut self) {
        self.now = Instant::now();
    }

    /// Takes the container's device.
    pub fn attach(&mut self, tap: OwnedFd) -> anyhow::Result<()> {
        self.watch(&tap, Token::TAP, epoll::EventFlags::IN)
            .context("cannot wait for frames")?;
        self.joins_datagrams = tap::joins_datagrams(&tap);
        self.tap = Some(tap);
        Ok(())
    }

    pub fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    pub fn watch(
        &self,
        fd: impl AsFd,
        token: Token,
        events: epoll::EventFlags,
    ) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.0), events)
    }

    pub fn change_watch(
        &self,
        fd: impl AsFd,
        token: Token,
        events: epoll::EventFlags,
    ) -> rustix::io::Result<()> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token.0), events)
    }

    pub fn unwatch(&self, fd: impl AsFd) -> rustix::io::Result<()> {
        epoll::delete(&self.epoll, fd)
    }

    /// One frame of the container's; `None` when there is none.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let tap = self.tap.as_ref()?;
        match rustix::io::read(tap, buffer) {
            Ok(length) => {
                self.meter.outward.take(length);
                Some(length)
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            // Linux: the container has deleted its interface (EBADFD), which would be told of for ever.
            Err(_) => {
                self.unwatch(tap).ok();
                self.tap = None;
                None
            }
        }
    }

    /// Whether frames are waited for.
    pub fn listen(&self, listen: bool) {
        let mut events = epoll::EventFlags::empty();
        events.set(epoll::EventFlags::IN, listen);
        if let Some(tap) = &self.tap {
            self.change_watch(tap, Token::TAP, events).ok();
        }
    }

    /// Sends a frame. What the kernel does not take is lost, as on any Ethernet: the container may have taken
    /// its interface down.
    pub fn send(&self, frame: &mut [u8]) {
        packet::address_to(frame, self.mac);
        if frame.len() <= packet::AHEAD + usize::from(self.mtu) || packet::has_segments(frame) {
            return self.write(frame);
        }
        let ident = self.idents.get().wrapping_add(1);
        self.idents.set(ident);
        for piece in fragment::cut(frame, self.mtu, ident) {
            self.write(&piece);
        }
    }

    fn write(&self, frame: &[u8]) {
        if let Some(tap) = &self.tap {
            rustix::io::write(tap, frame).ok();
        }
        self.meter.inward.take(frame.len());
    }

    /// Sends what stands in the frame of ours, up to `end`.
    pub fn send_own(&mut self, end: usize) {
        self.send_part(0..end);
    }

    /// Sends what stands in a part of the frame of ours.
    pub fn send_part(&mut self, part: Range<usize>) {
        let mut frame = std::mem::take(&mut self.frame);
        self.send(&mut frame[part]);
        self.frame = frame;
    }

    /// The most that a segment carries.
    pub fn largest_segment(&self, is_v4: bool) -> u16 {
        packet::largest_segment(self.mtu, is_v4)
    }

    /// Tells the container that what it sent on `path` went nowhere; the first 8 bytes of its payload say what it was.
    pub fn unreachable(&self, path: Path, protocol: u8, payload: [u8; 8], why: Unreachable) {
        let is_v4 = path.target.is_ipv4();
        let mut message = why.code(is_v4).to_vec();
        message.extend([0; 6]);
        message.extend(packet::quoted(path, protocol, payload));
        let back = Path {
            source: self.addresses.of_family(path.target).1,
            target: path.source,
        };
        self.send(&mut packet::icmp(back, &message));
    }

    /// Whether it is the container's: the address that it was given, or one that it has made from the prefix that it
    /// was told (RFC 4862).
    pub fn is_container(&self, ip: IpAddr) -> bool {
        let own = &self.addresses;
        let prefix = |ip: Ipv6Addr| ip.octets().into_iter().take(8);
        match ip {
            ip if !own.has_family(ip) => false,
            IpAddr::V4(ip) => ip == own.container4,
            IpAddr::V6(ip) if ip == own.container6 => true,
            IpAddr::V6(ip) => {
                self.tells_prefix
                    && prefix(ip).eq(prefix(own.container6))
                    && ![own.gateway6, own.resolver6].contains(&ip)
            }
        }
    }

    /// The container's address of the family of `other`.
    pub fn container(&self, other: IpAddr) -> IpAddr {
        self.addresses.of_family(other).0
    }

    /// From `remote` to the container.
    pub fn inward(&self, remote: IpAddr) -> Path {
        Path {
            source: remote,
            target: self.container(remote),
        }
    }

    /// From the container to `remote`.
    #[cfg(test)]
    pub fn outward(&self, remote: IpAddr) -> Path {
        self.inward(remote).back()
    }

    /// Reads the timer, so that it is not ready any more.
    pub fn take_timer(&mut self) {
        rustix::io::read(&self.timer, &mut [0_u8; 8]).ok();
        self.armed = None;
    }

    /// Sets the timer to the next moment at which there is something to do.
    pub fn arm(&mut self) {
        let next = self.timers.next();
        if next.is_none() || next == self.armed {
            return;
        }
        self.armed = next;
        let wait = next.map_or_else(Default::default, |next| {
            next.saturating_duration_since(Instant::now())
        });
        let value = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                // Zero would disarm it.
                tv_nsec: i64::from(wait.subsec_nanos()).max(1),
            },
        };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value).ok();
    }
}
