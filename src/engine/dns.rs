//! The names of running containers for the programs of the host: with the addresses and ports where they are reached
//! there, which are those that they publish. Their own addresses lead nowhere outside of their networks.

use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use crate::container::record::Container;
use crate::container::status::Status;
use crate::network::dns;
use crate::network::dns::Code;
use crate::network::dns::Data;
use crate::network::dns::Query;
use crate::network::names;
use crate::network::place;
use crate::network::stub::Stub;
use crate::store::dirs::Dirs;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;

/// A resolver sends questions here by their last label: this one is rbox's, and on the Internet there is none of it.
pub const ZONE: &str = "rbox";

/// How old may be what is known of the containers: a program asks for several things at once.
const FRESH: Duration = Duration::from_secs(1);

/// A container that runs.
#[derive(Debug, Default)]
struct Known {
    /// In lower case.
    names: Vec<String>,
    networks: Vec<String>,
    published: Vec<Publish>,
}

/// Answers on an address of the host until it is killed; `ready` hears where.
pub fn serve(
    dirs: &Dirs,
    listen: SocketAddr,
    ready: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<Infallible> {
    let stub = Stub::listen(listen)?;
    ready(stub.address()?)?;
    let mut known = vec![];
    let mut read: Option<Instant> = None;
    stub.serve(|query, local| {
        if read.is_none_or(|read| read.elapsed() > FRESH) {
            known = find(dirs);
            read = Some(Instant::now());
        }
        decide(&known, query, local)
    })
}

/// All that run; a record that cannot be read is of none.
fn find(dirs: &Dirs) -> Vec<Known> {
    let containers = Container::list(dirs, drop).unwrap_or_default();
    let known = containers.iter().filter_map(|container| {
        let Status::Running(state) = container.status_to_show() else {
            return None;
        };
        let id = &container.config.id;
        let places = place::of_container(dirs, id);
        let aliases = places.iter().flat_map(|place| &place.member.aliases);
        let own = [&container.name, id].into_iter();
        let mut names: Vec<String> = own
            .chain(aliases)
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.push(container.config.short_id().to_owned());
        let networks = places.iter().map(|place| &place.network.name);
        Some(Known {
            names,
            networks: networks.map(|name| name.to_ascii_lowercase()).collect(),
            published: state.network.map_or(vec![], |network| network.published),
        })
    });
    known.collect()
}

/// What was asked at the address `local` of this host.
fn decide(known: &[Known], query: &Query, local: IpAddr) -> (Code, Vec<Data>) {
    let name = query.name.as_str();
    let (port, host) = match service(name) {
        Some((port, protocol, host)) => (Some((port, protocol)), host),
        None => (None, name),
    };
    let found: Vec<&Known> = known.iter().filter(|one| one.is_called(host)).collect();
    if found.is_empty() {
        let is_zone = [ZONE, names::DOMAIN].contains(&name);
        let is_below = [ZONE, names::DOMAIN]
            .iter()
            .any(|zone| names::strip(name, zone).is_some());
        let code = match (is_zone, is_below) {
            (true, _) => Code::NoError,
            (_, true) => Code::NoName,
            // Another resolver is to be asked.
            _ => Code::Refused,
        };
        return (code, vec![]);
    }
    let published = found.iter().flat_map(|one| &one.published);
    let mut data = Vec::new();
    for one in published {
        let more = match port {
            None => addresses(one, local)
                .filter(|ip| match query.kind {
                    dns::A => ip.is_ipv4(),
                    dns::AAAA => ip.is_ipv6(),
                    kind => kind == dns::ANY,
                })
                .map(Data::Ip)
                .collect(),
            Some(wanted)
                if wanted == (one.port, one.protocol)
                    && [dns::SRV, dns::ANY].contains(&query.kind)
                    && addresses(one, local).next().is_some() =>
            {
                vec![Data::Service {
                    port: one.host_port,
                    target: host.to_owned(),
                }]
            }
            Some(_) => vec![],
        };
        for one in more {
            if query.is_of_internet() && !data.contains(&one) {
                data.push(one);
            }
        }
    }
    (Code::NoError, data)
}

impl Known {
    /// Whether a name is of this container: `NAME`, `NAME.NETWORK`, and both with a zone.
    fn is_called(&self, name: &str) -> bool {
        let zones = [ZONE, names::DOMAIN].into_iter();
        let bare = zones.filter_map(|zone| names::strip(name, zone));
        bare.chain([name]).any(|name| {
            let networks = self.networks.iter();
            let scoped = networks.filter_map(|network| names::strip(name, network));
            scoped
                .chain([name])
                .any(|name| self.names.iter().any(|own| own == name))
        })
    }
}

/// Where a published port is reached by who has reached us at `local`.
fn addresses(publish: &Publish, local: IpAddr) -> impl Iterator<Item = IpAddr> {
    let published = publish.host_ip;
    let is_all = published.is_none_or(|ip| ip.is_unspecified());
    let of_loopback = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    let candidates = match published {
        Some(ip) if !is_all => vec![ip],
        // From other machines this one is not reached by its loopback.
        _ if local.is_loopback() => of_loopback.to_vec(),
        _ => vec![local],
    };
    candidates.into_iter().filter(move |ip| {
        let same_family = published.is_none_or(|published| published.is_ipv4() == ip.is_ipv4());
        same_family && (local.is_loopback() || !ip.is_loopback())
    })
}

/// Port and host of the name of a service (RFC 2782): `_80._tcp.web`.
fn service(name: &str) -> Option<(u16, Protocol, &str)> {
    let (port, rest) = name.strip_prefix('_')?.split_once('.')?;
    let (protocol, host) = rest.split_once('.')?;
    let protocol = match protocol {
        "_tcp" => Protocol::Tcp,
        "_udp" => Protocol::Udp,
        _ => return None,
    };
    Some((port.parse().ok()?, protocol, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Known> {
        let publish = |text: &str| crate::text::publish::parse(text).unwrap().remove(0);
        vec![
            Known {
                names: vec!["web".into(), "www".into()],
                networks: vec!["lan".into()],
                published: vec![
                    publish("0.0.0.0:8080:80"),
                    publish("[::]:8080:80"),
                    publish("127.0.0.1:5353:53/udp"),
                ],
            },
            Known {
                names: vec!["second".into(), "www".into()],
                published: vec![publish("127.0.0.2:9090:80")],
                ..Known::default()
            },
            Known {
                names: vec!["quiet".into()],
                ..Known::default()
            },
        ]
    }

    fn ask(local: &str, name: &str, kind: u16) -> String {
        let query = Query::parse(&dns::question(name, kind, b"")).unwrap();
        let (code, data) = decide(&known(), &query, local.parse().unwrap());
        let data = data.iter().map(|one| match one {
            Data::Ip(ip) => format!(" {ip}"),
            Data::Service { port, target } => format!(" {target}:{port}"),
            other @ Data::Name(_) => format!(" {other:?}"),
        });
        format!("{code:?}{}", data.collect::<String>())
    }

    #[test]
    fn containers_are_where_their_ports_are() {
        for (name, kind, expected) in [
            ("web", dns::A, "NoError 127.0.0.1"),
            ("WEB.rbox", dns::AAAA, "NoError ::1"),
            ("web.lan", dns::ANY, "NoError 127.0.0.1 ::1"),
            ("web.lan.rbox", dns::A, "NoError 127.0.0.1"),
            ("web.dns.podman", dns::A, "NoError 127.0.0.1"),
            ("www", dns::A, "NoError 127.0.0.1 127.0.0.2"),
            ("second", dns::AAAA, "NoError"),
            ("quiet.rbox", dns::A, "NoError"),
            ("_80._tcp.web.rbox", dns::SRV, "NoError web.rbox:8080"),
            ("_80._tcp.www", dns::SRV, "NoError www:8080 www:9090"),
            ("_53._udp.web", dns::SRV, "NoError web:5353"),
            ("_53._tcp.web", dns::SRV, "NoError"),
            ("_80._tcp.web", dns::A, "NoError"),
            ("_80._tcp.none.rbox", dns::SRV, "NoName"),
            ("none.rbox", dns::A, "NoName"),
            ("rbox", dns::A, "NoError"),
            ("none", dns::A, "Refused"),
            ("second.lan", dns::A, "Refused"),
            ("xrbox", dns::A, "Refused"),
            ("1.0.0.127.in-addr.arpa", dns::PTR, "Refused"),
        ] {
            assert_eq!(ask("127.0.0.1", name, kind), expected, "{name}");
        }
    }

    #[test]
    fn other_machines_hear_of_what_they_reach() {
        for (name, expected) in [
            ("web", "NoError 192.0.2.7"),
            ("www", "NoError 192.0.2.7"),
            ("second", "NoError"),
            ("_80._tcp.web", "NoError web:8080"),
            ("_53._udp.web", "NoError"),
        ] {
            assert_eq!(ask("192.0.2.7", name, dns::ANY), expected, "{name}");
        }
    }
}
