//! Datagrams that are larger than the MTU: cut into fragments for the container, and put together from those that it
//! sends (RFC 791, RFC 8200). What does not fit together is refused as a whole (RFC 5722), in IPv4 too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use crate::network::stack::packet;
use crate::network::stack::packet::Fragment;
use crate::network::stack::packet::Packet;

/// Offsets count these, so all fragments but the last have a multiple of it.
const UNIT: usize = 8;
/// Datagrams that are being put together, of 64 KiB each at most; then the oldest goes.
const MOST: usize = 64;
/// As Linux (`net.ipv4.ipfrag_time`).
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame as fragments that fit the MTU.
pub fn cut(frame: &mut [u8], mtu: u16, ident: u32) -> Vec<Vec<u8>> {
    packet::complete_checksum(frame);
    let (head, payload) = packet::split_ip(frame);
    let room = (usize::from(mtu) - packet::fragment_header(head)) / UNIT * UNIT;
    let last = payload.len().saturating_sub(1) / room;
    let chunks = payload.chunks(room).enumerate();
    chunks
        .map(|(at, chunk)| {
            let fragment = Fragment {
                ident,
                offset: at * room,
                has_more: at < last,
            };
            packet::fragment(head, fragment, chunk)
        })
        .collect()
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    target: IpAddr,
    protocol: u8,
    ident: u32,
}

struct Partial {
    began: Instant,
    bytes: Vec<u8>,
    /// Which units are there.
    has: Vec<bool>,
    missing: usize,
    /// How long it is, once its last fragment is there.
    length: Option<usize>,
    is_refused: bool,
}

#[derive(Default)]
pub struct Fragments(HashMap<Key, Partial>);

impl Fragments {
    /// Takes a fragment of the container's; the payload that it makes whole.
    pub fn add(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        fragment: Fragment,
    ) -> Option<Vec<u8>> {
        self.0
            .retain(|_, partial| now.saturating_duration_since(partial.began) < PATIENCE);
        let key = Key {
            source: packet.source,
            target: packet.target,
            protocol: packet.protocol,
            ident: fragment.ident,
        };
        if !self.0.contains_key(&key) {
            self.make_room();
        }
        let most = packet::largest_payload(packet.source.is_ipv4());
        let partial = self.0.entry(key).or_insert_with(|| Partial::new(now));
        if !partial.is_refused && !partial.take(fragment, packet.payload, most) {
            // It stays, so that what comes later of it is refused too.
            *partial = Partial::new(partial.began);
            partial.is_refused = true;
        }
        if !partial.is_whole() {
            return None;
        }
        let bytes = std::mem::take(&mut partial.bytes);
        self.0.retain(|_, partial| !partial.is_whole());
        Some(bytes)
    }

    fn make_room(&mut self) {
        while self.0.len() >= MOST {
            let Some(oldest) = self.0.values().map(|partial| partial.began).min() else {
                return;
            };
            let mut is_there = true;
            self.0.retain(|_, partial| {
                let goes = is_there && partial.began == oldest;
                is_there &= !goes;
                !goes
            });
        }
    }
}

impl Partial {
    fn new(began: Instant) -> Partial {
        Partial {
            began,
            bytes: vec![],
            has: vec![],
            missing: 0,
            length: None,
            is_refused: false,
        }
    }

    /// Whether it fits to those that are there.
    fn take(&mut self, fragment: Fragment, data: &[u8], most: usize) -> bool {
        let end = fragment.offset + data.len();
        let is_cut_well = !fragment.has_more || data.len().is_multiple_of(UNIT);
        let fits = if fragment.has_more {
            self.length.is_none_or(|length| end <= length)
        } else {
            self.length.is_none() && end >= self.bytes.len()
        };
        if data.is_empty() || end > most || !is_cut_well || !fits {
            return false;
        }
        let units = fragment.offset / UNIT..end.div_ceil(UNIT);
        if self.has.len() < units.end {
            self.missing += units.end - self.has.len();
            self.has.resize(units.end, false);
            self.bytes.resize(end, 0);
        }
        if self.has[units.clone()].contains(&true) {
            return false;
        }
        self.missing -= units.len();
        self.has[units].fill(true);
        self.bytes[fragment.offset..end].copy_from_slice(data);
        if !fragment.has_more {
            self.length = Some(end);
        }
        true
    }

