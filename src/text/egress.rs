//! What a container may reach: a list of rules, `ACTION[:TO[:PORTS]][/PROTOCOL]`, of which the first that matches
//! decides; what none matches is allowed.
//!
//! Some addresses of IPv6 lead to IPv4 (`embedded`). Whoever denies an IPv4 network denies those that lead there;
//! whoever allows it allows none but its own addresses, for where others lead is not for the host to know.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

const PORTS: RangeInclusive<u16> = 0..=u16::MAX;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    allow: bool,
    to: To,
    ports: RangeInclusive<u16>,
    /// Each one, where none is named.
    protocol: Option<Transport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Any,
    /// The addresses that every machine of the world means the same by.
    Internet,
    /// All others, and the host, wherever that is.
    Private,
    /// The host that the container runs on, by the gateway's address.
    Host,
    /// The resolver that the container is given.
    Dns,
    /// The first so many bits of an address.
    Network(IpAddr, u8),
}

const GROUPS: [(&str, To); 5] = [
    ("any", To::Any),
    ("internet", To::Internet),
    ("private", To::Private),
    ("host", To::Host),
    ("dns", To::Dns),
];

/// How a flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    /// Echo requests.
    Icmp,
}

const TRANSPORTS: [(&str, Transport); 3] = [
    ("tcp", Transport::Tcp),
    ("udp", Transport::Udp),
    ("icmp", Transport::Icmp),
];

/// Where a flow goes.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    pub transport: Transport,
    /// As the container calls it; no port counts with ICMP.
    pub target: SocketAddr,
    pub place: Place,
    /// The addresses that this leads to, where they are others.
    pub real: &'a [SocketAddr],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Elsewhere,
    Host,
    Resolver,
    /// One that the container was given by the address that it has for everybody.
    Server,
}

/// Whether a flow may be opened.
pub fn allows(rules: &[Rule], flow: &Flow<'_>) -> bool {
    let decides = rules.iter().find(|rule| rule.matches(flow));
    decides.is_none_or(|rule| rule.allow)
}

/// The rules of an option, which is one or more of them.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let words = text.split(',').map(str::trim);
    words.filter(|word| !word.is_empty()).map(rule).collect()
}

/// Rules that only allow are as none: whoever writes them means something else.
pub fn check(rules: &[Rule]) -> Result<(), String> {
    if rules.is_empty() || rules.iter().any(|rule| !rule.allow) {
        return Ok(());
    }
    Err("what no rule matches is allowed: expected a rule that denies, as deny at the end".into())
}

impl Rule {
    fn matches(&self, flow: &Flow<'_>) -> bool {
        if self.protocol.is_some_and(|one| one != flow.transport) {
            return false;
        }
        let every_port = self.ports == PORTS;
        if !every_port && flow.transport == Transport::Icmp {
            return false;
        }
        if !self.ports.contains(&flow.target.port()) {
            return false;
        }
        let is_resolver = matches!(flow.place, Place::Resolver | Place::Server);
        let is_host = flow.place == Place::Host;
        match self.to {
            To::Any => true,
            To::Dns => is_resolver,
            // The host's resolvers are nowhere else that the container could know of.
            to if is_resolver => {
                let is_named = flow.place == Place::Server && matches!(to, To::Network(..));
                is_named && self.covers(flow.target.ip())
            }
            To::Host => is_host,
            To::Private if is_host => true,
            // The host has several addresses, and what the container calls it is in a network by chance: who allows
            // others does not mean it.
            to if is_host && self.allow => {
                let mut real = flow.real.iter().map(SocketAddr::ip);
                to != To::Internet && !flow.real.is_empty() && real.all(|ip| to.has(ip))
            }
            _ => {
                let real = flow.real.iter().map(SocketAddr::ip);
                std::iter::once(flow.target.ip())
                    .chain(real)
                    .any(|ip| self.covers(ip))
            }
        }
    }

    fn covers(&self, ip: IpAddr) -> bool {
        let behind = embedded(ip).filter(|_| !self.allow);
        self.to.has(ip) || behind.is_some_and(|ip| self.to.has(ip.into()))
    }
}

