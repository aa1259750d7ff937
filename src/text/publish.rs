//! Ports that are published: `[[HOSTIP:][HOSTPORT]:]PORT[/PROTOCOL]`, each port also a range.

use std::fmt;
use std::net::IpAddr;
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
    pub port: u16,
    pub protocol: Protocol,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        match self.host_port {
            0 if self.host_ip.is_some() => f.write_str(":")?,
            0 => {}
            port => write!(f, "{port}:")?,
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// A container's port as `inspect` and `port` name it: `80`, `80/tcp`.
pub fn port_and_protocol(text: &str) -> Result<(u16, Protocol), String> {
    let (port, protocol) = with_protocol(text)?;
    match range(port)? {
        ports if ports.start() == ports.end() => Ok((*ports.start(), protocol)),
        _ => Err("expected one port".into()),
    }
}

/// The ports that an option of `--publish` means.
pub fn parse(text: &str) -> Result<Vec<Publish>, String> {
    let (rest, protocol) = with_protocol(text)?;
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
    let make = |host_port: u16, port: u16| Publish {
        host_ip,
        host_port,
        port,
        protocol,
    };
    let Some(hosts) = hosts else {
        return Ok(ports.map(|port| make(0, port)).collect());
    };
    if hosts.len() != ports.len() {
        return Err(format!(
            "{} ports of the host for {} of the container: expected ranges of one length",
            hosts.len(),
            ports.len()
        ));
    }
    Ok(hosts
        .zip(ports)
        .map(|(host, port)| make(host, port))
        .collect())
}

fn with_protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, "tcp")) => Ok((rest, Protocol::Tcp)),
        Some((rest, "udp")) => Ok((rest, Protocol::Udp)),
        Some((_, other)) => Err(format!("protocol \"{other}\": expected tcp or udp")),
    }
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
            ("80/sctp", "protocol \"sctp\": expected tcp or udp"),
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
}
