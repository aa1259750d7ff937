//! Networks of addresses in CIDR notation: `10.89.0.0/24`, `fd00::/64`.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// The first address of a network, and how many bits of it all its addresses have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network of so many common bits that an address is in; `None` where the address has not as many.
    pub fn around(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let first = number(address) & mask(address, prefix)?;
        Some(Cidr {
            first: address_like(address, first),
            prefix,
        })
    }

    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The broadcast address of IPv4.
    pub fn last(&self) -> IpAddr {
        let hosts = !mask(self.first, self.prefix).unwrap_or(u128::MAX) & all(self.first);
        address_like(self.first, number(self.first) | hosts)
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn is_v4(&self) -> bool {
        self.first.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Cidr::around(address, self.prefix) == Some(*self)
    }

    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address so far after the first, if the network has it.
    pub fn nth(&self, number_of: u128) -> Option<IpAddr> {
        let wanted = number(self.first).checked_add(number_of)?;
        (wanted <= number(self.last())).then(|| address_like(self.first, wanted))
    }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The number as an address of the other's family.
pub fn address_like(other: IpAddr, number: u128) -> IpAddr {
    match other {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// All bits that an address of this family has.
fn all(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(_) => u32::MAX.into(),
        IpAddr::V6(_) => u128::MAX,
    }
}

fn mask(address: IpAddr, prefix: u8) -> Option<u128> {
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let hosts = bits.checked_sub(prefix.into())?;
    Some(all(address) & u128::MAX.checked_shl(hosts).unwrap_or(0))
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// Bits of the host are passed over, as in `10.89.0.7/24`.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: Option<IpAddr> = address.parse().ok();
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: Option<u8> = prefix.parse().ok().filter(|_| digits);
        address
            .zip(prefix)
            .and_then(|(address, prefix)| Cidr::around(address, prefix))
            .ok_or_else(|| "expected a network as 10.89.0.0/24 or fd00::/64".to_owned())
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Cidr, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, whole, last) in [
            ("10.89.0.7/24", "10.89.0.0/24", "10.89.0.255"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.255.255.255"),
            ("10.0.0.1/32", "10.0.0.1/32", "10.0.0.1"),
            ("FD00:0::1/64", "fd00::/64", "fd00::ffff:ffff:ffff:ffff"),
            ("::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("::1/128", "::1/128", "::1"),
        ] {
            assert_eq!(cidr(text).to_string(), whole);
            assert_eq!(cidr(text).last().to_string(), last);
        }
        for text in [
            "",
            "10.89.0.0",
            "10.89.0.0/",
            "10.89.0.0/33",
            "10.89.0/24",
            "fd00::/129",
            "/24",
            "10.89.0.0/+8",
            "10.89.0.0/24/1",
            "10.89.0.0/-1",
            "fd00::%eth0/64",
            "a/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_in_a_network_and_what_overlaps() {
        let net = cidr("10.89.0.0/24");
        assert!(net.contains([10, 89, 0, 255].into()) && !net.contains([10, 89, 1, 0].into()));
        assert!(!net.contains(Ipv6Addr::LOCALHOST.into()));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
        for (one, other, expected) in [
            ("10.89.0.0/24", "10.89.0.128/25", true),
            ("10.89.0.0/24", "10.0.0.0/8", true),
            ("10.89.0.0/24", "10.89.1.0/24", false),
            ("fd00::/64", "fd00::1:0:0:0/80", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
        ] {
            assert_eq!(cidr(one).overlaps(&cidr(other)), expected, "{one} {other}");
            assert_eq!(cidr(other).overlaps(&cidr(one)), expected, "{other} {one}");
        }
        assert_eq!(net.nth(1), Some([10, 89, 0, 1].into()));
        assert_eq!(net.nth(256), None);
        assert_eq!(cidr("::/0").nth(u128::MAX), Some(cidr("::/0").last()));
        assert_eq!(cidr("ff00::/8").nth(u128::MAX), None);
    }
}
