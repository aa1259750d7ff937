//! A whole network whose device is a socket of the test's, which plays the container.

mod limits;

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use proptest::prelude::*;

use super::*;
use crate::network::stack::packet::ACK;
use crate::network::stack::packet::SYN;
use crate::network::stack::packet::Segment;
use crate::text::egress;
use crate::text::rate;

/// A network whose device is a socket of the test's.
fn served() -> (Network, UnixDatagram) {
    served_with(Addresses::choose(), None)
}

pub fn served_with(addresses: Addresses, names: Option<Names>) -> (Network, UnixDatagram) {
    made(addresses, names, "", "unlimited")
}

pub fn limited(rules: &str, rates: &str) -> (Network, UnixDatagram) {
    made(Addresses::choose(), None, rules, rates)
}

fn made(
    addresses: Addresses,
    names: Option<Names>,
    rules: &str,
    rates: &str,
) -> (Network, UnixDatagram) {
    let (container, tap) = UnixDatagram::pair().unwrap();
    container.set_nonblocking(true).unwrap();
    tap.set_nonblocking(true).unwrap();
    let settings = Settings {
        addresses,
        mac: CONTAINER_MAC,
        mtu: MTU,
        is_internal: false,
        names,
        host_loopback: true,
        rules: &egress::parse(rules).unwrap(),
        servers: &[],
        rates: rate::parse(rates).unwrap(),
    };
    let mut network = Network::new(settings, Listeners::default()).unwrap();
    network.attach(tap.into()).unwrap();
    (network, container)
}

#[test]
fn an_address_of_a_family_that_it_does_not_have_is_not_the_containers() {
    let all = Addresses::choose();
    let v4 = Some((all.container4, all.gateway4));
    let v6 = Some((all.container6, all.gateway6));
    for (addresses, expected) in [
        (all, [true, true]),
        (Addresses::on_network(v4, None), [true, false]),
        (Addresses::on_network(None, v6), [false, true]),
    ] {
        let (network, _container) = made(addresses, None, "", "unlimited");
        let own = [addresses.container4.into(), addresses.container6.into()];
        assert_eq!(own.map(|ip| network.link.is_container(ip)), expected);
    }
}

/// A segment of the container's to a port of the host.
pub fn segment(network: &Network, port: u16, fields: (u8, u32, u32), data: &[u8]) -> Vec<u8> {
    windowed(network, port, fields, 100, data)
}

fn windowed(
    network: &Network,
    port: u16,
    fields: (u8, u32, u32),
    window: u16,
    data: &[u8],
) -> Vec<u8> {
    let path = network.link.outward(network.link.addresses.gateway4.into());
    let (flags, sequence, acknowledged) = fields;
    let segment = Segment {
        source: 40000,
        target: port,
        sequence,
        acknowledged,
        flags,
        window,
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
pub fn answer(network: &mut Network, container: &UnixDatagram) -> (Segment, Vec<u8>) {
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut network, container) = served();
    let first = connected(port, &mut network, &container, Duration::ZERO);
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

/// Urgent data are data in their place, as RFC 6093 has it.
#[test]
fn what_is_urgent_stays_where_it_was() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut network, container) = served();
    let first = connected(port, &mut network, &container, Duration::ZERO);
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_nodelay(true).unwrap();
    let mut got = vec![];
    let mut take = |expected: &[u8]| {
        while got.len() < expected.len() {
            let (sent, data) = answer(&mut network, &container);
            if sent.sequence == first.wrapping_add(u32::try_from(got.len()).unwrap()) {
                got.extend(data);
            }
            let next = first.wrapping_add(u32::try_from(got.len()).unwrap());
            let ack = segment(&network, port, (ACK, 1001, next), b"");
            container.send(&ack).unwrap();
        }
        assert_eq!(got, expected);
    };
    peer.write_all(b"AAAA").unwrap();
    take(b"AAAA");
    rustix::net::send(&peer, b"X", rustix::net::SendFlags::OOB).unwrap();
    peer.write_all(b"BBBB").unwrap();
    take(b"AAAAXBBBB");
    peer.write_all(b"CCCC").unwrap();
    take(b"AAAAXBBBBCCCC");
}

/// A connection of the container's to a peer of the host, and the first sequence number for it.
fn connected(port: u16, network: &mut Network, container: &UnixDatagram, pause: Duration) -> u32 {
    let syn = segment(network, port, (SYN, 1000, 0), b"");
    container.send(&syn).unwrap();
    let (reply, _) = answer(network, container);
    assert_eq!((reply.flags, reply.acknowledged), (SYN | ACK, 1001));
    let first = reply.sequence.wrapping_add(1);
    std::thread::sleep(pause);
    let ack = segment(network, port, (ACK, 1001, first), b"");
    container.send(&ack).unwrap();
    network.serve();
    first
}

