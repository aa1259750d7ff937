//! IP packets in Ethernet frames: read with every length checked, since a container with `CAP_NET_RAW` may send
//! whatever it likes; and written, headers before a payload that is there already.
//!
//! A frame on a TAP device begins with a `virtio_net_hdr` (linux/virtio_net.h). Checksums of what the container
//! sends are not looked at: it did not leave this machine's memory. Those of TCP and UDP that it gets are left to
//! its kernel, where they are never computed unless the packet goes on.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

pub const VNET: usize = 10;
const ETHERNET: usize = 14;
/// The most that comes before the payload of a TCP segment or a datagram: both ends have 60 bytes at most for options.
pub const HEADROOM: usize = VNET + ETHERNET + 40 + 60;

/// What comes before the header of IP.
pub const AHEAD: usize = VNET + ETHERNET;

/// Of the interface, unless its network has another: the largest for which a segment has no fragments.
pub const MTU: u16 = 65520;

pub const FRAME: usize = VNET + ETHERNET + MTU as usize;

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// Locally administered addresses of the two ends.
pub const CONTAINER_MAC: [u8; 6] = [0x52, 0x62, 0x6f, 0x78, 0, 2];
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x62, 0x6f, 0x78, 0, 1];

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The type of an Ethernet frame, and what it carries.
pub fn ethernet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let frame = frame.get(VNET..)?;
    Some((u16_at(frame, 12)?, frame.get(ETHERNET..)?))
}

/// Which part of a packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub ident: u32,
    pub offset: usize,
    pub has_more: bool,
}

/// An IP packet, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub source: IpAddr,
    pub target: IpAddr,
    pub protocol: u8,
    pub payload: &'a [u8],
    pub fragment: Option<Fragment>,
    /// It is many datagrams of this size, the last of which may be smaller.
    pub many: Option<usize>,
}

/// Datagrams that one call or frame of ours carries at most, and one of the container's kernel. Linux:
/// `UDP_MAX_SEGMENTS`, which was 64 before 6.9.
pub const DATAGRAMS: usize = 64;
pub const MOST_DATAGRAMS: usize = 128;

/// Linux since 6.2: many datagrams in one frame (`VIRTIO_NET_HDR_GSO_UDP_L4`).
const GSO_UDP: u8 = 5;

/// The size of the datagrams in a frame that carries many.
pub fn size_of_datagrams(frame: &[u8]) -> Option<usize> {
    let size = u16::from_ne_bytes(frame.get(4..6)?.try_into().ok()?);
    (frame[1] == GSO_UDP && size > 0).then_some(size.into())
}

pub fn ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let first = *bytes.first()?;
    let header = usize::from(first & 0xf) * 4;
    let total = usize::from(u16_at(bytes, 2)?);
    let place = u16_at(bytes, 6)?;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let fragment = Fragment {
        ident: u16_at(bytes, 4)?.into(),
        offset: usize::from(place & 0x1fff) * 8,
        has_more: place & 0x2000 != 0,
    };
    Some(Packet {
        source: Ipv4Addr::from(u32_at(bytes, 12)?).into(),
        target: Ipv4Addr::from(u32_at(bytes, 16)?).into(),
        protocol: *bytes.get(9)?,
        payload: bytes.get(..total)?.get(header..)?,
        fragment: fragment.is_part().then_some(fragment),
        many: None,
    })
}

impl Packet<'_> {
    pub fn path(&self) -> Path {
        Path {
            source: self.source,
            target: self.target,
        }
    }
}

impl Fragment {
    /// RFC 6946: one that is all of its packet is none.
    fn is_part(self) -> bool {
        self.has_more || self.offset > 0
    }
}

pub fn ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let length = usize::from(u16_at(bytes, 4)?);
    if bytes.first()? >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    after_options(Packet {
        source: address(8)?,
        target: address(24)?,
        protocol: *bytes.get(6)?,
        payload: bytes.get(40..40 + length)?,
        fragment: None,
        many: None,
    })
}

