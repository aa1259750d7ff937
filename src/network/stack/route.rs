//! Where what the container sends goes: which addresses are the host's own for it, which are never reached, and
//! which resolvers the host has at the moment.

use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::config::addresses::Addresses;
use crate::network::stack::udp;
use crate::text::egress;
use crate::text::egress::Flow;
use crate::text::egress::Place;
use crate::text::egress::Rule;
use crate::text::egress::Transport;

pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A resolv.conf larger than this is not read to its end.
const LIMIT: u64 = 64 * 1024;
pub const DNS: u16 = 53;

pub struct Router {
    pub addresses: Addresses,
    /// Whether the gateway's address leads to the loopback of the host.
    loopback: bool,
    /// It leads nowhere.
    pub closed: bool,
    /// What may be reached at all.
    rules: Vec<Rule>,
    /// Resolvers that the container was given in place of ours.
    pub servers: Vec<IpAddr>,
    resolvers: Vec<IpAddr>,
    scopes: Vec<u32>,
    /// Of the resolv.conf that was read: device, file, change and size.
    version: Option<(u64, u64, i64, i64, u64)>,
    pub access: Access,
}

/// How the host's resolv.conf is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    /// There is another one, which only others can open.
    Wanted,
    /// They were asked.
    Awaited,
}

/// The container asks for what it must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden;

impl Router {
    pub fn new(addresses: Addresses, loopback: bool, rules: &[Rule]) -> Router {
        Router {
            addresses,
            loopback,
            closed: false,
            rules: rules.to_vec(),
            servers: vec![],
            resolvers: vec![],
            scopes: vec![],
            version: None,
            access: Access::Open,
        }
    }

    /// From now on; whether they are others than before.
    pub fn set_rules(&mut self, rules: &[Rule]) -> bool {
        let before = std::mem::replace(&mut self.rules, rules.to_vec());
        before != self.rules
    }

    /// What a socket of the host connects to for a target of the container's; several where one may take another's place.
    pub fn route(
        &mut self,
        transport: Transport,
        target: SocketAddr,
    ) -> Result<Vec<SocketAddr>, Forbidden> {
        let real = self.leads_to(target)?;
        let is_allowed = self.allows(transport, target, &real);
        is_allowed.then_some(real).ok_or(Forbidden)
    }

    /// Whether the container may ask the resolver at this address.
    pub fn may_ask(&self, transport: Transport, resolver: IpAddr) -> bool {
        self.allows(transport, SocketAddr::new(resolver, DNS), &[])
    }

    fn allows(&self, transport: Transport, target: SocketAddr, real: &[SocketAddr]) -> bool {
        if self.rules.is_empty() {
            return true;
        }
        let ip = target.ip();
        let place = if self.is_resolver(ip) && target.port() == DNS {
            Place::Resolver
        } else if self.servers.contains(&ip) && target.port() == DNS {
            Place::Server
        } else if self.is_ours(ip) || is_of_host(ip) {
            Place::Host
        } else {
            Place::Elsewhere
        };
        let flow = Flow {
            transport,
            target,
            place,
            real,
        };
        egress::allows(&self.rules, &flow)
    }

    fn leads_to(&mut self, target: SocketAddr) -> Result<Vec<SocketAddr>, Forbidden> {
        let ip = target.ip();
        // First, for the gateway may be the resolver.
        if self.is_resolver(ip) && target.port() == DNS {
            return Ok(self.resolvers());
        }
        if self.closed {
            return Err(Forbidden);
        }
        let own = &self.addresses;
        if ip == own.gateway4 || ip == own.gateway6 {
            let host = if !self.loopback {
                primary(ip.is_ipv4())
            } else if ip.is_ipv4() {
                Some(Ipv4Addr::LOCALHOST.into())
            } else {
                Some(Ipv6Addr::LOCALHOST.into())
            };
            return Ok(host
                .map(|host| SocketAddr::new(host, target.port()))
                .into_iter()
                .collect());
        }
        if self.is_resolver(ip) {
            return Ok(vec![]);
        }
        if is_public(ip) {
            Ok(vec![target])
        } else {
            Err(Forbidden)
        }
    }

    pub fn is_resolver(&self, ip: IpAddr) -> bool {
        ip == self.addresses.resolver4 || ip == self.addresses.resolver6
    }

    /// The gateway's or the resolver's address.
    pub fn is_ours(&self, ip: IpAddr) -> bool {
        self.is_resolver(ip) || ip == self.addresses.gateway4 || ip == self.addresses.gateway6
    }

