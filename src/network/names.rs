//! The names of containers on the networks of one of them, as DNS has them: by name, id and alias, and back from
//! addresses.
//!
//! Who is on a network is looked up where it stands (`members`), and who is gone without a word does not count; so nobody
//! has to tell a container's supervisor of a network that it comes to, or that has other resolvers now. The files are
//! read when they have changed, which the directory's time says. Being told of it (inotify) would be cheaper still, but
//! a user has 128 of those, and each container would take one.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use crate::network::dns;
use crate::network::dns::Code;
use crate::network::dns::Data;
use crate::network::dns::Query;
use crate::network::members;
use crate::network::members::Member;
use crate::network::record;
use crate::network::record::Network;
use crate::store::dirs::Dirs;

/// The search domain of containers on a network, as Podman has it.
pub const DOMAIN: &str = "dns.podman";

/// Linux: the time of a directory is that of the last tick of the kernel's clock, of which there are 100 to 1000 in a
/// second. Two changes between two ticks look the same, so that one which was just made says nothing of the next.
const GRAIN: Duration = Duration::from_millis(50);

/// Which state of a directory was read: file, and time.
type Version = (u64, i64, i64);

#[derive(Clone, Debug)]
struct Known {
    network: Network,
    members: Vec<Member>,
    version: Option<Version>,
}

/// What a container is told.
#[derive(Clone, Debug)]
pub struct Names {
    dirs: Dirs,
    /// The container's id.
    own: String,
    /// The container's own resolvers in place of others.
    pub servers: Vec<SocketAddr>,
    /// The networks that it is on, which may change.
    known: Vec<Known>,
    /// Of the records of networks.
    version: Option<Version>,
    /// Answers so far: the next one begins with another address.
    turn: usize,
}

impl Names {
    /// Of a container, which says itself where it is by being there; `servers` are asked in place of all others.
    pub fn new(dirs: &Dirs, container: &str, servers: &[IpAddr]) -> Names {
        Names {
            dirs: dirs.clone(),
            own: container.to_owned(),
            servers: servers.iter().map(|ip| (*ip, dns::PORT).into()).collect(),
            known: vec![],
            version: None,
            turn: 0,
        }
    }

