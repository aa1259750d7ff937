//! A container that sends whatever bytes say, to a whole network: for the fuzz target `network`, and for the tests.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::config::addresses::Addresses;
use crate::network::names::Names;
use crate::network::place::Way;
use crate::network::stack::CONTAINER_MAC;
use crate::network::stack::Listeners;
use crate::network::stack::MTU;
use crate::network::stack::Network;
use crate::network::stack::Settings;
use crate::network::stack::packet;
use crate::network::stack::packet::ACK;
use crate::network::stack::packet::Fragment;
use crate::network::stack::packet::Path;
use crate::network::stack::packet::SYN;
use crate::network::stack::packet::Segment;
use crate::store::dirs::Dirs;
use crate::text::egress;
use crate::text::publish;
use crate::text::rate;

const PORT: u16 = 80;
const DNS: u16 = 53;

/// What the bytes ask for, one after another: a kind, two numbers, a length, and what is so long.
pub fn play(bytes: &[u8]) {
    let mut container = Container::new();
    let mut rest = bytes;
    while let [kind, a, b, c, after @ ..] = rest {
        let kind = kind % 8;
        // A message of DHCP is longer than a byte counts.
        let length = usize::from(*c) << u8::from(kind == 0);
        let (given, after) = after.split_at(after.len().min(length));
        match kind {
            0 => container.send(given),
            1 => container.send_segment([*a, *b], given),
            2 => container.send_fragment([*a, *b], given),
            3 => container.ask(given),
            4 => drop(container.client.write(&[*a; 300][..usize::from(*b)])),
            5 => drop(container.client.read(&mut [0; 1024])),
            6 => drop(container.client.shutdown(Shutdown::Write)),
            _ => container.set_mtu(68 + u16::from_be_bytes([*a & 7, *b])),
        }
        container.network.wait(Some(Duration::ZERO));
        container.hear();
        rest = after;
    }
}

struct Container {
    network: Network,
    addresses: Addresses,
    device: UnixDatagram,
    /// Of a published port, and open.
    client: TcpStream,
    remote: SocketAddr,
    /// What has been heard of its data, and what was said.
    heard: u32,
    said: u32,
}

impl Container {
    /// Nothing of the host but the published port can be reached.
    fn new() -> Container {
        let (device, tap) = UnixDatagram::pair().unwrap();
        device.set_nonblocking(true).unwrap();
        tap.set_nonblocking(true).unwrap();
        let addresses = Addresses::choose();
        let settings = Settings {
            addresses,
            mac: CONTAINER_MAC,
            mtu: MTU,
            is_internal: true,
            names: Some(Names::new(&Dirs::default(), "none", &[])),
            host_loopback: false,
            rules: &egress::parse("deny:any").unwrap(),
            servers: &[],
            rates: rate::parse("unlimited").unwrap(),
        };
        let publish = publish::parse("127.0.0.1::80").unwrap();
        let listeners = Listeners::new(&publish, vec![]).unwrap();
        let port = listeners.published()[0].host_port;
        let mut network = Network::new(settings, listeners).unwrap();
        network.attach(tap.into()).unwrap();
        let client =
            TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(5))
                .unwrap();
        client.set_nonblocking(true).unwrap();
        network.wait(Some(Duration::ZERO));
        let mut container = Container {
            remote: SocketAddr::new(
                addresses.gateway4.into(),
                client.local_addr().unwrap().port(),
            ),
            network,
            addresses,
            device,
            client,
            heard: 0,
            said: 5000,
        };
        container.hear();
        container.send_tcp(SYN | ACK, 4999, container.heard, &[]);
        container.network.wait(Some(Duration::ZERO));
        container.hear();
        container
    }

    fn set_mtu(&mut self, mtu: u16) {
        self.network.set_way(Way {
            addresses: self.addresses,
            mac: CONTAINER_MAC,
            mtu,
            is_internal: true,
        });
    }

    /// Follows the data of the connection.
    fn hear(&mut self) {
        let mut frame = vec![0; packet::FRAME + packet::HEADROOM];
        while let Ok(length) = self.device.recv(&mut frame) {
            let Some((packet::ETHERTYPE_IPV4, bytes)) = packet::ethernet(&frame[..length]) else {
                continue;
            };
            let Some(packet) = packet::ipv4(bytes) else {
                continue;
            };
            if packet.protocol == packet::TCP
                && let Some((segment, data)) = packet::parse_tcp(packet.payload)
                && segment.target == PORT
            {
                let length = u32::try_from(data.len()).unwrap() + u32::from(segment.has(SYN));
                self.heard = segment.sequence.wrapping_add(length);
            }
        }
    }

    fn path(&self) -> Path {
        Path {
            source: self.addresses.container4.into(),
            target: self.remote.ip(),
        }
    }

    /// Any frame.
    fn send(&self, frame: &[u8]) {
        self.device.send(&[&[0; packet::VNET], frame].concat()).ok();
    }

    fn send_tcp(&self, flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) {
        let segment = Segment {
            source: PORT,
            target: self.remote.port(),
            sequence,
            acknowledged,
            flags,
            window: u16::from(flags) * 200,
            mss: Some(u16::from(flags) * 8),
            scale: None,
        };
        let mut frame = vec![0; packet::HEADROOM + data.len()];
        let start = packet::tcp_payload_at(self.path());
        frame[start..start + data.len()].copy_from_slice(data);
        let end = packet::tcp(&mut frame, self.path(), &segment, data.len());
        self.device.send(&frame[..end]).ok();
    }

    /// One of the open connection, near to what is expected.
    fn send_segment(&mut self, [flags, near]: [u8; 2], data: &[u8]) {
        let [sequence, acknowledged] = [near >> 4, near & 15].map(|by| u32::from(by) << (by / 2));
        // Options are for SYN alone, which carries no data.
        let data = if flags & SYN == 0 { data } else { &[] };
        let sequence = self.said.wrapping_sub(sequence);
        self.send_tcp(
            flags & 63,
            sequence,
            self.heard.wrapping_sub(acknowledged),
            data,
        );
        let length = u32::try_from(data.len()).unwrap();
        self.said = self.said.max(sequence.wrapping_add(length));
    }

    fn send_fragment(&self, [place, ident]: [u8; 2], data: &[u8]) {
        let mut frame = vec![0; packet::HEADROOM];
        packet::udp(&mut frame, self.path(), 1, 2, 0);
        let (head, _) = packet::split_ip(&frame);
        let fragment = Fragment {
            ident: u32::from(ident & 3),
            offset: usize::from(place >> 1) * if ident & 128 == 0 { 8 } else { 512 },
            has_more: place & 1 == 1,
        };
        self.device
            .send(&packet::fragment(head, fragment, data))
            .ok();
    }

    /// A datagram for the resolver.
    fn ask(&self, text: &[u8]) {
        let path = Path {
            target: self.addresses.resolver4.into(),
            ..self.path()
        };
        let mut frame = vec![0; packet::HEADROOM + text.len()];
        let start = packet::udp_payload_at(path);
        frame[start..start + text.len()].copy_from_slice(text);
        let end = packet::udp(&mut frame, path, 40000, DNS, text.len());
        self.device.send(&frame[..end]).ok();
    }
}

