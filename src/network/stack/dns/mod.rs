//! DNS for the container: names of its networks are answered here, and other questions go to one resolver after the
//! other until one answers.
//!
//! The host's resolv.conf is looked at for each question, so that its changes are followed; where it names nobody,
//! the container hears at once that the server failed. Over TCP questions are taken where names are known (`names`);
//! without any, the resolver's address is like any other there, see `route`.

mod exchange;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::network::dns::Code;
use crate::network::dns::LONGEST_QUESTION;
use crate::network::dns::Query;
use crate::network::dns::stream::Stream;
use crate::network::names::Names;
use crate::network::stack::dns::exchange::Exchange;
use crate::network::stack::link::Link;
use crate::network::stack::packet;
use crate::network::stack::packet::Path;
use crate::network::stack::route::Access;
use crate::network::stack::route::DNS;
use crate::network::stack::slab::Id;
use crate::network::stack::slab::Kind;
use crate::network::stack::slab::Slab;

/// The oldest question is given up when there are more.
const MOST: usize = 512;
/// How long each resolver has; glibc asks again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;

/// Clients over TCP; the one that was silent for longest goes when there are more.
const CLIENTS: usize = 32;
/// Questions of one of them that are not answered yet, and bytes of answers that it has not taken; before it has
/// more, it is not listened to.
const UNANSWERED: usize = 8;
const UNREAD: usize = 64 * 1024;
/// How long one may stay without a word (RFC 7766, section 6.2.3: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone, Copy)]
enum Asker {
    /// From this port of the container's, and whom, as it knows it.
    Datagram {
        from: SocketAddr,
        resolver: IpAddr,
    },
    Client(Id),
}

struct Question {
    asker: Asker,
    query: Query,
    text: Vec<u8>,
    /// Those that are still to be asked, the next one last.
    left: Vec<SocketAddr>,
    server: Option<SocketAddr>,
    exchange: Option<Exchange>,
    /// What one has said who could not answer, for the case that nobody can.
    unable: Option<Vec<u8>>,
    deadline: Instant,
}

/// The other end of a connection of the container's.
struct Client {
    stream: Stream,
    unanswered: usize,
    last: Instant,
    watched: EventFlags,
}

pub struct Dns {
    questions: Slab<Question>,
    clients: Slab<Client>,
    /// Clients that may have more questions than they could have before.
    resumed: Vec<Id>,
    names: Option<Names>,
}

