//! From a host name to addresses, without libc (its static form cannot use NSS): /etc/hosts, then
//! the name servers of /etc/resolv.conf over UDP, or TCP for what does not fit.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::transport::NextTimeout;

const DNS_PORT: u16 = 53;
const WAIT: Duration = Duration::from_secs(3);
const ROUNDS: usize = 2;
/// As many as ureq takes.
const ADDRESSES_MAX: usize = 16;
/// Linux's resolver uses three (resolv.conf(5), MAXNS).
const SERVERS_MAX: usize = 3;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

#[derive(Debug, Default)]
pub struct Resolver {}

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("http") => 80,
            _ => 443,
        });
        let addresses = resolve(host)?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            resolved.push(SocketAddr::new(address, port));
        }
        if resolved.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(resolved)
    }
}

/// IPv4 first: where there is no IPv6, that fails at once, and not the other way round.
fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found = in_hosts(&hosts, &name);
    if !found.is_empty() {
        return Ok(found);
    }
    // RFC 6761, section 6.3: never asked of a name server.
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let conf = parse_conf(&conf);
    for candidate in candidates(&name, host.ends_with('.'), &conf) {
        let addresses = ask_servers(&conf.servers, &candidate)?;
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Ok(Vec::new())
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut fields = line.split_whitespace();
        let Some(Ok(address)) = fields.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        if fields.any(|field| field.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[derive(Debug, PartialEq)]
struct Conf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// resolv.conf(5)
fn parse_conf(text: &str) -> Conf {
    let mut conf = Conf {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
    };
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => {
                // A scope (fe80::1%eth0) is not understood.
                if let Some(Ok(address)) = fields.next().map(str::parse::<IpAddr>)
                    && conf.servers.len() < SERVERS_MAX
                {
                    conf.servers.push(SocketAddr::new(address, DNS_PORT));
                }
            }
            Some("search" | "domain") => conf.search = fields.map(ToOwned::to_owned).collect(),
            Some("options") => {
                for option in fields {
                    if let Some(number) = option.strip_prefix("ndots:") {
                        conf.ndots = number.parse().unwrap_or(1);
                    }
                }
            }
            _ => {}
        }
    }
    if conf.servers.is_empty() {
        conf.servers
            .push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
    }
    conf
}

/// The names to ask for, in order.
fn candidates(name: &str, absolute: bool, conf: &Conf) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if !absolute {
        names.extend(conf.search.iter().map(|domain| format!("{name}.{domain}")));
    }
    if name.matches('.').count() >= conf.ndots {
        names.insert(0, name.to_owned());
    } else {
        names.push(name.to_owned());
    }
    names
}

/// Asks one server after the other, twice; an error if none answers.
fn ask_servers(servers: &[SocketAddr], name: &str) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ROUNDS {
        for server in servers {
            match ask(*server, name) {
                Ok(addresses) => return Ok(addresses),
                Err(err) => last = err,
            }
        }
    }
    let text = format!("no name server answers for {name} ({last})");
    Err(io::Error::new(last.kind(), text))
}

fn ask(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = query(server, name, TYPE_A)?;
    // A server that answered for IPv4 and fails for IPv6 is good enough.
    addresses.extend(query(server, name, TYPE_AAAA).unwrap_or_default());
    Ok(addresses)
}

fn query(server: SocketAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let question = encode(id, name, kind)?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // Linux: a connected socket gets datagrams of this peer alone (udp(7)).
    socket.connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.send(&question)?;
    let mut buffer = [0; 4096];
    for _ in 0..8 {
        let count = socket.recv(&mut buffer)?;
        match decode(&buffer[..count], id, &question, kind) {
            Some(Answer::Addresses(addresses)) => return Ok(addresses),
            Some(Answer::Failure(code)) => {
                return Err(io::Error::other(format!("it answers with code {code}")));
            }
            Some(Answer::Truncated) => return query_by_tcp(server, id, &question, kind),
            // Not the answer to this question: an old one, or a forged one.
            None => {}
        }
    }
    Err(io::Error::from(io::ErrorKind::InvalidData))
}

