//! One TCP connection: the container's end of it, which is spoken here, and the socket of the host that carries it on.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::Shutdown;

use crate::network::stack::link::Link;
use crate::network::stack::packet;
use crate::network::stack::packet::ACK;
use crate::network::stack::packet::FIN;
use crate::network::stack::packet::PSH;
use crate::network::stack::packet::Path;
use crate::network::stack::packet::RST;
use crate::network::stack::packet::SYN;
use crate::network::stack::packet::Segment;
use crate::network::stack::slab::Alarm;
use crate::sys::inet;

/// What the container may send before the host's socket has taken what came before it.
pub const WINDOW: u32 = 1 << 20;
const SCALE: u8 = 7;
/// What all flows together keep for sockets that take nothing.
pub const HELD: usize = 32 << 20;
/// What is on its way to the container. More makes nothing faster, but the flows with large windows, which Linux lets
/// grow, would slow down all others.
const MOST_FLIGHT: u32 = 1 << 20;
/// The most that all segments of one frame carry: IPv6 counts the header of TCP too.
const LARGEST: u32 = u16::MAX as u32 - 60;
/// Without `SO_PEEK_OFF` all that is on its way is copied again at each look.
const SLOW_FLIGHT: u32 = 256 << 10;

/// The container's kernel loses a frame only when it has no memory for it. The first wait for its acknowledgement
/// follows the round trips (RFC 6298), but is longer than Linux delays one (40 ms, `TCP_DELACK_MIN`).
const REPEAT: Duration = Duration::from_millis(250);
const LEAST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(30);
const MOST_REPEATS: u32 = 12;
/// After two minutes, as Linux does.
const MOST_SYNS: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of the container, which may have other addresses than it was given.
    pub ip: IpAddr,
    pub port: u16,
    /// Who it speaks to, by its own account.
    pub remote: SocketAddr,
}

impl Key {
    /// To the container.
    pub fn inward(self) -> Path {
        Path {
            source: self.remote.ip(),
            target: self.ip,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The host's socket connects; the container waits for an answer.
    Connecting,
    /// The container was asked, by SYN.
    Offered,
    /// The container was answered, by SYN and ACK.
    Answered,
    Open,
}

/// What is left to do for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// There is more to send than one turn may.
    More,
    /// Both ends have closed.
    Over,
    /// One end is broken, and the other has to be told.
    Broken,
}

/// RFC 6298, section 2.
#[derive(Clone, Copy)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
}

impl RoundTrip {
    fn after(former: Option<RoundTrip>, sample: Duration) -> RoundTrip {
        match former {
            None => RoundTrip {
                smoothed: sample,
                variation: sample / 2,
            },
            Some(former) => RoundTrip {
                smoothed: former.smoothed * 7 / 8 + sample / 8,
                variation: former.variation * 3 / 4 + former.smoothed.abs_diff(sample) / 4,
            },
        }
    }

    fn wait(self) -> Duration {
        (self.smoothed + self.variation * 4).max(LEAST)
    }
}

pub struct Flow {
    pub key: Key,
    pub socket: OwnedFd,
    pub state: State,
    /// A client of a published port began it.
    pub is_published: bool,
    /// Others that may be connected to where this one refuses.
    pub spare: Vec<SocketAddr>,
    /// What goes to the container: acknowledged, sent (again), ever sent.
    una: u32,
    nxt: u32,
    max: u32,
    window: u32,
    scale: u8,
    mss: u16,
    pub readable: bool,
    /// The sequence number of our FIN.
    fin: Option<u32>,
    fin_acked: bool,
    duplicates: u32,
    /// How much may be on its way, since something was lost; where it grows slowly; and what had been sent by then.
    limit: u32,
    threshold: u32,
    recover: u32,
    round_trip: Option<RoundTrip>,
    /// The end of a segment whose round trip is measured, and when it was sent.
    timed: Option<(u32, Instant)>,
    /// What had been sent when its first segment was repeated, to be told what has arrived.
    asked: Option<u32>,
    /// Whether the kernel keeps our place in the socket's data.
    has_place: bool,
    /// What comes from the container: taken, and promised to be taken.
    rcv: u32,
    edge: u32,
    scales: bool,
    /// The largest window that is promised.
    pub most: u32,
    /// What the host's socket has not taken, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    ended: bool,
    shut: bool,
    pub ack_due: bool,
    /// It is among those that go on in the next turn.
    pub is_busy: bool,
    pub deadline: Option<Instant>,
    /// For the deadline.
    pub alarm: Alarm,
    repeats: u32,
}