/// Options before the payload are passed over (RFC 8200, section 4).
pub fn after_options(mut packet: Packet<'_>) -> Option<Packet<'_>> {
    const MOST_EXTENSIONS: usize = 8;
    const HOPS: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const TARGET: u8 = 60;
    for _ in 0..MOST_EXTENSIONS {
        let bytes = packet.payload;
        let size = match packet.protocol {
            HOPS | ROUTING | TARGET => (usize::from(*bytes.get(1)?) + 1) * 8,
            FRAGMENT => 8,
            _ => return Some(packet),
        };
        packet.payload = bytes.get(size..)?;
        if packet.protocol == FRAGMENT {
            let place = u16_at(bytes, 2)?;
            let fragment = Fragment {
                ident: u32_at(bytes, 4)?,
                offset: usize::from(place & !7),
                has_more: place & 1 != 0,
            };
            packet.protocol = bytes[0];
            if fragment.is_part() {
                packet.fragment = Some(fragment);
                return Some(packet);
            }
        } else {
            packet.protocol = *bytes.first()?;
        }
    }
    None
}

/// The sum of RFC 1071, not yet folded.
fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => u16::from_be_bytes([pair[0], 0]),
    });
    pairs.map(u64::from).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("it was folded")
}

fn pseudo_header(source: IpAddr, target: IpAddr, protocol: u8, length: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(source) + address(target) + u64::from(protocol) + length as u64
}

/// Who sends to whom; both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub source: IpAddr,
    pub target: IpAddr,
}

impl Path {
    pub fn back(self) -> Path {
        Path {
            source: self.target,
            target: self.source,
        }
    }

    fn header(self) -> usize {
        if self.target.is_ipv4() { 20 } else { 40 }
    }

    /// Where the payload of IP begins in a frame.
    fn payload_at(self) -> usize {
        VNET + ETHERNET + self.header()
    }
}

/// Completes a frame whose IP payload ends at `end` and begins at `path.payload_at()`, with a TCP or UDP header
/// that has its checksum at `checksum_at` and is `header` bytes long.
fn finish(
    frame: &mut [u8],
    path: Path,
    protocol: u8,
    end: usize,
    header: usize,
    checksum_at: usize,
) {
    let start = path.payload_at();
    let partial = fold(pseudo_header(
        path.source,
        path.target,
        protocol,
        end - start,
    ));
    frame[start + checksum_at..start + checksum_at + 2].copy_from_slice(&partial.to_be_bytes());
    ip_header(frame, path, protocol, end);
    // VIRTIO_NET_HDR_F_NEEDS_CSUM, no segmentation; the length of all headers makes the kernel put the
    // rest into single pages instead of one large block.
    let lengths = [start - VNET + header, 0, start - VNET, checksum_at];
    frame[..2].copy_from_slice(&[1, 0]);
    for (field, value) in frame[2..VNET].chunks_exact_mut(2).zip(lengths) {
        field.copy_from_slice(
            &u16::try_from(value)
                .expect("headers are short")
                .to_ne_bytes(),
        );
    }
}

fn ip_header(frame: &mut [u8], path: Path, protocol: u8, end: usize) {
    const HOPS: u8 = 64;
    let kind = if path.target.is_ipv4() {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    };
    ethernet_header(frame, kind);
    let header = &mut frame[VNET + ETHERNET..];
    let payload = end - path.payload_at();
    match (path.source, path.target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let total = u16::try_from(20 + payload).expect("frames fit the MTU");
            header[..4].copy_from_slice(&[0x45, 0, 0, 0]);
            header[2..4].copy_from_slice(&total.to_be_bytes());
            // Do not fragment.
            header[4..12].copy_from_slice(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&target.octets());
            let checksum = !fold(sum(&header[..20]));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let length = u16::try_from(payload).expect("frames fit the MTU");
            header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            header[4..6].copy_from_slice(&length.to_be_bytes());
            // RFC 4861: 255 hops say that a message of neighbour discovery comes from this link.
            let hops = if protocol == ICMPV6 { 255 } else { HOPS };
            header[6..8].copy_from_slice(&[protocol, hops]);
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&target.octets());
        }
        _ => unreachable!("both ends are of one family"),
    }
}

