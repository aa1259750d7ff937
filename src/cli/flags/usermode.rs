//! The network in user mode, by its own name and those of the programs that podman uses for it, with such of their
//! options as mean something here; all others are refused, each with the reason.

use crate::container::config::process::Family;
use crate::container::config::process::Network;

/// IPv6 does not work below (RFC 8200), and no packet is larger than an Ethernet's of ours.
const MTUS: std::ops::RangeInclusive<u16> = 1280..=65520;

const ADDRESSES: &str = "each container has an Ethernet of its own, whose addresses rbox chooses; `rbox network create --subnet` makes one with yours";
const ROUTES: &str = "the host's routes decide, and are followed when they change";
const PUBLISHED: &str = "--publish leads to the container's ports";
const LOOPBACK: &str =
    "private:host-loopback leads to all ports of the host's loopback, by the gateway's address";
const RULES: &str = "--network-policy says what is reached, as deny:host or deny/icmp";
const NAMES: &str = "--dns, --dns-search and --hostname say it";
const PROGRAM: &str = "it is about a program that rbox does without";

const NEITHER: &str = "with IPv4 only and IPv6 only there is neither";

/// What is refused of podman's, and why.
const REFUSED: [(&str, &[&str], &str); 9] = [
    ("slirp4netns", &["cidr"], ADDRESSES),
    ("slirp4netns", &["outbound_addr", "outbound_addr6"], ROUTES),
    (
        "slirp4netns",
        &["port_handler"],
        "clients of published ports keep their addresses, as with port_handler=slirp4netns",
    ),
    (
        "pasta",
        &[
            "-a",
            "--address",
            "-n",
            "--netmask",
            "-g",
            "--gateway",
            "-M",
            "--mac-addr",
            "--ns-mac-addr",
            "-I",
            "--ns-ifname",
        ],
        ADDRESSES,
    ),
    (
        "pasta",
        &[
            "-i",
            "--interface",
            "-o",
            "--outbound",
            "--outbound-if4",
            "--outbound-if6",
        ],
        ROUTES,
    ),
    (
        "pasta",
        &["-t", "--tcp-ports", "-u", "--udp-ports"],
        PUBLISHED,
    ),
    (
        "pasta",
        &[
            "-T",
            "--tcp-ns",
            "-U",
            "--udp-ns",
            "--map-host-loopback",
            "--host-lo-to-ns-lo",
        ],
        LOOPBACK,
    ),
    (
        "pasta",
        &["--map-guest-addr", "--no-tcp", "--no-udp", "--no-icmp"],
        RULES,
    ),
    (
        "pasta",
        &[
            "--dns-forward",
            "-D",
            "--dns",
            "-S",
            "--search",
            "-H",
            "--hostname",
            "--fqdn",
        ],
        NAMES,
    ),
];

/// Options of pasta that have a value, which stands behind a comma or a `=`.
const WITH_VALUE: [&str; 4] = ["-m", "--mtu", "-t", "-T"];

#[derive(Default)]
struct Wish {
    host_loopback: bool,
    only: Option<Family>,
    mtu: Option<u16>,
}

/// `MODE[:OPTION,…]`.
pub fn parse(text: &str) -> Result<Network, String> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    if !["private", "pasta", "slirp4netns"].contains(&mode) {
        return Err("expected none, private, host, container:NAME or ns:PATH".into());
    }
    let mut wish = Wish::default();
    let mut words = options.split(',').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None if mode == "pasta" && has_value(word) => (word, words.next()),
            None => (word, None),
        };
        let taken = match mode {
            "private" => wish.take_own(name, value)?,
            "pasta" => wish.take_pasta(name, value)?,
            _ => wish.take_slirp(name, value)?,
        };
        if !taken {
            return Err(refusal(mode, name, word));
        }
    }
    Ok(Network::Private {
        host_loopback: wish.host_loopback,
        optional: false,
        only: wish.only,
        mtu: wish.mtu,
    })
}

fn has_value(word: &str) -> bool {
    WITH_VALUE.contains(&word)
        || [
            "-u",
            "-U",
            "--tcp-ports",
            "--udp-ports",
            "--tcp-ns",
            "--udp-ns",
        ]
        .contains(&word)
}

fn refusal(mode: &str, name: &str, word: &str) -> String {
    let known = REFUSED
        .iter()
        .find(|(of, names, _)| *of == mode && names.contains(&name));
    if let Some((_, _, why)) = known {
        return format!("option \"{word}\": {why}");
    }
    let expected = match mode {
        "private" => "expected host-loopback, ipv4-only, ipv6-only or mtu=BYTES",
        "pasta" if name.starts_with('-') => PROGRAM,
        "pasta" => "expected an option of pasta, as --mtu,1500 or --map-gw",
        _ => "expected allow_host_loopback, enable_ipv6 or mtu with a value",
    };
    format!("option \"{word}\": {expected}")
}

