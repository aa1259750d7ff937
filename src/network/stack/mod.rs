//! The network of one container in user mode: frames on its side, ordinary sockets on the host's. Runs in a process
//! of its own beside the container's supervisor, which may do nothing else (`supervisor::relay`); knows nothing of
//! containers.
//!
//! # Theory of operation
//!
//! ```text
//!  container                      network process                              host
//!  eth0 <-------------- TAP ----> link: frames, headers written and read, what is too large cut
//!                                   fragment: cut packets, made whole
//!                                   dhcp, router: its own addresses
//!                                   icmp: ARP, neighbours, echo --------------> ping sockets
//!                                   tcp:  a flow each  <----------------------> a TCP socket each
//!                                   udp:  a flow each  <----------------------> a UDP socket each
//!                                   dns:  names of its networks
//!                                         other questions --------------------> resolvers of resolv.conf
//!                                   listen: published ports <------------------ clients
//!  lo   <------------------------ bypass: clients of the host's loopback
//! ```
//!
//! * Every address but the container's own is behind the gateway's MAC. So the container may be spoken to in the
//!   name of any address: who connects to a published port is seen as who it is. Only clients that the container
//!   would take for itself (loopback) get the gateway's address (CVE-2021-20199).
//! * The gateway's address is the host, as others see it: not its loopback, unless that is asked for (`route`).
//! * Nothing of the host's routes, addresses and resolvers is kept: each socket is routed by the kernel when it is made,
//!   and what must be known besides is looked up then (`route`). So a host without a network is no obstacle, and
//!   changes are followed.
//! * Nothing of the host is changed, and nothing listens but the sockets of published ports.
//! * A turn is bounded, frames and sockets alike, so that orders of the supervisor are heard.
//! * What comes from the TAP device is hostile: `packet` checks every length, no state of a flow depends on more
//!   than its own frames, tables and buffers are bounded.

mod bypass;
mod dhcp;
mod dns;
mod fragment;
mod icmp;
mod link;
mod listen;
mod meter;
pub mod packet;
pub mod route;
mod router;
mod slab;
mod tcp;
#[cfg(test)]
mod tests;
mod train;
mod udp;

use std::fs::File;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::Timespec;

use crate::config::addresses::Addresses;
use crate::network::names::Names;
use crate::network::place::Way;
use crate::network::stack::bypass::Bypass;
use crate::network::stack::bypass::Client;
use crate::network::stack::dns::Dns;
use crate::network::stack::fragment::Fragments;
use crate::network::stack::icmp::Icmp;
use crate::network::stack::link::Link;
use crate::network::stack::link::Unreachable;
use crate::network::stack::listen::Listener;
use crate::network::stack::packet::Packet;
use crate::network::stack::route::Access;
use crate::network::stack::route::DNS;
use crate::network::stack::route::Router;
use crate::network::stack::slab::Alarm;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;
use crate::network::stack::slab::Token;
use crate::network::stack::tcp::Tcp;
use crate::network::stack::udp::Udp;
use crate::sys::limits;
use crate::sys::pages::Pages;
use crate::text::egress::Rule;
use crate::text::egress::Transport;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;
use crate::text::rate::Rates;

pub use listen::Given;
pub use packet::CONTAINER_MAC;
pub use packet::GATEWAY_MAC;
pub use packet::MTU;

/// Events, frames and clients that are served in one turn.
const EVENTS: usize = 64;
const FRAMES: usize = 64;
const CLIENTS: usize = 64;

const NONE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// How often it is asked what has happened in one turn, and after which time no more is begun in it.
const ROUNDS: usize = 4;
const TURN: Duration = Duration::from_millis(2);

/// How long a listener rests when there are no descriptors for its clients.
const REST: Duration = Duration::from_millis(100);

pub struct Settings<'a> {
    pub addresses: Addresses,
    /// Of the container's interface.
    pub mac: [u8; 6],
    pub mtu: u16,
    /// The gateway's address leads to the host's loopback.
    pub host_loopback: bool,
    /// Nothing but the container's published ports leads in or out.
    pub is_internal: bool,
    /// What the resolver knows of the container's networks.
    pub names: Option<Names>,
    /// What the container may reach.
    pub rules: &'a [Rule],
    /// The resolvers that it was given, where those are not ours.
    pub servers: &'a [IpAddr],
    pub rates: Rates,
}