fn ethernet_header(frame: &mut [u8], kind: u16) {
    let header = &mut frame[VNET..VNET + ETHERNET];
    header[6..12].copy_from_slice(&GATEWAY_MAC);
    header[12..].copy_from_slice(&kind.to_be_bytes());
}

/// Says who gets a frame.
pub fn address_to(frame: &mut [u8], mac: [u8; 6]) {
    frame[VNET..VNET + 6].copy_from_slice(&mac);
}

/// Computes the checksum that was left to the container's kernel.
pub fn complete_checksum(frame: &mut [u8]) {
    let at = |at: usize| usize::from(u16::from_ne_bytes([frame[at], frame[at + 1]]));
    if frame[0] == 0 {
        return;
    }
    let start = VNET + at(6);
    let place = start + at(8);
    frame[0] = 0;
    let checksum = match !fold(sum(&frame[start..])) {
        // RFC 768: none is sent as zero.
        0 => u16::MAX,
        other => other,
    };
    frame[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// A frame up to the end of its IP header, and the rest.
pub fn split_ip(frame: &[u8]) -> (&[u8], &[u8]) {
    let header = if is_ipv4(frame) { 20 } else { 40 };
    frame.split_at(AHEAD + header)
}

fn is_ipv4(frame: &[u8]) -> bool {
    u16_at(frame, VNET + 12) == Some(ETHERTYPE_IPV4)
}

/// How many bytes come before the data in a fragment of a packet.
pub fn fragment_header(head: &[u8]) -> usize {
    if is_ipv4(head) { 20 } else { 48 }
}

/// A frame with a fragment of what `head` is the head of.
pub fn fragment(head: &[u8], fragment: Fragment, data: &[u8]) -> Vec<u8> {
    let mut frame = head.to_vec();
    frame[..VNET].fill(0);
    let offset = u16::try_from(fragment.offset).expect("offsets are within a packet");
    let header = &mut frame[AHEAD..];
    if is_ipv4(head) {
        let total = u16::try_from(20 + data.len()).expect("fragments fit the MTU");
        let place = (offset / 8) | (u16::from(fragment.has_more) << 13);
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[4..6].copy_from_slice(&fragment.ident.to_be_bytes()[2..]);
        header[6..8].copy_from_slice(&place.to_be_bytes());
        header[10..12].fill(0);
        let checksum = !fold(sum(&header[..20]));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        let length = u16::try_from(8 + data.len()).expect("fragments fit the MTU");
        let place = offset | u16::from(fragment.has_more);
        let protocol = std::mem::replace(&mut header[6], 44);
        header[4..6].copy_from_slice(&length.to_be_bytes());
        frame.extend([protocol, 0]);
        frame.extend(place.to_be_bytes());
        frame.extend(fragment.ident.to_be_bytes());
    }
    frame.extend(data);
    frame
}

/// The most that a packet carries.
pub fn largest_payload(is_v4: bool) -> usize {
    usize::from(u16::MAX) - if is_v4 { 20 } else { 0 }
}

/// The most that a datagram carries.
pub fn largest_datagram(is_v4: bool) -> usize {
    largest_payload(is_v4) - 8
}

#[cfg(test)]
pub fn is_sum_right(path: Path, protocol: u8, payload: &[u8]) -> bool {
    let pseudo = pseudo_header(path.source, path.target, protocol, payload.len());
    fold(pseudo + sum(payload)) == 0xffff
}

/// A frame that carries no IP, with nothing for the kernel to compute.
pub fn plain(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; VNET + ETHERNET];
    ethernet_header(&mut frame, kind);
    frame.extend(payload);
    frame
}

/// A frame with a message of ICMP in either version, whose checksum is computed here.
pub fn icmp(path: Path, message: &[u8]) -> Vec<u8> {
    let start = path.payload_at();
    let mut frame = vec![0; start];
    frame.extend(message);
    frame[start + 2..start + 4].fill(0);
    let (protocol, pseudo) = if path.target.is_ipv4() {
        (ICMP, 0)
    } else {
        let pseudo = pseudo_header(path.source, path.target, ICMPV6, message.len());
        (ICMPV6, pseudo)
    };
    let checksum = !fold(pseudo + sum(&frame[start..]));
    frame[start + 2..start + 4].copy_from_slice(&checksum.to_be_bytes());
    let end = frame.len();
    ip_header(&mut frame, path, protocol, end);
    frame
}

/// A packet as an ICMP error quotes it: the header of IP, and 8 bytes of what it carried.
pub fn quoted(path: Path, protocol: u8, payload: [u8; 8]) -> Vec<u8> {
    let mut frame = vec![0; path.payload_at()];
    frame.extend(payload);
    let end = frame.len();
    ip_header(&mut frame, path, protocol, end);
    frame.split_off(VNET + ETHERNET)
}

/// The first 8 bytes of a datagram.
pub fn udp_head(source: u16, target: u16, length: usize) -> [u8; 8] {
    let mut head = [0; 8];
    head[..2].copy_from_slice(&source.to_be_bytes());
    head[2..4].copy_from_slice(&target.to_be_bytes());
    let length = u16::try_from(8 + length).expect("frames fit the MTU");
    head[4..6].copy_from_slice(&length.to_be_bytes());
    head
}

/// The first 8 bytes of a segment.
pub fn tcp_head(source: u16, target: u16, sequence: u32) -> [u8; 8] {
    let mut head = [0; 8];
    head[..2].copy_from_slice(&source.to_be_bytes());
    head[2..4].copy_from_slice(&target.to_be_bytes());
    head[4..].copy_from_slice(&sequence.to_be_bytes());
    head
}

/// Where the payload of a datagram begins.
pub fn udp_payload_at(path: Path) -> usize {
    path.payload_at() + 8
}

/// The size of the packet that a datagram of `length` bytes makes.
pub fn datagram(path: Path, length: usize) -> usize {
    path.header() + 8 + length
}

/// Writes the headers of a datagram of `length` bytes; the length of the frame.
pub fn udp(frame: &mut [u8], path: Path, source: u16, target: u16, length: usize) -> usize {
    let start = path.payload_at();
    frame[start..start + 8].copy_from_slice(&udp_head(source, target, length));
    let end = start + 8 + length;
    finish(frame, path, UDP, end, 8, 6);
    end
}

/// A datagram: source port, target port, payload.
pub fn parse_udp(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    let length = usize::from(u16_at(bytes, 4)?);
    let payload = bytes.get(..length)?.get(8..)?;
    Some((u16_at(bytes, 0)?, u16_at(bytes, 2)?, payload))
}

/// Smaller ones are not believed.
pub const LEAST_SEGMENT: u16 = 64;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A TCP segment without its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub source: u16,
    pub target: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    /// Options, with SYN alone.
    pub mss: Option<u16>,
    pub scale: Option<u8>,
}

