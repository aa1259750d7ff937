//! Bodies of rtnetlink(7) requests about interfaces: what they are, who is behind them, and what is done with the
//! packets that they take.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::sys::netlink::Body;

/// linux/if_addr.h: no attempt to find out whether anybody has the address.
const IFA_F_NODAD: u8 = 0x02;
/// linux/rtnetlink.h
const RTAX_INITCWND: u16 = 11;
const RTAX_QUICKACK: u16 = 15;
const RTAX_CC_ALGO: u16 = 16;
/// linux/if_link.h
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const VETH_INFO_PEER: u16 = 1;
/// linux/neighbour.h: an entry of a bridge, in the table of the bridge.
const NTF_MASTER: u8 = 0x04;
const NUD_NOARP: u16 = 0x40;
/// linux/pkt_sched.h: the place where packets come in (TC_H_CLSACT, TC_H_MIN_INGRESS).
const CLSACT: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
/// linux/rtnetlink.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// linux/pkt_cls.h
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
/// linux/tc_act/tc_mirred.h
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;

/// What TCP does on a route whose device loses nothing: no congestion control that measures it, and answers at once.
pub fn eager() -> Body {
    Body::default()
        .with(RTAX_CC_ALGO, b"reno\0")
        .with(RTAX_INITCWND, &64_u32.to_ne_bytes())
        .with(RTAX_QUICKACK, &1_u32.to_ne_bytes())
}

/// `struct ifinfomsg`: family, type, index, flags, and which flags change.
fn ifinfomsg(family: i32, index: u32, flags: i32) -> Body {
    let family = u8::try_from(family).expect("families are small numbers");
    let mut head = vec![family, 0, 0, 0];
    let flags = flags.cast_unsigned();
    for field in [index, flags, flags] {
        head.extend(field.to_ne_bytes());
    }
    Body::new(&head)
}

/// An interface by its number, for what is to be said of it.
pub fn of(index: u32) -> Body {
    ifinfomsg(libc::AF_UNSPEC, index, 0)
}

/// The same, up.
pub fn up(index: u32) -> Body {
    ifinfomsg(libc::AF_UNSPEC, index, libc::IFF_UP)
}

/// One that is to be made, or found, by its name.
pub fn named(name: &str) -> Body {
    of(0).with(libc::IFLA_IFNAME, &terminated(name))
}

/// A bridge that is to be made.
pub fn bridge(name: &str) -> Body {
    // Without somebody who asks for members of groups, looking out for them loses multicast packets.
    let data = Body::default().with(IFLA_BR_MCAST_SNOOPING, &[0]);
    let info = Body::default()
        .with(libc::IFLA_INFO_KIND, b"bridge")
        .with_nested(libc::IFLA_INFO_DATA, &data);
    named(name).with_nested(libc::IFLA_LINKINFO, &info)
}

/// A virtual cable that is to be made: its end here, and the body of the other one.
pub fn veth(name: &str, peer: &Body) -> Body {
    let data = Body::default().with_nested(VETH_INFO_PEER, peer);
    let info = Body::default()
        .with(libc::IFLA_INFO_KIND, b"veth")
        .with_nested(libc::IFLA_INFO_DATA, &data);
    named(name).with_nested(libc::IFLA_LINKINFO, &info)
}

/// An interface that is to be made on another one, and what its driver is told.
pub fn on_parent(kind: &str, name: &str, parent: u32, data: &Body) -> Body {
    let info = Body::default()
        .with(libc::IFLA_INFO_KIND, kind.as_bytes())
        .with_nested(libc::IFLA_INFO_DATA, data);
    named(name)
        .with(libc::IFLA_LINK, &parent.to_ne_bytes())
        .with_nested(libc::IFLA_LINKINFO, &info)
}

/// A port of a bridge that learns no addresses from what comes in, and gets nothing that is for somebody unknown.
pub fn fixed_port(index: u32) -> Body {
    let port = Body::default()
        .with(IFLA_BRPORT_LEARNING, &[0])
        .with(IFLA_BRPORT_UNICAST_FLOOD, &[0]);
    let nested = u16::try_from(libc::NLA_F_NESTED).expect("a flag of 16 bits");
    ifinfomsg(libc::AF_BRIDGE, index, 0).with_nested(libc::IFLA_PROTINFO | nested, &port)
}

/// `struct ndmsg`: family, index, state, flags, type.
fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> Body {
    let mut head = vec![family, 0, 0, 0];
    head.extend(index.to_ne_bytes());
    head.extend(state.to_ne_bytes());
    head.extend([flags, 0]);
    Body::new(&head)
}

/// Who is behind a port of a bridge.
pub fn behind_port(index: u32, mac: [u8; 6]) -> Body {
    let family = u8::try_from(libc::AF_BRIDGE).expect("families are small numbers");
    ndmsg(family, index, NUD_NOARP, NTF_MASTER).with(libc::NDA_LLADDR, &mac)
}

