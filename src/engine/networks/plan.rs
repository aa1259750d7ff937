//! A network as it is asked for, and the record that comes of it: what is not said is chosen, what cannot be is
//! refused. Decides, and writes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::config::addresses;
use crate::engine::networks::options;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::direct::PARENT;
use crate::network::record::Driver;
use crate::network::record::Ipam;
use crate::network::record::LONGEST_INTERFACE;
use crate::network::record::LeaseRange;
use crate::network::record::Network;
use crate::network::record::Route;
use crate::network::record::Subnet;
use crate::network::subnet;
use crate::text::cidr;
use crate::text::cidr::Cidr;

/// What `network create` asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: Option<String>,
    pub driver: Driver,
    pub interface: Option<String>,
    pub subnets: Vec<Cidr>,
    pub gateways: Vec<IpAddr>,
    pub ranges: Vec<Range>,
    pub reserved: BTreeMap<String, IpAddr>,
    pub ipv4: bool,
    pub ipv6: bool,
    pub internal: bool,
    pub dns: bool,
    pub dns_servers: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub routes: Vec<Route>,
    pub ipam: Ipam,
}

/// `--ip-range`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    Within(Cidr),
    Between(LeaseRange),
}

/// What a network cannot be called: words that `--network` knows.
const MODES: [&str; 8] = [
    "container",
    "default",
    "host",
    "none",
    "ns",
    "pasta",
    "private",
    "slirp4netns",
];

/// A name is a file name with five more letters; Linux allows 255 bytes (NAME_MAX).
const LONGEST_NAME: usize = 250;

/// What no network can be in: this host, loopback, multicast and what is reserved, and in IPv6 link-local addresses.
const NO_SUBNETS: [&str; 6] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/3",
    "::/8",
    "fe80::/10",
    "ff00::/8",
];

const INTERFACE_IN_CONTAINER: &str =
    "`rbox run --network NAME:interface_name=net0` names that in a container";

/// The word before a number in names that nobody gave.
const PREFIX: &str = "rbox";

impl Wish {
    pub fn has_v6(&self) -> bool {
        self.ipv6 || self.subnets.iter().any(|subnet| !subnet.is_v4())
    }

    /// Refuses what is wrong whatever other networks there are.
    pub fn checked(mut self) -> anyhow::Result<Wish> {
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        self.options = options::take(&mut self)?;
        if self.driver != Driver::Bridge {
            self = self.checked_direct()?;
        }
        if let Some(interface) = &self.interface {
            check_interface(interface)?;
        }
        if !self.dns_servers.is_empty() {
            check_asks("--dns", self.driver, self.ipam, self.internal)?;
        }
        if self.ipam == Ipam::None {
            let given =
                !self.subnets.is_empty() || !self.gateways.is_empty() || !self.ranges.is_empty();
            if given || self.ipv6 || !self.reserved.is_empty() {
                return Err(usage(
                    "--ipam-driver none: a network without addresses has no subnet",
                ));
            }
            self.dns = false;
        } else if !self.ipv4 && !self.has_v6() {
            return Err(usage("--ipv4=false needs --ipv6, or an IPv6 --subnet"));
        }
        for family in [true, false] {
            let of_family: Vec<String> = self
                .subnets
                .iter()
                .filter(|one| one.is_v4() == family)
                .map(Cidr::to_string)
                .collect();
            if of_family.len() > 1 {
                let all = of_family.join(" and ");
                return Err(usage(&format!(
                    "--subnet {all}: a network has one subnet of each family"
                )));
            }
            if family && !self.ipv4 && !of_family.is_empty() {
                return Err(usage(&format!(
                    "--subnet {}: --ipv4=false is given too",
                    of_family[0]
                )));
            }
        }
        for subnet in &self.subnets {
            check_subnet(subnet)?;
        }
        Ok(self)
    }

