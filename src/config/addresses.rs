//! The addresses of a container with a network in user mode: on an Ethernet of its own that nothing else
//! sees, so that all containers can have the same ones. Only what the host itself uses is avoided.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde::Serialize;

use crate::text::cidr::Cidr;

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
    /// Whether the container has the addresses of this family.
    #[serde(default = "yes")]
    pub has4: bool,
    #[serde(default = "yes")]
    pub has6: bool,
}

fn yes() -> bool {
    true
}

impl Addresses {
    pub const PREFIX4: u8 = 24;
    pub const PREFIX6: u8 = 64;

    /// Those in the first of the subnets that this host has no route to.
    pub fn choose() -> Addresses {
        Addresses::beside(&routes4(&read("/proc/net/route")))
    }

    fn beside(routes: &[Route]) -> Addresses {
        let is_free = |number: &u8| {
            let first = Ipv4Addr::new(10, 0, *number, 0).into();
            Cidr::around(first, Addresses::PREFIX4)
                .is_some_and(|subnet| !routes.iter().any(|route| route.to.overlaps(&subnet)))
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
            has4: true,
            has6: true,
        }
    }

    /// Those on a network: container and gateway, which is the resolver too.
    pub fn on_network(
        v4: Option<(Ipv4Addr, Ipv4Addr)>,
        v6: Option<(Ipv6Addr, Ipv6Addr)>,
    ) -> Addresses {
        let mut addresses = Addresses::within(*SUBNETS.start());
        (addresses.has4, addresses.has6) = (v4.is_some(), v6.is_some());
        if let Some((container, gateway)) = v4 {
            addresses.container4 = container;
            (addresses.gateway4, addresses.resolver4) = (gateway, gateway);
        }
        if let Some((container, gateway)) = v6 {
            addresses.container6 = container;
            (addresses.gateway6, addresses.resolver6) = (gateway, gateway);
        }
        addresses
    }

    /// Whether the container has an address of the family of `other`.
    pub fn has_family(&self, other: IpAddr) -> bool {
        if other.is_ipv4() {
            self.has4
        } else {
            self.has6
        }
    }

    /// Of IPv4, where the container has it.
    pub fn gateway(&self) -> IpAddr {
        if self.has4 {
            self.gateway4.into()
        } else {
            self.gateway6.into()
        }
    }

    pub fn resolver(&self) -> IpAddr {
        if self.has4 {
            self.resolver4.into()
        } else {
            self.resolver6.into()
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

/// What the host reaches, and where it stands itself; default routes are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: Cidr,
    /// By no router: the host has an address there.
    pub is_direct: bool,
}

/// The host's routes of both families.
pub fn routes() -> Vec<Route> {
    let mut routes = routes4(&read("/proc/net/route"));
    routes.extend(routes6(&read("/proc/net/ipv6_route")));
    routes
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Lines of /proc/net/route (proc(5): hexadecimal, in the order of the network).
fn routes4(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| {
            let text = fields.get(at)?;
            Some(u32::from_str_radix(text, 16).ok()?.swap_bytes())
        };
        let (network, router, mask) = (number(1)?, number(2)?, number(7)?);
        let prefix = u8::try_from(mask.leading_ones()).ok()?;
        Some(Route {
            to: Cidr::around(Ipv4Addr::from_bits(network).into(), prefix)?,
            is_direct: router == 0,
        })
    };
    let found = text.lines().skip(1).filter_map(route);
    found.filter(|route| route.to.prefix() > 0).collect()
}

/// Lines of /proc/net/ipv6_route: network, bits, source, its bits, router, metric and counters, flags, device. What
/// every host has is left out: its own addresses, link-local ones and multicast.
fn routes6(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
        let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
        let network = Ipv6Addr::from_bits(address(0)?);
        let common = network.is_multicast() || network.is_unicast_link_local();
        let is_wanted = prefix > 0 && !common && *fields.get(9)? != "lo";
        Some(Route {
            to: Cidr::around(network.into(), prefix)?,
            is_direct: address(4)? == 0,
        })
        .filter(|_| is_wanted)
    };
    text.lines().filter_map(route).collect()
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
            let chosen = Addresses::beside(&routes4(&routes)).container4;
            assert_eq!(chosen.to_string(), expected, "{routes}");
        }
    }

    #[test]
    fn routes_of_both_families_are_read() {
        let v4 = format!(
            "{HEAD}eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
             tun0\t0000000A\t0100A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
        );
        let zero = "0".repeat(32);
        let line = |to: &str, prefix: &str, router: &str, device: &str| {
            let to = format!("{to:0<32}");
            format!(
                "{to} {prefix} {zero} 00 {router:0<32} 00000100 00000001 00000000 00000001 {device}\n"
            )
        };
        let v6 = line("fd000001", "40", "0", "eth0")
            + &line("fd00", "10", "fe80", "eth0")
            + &line("fe80", "40", "0", "eth0")
            + &line("ff", "08", "0", "eth0")
            + &line("0", "00", "fe80", "eth0")
            + &line("fd000001", "80", "0", "lo")
            + "junk\n";
        let shown = |routes: Vec<Route>| -> Vec<String> {
            let show = |route: Route| format!("{} {}", route.to, route.is_direct);
            routes.into_iter().map(show).collect()
        };
        assert_eq!(
            shown(routes4(&v4)),
            ["192.168.0.0/24 true", "10.0.0.0/8 false"]
        );
        assert_eq!(shown(routes6(&v6)), ["fd00:1::/64 true", "fd00::/16 false"]);
    }
}