/// The sockets of published ports.
#[derive(Clone, Default)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Listens, with such sockets as are given.
    pub fn new(publish: &[Publish], given: Vec<Given>) -> anyhow::Result<Listeners> {
        listen::all(publish, given).map(Listeners)
    }

    /// What is published, with the ports that were found.
    pub fn published(&self) -> Vec<Publish> {
        self.0.iter().map(|listener| listener.publish).collect()
    }

    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|listener| listener.socket.as_fd())
    }
}

/// What a turn has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub anything: bool,
    /// The supervisor says something.
    pub orders: bool,
}

/// Room for one of the container's.
const FRAME: usize = packet::FRAME + packet::HEADROOM;

pub struct Network {
    link: Link,
    listeners: Slab<Listener>,
    tcp: Tcp,
    bypass: Bypass,
    udp: Udp,
    icmp: Icmp,
    dns: Dns,
    fragments: Fragments,
    /// The frame that is being read.
    frame: Pages,
    has_more: bool,
    /// Sockets of datagrams that are not read before more may go to the container.
    paused: Vec<Token>,
    /// When that is, and the timer that is set for it.
    wake: Option<Instant>,
    alarm: Alarm,
}

impl Network {
    /// With its published ports; nothing is served before `attach`.
    pub fn new(settings: Settings<'_>, listening: Listeners) -> anyhow::Result<Network> {
        let mut router = Router::new(settings.addresses, settings.host_loopback, settings.rules);
        router.closed = settings.is_internal;
        router.servers = settings.servers.to_vec();
        let interface = (settings.mac, settings.mtu);
        let mut link = Link::new(settings.addresses, interface, router)?;
        link.meter.set(settings.rates, link.now);
        link.has_names = settings.names.is_some();
        let room = room();
        let mut listeners = Slab::new();
        for listener in listening.0 {
            listeners.insert(listener);
        }
        Ok(Network {
            link,
            listeners,
            tcp: Tcp::new(room / 2),
            bypass: Bypass::new(room / 4),
            udp: Udp::new(room / 8),
            icmp: Icmp::new(room / 16),
            dns: Dns::new(settings.names),
            fragments: Fragments::default(),
            frame: Pages::new(FRAME),
            has_more: false,
            paused: vec![],
            wake: None,
            alarm: Alarm::default(),
        })
    }

    /// What the container may reach, and how fast, from now on; what it may still reach goes on.
    pub fn set_limits(&mut self, rules: &[Rule], rates: Rates) {
        self.link.now = Instant::now();
        if self.link.router.set_rules(rules) {
            self.tcp.end_forbidden(&mut self.link);
            self.udp.end_forbidden(&mut self.link);
            self.icmp.end_forbidden(&mut self.link);
        }
        self.link.meter.set(rates, self.link.now);
        self.go_on();
        self.has_more = true;
    }

    /// Begins to serve the container behind a TAP device.
    pub fn attach(&mut self, tap: OwnedFd) -> anyhow::Result<()> {
        self.link.attach(tap)?;
        for (id, listener) in self.listeners.iter() {
            let token = listener_token(id, listener);
            self.link.watch(&*listener.socket, token, EventFlags::IN)?;
        }
        Ok(())
    }

    /// The container has other addresses from now on.
    pub fn set_way(&mut self, way: Way) {
        self.link.addresses = way.addresses;
        self.link.mac = way.mac;
        self.link.mtu = way.mtu;
        self.link.router.addresses = way.addresses;
        self.link.router.closed = way.is_internal;
    }

    /// Waits for what the supervisor says too.
    pub fn watch_orders(&self, socket: impl AsFd) -> anyhow::Result<()> {
        let watched = self.link.watch(socket, Token::ORDERS, EventFlags::IN);
        watched.context("cannot wait for orders")
    }

    /// Clients of the host's loopback need no frames from now on, where sockets are had for them.
    pub fn allow_bypass(&mut self) {
        self.bypass.allow();
    }

    /// Whether sockets in the container's namespace are wanted that were not asked for yet; for IPv4, or for IPv6.
    pub fn wants_sockets(&mut self) -> Option<bool> {
        self.bypass.wants()
    }

    /// Takes such sockets, or none where there are none to be had.
    pub fn take_sockets(&mut self, is_v4: bool, sockets: Vec<OwnedFd>) {
        self.link.look_at_clock();
        for client in self.bypass.take(&self.link, is_v4, sockets) {
            self.tcp.offer(&mut self.link, client);
        }
    }