    /// On an interface of the host's: its subnet is not for rbox to choose, and it answers no names there.
    fn checked_direct(mut self) -> anyhow::Result<Wish> {
        let driver = self.driver.name();
        let parent = self.options.remove(PARENT);
        if let (Some(parent), Some(other)) = (&parent, &self.interface)
            && parent != other
        {
            let text = format!(
                "--interface-name {other}: of --driver {driver} it is the parent, and --opt says {parent}"
            );
            return Err(usage(&text).hint(INTERFACE_IN_CONTAINER));
        }
        self.interface = parent.or(self.interface);
        if self.interface.is_none() {
            let text = format!("--driver {driver}: it needs an interface of the host");
            return Err(usage(&text).hint("`--opt parent=eth0`; `ip link` shows those there are"));
        }
        self.dns = false;
        if self.ipam == Ipam::HostLocal && self.subnets.is_empty() {
            let text = format!("--driver {driver}: it needs the subnet that its interface is in");
            return Err(usage(&text)
                .hint("`--subnet 192.168.1.0/24 --ip-range 192.168.1.192/27`: the range keeps to addresses that nobody else has"));
        }
        Ok(self)
    }
}

fn usage(text: &str) -> anyhow::Error {
    fail(Kind::Usage, text)
}

/// Refuses resolvers of a network that would never ask them.
pub fn check_asks(flag: &str, driver: Driver, ipam: Ipam, internal: bool) -> anyhow::Result<()> {
    let why = match (driver, ipam) {
        (Driver::Bridge, Ipam::None) => "a network without addresses answers no names".to_owned(),
        (Driver::Bridge, _) if internal => "an internal network asks no other resolvers".to_owned(),
        (Driver::Bridge, _) => return Ok(()),
        (driver, _) => format!("a network of --driver {} answers no names", driver.name()),
    };
    let text = format!("{flag}: {why}");
    Err(usage(&text).hint("give them to the container: `rbox run --dns ADDRESS`"))
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let bytes = name.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    if !bytes.first().is_some_and(u8::is_ascii_alphanumeric) || !bytes.iter().all(allowed) {
        return Err(usage("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"));
    }
    if name.len() > LONGEST_NAME {
        return Err(usage(&format!(
            "names have at most {LONGEST_NAME} characters"
        )));
    }
    if MODES.contains(&name) {
        let text = format!("`--network {name}` means something else");
        return Err(usage(&text).hint("use another name"));
    }
    Ok(())
}

/// Linux: dev_valid_name() in net/core/dev.c, and what every namespace has.
fn check_interface(name: &str) -> anyhow::Result<()> {
    let fits = (1..=LONGEST_INTERFACE).contains(&name.len());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !fits || !name.bytes().all(allowed) || name.starts_with(['.', '-']) {
        let text = format!(
            "interface name \"{name}\": expected 1 to {LONGEST_INTERFACE} letters, digits, _, . and -"
        );
        return Err(usage(&text));
    }
    if matches!(name, "lo" | "all" | "default") {
        return Err(usage(&format!(
            "interface name \"{name}\": the kernel uses it itself"
        )));
    }
    Ok(())
}

fn check_subnet(given: &Cidr) -> anyhow::Result<()> {
    let mut odd = NO_SUBNETS
        .iter()
        .filter_map(|text| text.parse::<Cidr>().ok());
    if let Some(odd) = odd.find(|odd| odd.overlaps(given)) {
        let text = format!("subnet {given}: machines have no addresses in {odd}");
        return Err(usage(&text).hint("use a private one, as `--subnet 10.89.0.0/24`"));
    }
    let room = Subnet::hosts(given).is_some_and(|(first, last)| first != last);
    if !room {
        let most = if given.is_v4() { 30 } else { 126 };
        let text = format!("subnet {given}: there is no room for a gateway and a container");
        return Err(usage(&text).hint(format!("use a /{most} or larger, as /24")));
    }
    Ok(())
}

/// The record of a network.
pub fn network(
    wish: Wish,
    id: String,
    taken: &[String],
    others: &[Network],
    host: &[addresses::Route],
) -> anyhow::Result<Network> {
    let free_word = free_word(taken, others);
    let interface = wish.interface.clone().unwrap_or_else(|| free_word.clone());
    let mut bridges = others.iter().filter(|other| !other.is_direct());
    let is_bridge = wish.driver == Driver::Bridge;
    if let Some(other) = bridges.find(|other| is_bridge && other.interface == interface) {
        let text = format!(
            "network \"{}\" has the interface \"{interface}\"",
            other.name
        );
        return Err(fail(Kind::Conflict, text).hint("use another `--interface-name`"));
    }
    let subnets = subnets(&wish, others, host)?;
    let network = Network {
        name: wish.name.unwrap_or(free_word),
        id,
        driver: wish.driver,
        interface,
        created: Timestamp::now(),
        ipv6: subnets.iter().any(|one| !one.subnet.is_v4()),
        subnets,
        internal: wish.internal,
        dns: wish.dns,
        dns_servers: wish.dns_servers,
        labels: wish.labels,
        options: wish.options,
        routes: wish.routes,
        ipam: wish.ipam,
        reserved: wish.reserved,
    };
    check_inside(&network)?;
    Ok(network)
}

