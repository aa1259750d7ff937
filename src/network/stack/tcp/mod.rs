//! TCP: the table of connections, how they are opened from either side, and what their sockets tell.
//!
//! There is no congestion control here until something is lost: a TAP device loses nothing, and the host's kernel does
//! the real TCP with the peer. Data to the container stay in the host's socket until the container has acknowledged them, so that a
//! flow in that direction needs no memory of ours; in the other, what a socket does not take is kept, up to the
//! window that was promised.

mod flow;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

use crate::network::stack::bypass::Client;
use crate::network::stack::link::Link;
use crate::network::stack::link::Unreachable;
use crate::network::stack::packet;
use crate::network::stack::packet::ACK;
use crate::network::stack::packet::FIN;
use crate::network::stack::packet::Packet;
use crate::network::stack::packet::RST;
use crate::network::stack::packet::SYN;
use crate::network::stack::packet::Segment;
use crate::network::stack::random;
use crate::network::stack::route::DNS;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;
use crate::network::stack::tcp::flow::Flow;
use crate::network::stack::tcp::flow::HELD;
use crate::network::stack::tcp::flow::Key;
use crate::network::stack::tcp::flow::Next;
use crate::network::stack::tcp::flow::State;
use crate::network::stack::tcp::flow::WINDOW;
use crate::text::egress::Transport;

/// More than that at a time get no answer but a reset.
const MOST: usize = 65536;

/// Edge-triggered: what was said once is remembered in the flow.
const EVENTS: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

pub struct Tcp {
    flows: Slab<Flow>,
    by_key: HashMap<Key, Id>,
    /// Those that owe an acknowledgement at the end of the turn.
    due: Vec<Id>,
    /// Those that have more to send than their turn took.
    busy: VecDeque<Id>,
    held: usize,
    /// The other ends of connections to the resolver, which others are to serve.
    pub asking: Vec<OwnedFd>,
    secret: RandomState,
    began: Instant,
    most: usize,
}

impl Tcp {
    /// `room` is how many descriptors it may have.
    pub fn new(room: usize) -> Tcp {
        Tcp {
            flows: Slab::new(),
            by_key: HashMap::new(),
            due: vec![],
            busy: VecDeque::new(),
            held: 0,
            asking: vec![],
            secret: RandomState::new(),
            began: Instant::now(),
            most: MOST.min(room),
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn contains(&self, id: Id) -> bool {
        self.flows.contains(id)
    }

    /// Whether nothing of the container's is on its way to the host any more.
    pub fn is_drained(&self) -> bool {
        self.flows.iter().all(|(_, flow)| flow.has_shut())
    }

    /// A packet of the container's.
    pub fn receive(&mut self, link: &mut Link, packet: &Packet<'_>) {
        let Some((segment, data)) = packet::parse_tcp(packet.payload) else {
            return;
        };
        let key = Key {
            ip: packet.source,
            port: segment.source,
            remote: SocketAddr::new(packet.target, segment.target),
        };
        match self.by_key.get(&key).copied() {
            Some(id) => self.with(link, id, |flow, link, room| {
                flow.on_segment(link, &segment, data, room)
            }),
            None if segment.flags & (SYN | ACK | RST | FIN) == SYN => {
                self.open(link, key, &segment);
            }
            None => refuse(link, key, &segment, data.len()),
        }
    }

    /// The first sequence number of a connection (RFC 6528): not to be guessed, and for the same two ends always
    /// after that of the one before, which a kernel that remembers it insists on.
    fn initial(&self, link: &Link, key: Key) -> u32 {
        const STEP: u128 = 4;
        let clock = link.now.duration_since(self.began).as_micros() / STEP;
        let hash = self.secret.hash_one(key) >> 32;
        let clock = u32::try_from(clock & u128::from(u32::MAX)).unwrap_or(0);
        clock.wrapping_add(u32::try_from(hash).unwrap_or(0))
    }

    /// Lets a flow do something, and does what follows from it.
    fn with(
        &mut self,
        link: &mut Link,
        id: Id,
        act: impl FnOnce(&mut Flow, &mut Link, usize) -> Next,
    ) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let before = flow.held();
        let owed = flow.ack_due;
        let next = act(flow, link, HELD.saturating_sub(self.held));
        self.held = self.held + flow.held() - before;
        if flow.ack_due && !owed {
            self.due.push(id);
        }
        match next {
            Next::Nothing => set_timer(link, id, flow),
            Next::More => {
                set_timer(link, id, flow);
                if !flow.is_busy {
                    flow.is_busy = true;
                    self.busy.push_back(id);
                }
            }
            Next::Over => self.remove(id),
            Next::Broken => self.abort(link, id),
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(flow) = self.flows.remove(id) {
            self.held -= flow.held();
            self.by_key.remove(&flow.key);
        }
    }

    /// Resets the connections that the container may not open any more; those that others have opened stay.
    pub fn end_forbidden(&mut self, link: &mut Link) {
        let own = self.flows.iter().filter_map(|(id, flow)| {
            let remote = flow.key.remote;
            (!flow.is_published).then_some((id, remote))
        });
        for (id, remote) in own.collect::<Vec<_>>() {
            if link.router.route(Transport::Tcp, remote).is_err() {
                self.abort(link, id);
            }
        }
    }

    /// Resets both ends.
    fn abort(&mut self, link: &mut Link, id: Id) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.send_reset(link);
            // The peer gets a reset too, not an end.
            sockopt::set_socket_linger(&flow.socket, Some(Duration::ZERO)).ok();
        }
        self.remove(id);
    }

