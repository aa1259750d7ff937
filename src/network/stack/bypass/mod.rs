//! Connections of clients on the host's loopback to published ports. They have no address that the container could see,
//! and need not come to it as frames: a second connection is made within its namespace, in the gateway's name, and what
//! comes from one is passed on to the other. The sockets for that come from the supervisor; where there are none frames
//! serve.
//!
//! Must not: serve one client so and the next by frames without need. A connection that the container has closed is
//! remembered by its kernel for a minute, and refuses a later one between the same ends whose numbers are smaller
//! (RFC 6191): ours and those of the kernel do not come one after the other.

mod flow;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::network::stack::bypass::flow::End;
use crate::network::stack::bypass::flow::Means;
use crate::network::stack::bypass::flow::Next;
use crate::network::stack::bypass::flow::Pipes;
use crate::network::stack::bypass::flow::Way;
use crate::network::stack::link::Link;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;
use crate::network::stack::tcp;

/// Edge-triggered: what was said once is remembered.
const EVENTS: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// A client of a published port.
pub struct Client {
    pub socket: OwnedFd,
    /// Who it is for the container.
    pub remote: SocketAddr,
    /// Of the container.
    pub port: u16,
}

/// Sockets in the container's namespace that are not connected.
#[derive(Default)]
struct Pool {
    free: Vec<OwnedFd>,
    waiting: Vec<Client>,
    /// With so few more are wanted.
    low: usize,
    is_wanted: bool,
    is_asked: bool,
    shut: Shut,
}

/// It did not go this way: it is tried again, later each time.
#[derive(Default)]
struct Shut {
    until: Option<Instant>,
    /// How long it was shut last.
    last: Duration,
}

impl Shut {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_hours(1);

    fn is(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn begin(&mut self, now: Instant) {
        if !self.is(now) {
            self.last = (self.last * 2).clamp(Shut::FIRST, Shut::LONGEST);
            self.until = Some(now + self.last);
        }
    }
}

struct Flow {
    /// Who the client is, until the container has answered.
    connecting: Option<(SocketAddr, u16)>,
    /// The client's end, and the container's.
    outer: End,
    inner: End,
    inward: Way,
    outward: Way,
    /// It is among those that go on in the next turn.
    is_busy: bool,
}

pub struct Bypass {
    flows: Slab<Flow>,
    busy: VecDeque<Id>,
    /// For clients of IPv4, and of IPv6.
    pools: [Pool; 2],
    pipes: Pipes,
    most: usize,
    is_allowed: bool,
}

impl Bypass {
    /// `room` is how many descriptors it may have.
    pub fn new(room: usize) -> Bypass {
        Bypass {
            flows: Slab::new(),
            busy: VecDeque::new(),
            pools: Default::default(),
            pipes: Pipes::default(),
            most: room / 2,
            is_allowed: false,
        }
    }

    /// There is somebody who gives sockets.
    pub fn allow(&mut self) {
        self.is_allowed = true;
    }

    /// Serves a client, or gives it back where that cannot be done.
    pub fn offer(&mut self, link: &Link, client: Client) -> Option<Client> {
        let pool = &mut self.pools[kind(client.remote.is_ipv4())];
        let taken = self.flows.len() + pool.waiting.len();
        if !self.is_allowed || pool.shut.is(link.now) || taken >= self.most {
            return Some(client);
        }
        if let Some(socket) = pool.free.pop() {
            pool.is_wanted |= !pool.is_asked && pool.free.len() < pool.low;
            return self.join(link, client, socket);
        }
        self.wait(client);
        None
    }

    /// A client waits until there are sockets.
    fn wait(&mut self, client: Client) {
        let pool = &mut self.pools[kind(client.remote.is_ipv4())];
        pool.is_wanted = !pool.is_asked;
        pool.waiting.push(client);
    }

    /// Whether sockets are to be asked for: for IPv4, or for IPv6.
    pub fn wants(&mut self) -> Option<bool> {
        let wanted = self.pools.iter_mut().position(|pool| pool.is_wanted)?;
        self.pools[wanted].is_wanted = false;
        self.pools[wanted].is_asked = true;
        Some(wanted == kind(true))
    }

