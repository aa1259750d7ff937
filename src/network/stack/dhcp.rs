//! DHCP (RFC 2131) for containers that configure their interface themselves, such as those with an init of a whole
//! system: they are told the address that they have already.

use std::net::Ipv4Addr;

use crate::config::addresses::Addresses;
use crate::network::stack::link::Link;
use crate::network::stack::packet;
use crate::network::stack::packet::Path;
use crate::network::stack::packet::u16_at;

pub const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// Of what comes before the options; their first four bytes are the cookie.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const LEASE: u32 = 24 * 60 * 60;

/// The kinds of message.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const INFORM: u8 = 8;

/// Answers a message of the container's.
pub fn answer(link: &mut Link, message: &[u8]) {
    if !link.addresses.has4 {
        return;
    }
    let Some(reply) = reply(&link.addresses, link.mtu, message) else {
        return;
    };
    let path = Path {
        source: link.addresses.gateway4.into(),
        target: Ipv4Addr::BROADCAST.into(),
    };
    let start = packet::udp_payload_at(path);
    link.frame[start..start + reply.len()].copy_from_slice(&reply);
    let end = packet::udp(&mut link.frame, path, SERVER, CLIENT, reply.len());
    link.send_own(end);
}

fn reply(addresses: &Addresses, mtu: u16, message: &[u8]) -> Option<Vec<u8>> {
    // A request of a client on Ethernet.
    if message.get(..3)? != [1, 1, 6] || message.get(FIXED..FIXED + 4)? != COOKIE {
        return None;
    }
    let kind = match option(&message[FIXED + 4..], 53)? {
        [DISCOVER] => OFFER,
        [REQUEST | INFORM] => ACK,
        _ => return None,
    };
    let mut reply = message[..FIXED].to_vec();
    reply[0] = 2;
    // Ours to fill in: the client's address, and the server's.
    reply[16..20].copy_from_slice(&addresses.container4.octets());
    reply[20..24].copy_from_slice(&addresses.gateway4.octets());
    // Neither a name of a server nor a file to boot from.
    reply[44..].fill(0);
    reply.extend(COOKIE);
    let mask = u32::MAX << (32 - Addresses::PREFIX4);
    for (code, value) in [
        (53, &[kind][..]),
        (54, &addresses.gateway4.octets()),
        (51, &LEASE.to_be_bytes()),
        (1, &mask.to_be_bytes()),
        (3, &addresses.gateway4.octets()),
        (6, &addresses.resolver4.octets()),
        (26, &mtu.to_be_bytes()),
    ] {
        reply.extend([code, u8::try_from(value.len()).ok()?]);
        reply.extend(value);
    }
    reply.push(255);
    Some(reply)
}

/// The value of an option; codes 0 and 255 have none.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [code @ 1..=254, length, rest @ ..] => {
                let (value, after) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                options = after;
            }
            _ => return None,
        }
    }
}

/// Whether a datagram is one for a DHCP server.
pub fn is_for_server(datagram: &[u8]) -> bool {
    u16_at(datagram, 0) == Some(CLIENT) && u16_at(datagram, 2) == Some(SERVER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, 4]);
        message.extend(COOKIE);
        message.extend(options);
        message
    }

    #[test]
    fn the_address_that_it_has_is_offered_and_confirmed() {
        let own = Addresses::choose();
        for (asked, told) in [(DISCOVER, OFFER), (REQUEST, ACK), (INFORM, ACK)] {
            let message = request(&[0, 12, 2, b'h', b'i', 53, 1, asked, 255]);
            let reply = reply(&own, 1400, &message).unwrap();
            assert_eq!(option(&reply[FIXED + 4..], 26), Some(&[5, 120][..]));
            assert_eq!(reply[..8], [2, 1, 6, 0, 1, 2, 3, 4]);
            assert_eq!(reply[16..20], own.container4.octets());
            let options = &reply[FIXED + 4..];
            assert_eq!(option(options, 53), Some(&[told][..]));
            assert_eq!(option(options, 1), Some(&[255, 255, 255, 0][..]));
            assert_eq!(option(options, 6), Some(&own.resolver4.octets()[..]));
        }
        for options in [
            &[][..],
            &[53],
            &[53, 1],
            &[53, 9, 1],
            &[53, 1, 7],
            &[255, 53, 1, 1],
        ] {
            assert_eq!(reply(&own, 1400, &request(options)), None);
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(options in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..300) {
            let message = request(&options);
            reply(&Addresses::choose(), 1400, &message[..cut.min(message.len())]);
        }
    }
}
