//! The container's end: the TAP device, and what all protocols share.

use std::net::IpAddr;
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
use crate::network::packet;
use crate::network::packet::Path;
use crate::network::route::Router;
use crate::network::slab::Timers;
use crate::network::slab::Token;

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

pub struct Link {
    tap: Option<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
    pub timers: Timers,
    pub router: Router,
    pub addresses: Addresses,
    /// When this turn began.
    pub now: Instant,
    /// A frame that is being written.
    pub frame: Vec<u8>,
}

impl Link {
    pub fn new(addresses: Addresses, router: Router) -> anyhow::Result<Link> {
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
            addresses,
            now: Instant::now(),
            frame: vec![0; packet::FRAME + packet::HEADROOM],
        };
        link.watch(&link.timer, Token::TIMER, epoll::EventFlags::IN)?;
        Ok(link)
    }

    /// Takes the container's device.
    pub fn attach(&mut self, tap: OwnedFd) -> anyhow::Result<()> {
        self.watch(&tap, Token::TAP, epoll::EventFlags::IN)
            .context("cannot wait for frames")?;
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
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(self.tap.as_ref()?, buffer).ok()
    }

    /// Sends a frame. What the kernel does not take is lost, as on any Ethernet: the container may have taken
    /// its interface down.
    pub fn send(&self, frame: &[u8]) {
        if let Some(tap) = &self.tap {
            rustix::io::write(tap, frame).ok();
        }
    }

    /// Sends what stands in the frame of ours, up to `end`.
    pub fn send_own(&self, end: usize) {
        self.send(&self.frame[..end]);
    }

    /// Tells the container that what it sent on `path` went nowhere; the first 8 bytes of its payload say what it was.
    pub fn unreachable(&self, path: Path, protocol: u8, payload: [u8; 8], why: Unreachable) {
        let is_v4 = path.target.is_ipv4();
        let mut message = why.code(is_v4).to_vec();
        message.extend([0; 6]);
        message.extend(packet::quoted(path, protocol, payload));
        let (container, gateway) = self.addresses.of_family(path.target);
        let back = Path {
            source: gateway,
            target: container,
        };
        self.send(&packet::icmp(back, &message));
    }

    /// From `remote` to the container.
    pub fn inward(&self, remote: IpAddr) -> Path {
        Path {
            source: remote,
            target: self.addresses.of_family(remote).0,
        }
    }

    /// From the container to `remote`.
    pub fn outward(&self, remote: IpAddr) -> Path {
        Path {
            source: self.addresses.of_family(remote).0,
            target: remote,
        }
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