/// `rbox1` and so on: a name that neither a network has nor an interface.
fn free_word(taken: &[String], others: &[Network]) -> String {
    let is_free = |word: &String| {
        !taken.contains(word) && !others.iter().any(|other| other.interface == *word)
    };
    let mut words = (1u32..).map(|number| format!("{PREFIX}{number}"));
    words.find(is_free).unwrap_or_default()
}

fn subnets(
    wish: &Wish,
    others: &[Network],
    host: &[addresses::Route],
) -> anyhow::Result<Vec<Subnet>> {
    if wish.ipam == Ipam::None {
        return Ok(vec![]);
    }
    let taken: Vec<Cidr> = others
        .iter()
        .flat_map(|other| &other.subnets)
        .map(|one| one.subnet)
        .collect();
    let of_host: Vec<Cidr> = host.iter().map(|route| route.to).collect();
    let free4 = || subnet::free4(&[taken.as_slice(), &wish.subnets].concat(), &of_host);
    for given in &wish.subnets {
        let refuse = |who: String| {
            let text = format!("subnet {given} overlaps {who}");
            let free = if given.is_v4() {
                free4()
            } else {
                subnet::free6(&taken)
            };
            let hint = match free {
                Ok(free) => format!("use one that is free, as `--subnet {free}`"),
                Err(_) => "use one that is free".to_owned(),
            };
            Err(fail(Kind::Conflict, text).hint(hint))
        };
        for other in others {
            if let Some(one) = other.subnets.iter().find(|one| one.subnet.overlaps(given)) {
                return refuse(format!("{} of network \"{}\"", one.subnet, other.name));
            }
        }
        let is_bridge = wish.driver == Driver::Bridge;
        let mut direct = host.iter().filter(|route| is_bridge && route.is_direct);
        if let Some(route) = direct.find(|route| route.to.overlaps(given)) {
            return refuse(format!("{}, where this host is itself", route.to));
        }
    }
    let mut subnets = wish.subnets.clone();
    // As podman: IPv6 is beside IPv4, unless it is said otherwise.
    let has_v4 = subnets.iter().any(Cidr::is_v4);
    if wish.ipv4 && !has_v4 && (subnets.is_empty() || wish.ipv6) {
        subnets.insert(0, free4()?);
    }
    if wish.ipv6 && subnets.iter().all(Cidr::is_v4) {
        subnets.push(subnet::free6(&[taken.as_slice(), &of_host].concat())?);
    }
    let mut made: Vec<Subnet> = subnets.into_iter().map(Subnet::of).collect();
    gateways(wish, &mut made)?;
    ranges(wish, &mut made)?;
    Ok(made)
}

/// As podman: who can neither leave the network nor ask for names needs no gateway.
fn gateways(wish: &Wish, subnets: &mut [Subnet]) -> anyhow::Result<()> {
    if wish.internal && !wish.dns {
        for subnet in &mut *subnets {
            subnet.gateway = None;
        }
    }
    let mut chosen: Vec<IpAddr> = Vec::new();
    for gateway in &wish.gateways {
        let subnet = subnets.iter_mut().find(|one| one.subnet.contains(*gateway));
        let subnet = subnet.ok_or_else(|| outside("gateway", &gateway.to_string()))?;
        if let Some(other) = chosen.iter().find(|other| subnet.subnet.contains(**other)) {
            let text = format!(
                "gateway {gateway}: {} has the gateway {other}",
                subnet.subnet
            );
            return Err(usage(&text));
        }
        subnet.gateway = None;
        if !subnet.takes(*gateway) {
            let text = format!(
                "gateway {gateway}: no machine of {} can have it",
                subnet.subnet
            );
            return Err(usage(&text));
        }
        chosen.push(*gateway);
        subnet.gateway = Some(*gateway);
    }
    Ok(())
}

