//! The addresses of a network: its subnets, which of their addresses containers get, and subnets that are free.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::cidr;
use crate::text::cidr::Cidr;

/// A subnet, of which a network has one of each family at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: Cidr,
    /// The supervisor's stack of each container answers there: the router, and the resolver.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The addresses that are given to containers that ask for none.
    #[serde(default)]
    pub lease_range: Option<LeaseRange>,
}

/// Both are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRange {
    #[serde(rename = "start_ip")]
    pub start: IpAddr,
    #[serde(rename = "end_ip")]
    pub end: IpAddr,
}

impl Subnet {
    /// With the first of its addresses for the gateway.
    pub fn of(subnet: Cidr) -> Subnet {
        Subnet {
            subnet,
            gateway: subnet.nth(1),
            lease_range: None,
        }
    }

    /// The first and the last address that a machine can have: not that of the network itself (in IPv6 that of all
    /// routers, RFC 4291, 2.6.1), and of IPv4 not the broadcast address.
    pub fn hosts(subnet: &Cidr) -> Option<(IpAddr, IpAddr)> {
        let first = subnet.nth(1)?;
        let last = cidr::number(subnet.last()) - u128::from(subnet.is_v4());
        (last >= cidr::number(first)).then(|| (first, cidr::address_like(first, last)))
    }

    /// Whether a container may have this address.
    pub fn takes(&self, address: IpAddr) -> bool {
        Subnet::hosts(&self.subnet).is_some_and(|(first, last)| {
            let range = cidr::number(first)..=cidr::number(last);
            self.subnet.contains(address)
                && range.contains(&cidr::number(address))
                && self.gateway != Some(address)
        })
    }

    /// The addresses for containers that ask for none, in order.
    pub fn leases(&self) -> impl Iterator<Item = IpAddr> {
        let hosts = match self.lease_range {
            Some(range) => Some((range.start, range.end)),
            None => Subnet::hosts(&self.subnet),
        };
        let (first, last) = hosts.unwrap_or((self.subnet.last(), self.subnet.first()));
        (cidr::number(first)..=cidr::number(last))
            .map(move |number| cidr::address_like(first, number))
            .filter(|address| self.takes(*address))
    }
}

/// Where subnets come from that nobody asked for: those of podman.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 0);
const LAST: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 0);
const PREFIX4: u8 = 24;
const PREFIX6: u8 = 64;

/// The first IPv4 subnet that neither another network has nor the host has a route to. Where the host has routes to
/// all of them, as into a large private network, one is as good as another.
pub fn free4(of_networks: &[Cidr], of_host: &[Cidr]) -> Result<Cidr> {
    let all = || {
        (FIRST.to_bits()..=LAST.to_bits())
            .step_by(1 << (32 - PREFIX4))
            .filter_map(|bits| Cidr::around(Ipv4Addr::from_bits(bits).into(), PREFIX4))
    };
    let is_free = |subnet: &Cidr, taken: &[Cidr]| !taken.iter().any(|one| one.overlaps(subnet));
    let found = all()
        .find(|subnet| is_free(subnet, of_networks) && is_free(subnet, of_host))
        .or_else(|| all().find(|subnet| is_free(subnet, of_networks)));
    found.ok_or_else(|| {
        let text =
            format!("other networks have all subnets from {FIRST}/{PREFIX4} to {LAST}/{PREFIX4}");
        fail(Kind::Conflict, text).hint("give one with `--subnet`, or `rbox network prune`")
    })
}

/// A random unique local subnet (RFC 4193).
pub fn free6(taken: &[Cidr]) -> Result<Cidr> {
    loop {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes[1..8], rustix::rand::GetRandomFlags::empty())?;
        bytes[0] = 0xfd;
        let around = Cidr::around(Ipv6Addr::from(bytes).into(), PREFIX6);
        if let Some(subnet) = around
            && !taken.iter().any(|one| one.overlaps(&subnet))
        {
            return Ok(subnet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(subnet: &str, gateway: Option<&str>, range: Option<(&str, &str)>) -> Vec<String> {
        let mut subnet = Subnet::of(subnet.parse().unwrap());
        if let Some(gateway) = gateway {
            subnet.gateway = Some(gateway.parse().unwrap());
        }
        subnet.lease_range = range.map(|(start, end)| LeaseRange {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
        });
        subnet.leases().take(4).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn containers_get_the_addresses_that_machines_can_have() {
        assert_eq!(
            leases("10.0.0.0/29", None, None),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
        );
        assert_eq!(leases("10.0.0.0/30", None, None), ["10.0.0.2"]);
        assert_eq!(leases("10.0.0.0/30", Some("10.0.0.2"), None), ["10.0.0.1"]);
        for too_small in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128"] {
            assert_eq!(leases(too_small, None, None), [""; 0], "{too_small}");
        }
        assert_eq!(leases("fd00::/126", None, None), ["fd00::2", "fd00::3"]);
        let range = Some(("10.0.0.254", "10.0.0.255"));
        assert_eq!(leases("10.0.0.0/24", None, range), ["10.0.0.254"]);
    }

    #[test]
    fn free_subnets_are_those_that_nobody_has() {
        let nets = |texts: &[&str]| -> Vec<Cidr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for (networks, host, expected) in [
            (&[][..], &[][..], "10.89.0.0/24"),
            (
                &["10.89.0.0/24", "10.88.0.0/16"],
                &["10.89.1.0/25"],
                "10.89.2.0/24",
            ),
            (&["10.89.0.0/16"], &[], "10.90.0.0/24"),
            (&["10.89.0.0/24"], &["10.0.0.0/8"], "10.89.1.0/24"),
            (&[], &["fd00::/8", "192.168.0.0/16"], "10.89.0.0/24"),
        ] {
            let free = free4(&nets(networks), &nets(host)).unwrap();
            assert_eq!(free.to_string(), expected);
        }
        assert!(free4(&nets(&["10.0.0.0/8"]), &[]).is_err());
        let (one, other) = (free6(&[]).unwrap(), free6(&[]).unwrap());
        assert!(one.to_string().starts_with("fd") && one.prefix() == 64 && one != other);
    }
}