impl Wish {
    fn take_own(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match (name, value) {
            ("host-loopback", None) => self.host_loopback = true,
            ("ipv4-only", None) => self.limit(Family::V4)?,
            ("ipv6-only", None) => self.limit(Family::V6)?,
            ("mtu", value) => self.mtu = mtu(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_pasta(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match (name, value) {
            ("--map-gw", None) => self.host_loopback = true,
            ("--no-map-gw", None) => self.host_loopback = false,
            ("-4" | "--ipv4-only", None) => self.limit(Family::V4)?,
            ("-6" | "--ipv6-only", None) => self.limit(Family::V6)?,
            ("-m" | "--mtu", value) => self.mtu = mtu(value)?,
            // So it is without them: the interface is configured, there is no DHCPv6, and nothing is published, or
            // led to the host, that nobody asks for.
            ("--config-net" | "--no-dhcpv6", None)
            | (
                "-t" | "--tcp-ports" | "-u" | "--udp-ports" | "-T" | "--tcp-ns" | "-U" | "--udp-ns",
                Some("none"),
            ) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn limit(&mut self, to: Family) -> Result<(), String> {
        match self.only.replace(to) {
            Some(other) if other != to => Err(NEITHER.into()),
            _ => Ok(()),
        }
    }

    fn take_slirp(&mut self, name: &str, value: Option<&str>) -> Result<bool, String> {
        match (name, value) {
            ("allow_host_loopback", Some("true")) => self.host_loopback = true,
            ("allow_host_loopback", Some("false")) => self.host_loopback = false,
            ("enable_ipv6", Some("true")) => self.only = None,
            ("enable_ipv6", Some("false")) => self.only = Some(Family::V4),
            ("mtu", value) => self.mtu = mtu(value)?,
            // It has no other way to publish than the one that keeps the clients' addresses.
            ("port_handler", Some("slirp4netns")) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn mtu(value: Option<&str>) -> Result<Option<u16>, String> {
    let value = value.unwrap_or_default();
    let number = value
        .parse::<u16>()
        .ok()
        .filter(|number| MTUS.contains(number));
    let (least, most) = (MTUS.start(), MTUS.end());
    let expected = || format!("mtu \"{value}\": expected a number from {least} to {most}");
    number.map(Some).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(Network::Private {
                host_loopback,
                only,
                mtu,
                ..
            }) => format!("{host_loopback} {only:?} {mtu:?}"),
            Ok(other) => other.name(),
            Err(why) => why,
        }
    }

    #[test]
    fn options_mean_what_they_mean_elsewhere() {
        for (text, meaning) in [
            ("private", "false None None"),
            ("private:host-loopback,mtu=1500", "true None Some(1500)"),
            ("private:ipv6-only", "false Some(V6) None"),
            ("pasta", "false None None"),
            ("pasta:--map-gw,--no-map-gw", "false None None"),
            (
                "pasta:--ipv4-only,--mtu,1500,--map-gw",
                "true Some(V4) Some(1500)",
            ),
            (
                "pasta:-6,-m,65520,--config-net",
                "false Some(V6) Some(65520)",
            ),
            (
                "pasta:--mtu=1280,-t,none,-T,none,-u,none,-U,none",
                "false None Some(1280)",
            ),
            (
                "slirp4netns:mtu=9000,enable_ipv6=false",
                "false Some(V4) Some(9000)",
            ),
            (
                "slirp4netns:allow_host_loopback=true,enable_ipv6=true,port_handler=slirp4netns",
                "true None None",
            ),
            (
                "pasta:--mtu,100",
                "mtu \"100\": expected a number from 1280 to 65520",
            ),
            (
                "pasta:--mtu",
                "mtu \"\": expected a number from 1280 to 65520",
            ),
        ] {
            assert_eq!(shown(text), meaning, "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, why) in [
            ("slirp4netns:cidr=10.1.0.0/24", ADDRESSES),
            (
                "ns:",
                "expected none, private, host, container:NAME or ns:PATH",
            ),
            ("slirp4netns:outbound_addr=eth1", ROUTES),
            ("pasta:-a,10.0.2.0,-n,24", ADDRESSES),
            ("pasta:-T,5201", LOOPBACK),
            ("pasta:-t,auto", PUBLISHED),
            ("pasta:--no-icmp", RULES),
            ("pasta:--map-guest-addr,10.0.0.1", RULES),
            ("pasta:--dns-forward,10.0.2.3", NAMES),
            ("pasta:--pcap,file", PROGRAM),
            ("pasta:-4,-6", NEITHER),
            ("private:ipv4-only,ipv6-only", NEITHER),
            (
                "private:speed",
                "expected host-loopback, ipv4-only, ipv6-only or mtu=BYTES",
            ),
            (
                "slirp4netns:x=1",
                "expected allow_host_loopback, enable_ipv6 or mtu with a value",
            ),
        ] {
            assert!(shown(text).ends_with(why), "{}", shown(text));
        }
    }
}