    /// The resolvers of the host, as its resolv.conf says now.
    pub fn resolvers(&mut self) -> Vec<SocketAddr> {
        if self.closed {
            return vec![];
        }
        self.read(Path::new(RESOLV_CONF));
        let found = self.resolvers.iter().zip(&self.scopes);
        found
            .map(|(ip, scope)| match ip {
                IpAddr::V4(ip) => SocketAddr::new((*ip).into(), DNS),
                IpAddr::V6(ip) => SocketAddrV6::new(*ip, DNS, 0, *scope).into(),
            })
            .collect()
    }

    fn read(&mut self, path: &Path) {
        let version = std::fs::metadata(path).ok().map(|file| {
            (
                file.dev(),
                file.ino(),
                file.mtime(),
                file.mtime_nsec(),
                file.size(),
            )
        });
        if version == self.version && version.is_some() {
            return;
        }
        self.version = version;
        match File::open(path) {
            Err(err) if err.kind() == ErrorKind::PermissionDenied => self.access = Access::Wanted,
            file => self.take_file(file.ok()),
        }
    }

    /// A resolv.conf, if there is one.
    pub fn take_file(&mut self, file: Option<File>) {
        self.access = Access::Open;
        let mut bytes = Vec::new();
        if let Some(file) = file {
            file.take(LIMIT).read_to_end(&mut bytes).ok();
        }
        (self.resolvers, self.scopes) = name_servers(&String::from_utf8_lossy(&bytes), interface)
            .into_iter()
            .unzip();
    }
}

/// What of a resolv.conf can be used; the rest, of which there may be anything, is passed over.
fn name_servers(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Vec<(IpAddr, u32)> {
    // As glibc (MAXNS).
    const MOST: usize = 3;
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        let word = words.next()?;
        let (address, scope) = match word.split_once('%') {
            Some((address, name)) => (address, interface(name)?),
            None => (word, 0),
        };
        let ip: IpAddr = address.parse().ok()?;
        // Linux: 0.0.0.0 and :: are this host.
        Some((
            match ip {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            },
            scope,
        ))
    };
    text.lines().filter_map(server).take(MOST).collect()
}

/// The number of an interface, by its name or number.
fn interface(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && !name.starts_with('.');
    let text = is_name
        .then(|| std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok())??;
    text.trim().parse().ok()
}

/// Whether an address is one of another machine, or of the host where others reach it too. Linux: connecting to an
/// unspecified address leads to the loopback.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback() || ip.octets()[0] == 0 || ip.is_multicast() || ip.octets()[0] >= 240)
        }
        IpAddr::V6(ip) => {
            // ::/96 has the unspecified and the loopback address; ::ffff:0:0/96 is IPv4 in other clothes; and a
            // link-local address says nothing without an interface.
            let segments = ip.segments();
            let is_low = segments[..5] == [0; 5] && [0, 0xffff].contains(&segments[5]);
            !(is_low || ip.is_multicast() || ip.is_unicast_link_local())
        }
    }
}

/// Whether an address is one of this host's own. Linux: a socket is bound to no other (`ip_nonlocal_bind`).
///
/// Without descriptors or ports for such a socket nobody can tell: it is the host's then.
fn is_of_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let bound = udp::socket(ip.is_ipv4())
        .and_then(|socket| rustix::net::bind(&socket, &SocketAddr::new(ip, 0)));
    bound != Err(Errno::ADDRNOTAVAIL)
}