impl Flow {
    pub fn new(key: Key, socket: OwnedFd, state: State, initial: u32) -> Flow {
        Flow {
            key,
            has_place: inet::set_peek_offset(socket.as_fd(), 0).is_ok(),
            socket,
            state,
            is_published: state == State::Offered,
            spare: vec![],
            una: initial,
            nxt: initial.wrapping_add(1),
            max: initial.wrapping_add(1),
            window: 0,
            scale: 0,
            mss: 536,
            readable: true,
            fin: None,
            fin_acked: false,
            duplicates: 0,
            limit: MOST_FLIGHT,
            threshold: MOST_FLIGHT,
            recover: initial,
            round_trip: None,
            timed: None,
            asked: None,
            rcv: 0,
            edge: 0,
            scales: false,
            most: WINDOW,
            pending: vec![],
            sent: 0,
            ended: false,
            shut: false,
            ack_due: false,
            is_busy: false,
            deadline: None,
            alarm: Alarm::default(),
            repeats: 0,
        }
    }

    /// Another socket, before the first has been connected.
    pub fn replace_socket(&mut self, socket: OwnedFd) {
        self.has_place = inet::set_peek_offset(socket.as_fd(), 0).is_ok();
        self.socket = socket;
    }

    /// How many bytes wait for the host's socket.
    pub fn held(&self) -> usize {
        self.pending.len() - self.sent
    }

    /// The sequence number of the SYN that opened it.
    pub fn opened_by(&self) -> u32 {
        self.rcv.wrapping_sub(1)
    }

    /// Takes what a SYN of the container says.
    pub fn learn(&mut self, segment: &Segment) {
        self.rcv = segment.sequence.wrapping_add(1);
        self.edge = self.rcv;
        self.mss = segment.mss.unwrap_or(536).max(packet::LEAST_SEGMENT);
        self.scales = segment.scale.is_some();
        self.scale = segment.scale.unwrap_or(0);
        // RFC 7323: the window of a SYN is not scaled.
        self.window = segment.window.into();
    }

    fn flight(&self) -> u32 {
        self.max.wrapping_sub(self.una)
    }

    /// The window as the header has it; what is said here is kept.
    fn promise(&mut self) -> u16 {
        let most = if self.scales { self.most } else { 65535 };
        let free = most.saturating_sub(u32::try_from(self.held()).unwrap_or(u32::MAX));
        let edge = self.rcv.wrapping_add(free);
        if ahead(edge, self.edge) {
            self.edge = edge;
        }
        let window = self.edge.wrapping_sub(self.rcv);
        let shift = if self.scales { SCALE } else { 0 };
        u16::try_from(window >> shift).unwrap_or(u16::MAX)
    }

    fn segment(&mut self, flags: u8, sequence: u32) -> Segment {
        let window = self.promise();
        self.ack_due = false;
        Segment {
            source: self.key.remote.port(),
            target: self.key.port,
            sequence,
            acknowledged: if flags & ACK == 0 { 0 } else { self.rcv },
            flags,
            window,
            mss: None,
            scale: None,
        }
    }

    fn send(&mut self, link: &mut Link, flags: u8, sequence: u32, length: usize) {
        let segment = self.segment(flags, sequence);
        let path = self.key.inward();
        let end = packet::tcp(&mut link.frame, path, &segment, length);
        let piece = self.piece(link);
        if length > usize::from(piece) {
            packet::mark_segments(&mut link.frame, path, piece);
        }
        link.send_own(end);
    }

    /// The largest segment, as its interface is now.
    fn piece(&self, link: &Link) -> u16 {
        let largest = link.largest_segment(self.key.remote.is_ipv4());
        self.mss.min(largest)
    }

    pub fn send_ack(&mut self, link: &mut Link) {
        let nxt = self.nxt;
        self.send(link, ACK, nxt, 0);
    }

