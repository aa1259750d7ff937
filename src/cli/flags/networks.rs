//! Flags that say which networks the container is on, and as whom.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use clap::Args;

use crate::cli::flags::namespaces::NETWORKS;
use crate::cli::flags::namespaces::mode;
use crate::container::config::process::Attachment;
use crate::container::config::process::Network;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::stack::GATEWAY_MAC;

/// Linux: an interface's name has 15 bytes at most (IFNAMSIZ).
const LONGEST_INTERFACE: usize = 15;

const TWICE: &str = "it is given twice";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = NETWORKS)]
pub struct NetworkFlags {
    /// Connect to a network: private (in user mode; private:host-loopback lets it reach the host's
    /// loopback), none (loopback only), host (the host's own), container:NAME, ns:PATH, or the name of
    /// a network, with NAME:ip=ADDRESS,ip6=ADDRESS,mac=ADDRESS,alias=NAME,interface_name=NAME; names
    /// may be given several times [default: private, or none where there is no /dev/net/tun]
    #[arg(long, alias = "net", value_name = "NETWORK", value_parser = asked, default_value = "default",
        hide_default_value = true)]
    network: Vec<Asked>,

    /// Have this address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = ip4)]
    ip: Option<Ipv4Addr>,

    /// Have this IPv6 address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = ip6)]
    ip6: Option<Ipv6Addr>,

    /// Have this hardware address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = mac)]
    mac_address: Option<String>,

    /// Be known by a further name on the networks
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = alias)]
    network_alias: Vec<String>,
}

/// One `--network`.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Mode(Network),
    On(Vec<Attachment>),
}

impl NetworkFlags {
    /// Containers and networks are still called as the user calls them.
    pub fn into_wish(mut self) -> anyhow::Result<(Network, Vec<Attachment>)> {
        let mut networks = Vec::new();
        let mut modes = Vec::new();
        for asked in std::mem::take(&mut self.network) {
            match asked {
                Asked::Mode(mode) => modes.push(mode),
                Asked::On(some) => networks.extend(some),
            }
        }
        match (modes.pop(), networks.as_slice()) {
            (Some(mode), []) if modes.is_empty() => {
                let given = [
                    ("--ip", self.ip.is_some()),
                    ("--ip6", self.ip6.is_some()),
                    ("--mac-address", self.mac_address.is_some()),
                    ("--network-alias", !self.network_alias.is_empty()),
                ];
                if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
                    let text = format!(
                        "flag {flag} cannot be used with --network {}: it is for a network with a name",
                        mode.name()
                    );
                    return Err(fail(Kind::Usage, text).hint("`rbox network create NAME` makes one, and `--network bridge` is there already"));
                }
                Ok((mode, vec![]))
            }
            (None, [_, ..]) => Ok((Network::Bridge, self.with_flags(networks)?)),
            (mode, _) => {
                let name = mode.map_or_else(String::new, |mode| mode.name());
                let text = format!("--network=\"{name}\": cannot be used with other networks");
                Err(fail(Kind::Usage, text))
            }
        }
    }

    fn with_flags(&self, mut networks: Vec<Attachment>) -> anyhow::Result<Vec<Attachment>> {
        let one = [
            ("--ip", self.ip.is_some()),
            ("--ip6", self.ip6.is_some()),
            ("--mac-address", self.mac_address.is_some()),
        ];
        if let (Some((flag, _)), [_, _, ..]) = (one.iter().find(|(_, given)| *given), &networks[..])
        {
            let text = format!("flag {flag} cannot be used with several networks");
            return Err(fail(Kind::Usage, text)
                .hint("say it of one of them: `--network NAME:ip=ADDRESS,mac=ADDRESS`"));
        }
        for network in &mut networks {
            one_of("--ip", self.ip, &mut network.ip)?;
            one_of("--ip6", self.ip6, &mut network.ip6)?;
            one_of("--mac-address", self.mac_address.clone(), &mut network.mac)?;
            network.aliases.extend(self.network_alias.iter().cloned());
        }
        Ok(networks)
    }
}

/// Puts what a flag says beside what `--network` says, which may not be something else.
fn one_of<T: PartialEq + std::fmt::Display>(
    flag: &str,
    said: Option<T>,
    place: &mut Option<T>,
) -> anyhow::Result<()> {
    if let (Some(said), Some(other)) = (&said, &*place)
        && said != other
    {
        let text = format!("{flag}=\"{said}\": --network says {other}");
        return Err(fail(Kind::Usage, text).hint("leave out one of them"));
    }
    *place = said.or(place.take());
    Ok(())
}

fn asked(text: &str) -> Result<Asked, String> {
    let name = text.split(':').next().unwrap_or_default();
    match name {
        "" | "default" | "none" | "host" | "private" | "pasta" | "slirp4netns" | "container"
        | "ns" => mode(text).map(Asked::Mode),
        _ if name.contains('=') => long_form(text).map(|one| Asked::On(vec![one])),
        _ => named(text).map(Asked::On),
    }
}

/// Podman's: `NAME[:OPTION=VALUE,…]`, or several names.
fn named(text: &str) -> Result<Vec<Attachment>, String> {
    let Some((name, options)) = text.split_once(':') else {
        return text.split(',').map(|name| on(name, "")).collect();
    };
    Ok(vec![on(name, options)?])
}

/// Docker's: `name=NAME,OPTION=VALUE,…`.
fn long_form(text: &str) -> Result<Attachment, String> {
    let (names, options): (Vec<&str>, Vec<&str>) =
        text.split(',').partition(|part| part.starts_with("name="));
    match names.as_slice() {
        [name] => on(&name["name=".len()..], &options.join(",")),
        [] => Err("expected name=NAME, and its options".into()),
        [_, again, ..] => Err(format!("option \"{again}\": {TWICE}")),
    }
}

