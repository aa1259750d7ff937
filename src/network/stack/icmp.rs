//! What holds the container's Ethernet together: ARP, neighbour discovery, and ICMP echo.
//!
//! Every address but the container's own is behind the one station there is. Echo requests go out by ping sockets
//! where the host lets its users have them (`net.ipv4.ping_group_range`); where it does not, the container is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::ipproto;

use crate::network::stack::link::Link;
use crate::network::stack::link::Unreachable;
use crate::network::stack::packet;
use crate::network::stack::packet::ETHERTYPE_ARP;
use crate::network::stack::packet::GATEWAY_MAC;
use crate::network::stack::packet::ICMP;
use crate::network::stack::packet::ICMPV6;
use crate::network::stack::packet::Packet;
use crate::network::stack::packet::Path;
use crate::network::stack::router;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;
use crate::text::egress::Transport;

/// The one that was silent for longest goes when there are more.
const MOST: usize = 256;
const SILENCE: Duration = Duration::from_secs(30);

/// RFC 826: 28 bytes for Ethernet and IPv4.
pub fn arp(link: &Link, bytes: &[u8]) {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let (Some(head), Some(who), Some(asked)) =
        (bytes.get(..8), bytes.get(8..18), bytes.get(24..28))
    else {
        return;
    };
    // One that asks for its own address looks whether it is taken.
    let own = link.addresses.container4.octets();
    if head != REQUEST || asked == own {
        return;
    }
    let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
    reply.extend(GATEWAY_MAC);
    reply.extend(asked);
    reply.extend(who);
    link.send(&mut packet::plain(ETHERTYPE_ARP, &reply));
}

struct Echo {
    socket: OwnedFd,
    key: Key,
    last: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// Of the container.
    ip: IpAddr,
    remote: IpAddr,
    /// Of the program that asks.
    number: u16,
}

pub struct Icmp {
    echoes: Slab<Echo>,
    by_key: HashMap<Key, Id>,
    most: usize,
}

impl Icmp {
    /// `room` is how many descriptors it may have.
    pub fn new(room: usize) -> Icmp {
        Icmp {
            echoes: Slab::new(),
            by_key: HashMap::new(),
            most: MOST.min(room),
        }
    }

    /// A message of the container's in either version.
    pub fn receive(&mut self, link: &mut Link, packet: &Packet<'_>) {
        const ECHO: u8 = 8;
        const ECHO6: u8 = 128;
        const SOLICITATION: u8 = 135;
        match (packet.protocol, packet.payload) {
            (ICMP, [ECHO, 0, _, _, _, _, _, _, ..])
            | (ICMPV6, [ECHO6, 0, _, _, _, _, _, _, ..])
                if link.is_container(packet.source) =>
            {
                self.echo(link, packet);
            }
            (ICMPV6, [SOLICITATION, 0, ..]) => solicited(link, packet),
            (ICMPV6, [router::SOLICITATION, 0, ..]) => router::solicited(link, packet.source),
            _ => {}
        }
    }

    fn echo(&mut self, link: &mut Link, packet: &Packet<'_>) {
        let (message, remote) = (packet.payload, packet.target);
        if link.router.is_ours(remote) {
            let path = packet.path().back();
            return link.send(&mut packet::icmp(path, &reply_to(message, remote)));
        }
        let number = u16::from_be_bytes([message[4], message[5]]);
        let key = Key {
            ip: packet.source,
            remote,
            number,
        };
        let result = self.find(link, key).and_then(|id| {
            let echo = self.echoes.get_mut(id).ok_or(Errno::IO)?;
            echo.last = link.now;
            rustix::net::send(&echo.socket, message, SendFlags::DONTWAIT)
        });
        if let Err(errno) = result {
            let mut head = [0; 8];
            head.copy_from_slice(&message[..8]);
            link.unreachable(packet.path(), packet.protocol, head, Unreachable::of(errno));
        }
    }