impl Dns {
    pub fn new(names: Option<Names>) -> Dns {
        Dns {
            questions: Slab::new(),
            clients: Slab::new(),
            resumed: vec![],
            names,
        }
    }

    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.questions.len() == 0
    }

    pub fn contains(&self, id: Id) -> bool {
        self.questions.contains(id)
    }

    pub fn contains_client(&self, id: Id) -> bool {
        self.clients.contains(id)
    }

    /// A datagram of the container's.
    pub fn ask(&mut self, link: &mut Link, from: SocketAddr, resolver: IpAddr, text: &[u8]) {
        if text.len() <= LONGEST_QUESTION {
            self.take(link, Asker::Datagram { from, resolver }, text);
            self.resume(link);
        }
    }

    /// A question; what is none is dropped.
    fn take(&mut self, link: &mut Link, asker: Asker, text: &[u8]) {
        let query = match Query::parse(text) {
            Ok(query) => query,
            Err(Some(said)) => return self.answer(link, asker, &said),
            Err(None) => return,
        };
        if let Some(names) = &mut self.names
            && let Some((code, data)) = names.decide(&query)
        {
            let answer = query.answer(code, &data, limit(asker, &query));
            return self.answer(link, asker, &answer);
        }
        if self.questions.len() >= MOST {
            let oldest = self.questions.iter().min_by_key(|(_, one)| one.deadline);
            if let Some(id) = oldest.map(|(id, _)| id) {
                self.give_up(link, id);
            }
        }
        let left = self.in_turn(link);
        if let Asker::Client(id) = asker
            && let Some(client) = self.clients.get_mut(id)
        {
            client.unanswered += 1;
        }
        let id = self.questions.insert(Question {
            asker,
            query,
            text: text.to_vec(),
            left,
            server: None,
            exchange: None,
            unable: None,
            deadline: link.now + PATIENCE,
        });
        if link.router.access == Access::Open {
            self.ask_next(link, id);
        } else {
            // `ask_anew` goes on with it.
            link.timers.push(link.now + PATIENCE, id.token(Kind::Dns));
        }
    }

    fn servers(&self, link: &mut Link) -> Vec<SocketAddr> {
        if link.router.closed {
            return vec![];
        }
        let own = self.names.as_ref().map(Names::servers);
        match own.filter(|own| !own.is_empty()) {
            Some(own) => own,
            None => link.router.resolvers(),
        }
    }

    /// There are other resolvers: what has no answer yet is theirs.
    pub fn ask_anew(&mut self, link: &mut Link) {
        let ids: Vec<Id> = self.questions.iter().map(|(id, _)| id).collect();
        let left = self.in_turn(link);
        for id in ids {
            if let Some(question) = self.questions.get_mut(id) {
                question.left.clone_from(&left);
            }
            self.ask_next(link, id);
        }
        self.resume(link);
    }

    /// Who is asked for one question, the last one first.
    fn in_turn(&self, link: &mut Link) -> Vec<SocketAddr> {
        let mut all = self.servers(link).repeat(ROUNDS);
        all.reverse();
        all
    }

    fn ask_next(&mut self, link: &mut Link, id: Id) {
        let Some(question) = self.questions.get_mut(id) else {
            return;
        };
        while let Some(server) = question.left.pop() {
            question.server = Some(server);
            if let Ok(exchange) = Exchange::by_datagram(server, &question.text)
                && wait(link, id, question, exchange).is_ok()
            {
                return;
            }
        }
        self.give_up(link, id);
    }

    /// Nobody can answer it.
    fn give_up(&mut self, link: &mut Link, id: Id) {
        if let Some(question) = self.questions.remove(id) {
            let failed = || question.query.fail(Code::ServerFailed);
            let text = question.unable.clone().unwrap_or_else(failed);
            self.end(link, &question, text);
        }
    }

    /// What a resolver has said.
    pub fn on_event(&mut self, link: &mut Link, id: Id) {
        self.receive(link, id);
        self.resume(link);
    }

    fn receive(&mut self, link: &mut Link, id: Id) {
        let Some(question) = self.questions.get_mut(id) else {
            return;
        };
        let Some(exchange) = &mut question.exchange else {
            return;
        };
        let was_sending = exchange.is_sending();
        let (reply, answer) = match exchange.receive(&question.query) {
            Ok(Some(answered)) => answered,
            Ok(None) => {
                if was_sending && !exchange.is_sending() {
                    let token = id.token(Kind::Dns);
                    link.change_watch(&*exchange, token, EventFlags::IN).ok();
                }
                return;
            }
            Err(_) => return self.ask_next(link, id),
        };
        if reply.unable {
            // Once is enough for it.
            let server = question.server;
            question.left.retain(|other| Some(*other) != server);
            question.unable = Some(answer);
            return self.ask_next(link, id);
        }
        let is_datagram = !exchange.is_stream();
        if reply.truncated
            && is_datagram
            && matches!(question.asker, Asker::Client(_))
            && let Some(server) = question.server
            && let Ok(exchange) = Exchange::by_stream(server, &question.text)
            && wait(link, id, question, exchange).is_ok()
        {
            // What there is of it, should the rest not come.
            question.unable = Some(answer);
            return;
        }
        if let Some(question) = self.questions.remove(id) {
            self.end(link, &question, answer);
        }
    }

    pub fn on_timer(&mut self, link: &mut Link, id: Id) {
        let question = self.questions.get_mut(id);
        if question.is_some_and(|question| question.deadline <= link.now) {
            self.ask_next(link, id);
            self.resume(link);
        }
    }

    /// The end of a question that was asked of others.
    fn end(&mut self, link: &mut Link, question: &Question, mut text: Vec<u8>) {
        if let Asker::Client(id) = question.asker
            && let Some(client) = self.clients.get_mut(id)
        {
            client.unanswered -= 1;
            self.resumed.push(id);
        }
        if text.len() > limit(question.asker, &question.query) {
            text = question.query.truncated(&text);
        }
        self.answer(link, question.asker, &text);
    }

    fn resume(&mut self, link: &mut Link) {
        while let Some(id) = self.resumed.pop() {
            self.listen(link, id);
        }
    }

    fn answer(&mut self, link: &mut Link, asker: Asker, text: &[u8]) {
        match asker {
            Asker::Datagram { from, resolver } => send(link, resolver, from, text),
            Asker::Client(id) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.last = link.now;
                    if client.stream.put(text).is_err() {
                        self.clients.remove(id);
                    }
                }
            }
        }
    }

    /// The other end of a connection of the container's.
    pub fn accept(&mut self, link: &mut Link, socket: OwnedFd) {
        if self.clients.len() >= CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, one)| one.last);
            if let Some(id) = oldest.map(|(id, _)| id) {
                self.clients.remove(id);
            }
        }
        let watched = EventFlags::IN;
        let id = self.clients.insert(Client {
            stream: Stream::new(socket, LONGEST_QUESTION),
            unanswered: 0,
            last: link.now,
            watched,
        });
        let token = id.token(Kind::DnsClient);
        link.timers.push(link.now + IDLE, token);
        if let Some(client) = self.clients.get_mut(id)
            && link.watch(&client.stream, token, watched).is_err()
        {
            self.clients.remove(id);
        }
    }

    /// What epoll says of a client.
    pub fn on_client(&mut self, link: &mut Link, id: Id, events: EventFlags) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let is_gone = events.intersects(EventFlags::HUP | EventFlags::ERR);
        let is_asking = client.watched.contains(EventFlags::IN);
        if is_gone || client.stream.flush().is_err() || (is_asking && client.stream.fill().is_err())
        {
            self.clients.remove(id);
            return;
        }
        self.listen(link, id);
        self.resume(link);
    }

    /// Takes the questions of a client that were read, as far as it may have more.
    fn listen(&mut self, link: &mut Link, id: Id) {
        while let Some(client) = self.clients.get_mut(id) {
            if client.is_full() {
                break;
            }
            match client.stream.next() {
                Ok(Some(text)) => {
                    client.last = link.now;
                    self.take(link, Asker::Client(id), &text);
                }
                Ok(None) => break,
                Err(_) => drop(self.clients.remove(id)),
            }
        }
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.is_over() {
            self.clients.remove(id);
            return;
        }
        let wanted = client.wanted();
        if wanted != client.watched {
            client.watched = wanted;
            let token = id.token(Kind::DnsClient);
            link.change_watch(&client.stream, token, wanted).ok();
        }
    }

    pub fn on_client_timer(&mut self, link: &mut Link, id: Id) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.unanswered > 0 {
            client.last = link.now;
        }
        let ends = client.last + IDLE;
        if ends > link.now {
            link.timers.push(ends, id.token(Kind::DnsClient));
        } else {
            self.clients.remove(id);
        }
    }
}