    /// Whether the host has another resolv.conf, which this process may not open.
    pub fn wants_resolvers(&mut self) -> bool {
        let access = &mut self.link.router.access;
        let is_wanted = *access == Access::Wanted;
        if is_wanted {
            *access = Access::Awaited;
        }
        is_wanted
    }

    /// Takes that, if it can be had; questions go to its resolvers from now on.
    pub fn take_resolvers(&mut self, file: Option<File>) {
        self.link.look_at_clock();
        self.link.router.take_file(file);
        self.dns.ask_anew(&mut self.link);
    }

    /// Nothing has happened for a while: what is kept for the next clients is given back.
    pub fn rest(&mut self) {
        self.bypass.rest();
        self.udp.rest();
        self.link.rest();
        self.frame.clear();
    }

    /// Whether there is something to do already, without an event.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Serves what has happened.
    #[cfg(test)]
    pub fn serve(&mut self) {
        for _ in 0..ROUNDS {
            if !self.wait(Some(Duration::ZERO)).anything {
                break;
            }
        }
    }

    /// Waits for something to happen, for ever without a limit, and serves that.
    pub fn wait(&mut self, limit: Option<Duration>) -> Seen {
        let mut limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut seen = Seen::default();
        let mut ends = None;
        for _ in 0..ROUNDS {
            let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
            let told = epoll::wait(self.link.epoll(), &mut events[..], limit.as_ref());
            let events = told.map_or(&[][..], |(events, _)| &*events);
            self.link.look_at_clock();
            let ends = *ends.get_or_insert(self.link.now + TURN);
            self.go_on();
            self.serve_events(events);
            let is = |token: Token| events.iter().any(|event| event.data.u64() == token.0);
            seen.anything |= !events.is_empty();
            seen.orders |= is(Token::ORDERS);
            // What has happened meanwhile is told at the next turn.
            if events.len() < EVENTS || self.link.now > ends {
                break;
            }
            limit = Some(NONE);
        }
        self.end_turn(ends.unwrap_or(self.link.now));
        seen
    }

    fn serve_events(&mut self, events: &[epoll::Event]) {
        for event in events {
            let token = Token(event.data.u64());
            self.link.look_at_clock();
            self.on_event(token, event.flags);
        }
        if events
            .iter()
            .any(|event| event.data.u64() == Token::TIMER.0)
        {
            self.ring();
        }
        self.tcp.acknowledge(&mut self.link);
    }

    /// Those that have more to send go on, and what is to be waited for is arranged.
    fn end_turn(&mut self, ends: Instant) {
        let is_busy = self.tcp.end_turn(&mut self.link, ends);
        self.has_more = is_busy && !self.link.meter.inward.is_empty();
        self.has_more |= self.bypass.end_turn(&mut self.link, ends);
        self.hold();
        self.forget_timers();
        self.link.arm();
    }

    /// What was held up goes on as far as it may.
    fn go_on(&mut self) {
        self.link.meter.fill(self.link.now);
        if self.wake.take().is_none() {
            return;
        }
        self.link.listen(!self.link.meter.outward.is_empty());
        if !self.link.meter.inward.is_empty() {
            for token in std::mem::take(&mut self.paused) {
                self.watch_datagrams(token, EventFlags::IN);
            }
        }
    }

    /// What goes too fast waits.
    fn hold(&mut self) {
        self.wake = self.link.meter.ends();
        if let Some(wake) = self.wake {
            self.link.listen(!self.link.meter.outward.is_empty());
            self.alarm.set(&mut self.link.timers, wake, Token::TAP);
        }
    }

    fn watch_datagrams(&mut self, token: Token, events: EventFlags) {
        let (kind, id) = token.parts();
        let socket = match kind {
            Kind::Udp => self.udp.socket(id),
            _ => self.listeners.get_mut(id).map(|one| &*one.socket),
        };
        if let Some(socket) = socket {
            self.link.change_watch(socket, token, events).ok();
        }
    }

    /// Timers of flows that are gone would be there until they ring.
    fn forget_timers(&mut self) {
        const MANY: usize = 4096;
        let flows = self.tcp.len() + self.udp.len();
        if self.link.timers.len() < MANY + 4 * flows {
            return;
        }
        self.link.timers.keep(|token| {
            let (kind, id) = token.parts();
            match kind {
                Kind::Tcp => self.tcp.contains(id),
                Kind::Udp => self.udp.contains(id),
                Kind::Dns => self.dns.contains(id),
                Kind::DnsClient => self.dns.contains_client(id),
                _ => true,
            }
        });
    }

