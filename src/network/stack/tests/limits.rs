//! What rules and rates do to flows.

use std::io::ErrorKind;
use std::io::Read;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::time::Instant;

use super::limited;
use super::segment;
use crate::network::stack::Network;
use crate::network::stack::bypass::Client;
use crate::network::stack::packet;
use crate::network::stack::packet::SYN;
use crate::network::stack::route::DNS;
use crate::sys::poll;
use crate::text::egress;
use crate::text::egress::Transport;
use crate::text::rate::Rates;

/// What the container hears when it wants to reach this; type and code where that is ICMP.
fn outcome(network: &mut Network, container: &UnixDatagram, frame: &[u8]) -> (u8, [u8; 2]) {
    let mut buffer = vec![0; packet::FRAME];
    container.send(frame).unwrap();
    for _ in 0..1000 {
        network.serve();
        if let Ok(length) = container.recv(&mut buffer) {
            let (_, bytes) = packet::ethernet(&buffer[..length]).unwrap();
            let packet = packet::ipv4(bytes).unwrap();
            return (packet.protocol, [packet.payload[0], packet.payload[1]]);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("no answer");
}

/// A question for the address of `x`.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01x\0\0\x01\0\x01";

fn datagram(network: &Network, to: IpAddr, port: u16) -> Vec<u8> {
    let path = network.link.outward(to);
    let mut frame = vec![0; packet::FRAME];
    let start = packet::udp_payload_at(path);
    frame[start..start + QUESTION.len()].copy_from_slice(QUESTION);
    let end = packet::udp(&mut frame, path, 40001, port, QUESTION.len());
    frame.truncate(end);
    frame
}

/// Whether a question goes to a resolver of the host, which may have answered already.
fn is_asked(network: &mut Network, container: &UnixDatagram, frame: &[u8]) -> bool {
    let mut buffer = vec![0; packet::FRAME];
    container.send(frame).unwrap();
    network.serve();
    let Ok(length) = container.recv(&mut buffer) else {
        return !network.dns.is_idle();
    };
    let (_, bytes) = packet::ethernet(&buffer[..length]).unwrap();
    packet::ipv4(bytes).unwrap().protocol == packet::UDP
}

/// Each kind of flow, to the host by the gateway's address, with rules that refuse it, and with such as are
/// about another kind.
#[test]
fn what_the_rules_refuse_is_not_opened_and_the_container_is_told() {
    const PROHIBITED: (u8, [u8; 2]) = (packet::ICMP, [3, 13]);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    echo.set_nonblocking(true).unwrap();
    let udp = echo.local_addr().unwrap().port();
    for (rules, refused) in [
        ("deny", [true, true, true]),
        ("deny:private", [true, true, false]),
        ("deny:host/tcp", [true, false, false]),
        ("deny/udp", [false, true, true]),
        ("deny:dns", [false, false, true]),
        ("deny:127.0.0.0/8/tcp", [true, false, false]),
        ("allow:dns,allow:host,deny", [false, false, false]),
        ("", [false, false, false]),
    ] {
        let (mut network, container) = limited(rules, "unlimited");
        let own = network.link.addresses;
        let syn = segment(&network, port, (SYN, 1000, 0), b"");
        let told = outcome(&mut network, &container, &syn);
        assert_eq!(told == PROHIBITED, refused[0], "{rules}: {told:?}");
        assert_eq!(server.accept().is_err(), refused[0], "{rules}");
        let question = datagram(&network, own.gateway4.into(), udp);
        if refused[1] {
            assert_eq!(
                outcome(&mut network, &container, &question),
                PROHIBITED,
                "{rules}"
            );
        } else {
            container.send(&question).unwrap();
            network.serve();
        }
        assert_eq!(echo.recv(&mut [0; 64]).is_err(), refused[1], "{rules}");
        let question = datagram(&network, own.resolver4.into(), DNS);
        let is_asked = is_asked(&mut network, &container, &question);
        assert_eq!(is_asked, !refused[2], "{rules}");
    }
    for (rules, expected) in [
        ("deny/icmp", true),
        ("deny:198.51.100.1", true),
        ("deny:any:7", false),
    ] {
        let (mut network, _container) = limited(rules, "unlimited");
        let target = "198.51.100.1:0".parse().unwrap();
        let routed = network.link.router.route(Transport::Icmp, target);
        assert_eq!(routed.is_err(), expected, "{rules}");
    }
}

#[test]
fn what_new_rules_refuse_ends() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (mut network, container) = limited("", "unlimited");
    let syn = segment(&network, port, (SYN, 1000, 0), b"");
    assert_eq!(outcome(&mut network, &container, &syn).0, packet::TCP);
    let (mut own, _) = server.accept().unwrap();
    let gateway = network.link.addresses.gateway4.into();
    container.send(&datagram(&network, gateway, port)).unwrap();
    network.serve();
    let client =
        TcpStream::connect_timeout(&server.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
    let client = Client {
        remote: client.local_addr().unwrap(),
        port: 80,
        socket: client.into(),
    };
    network.tcp.offer(&mut network.link, client);
    assert_eq!((network.tcp.len(), network.udp.len()), (2, 1));
    for (rules, left) in [
        ("deny:internet", (2, 1)),
        ("deny/udp", (2, 0)),
        ("deny:host", (1, 0)),
    ] {
        network.set_limits(&egress::parse(rules).unwrap(), Rates::default());
        assert_eq!((network.tcp.len(), network.udp.len()), left, "{rules}");
    }
    let err = own.read(&mut [0; 8]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_error_is_heard_while_the_rate_is_used_up() {
    let (mut network, container) = limited("", "in=8k,8k");
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    network.link.meter.inward.take(1_000_000);
    let gateway = network.link.addresses.gateway4.into();
    let question = datagram(&network, gateway, port);
    let told = outcome(&mut network, &container, &question);
    assert_eq!(told, (packet::ICMP, [3, 3]));
}

/// Sixteen datagrams of 4000 bytes, of which eight thousand bytes are the burst.
const COUNT: usize = 16;

fn turn(network: &mut Network) {
    let wait = (!network.has_more()).then_some(Duration::from_secs(1));
    poll::readable([Some(network.as_fd())], wait.or(Some(Duration::ZERO))).unwrap();
    network.serve();
}

/// How long they need to the host's program, and which address they come from.
fn send_out(
    network: &mut Network,
    container: &UnixDatagram,
    server: &UdpSocket,
) -> (Duration, SocketAddr) {
    let port = server.local_addr().unwrap().port();
    let path = network.link.outward(network.link.addresses.gateway4.into());
    let mut frame = vec![0; packet::FRAME];
    let end = packet::udp(&mut frame, path, 40001, port, 4000);
    let began = Instant::now();
    for _ in 0..COUNT {
        container.send(&frame[..end]).unwrap();
    }
    let mut from = vec![];
    while from.len() < COUNT {
        turn(network);
        from.extend(std::iter::from_fn(|| {
            Some(server.recv_from(&mut frame).ok()?.1)
        }));
    }
    (began.elapsed(), from[0])
}

/// How long they need to the container, and how often the network is asked meanwhile.
fn send_in(
    network: &mut Network,
    container: &UnixDatagram,
    server: &UdpSocket,
    peer: SocketAddr,
) -> (Duration, usize) {
    let began = Instant::now();
    for _ in 0..COUNT {
        server.send_to(&[0; 4000], peer).unwrap();
    }
    let mut buffer = vec![0; packet::FRAME];
    let (mut heard, mut turns) = (0, 0);
    while heard < COUNT {
        turn(network);
        turns += 1;
        heard += std::iter::from_fn(|| container.recv(&mut buffer).ok()).count();
    }
    (began.elapsed(), turns)
}

/// Much more than the burst, by datagrams of a host's program that does not wait.
#[test]
fn a_rate_is_kept_in_both_directions() {
    const MOST: Duration = Duration::from_millis(600);
    let is_exact = |_| {
        let (mut network, container) = limited("", "in=200k,8k,out=200k,8k");
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let (out, peer) = send_out(&mut network, &container, &server);
        let (inward, turns) = send_in(&mut network, &container, &server, peer);
        // 56 KiB after the burst, at 200 KiB a second.
        for time in [out, inward] {
            assert!(time >= Duration::from_millis(200), "{time:?}");
        }
        // It waits, and does not ask again and again.
        assert!(turns < 100, "{turns}");
        network.set_limits(&[], Rates::default());
        let (free, _) = send_in(&mut network, &container, &server, peer);
        out < MOST && inward < MOST && free * 2 < inward
    };
    // A busy machine may come late to any of them.
    assert!((0..20).any(is_exact), "never the time that it should take");
}