impl Client {
    fn is_full(&self) -> bool {
        self.unanswered >= UNANSWERED || self.stream.owed() >= UNREAD
    }

    /// It asks nothing more, and has all answers.
    fn is_over(&self) -> bool {
        self.stream.ended && self.unanswered == 0 && self.stream.owed() == 0
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        if !self.is_full() && !self.stream.ended {
            wanted |= EventFlags::IN;
        }
        if self.stream.owed() > 0 {
            wanted |= EventFlags::OUT;
        }
        wanted
    }
}

/// The largest answer that is taken.
fn limit(asker: Asker, query: &Query) -> usize {
    match asker {
        Asker::Datagram { .. } => query.limit(),
        Asker::Client(_) => usize::from(u16::MAX),
    }
}

/// A question waits for the end of an exchange.
fn wait(link: &mut Link, id: Id, question: &mut Question, exchange: Exchange) -> Result<(), Errno> {
    let token = id.token(Kind::Dns);
    let mut events = EventFlags::IN;
    if exchange.is_sending() {
        events |= EventFlags::OUT;
    }
    link.watch(&exchange, token, events)?;
    question.exchange = Some(exchange);
    question.deadline = link.now + PATIENCE;
    link.timers.push(question.deadline, token);
    Ok(())
}

fn send(link: &mut Link, resolver: IpAddr, to: SocketAddr, text: &[u8]) {
    let path = Path {
        source: resolver,
        target: to.ip(),
    };
    let start = packet::udp_payload_at(path);
    if text.len() > packet::FRAME - start {
        return;
    }
    link.frame[start..start + text.len()].copy_from_slice(text);
    let end = packet::udp(&mut link.frame, path, DNS, to.port(), text.len());
    link.send_own(end);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::addresses::Addresses;
    use crate::network::dns;
    use crate::network::dns::question;
    use crate::network::stack::Network;
    use crate::network::stack::packet::ACK;
    use crate::network::stack::packet::FIN;
    use crate::network::stack::packet::SYN;
    use crate::network::stack::tests::answer;
    use crate::network::stack::tests::segment;
    use crate::network::stack::tests::served_with;
    use crate::store::dirs::Dirs;

    const PORT: u16 = 40_000;

    /// On a network of which nothing is known, whose gateway is its resolver; `dns.podman` is the one name that is decided here.
    fn network(servers: &[SocketAddr]) -> (Network, UnixDatagram) {
        let chosen = Addresses::choose();
        let addresses = Addresses {
            resolver4: chosen.gateway4,
            ..chosen
        };
        let mut names = Names::new(&Dirs::default(), "none", &[]);
        names.servers = servers.to_vec();
        served_with(addresses, Some(names))
    }

    fn ask(network: &mut Network, container: &UnixDatagram, text: &[u8]) {
        let path = network
            .link
            .outward(network.link.addresses.resolver4.into());
        let start = packet::udp_payload_at(path);
        let mut frame = vec![0; packet::FRAME];
        frame[start..start + text.len()].copy_from_slice(text);
        let end = packet::udp(&mut frame, path, PORT, DNS, text.len());
        container.send(&frame[..end]).unwrap();
        network.serve();
    }

    /// The datagram that the container has got, if it is there already.
    fn got(network: &mut Network, container: &UnixDatagram) -> Option<Vec<u8>> {
        network.serve();
        let mut frame = vec![0; packet::FRAME];
        let length = container.recv(&mut frame).ok()?;
        let (_, bytes) = packet::ethernet(&frame[..length]).unwrap();
        let packet = packet::ipv4(bytes).unwrap();
        let (source, target, payload) = packet::parse_udp(packet.payload).unwrap();
        assert_eq!((source, target), (DNS, PORT));
        assert_eq!(packet.source, network.link.addresses.gateway4);
        Some(payload.to_vec())
    }

    fn resolver() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    }

    fn asked(resolver: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 5000];
        let (length, from) = resolver.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), from)
    }

    /// An answer to a question as it was asked, with some bytes of records.
    fn reply(asked: &[u8], flags: u8, more: usize) -> Vec<u8> {
        let mut reply = asked.to_vec();
        reply[2] = 0x81 | flags;
        reply[3] = 0x80;
        reply.extend(vec![b'x'; more]);
        reply
    }

    #[test]
    fn only_who_was_asked_answers_and_only_what_was_asked() {
        let server = resolver();
        let (mut network, container) = network(&[server.local_addr().unwrap()]);
        ask(
            &mut network,
            &container,
            &question("x.dns.podman", dns::A, b""),
        );
        assert_eq!(
            got(&mut network, &container).unwrap()[..4],
            *b"\x12\x34\x85\x83"
        );
        let own = question("example.com", dns::A, b"");
        ask(&mut network, &container, &own);
        let (text, from) = asked(&server);
        assert_eq!(text[2..], own[2..]);
        let right = reply(&text, 0, 10);
        let mut wrong_id = right.clone();
        wrong_id[0] ^= 1;
        let mut wrong_name = right.clone();
        wrong_name[14] ^= 1;
        // Another user of the host, and then the server itself.
        resolver().send_to(&right, from).ok();
        for wrong in [&wrong_id, &wrong_name, &text] {
            server.send_to(wrong, from).unwrap();
        }
        assert_eq!(got(&mut network, &container), None);
        server.send_to(&right, from).unwrap();
        let expected = [b"\x12\x34", &right[2..]].concat();
        assert_eq!(got(&mut network, &container), Some(expected));
        assert!(!(0..4).all(|_| {
            ask(&mut network, &container, &own);
            asked(&server).0[..2] == own[..2]
        }));
    }

    #[test]
    fn an_answer_that_is_larger_than_is_taken_is_cut() {
        let server = resolver();
        let (mut network, container) = network(&[server.local_addr().unwrap()]);
        for (more, flags) in [(400, 0x81), (600, 0x83)] {
            ask(
                &mut network,
                &container,
                &question("example.com", dns::A, b""),
            );
            let (text, from) = asked(&server);
            server.send_to(&reply(&text, 0, more), from).unwrap();
            let got = got(&mut network, &container).unwrap();
            assert_eq!(got[2], flags);
            assert!(got.len() <= 512);
        }
    }

    #[test]
    fn a_server_that_refuses_is_not_the_last_one() {
        let servers = [resolver(), resolver()];
        let places = servers.each_ref().map(|one| one.local_addr().unwrap());
        let (mut network, container) = network(&places);
        let refuse = |server: &UdpSocket| {
            let (text, from) = asked(server);
            let mut reply = reply(&text, 0, 0);
            reply[3] |= 5;
            server.send_to(&reply, from).unwrap();
        };
        let own = question("example.com", dns::A, b"");
        ask(&mut network, &container, &own);
        refuse(&servers[0]);
        assert_eq!(got(&mut network, &container), None);
        let (text, from) = asked(&servers[1]);
        servers[1].send_to(&reply(&text, 0, 0), from).unwrap();
        assert_eq!(
            got(&mut network, &container).unwrap()[..4],
            *b"\x12\x34\x81\x80"
        );
        ask(&mut network, &container, &own);
        refuse(&servers[0]);
        assert_eq!(got(&mut network, &container), None);
        refuse(&servers[1]);
        assert_eq!(
            got(&mut network, &container).unwrap()[..4],
            *b"\x12\x34\x81\x85"
        );
    }

    #[test]
    fn over_tcp_a_long_answer_is_fetched_over_tcp() {
        // A port that is free for the one may be taken for the other.
        let both = || {
            let server = resolver();
            let place = server.local_addr().unwrap();
            Some((server, TcpListener::bind(place).ok()?, place))
        };
        let (server, listener, place) = std::iter::repeat_with(both).flatten().next().unwrap();
        let (mut network, _container) = network(&[place]);
        let (mut client, ours) = UnixStream::pair().unwrap();
        network.dns.accept(&mut network.link, ours.into());
        let own = question("example.com", dns::A, b"");
        let framed =
            |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
        client.write_all(&framed(&own)).unwrap();
        network.serve();
        let (text, from) = asked(&server);
        server.send_to(&reply(&text, 2, 0), from).unwrap();
        network.serve();
        let (mut peer, _) = listener.accept().unwrap();
        network.serve();
        let mut again = vec![0; own.len() + 2];
        peer.read_exact(&mut again).unwrap();
        assert_eq!(again[4..], own[2..]);
        let long = reply(&again[2..], 0, 60_000);
        peer.write_all(&framed(&long)).unwrap();
        let mut got = vec![0; long.len() + 2];
        client.set_nonblocking(true).unwrap();
        let mut filled = 0;
        for _ in 0..1000 {
            network.serve();
            filled += client.read(&mut got[filled..]).unwrap_or(0);
            if filled == got.len() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(got[4..filled], long[2..]);
        assert_eq!(got[2..4], own[..2]);
    }

    #[test]
    fn who_reads_no_answers_is_not_heard_and_who_asks_without_end_ends() {
        // Nobody sends to all machines, not even to ask them.
        let (mut network, _container) = network(&["255.255.255.255:53".parse().unwrap()]);
        let connect = |network: &mut Network| {
            let (client, ours) = UnixStream::pair().unwrap();
            client.set_nonblocking(true).unwrap();
            network.dns.accept(&mut network.link, ours.into());
            client
        };
        let owed = |network: &Network| -> usize {
            let clients = network.dns.clients.iter();
            clients.map(|(_, one)| one.stream.owed()).sum()
        };
        // One that is answered here, and one that nobody can be asked.
        for name in ["x.dns.podman", "example.com"] {
            let mut client = connect(&mut network);
            let text = question(name, dns::A, b"");
            let framed = [&[0, u8::try_from(text.len()).unwrap()], &text[..]].concat();
            let many = framed.repeat(4096 / framed.len());
            let mut asked = 0;
            while let Ok(length) = client.write(&many) {
                asked += length / framed.len();
                assert!(asked < 100_000, "{name}");
                network.serve();
                assert!(owed(&network) < 2 * UNREAD, "{name}");
            }
            assert!(owed(&network) >= UNREAD, "{name}");
            let mut got = 0;
            while got < asked * framed.len() {
                match client.read(&mut [0; 4096]) {
                    Ok(length) => got += length,
                    Err(_) => network.serve(),
                }
            }
        }
        let mut client = connect(&mut network);
        network.serve();
        assert_eq!(network.dns.clients.len(), 1);
        client.write_all(b"\xff\xff").unwrap();
        network.serve();
        assert_eq!(network.dns.clients.len(), 0);
    }

    #[test]
    fn the_resolver_is_asked_over_tcp() {
        let (mut network, container) = network(&[]);
        let send = |network: &mut Network, fields: (u8, u32, u32), data: &[u8]| {
            let frame = segment(network, DNS, fields, data);
            container.send(&frame).unwrap();
        };
        send(&mut network, (SYN, 1000, 0), b"");
        let (reply, _) = answer(&mut network, &container);
        assert_eq!((reply.flags, reply.acknowledged), (SYN | ACK, 1001));
        let mut next = reply.sequence.wrapping_add(1);
        let mut ours = 1001;
        let something = |network: &mut Network| loop {
            let (_, data) = answer(network, &container);
            if !data.is_empty() {
                break data;
            }
        };
        for number in 0..3 {
            let mut text = question("x.dns.podman", dns::A, b"");
            text[0] = number;
            let framed = [&[0, u8::try_from(text.len()).unwrap()], &text[..]].concat();
            send(&mut network, (ACK, ours, next), &framed);
            let data = something(&mut network);
            assert_eq!(data[..6], [0, framed[1], number, 0x34, 0x85, 0x83]);
            assert_eq!(data.len(), framed.len());
            // What was not acknowledged comes again, and what was does not.
            assert_eq!(something(&mut network), data);
            let length = u32::try_from(framed.len()).unwrap();
            ours += length;
            next = next.wrapping_add(length);
        }
        send(&mut network, (ACK | FIN, ours, next), b"");
        let end = loop {
            let (segment, data) = answer(&mut network, &container);
            assert_eq!(data, b"");
            if segment.has(FIN) {
                break segment;
            }
        };
        assert_eq!(end.sequence, next);
        send(&mut network, (ACK, ours + 1, next.wrapping_add(1)), b"");
        network.serve();
        network.serve();
        assert_eq!((network.tcp.len(), network.dns.clients.len()), (0, 0));
    }
}