    /// Whether what the container has sent is with the host's kernel.
    pub fn is_drained(&self) -> bool {
        self.tcp.is_drained() && self.bypass.is_drained()
    }

    /// Lets go of the published ports, whose clients wait where somebody else has them; connections go on.
    pub fn stop_listening(&mut self) {
        // Another descriptor of a socket may stay with its flows.
        for (_, listener) in self.listeners.iter() {
            self.link.unwatch(&*listener.socket).ok();
        }
        self.listeners = Slab::new();
        for client in self.bypass.close() {
            self.tcp.offer(&mut self.link, client);
        }
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) {
        let (kind, id) = token.parts();
        // An error is read even so: it would be told of again and again.
        if matches!(kind, Kind::Udp | Kind::UdpListener)
            && self.link.meter.inward.is_empty()
            && !flags.contains(EventFlags::ERR)
        {
            self.watch_datagrams(token, EventFlags::empty());
            self.paused.push(token);
            return;
        }
        let link = &mut self.link;
        match kind {
            Kind::Tap => self.receive(),
            // Timers are looked at after all others, by `ring`; routers have none but those.
            Kind::Timer | Kind::Router | Kind::Orders => {}
            Kind::TcpListener => self.accept(id),
            Kind::UdpListener => {
                if let Some(listener) = self.listeners.get_mut(id) {
                    let port = listener.publish.port;
                    self.udp.on_published(link, &listener.socket, port, visible);
                }
            }
            Kind::Tcp => self.tcp.on_event(link, id, flags),
            Kind::Outer | Kind::Inner => {
                if let Some(client) = self.bypass.on_event(link, id, kind, flags) {
                    self.tcp.offer(link, client);
                }
            }
            Kind::Udp => self.udp.on_event(link, id),
            Kind::Ping => self.icmp.on_event(link, id),
            Kind::Dns => self.dns.on_event(link, id),
            Kind::DnsClient => self.dns.on_client(link, id, flags),
        }
    }

    fn ring(&mut self) {
        self.link.take_timer();
        // What has come in time is not waited for any more, though this process was late.
        self.receive();
        self.link.look_at_clock();
        while let Some(token) = self.link.timers.pop(self.link.now) {
            let (kind, id) = token.parts();
            match kind {
                Kind::Tcp => self.tcp.on_timer(&mut self.link, id),
                Kind::Udp => self.udp.on_timer(&mut self.link, id),
                Kind::Ping => self.icmp.on_timer(&mut self.link, id),
                Kind::Dns => self.dns.on_timer(&mut self.link, id),
                Kind::DnsClient => self.dns.on_client_timer(&mut self.link, id),
                Kind::TcpListener => self.wake(id),
                Kind::Router => router::on_timer(&mut self.link),
                Kind::Tap => drop(self.alarm.rings(self.link.now)),
                _ => {}
            }
        }
    }

    /// Frames of the container's.
    fn receive(&mut self) {
        let mut frame = std::mem::take(&mut self.frame);
        for _ in 0..FRAMES {
            if self.link.meter.outward.is_empty() {
                break;
            }
            match self.link.receive(&mut frame) {
                Some(length) => self.on_frame(&frame[..length]),
                None => break,
            }
        }
        self.udp.flush(&mut self.link);
        self.frame = frame;
    }

    fn on_frame(&mut self, frame: &[u8]) {
        let packet = match packet::ethernet(frame) {
            Some((packet::ETHERTYPE_ARP, bytes)) => return icmp::arp(&self.link, bytes),
            Some((packet::ETHERTYPE_IPV4, bytes)) => packet::ipv4(bytes),
            Some((packet::ETHERTYPE_IPV6, bytes)) => packet::ipv6(bytes),
            _ => return,
        };
        let Some(mut packet) = packet else {
            return;
        };
        let Some(fragment) = packet.fragment else {
            packet.many = packet::size_of_datagrams(frame);
            return self.on_packet(&packet);
        };
        if !self.link.is_container(packet.source) {
            return;
        }
        if let Some(payload) = self.fragments.add(self.link.now, &packet, fragment) {
            let whole = Packet {
                payload: &payload,
                fragment: None,
                ..packet
            };
            // RFC 8200: what comes before the payload was cut too.
            if let Some(whole @ Packet { fragment: None, .. }) = packet::after_options(whole) {
                self.on_packet(&whole);
            }
        }
    }