impl Segment {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn header(&self) -> usize {
        if self.has(SYN) && self.scale.is_some() {
            28
        } else if self.has(SYN) {
            24
        } else {
            20
        }
    }
}

pub fn parse_tcp(bytes: &[u8]) -> Option<(Segment, &[u8])> {
    let header = usize::from(bytes.get(12)? >> 4) * 4;
    if header < 20 {
        return None;
    }
    let options = bytes.get(20..header)?;
    let mut segment = Segment {
        source: u16_at(bytes, 0)?,
        target: u16_at(bytes, 2)?,
        sequence: u32_at(bytes, 4)?,
        acknowledged: u32_at(bytes, 8)?,
        flags: *bytes.get(13)?,
        window: u16_at(bytes, 14)?,
        mss: None,
        scale: None,
    };
    if segment.has(SYN) {
        parse_options(options, &mut segment);
    }
    Some((segment, bytes.get(header..)?))
}

/// RFC 9293, section 3.2; what is malformed ends the list.
fn parse_options(mut options: &[u8], segment: &mut Segment) {
    while let [kind, rest @ ..] = options {
        match (kind, rest) {
            (0, _) => return,
            (1, _) => options = rest,
            (_, [length, ..]) if *length >= 2 && options.len() >= usize::from(*length) => {
                match (kind, length) {
                    (2, 4) => segment.mss = u16_at(options, 2),
                    // RFC 7323: larger shifts count as 14.
                    (3, 3) => segment.scale = Some(options[2].min(14)),
                    _ => {}
                }
                options = &options[usize::from(*length)..];
            }
            _ => return,
        }
    }
}