/// A neighbour that is known for ever: nobody has to ask for it.
pub fn neighbour(index: u32, ip: IpAddr, mac: [u8; 6]) -> Body {
    ndmsg(family(ip), index, libc::NUD_PERMANENT, 0)
        .with(libc::NDA_DST, &octets(ip))
        .with(libc::NDA_LLADDR, &mac)
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
pub fn address(index: u32, ip: IpAddr, prefix: u8) -> Body {
    let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut head = vec![family(ip), prefix, flags, 0];
    head.extend(index.to_ne_bytes());
    Body::new(&head)
        .with(libc::IFA_LOCAL, &octets(ip))
        .with(libc::IFA_ADDRESS, &octets(ip))
}

/// A route by a gateway to a subnet, which is everywhere for a prefix of 0.
///
/// `struct rtmsg`: family, lengths of target and source, TOS, table, protocol, scope, type, flags.
pub fn route(index: u32, to: (IpAddr, u8), gateway: IpAddr) -> Body {
    let (target, prefix) = to;
    let head = [
        family(gateway),
        prefix,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let body = Body::new(&head)
        .with(libc::RTA_OIF, &index.to_ne_bytes())
        .with(libc::RTA_GATEWAY, &octets(gateway));
    if prefix == 0 {
        body
    } else {
        body.with(libc::RTA_DST, &octets(target))
    }
}

/// What is sent with a mark is looked up in a table of its own, before the others.
///
/// `struct fib_rule_hdr`: family, lengths of target and source, TOS, table, two unused, action, flags.
pub fn rule(family: i32, mark: u32, table: u8) -> Body {
    const FR_ACT_TO_TBL: u8 = 1;
    const FRA_PRIORITY: u16 = 6;
    const FRA_FWMARK: u16 = 10;
    /// After the kernel's table of local addresses. Linux: a rule that is added without a number is put before this one.
    const PRIORITY: u32 = 100;
    let family = u8::try_from(family).expect("families are small numbers");
    Body::new(&[family, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0])
        .with(FRA_PRIORITY, &PRIORITY.to_ne_bytes())
        .with(FRA_FWMARK, &mark.to_ne_bytes())
}

/// A route by which every address is one of this host.
pub fn all_is_local(family: i32, table: u8) -> Body {
    /// The number of `lo` in every network namespace.
    const LOOPBACK: u32 = 1;
    let family = u8::try_from(family).expect("families are small numbers");
    let head = [
        family,
        0,
        0,
        0,
        table,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
        0,
        0,
        0,
        0,
    ];
    Body::new(&head)
        .with(libc::RTA_OIF, &LOOPBACK.to_ne_bytes())
        .with_nested(libc::RTA_METRICS, &eager())
}

/// `struct tcmsg`: family, index, handle, parent, info.
fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> Body {
    let mut head = vec![0; 4];
    for field in [index, handle, parent, info] {
        head.extend(field.to_ne_bytes());
    }
    Body::new(&head)
}

/// What lets packets of an interface be looked at as they come in.
pub fn filtered(index: u32) -> Body {
    tcmsg(index, CLSACT, CLSACT_PARENT, 0).with(TCA_KIND, b"clsact\0")
}

/// Which packets a filter is for: their protocol, and bytes of theirs.
#[derive(Clone, Debug)]
pub struct Match {
    /// `ETH_P_*`
    protocol: i32,
    /// Mask, value, and offset from the network header.
    keys: Vec<(u32, u32, i32)>,
}

impl Match {
    pub fn all() -> Match {
        Match::of(libc::ETH_P_ALL)
    }

    /// To a hardware address, which stands 14 bytes before the network header.
    pub fn to(mac: [u8; 6]) -> Match {
        let [first, second, rest @ ..] = mac;
        Match {
            protocol: libc::ETH_P_ALL,
            keys: vec![
                (0x0000_ffff, u32::from_be_bytes([0, 0, first, second]), -16),
                (u32::MAX, u32::from_be_bytes(rest), -12),
            ],
        }
    }

    pub fn arp() -> Match {
        Match::of(libc::ETH_P_ARP)
    }

    /// Frames of a protocol, which is that of their tag where they have one.
    pub fn of(protocol: i32) -> Match {
        Match {
            protocol,
            keys: vec![(0, 0, 0)],
        }
    }

    /// ARP of who says that he has an address (RFC 826: from byte 14 on).
    pub fn arp_from(ip: Ipv4Addr) -> Match {
        let [a, b, c, d] = ip.octets();
        Match {
            protocol: libc::ETH_P_ARP,
            keys: vec![
                (0x0000_ffff, u32::from_be_bytes([0, 0, a, b]), 12),
                (0xffff_0000, u32::from_be_bytes([c, d, 0, 0]), 16),
            ],
        }
    }

    /// ARP that asks for an address (from byte 24 on).
    pub fn arp_for(ip: Ipv4Addr) -> Match {
        Match {
            protocol: libc::ETH_P_ARP,
            keys: vec![(u32::MAX, ip.to_bits(), 24)],
        }
    }

    /// Packets of an address.
    pub fn from(ip: IpAddr) -> Match {
        match ip {
            IpAddr::V4(ip) => Match {
                protocol: libc::ETH_P_IP,
                keys: vec![(u32::MAX, ip.to_bits(), 12)],
            },
            IpAddr::V6(ip) => Match {
                protocol: libc::ETH_P_IPV6,
                keys: words(ip, 128, 8),
            },
        }
    }

    /// Messages of neighbour discovery about the addresses of a prefix (RFC 4861: type 135 asks, 136 answers; RFC 8200:
    /// after a header of 40 bytes).
    pub fn neighbour(kind: u8, ip: Ipv6Addr, bits: u32) -> Match {
        Match::discovery((0xff00_0000, u32::from(kind) << 24), words(ip, bits, 48))
    }

    /// Those in which senders say their own hardware addresses (RFC 4861: types 133 to 135), from the addresses of a
    /// prefix.
    pub fn neighbour_from(ip: Ipv6Addr, bits: u32) -> Match {
        // With them goes 132, of listeners who leave, which is never there: it has a header before it (RFC 2710).
        Match::discovery((0xfc00_0000, 132 << 24), words(ip, bits, 8))
    }

    fn discovery((mask, kind): (u32, u32), about: Vec<(u32, u32, i32)>) -> Match {
        const ICMPV6: u32 = 58;
        let mut keys = vec![(0x0000_ff00, ICMPV6 << 8, 4), (mask, kind, 40)];
        keys.extend(about);
        Match {
            protocol: libc::ETH_P_IPV6,
            keys,
        }
    }

    /// What may be neighbour discovery behind a further header: no router has passed it on, which is so of all such
    /// messages that are heard (RFC 4861: a hop limit of 255).
    pub fn near_behind(header: u8) -> Match {
        Match {
            protocol: libc::ETH_P_IPV6,
            keys: vec![(0x0000_ffff, u32::from(header) << 8 | 255, 4)],
        }
    }

    /// `struct tc_u32_sel` with its keys: mask, value, offset, and none of a variable one.
    fn selector(&self) -> Vec<u8> {
        let count = u8::try_from(self.keys.len()).expect("there are few");
        let mut selector = vec![TC_U32_TERMINAL, 0, count];
        selector.resize(16, 0);
        for (mask, value, offset) in &self.keys {
            selector.extend(mask.to_be_bytes());
            selector.extend(value.to_be_bytes());
            selector.extend(offset.to_ne_bytes());
            selector.extend([0; 4]);
        }
        selector
    }
}

/// The first bits of an address, from an offset on.
fn words(ip: Ipv6Addr, bits: u32, offset: i32) -> Vec<(u32, u32, i32)> {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes();
    let octets = (ip.to_bits() & u128::from_be_bytes(mask)).to_be_bytes();
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let pairs = mask.chunks(4).zip(octets.chunks(4));
    let keys = pairs.zip((offset..).step_by(4));
    keys.map(|((mask, octets), offset)| (word(mask), word(octets), offset))
        .filter(|(mask, ..)| *mask != 0)
        .collect()
}

/// What matches of that which comes in at `index` goes out at `to`, or on its way; of several filters the one with the
/// lowest number that matches decides.
pub fn filter(index: u32, number: u16, matches: &Match, to: Option<u32>) -> Body {
    let protocol = u16::try_from(matches.protocol).expect("protocols have 16 bits");
    let info = u32::from(number) << 16 | u32::from(protocol.to_be());
    let mut options = Body::default().with(TCA_U32_SEL, &matches.selector());
    if let Some(to) = to {
        // Linux: `struct tc_mirred` begins with index, capabilities, action, and two counters.
        let mut mirred = Vec::new();
        for field in [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to] {
            mirred.extend(field.to_ne_bytes());
        }
        let action = Body::default().with(TCA_ACT_KIND, b"mirred\0").with_nested(
            TCA_ACT_OPTIONS,
            &Body::default().with(TCA_MIRRED_PARMS, &mirred),
        );
        options = options.with_nested(TCA_U32_ACT, &Body::default().with_nested(1, &action));
    }
    tcmsg(index, 0, INGRESS, info)
        .with(TCA_KIND, b"u32\0")
        .with_nested(TCA_OPTIONS, &options)
}

pub fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    u8::try_from(family).expect("families are small numbers")
}

pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