    pub fn send_reset(&mut self, link: &mut Link) {
        let max = self.max;
        self.send(link, RST | ACK, max, 0);
    }

    /// The first segment to the container, in either direction of opening.
    pub fn send_syn(&mut self, link: &mut Link) {
        let flags = if self.state == State::Offered {
            SYN
        } else {
            SYN | ACK
        };
        if flags == SYN {
            // Nothing is known of the other end yet; it may take ours up.
            self.scales = true;
        }
        let mut segment = self.segment(flags, self.una);
        segment.window = u16::MAX;
        segment.scale = self.scales.then_some(SCALE);
        segment.mss = Some(link.largest_segment(self.key.remote.is_ipv4()));
        let path = self.key.inward();
        let end = packet::tcp(&mut link.frame, path, &segment, 0);
        link.send_own(end);
        self.timed = (self.repeats == 0).then_some((self.nxt, link.now));
        // A server whose queue is full has not seen it.
        self.set_deadline(link, Duration::from_millis(100));
    }

    fn set_deadline(&mut self, link: &Link, first: Duration) {
        // Answers stand in a queue with all else that the container sends.
        let late = if link.meter.outward.is_limited() {
            8
        } else {
            1
        };
        let wait = (first * late)
            .saturating_mul(1 << self.repeats.min(8))
            .min(LONGEST);
        self.deadline = Some(link.now + wait);
    }

    /// A segment of the container's; `room` is what all flows together may still keep.
    pub fn on_segment(
        &mut self,
        link: &mut Link,
        segment: &Segment,
        data: &[u8],
        room: usize,
    ) -> Next {
        if segment.has(RST) {
            return self.on_reset(segment);
        }
        match self.state {
            State::Offered => return self.on_answer(link, segment),
            State::Answered if segment.has(SYN) => {
                self.send_syn(link);
                return Next::Nothing;
            }
            State::Answered | State::Open if segment.has(SYN) => {
                self.ack_due = true;
                return Next::Nothing;
            }
            State::Answered if segment.has(ACK) && segment.acknowledged == self.nxt => {
                self.state = State::Open;
                self.una = self.nxt;
                self.settle(link);
            }
            // It says the same again until it is answered.
            State::Connecting | State::Answered => return Next::Nothing,
            State::Open => {}
        }
        if !segment.has(ACK) {
            return Next::Nothing;
        }
        self.repeats = 0;
        self.on_ack(link, segment, data.is_empty());
        if self.on_data(segment, data, room).is_err() {
            return Next::Broken;
        }
        self.close_if_ended();
        if self.is_over() {
            if self.ack_due {
                self.send_ack(link);
            }
            return Next::Over;
        }
        self.pump(link)
    }

    /// RFC 5961: only one that stands in the window counts.
    fn on_reset(&mut self, segment: &Segment) -> Next {
        let counts = match self.state {
            State::Connecting => segment.sequence == self.rcv,
            State::Offered => segment.has(ACK) && segment.acknowledged == self.nxt,
            // Its end is gone and remembers nothing, while what it has sent is still to be delivered.
            State::Open if self.ended && self.fin_acked => false,
            State::Answered | State::Open => {
                let distance = segment.sequence.wrapping_sub(self.rcv);
                distance <= self.edge.wrapping_sub(self.rcv)
            }
        };
        if counts { Next::Broken } else { Next::Nothing }
    }

    /// The container answers our SYN.
    fn on_answer(&mut self, link: &mut Link, segment: &Segment) -> Next {
        if !segment.has(ACK) {
            return Next::Nothing;
        }
        if segment.acknowledged != self.nxt {
            // What is left of a former connection; RFC 9293 has it reset, and then the SYN is heard.
            self.send(link, RST, segment.acknowledged, 0);
            self.deadline = Some(link.now);
            return Next::Nothing;
        }
        if !segment.has(SYN) {
            return Next::Nothing;
        }
        self.learn(segment);
        self.una = self.nxt;
        self.state = State::Open;
        self.settle(link);
        self.ack_due = true;
        self.pump(link)
    }

    fn settle(&mut self, link: &Link) {
        self.measure(link);
        self.deadline = None;
        self.repeats = 0;
    }