    /// The container wants to connect: it is answered when the host's socket is connected, so that it hears of
    /// whatever is in the way.
    fn open(&mut self, link: &mut Link, key: Key, segment: &Segment) {
        if self.flows.len() >= self.most {
            return refuse(link, key, segment, 0);
        }
        if link.has_names && key.remote.port() == DNS && link.router.is_resolver(key.remote.ip()) {
            if !link.router.may_ask(Transport::Tcp, key.remote.ip()) {
                return deny(link, key, segment, Unreachable::Forbidden);
            }
            return self.open_to_resolver(link, key, segment);
        }
        let Ok(mut targets) = link.router.route(Transport::Tcp, key.remote) else {
            return deny(link, key, segment, Unreachable::Forbidden);
        };
        targets.reverse();
        match connect_next(&mut targets) {
            Ok((socket, is_connected)) => {
                let initial = self.initial(link, key);
                let mut flow = Flow::new(key, socket, State::Connecting, initial);
                flow.spare = targets;
                flow.learn(segment);
                let Some(id) = self.add(link, flow) else {
                    return refuse(link, key, segment, 0);
                };
                if is_connected {
                    self.connected(link, id);
                }
            }
            Err(
                Errno::CONNREFUSED | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM,
            ) => {
                refuse(link, key, segment, 0);
            }
            Err(errno) => deny(link, key, segment, Unreachable::of(errno)),
        }
    }

    /// The container wants to ask us: the host's end of the connection is a pipe to who answers here.
    fn open_to_resolver(&mut self, link: &mut Link, key: Key, segment: &Segment) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
        let Ok((socket, other)) = rustix::net::socketpair(unix, stream, flags, None) else {
            return refuse(link, key, segment, 0);
        };
        let initial = self.initial(link, key);
        let mut flow = Flow::new(key, socket, State::Connecting, initial);
        flow.learn(segment);
        match self.add(link, flow) {
            Some(id) => {
                self.asking.push(other);
                self.connected(link, id);
            }
            None => refuse(link, key, segment, 0),
        }
    }

    fn add(&mut self, link: &Link, mut flow: Flow) -> Option<Id> {
        flow.most = link.meter.outward.window(WINDOW);
        let key = flow.key;
        let id = self.flows.insert(flow);
        let flow = self.flows.get_mut(id)?;
        if link
            .watch(&flow.socket, id.token(Kind::Tcp), EVENTS)
            .is_err()
        {
            self.flows.remove(id);
            return None;
        }
        self.by_key.insert(key, id);
        Some(id)
    }

    fn connected(&mut self, link: &mut Link, id: Id) {
        self.with(link, id, |flow, link, _| {
            flow.state = State::Answered;
            flow.spare = vec![];
            flow.send_syn(link);
            Next::Nothing
        });
    }

    /// A client of a published port.
    pub fn offer(&mut self, link: &mut Link, client: Client) {
        let Client {
            socket,
            mut remote,
            port,
        } = client;
        prepare(&socket);
        let ip = link.container(remote.ip());
        // Two clients that look alike to the container: the second gets a port of its own.
        for _ in 0..64 {
            if !self.by_key.contains_key(&Key { ip, port, remote }) {
                break;
            }
            remote.set_port(any_port());
        }
        let key = Key { ip, port, remote };
        if self.by_key.contains_key(&key) || self.flows.len() >= self.most {
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).ok();
            return;
        }
        let flow = Flow::new(key, socket, State::Offered, self.initial(link, key));
        if let Some(id) = self.add(link, flow) {
            self.with(link, id, |flow, link, _| {
                flow.send_syn(link);
                Next::Nothing
            });
        }
    }

    /// What epoll says of a socket.
    pub fn on_event(&mut self, link: &mut Link, id: Id, events: EventFlags) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.state == State::Connecting {
            if events.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
                self.on_connected(link, id);
            }
            return;
        }
        if events.contains(EventFlags::ERR) {
            return self.abort(link, id);
        }
        if events.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
            flow.readable = true;
        }
        if flow.held() > 0 && events.contains(EventFlags::OUT) {
            self.with(link, id, |flow, link, _| flow.on_writable(link));
        }
        self.with(link, id, |flow, link, _| flow.pump(link));
    }

    fn on_connected(&mut self, link: &mut Link, id: Id) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let errno = match sockopt::socket_error(&flow.socket) {
            Ok(Ok(())) => return self.connected(link, id),
            Ok(Err(errno)) | Err(errno) => errno,
        };
        if let Ok((socket, _)) = connect_next(&mut flow.spare) {
            flow.replace_socket(socket);
            if link
                .watch(&flow.socket, id.token(Kind::Tcp), EVENTS)
                .is_ok()
            {
                return;
            }
        }
        if errno == Errno::CONNREFUSED {
            return self.abort(link, id);
        }
        let path = flow.key.inward().back();
        let head = packet::tcp_head(flow.key.port, flow.key.remote.port(), flow.opened_by());
        link.unreachable(path, packet::TCP, head, Unreachable::of(errno));
        self.remove(id);
    }

    pub fn on_timer(&mut self, link: &mut Link, id: Id) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if !flow.alarm.rings(link.now) {
            return;
        }
        match flow.deadline {
            Some(deadline) if deadline <= link.now => {
                self.with(link, id, |flow, link, _| flow.on_timer(link));
            }
            _ => set_timer(link, id, flow),
        }
    }

    /// The end of a turn: what is owed is sent, and those that had more to send go on. Whether there is more to do.
    pub fn end_turn(&mut self, link: &mut Link, ends: Instant) -> bool {
        // The rest has its turn after all others of the supervisor.
        const TURN: usize = 16;
        for at in 0..self.busy.len().min(TURN) {
            link.look_at_clock();
            if at > 0 && link.now > ends {
                break;
            }
            if let Some(id) = self.busy.pop_front() {
                self.with(link, id, |flow, link, _| {
                    flow.is_busy = false;
                    flow.pump(link)
                });
            }
        }
        self.acknowledge(link);
        !self.busy.is_empty()
    }

    /// Sends the acknowledgements that are owed, one for all that a flow has taken.
    pub fn acknowledge(&mut self, link: &mut Link) {
        for id in std::mem::take(&mut self.due) {
            if let Some(flow) = self.flows.get_mut(id)
                && flow.ack_due
            {
                flow.send_ack(link);
            }
        }
    }
}