fn outside(what: &str, given: &str) -> anyhow::Error {
    usage(&format!(
        "{what} {given}: it is in none of the network's subnets"
    ))
    .hint("give the subnet too, as `--subnet 10.89.0.0/24`")
}

fn ranges(wish: &Wish, subnets: &mut [Subnet]) -> anyhow::Result<()> {
    for range in &wish.ranges {
        let (start, end, text) = match range {
            Range::Within(net) => (net.first(), net.last(), net.to_string()),
            Range::Between(range) => (
                range.start,
                range.end,
                format!("{}-{}", range.start, range.end),
            ),
        };
        let subnet = subnets
            .iter_mut()
            .find(|one| one.subnet.contains(start) && one.subnet.contains(end));
        let subnet = subnet.ok_or_else(|| outside("ip-range", &text))?;
        if subnet.lease_range.is_some() {
            let text = format!("ip-range {text}: {} has another", subnet.subnet);
            return Err(usage(&text));
        }
        let (start, end) = (cidr::number(start), cidr::number(end));
        let hosts = Subnet::hosts(&subnet.subnet);
        let (first, last) = hosts.map_or((1, 0), |(first, last)| {
            (cidr::number(first), cidr::number(last))
        });
        // As podman: the first address of a range in CIDR notation is left out.
        let start = if matches!(range, Range::Within(_)) {
            start + 1
        } else {
            start
        };
        let like = subnet.subnet.first();
        subnet.lease_range = Some(LeaseRange {
            start: cidr::address_like(like, start.max(first)),
            end: cidr::address_like(like, end.min(last)),
        });
        if subnet.leases().next().is_none() {
            let text = format!("ip-range {text}: it has no address for a container");
            return Err(usage(&text));
        }
    }
    Ok(())
}