/// The address with which this host is reached by others.
fn primary(is_v4: bool) -> Option<IpAddr> {
    // Nothing is sent: the kernel looks for the route alone. Documentation addresses (RFC 5737, RFC 3849).
    let far: IpAddr = if is_v4 {
        Ipv4Addr::new(198, 51, 100, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    let by_route = || {
        let socket = udp::connect(SocketAddr::new(far, 9)).ok()?;
        let own: SocketAddr = rustix::net::getsockname(socket).ok()?.try_into().ok()?;
        Some(own.ip())
    };
    by_route()
        .or_else(|| first_address(is_v4))
        .filter(|ip| is_public(*ip))
}

/// Any address, for a host without a default route.
fn first_address(is_v4: bool) -> Option<IpAddr> {
    if is_v4 {
        let text = std::fs::read_to_string("/proc/net/fib_trie").ok()?;
        let mut last = None;
        // An address stands in the line before that which says that it is this host's.
        for line in text.lines() {
            let line = line.trim();
            if let Some(ip) = line.strip_prefix("|-- ") {
                last = ip.parse::<Ipv4Addr>().ok();
            } else if line.contains("host LOCAL")
                && let Some(ip) = last.filter(|ip| is_public((*ip).into()))
            {
                return Some(ip.into());
            }
        }
        return None;
    }
    let text = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split(' ').next()?, 16).ok())
        .map(|number| IpAddr::from(Ipv6Addr::from(number)))
        .find(|ip| is_public(*ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses::choose()
    }

    #[test]
    fn the_loopback_of_the_host_is_not_reached_under_any_name() {
        let mut router = Router::new(addresses(), false, &[]);
        for ip in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "ff02::1",
            "fe80::1",
        ] {
            let target = SocketAddr::new(ip.parse().unwrap(), 80);
            assert_eq!(router.route(Transport::Tcp, target), Err(Forbidden), "{ip}");
        }
        for ip in [
            "192.0.2.7",
            "10.1.2.3",
            "169.254.169.254",
            "2001:db8::1",
            "fd00::2",
        ] {
            let target = SocketAddr::new(ip.parse().unwrap(), 80);
            assert_eq!(router.route(Transport::Tcp, target), Ok(vec![target]));
        }
    }

    #[test]
    fn the_gateway_is_the_host_and_its_loopback_only_when_asked() {
        let own = addresses();
        for gateway in [IpAddr::from(own.gateway4), own.gateway6.into()] {
            let target = SocketAddr::new(gateway, 80);
            let reached = Router::new(own, false, &[])
                .route(Transport::Tcp, target)
                .unwrap();
            assert!(
                reached.iter().all(|host| !host.ip().is_loopback()),
                "{reached:?}"
            );
            let reached = Router::new(own, true, &[])
                .route(Transport::Tcp, target)
                .unwrap();
            assert!(reached[0].ip().is_loopback() && reached[0].port() == 80);
        }
    }

    #[test]
    fn the_host_is_known_by_each_of_its_addresses() {
        for (ip, own) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("198.51.100.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_of_host(ip.parse().unwrap()), own, "{ip}");
        }
        let route = |rules: &str, ip: IpAddr| {
            let rules = egress::parse(rules).unwrap();
            let target = SocketAddr::new(ip, 80);
            Router::new(addresses(), false, &rules).route(Transport::Tcp, target)
        };
        let far: IpAddr = "198.51.100.1".parse().unwrap();
        assert!(route("deny:host", far).is_ok());
        for ip in [true, false].into_iter().filter_map(primary) {
            assert_eq!(route("deny:host", ip), Err(Forbidden), "{ip}");
            assert_eq!(route("deny:private", ip), Err(Forbidden), "{ip}");
            assert_eq!(route("allow:internet,deny", ip), Err(Forbidden), "{ip}");
            assert!(route("allow:host,deny", ip).is_ok(), "{ip}");
        }
    }

    #[test]
    fn the_address_of_the_resolver_has_one_port() {
        let own = addresses();
        let mut router = Router::new(own, true, &[]);
        assert_eq!(
            router.route(Transport::Tcp, (own.resolver4, 80).into()),
            Ok(vec![])
        );
    }

    #[test]
    fn junk_in_a_resolv_conf_is_passed_over() {
        let text = "nameserver\nnameserver x\n# nameserver 192.0.2.1\nnameserver fe80::1%enp5s0\n\
            nameserver fe80::2%gone\nnameserver 192.0.2.53 # near\n\tnameserver\t0.0.0.0\nsearch a\n\u{0}nameserver ::\n\
            nameserver 192.0.2.54";
        let interface = |name: &str| (name == "enp5s0").then_some(7);
        let found: Vec<String> = name_servers(text, interface)
            .iter()
            .map(|(ip, scope)| format!("{ip}%{scope}"))
            .collect();
        assert_eq!(found, ["fe80::1%7", "192.0.2.53%0", "127.0.0.1%0"]);
    }

    #[test]
    fn a_resolv_conf_that_changes_is_followed() {
        let dir = std::env::temp_dir().join(format!("rbox-resolv.{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("resolv.conf");
        let mut router = Router::new(addresses(), false, &[]);
        let mut seen = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(dir.join("new"), text).unwrap();
                std::fs::rename(dir.join("new"), &path).unwrap();
            }
            router.read(&path);
            router
                .resolvers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(None), [""; 0]);
        assert_eq!(seen(Some("nameserver 192.0.2.1\n")), ["192.0.2.1"]);
        assert_eq!(seen(None), ["192.0.2.1"]);
        assert_eq!(
            seen(Some("nameserver 192.0.2.2\nnameserver 192.0.2.3\n")),
            ["192.0.2.2", "192.0.2.3"]
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
