//! The network of one container in user mode: frames on its side, ordinary sockets on the host's. Runs in the
//! container's supervisor, as one descriptor of its poll loop; knows nothing of containers.
//!
//! # Theory of operation
//!
//! ```text
//!  container                      supervisor                                   host
//!  eth0, MTU 65520 <--- TAP ----> link: frames, headers written and read
//!                                   dhcp: its own address
//!                                   icmp: ARP, neighbours, echo --------------> ping sockets
//!                                   tcp:  a flow each  <----------------------> a TCP socket each
//!                                   udp:  a flow each  <----------------------> a UDP socket each
//!                                   dns:  a question each --------------------> resolvers of resolv.conf
//!                                   listen: published ports <------------------ clients
//! ```
//!
//! * Every address but the container's own is behind the gateway's MAC. So the container may be spoken to in the
//!   name of any address: who connects to a published port is seen as who it is. Only clients that the container
//!   would take for itself (loopback) get the gateway's address (CVE-2021-20199).
//! * The gateway's address is the host, as others see it: not its loopback, unless that is asked for (`route`).
//! * The host's routes, addresses and resolvers are never read to decide anything: each socket is routed by the
//!   kernel when it is made. So a host without a network is no obstacle, and changes are followed.
//! * Nothing of the host is changed, and nothing listens but the sockets of published ports.
//! * A turn is bounded, frames and sockets alike, so that the streams of the container are served beside it.
//! * What comes from the TAP device is hostile: `packet` checks every length, no state of a flow depends on more
//!   than its own frames, tables and buffers are bounded.

mod dhcp;
mod dns;
mod icmp;
mod link;
mod listen;
mod packet;
mod route;
mod slab;
mod tcp;
mod udp;

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::Timespec;

use crate::config::addresses::Addresses;
use crate::network::dns::Dns;
use crate::network::icmp::Icmp;
use crate::network::link::Link;
use crate::network::listen::Listener;
use crate::network::packet::Packet;
use crate::network::route::DNS;
use crate::network::route::Router;
use crate::network::slab::Id;
use crate::network::slab::Kind;
use crate::network::slab::Slab;
use crate::network::slab::Token;
use crate::network::tcp::Tcp;
use crate::network::udp::Udp;
use crate::sys::poll;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;

pub use packet::CONTAINER_MAC;
pub use packet::GATEWAY_MAC;
pub use packet::MTU;

/// Events, frames and clients that are served in one turn.
const EVENTS: usize = 64;
const FRAMES: usize = 64;
const CLIENTS: usize = 64;

/// How often it is asked what has happened in one turn.
const ROUNDS: usize = 4;

/// How long a listener rests when there are no descriptors for its clients.
const REST: Duration = Duration::from_millis(100);

pub struct Settings<'a> {
    pub addresses: Addresses,
    /// The gateway's address leads to the host's loopback.
    pub host_loopback: bool,
    pub publish: &'a [Publish],
}

/// The sockets of published ports.
pub struct Listeners(Vec<Listener>);

pub struct Network {
    link: Link,
    listeners: Slab<Listener>,
    tcp: Tcp,
    udp: Udp,
    icmp: Icmp,
    dns: Dns,
    /// The frame that is being read.
    frame: Vec<u8>,
    has_more: bool,
}

impl Network {
    /// Listens on the published ports, or takes over who did; nothing is served before `attach`.
    pub fn new(settings: &Settings<'_>, kept: Option<Listeners>) -> anyhow::Result<Network> {
        let listening = match kept {
            Some(kept) => kept.0,
            None => listen::all(settings.publish)?,
        };
        let router = Router::new(settings.addresses, settings.host_loopback);
        let link = Link::new(settings.addresses, router)?;
        let mut listeners = Slab::new();
        for listener in listening {
            listeners.insert(listener);
        }
        Ok(Network {
            link,
            listeners,
            tcp: Tcp::new(),
            udp: Udp::new(),
            icmp: Icmp::new(),
            dns: Dns::new(),
            frame: vec![0; packet::FRAME + packet::HEADROOM],
            has_more: false,
        })
    }