    fn find(&mut self, link: &mut Link, key: Key) -> Result<Id, Errno> {
        if let Some(id) = self.by_key.get(&key) {
            return Ok(*id);
        }
        let target = SocketAddr::new(key.remote, 0);
        if link.router.route(Transport::Icmp, target).is_err() {
            return Err(Errno::ACCESS);
        }
        if self.echoes.len() >= self.most {
            let oldest = self.echoes.iter().min_by_key(|(_, echo)| echo.last);
            if let Some(id) = oldest.map(|(id, _)| id) {
                self.remove(id);
            }
        }
        let (family, protocol) = if key.remote.is_ipv4() {
            (AddressFamily::INET, ipproto::ICMP)
        } else {
            (AddressFamily::INET6, ipproto::ICMPV6)
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
        rustix::net::connect(&socket, &target)?;
        let last = link.now;
        let id = self.echoes.insert(Echo { socket, key, last });
        self.by_key.insert(key, id);
        let echo = self.echoes.get_mut(id).ok_or(Errno::IO)?;
        if let Err(errno) = link.watch(&echo.socket, id.token(Kind::Ping), EventFlags::IN) {
            self.remove(id);
            return Err(errno);
        }
        link.timers.push(last + SILENCE, id.token(Kind::Ping));
        Ok(id)
    }

    fn remove(&mut self, id: Id) {
        if let Some(echo) = self.echoes.remove(id) {
            self.by_key.remove(&echo.key);
        }
    }

    /// Ends what the container may not ask any more.
    pub fn end_forbidden(&mut self, link: &mut Link) {
        let all = self.echoes.iter().map(|(id, echo)| (id, echo.key.remote));
        for (id, remote) in all.collect::<Vec<_>>() {
            let target = SocketAddr::new(remote, 0);
            if link.router.route(Transport::Icmp, target).is_err() {
                self.remove(id);
            }
        }
    }

    pub fn on_event(&mut self, link: &mut Link, id: Id) {
        const TURN: usize = 16;
        let Some(echo) = self.echoes.get_mut(id) else {
            return;
        };
        for _ in 0..TURN {
            let mut message = vec![0; usize::from(packet::MTU) - 40];
            match rustix::net::recv(&echo.socket, &mut message[..], RecvFlags::DONTWAIT) {
                Ok((length @ 8.., _)) => {
                    message.truncate(length);
                    // Linux: a ping socket puts its own number here.
                    message[4..6].copy_from_slice(&echo.key.number.to_be_bytes());
                    let path = Path {
                        source: echo.key.remote,
                        target: echo.key.ip,
                    };
                    link.send(&mut packet::icmp(path, &message));
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    pub fn on_timer(&mut self, link: &mut Link, id: Id) {
        let Some(echo) = self.echoes.get_mut(id) else {
            return;
        };
        let ends = echo.last + SILENCE;
        if ends > link.now {
            link.timers.push(ends, id.token(Kind::Ping));
        } else {
            self.remove(id);
        }
    }
}

/// The same message, as an answer.
fn reply_to(message: &[u8], remote: IpAddr) -> Vec<u8> {
    let mut reply = message.to_vec();
    reply[0] = if remote.is_ipv4() { 0 } else { 129 };
    reply
}

/// A neighbour solicitation (RFC 4861, section 4.3) is answered for every address but the container's own: those
/// without a source are a container's look whether its address is taken.
fn solicited(link: &Link, packet: &Packet<'_>) {
    let (Some(asked), IpAddr::V6(source)) = (packet.payload.get(8..24), packet.source) else {
        return;
    };
    let octets: [u8; 16] = asked.try_into().expect("16 bytes were taken");
    let asked = Ipv6Addr::from(octets);
    if source.is_unspecified() || asked == link.addresses.container6 || asked == source {
        return;
    }
    // Advertisement: a router, asked for, to be believed; then the target, and its address on the link.
    let mut message = vec![136, 0, 0, 0, 0xe0, 0, 0, 0];
    message.extend(octets);
    message.extend([2, 1]);
    message.extend(GATEWAY_MAC);
    let path = Path {
        source: asked.into(),
        target: source.into(),
    };
    link.send(&mut packet::icmp(path, &message));
}
