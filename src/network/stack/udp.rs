//! UDP: a socket of the host for each pair of ends that the container's datagrams have, and one for each
//! published port, whose clients are told apart by the addresses that the container sees.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::network::stack::link::Link;
use crate::network::stack::link::Unreachable;
use crate::network::stack::packet;
use crate::network::stack::packet::Packet;
use crate::network::stack::packet::Path;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;
use crate::sys::inet;
use crate::text::egress::Transport;

/// The flow that was silent for longest goes when there are more.
const MOST: usize = 4096;
/// As conntrack does (`nf_conntrack_udp_timeout`, `…_stream`).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_mins(3);
/// Datagrams of one socket in a turn.
const TURN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Of the container, which may have other addresses than it was given.
    ip: IpAddr,
    port: u16,
    remote: SocketAddr,
}

impl Key {
    /// To the container.
    fn inward(self) -> Path {
        Path {
            source: self.remote.ip(),
            target: self.ip,
        }
    }
}

enum Outside {
    /// A socket that is connected to the remote end.
    Own(OwnedFd),
    /// The socket of a published port: who the client really is, and which address it spoke to.
    Published {
        socket: Rc<OwnedFd>,
        client: SocketAddr,
        local: Option<IpAddr>,
    },
}

struct Flow {
    key: Key,
    outside: Outside,
    last: Instant,
    answered: bool,
}

impl Flow {
    fn ends(&self) -> Instant {
        self.last + if self.answered { ANSWERED } else { UNANSWERED }
    }
}

pub struct Udp {
    flows: Slab<Flow>,
    by_key: HashMap<Key, Id>,
    most: usize,
}

