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
use crate::network::stack::train::Cars;
use crate::network::stack::train::Train;
use crate::sys::inet;
use crate::sys::inet::Sending;
use crate::text::egress::Transport;

/// The flow that was silent for longest goes when there are more.
const MOST: usize = 4096;
/// As conntrack does (`nf_conntrack_udp_timeout`, `…_stream`).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_mins(3);
/// Datagrams of one socket in a turn.
const TURN: usize = packet::DATAGRAMS;

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
    /// The way to the other end takes many datagrams at once.
    joins: bool,
}

/// Datagrams of one flow of the container's, while more may come.
#[derive(Default)]
struct Held {
    id: Option<Id>,
    cars: Cars,
    bytes: Vec<u8>,
}

impl Flow {
    fn ends(&self) -> Instant {
        self.last + if self.answered { ANSWERED } else { UNANSWERED }
    }

    fn pass_on(&mut self, bytes: &[u8], cars: Cars) -> Result<(), Errno> {
        if cars.count == 1 {
            return self.send(bytes, None);
        }
        if self.joins {
            let size = u16::try_from(cars.size).ok();
            match self.send(bytes, size) {
                // EIO: a device that computes no checksums (Linux before 6.11).
                Err(Errno::INVAL | Errno::IO | Errno::OPNOTSUPP | Errno::MSGSIZE) => {
                    self.joins = false;
                }
                other => return other,
            }
        }
        let mut result = Ok(());
        for one in bytes.chunks(cars.size) {
            // An error is often about one that was sent earlier.
            result = result.and(self.send(one, None));
        }
        result
    }

    /// One datagram, or many of this size.
    fn send(&mut self, bytes: &[u8], size: Option<u16>) -> Result<(), Errno> {
        let (socket, to, from) = match &self.outside {
            Outside::Own(socket) => (socket, None, None),
            Outside::Published {
                socket,
                client,
                local,
            } => {
                self.answered = true;
                (&**socket, Some(*client), *local)
            }
        };
        inet::send_datagrams(socket.as_fd(), bytes, Sending { to, from, size })
    }
}

pub struct Udp {
    flows: Slab<Flow>,
    by_key: HashMap<Key, Id>,
    held: Held,
    most: usize,
}

impl Udp {
    /// `room` is how many descriptors it may have.
    pub fn new(room: usize) -> Udp {
        Udp {
            flows: Slab::new(),
            by_key: HashMap::new(),
            held: Held::default(),
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
        match id {
            Ok(id) => self.hold(link, id, payload),
            Err(why) => tell(link, key, why),
        }
    }

    /// It goes on with those that come behind it, by `flush` at the latest.
    fn hold(&mut self, link: &mut Link, id: Id, payload: &[u8]) {
        let room = packet::largest_datagram(true);
        if self.held.id != Some(id) || !self.held.cars.take(payload.len(), room) {
            self.flush(link);
            self.held.id = Some(id);
            self.held.cars = Cars::one(payload.len());
        }
        self.held.bytes.extend_from_slice(payload);
    }

    /// Passes on what was held.
    pub fn flush(&mut self, link: &mut Link) {
        let Some(id) = self.held.id.take() else {
            return;
        };
        let bytes = std::mem::take(&mut self.held.bytes);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.last = link.now;
            match flow.pass_on(&bytes, self.held.cars) {
                Ok(()) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
                Err(errno) => tell(link, flow.key, Unreachable::of(errno)),
            }
        }
        self.held.bytes = bytes;
        self.held.bytes.clear();
    }

    /// Gives the memory back that is had for more of them.
    pub fn rest(&mut self) {
        self.held.bytes = vec![];
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
            joins: true,
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
        let ports = (flow.key.remote.port(), flow.key.port);
        let mut train = Train::default();
        for turn in 0..TURN {
            // Once even so: an error is told of until it is read.
            if turn > 0 && link.meter.inward.is_empty() {
                break;
            }
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            match rustix::net::recv(socket, train.room(link), flags) {
                Ok((_, length)) if length > packet::largest_datagram(path.target.is_ipv4()) => {}
                Ok((length, _)) => {
                    flow.last = link.now;
                    flow.answered = true;
                    train.add(link, path, ports, length);
                }
                Err(Errno::AGAIN) => break,
                Err(errno) => {
                    train.send(link);
                    return tell(link, flow.key, Unreachable::of(errno));
                }
            }
        }
        train.send(link);
    }

    /// What the socket of a published port has.
    pub fn on_published(
        &mut self,
        link: &mut Link,
        socket: &Rc<OwnedFd>,
        port: u16,
        visible: impl Fn(&Link, SocketAddr) -> SocketAddr,
    ) {
        let mut train = Train::default();
        for turn in 0..TURN {
            if turn > 0 && link.meter.inward.is_empty() {
                break;
            }
            let room = train.room(link);
            let Ok((length, client, local)) = inet::receive_datagram(socket.as_fd(), room) else {
                break;
            };
            let remote = visible(link, client);
            let path = link.inward(remote.ip());
            if length > packet::largest_datagram(path.target.is_ipv4()) {
                continue;
            }
            if let Some(remote) = self.find_client(link, socket, (client, local), remote, port) {
                train.add(link, path, (remote.port(), port), length);
            }
        }
        train.send(link);
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