fn query_by_tcp(
    server: SocketAddr,
    id: u16,
    question: &[u8],
    kind: u16,
) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    match decode(&message, id, question, kind) {
        Some(Answer::Addresses(addresses)) => Ok(addresses),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// A question (RFC 1035, section 4.1), with recursion desired.
fn encode(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    for field in [id, 0x0100, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length));
        let Some(length) = length else {
            let text = format!("{name:?} is no host name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Ok(message)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    /// It did not fit into a datagram.
    Truncated,
    /// The server cannot tell; another may.
    Failure(u8),
}

/// `None` for what does not answer the question. Names of records are not compared: a recursive
/// server answers with the chain of aliases of the name asked for.
fn decode(message: &[u8], id: u16, question: &[u8], kind: u16) -> Option<Answer> {
    let field = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let flags = field(2)?;
    let is_answer = field(0)? == id && flags & 0x8000 != 0 && field(4)? == 1;
    let asked = message.get(12..question.len())?;
    if !is_answer || !asked.eq_ignore_ascii_case(&question[12..]) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Answer::Truncated);
    }
    match (flags & 0x000f) as u8 {
        0 => {}
        // The name does not exist.
        3 => return Some(Answer::Addresses(Vec::new())),
        code => return Some(Answer::Failure(code)),
    }
    let mut addresses = Vec::new();
    let mut at = question.len();
    for _ in 0..field(6)? {
        at = skip_name(message, at)?;
        let (found, class) = (field(at)?, field(at + 2)?);
        let length = usize::from(field(at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        if found == kind && class == CLASS_IN {
            if let Ok(bytes) = <[u8; 4]>::try_from(data) {
                addresses.push(IpAddr::from(bytes));
            } else if let Ok(bytes) = <[u8; 16]>::try_from(data) {
                addresses.push(IpAddr::from(bytes));
            }
        }
        at += 10 + length;
    }
    Some(Answer::Addresses(addresses))
}

/// The place behind a name: labels up to an empty one, or up to a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_resolv_conf_are_read() {
        let hosts = "::1 ip6 Box # x\n127.0.0.1 localhost\n10.0.0.7\tbox box.lan\nx y\n";
        let found: Vec<String> = in_hosts(hosts, "box")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["10.0.0.7", "::1"]);
        assert!(in_hosts(hosts, "x").is_empty());
        let conf = parse_conf(
            "# c\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nsearch a.lan b.lan\noptions rotate ndots:2\n",
        );
        assert_eq!(conf.servers.len(), 2);
        assert_eq!(candidates("x", false, &conf), ["x.a.lan", "x.b.lan", "x"]);
        assert_eq!(candidates("x.y.z", false, &conf)[0], "x.y.z");
        assert_eq!(candidates("x", true, &conf), ["x"]);
        assert_eq!(parse_conf("").servers.len(), 1);
    }

    /// An answer with an alias and an address, names compressed.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2]);
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'z', 0xc0, 12]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 9]);
        message
    }

    #[test]
    fn answers_are_read_and_forged_ones_are_not() {
        let question = encode(7, "registry.example.org", TYPE_A).unwrap();
        let good = answer(&question);
        let read = |message: &[u8]| decode(message, 7, &question, TYPE_A);
        let wanted = Answer::Addresses(vec!["10.0.0.9".parse().unwrap()]);
        assert_eq!(read(&good), Some(wanted));
        assert_eq!(decode(&good, 8, &question, TYPE_A), None);
        let other = encode(7, "registry.example.com", TYPE_A).unwrap();
        assert_eq!(read(&answer(&other)), None);
        let mut missing = good.clone();
        missing[3] = 0x83;
        assert_eq!(read(&missing), Some(Answer::Addresses(Vec::new())));
        let mut cut = good.clone();
        cut[2] |= 0x02;
        assert_eq!(read(&cut), Some(Answer::Truncated));
        for length in 0..good.len() {
            // Every truncation is harmless.
            read(&good[..length]);
        }
        assert!(encode(7, "a..b", TYPE_A).is_err());
        assert!(encode(7, &"a".repeat(64), TYPE_A).is_err());
    }

    #[test]
    fn this_machine_needs_no_name_server() {
        assert_eq!(resolve("127.0.0.1").unwrap().len(), 1);
        assert_eq!(resolve("[::1]").unwrap().len(), 1);
        assert!(!resolve("localhost").unwrap().is_empty());
        assert!(resolve("a.localhost").unwrap()[0].is_loopback());
    }
}