/// One of those that Linux gives to clients.
pub fn any_port() -> u16 {
    let port = u32::from_ne_bytes(random()) % 28232 + 32768;
    u16::try_from(port).unwrap_or(32768)
}

fn set_timer(link: &mut Link, id: Id, flow: &mut Flow) {
    if let Some(deadline) = flow.deadline {
        let token = id.token(Kind::Tcp);
        flow.alarm.set(&mut link.timers, deadline, token);
    }
}

/// Begins to connect to the last of the targets that can be tried; whether it is connected already.
fn connect_next(targets: &mut Vec<SocketAddr>) -> Result<(OwnedFd, bool), Errno> {
    let mut last = Errno::CONNREFUSED;
    while let Some(target) = targets.pop() {
        match connect(target) {
            Ok(connecting) => return Ok(connecting),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// Begins to connect; whether it is connected already.
pub fn connect(target: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    prepare(&socket);
    match rustix::net::connect(&socket, &target) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

fn prepare(socket: &OwnedFd) {
    // The container's kernel has waited for more already, if it is to wait.
    sockopt::set_tcp_nodelay(socket, true).ok();
    // Linux: urgent data are left out of what is read otherwise, but not of where SO_PEEK_OFF looks next.
    sockopt::set_socket_oobinline(socket, true).ok();
    // A peer that is gone without a word ends the flow after seven minutes.
    sockopt::set_socket_keepalive(socket, true).ok();
    sockopt::set_tcp_keepidle(socket, Duration::from_mins(5)).ok();
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15)).ok();
}

/// Answers a segment of no flow with a reset (RFC 9293, section 3.5.2).
fn refuse(link: &mut Link, key: Key, segment: &Segment, length: usize) {
    if segment.has(RST) {
        return;
    }
    let mut reset = Segment {
        source: key.remote.port(),
        target: key.port,
        flags: RST,
        sequence: segment.acknowledged,
        ..Segment::default()
    };
    if !segment.has(ACK) {
        let length = u32::try_from(length).unwrap_or(0);
        let length = length + u32::from(segment.has(SYN)) + u32::from(segment.has(FIN));
        reset.flags = RST | ACK;
        reset.sequence = 0;
        reset.acknowledged = segment.sequence.wrapping_add(length);
    }
    let path = key.inward();
    let end = packet::tcp(&mut link.frame, path, &reset, 0);
    link.send_own(end);
}

fn deny(link: &Link, key: Key, segment: &Segment, why: Unreachable) {
    let path = key.inward().back();
    let head = packet::tcp_head(key.port, key.remote.port(), segment.sequence);
    link.unreachable(path, packet::TCP, head, why);
}