    /// Takes sockets that were asked for; returns the clients that are not served so. Where
    /// there are none, there will be none for a while.
    pub fn take(&mut self, link: &Link, is_v4: bool, sockets: Vec<OwnedFd>) -> Vec<Client> {
        let pool = &mut self.pools[kind(is_v4)];
        pool.is_asked = false;
        if sockets.is_empty() {
            pool.shut.begin(link.now);
        }
        pool.low = sockets.len() / 4;
        pool.free.extend(sockets);
        pool.free.truncate(self.most);
        let mut left = vec![];
        for client in std::mem::take(&mut pool.waiting) {
            match self.pools[kind(is_v4)].free.pop() {
                Some(socket) => left.extend(self.join(link, client, socket)),
                None if self.pools[kind(is_v4)].shut.is(link.now) => left.push(client),
                None => self.wait(client),
            }
        }
        left
    }

    /// Connects a client with the container by a socket that is there; gives it back where that fails.
    fn join(&mut self, link: &Link, mut client: Client, socket: OwnedFd) -> Option<Client> {
        let target = SocketAddr::new(link.container(client.remote.ip()), client.port);
        match connect(&socket, client.remote, target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            // Linux: two clients may have one port, if they ask for different ones.
            Err(Errno::ADDRNOTAVAIL) => {
                client.remote.set_port(tcp::any_port());
                return Some(client);
            }
            Err(_) => return Some(client),
        }
        sockopt::set_tcp_nodelay(&client.socket, true).ok();
        let id = self.flows.insert(Flow {
            connecting: Some((client.remote, client.port)),
            outer: End::new(client.socket),
            inner: End::new(socket),
            inward: Way::new(),
            outward: Way::new(),
            is_busy: false,
        });
        let flow = self.flows.get_mut(id)?;
        let ends = [(&flow.outer, Kind::Outer), (&flow.inner, Kind::Inner)];
        let watched: Result<(), Errno> = ends.into_iter().try_for_each(|(end, kind)| {
            let token = id.token(kind);
            link.watch(&end.socket, token, EVENTS)
        });
        if watched.is_err() {
            self.abort(id);
        }
        None
    }

    /// No more clients are taken; returns those that waited.
    pub fn close(&mut self) -> Vec<Client> {
        self.is_allowed = false;
        let waiting = self.pools.iter_mut();
        waiting
            .flat_map(|pool| std::mem::take(&mut pool.waiting))
            .collect()
    }

    /// Gives back what is kept for the next ones.
    pub fn rest(&mut self) {
        self.pipes.clear();
        for pool in &mut self.pools {
            pool.free.clear();
        }
    }

    /// What epoll says of an end; a client that is not served so after all is given back.
    pub fn on_event(
        &mut self,
        link: &mut Link,
        id: Id,
        kind: Kind,
        events: EventFlags,
    ) -> Option<Client> {
        let flow = self.flows.get_mut(id)?;
        if kind == Kind::Inner
            && let Some(who) = flow.connecting.take()
            && events.contains(EventFlags::ERR)
            && let Ok(Err(errno)) = sockopt::socket_error(&flow.inner.socket)
            && errno != Errno::CONNRESET
        {
            return self.give_back(link, id, who, errno);
        }
        if events.contains(EventFlags::ERR) {
            self.break_off(link, id);
            return None;
        }
        let end = match kind {
            Kind::Outer => &mut flow.outer,
            _ => &mut flow.inner,
        };
        let has_ended = events.intersects(EventFlags::RDHUP | EventFlags::HUP);
        end.stops_short |= has_ended || events.contains(EventFlags::PRI);
        end.readable |= has_ended || events.contains(EventFlags::IN);
        end.writable |= events.contains(EventFlags::OUT);
        if flow.connecting.is_none() {
            self.pass(link, id);
        }
        None
    }

    /// The container has not taken the connection.
    fn give_back(
        &mut self,
        link: &Link,
        id: Id,
        (remote, port): (SocketAddr, u16),
        errno: Errno,
    ) -> Option<Client> {
        let socket = self.flows.remove(id)?.outer.socket;
        link.unwatch(&socket).ok();
        // What refuses may listen to nothing but its interface; where no answer comes its rules lead elsewhere, and will
        // for the next.
        if errno == Errno::TIMEDOUT {
            self.pools[kind(remote.is_ipv4())].shut.begin(link.now);
        }
        Some(Client {
            socket,
            remote,
            port,
        })
    }