fn on(name: &str, options: &str) -> Result<Attachment, String> {
    if name.is_empty() || name.starts_with(['.', '-']) || name.contains('/') {
        return Err(
            "expected none, private, host, container:NAME, ns:PATH or the name of a network".into(),
        );
    }
    let mut one = Attachment {
        network: name.to_owned(),
        ..Attachment::default()
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let cannot = |why: String| format!("option \"{option}\": {why}");
        match key {
            // Podman's option takes addresses of both families.
            "ip" if value.contains(':') => once(&mut one.ip6, ip6(value)),
            "ip" => once(&mut one.ip, ip4(value)),
            "ip6" => once(&mut one.ip6, ip6(value)),
            "mac" | "mac-address" => once(&mut one.mac, mac(value)),
            "alias" => alias(value).map(|alias| one.aliases.push(alias)),
            "interface_name" | "interface-name" => once(&mut one.interface, interface(value)),
            _ => Err("expected ip, ip6, mac, alias or interface_name".into()),
        }
        .map_err(cannot)?;
    }
    Ok(one)
}

/// Takes the value of an option that has one.
fn once<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    match place.replace(value?) {
        None => Ok(()),
        Some(_) => Err(TWICE.into()),
    }
}

pub fn ip4(text: &str) -> Result<Ipv4Addr, String> {
    let wrong = |_| "expected an IPv4 address, as 10.89.0.5".to_owned();
    text.parse().map_err(wrong)
}

pub fn ip6(text: &str) -> Result<Ipv6Addr, String> {
    let wrong = |_| "expected an IPv6 address, as fd00::5".to_owned();
    text.parse().map_err(wrong)
}

/// Six bytes, as Linux prints them.
pub fn mac(text: &str) -> Result<String, String> {
    let wrong = || "expected a hardware address, as 02:42:0a:59:00:02".to_owned();
    let bytes: Vec<&str> = text.split([':', '-']).collect();
    let bytes: Option<Vec<u8>> = bytes
        .iter()
        .map(|byte| {
            u8::from_str_radix(byte, 16)
                .ok()
                .filter(|_| byte.len() == 2)
        })
        .collect();
    let mac: [u8; 6] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)?;
    // IEEE 802: the lowest bit of the first byte says that it is a group's.
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return Err("expected the hardware address of one interface, not of a group".into());
    }
    if mac == GATEWAY_MAC {
        return Err("expected another hardware address than the gateways have".into());
    }
    Ok(mac.map(|byte| format!("{byte:02x}")).join(":"))
}

pub fn alias(text: &str) -> Result<String, String> {
    // RFC 1035: what a label can be, and the dots between them.
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
        return Err("expected a name of letters, digits, dots, dashes and underscores".into());
    }
    Ok(text.to_owned())
}

pub fn interface(text: &str) -> Result<String, String> {
    let fits = |c: u8| c.is_ascii_graphic() && !b"/:%".contains(&c);
    let is_name = (1..=LONGEST_INTERFACE).contains(&text.len())
        && text.bytes().all(fits)
        && !matches!(text, "." | ".." | "lo" | "all" | "default");
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| "expected the name of an interface".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Attachment {
        match asked(text).unwrap() {
            Asked::On(mut all) => all.remove(0),
            Asked::Mode(mode) => panic!("{mode:?}"),
        }
    }

    #[test]
    fn networks_are_asked_for_as_podman_and_docker_do() {
        let one = of(
            "back:ip=10.89.0.7,ip6=fd00::7,mac=02-42-0A-59-00-07,alias=db,alias=store,interface_name=net0",
        );
        assert_eq!(one.network, "back");
        assert_eq!(one.ip, Some(Ipv4Addr::new(10, 89, 0, 7)));
        assert_eq!(one.ip6.unwrap().to_string(), "fd00::7");
        assert_eq!(one.mac.as_deref(), Some("02:42:0a:59:00:07"));
        assert_eq!(one.aliases, ["db", "store"]);
        assert_eq!(one.interface.as_deref(), Some("net0"));
        let same = of(
            "name=back,ip=10.89.0.7,ip6=fd00::7,mac-address=02:42:0a:59:00:07,alias=db,alias=store,interface_name=net0",
        );
        assert_eq!(same, one);
        let Asked::On(two) = asked("one,two").unwrap() else {
            panic!("they are names");
        };
        assert_eq!([&two[0].network, &two[1].network], ["one", "two"]);
        assert_eq!(asked("host").unwrap(), Asked::Mode(Network::Host));
        let both = of("back:ip=10.89.0.7,ip=fd00::7");
        assert_eq!((both.ip, both.ip6), (one.ip, one.ip6));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "a:ip=10.0.0",
            "a:ip=10.0.0.1,ip=10.0.0.2",
            "a:ip6=fd00::1,ip=fd00::2",
            "a:mac=02:42:0a:59:00:01,mac=02:42:0a:59:00:02",
            "a:interface_name=x,interface_name=y",
            "name=a,name=b",
            "a:mac=02:42:0a:59:00",
            "a:mac=03:42:0a:59:00:01",
            "a:alias=",
            "a:alias=a b",
            "a:interface_name=a/b",
            "a:interface_name=eth0123456789abc",
            "a:speed=1",
            "../a",
            "-a",
            "ip=10.0.0.1",
            "a,,b",
        ] {
            assert!(asked(text).is_err(), "{text}");
        }
    }
}