impl To {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            To::Internet => is_global(ip),
            To::Private => !is_global(ip),
            To::Network(network, bits) => is_within(ip.to_canonical(), network, bits),
            To::Any | To::Host | To::Dns => false,
        }
    }
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let differs = ip.to_bits() ^ network.to_bits();
            differs.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let differs = ip.to_bits() ^ network.to_bits();
            differs.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Whether an address may be anywhere in the world (the IANA registries of special-purpose addresses, as far as
/// packets to them go anywhere at all).
fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // 100.64.0.0/10 is between a provider and its customers (RFC 6598), 198.18.0.0/15 between machines
            // that are measured (RFC 2544), 192.0.0.0/24 for protocols (RFC 6890).
            let [a, b, c, _] = ip.octets();
            let is_shared = a == 100 && b & 0xc0 == 64;
            let is_measured = a == 198 && b & 0xfe == 18;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || a == 0
                || a >= 224
                || is_shared
                || is_measured
                || [a, b, c] == [192, 0, 0])
        }
        IpAddr::V6(ip) => {
            let is_given = ip.segments()[0] & 0xe000 == 0x2000;
            // 2000::/3 is all that has been given to anybody.
            embedded(ip.into()).map_or(is_given, |ip| is_global(ip.into()))
        }
    }
}

/// What an address of IPv6 leads to: 64:ff9b::/96 (RFC 6052) and 2002::/16 (RFC 3056) are ways to IPv4.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let wrong = |why: &str| format!("rule \"{text}\": {why}");
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, word)) if word.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            let found = TRANSPORTS.into_iter().find(|(name, _)| *name == word);
            let (_, protocol) = found
                .ok_or_else(|| wrong(&format!("protocol \"{word}\": expected tcp, udp or icmp")))?;
            (rest, Some(protocol))
        }
        _ => (text, None),
    };
    let (action, to) = match rest.split_once(':') {
        Some((action, to)) => (action, Some(to)),
        None => (rest, None),
    };
    let allow = match action {
        "allow" => true,
        "deny" => false,
        _ => return Err(wrong("expected allow or deny, as deny:10.0.0.0/8:443/tcp")),
    };
    let (to, ports) = to
        .map_or(Ok((To::Any, PORTS)), target)
        .map_err(|why| wrong(&why))?;
    if protocol == Some(Transport::Icmp) && ports != PORTS {
        return Err(wrong("icmp has no ports"));
    }
    Ok(Rule {
        allow,
        to,
        ports,
        protocol,
    })
}

/// `TO[:PORTS]`; an address of IPv6 stands in brackets.
fn target(text: &str) -> Result<(To, RangeInclusive<u16>), String> {
    let (to, ports) = if let Some(inner) = text.strip_prefix('[') {
        let (ip, rest) = inner
            .split_once(']')
            .ok_or("expected ] after the address")?;
        // The prefix stands inside or after the brackets.
        let (prefix, ports) = match rest.split_once(':') {
            Some((prefix, ports)) => (prefix, Some(ports)),
            None => (rest, None),
        };
        (network(&format!("{ip}{prefix}"), text)?, ports)
    } else {
        let (name, ports) = match text.split_once(':') {
            Some((name, ports)) => (name, Some(ports)),
            None => (text, None),
        };
        let group = GROUPS.into_iter().find(|(known, _)| *known == name);
        let to = group.map_or_else(|| network(name, text), |(_, group)| Ok(group))?;
        (to, ports)
    };
    Ok((to, ports.map_or(Ok(PORTS), range)?))
}

fn network(text: &str, whole: &str) -> Result<To, String> {
    let expected = || {
        format!(
            "\"{whole}\": expected an address as 10.0.0.0/8 or [2001:db8::]/32, any, internet, private, host or dns"
        )
    };
    let (ip, bits) = match text.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = ip.parse().map_err(|_| expected())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => u8::from_str(bits).ok().filter(|bits| *bits <= most),
        None => Some(most),
    };
    let bits = bits.ok_or_else(|| format!("\"{whole}\": expected at most {most} bits"))?;
    let start = first_of(ip, bits);
    if start != ip {
        return Err(format!("\"{whole}\": the network begins at {start}"));
    }
    Ok(To::Network(ip, bits))
}