/// Inputs that reach each of the parsers.
#[cfg(test)]
pub fn seeds() -> Vec<Vec<u8>> {
    let question =
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03foo\x03dns\x06podman\0\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\0";
    let path = |source: &str, target: &str| Path {
        source: source.parse().unwrap(),
        target: target.parse().unwrap(),
    };
    let raw = |frame: Vec<u8>| given(0, [0; 2], &frame[packet::VNET..]);
    let [own4, own6] = ["10.0.2.100", "fd72:626f:7800::100"];
    let solicitation = packet::icmp(path("fe80::1", "ff02::2"), &[133, 0, 0, 0, 0, 0, 0, 0]);
    let echo = packet::icmp(path(own4, "10.0.2.2"), &[8, 0, 0, 0, 1, 2, 3, 4]);
    let echo6 = packet::icmp(path(own6, "fd72:626f:7800::2"), &[128, 0, 0, 0, 1, 2, 3, 4]);
    let mut syn = vec![0; 200];
    let segment = Segment {
        flags: SYN,
        target: 9,
        mss: Some(1460),
        scale: Some(7),
        ..Segment::default()
    };
    let end = packet::tcp(&mut syn, path(own6, "2001:db8::1"), &segment, 0);
    syn.truncate(end);
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend([2; 20]);
    vec![
        [raw(solicitation), raw(echo), raw(echo6), raw(syn)].concat(),
        [
            given(4, [7, 200], b""),
            given(1, [ACK, 0], b"hello"),
            given(7, [1, 0], b""),
            given(4, [7, 250], b""),
            given(1, [ACK, 0x11], b"more"),
            given(6, [0; 2], b""),
            given(1, [ACK | packet::FIN, 0], b""),
        ]
        .concat(),
        [given(2, [1, 1], &[7; 64]), given(2, [16, 1], &[7; 9])].concat(),
        [
            given(3, [0; 2], question),
            raw(packet::plain(packet::ETHERTYPE_ARP, &arp)),
        ]
        .concat(),
        raw(discover()),
    ]
}

/// RFC 2131: a client of Ethernet asks for an address.
#[cfg(test)]
fn discover() -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    let path = Path {
        source: Ipv4Addr::UNSPECIFIED.into(),
        target: Ipv4Addr::BROADCAST.into(),
    };
    let mut frame = vec![0; packet::HEADROOM + message.len()];
    let start = packet::udp_payload_at(path);
    frame[start..start + message.len()].copy_from_slice(&message);
    let end = packet::udp(&mut frame, path, 68, 67, message.len());
    frame.truncate(end);
    frame
}

#[cfg(test)]
fn given(kind: u8, [a, b]: [u8; 2], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut length = bytes.len();
    if kind == 0 {
        length = length.div_ceil(2);
        bytes.resize(length * 2, 0);
    }
    let length = u8::try_from(length).unwrap();
    [&[kind, a, b, length], &bytes[..]].concat()
}