    fn is_whole(&self) -> bool {
        self.length.is_some() && self.missing == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::network::stack::packet::Path;

    fn path(is_v4: bool) -> Path {
        if is_v4 {
            Path {
                source: Ipv4Addr::new(198, 51, 100, 7).into(),
                target: Ipv4Addr::new(10, 0, 2, 100).into(),
            }
        } else {
            Path {
                source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
                target: Ipv6Addr::new(0xfd72, 0, 0, 0, 0, 0, 0, 1).into(),
            }
        }
    }

    fn pieces(is_v4: bool, length: usize, mtu: u16) -> Vec<Vec<u8>> {
        let start = packet::udp_payload_at(path(is_v4));
        let mut frame = vec![0; start + length];
        for (at, byte) in frame[start..].iter_mut().enumerate() {
            *byte = (at * 7 + (at >> 8)).to_le_bytes()[0];
        }
        let end = packet::udp(&mut frame, path(is_v4), 53, 40000, length);
        cut(&mut frame[..end], mtu, 0x1234_5678)
    }

    fn parse(frame: &[u8]) -> Packet<'_> {
        match packet::ethernet(frame).unwrap() {
            (packet::ETHERTYPE_IPV4, bytes) => packet::ipv4(bytes).unwrap(),
            (_, bytes) => packet::ipv6(bytes).unwrap(),
        }
    }

    fn put(all: &mut Fragments, frame: &[u8]) -> Option<Vec<u8>> {
        let packet = parse(frame);
        all.add(Instant::now(), &packet, packet.fragment.unwrap())
    }

    #[test]
    fn what_was_cut_is_put_together_in_any_order() {
        for is_v4 in [true, false] {
            for (length, mtu) in [(3000, 1280), (65507, 1400), (65507, 65520), (1300, 1280)] {
                let mut pieces = pieces(is_v4, length, mtu);
                assert!(pieces.len() > 1);
                for piece in &pieces {
                    assert!(piece.len() <= packet::AHEAD + usize::from(mtu));
                }
                pieces.rotate_left(1);
                let last = pieces.pop().unwrap();
                let mut all = Fragments::default();
                for piece in &pieces {
                    assert_eq!(put(&mut all, piece), None);
                }
                let whole = put(&mut all, &last).unwrap();
                let (source, target, payload) = packet::parse_udp(&whole).unwrap();
                assert_eq!((source, target, payload.len()), (53, 40000, length));
                let right =
                    |(at, byte): (usize, &u8)| *byte == (at * 7 + (at >> 8)).to_le_bytes()[0];
                assert!(payload.iter().enumerate().all(right));
                // RFC 768: with its pseudo header the whole sums up to ones.
                assert!(packet::is_sum_right(path(is_v4), packet::UDP, &whole));
                assert!(all.0.is_empty());
            }
        }
    }

    #[test]
    fn what_overlaps_is_refused_and_stays_so() {
        for is_v4 in [true, false] {
            let pieces = pieces(is_v4, 4000, 1280);
            let mut all = Fragments::default();
            assert_eq!(put(&mut all, &pieces[0]), None);
            assert_eq!(put(&mut all, &pieces[0]), None);
            for piece in &pieces {
                assert_eq!(put(&mut all, piece), None);
            }
            assert_eq!(all.0.len(), 1);
            assert!(all.0.values().all(|partial| partial.bytes.is_empty()));
        }
    }

    #[test]
    fn those_that_are_never_whole_are_bounded_and_go_with_time() {
        let began = Instant::now();
        let mut all = Fragments::default();
        let pieces = pieces(true, 65000, 1280);
        let packet = parse(pieces.last().unwrap());
        let fragment = packet.fragment.unwrap();
        for ident in 0..1000 {
            let fragment = Fragment { ident, ..fragment };
            assert_eq!(all.add(began, &packet, fragment), None);
        }
        assert_eq!(all.0.len(), MOST);
        let bytes: usize = all.0.values().map(|partial| partial.bytes.len()).sum();
        assert!(bytes <= 4 << 20, "{bytes}");
        assert_eq!(all.add(began + PATIENCE, &packet, fragment), None);
        assert_eq!(all.0.len(), 1);
    }

    proptest! {
        #[test]
        fn no_fragments_make_it_panic(
            given in prop::collection::vec((0..4_u32, 0..8192_usize, any::<bool>(), 0..2000_usize), 0..40),
        ) {
            let mut all = Fragments::default();
            let data = [7; 2000];
            for (ident, offset, has_more, length) in given {
                let fragment = Fragment { ident, offset: offset * UNIT, has_more };
                let packet = Packet { payload: &data[..length], ..parse(&pieces(true, 2000, 1280)[0]) };
                if let Some(whole) = all.add(Instant::now(), &packet, fragment) {
                    prop_assert!(whole.iter().all(|byte| *byte == 7));
                }
            }
        }
    }
}
