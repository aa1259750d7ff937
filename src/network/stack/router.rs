//! Router advertisements (RFC 4861, RFC 4862, RFC 8106) for programs that configure their interface themselves: a
//! container that asks for a router is told its prefix, from which it may make addresses, and the resolver.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::config::addresses::Addresses;
use crate::network::stack::link::Link;
use crate::network::stack::packet;
use crate::network::stack::packet::GATEWAY_MAC;
use crate::network::stack::packet::Path;
use crate::network::stack::slab::Token;

pub const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Advertisements come again, for they are forgotten: `MaxRtrAdvInterval`, and three times of it.
const INTERVAL: Duration = Duration::from_mins(10);
const LIFETIME: u16 = 30 * 60;
/// Of addresses: valid for a day, used for new connections for four hours.
const VALID: u32 = 24 * 60 * 60;
const PREFERRED: u32 = 4 * 60 * 60;

/// Answers who asks, who may have no address yet.
pub fn solicited(link: &mut Link, source: IpAddr) {
    let IpAddr::V6(source) = source else {
        return;
    };
    if !link.addresses.has6 || source.is_multicast() {
        return;
    }
    if !link.tells_prefix {
        link.tells_prefix = true;
        link.timers.push(link.now + INTERVAL, Token::ROUTER);
    }
    let is_nobody = source.is_unspecified();
    advertise(link, if is_nobody { ALL_NODES } else { source });
}

/// Tells all that listen, and does so again.
pub fn on_timer(link: &mut Link) {
    link.timers.push(link.now + INTERVAL, Token::ROUTER);
    if link.addresses.has6 {
        advertise(link, ALL_NODES);
    }
}

fn advertise(link: &Link, target: Ipv6Addr) {
    let path = Path {
        source: own_address().into(),
        target: target.into(),
    };
    let message = message(&link.addresses, link.mtu);
    link.send(&mut packet::icmp(path, &message));
}

/// The gateway's address on its link alone, from its MAC (RFC 4291, appendix A).
fn own_address() -> Ipv6Addr {
    let (maker, number) = GATEWAY_MAC.split_at(3);
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..11].copy_from_slice(maker);
    octets[11..13].copy_from_slice(&[0xff, 0xfe]);
    octets[13..].copy_from_slice(number);
    octets[8] ^= 2;
    octets.into()
}

fn message(addresses: &Addresses, mtu: u16) -> Vec<u8> {
    const HOPS: u8 = 64;
    /// On this link, and good for addresses.
    const FLAGS: u8 = 0xc0;
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, HOPS, 0];
    message.extend(LIFETIME.to_be_bytes());
    // Nothing is said of how neighbours are found.
    message.extend([0; 8]);
    message.extend([1, 1]);
    message.extend(GATEWAY_MAC);
    message.extend([5, 1, 0, 0]);
    message.extend(u32::from(mtu).to_be_bytes());
    message.extend([3, 4, Addresses::PREFIX6, FLAGS]);
    message.extend(VALID.to_be_bytes());
    message.extend(PREFERRED.to_be_bytes());
    message.extend([0; 4]);
    message.extend(&addresses.container6.octets()[..8]);
    message.extend([0; 8]);
    message.extend([25, 3, 0, 0]);
    message.extend(u32::from(LIFETIME).to_be_bytes());
    message.extend(addresses.resolver6.octets());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_is_as_the_rfcs_have_it() {
        let message = message(&Addresses::choose(), 1400);
        let (head, options) = message.split_at(16);
        assert_eq!(head, [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut found = vec![];
        let mut rest = options;
        while let [kind, length, ..] = *rest {
            let (option, after) = rest.split_at(usize::from(length) * 8);
            found.push((kind, option));
            rest = after;
        }
        let prefix = "fd72:626f:7800::".parse::<Ipv6Addr>().unwrap().octets();
        let resolver = "fd72:626f:7800::3".parse::<Ipv6Addr>().unwrap().octets();
        let numbers = [64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0];
        assert_eq!(
            found,
            [
                (1, &[&[1, 1][..], &GATEWAY_MAC].concat()[..]),
                (5, &[5, 1, 0, 0, 0, 0, 5, 120]),
                (3, &[&[3, 4][..], &numbers, &prefix].concat()),
                (25, &[&[25, 3, 0, 0, 0, 0, 7, 8][..], &resolver].concat()),
            ]
        );
        assert_eq!(own_address().to_string(), "fe80::5062:6fff:fe78:1");
    }
}