/// Where the next segments for the container begin, and how long they are; until it is quiet.
fn sent(network: &mut Network, container: &UnixDatagram, first: u32) -> Vec<(u32, usize)> {
    let mut buffer = vec![0; packet::FRAME];
    let mut found = vec![];
    for _ in 0..4 {
        network.serve();
        while let Ok(length) = container.recv(&mut buffer) {
            let (_, bytes) = packet::ethernet(&buffer[..length]).unwrap();
            let packet = packet::ipv4(bytes).unwrap();
            let (segment, data) = packet::parse_tcp(packet.payload).unwrap();
            found.push((segment.sequence.wrapping_sub(first), data.len()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    found
}

/// The container has closed, and remembers nothing of the connection, while its data wait for a peer that is slow.
#[test]
fn what_was_taken_is_delivered_when_the_container_is_gone() {
    const PIECE: u32 = 32 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut network, container) = served();
    let first = connected(port, &mut network, &container, Duration::ZERO);
    let (mut peer, _) = listener.accept().unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let (end, _) = answer(&mut network, &container);
    assert!(end.has(packet::FIN));
    let acked = first.wrapping_add(1);
    let mut sequence = 1001;
    let data = vec![b'x'; PIECE as usize];
    // Until the last of the window is promised, and more than half of it is kept.
    loop {
        let more = segment(&network, port, (ACK, sequence, acked), &data);
        container.send(&more).unwrap();
        let (reply, _) = answer(&mut network, &container);
        sequence += PIECE;
        assert_eq!(reply.acknowledged, sequence);
        if u32::from(reply.window) << 7 < PIECE {
            break;
        }
    }
    let last = segment(&network, port, (ACK | packet::FIN, sequence, acked), b"");
    container.send(&last).unwrap();
    let (reply, _) = answer(&mut network, &container);
    assert_eq!(reply.acknowledged, sequence + 1);
    let mut heard = vec![];
    let reader = std::thread::spawn(move || {
        peer.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    let reset = (packet::RST, sequence + 1, 0);
    container
        .send(&segment(&network, port, reset, b""))
        .unwrap();
    let mut buffer = vec![0; packet::FRAME];
    while !reader.is_finished() {
        network.serve();
        let said = container.recv(&mut buffer);
        assert!(said.is_err(), "{said:?}: nobody is there to hear it");
    }
    assert_eq!(reader.join().unwrap(), (sequence - 1001) as usize);
}

/// One that is open, and the peer has sent three segments; `pause` is what the container needs for an answer.
fn with_three_segments(pause: Duration) -> (Network, UnixDatagram, TcpStream, u16, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut network, container) = served();
    let first = connected(port, &mut network, &container, pause);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(&[b'x'; 4000]).unwrap();
    let (three, data) = answer(&mut network, &container);
    assert_eq!((three.sequence, data.len()), (first, 4000));
    (network, container, peer, port, first)
}

/// The first wait is then 300 ms long.
const SLOW: Duration = Duration::from_millis(100);

/// After one wait, of which the round trips decide, a single segment; and the rest as soon as it is known to be lost.
#[test]
fn one_segment_asks_what_has_arrived() {
    let quickly = |_| {
        let mut open = with_three_segments(Duration::ZERO);
        let began = Instant::now();
        let asking = answer(&mut open.0, &open.1);
        (began.elapsed() < Duration::from_millis(200)).then_some((open, asking))
    };
    // A busy machine may come late to any of them.
    let ((mut network, container, _peer, port, first), (asking, data)) =
        (0..20).find_map(quickly).expect("a short wait");
    assert_eq!((asking.sequence, data.len()), (first, 1460));
    let ack = segment(&network, port, (ACK, 1001, first.wrapping_add(1460)), b"");
    container.send(&ack).unwrap();
    let (rest, data) = answer(&mut network, &container);
    assert_eq!(
        (rest.sequence, data.len()),
        (first.wrapping_add(1460), 2540)
    );
}

/// What was sent after the question is not sent again when only the acknowledgement was late.
#[test]
fn a_late_acknowledgement_costs_one_segment() {
    let (mut network, container, mut peer, port, first) = with_three_segments(SLOW);
    assert_eq!(answer(&mut network, &container).1.len(), 1460);
    peer.write_all(&[b'y'; 100]).unwrap();
    assert_eq!(sent(&mut network, &container, first), [(4000, 100)]);
    for (acked, expected) in [(4000, &[][..]), (4100, &[(4100, 0)])] {
        let fields = (ACK, 1001, first.wrapping_add(acked));
        container
            .send(&segment(&network, port, fields, b""))
            .unwrap();
        if acked == 4100 {
            peer.shutdown(std::net::Shutdown::Write).unwrap();
        }
        assert_eq!(sent(&mut network, &container, first), expected);
    }
}

/// Linux closes the window when it drops for want of memory, and opens it when it has read; nothing else is said.
#[test]
fn a_window_that_opens_again_tells_of_a_loss() {
    let (mut network, container, _peer, port, first) = with_three_segments(SLOW);
    for (window, expected) in [(0, &[][..]), (100, &[(0, 4000)])] {
        let ack = windowed(&network, port, (ACK, 1001, first), window, b"");
        container.send(&ack).unwrap();
        assert_eq!(sent(&mut network, &container, first), expected);
    }
}

/// A supervisor that had no time to look finds the acknowledgement beside the timer that rings.
#[test]
fn what_came_in_time_is_not_sent_again() {
    let (mut network, container, _peer, port, first) = with_three_segments(Duration::ZERO);
    std::thread::sleep(Duration::from_millis(100));
    let fields = (ACK, 1001, first.wrapping_add(4000));
    container
        .send(&segment(&network, port, fields, b""))
        .unwrap();
    assert_eq!(sent(&mut network, &container, first), []);
}

/// On an interface with a small MTU: many segments in one frame, which the container's kernel takes as they are, and
/// datagrams in fragments.
#[test]
fn a_small_mtu_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mut network, container) = served();
    network.link.mtu = 1400;
    let first = connected(port, &mut network, &container, Duration::ZERO);
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(&[b'x'; 4000]).unwrap();
    let mut frame = vec![0; packet::FRAME];
    let mut length = 0;
    while length == 0 {
        network.serve();
        length = container.recv(&mut frame).unwrap_or(0);
    }
    // VIRTIO_NET_HDR_GSO_TCPV4, of 1400 - 40 bytes.
    assert_eq!((frame[1], &frame[4..6]), (1, &1360_u16.to_ne_bytes()[..]));
    let packet = packet::ipv4(&frame[packet::AHEAD..length]).unwrap();
    let (segment, data) = packet::parse_tcp(packet.payload).unwrap();
    assert_eq!((segment.sequence, data.len()), (first, 4000));
}

/// As a container's kernel sends them where its interface has an MTU of 1400.
#[test]
fn fragments_are_put_together_and_made() {
    const LENGTH: usize = 20_000;
    let (mut network, container) = served();
    network.link.mtu = 1400;
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = server.local_addr().unwrap().port();
    let path = network.link.outward(network.link.addresses.gateway4.into());
    let mut frame = vec![7; packet::FRAME];
    let end = packet::udp(&mut frame, path, 40000, port, LENGTH);
    for piece in fragment::cut(&mut frame[..end], 1400, 9) {
        container.send(&piece).unwrap();
        network.serve();
    }
    let mut heard = vec![0; 65536];
    let (length, peer) = server.recv_from(&mut heard).unwrap();
    assert_eq!(heard[..length], vec![7; LENGTH]);
    server.send_to(&heard[..length], peer).unwrap();
    let mut fragments = Fragments::default();
    let whole = loop {
        network.serve();
        let Ok(length) = container.recv(&mut frame) else {
            continue;
        };
        assert!(length <= packet::AHEAD + 1400);
        let packet = packet::ipv4(&frame[packet::AHEAD..length]).unwrap();
        let fragment = packet.fragment.unwrap();
        if let Some(whole) = fragments.add(Instant::now(), &packet, fragment) {
            break whole;
        }
    };
    let (source, target, payload) = packet::parse_udp(&whole).unwrap();
    assert_eq!((source, target), (port, 40000));
    assert_eq!(payload, vec![7; LENGTH]);
}

/// One that has made an address of its own from the prefix that it was told is answered there, and nobody else is.
#[test]
fn an_address_of_the_told_prefix_is_the_containers() {
    let server = UdpSocket::bind("[::1]:0").unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let port = server.local_addr().unwrap().port();
    let (mut network, container) = served();
    let gateway = network.link.addresses.gateway6;
    let mut frame = vec![0; packet::FRAME];
    let mut say = |network: &mut Network, source: &str| {
        let path = packet::Path {
            source: source.parse().unwrap(),
            target: gateway.into(),
        };
        let end = packet::udp(&mut frame, path, 40000, port, 3);
        container.send(&frame[..end]).unwrap();
        network.serve();
        server.recv_from(&mut [0; 9]).map(|(_, peer)| peer).ok()
    };
    let own = "fd72:626f:7800:0:5062:6fff:fe78:2";
    assert_eq!(say(&mut network, own), None);
    let ask = packet::Path {
        source: "fe80::5062:6fff:fe78:2".parse().unwrap(),
        target: "ff02::2".parse().unwrap(),
    };
    container
        .send(&packet::icmp(ask, &[133, 0, 0, 0, 0, 0, 0, 0]))
        .unwrap();
    network.serve();
    let mut heard = vec![0; packet::FRAME];
    let length = container.recv(&mut heard).unwrap();
    let told = packet::ipv6(&heard[packet::AHEAD..length]).unwrap();
    assert_eq!((told.target, told.payload[0]), (ask.source, 134));
    assert_eq!(say(&mut network, "fd72:626f:7801::1"), None);
    assert_eq!(say(&mut network, &gateway.to_string()), None);
    let peer = say(&mut network, own).unwrap();
    server.send_to(b"hi", peer).unwrap();
    let length = loop {
        network.serve();
        if let Ok(length) = container.recv(&mut heard) {
            break length;
        }
    };
    let reply = packet::ipv6(&heard[packet::AHEAD..length]).unwrap();
    assert_eq!(reply.target.to_string(), own);
    assert_eq!(
        packet::parse_udp(reply.payload),
        Some((port, 40000, &b"hi"[..]))
    );
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