impl Udp {
    /// `room` is how many descriptors it may have.
    pub fn new(room: usize) -> Udp {
        Udp {
            flows: Slab::new(),
            by_key: HashMap::new(),
            most: MOST.min(room),
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn contains(&self, id: Id) -> bool {
        self.flows.contains(id)
    }

    /// That of a flow which has its own.
    pub fn socket(&mut self, id: Id) -> Option<&OwnedFd> {
        match &self.flows.get_mut(id)?.outside {
            Outside::Own(socket) => Some(socket),
            Outside::Published { .. } => None,
        }
    }

    /// A datagram of the container's.
    pub fn send(
        &mut self,
        link: &mut Link,
        packet: &Packet<'_>,
        ports: (u16, u16),
        payload: &[u8],
    ) {
        let key = Key {
            ip: packet.source,
            port: ports.0,
            remote: SocketAddr::new(packet.target, ports.1),
        };
        let id = match self.by_key.get(&key).copied() {
            Some(id) => Ok(id),
            None => self.open(link, key),
        };
        let why = match id {
            Ok(id) => match self.pass_on(link, id, payload) {
                Ok(()) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => return,
                Err(errno) => Unreachable::of(errno),
            },
            Err(why) => why,
        };
        tell(link, key, why);
    }

    fn pass_on(&mut self, link: &Link, id: Id, payload: &[u8]) -> Result<(), Errno> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Ok(());
        };
        flow.last = link.now;
        match &flow.outside {
            Outside::Own(socket) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(socket, payload, flags).map(drop)
            }
            Outside::Published {
                socket,
                client,
                local,
            } => {
                flow.answered = true;
                inet::send_datagram(socket.as_fd(), payload, *client, *local)
            }
        }
    }

    fn open(&mut self, link: &mut Link, key: Key) -> Result<Id, Unreachable> {
        let targets = link.router.route(Transport::Udp, key.remote);
        let target = targets.map_err(|_| Unreachable::Forbidden)?;
        let target = target.first().ok_or(Unreachable::Port)?;
        let socket = connect(*target).map_err(Unreachable::of)?;
        let id = self.add(link, key, Outside::Own(socket));
        if let Some(socket) = self.socket(id)
            && let Err(errno) = link.watch(socket, id.token(Kind::Udp), EventFlags::IN)
        {
            self.remove(id);
            return Err(Unreachable::of(errno));
        }
        Ok(id)
    }

    /// Ends the flows that the container may not open any more.
    pub fn end_forbidden(&mut self, link: &mut Link) {
        let own = self.flows.iter().filter_map(|(id, flow)| {
            matches!(flow.outside, Outside::Own(_)).then_some((id, flow.key.remote))
        });
        for (id, remote) in own.collect::<Vec<_>>() {
            if link.router.route(Transport::Udp, remote).is_err() {
                self.remove(id);
            }
        }
    }

    fn add(&mut self, link: &mut Link, key: Key, outside: Outside) -> Id {
        if self.flows.len() >= self.most {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.last);
            if let Some(id) = oldest.map(|(id, _)| id) {
                self.remove(id);
            }
        }
        let flow = Flow {
            key,
            outside,
            last: link.now,
            answered: false,
        };
        let ends = flow.ends();
        let id = self.flows.insert(flow);
        self.by_key.insert(key, id);
        link.timers.push(ends, id.token(Kind::Udp));
        id
    }

    fn remove(&mut self, id: Id) {
        if let Some(flow) = self.flows.remove(id) {
            self.by_key.remove(&flow.key);
        }
    }

    /// What a flow's own socket has.
    pub fn on_event(&mut self, link: &mut Link, id: Id) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Outside::Own(socket) = &flow.outside else {
            return;
        };
        let path = flow.key.inward();
        let start = packet::udp_payload_at(path);
        for turn in 0..TURN {
            // Once even so: an error is told of until it is read.
            if turn > 0 && link.meter.inward.is_empty() {
                return;
            }
            let room = &mut link.frame[start..];
            match rustix::net::recv(socket, room, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) if length > packet::largest_datagram(path.target.is_ipv4()) => {}
                Ok((length, _)) => {
                    let ports = (flow.key.remote.port(), flow.key.port);
                    let end = packet::udp(&mut link.frame, path, ports.0, ports.1, length);
                    link.send_own(end);
                    flow.last = link.now;
                    flow.answered = true;
                }
                Err(Errno::AGAIN) => return,
                Err(errno) => return tell(link, flow.key, Unreachable::of(errno)),
            }
        }
    }

    /// What the socket of a published port has.
    pub fn on_published(
        &mut self,
        link: &mut Link,
        socket: &Rc<OwnedFd>,
        port: u16,
        visible: impl Fn(&Link, SocketAddr) -> SocketAddr,
    ) {
        for turn in 0..TURN {
            if turn > 0 && link.meter.inward.is_empty() {
                return;
            }
            // The headers of either family fit before it.
            let start = packet::HEADROOM;
            let room = &mut link.frame[start..];
            let Ok((length, client, local)) = inet::receive_datagram(socket.as_fd(), room) else {
                return;
            };
            let remote = visible(link, client);
            let path = link.inward(remote.ip());
            let to = packet::udp_payload_at(path);
            if length > packet::largest_datagram(path.target.is_ipv4()) {
                continue;
            }
            let Some(remote) = self.find_client(link, socket, (client, local), remote, port) else {
                continue;
            };
            link.frame.copy_within(start..start + length, to);
            let end = packet::udp(&mut link.frame, path, remote.port(), port, length);
            link.send_own(end);
        }
    }

    /// The flow of a client, which is made if there is none; who it is for the container.
    fn find_client(
        &mut self,
        link: &mut Link,
        socket: &Rc<OwnedFd>,
        (client, local): (SocketAddr, Option<IpAddr>),
        mut remote: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        let ip = link.container(remote.ip());
        // Clients that look alike to the container: each other one gets a port of its own.
        for _ in 0..64 {
            let key = Key { ip, port, remote };
            let Some(id) = self.by_key.get(&key).copied() else {
                let outside = Outside::Published {
                    socket: Rc::clone(socket),
                    client,
                    local,
                };
                self.add(link, key, outside);
                return Some(remote);
            };
            let flow = self.flows.get_mut(id)?;
            if matches!(&flow.outside, Outside::Published { client: known, local: spoken, .. } if *known == client && *spoken == local)
            {
                flow.last = link.now;
                return Some(remote);
            }
            remote.set_port(remote.port().wrapping_add(1).max(1024));
        }
        None
    }

    pub fn on_timer(&mut self, link: &mut Link, id: Id) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.ends() > link.now {
            link.timers.push(flow.ends(), id.token(Kind::Udp));
        } else {
            self.remove(id);
        }
    }
}

fn tell(link: &Link, key: Key, why: Unreachable) {
    let head = packet::udp_head(key.port, key.remote.port(), 0);
    link.unreachable(key.inward().back(), packet::UDP, head, why);
}

/// A socket that speaks with one address alone, and hears of what ICMP says of it.
pub fn connect(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = socket(target.is_ipv4())?;
    rustix::net::connect(&socket, &target)?;
    Ok(socket)
}

pub fn socket(is_v4: bool) -> Result<OwnedFd, Errno> {
    let family = if is_v4 {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::DGRAM, flags, None)
}