    /// Who is asked for what is not known here; where there is none, the host's resolvers are. Those on a network of the
    /// container's are reached by the container alone.
    pub fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.wanted_servers();
        servers.retain(|server| !self.is_near(server.ip()));
        servers
    }

    fn wanted_servers(&self) -> Vec<SocketAddr> {
        if !self.servers.is_empty() {
            return self.servers.clone();
        }
        let servers = self
            .known
            .iter()
            .flat_map(|known| &known.network.dns_servers);
        servers.map(|ip| (*ip, dns::PORT).into()).collect()
    }

    fn is_near(&self, ip: IpAddr) -> bool {
        let mut known = self.known.iter();
        known.any(|known| known.network.subnet_of(ip).is_some())
    }

    /// The end of a question that is decided here; who is on the networks is nobody else's business.
    pub fn decide(&mut self, query: &Query) -> Option<(Code, Vec<Data>)> {
        self.refresh();
        if let Some(ip) = dns::reverse(&query.name) {
            return self.decide_reverse(query, ip);
        }
        if let Some(addresses) = self.find(&query.name) {
            let wanted = |ip: &IpAddr| match query.kind {
                dns::A => ip.is_ipv4(),
                dns::AAAA => ip.is_ipv6(),
                kind => kind == dns::ANY,
            };
            let mut wanted: Vec<IpAddr> = addresses.into_iter().filter(wanted).collect();
            if !query.is_of_internet() {
                wanted.clear();
            }
            if !wanted.is_empty() {
                let first = self.turn % wanted.len();
                wanted.rotate_left(first);
                self.turn = self.turn.wrapping_add(1);
            }
            return Some((Code::NoError, wanted.into_iter().map(Data::Ip).collect()));
        }
        let is_ours = query.name == DOMAIN || strip(&query.name, DOMAIN).is_some();
        self.decide_unknown(is_ours)
    }

    /// The end of a question of which nothing is known here, if it goes no further.
    fn decide_unknown(&self, is_ours: bool) -> Option<(Code, Vec<Data>)> {
        if is_ours || !self.is_forwarding() {
            return Some((Code::NoName, vec![]));
        }
        // Then the container asks those that it reaches itself, which are resolvers of its own too.
        let are_near = !self.wanted_servers().is_empty() && self.servers().is_empty();
        are_near.then_some((Code::Refused, vec![]))
    }

    fn decide_reverse(&self, query: &Query, ip: IpAddr) -> Option<(Code, Vec<Data>)> {
        let member = self.find_member(ip);
        let names: Vec<Data> = member
            .map(|member| Data::Name(member.name.clone()))
            .into_iter()
            .collect();
        if names.is_empty() {
            let mut known = self.with_names();
            return self.decide_unknown(known.any(|known| known.network.subnet_of(ip).is_some()));
        }
        let is_asked = [dns::PTR, dns::ANY].contains(&query.kind) && query.is_of_internet();
        Some((Code::NoError, if is_asked { names } else { vec![] }))
    }

    fn with_names(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| known.network.dns)
    }

    fn is_forwarding(&self) -> bool {
        let mut known = self.known.iter();
        self.known.is_empty() || known.any(|known| !known.network.internal)
    }

    /// The addresses of those who have this name, on all networks; `None` where nobody has it.
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        let bare = strip(name, DOMAIN);
        let mut found: Option<Vec<IpAddr>> = None;
        for known in self.with_names() {
            let scoped = strip(name, &known.network.name.to_ascii_lowercase());
            let called = |member: &&Member| {
                let mut names = [Some(name), bare, scoped].into_iter().flatten();
                names.any(|name| is_called(member, name)) && member.is_alive()
            };
            for member in known.members.iter().filter(called) {
                let found = found.get_or_insert_default();
                for ip in member.addresses() {
                    if !found.contains(&ip) {
                        found.push(ip);
                    }
                }
            }
        }
        found
    }

    fn find_member(&self, ip: IpAddr) -> Option<&Member> {
        let mut members = self.with_names().flat_map(|known| &known.members);
        members.find(|member| member.addresses().any(|own| own == ip) && member.is_alive())
    }

    /// Reads what has changed.
    fn refresh(&mut self) {
        self.refresh_networks();
        for known in &mut self.known {
            if !known.network.dns {
                continue;
            }
            let dir = members::dir(&self.dirs, &known.network.id);
            // Looked at before it is read: what changes meanwhile is seen the next time.
            let (version, is_settled) = version(&dir);
            if version.is_none() || known.version != version {
                known.members = members::in_dir(&dir);
                known.version = version.filter(|_| is_settled);
            }
        }
    }

    fn refresh_networks(&mut self) {
        let ids = members::networks_of(&self.dirs, &self.own);
        let (version, is_settled) = version(&self.dirs.networks());
        let known = self.known.iter().map(|known| &known.network.id);
        if version.is_some() && self.version == version && known.eq(&ids) {
            return;
        }
        self.version = version.filter(|_| is_settled);
        let mut networks = record::all(&self.dirs, drop).unwrap_or_default();
        networks.retain(|network| ids.contains(&network.id));
        networks.sort_by(|one, other| one.id.cmp(&other.id));
        let known = |network| Known {
            network,
            members: vec![],
            version: None,
        };
        self.known = networks.into_iter().map(known).collect();
    }
}

/// What is before a domain in a name.
pub fn strip<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    name.strip_suffix(domain)?.strip_suffix('.')
}

fn is_called(member: &Member, name: &str) -> bool {
    let names = [&member.id, &member.name].into_iter();
    let is_short = member.id.get(..12) == Some(name);
    is_short
        || names
            .chain(&member.aliases)
            .any(|one| one.eq_ignore_ascii_case(name))
}