    /// What is published, with the ports that were found.
    pub fn published(&self) -> Vec<Publish> {
        let listeners = self.listeners.iter();
        listeners.map(|(_, listener)| listener.publish).collect()
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

    /// Whether there is something to do already, without an event.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// One turn: what has happened is served, and then others are.
    pub fn serve(&mut self) {
        self.link.now = Instant::now();
        for _ in 0..ROUNDS {
            if !self.serve_events() {
                break;
            }
        }
        self.has_more = self.tcp.end_turn(&mut self.link);
        self.forget_timers();
        self.link.arm();
    }

    /// Serves what epoll tells of; whether there was something.
    fn serve_events(&mut self) -> bool {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if let Ok((events, _)) = epoll::wait(self.link.epoll(), &mut events[..], Some(&none)) {
            for event in &*events {
                let token = Token(event.data.u64());
                self.on_event(token, event.flags);
            }
            self.tcp.acknowledge(&mut self.link);
            return !events.is_empty();
        }
        false
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
                _ => true,
            }
        });
    }

    /// Hands over the published ports: clients wait until they are served again. Connections go on.
    pub fn take_listeners(&mut self) -> Listeners {
        let all = std::mem::replace(&mut self.listeners, Slab::new());
        let all: Vec<Listener> = all.into_values().collect();
        // Another descriptor of a socket may stay with its flows.
        for listener in &all {
            self.link.unwatch(&*listener.socket).ok();
        }
        Listeners(all)
    }

    /// Whether what the container has sent is with the host's kernel.
    pub fn is_drained(&self) -> bool {
        self.tcp.is_drained()
    }

    /// Lets go of the published ports; connections go on.
    pub fn stop_listening(&mut self) {
        self.listeners = Slab::new();
    }

    /// Serves until what the container has sent is with the host's kernel, for connections outlive the
    /// programs that made them.
    pub fn drain(mut self, limit: Duration) -> anyhow::Result<()> {
        let ends = Instant::now() + limit;
        self.serve();
        while !self.tcp.is_drained() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let wait = if self.has_more { Duration::ZERO } else { left };
            poll::readable([Some(self.as_fd())], Some(wait))?;
            self.serve();
        }
        Ok(())
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) {
        let link = &mut self.link;
        let (kind, id) = token.parts();
        match kind {
            Kind::Tap => self.receive(),
            Kind::Timer => self.ring(),
            Kind::TcpListener => self.accept(id),
            Kind::UdpListener => {
                if let Some(listener) = self.listeners.get_mut(id) {
                    let port = listener.publish.port;
                    self.udp.on_published(link, &listener.socket, port, visible);
                }
            }
            Kind::Tcp => self.tcp.on_event(link, id, flags),
            Kind::Udp => self.udp.on_event(link, id),
            Kind::Ping => self.icmp.on_event(link, id),
            Kind::Dns => self.dns.on_event(link, id),
        }
    }

    fn ring(&mut self) {
        self.link.take_timer();
        while let Some(token) = self.link.timers.pop(self.link.now) {
            let (kind, id) = token.parts();
            match kind {
                Kind::Tcp => self.tcp.on_timer(&mut self.link, id),
                Kind::Udp => self.udp.on_timer(&mut self.link, id),
                Kind::Ping => self.icmp.on_timer(&mut self.link, id),
                Kind::Dns => self.dns.on_timer(&mut self.link, id),
                Kind::TcpListener => self.wake(id),
                Kind::Tap | Kind::Timer | Kind::UdpListener => {}
            }
        }
    }

    /// Frames of the container's.
    fn receive(&mut self) {
        let mut frame = std::mem::take(&mut self.frame);
        for _ in 0..FRAMES {
            match self.link.receive(&mut frame) {
                Some(length) => self.on_frame(&frame[..length]),
                None => break,
            }
        }
        self.frame = frame;
    }

    fn on_frame(&mut self, frame: &[u8]) {
        let packet = match packet::ethernet(frame) {
            Some((packet::ETHERTYPE_ARP, bytes)) => return icmp::arp(&self.link, bytes),
            Some((packet::ETHERTYPE_IPV4, bytes)) => packet::ipv4(bytes),
            Some((packet::ETHERTYPE_IPV6, bytes)) => packet::ipv6(bytes),
            _ => return,
        };
        let Some(packet) = packet else {
            return;
        };
        let link = &mut self.link;
        if let packet::ICMP | packet::ICMPV6 = packet.protocol {
            return self.icmp.receive(link, &packet);
        }
        if packet.protocol == packet::UDP && dhcp::is_for_server(packet.payload) {
            if let Some((_, _, message)) = packet::parse_udp(packet.payload) {
                dhcp::answer(link, message);
            }
            return;
        }
        // Other sources are no addresses of the container, and answers to them would not arrive.
        if packet.source != link.outward(packet.target).source {
            return;
        }
        match packet.protocol {
            packet::TCP => self.tcp.receive(link, &packet),
            packet::UDP => self.on_datagram(&packet),
            _ => {}
        }
    }

    fn on_datagram(&mut self, packet: &Packet<'_>) {
        let Some((source, target, payload)) = packet::parse_udp(packet.payload) else {
            return;
        };
        let link = &mut self.link;
        if target == DNS && link.router.is_resolver(packet.target) {
            self.dns.ask(link, source, packet.target, payload);
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
                    let remote = visible(&self.link, peer);
                    let port = listener.publish.port;
                    self.tcp.offer(&mut self.link, socket, remote, port);
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

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.epoll().as_fd()
    }
}

fn listener_token(id: Id, listener: &Listener) -> Token {
    id.token(match listener.publish.protocol {
        Protocol::Tcp => Kind::TcpListener,
        Protocol::Udp => Kind::UdpListener,
    })
}