/// Addresses that must be in the network's subnets.
fn check_inside(network: &Network) -> anyhow::Result<()> {
    for (name, address) in &network.reserved {
        let subnet = network.subnet_of(*address);
        let subnet =
            subnet.ok_or_else(|| outside(&format!("aux-address {name}:"), &address.to_string()))?;
        if !subnet.takes(*address) {
            let text =
                format!("aux-address {name}={address}: no machine but the gateway can have it");
            return Err(usage(&text));
        }
    }
    for route in &network.routes {
        let text = format!("{},{}", route.destination, route.gateway);
        if route.destination.is_v4() != route.gateway.is_ipv4() {
            return Err(usage(&format!("route {text}: both must be of one family")));
        }
        if network.subnet_of(route.gateway).is_none() {
            return Err(outside("the gateway of route", &text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            name: Some("lan".into()),
            driver: Driver::Bridge,
            interface: None,
            subnets: vec![],
            gateways: vec![],
            ranges: vec![],
            reserved: BTreeMap::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            dns: true,
            dns_servers: vec![],
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            routes: vec![],
            ipam: Ipam::HostLocal,
        }
    }

    fn made(wish: Wish, others: &[Network]) -> anyhow::Result<Network> {
        let host = [addresses::Route {
            to: "192.168.7.0/24".parse().unwrap(),
            is_direct: true,
        }];
        let names: Vec<String> = others.iter().map(|other| other.name.clone()).collect();
        network(wish.checked()?, "0".repeat(64), &names, others, &host)
    }

    fn with_subnets(subnets: &[&str]) -> Wish {
        Wish {
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            ..wish()
        }
    }

    fn shown(network: &Network) -> Vec<String> {
        let show = |one: &Subnet| {
            let gateway = one.gateway.map_or("none".into(), |ip| ip.to_string());
            let range = one.lease_range.map_or(String::new(), |range| {
                format!(" {}-{}", range.start, range.end)
            });
            format!("{} {gateway}{range}", one.subnet)
        };
        network.subnets.iter().map(show).collect()
    }

    #[test]
    fn what_is_not_said_is_chosen() {
        let first = made(
            Wish {
                name: None,
                ..wish()
            },
            &[Network::default_one()],
        )
        .unwrap();
        assert_eq!(
            (first.name.as_str(), first.interface.as_str()),
            ("rbox1", "rbox1")
        );
        assert_eq!(shown(&first), ["10.89.0.0/24 10.89.0.1"]);
        let second = made(
            Wish {
                name: None,
                ..wish()
            },
            std::slice::from_ref(&first),
        )
        .unwrap();
        assert_eq!(
            (second.name.as_str(), second.interface.as_str()),
            ("rbox2", "rbox2")
        );
        assert_eq!(shown(&second), ["10.89.1.0/24 10.89.1.1"]);
        let both = made(
            Wish {
                ipv6: true,
                ..with_subnets(&["fd00:1::/64"])
            },
            &[],
        )
        .unwrap();
        assert_eq!(
            shown(&both),
            ["10.89.0.0/24 10.89.0.1", "fd00:1::/64 fd00:1::1"]
        );
        let six = made(with_subnets(&["fd00:1::/64"]), &[]).unwrap();
        assert!(six.ipv6 && shown(&six) == ["fd00:1::/64 fd00:1::1"]);
        let alone = made(
            Wish {
                ipv4: false,
                ipv6: true,
                ..wish()
            },
            &[],
        )
        .unwrap();
        assert!(alone.v4().is_none() && alone.v6().is_some());
        let closed = made(
            Wish {
                internal: true,
                dns: false,
                ..wish()
            },
            &[],
        )
        .unwrap();
        assert_eq!(shown(&closed), ["10.89.0.0/24 none"]);
        let without = made(
            Wish {
                ipam: Ipam::None,
                ..wish()
            },
            &[],
        )
        .unwrap();
        assert!(without.subnets.is_empty() && !without.dns);
    }

    #[test]
    fn gateways_and_ranges_go_to_their_subnets() {
        let mut wish = with_subnets(&["192.168.55.0/24", "fd00:1::/64"]);
        wish.gateways = ["fd00:1::10", "192.168.55.3"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        wish.ranges = vec![Range::Within("192.168.55.128/25".parse().unwrap())];
        assert_eq!(
            shown(&made(wish, &[]).unwrap()),
            [
                "192.168.55.0/24 192.168.55.3 192.168.55.129-192.168.55.254",
                "fd00:1::/64 fd00:1::10"
            ]
        );
    }

    #[track_caller]
    fn refused(wish: Wish, others: &[Network], expected: &str) {
        let err = made(wish, others).unwrap_err();
        let hint = crate::error::hint(&err).map_or(String::new(), |hint| format!(" | {hint}"));
        assert_eq!(format!("{}{hint}", crate::error::message(&err)), expected);
    }

    #[test]
    fn subnets_that_cannot_be_are_refused() {
        let others = [made(
            Wish {
                name: Some("web".into()),
                ..wish()
            },
            &[],
        )
        .unwrap()];
        for (subnet, expected) in [
            (
                "10.89.0.128/25",
                "subnet 10.89.0.128/25 overlaps 10.89.0.0/24 of network \"web\" | use one that is free, as `--subnet 10.89.1.0/24`",
            ),
            (
                "192.168.0.0/16",
                "subnet 192.168.0.0/16 overlaps 192.168.7.0/24, where this host is itself | use one that is free, as `--subnet 10.89.1.0/24`",
            ),
            (
                "10.1.0.0/31",
                "subnet 10.1.0.0/31: there is no room for a gateway and a container | use a /30 or larger, as /24",
            ),
            (
                "127.1.0.0/16",
                "subnet 127.1.0.0/16: machines have no addresses in 127.0.0.0/8 | use a private one, as `--subnet 10.89.0.0/24`",
            ),
        ] {
            refused(with_subnets(&[subnet]), &others, expected);
        }
        refused(
            with_subnets(&["10.1.0.0/24", "10.2.0.0/24"]),
            &[],
            "--subnet 10.1.0.0/24 and 10.2.0.0/24: a network has one subnet of each family",
        );
    }

    #[test]
    fn addresses_outside_are_refused() {
        let ours = || with_subnets(&["10.1.0.0/24"]);
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let hint = "it is in none of the network's subnets | give the subnet too, as `--subnet 10.89.0.0/24`";
        for (gateways, expected) in [
            (vec!["10.2.0.1"], format!("gateway 10.2.0.1: {hint}")),
            (
                vec!["10.1.0.0"],
                "gateway 10.1.0.0: no machine of 10.1.0.0/24 can have it".into(),
            ),
            (
                vec!["10.1.0.3", "10.1.0.4"],
                "gateway 10.1.0.4: 10.1.0.0/24 has the gateway 10.1.0.3".into(),
            ),
        ] {
            let gateways = gateways.into_iter().map(ip).collect();
            refused(Wish { gateways, ..ours() }, &[], &expected);
        }
        let between = |start: &str, end: &str| {
            let (start, end) = (ip(start), ip(end));
            let ranges = vec![Range::Between(LeaseRange { start, end })];
            Wish { ranges, ..ours() }
        };
        refused(
            between("10.1.0.9", "10.2.0.1"),
            &[],
            &format!("ip-range 10.1.0.9-10.2.0.1: {hint}"),
        );
        refused(
            between("10.1.0.1", "10.1.0.1"),
            &[],
            "ip-range 10.1.0.1-10.1.0.1: it has no address for a container",
        );
        let route = |to: &str, gateway: &str| {
            let route = Route {
                destination: to.parse().unwrap(),
                gateway: ip(gateway),
                metric: None,
            };
            Wish {
                routes: vec![route],
                ..ours()
            }
        };
        refused(
            route("10.9.0.0/16", "10.2.0.1"),
            &[],
            &format!("the gateway of route 10.9.0.0/16,10.2.0.1: {hint}"),
        );
        refused(
            route("10.9.0.0/16", "fd00::1"),
            &[],
            "route 10.9.0.0/16,fd00::1: both must be of one family",
        );
        let reserved = BTreeMap::from([("printer".to_owned(), ip("10.1.0.1"))]);
        refused(
            Wish { reserved, ..ours() },
            &[],
            "aux-address printer=10.1.0.1: no machine but the gateway can have it",
        );
    }

    #[test]
    fn options_are_those_of_the_bridge() {
        let with = |key: &str, value: &str| Wish {
            options: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..wish()
        };
        let kept = |key: &str, value: &str| made(with(key, value), &[]).unwrap().options;
        let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(kept("mtu", "1400"), pair("mtu", "1400"));
        assert_eq!(
            kept("com.docker.network.driver.mtu", "9000"),
            pair("mtu", "9000")
        );
        assert_eq!(kept("isolate", "1"), pair("isolate", "true"));
        assert_eq!(kept("isolate", "strict"), pair("isolate", "strict"));
        let named = made(with("com.docker.network.bridge.name", "br-x"), &[]).unwrap();
        assert!(named.interface == "br-x" && named.options.is_empty());
        for (key, value, expected) in [
            (
                "mtu",
                "15oo",
                "option mtu=\"15oo\": expected a number from 68 to 65520",
            ),
            (
                "mtu",
                "67",
                "option mtu=\"67\": expected a number from 68 to 65520",
            ),
            (
                "foo",
                "1",
                "option \"foo\": the driver bridge has mtu, isolate, no_default_route and com.docker.network.bridge.name",
            ),
            (
                "no_default_route",
                "x",
                "option no_default_route=\"x\": expected true or false",
            ),
        ] {
            refused(with(key, value), &[], expected);
        }
        for (key, value) in [
            ("isolate", "false"),
            ("vlan", "7"),
            ("mode", "unmanaged"),
            ("com.docker.network.bridge.enable_icc", "false"),
        ] {
            let err = made(with(key, value), &[]).unwrap_err();
            assert_eq!(crate::error::kind(&err), Some(Kind::Unsupported), "{key}");
            assert!(crate::error::hint(&err).is_some(), "{key}");
        }
        let six = Wish {
            ipv6: true,
            ..with("mtu", "1279")
        };
        refused(
            six,
            &[],
            "option mtu=\"1279\": expected a number from 1280 to 65520",
        );
    }

    #[test]
    fn names_and_interfaces_are_checked() {
        for name in ["", "a/b", ".a", "a b", "-a", &"a".repeat(251)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["host", "none", "default", "ns"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["", "lo", "a/b", "..", "sixteen-letters-", "a b", "é"] {
            assert!(check_interface(name).is_err(), "{name}");
        }
        for name in ["a", "br-1.2_x", "fifteen-letters"] {
            check_interface(name).unwrap();
        }
        let other = made(wish(), &[]).unwrap();
        let same = Wish {
            name: None,
            interface: Some("rbox1".into()),
            ..wish()
        };
        refused(
            same,
            &[other],
            "network \"lan\" has the interface \"rbox1\" | use another `--interface-name`",
        );
    }
}