    fn on_ack(&mut self, link: &Link, segment: &Segment, is_bare: bool) {
        let acked = segment.acknowledged.wrapping_sub(self.una);
        if acked > self.flight() {
            // Old, or of what was never sent.
            self.ack_due |= ahead(segment.acknowledged, self.max);
            return;
        }
        let window = u32::from(segment.window) << self.scale;
        if acked > 0 {
            let fin_is_in = self
                .fin
                .is_some_and(|fin| segment.acknowledged == fin.wrapping_add(1));
            self.fin_acked |= fin_is_in;
            self.discard(acked - u32::from(fin_is_in));
            self.una = segment.acknowledged;
            if ahead(self.una, self.nxt) {
                self.nxt = self.una;
            }
            // Numbers wrap: what was repaired long ago is not ahead again.
            if !ahead(self.recover, self.una) {
                self.recover = self.una;
            }
            self.duplicates = 0;
            self.widen(link, acked);
            self.measure(link);
            // Less than was sent before it was asked has arrived: the rest is lost.
            if let Some(sent) = self.asked.take()
                && ahead(sent, self.una)
            {
                self.rewind_narrowly(link);
            }
            self.deadline = None;
            if self.flight() > 0 {
                self.set_deadline(link, self.wait());
            }
        } else if self.flight() > 0 && self.window == 0 && window > 0 {
            // Linux closes the window when it has no memory for what arrives, and has dropped that
            // (`tcp_data_queue`, `ICSK_ACK_NOMEM`).
            self.rewind();
        } else if is_bare && self.flight() > 0 && window == self.window {
            self.duplicates += 1;
            // What is sent again is answered so too, when it had arrived (RFC 6582).
            if self.duplicates == 3 && !ahead(self.recover, self.una) {
                self.rewind_narrowly(link);
            }
        }
        self.window = window;
    }

    /// What has been acknowledged may end the measurement of a round trip.
    fn measure(&mut self, link: &Link) {
        if let Some((end, sent)) = self.timed
            && !ahead(end, self.una)
        {
            let sample = link.now.saturating_duration_since(sent);
            self.round_trip = Some(RoundTrip::after(self.round_trip, sample));
            self.timed = None;
        }
    }

    /// How long the acknowledgement of what was sent may take.
    fn wait(&self) -> Duration {
        self.round_trip.map_or(REPEAT, RoundTrip::wait)
    }