fn first_of(ip: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|port| *port > 0);
        number.ok_or_else(|| format!("\"{text}\" is no port: expected a number from 1 to 65535"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("range \"{text}\" ends before it begins"));
    }
    Ok(first..=last)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allow { "allow" } else { "deny" })?;
        if (self.to, &self.ports) != (To::Any, &PORTS) {
            write!(f, ":{}", self.to)?;
        }
        if self.ports != PORTS {
            write!(f, ":{}", self.ports.start())?;
            if self.ports.start() != self.ports.end() {
                write!(f, "-{}", self.ports.end())?;
            }
        }
        match TRANSPORTS
            .iter()
            .find(|(_, one)| Some(*one) == self.protocol)
        {
            Some((name, _)) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            To::Network(ip @ IpAddr::V4(_), 32) => write!(f, "{ip}"),
            To::Network(ip @ IpAddr::V4(_), bits) => write!(f, "{ip}/{bits}"),
            To::Network(ip, 128) => write!(f, "[{ip}]"),
            To::Network(ip, bits) => write!(f, "[{ip}]/{bits}"),
            group => {
                let known = GROUPS.iter().find(|(_, one)| one == group);
                f.write_str(known.map_or("any", |(name, _)| name))
            }
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Rule, String> {
        rule(&text)
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(rules: &str, transport: Transport, target: &str) -> bool {
        let flow = Flow {
            transport,
            target: target.parse().unwrap(),
            place: Place::Elsewhere,
            real: &[],
        };
        allows(&parse(rules).unwrap(), &flow)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        use Transport::Icmp;
        use Transport::Tcp;
        use Transport::Udp;
        for (rules, transport, target, allowed) in [
            ("", Tcp, "192.0.2.1:80", true),
            ("deny", Tcp, "192.0.2.1:80", false),
            ("deny", Icmp, "192.0.2.1:0", false),
            ("deny:any:25/tcp", Tcp, "192.0.2.1:25", false),
            ("deny:any:25/tcp", Udp, "192.0.2.1:25", true),
            ("deny:any:25/tcp", Tcp, "192.0.2.1:26", true),
            ("deny:any:20-30", Tcp, "[2001:db8::1]:30", false),
            ("deny:any:20-30", Tcp, "[2001:db8::1]:31", true),
            // Ports are none of ICMP's, and so its.
            ("deny:any:1-65535", Icmp, "192.0.2.1:0", true),
            ("deny/icmp", Icmp, "192.0.2.1:0", false),
            ("deny/icmp", Udp, "192.0.2.1:7", true),
            ("allow:10.0.0.0/8:443/tcp,deny", Tcp, "10.255.1.1:443", true),
            ("allow:10.0.0.0/8:443/tcp,deny", Tcp, "10.255.1.1:80", false),
            ("allow:10.0.0.0/8:443/tcp,deny", Tcp, "11.0.0.1:443", false),
            (
                "deny:10.1.0.0/16,allow:10.0.0.0/8,deny",
                Tcp,
                "10.1.0.1:1",
                false,
            ),
            (
                "deny:10.1.0.0/16,allow:10.0.0.0/8,deny",
                Tcp,
                "10.2.0.1:1",
                true,
            ),
            ("deny:169.254.169.254", Tcp, "169.254.169.254:80", false),
            ("deny:169.254.169.254", Tcp, "169.254.169.253:80", true),
            ("deny:[2001:db8::]/32", Tcp, "[2001:db8:ffff::1]:80", false),
            ("deny:[2001:db8::]/32", Tcp, "[2001:db9::1]:80", true),
            ("deny:0.0.0.0/0", Tcp, "[2001:db9::1]:80", true),
            ("deny:[::]/0", Tcp, "[2001:db9::1]:80", false),
            ("deny:192.0.2.1", Tcp, "[::ffff:192.0.2.1]:80", false),
            // The ways from IPv6 to IPv4.
            ("deny:10.0.0.0/8", Tcp, "[64:ff9b::a00:1]:80", false),
            ("deny:10.0.0.0/8", Tcp, "[64:ff9b::b00:1]:80", true),
            ("deny:10.0.0.0/8", Tcp, "[2002:a00:1::]:80", false),
            ("deny:10.0.0.0/8", Tcp, "[2002:b00:1::]:80", true),
            ("deny:[2002::]/16", Tcp, "[2002:a00:1::]:80", false),
            ("allow:10.0.0.0/8,deny", Tcp, "[64:ff9b::a00:1]:80", false),
            (
                "allow:[64:ff9b::]/96,deny",
                Tcp,
                "[64:ff9b::a00:1]:80",
                true,
            ),
        ] {
            assert_eq!(
                decide(rules, transport, target),
                allowed,
                "{rules} {target}"
            );
        }
    }

    #[test]
    fn the_internet_is_what_is_not_private() {
        for (target, global) in [
            ("192.0.2.1:1", true),
            ("9.9.9.9:53", true),
            ("10.0.0.1:1", false),
            ("172.16.0.1:1", false),
            ("172.32.0.1:1", true),
            ("192.168.1.1:1", false),
            ("169.254.169.254:80", false),
            ("100.64.0.1:1", false),
            ("100.128.0.1:1", true),
            ("198.19.0.1:1", false),
            ("192.0.0.1:1", false),
            ("127.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("255.255.255.255:1", false),
            ("[2001:db8::1]:1", true),
            ("[fd00::1]:1", false),
            ("[fe80::1]:1", false),
            ("[::1]:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[64:ff9b::a00:1]:1", false),
            ("[64:ff9b::909:909]:1", true),
            ("[2002:a00:1::]:1", false),
        ] {
            assert_eq!(
                decide("deny:private", Transport::Tcp, target),
                global,
                "{target}"
            );
            assert_eq!(
                decide("deny:internet", Transport::Tcp, target),
                !global,
                "{target}"
            );
        }
    }

    #[test]
    fn the_host_and_its_resolver_are_known_by_name() {
        let host = |rules: &str| {
            let flow = Flow {
                transport: Transport::Tcp,
                target: "10.0.2.2:80".parse().unwrap(),
                place: Place::Host,
                real: &["192.0.2.7:80".parse().unwrap()],
            };
            allows(&parse(rules).unwrap(), &flow)
        };
        // By the name of a network, by its own, and by the address that it has elsewhere.
        for rules in [
            "deny:private",
            "deny:host",
            "deny:10.0.2.2",
            "deny:192.0.2.7",
            "deny",
        ] {
            assert!(!host(rules), "{rules}");
        }
        for rules in [
            "allow:host,deny",
            "allow:private,deny",
            "allow:192.0.2.7,deny",
            "deny:dns",
        ] {
            assert!(host(rules), "{rules}");
        }
        // By the address that the gateway happens to have, or that the host happens to have in the world.
        for rules in [
            "allow:10.0.0.0/8,deny",
            "allow:10.0.2.2,deny",
            "allow:internet,deny",
            "deny:internet",
        ] {
            assert!(!host(rules), "{rules}");
        }
        let resolver = |rules: &str| {
            let flow = Flow {
                transport: Transport::Udp,
                target: "10.0.2.3:53".parse().unwrap(),
                place: Place::Resolver,
                real: &["127.0.0.53:53".parse().unwrap()],
            };
            allows(&parse(rules).unwrap(), &flow)
        };
        for rules in [
            "deny:private",
            "deny:host",
            "deny:10.0.2.3",
            "allow:dns,deny",
        ] {
            assert!(resolver(rules), "{rules}");
        }
        for rules in ["deny:dns", "deny", "allow:internet,deny"] {
            assert!(!resolver(rules), "{rules}");
        }
        let server = |rules: &str| {
            let flow = Flow {
                transport: Transport::Udp,
                target: "10.9.9.9:53".parse().unwrap(),
                place: Place::Server,
                real: &["10.9.9.9:53".parse().unwrap()],
            };
            allows(&parse(rules).unwrap(), &flow)
        };
        for rules in ["deny:private", "allow:dns,deny", "allow:10.9.9.9,deny"] {
            assert!(server(rules), "{rules}");
        }
        for rules in ["deny:dns", "deny", "deny:10.0.0.0/8"] {
            assert!(!server(rules), "{rules}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "allow",
            "deny:internet",
            "deny:any:25/tcp",
            "allow:10.0.0.0/8:443/tcp",
            "deny:192.0.2.1",
            "deny:[2001:db8::]/32:1-9/udp",
            "deny:[::1]",
            "deny/icmp",
        ] {
            let rules = parse(text).unwrap();
            assert_eq!(rules[0].to_string(), text);
        }
        let short = parse(" allow:[2001:db8::/32]:80 , deny:any ,").unwrap();
        let shown: Vec<String> = short.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["allow:[2001:db8::]/32:80", "deny"]);
        assert!(check(&short).is_ok() && check(&[]).is_ok());
        assert!(check(&short[..1]).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("drop", "expected allow or deny, as deny:10.0.0.0/8:443/tcp"),
            ("deny/sctp", "protocol \"sctp\": expected tcp, udp or icmp"),
            ("deny:any:80/icmp", "icmp has no ports"),
            (
                "deny:any:0",
                "\"0\" is no port: expected a number from 1 to 65535",
            ),
            ("deny:any:9-1", "range \"9-1\" ends before it begins"),
            (
                "deny:10.0.0.1/8",
                "\"10.0.0.1/8\": the network begins at 10.0.0.0",
            ),
            (
                "deny:10.0.0.0/33",
                "\"10.0.0.0/33\": expected at most 32 bits",
            ),
            ("deny:[2001:db8::", "expected ] after the address"),
            (
                "deny:example.com",
                "\"example.com\": expected an address as 10.0.0.0/8 or [2001:db8::]/32, any, internet, private, host or dns",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), format!("rule \"{text}\": {why}"));
        }
    }
}