/// Where the payload of a segment begins.
pub fn tcp_payload_at(path: Path) -> usize {
    path.payload_at() + 20
}

/// The most payload that a segment carries on an interface.
pub fn largest_segment(mtu: u16, is_v4: bool) -> u16 {
    mtu.saturating_sub(if is_v4 { 40 } else { 60 })
        .max(LEAST_SEGMENT)
}

/// Says that a frame is many segments of one size, which nobody has to cut (`VIRTIO_NET_HDR_GSO_TCPV4` and `…6`).
pub fn mark_segments(frame: &mut [u8], path: Path, size: u16) {
    frame[1] = if path.target.is_ipv4() { 1 } else { 4 };
    frame[4..6].copy_from_slice(&size.to_ne_bytes());
}

/// Says that a frame is many datagrams of one size, but for the last one, which may be smaller.
pub fn mark_datagrams(frame: &mut [u8], size: usize) {
    let size = u16::try_from(size).expect("datagrams fit the MTU");
    frame[1] = GSO_UDP;
    frame[4..6].copy_from_slice(&size.to_ne_bytes());
}

/// Whether it needs no fragments, whatever its size.
pub fn has_segments(frame: &[u8]) -> bool {
    frame[1] != 0
}

/// Writes the headers of a segment of `length` bytes, which has none with SYN; the length of the frame.
pub fn tcp(frame: &mut [u8], path: Path, segment: &Segment, length: usize) -> usize {
    let header = segment.header();
    let start = path.payload_at();
    let bytes = &mut frame[start..start + header];
    bytes[..2].copy_from_slice(&segment.source.to_be_bytes());
    bytes[2..4].copy_from_slice(&segment.target.to_be_bytes());
    bytes[4..8].copy_from_slice(&segment.sequence.to_be_bytes());
    bytes[8..12].copy_from_slice(&segment.acknowledged.to_be_bytes());
    bytes[12] = u8::try_from(header / 4 * 16).expect("at most 28 bytes");
    bytes[13] = segment.flags;
    bytes[14..16].copy_from_slice(&segment.window.to_be_bytes());
    bytes[16..20].fill(0);
    if segment.has(SYN) {
        let mss = segment.mss.unwrap_or(LEAST_SEGMENT);
        bytes[20..22].copy_from_slice(&[2, 4]);
        bytes[22..24].copy_from_slice(&mss.to_be_bytes());
    }
    if let (Some(scale), true) = (segment.scale, segment.has(SYN)) {
        bytes[24..28].copy_from_slice(&[1, 3, 3, scale]);
    }
    let end = start + header + length;
    finish(frame, path, TCP, end, header, 16);
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(is_v4: bool) -> Path {
        if is_v4 {
            Path {
                source: Ipv4Addr::new(198, 51, 100, 7).into(),
                target: Ipv4Addr::new(10, 0, 2, 100).into(),
            }
        } else {
            Path {
                source: "2001:db8::7".parse().unwrap(),
                target: "fd72:626f:7800::100".parse().unwrap(),
            }
        }
    }

    fn packet(frame: &[u8]) -> Packet<'_> {
        match ethernet(frame).unwrap() {
            (ETHERTYPE_IPV4, bytes) => ipv4(bytes).unwrap(),
            (ETHERTYPE_IPV6, bytes) => ipv6(bytes).unwrap(),
            (other, _) => panic!("{other:#x}"),
        }
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        for is_v4 in [true, false] {
            for (flags, scale, mss) in [
                (SYN, Some(8), Some(1460)),
                (SYN, None, Some(536)),
                (ACK | PSH, None, None),
            ] {
                let segment = Segment {
                    source: 1,
                    target: 65535,
                    sequence: 7,
                    acknowledged: u32::MAX,
                    flags,
                    window: 9,
                    mss,
                    scale,
                };
                let mut frame = vec![0xff; 200];
                let length = if flags & SYN == 0 { 5 } else { 0 };
                frame[tcp_payload_at(path(is_v4))..][..length].copy_from_slice(&b"hello"[..length]);
                let end = tcp(&mut frame, path(is_v4), &segment, length);
                let packet = packet(&frame[..end]);
                assert_eq!(
                    (packet.source, packet.target, packet.protocol),
                    (path(is_v4).source, path(is_v4).target, TCP)
                );
                assert_eq!(
                    parse_tcp(packet.payload),
                    Some((segment, &b"hello"[..length]))
                );
            }
        }
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for is_v4 in [true, false] {
            let path = path(is_v4);
            let mut frame = vec![0xff; 200];
            frame[udp_payload_at(path)..][..5].copy_from_slice(b"hello");
            let end = udp(&mut frame, path, 53, 40000, 5);
            let packet = packet(&frame[..end]);
            assert_eq!(parse_udp(packet.payload), Some((53, 40000, &b"hello"[..])));
        }
    }

    /// RFC 1071: over a whole message with its checksum the sum is all ones.
    #[test]
    fn checksums_of_icmp_and_ipv4_are_right() {
        let frame = icmp(path(true), &[8, 0, 1, 2, 3, 4, 5]);
        assert_eq!(
            fold(sum(&frame[VNET + ETHERNET..VNET + ETHERNET + 20])),
            0xffff
        );
        assert_eq!(fold(sum(packet(&frame).payload)), 0xffff);
        let frame = icmp(path(false), &[128, 0, 1, 2, 3, 4, 5]);
        let pseudo = pseudo_header(path(false).source, path(false).target, ICMPV6, 7);
        assert_eq!(fold(pseudo + sum(packet(&frame).payload)), 0xffff);
    }

    #[test]
    fn lies_about_lengths_are_no_packets() {
        let frame = icmp(path(true), &[8, 0, 0, 0, 1, 2, 3, 4]);
        let good = &frame[VNET + ETHERNET..];
        assert!(ipv4(good).is_some());
        for (at, value) in [(0, 0x65), (0, 0x44), (0, 0x4f), (2, 0xff), (3, 0)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert_eq!(ipv4(&bad), None, "byte {at} is {value:#x}");
        }
        assert_eq!(ipv4(&good[..good.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), first in 0_u8..255) {
            let mut bytes = bytes;
            for start in [first, 0x45, 0x46, 0x60] {
                if let Some(byte) = bytes.first_mut() {
                    *byte = start;
                }
                ethernet(&bytes);
                let packets = [ipv4(&bytes), ipv6(&bytes)];
                for packet in packets.into_iter().flatten() {
                    parse_tcp(packet.payload);
                    parse_udp(packet.payload);
                }
                parse_tcp(&bytes);
                parse_udp(&bytes);
            }
        }

        #[test]
        fn truncated_packets_are_never_read_past_their_end(cut in 0_usize..100, is_v4: bool) {
            let mut frame = vec![0; 200];
            let end = tcp(&mut frame, path(is_v4), &Segment { flags: SYN, scale: Some(2), mss: Some(9), ..Segment::default() }, 0);
            let whole = &frame[VNET + ETHERNET..end];
            let cut = cut.min(whole.len());
            let packet = if is_v4 { ipv4(&whole[..cut]) } else { ipv6(&whole[..cut]) };
            prop_assert_eq!(packet.is_some(), cut == whole.len());
        }
    }
}