    /// Takes from the host's socket what the container has got.
    fn discard(&self, length: u32) {
        let mut left = length as usize;
        while left > 0 {
            match inet::discard(self.socket.as_fd(), left) {
                Ok(taken @ 1..) => left -= taken.min(left),
                Err(Errno::INTR) => {}
                // It was looked at before: only a socket that broke in between has lost it.
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Goes back to what was not acknowledged.
    fn rewind(&mut self) {
        if self.has_place {
            inet::set_peek_offset(self.socket.as_fd(), 0).ok();
        }
        self.nxt = self.una;
        self.fin = None;
        self.readable = true;
        self.forget_measurements();
    }

    /// `rewind`, when something was lost on its way. The container may be a router to where less may be on its way than
    /// here; so it begins anew with little, as RFC 5681 has it after a loss that a timer told of.
    fn rewind_narrowly(&mut self, link: &Link) {
        let piece = u32::from(self.piece(link));
        self.threshold = (self.flight() / 2).max(2 * piece);
        self.limit = 2 * piece;
        self.recover = self.max;
        self.rewind();
    }

    /// More may be on its way when some has arrived (RFC 5681, section 3.1).
    fn widen(&mut self, link: &Link, acked: u32) {
        if self.limit < MOST_FLIGHT {
            let pieces = self.limit / u32::from(self.piece(link)).max(1);
            let more = if self.limit < self.threshold {
                acked
            } else {
                acked.div_ceil(pieces.max(1))
            };
            self.limit = (self.limit + more).min(MOST_FLIGHT);
        }
    }

    /// Of what is sent twice it is not known which was acknowledged (RFC 6298, section 3).
    fn forget_measurements(&mut self) {
        self.timed = None;
        self.asked = None;
    }

    /// Sends the first segment that was not acknowledged again: whether the container has it or not, it says at
    /// once how far what it has goes.
    fn ask(&mut self, link: &mut Link) -> Result<(), Errno> {
        let (nxt, max, fin) = (self.nxt, self.max, self.fin);
        self.set_deadline(link, self.wait());
        self.rewind();
        let length = u32::from(self.piece(link)).min(self.flight());
        self.send_some(link, length, 0)?;
        if ahead(nxt, self.nxt) {
            (self.nxt, self.fin) = (nxt, fin);
            let place = nxt.wrapping_sub(self.una) - u32::from(fin.is_some());
            if let (true, Ok(place)) = (self.has_place, i32::try_from(place)) {
                inet::set_peek_offset(self.socket.as_fd(), place).ok();
            }
        }
        self.asked = Some(max);
        Ok(())
    }

    /// Data of the container, as far as they are the next ones.
    fn on_data(&mut self, segment: &Segment, data: &[u8], room: usize) -> Result<(), Errno> {
        let has_fin = segment.has(FIN);
        if data.is_empty() && !has_fin {
            // A probe of one that is before the window.
            self.ack_due |= ahead(self.rcv, segment.sequence);
            return Ok(());
        }
        self.ack_due = true;
        let known = self.rcv.wrapping_sub(segment.sequence) as usize;
        if ahead(segment.sequence, self.rcv) || known > data.len() || self.ended {
            return Ok(());
        }
        let fresh = &data[known..];
        let promised = self.edge.wrapping_sub(self.rcv) as usize;
        let taken = self.take(&fresh[..fresh.len().min(promised)], room)?;
        self.rcv = self.rcv.wrapping_add(u32::try_from(taken).unwrap_or(0));
        if !ahead(self.edge, self.rcv) {
            self.edge = self.rcv;
        }
        if has_fin && taken == fresh.len() {
            self.rcv = self.rcv.wrapping_add(1);
            self.edge = self.edge.wrapping_add(1);
            self.ended = true;
        }
        Ok(())
    }

    /// Gives data to the host's socket, and keeps what it does not take as far as there is room.
    fn take(&mut self, data: &[u8], room: usize) -> Result<usize, Errno> {
        let mut sent = 0;
        if self.held() == 0 && !data.is_empty() {
            sent = self.write(data)?;
        }
        let kept = (data.len() - sent).min(room);
        self.pending.extend_from_slice(&data[sent..sent + kept]);
        Ok(sent + kept)
    }

    fn write(&self, data: &[u8]) -> Result<usize, Errno> {
        match rustix::net::send(
            &self.socket,
            data,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    fn close_if_ended(&mut self) {
        if self.ended && !self.shut && self.held() == 0 {
            rustix::net::shutdown(&self.socket, Shutdown::Write).ok();
            self.shut = true;
        }
    }

    /// Whether all that the container will ever send is with the host's socket.
    pub fn has_shut(&self) -> bool {
        self.shut || self.state != State::Open
    }

    fn is_over(&self) -> bool {
        self.shut && self.fin_acked
    }

    /// The host's socket has room again.
    pub fn on_writable(&mut self, link: &mut Link) -> Next {
        while self.held() > 0 {
            match self.write(&self.pending[self.sent..]) {
                Ok(0) => break,
                Ok(sent) => self.sent += sent,
                Err(_) => return Next::Broken,
            }
        }
        if self.held() == 0 {
            self.pending = vec![];
            self.sent = 0;
        } else if self.sent > self.pending.len() / 2 {
            self.pending.drain(..self.sent);
            self.sent = 0;
        }
        self.close_if_ended();
        let told = self.edge.wrapping_sub(self.rcv);
        // Who has sent all may be gone, and would answer with a reset.
        if !self.ended && told < WINDOW / 2 && self.held() < WINDOW as usize / 2 {
            self.send_ack(link);
        }
        if self.is_over() {
            Next::Over
        } else {
            Next::Nothing
        }
    }

    /// Sends what the host's socket has, as far as the container's window goes and a turn may last.
    pub fn pump(&mut self, link: &mut Link) -> Next {
        const FRAMES: usize = 8;
        if self.state != State::Open {
            return Next::Nothing;
        }
        for _ in 0..FRAMES {
            if !self.readable || self.fin.is_some() || self.fin_acked {
                return Next::Nothing;
            }
            if link.meter.inward.is_empty() {
                return Next::More;
            }
            let flight = self.nxt.wrapping_sub(self.una);
            let mut room = self.window.min(self.limit).saturating_sub(flight);
            if !self.has_place {
                room = room.min(SLOW_FLIGHT.saturating_sub(flight));
            }
            // A little room in a window that will open further makes for little segments.
            let piece = u32::from(self.piece(link));
            if room == 0 || (room < piece && flight > 0 && room < self.window / 2) {
                if self.deadline.is_none() {
                    self.set_deadline(link, Duration::from_secs(1));
                }
                return Next::Nothing;
            }
            let most = match link.meter.inward.portion(LARGEST) {
                portion if portion > piece => portion / piece * piece,
                portion => portion,
            };
            match self.send_some(link, room.min(most), flight) {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(_) => return Next::Broken,
            }
        }
        Next::More
    }

    fn send_some(&mut self, link: &mut Link, length: u32, flight: u32) -> Result<(), Errno> {
        let path = self.key.inward();
        let start = packet::tcp_payload_at(path);
        let read = self.peek(&mut link.frame[start..start + length as usize], flight)?;
        let nxt = self.nxt;
        if read == 0 {
            self.fin = Some(nxt);
            self.nxt = nxt.wrapping_add(1);
            self.send(link, FIN | ACK, nxt, 0);
        } else {
            self.nxt = nxt.wrapping_add(u32::try_from(read).expect("a segment is short"));
            self.send(link, ACK | PSH, nxt, read);
        }
        if ahead(self.nxt, self.max) {
            self.max = self.nxt;
            self.timed = self.timed.or(Some((self.nxt, link.now)));
        }
        if self.deadline.is_none() {
            self.set_deadline(link, self.wait());
        }
        Ok(())
    }

    /// Reads what comes after that which is on its way, and leaves it in the socket: that is the memory of what
    /// may have to be sent again.
    fn peek(&self, buffer: &mut [u8], flight: u32) -> Result<usize, Errno> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        if self.has_place {
            return rustix::net::recv(&self.socket, buffer, flags).map(|(read, _)| read);
        }
        let flight = flight as usize;
        let mut all = vec![0; flight + buffer.len()];
        let (read, _) = rustix::net::recv(&self.socket, &mut all[..], flags)?;
        let fresh = all.get(flight..read).unwrap_or_default();
        if fresh.is_empty() && !self.is_at_end() {
            return Err(Errno::AGAIN);
        }
        buffer[..fresh.len()].copy_from_slice(fresh);
        Ok(fresh.len())
    }

    /// Whether the peer of the host's socket has closed.
    fn is_at_end(&self) -> bool {
        use rustix::event::PollFd;
        use rustix::event::PollFlags;
        use rustix::event::Timespec;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut set = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        rustix::event::poll(&mut set, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// The wait is over: what was sent is sent again, or a closed window is looked at.
    pub fn on_timer(&mut self, link: &mut Link) -> Next {
        self.deadline = None;
        self.repeats += 1;
        match self.state {
            State::Connecting => return Next::Nothing,
            State::Offered | State::Answered if self.repeats > MOST_SYNS => return Next::Broken,
            State::Offered | State::Answered => self.send_syn(link),
            State::Open if self.repeats > MOST_REPEATS => return Next::Broken,
            State::Open if self.flight() > 0 && self.window > 0 && self.repeats == 1 => {
                return match self.ask(link) {
                    Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Next::Nothing,
                    Err(_) => Next::Broken,
                };
            }
            State::Open if self.flight() > 0 && self.window > 0 => {
                self.rewind_narrowly(link);
                return self.pump(link);
            }
            State::Open if self.flight() > 0 || self.readable => {
                // RFC 9293: what is before the window is answered with the window.
                let before = self.una.wrapping_sub(1);
                self.send(link, ACK, before, 0);
                self.set_deadline(link, Duration::from_secs(1));
            }
            State::Open => {}
        }
        Next::Nothing
    }
}

/// Whether one sequence number comes after another.
fn ahead(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}