/// The state of a directory, if it is there, and whether another change would be seen.
fn version(dir: &Path) -> (Option<Version>, bool) {
    let Ok(file) = std::fs::metadata(dir) else {
        return (None, false);
    };
    // A clock that went back has a change in the future, and then nothing is kept until it is past.
    let changed = file.modified().ok();
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    let version = (file.ino(), file.mtime(), file.mtime_nsec());
    (Some(version), age.is_some_and(|age| age > GRAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::Subnet;
    use crate::store::temp::TempDir;
    use crate::sys::process;

    const DEAD: u64 = 1;

    /// Containers 1 to 3 on the network `net`, of which the last is dead, and a file that is damaged.
    fn networks() -> (TempDir, Names) {
        let dir = TempDir::create_in(&std::env::temp_dir()).unwrap();
        let dirs = Dirs {
            data: dir.path().join("data"),
            run: dir.path().to_owned(),
            ..Dirs::default()
        };
        std::fs::create_dir_all(dirs.networks()).unwrap();
        let net = network("a1", "Net");
        record::save(&dirs, &net).unwrap();
        let v6 = Some("fd00::2");
        let web = member(1, "web", &["www", "all"], ("10.89.0.2", v6));
        web.save(&dirs, &net.id).unwrap();
        let db = member(2, "Db.one", &["all"], ("10.89.0.3", None));
        db.save(&dirs, &net.id).unwrap();
        let mut gone = member(3, "gone", &["all"], ("10.89.0.4", None));
        gone.start_ticks = DEAD;
        gone.save(&dirs, &net.id).unwrap();
        std::fs::write(members::dir(&dirs, &net.id).join("ff"), "{").unwrap();
        (dir, Names::new(&dirs, &web.id, &[]))
    }

    fn network(id: &str, name: &str) -> Network {
        let subnet = |text: &str| Subnet::of(text.parse().unwrap());
        Network {
            id: id.into(),
            name: name.into(),
            dns: true,
            subnets: vec![subnet("10.89.0.0/24"), subnet("fd00::/64")],
            ..Network::default_one()
        }
    }

    fn member(number: u8, name: &str, aliases: &[&str], ips: (&str, Option<&str>)) -> Member {
        let own = rustix::process::getpid();
        Member {
            id: format!("{number:x}").repeat(64),
            name: name.into(),
            aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
            ip4: Some(ips.0.parse().unwrap()),
            ip6: ips.1.map(|ip| ip.parse().unwrap()),
            mac: String::new(),
            interface: "eth0".into(),
            port: String::new(),
            uplink: true,
            supervisor: own.as_raw_pid(),
            start_ticks: process::start_ticks(own).unwrap(),
        }
    }

    /// Code and data, as one line.
    fn ask(names: &mut Names, name: &str, kind: u16) -> String {
        let query = Query::parse(&dns::question(name, kind, b"")).unwrap();
        match names.decide(&query) {
            None => "forwarded".into(),
            Some((code, data)) => {
                let data = data.iter().map(|one| match one {
                    Data::Ip(ip) => format!(" {ip}"),
                    other => format!(" {other:?}"),
                });
                format!("{code:?}{}", data.collect::<String>())
            }
        }
    }

    #[test]
    fn names_ids_and_aliases_have_addresses() {
        let (_dir, mut names) = networks();
        let id = "1".repeat(64);
        for (name, kind, expected) in [
            ("web", dns::A, "NoError 10.89.0.2"),
            ("WEB", dns::AAAA, "NoError fd00::2"),
            ("www", dns::A, "NoError 10.89.0.2"),
            ("web.dns.podman", dns::A, "NoError 10.89.0.2"),
            ("web.net", dns::A, "NoError 10.89.0.2"),
            ("db.one", dns::A, "NoError 10.89.0.3"),
            ("db.one", dns::AAAA, "NoError"),
            ("db.one.net", dns::SRV, "NoError"),
            ("111111111111", dns::A, "NoError 10.89.0.2"),
            (&id[..63], dns::A, "forwarded"),
            ("gone", dns::A, "forwarded"),
            ("one", dns::A, "forwarded"),
            ("xnet", dns::A, "forwarded"),
            ("web.other", dns::A, "forwarded"),
            ("gone.dns.podman", dns::A, "NoName"),
            ("dns.podman", dns::A, "NoName"),
        ] {
            assert_eq!(ask(&mut names, name, kind), expected, "{name}");
        }
        assert_eq!(
            ask(&mut names, "all", dns::A),
            "NoError 10.89.0.3 10.89.0.2"
        );
        assert_eq!(
            ask(&mut names, "all", dns::A),
            "NoError 10.89.0.2 10.89.0.3"
        );
    }

    #[test]
    fn addresses_of_the_network_have_names() {
        let (_dir, mut names) = networks();
        let six = |last: &str| {
            format!(
                "{last}{}0.0.d.f.ip6.arpa",
                ".0".repeat(27).trim_start_matches('.').to_owned() + "."
            )
        };
        for (name, kind, expected) in [
            (
                "3.0.89.10.in-addr.arpa",
                dns::PTR,
                "NoError Name(\"Db.one\")",
            ),
            (&six("2."), dns::PTR, "NoError Name(\"web\")"),
            ("3.0.89.10.in-addr.arpa", dns::A, "NoError"),
            ("4.0.89.10.in-addr.arpa", dns::PTR, "NoName"),
            (&six("3."), dns::PTR, "NoName"),
            ("4.1.89.10.in-addr.arpa", dns::PTR, "forwarded"),
        ] {
            assert_eq!(ask(&mut names, name, kind), expected, "{name}");
        }
    }

    #[test]
    fn who_comes_and_goes_is_seen_at_once() {
        let (_dir, mut names) = networks();
        let dirs = names.dirs.clone();
        let come = |ip: &str| {
            let new = member(4, "new", &[], (ip, None));
            new.save(&dirs, "a1").unwrap();
        };
        assert_eq!(ask(&mut names, "new", dns::A), "forwarded");
        for round in 0..200 {
            let ip = format!("10.89.0.{}", 10 + round);
            come(&ip);
            assert_eq!(ask(&mut names, "new", dns::A), format!("NoError {ip}"));
        }
        members::remove(&dirs, "a1", &"4".repeat(64));
        assert_eq!(ask(&mut names, "new", dns::A), "forwarded");
        std::thread::sleep(2 * GRAIN);
        // Read once more, and kept from then.
        assert_eq!(ask(&mut names, "new", dns::A), "forwarded");
        assert!(names.known[0].version.is_some());
        come("10.89.0.9");
        assert_eq!(ask(&mut names, "new", dns::A), "NoError 10.89.0.9");
        std::fs::remove_dir_all(dirs.run_networks()).unwrap();
        assert_eq!(ask(&mut names, "new", dns::A), "forwarded");
    }

    #[test]
    fn the_container_comes_to_networks_and_they_change() {
        let (_dir, mut names) = networks();
        let dirs = names.dirs.clone();
        let own = member(1, "web", &[], ("10.90.0.2", None));
        let other = member(5, "other", &["www"], ("10.90.0.3", None));
        let mut second = Network {
            dns_servers: vec!["192.0.2.53".parse().unwrap()],
            internal: true,
            ..network("a2", "second")
        };
        record::save(&dirs, &second).unwrap();
        other.save(&dirs, "a2").unwrap();
        assert_eq!(ask(&mut names, "other", dns::A), "forwarded");
        assert_eq!(names.servers(), []);
        own.save(&dirs, "a2").unwrap();
        assert_eq!(ask(&mut names, "other", dns::A), "NoError 10.90.0.3");
        assert_eq!(ask(&mut names, "other.second", dns::A), "NoError 10.90.0.3");
        assert_eq!(ask(&mut names, "other.net", dns::A), "forwarded");
        let both = ask(&mut names, "www", dns::A);
        assert_eq!(both, "NoError 10.89.0.2 10.90.0.3");
        assert_eq!(names.servers(), ["192.0.2.53:53".parse().unwrap()]);
        second.dns_servers[0] = "192.0.2.54".parse().unwrap();
        record::save(&dirs, &second).unwrap();
        // Off the first, there is no way out.
        members::remove(&dirs, "a1", &own.id);
        assert_eq!(ask(&mut names, "example.com", dns::A), "NoName");
        assert_eq!(ask(&mut names, "4.3.2.1.in-addr.arpa", dns::PTR), "NoName");
        assert_eq!(names.servers(), ["192.0.2.54:53".parse().unwrap()]);
        second.internal = false;
        second.dns_servers[0] = "10.89.0.9".parse().unwrap();
        record::save(&dirs, &second).unwrap();
        assert_eq!(ask(&mut names, "example.com", dns::A), "Refused");
        second.internal = true;
        second.dns = false;
        record::save(&dirs, &second).unwrap();
        assert_eq!(ask(&mut names, "other", dns::A), "NoName");
        let own = Names::new(&dirs, &own.id, &["192.0.2.55".parse().unwrap()]);
        assert_eq!(own.servers(), ["192.0.2.55:53".parse().unwrap()]);
    }
}