/// Who a client is for the container: itself, but for those whose address the container would take for its own.
fn visible(link: &Link, client: SocketAddr) -> SocketAddr {
    let ip = client.ip();
    let (container, gateway) = link.addresses.of_family(ip);
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    };
    let ip = if is_local || ip == container {
        gateway
    } else {
        ip
    };
    SocketAddr::new(ip, client.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;

    use proptest::prelude::*;

    use super::*;
    use crate::network::packet::ACK;
    use crate::network::packet::SYN;
    use crate::network::packet::Segment;

    /// A network whose device is a socket of the test's.
    fn served() -> (Network, UnixDatagram) {
        let (container, tap) = UnixDatagram::pair().unwrap();
        container.set_nonblocking(true).unwrap();
        tap.set_nonblocking(true).unwrap();
        let settings = Settings {
            addresses: Addresses::choose(),
            host_loopback: true,
            publish: &[],
        };
        let mut network = Network::new(&settings, None).unwrap();
        network.attach(tap.into()).unwrap();
        (network, container)
    }

    /// A segment of the container's to a port of the host.
    fn segment(network: &Network, port: u16, fields: (u8, u32, u32), data: &[u8]) -> Vec<u8> {
        let path = network.link.outward(network.link.addresses.gateway4.into());
        let (flags, sequence, acknowledged) = fields;
        let segment = Segment {
            source: 40000,
            target: port,
            sequence,
            acknowledged,
            flags,
            window: 100,
            mss: Some(1460),
            scale: Some(7),
        };
        let mut frame = vec![0; packet::FRAME];
        let start = packet::tcp_payload_at(path);
        frame[start..start + data.len()].copy_from_slice(data);
        let end = packet::tcp(&mut frame, path, &segment, data.len());
        frame.truncate(end);
        frame
    }

    /// The next segment for the container.
    fn answer(network: &mut Network, container: &UnixDatagram) -> (Segment, Vec<u8>) {
        let mut buffer = vec![0; packet::FRAME];
        for _ in 0..1000 {
            network.serve();
            if let Ok(length) = container.recv(&mut buffer) {
                let (_, bytes) = packet::ethernet(&buffer[..length]).unwrap();
                let packet = packet::ipv4(bytes).unwrap();
                let (segment, data) = packet::parse_tcp(packet.payload).unwrap();
                return (segment, data.to_vec());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no answer");
    }

    /// What was not acknowledged is sent again, from the socket of the host that still has it.
    #[test]
    fn what_the_container_did_not_get_is_sent_again() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut network, container) = served();
        let syn = segment(&network, port, (SYN, 1000, 0), b"");
        container.send(&syn).unwrap();
        let (reply, _) = answer(&mut network, &container);
        assert_eq!((reply.flags, reply.acknowledged), (SYN | ACK, 1001));
        let first = reply.sequence.wrapping_add(1);
        let ack = segment(&network, port, (ACK, 1001, first), b"");
        container.send(&ack).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"hello").unwrap();
        let (sent, data) = answer(&mut network, &container);
        assert_eq!((sent.sequence, data.as_slice()), (first, &b"hello"[..]));
        let (again, data) = answer(&mut network, &container);
        assert_eq!((again.sequence, data.as_slice()), (first, &b"hello"[..]));
        // Half of it arrives, then all.
        let half = segment(&network, port, (ACK, 1001, first.wrapping_add(2)), b"");
        container.send(&half).unwrap();
        let (rest, data) = answer(&mut network, &container);
        assert_eq!(
            (rest.sequence, data.as_slice()),
            (first.wrapping_add(2), &b"llo"[..])
        );
        drop(peer);
        let all = segment(&network, port, (ACK, 1001, first.wrapping_add(5)), b"");
        container.send(&all).unwrap();
        let (end, data) = answer(&mut network, &container);
        assert!(end.has(packet::FIN) && data.is_empty());
        assert_eq!(end.sequence, first.wrapping_add(5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Segments that no kernel would send, to a connection that is open.
        #[test]
        fn no_frames_make_it_panic(
            segments in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), 0..40_usize, any::<u8>()), 1..40),
        ) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (mut network, container) = served();
            container.send(&segment(&network, port, (SYN, 1000, 0), b"")).unwrap();
            let (reply, _) = answer(&mut network, &container);
            let first = reply.sequence.wrapping_add(1);
            container.send(&segment(&network, port, (ACK, 1001, first), b"")).unwrap();
            network.serve();
            let mut buffer = vec![0; packet::FRAME];
            for (flags, sequence, acknowledged, length, change) in segments {
                let near = |base: u32, by: u8| base.wrapping_add(u32::from(by)).wrapping_sub(128);
                let fields = (flags & 31, near(1001, sequence), near(first, acknowledged));
                let mut frame = segment(&network, port, fields, &vec![b'x'; length]);
                if change < 64 {
                    let at = usize::from(change) * frame.len() / 64;
                    frame[at] = frame[at].wrapping_add(flags);
                }
                container.send(&frame).unwrap();
                network.serve();
                while container.recv(&mut buffer).is_ok() {}
            }
        }
    }
}
