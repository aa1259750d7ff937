//! The addresses of a container with a network in user mode: on an Ethernet of its own that nothing else
//! sees, so that all containers can have the same ones. Only what the host itself uses is avoided.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde::Serialize;

/// `10.0.N.0/24`, of which 2 is the one that slirp4netns and QEMU use too.
const SUBNETS: std::ops::RangeInclusive<u8> = 2..=250;

/// A unique local prefix (RFC 4193), the same for all: it never leaves the container's Ethernet.
const PREFIX: [u16; 4] = [0xfd72, 0x626f, 0x7800, 0];

/// What is where on a container's Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub container4: Ipv4Addr,
    /// The host, and the router to everywhere else.
    pub gateway4: Ipv4Addr,
    pub resolver4: Ipv4Addr,
    pub container6: Ipv6Addr,
    pub gateway6: Ipv6Addr,
    pub resolver6: Ipv6Addr,
}

impl Addresses {
    pub const PREFIX4: u8 = 24;
    pub const PREFIX6: u8 = 64;

    /// Those in the first of the subnets that this host has no route to.
    pub fn choose() -> Addresses {
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        Addresses::beside(&routes)
    }

    fn beside(routes: &str) -> Addresses {
        let taken: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(route).collect();
        let is_free = |number: &u8| {
            let subnet = u32::from(Ipv4Addr::new(10, 0, *number, 0));
            let ours = u32::MAX << 8;
            !taken
                .iter()
                .any(|(network, mask)| (subnet ^ network) & (mask & ours) == 0)
        };
        // Where the host has a route to all of 10/8, any is as good as the first.
        Addresses::within(SUBNETS.clone().find(is_free).unwrap_or(*SUBNETS.start()))
    }

    fn within(number: u8) -> Addresses {
        let v4 = |host| Ipv4Addr::new(10, 0, number, host);
        let v6 = |host| {
            let [a, b, c, d] = PREFIX;
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, host)
        };
        Addresses {
            container4: v4(100),
            gateway4: v4(2),
            resolver4: v4(3),
            container6: v6(0x100),
            gateway6: v6(2),
            resolver6: v6(3),
        }
    }

    /// The container's address of the family of `other`, and its router's.
    pub fn of_family(&self, other: IpAddr) -> (IpAddr, IpAddr) {
        if other.is_ipv4() {
            (self.container4.into(), self.gateway4.into())
        } else {
            (self.container6.into(), self.gateway6.into())
        }
    }
}

/// Network and mask of a line of /proc/net/route (proc(5): hexadecimal, in the order of the network), but for
/// a default route.
fn route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| {
        let text = fields.get(at)?;
        Some(u32::from_str_radix(text, 16).ok()?.swap_bytes())
    };
    let (network, mask) = (number(1)?, number(7)?);
    (mask != 0).then_some((network, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    #[test]
    fn a_subnet_of_the_host_is_avoided() {
        let line = |network: &str, mask: &str| {
            format!("{HEAD}eth0\t{network}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        for (routes, expected) in [
            (HEAD.to_owned(), "10.0.2.100"),
            (line("00000000", "00000000"), "10.0.2.100"),
            (line("0002000A", "00FFFFFF"), "10.0.3.100"),
            // 10.0.2.64/26, and 10.0.0.0/22.
            (line("4002000A", "C0FFFFFF"), "10.0.3.100"),
            (line("0000000A", "00FCFFFF"), "10.0.4.100"),
            (line("0000000A", "000000FF"), "10.0.2.100"),
            (line("0000A8C0", "00FFFFFF"), "10.0.2.100"),
            ("junk\nx\ty".into(), "10.0.2.100"),
        ] {
            let chosen = Addresses::beside(&routes).container4;
            assert_eq!(chosen.to_string(), expected, "{routes}");
        }
    }
}