    /// An end is broken. What came before that can still be read (tcp(7)), and is passed on first.
    fn break_off(&mut self, link: &mut Link, id: Id) {
        if let Some(flow) = self.flows.get_mut(id) {
            let mut means = Means {
                pipes: &mut self.pipes,
                buffer: &mut link.frame,
            };
            let (outer, inner) = (&mut flow.outer, &mut flow.inner);
            for end in [&mut *outer, &mut *inner] {
                (end.readable, end.stops_short) = (true, true);
            }
            let meter = &link.meter;
            let (inward, outward) = (&mut flow.inward, &mut flow.outward);
            inward.pass_last(outer, inner, &meter.inward, &mut means);
            outward.pass_last(inner, outer, &meter.outward, &mut means);
        }
        self.abort(id);
    }

    /// Passes on what both ends have; whether there is more to do at once.
    fn pass(&mut self, link: &mut Link, id: Id) -> bool {
        let Some(flow) = self.flows.get_mut(id) else {
            return false;
        };
        let Flow {
            outer,
            inner,
            inward,
            outward,
            is_busy,
            ..
        } = flow;
        let meter = &link.meter;
        let mut means = Means {
            pipes: &mut self.pipes,
            buffer: &mut link.frame,
        };
        let next = [
            inward.pass(outer, inner, &meter.inward, &mut means),
            outward.pass(inner, outer, &meter.outward, &mut means),
        ];
        if next.contains(&Next::Broken) {
            self.break_off(link, id);
            return false;
        }
        // To close both says what is still to be said.
        if inward.is_over && outward.is_over {
            self.remove(id);
            return false;
        }
        if inward.is_over {
            inner.tell_end();
        }
        if outward.is_over {
            outer.tell_end();
        }
        if !*is_busy && next.iter().any(|next| *next != Next::Nothing) {
            *is_busy = true;
            self.busy.push_back(id);
        }
        next.contains(&Next::More)
    }

    /// Those that had more to pass on go on; whether there is more to do at once.
    pub fn end_turn(&mut self, link: &mut Link, ends: Instant) -> bool {
        let mut has_more = false;
        for at in 0..self.busy.len() {
            link.look_at_clock();
            if at > 0 && link.now > ends {
                let meter = &link.meter;
                return has_more || !(meter.inward.is_empty() && meter.outward.is_empty());
            }
            if let Some(id) = self.busy.pop_front() {
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.is_busy = false;
                }
                has_more |= self.pass(link, id);
            }
        }
        has_more
    }

    /// Whether nothing of the container's is on its way to the host any more.
    pub fn is_drained(&self) -> bool {
        self.flows.iter().all(|(_, flow)| flow.outward.is_over)
    }

    /// Both peers get a reset, not an end.
    fn abort(&mut self, id: Id) {
        if let Some(flow) = self.flows.get_mut(id) {
            for end in [&flow.outer, &flow.inner] {
                sockopt::set_socket_linger(&end.socket, Some(Duration::ZERO)).ok();
            }
        }
        self.remove(id);
    }

    fn remove(&mut self, id: Id) {
        if let Some(flow) = self.flows.remove(id) {
            flow.inward.end(&mut self.pipes);
            flow.outward.end(&mut self.pipes);
        }
    }
}

/// The place of a family's pool.
fn kind(is_v4: bool) -> usize {
    usize::from(!is_v4)
}

/// Begins to connect in the name of another, with its port if that is free.
fn connect(socket: &OwnedFd, remote: SocketAddr, target: SocketAddr) -> Result<(), Errno> {
    match rustix::net::bind(socket, &remote) {
        Err(Errno::ADDRINUSE | Errno::ACCESS) => {
            rustix::net::bind(socket, &SocketAddr::new(remote.ip(), 0))?;
        }
        bound => bound?,
    }
    rustix::net::connect(socket, &target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_go_is_tried_again_later_each_time() {
        let start = Instant::now();
        let mut shut = Shut::default();
        assert!(!shut.is(start));
        let mut now = start;
        for seconds in [10, 20, 40, 80] {
            shut.begin(now);
            // Others that were on their way fail too.
            shut.begin(now);
            assert!(shut.is(now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(!shut.is(now));
        }
        for _ in 0..20 {
            shut.begin(now);
            now += Duration::from_hours(1);
            assert!(!shut.is(now));
        }
    }
}
