//! Ports that are published: `[[HOSTIP:][HOSTPORT]:]PORT[/PROTOCOL]`, each port also a range; and
//! `fd=DESCRIPTOR:PORT[/PROTOCOL]`, by a socket that the caller has.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// One port of a container, reached by one port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// All addresses of the host, of both families, where there is none.
    pub host_ip: Option<IpAddr>,
    /// 0: one that is free.
    pub host_port: u16,
    /// The last of several, of which the first that is free is taken; 0 where there is one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_last: u16,
    pub port: u16,
    pub protocol: Protocol,
    /// The socket that listens is this descriptor of the command that starts the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<i32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl Publish {
    /// A port of the container, by any of the host's.
    pub fn any(port: u16, protocol: Protocol) -> Publish {
        Publish {
            host_ip: None,
            host_port: 0,
            host_last: 0,
            port,
            protocol,
            descriptor: None,
        }
    }

    /// The ports of the host as they are written: `8080`, `8080-8090`; nothing where any will do.
    pub fn host_ports(&self) -> String {
        match (self.host_port, self.host_last) {
            (0, _) => String::new(),
            (port, 0) => port.to_string(),
            (first, last) => format!("{first}-{last}"),
        }
    }

    /// Whether a socket of this address is what is asked for.
    pub fn is_at(&self, address: SocketAddr, protocol: Protocol) -> bool {
        let is_there = match self.host_ip {
            Some(ip) => ip == address.ip(),
            None => address.ip().is_unspecified(),
        };
        let one = self.host_last == 0 && self.descriptor.is_none();
        one && is_there && self.protocol == protocol && self.host_port == address.port()
    }

    /// Whether both want the same port of the host.
    pub fn clashes(&self, other: &Publish) -> bool {
        let covers = |one: Option<IpAddr>, other: Option<IpAddr>| match (one, other) {
            (None, _) => true,
            (Some(one), Some(other)) => {
                one == other || one.is_unspecified() && one.is_ipv4() == other.is_ipv4()
            }
            (Some(_), None) => false,
        };
        if self.descriptor.is_some() || other.descriptor.is_some() {
            return self.descriptor == other.descriptor;
        }
        // One of several is found when the container is started.
        (self.host_last, other.host_last) == (0, 0)
            && (self.host_port, self.protocol) == (other.host_port, other.protocol)
            && self.host_port != 0
            && (covers(self.host_ip, other.host_ip) || covers(other.host_ip, self.host_ip))
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        match (self.host_ports().as_str(), self.descriptor) {
            (_, Some(number)) => write!(f, "fd={number}:")?,
            ("", None) if self.host_ip.is_some() => f.write_str(":")?,
            ("", None) => {}
            (ports, None) => write!(f, "{ports}:")?,
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// A container's port as `inspect` and `port` name it: `80`, `80/tcp`.
pub fn port_and_protocol(text: &str) -> Result<(u16, Protocol), String> {
    match exposed(text)?[..] {
        [one] => Ok(one),
        _ => Err("expected one port".into()),
    }
}

/// Ports of a container, as `--expose` names them.
pub fn exposed(text: &str) -> Result<Vec<(u16, Protocol)>, String> {
    let (ports, protocols) = with_protocols(text)?;
    let ports = range(ports)?;
    let each = ports.flat_map(|port| protocols.iter().map(move |one| (port, *one)));
    Ok(each.collect())
}

/// The ports that an option of `--publish` means.
pub fn parse(text: &str) -> Result<Vec<Publish>, String> {
    let (rest, protocols) = with_protocols(text)?;
    if let Some(rest) = rest.strip_prefix("fd=") {
        return by_descriptor(rest, &protocols).map(|one| vec![one]);
    }
    let (host_ip, rest) = split_address(rest)?;
    let (host, container) = match rest.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None if host_ip.is_some() => {
            return Err("expected HOSTIP:HOSTPORT:PORT, of which HOSTPORT may be empty".into());
        }
        None => ("", rest),
    };
    let ports = range(container)?;
    let hosts = (!host.is_empty()).then(|| range(host)).transpose()?;
    let hosts = match hosts {
        None => vec![(0, 0); ports.len()],
        Some(hosts) if hosts.len() == ports.len() => hosts.map(|port| (port, 0)).collect(),
        // As docker: one of them that is free.
        Some(hosts) if ports.len() == 1 => vec![hosts.into_inner()],
        Some(hosts) => {
            return Err(format!(
                "{} ports of the host for {} of the container: expected ranges of one length",
                hosts.len(),
                ports.len()
            ));
        }
    };
    let both = hosts.into_iter().zip(ports);
    let each = both.flat_map(|((host_port, host_last), port)| {
        protocols.iter().map(move |protocol| Publish {
            host_ip,
            host_port,
            host_last,
            ..Publish::any(port, *protocol)
        })
    });
    Ok(each.collect())
}

/// `DESCRIPTOR:PORT`.
fn by_descriptor(text: &str, protocols: &[Protocol]) -> Result<Publish, String> {
    let form = "expected fd=DESCRIPTOR:PORT, as fd=3:80";
    let (number, port) = text.split_once(':').ok_or(form)?;
    let number = number.parse::<i32>().ok().filter(|number| *number > 2);
    let ports = range(port)?;
    let (Some(descriptor), [protocol], 1) = (number, protocols, ports.len()) else {
        return Err(form.into());
    };
    Ok(Publish {
        descriptor: Some(descriptor),
        ..Publish::any(*ports.start(), *protocol)
    })
}

fn with_protocols(text: &str) -> Result<(&str, Vec<Protocol>), String> {
    let (rest, names) = text.split_once('/').unwrap_or((text, "tcp"));
    let mut protocols = Vec::new();
    for name in names.split(',') {
        let protocol = match name.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => {
                return Err("protocol \"sctp\": networks of rbox carry tcp and udp".into());
            }
            _ => return Err(format!("protocol \"{name}\": expected tcp or udp")),
        };
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    Ok((rest, protocols))
}

/// An address stands before the last two colons, one of IPv6 in brackets.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    let wrong = |ip: &str| format!("\"{ip}\" is no address: expected one as 127.0.0.1 or [::1]");
    if let Some(inner) = text.strip_prefix('[') {
        let (ip, rest) = inner.split_once("]:").ok_or_else(|| wrong(text))?;
        let ip: std::net::Ipv6Addr = ip.parse().map_err(|_| wrong(ip))?;
        return Ok((Some(ip.into()), rest));
    }
    match text.split_once(':') {
        Some((ip, rest)) if rest.contains(':') => {
            let ip = if ip.is_empty() {
                return Ok((None, rest));
            } else {
                ip.parse::<std::net::Ipv4Addr>().map_err(|_| wrong(ip))?
            };
            Ok((Some(ip.into()), rest))
        }
        _ => Ok((None, text)),
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|port| *port > 0);
        number.ok_or_else(|| format!("\"{text}\" is no port: expected a number from 1 to 65535"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("range \"{text}\" ends before it begins"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(ports) => ports
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(err) => err,
        }
    }

    #[test]
    fn all_forms_are_read() {
        for (text, meaning) in [
            ("80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("8080:80/udp", "8080:80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("[::]::53/udp", "[::]::53/udp"),
            ("80-82", "80/tcp 81/tcp 82/tcp"),
            ("8000-8001:80-81", "8000:80/tcp 8001:81/tcp"),
            (
                "0.0.0.0:8000-8001:80-81/udp",
                "0.0.0.0:8000:80/udp 0.0.0.0:8001:81/udp",
            ),
            (":80", "80/tcp"),
            ("80/UDP", "80/udp"),
            ("8080:80/tcp,udp", "8080:80/tcp 8080:80/udp"),
            ("8080-8090:80", "8080-8090:80/tcp"),
            ("127.0.0.1:8080-8081:80", "127.0.0.1:8080-8081:80/tcp"),
            ("fd=3:80", "fd=3:80/tcp"),
            ("fd=4:53/udp", "fd=4:53/udp"),
        ] {
            assert_eq!(shown(text), meaning, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("", "\"\" is no port: expected a number from 1 to 65535"),
            ("0", "\"0\" is no port: expected a number from 1 to 65535"),
            (
                "65536",
                "\"65536\" is no port: expected a number from 1 to 65535",
            ),
            ("80:", "\"\" is no port: expected a number from 1 to 65535"),
            ("82-80", "range \"82-80\" ends before it begins"),
            (
                "80/sctp",
                "protocol \"sctp\": networks of rbox carry tcp and udp",
            ),
            ("80/icmp", "protocol \"icmp\": expected tcp or udp"),
            ("fd=2:80", "expected fd=DESCRIPTOR:PORT, as fd=3:80"),
            ("fd=3:80-81", "expected fd=DESCRIPTOR:PORT, as fd=3:80"),
            ("fd=3", "expected fd=DESCRIPTOR:PORT, as fd=3:80"),
            (
                "1-3:1-2",
                "3 ports of the host for 2 of the container: expected ranges of one length",
            ),
            (
                "host:80:80",
                "\"host\" is no address: expected one as 127.0.0.1 or [::1]",
            ),
            (
                "[::1]:80",
                "expected HOSTIP:HOSTPORT:PORT, of which HOSTPORT may be empty",
            ),
            (
                "[x]:1:1",
                "\"x\" is no address: expected one as 127.0.0.1 or [::1]",
            ),
        ] {
            assert_eq!(shown(text), message, "{text}");
        }
    }

    #[test]
    fn one_port_of_the_host_is_for_one_of_the_container() {
        for (one, other, clash) in [
            ("80:80", "80:81", true),
            ("80:80", "127.0.0.1:80:80", true),
            ("80:80", "[::1]:80:80", true),
            ("0.0.0.0:80:80", "127.0.0.1:80:80", true),
            ("0.0.0.0:80:80", "[::1]:80:80", false),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("80:80", "80:80/udp", false),
            ("80", "80", false),
            ("80-81:80", "80:80", false),
            ("fd=3:80", "fd=3:81", true),
            ("fd=3:80", "80:80", false),
        ] {
            let [one, other] = [one, other].map(|text| parse(text).unwrap()[0]);
            assert_eq!(
                (one.clashes(&other), other.clashes(&one)),
                (clash, clash),
                "{one} {other}"
            );
        }
    }
}