    fn on_packet(&mut self, packet: &Packet<'_>) {
        let link = &mut self.link;
        if let packet::ICMP | packet::ICMPV6 = packet.protocol {
            return self.icmp.receive(link, packet);
        }
        if packet.protocol == packet::UDP && dhcp::is_for_server(packet.payload) {
            if let Some((_, _, message)) = packet::parse_udp(packet.payload) {
                dhcp::answer(link, message);
            }
            return;
        }
        // Other sources are no addresses of the container, and answers to them would not arrive.
        if !link.is_container(packet.source) {
            return;
        }
        match packet.protocol {
            packet::TCP => {
                self.tcp.receive(link, packet);
                for socket in self.tcp.asking.drain(..) {
                    self.dns.accept(link, socket);
                }
            }
            packet::UDP => self.on_datagrams(packet),
            _ => {}
        }
    }

    fn on_datagrams(&mut self, packet: &Packet<'_>) {
        let Some((source, target, payload)) = packet::parse_udp(packet.payload) else {
            return;
        };
        let Some(size) = packet.many else {
            return self.on_datagram(packet, (source, target), payload);
        };
        for one in payload.chunks(size).take(packet::MOST_DATAGRAMS) {
            self.on_datagram(packet, (source, target), one);
        }
    }

    fn on_datagram(&mut self, packet: &Packet<'_>, (source, target): (u16, u16), payload: &[u8]) {
        let link = &mut self.link;
        if target == DNS && link.router.is_resolver(packet.target) {
            if !link.router.may_ask(Transport::Udp, packet.target) {
                let head = packet::udp_head(source, target, 0);
                let path = packet.path();
                return link.unreachable(path, packet::UDP, head, Unreachable::Forbidden);
            }
            let asker = SocketAddr::new(packet.source, source);
            self.dns.ask(link, asker, packet.target, payload);
        } else if !packet.target.is_multicast() {
            self.udp.send(link, packet, (source, target), payload);
        }
    }

    /// Clients of a published port.
    fn accept(&mut self, id: Id) {
        let Some(listener) = self.listeners.get_mut(id) else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..CLIENTS {
            match rustix::net::acceptfrom_with(&*listener.socket, flags) {
                Ok((socket, Some(peer))) => {
                    let Ok(peer) = SocketAddr::try_from(peer) else {
                        continue;
                    };
                    let mut client = Some(Client {
                        remote: visible(&self.link, peer),
                        port: listener.publish.port,
                        socket,
                    });
                    if peer.ip().to_canonical().is_loopback() {
                        client = client.and_then(|client| self.bypass.offer(&self.link, client));
                    }
                    if let Some(client) = client {
                        self.tcp.offer(&mut self.link, client);
                    }
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    let token = listener_token(id, listener);
                    let none = EventFlags::empty();
                    self.link.change_watch(&*listener.socket, token, none).ok();
                    self.link.timers.push(self.link.now + REST, token);
                    return;
                }
                Err(Errno::AGAIN) => return,
                // A client that has gone already.
                Ok((_, None)) | Err(_) => {}
            }
        }
    }

    fn wake(&mut self, id: Id) {
        if let Some(listener) = self.listeners.get_mut(id) {
            let token = listener_token(id, listener);
            self.link
                .change_watch(&*listener.socket, token, EventFlags::IN)
                .ok();
        }
    }
}

#[cfg(test)]
impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.epoll().as_fd()
    }
}

/// How many descriptors flows may have, of those that this process may have at all.
fn room() -> usize {
    /// For the container's streams, clients, listeners and questions.
    const RESERVE: u64 = 128;
    let hard = limits::hard("RLIMIT_NOFILE").unwrap_or(u64::MAX);
    usize::try_from(hard.saturating_sub(RESERVE)).unwrap_or(usize::MAX / 4)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).ok();
    bytes
}

fn listener_token(id: Id, listener: &Listener) -> Token {
    id.token(match listener.publish.protocol {
        Protocol::Tcp => Kind::TcpListener,
        Protocol::Udp => Kind::UdpListener,
    })
}

/// Who a client is for the container: itself, but for those whose address the container would take for its own, or could
/// not answer.
fn visible(link: &Link, client: SocketAddr) -> SocketAddr {
    // A socket that was given may be one for both families.
    let ip = client.ip().to_canonical();
    let (container, gateway) = link.addresses.of_family(ip);
    let is_local = ip.is_loopback() || ip.is_unspecified();
    let ip = if !link.addresses.has_family(ip) {
        link.addresses.gateway()
    } else if is_local || ip == container {
        gateway
    } else {
        ip
    };
    SocketAddr::new(ip, client.port())
}
