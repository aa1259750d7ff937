//! The networks that a user defines, and the default one.
//!
//! ```text
//! DATA/networks/<name>.json   what it was made with; only its resolvers may change
//! DATA/networks/.lock         shared: containers are made that use networks; exclusive: networks are made and removed
//! ```
//!
//! The default network is always there. It has a record only since it was changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

pub use crate::network::subnet::LeaseRange;
pub use crate::network::subnet::Subnet;

use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::journal::Event;
use crate::store::lock::Lock;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp;
use crate::text::cidr::Cidr;

/// The default network, as Docker calls it.
pub const DEFAULT: &str = "bridge";

/// The same, as Podman calls it.
pub const DEFAULT_TOO: &str = "podman";

/// SHA-256 of `podman`, which is Podman's id of it.
const DEFAULT_ID: &str = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";
const DEFAULT_SUBNET: ([u8; 4], u8) = ([10, 88, 0, 0], 16);
const DEFAULT_INTERFACE: &str = "rbox0";

/// Linux: an interface's name has 15 bytes at most (IFNAMSIZ).
pub const LONGEST_INTERFACE: usize = 15;

/// Options; their values were checked when the network was made.
pub const MTU: &str = "mtu";
pub const NO_DEFAULT_ROUTE: &str = "no_default_route";

const SUFFIX: &str = ".json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    pub driver: Driver,
    /// Of the bridge, where the networks' bridges are; or the host's interface that its containers are on.
    pub interface: String,
    pub created: Timestamp,
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    #[serde(default)]
    pub ipv6: bool,
    /// Its containers reach each other, and nothing else.
    #[serde(default)]
    pub internal: bool,
    /// Names of its containers are answered.
    #[serde(default)]
    pub dns: bool,
    /// Asked instead of the host's resolvers.
    #[serde(default)]
    pub dns_servers: Vec<IpAddr>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub ipam: Ipam,
    /// Addresses that no container gets, by what they are for.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A route that each container of a network gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: Cidr,
    pub gateway: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// What a network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A bridge of rbox's own.
    #[default]
    Bridge,
    /// That of an interface of the host's, on which each container has an interface.
    Macvlan,
    /// The same, with one hardware address for all.
    Ipvlan,
}

impl Driver {
    pub const ALL: [Driver; 3] = [Driver::Bridge, Driver::Macvlan, Driver::Ipvlan];

    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }
}

/// Who gives addresses to containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipam {
    #[default]
    HostLocal,
    /// Nobody: they have none, and names are not answered.
    None,
}

impl Ipam {
    pub fn name(self) -> &'static str {
        match self {
            Ipam::HostLocal => "host-local",
            Ipam::None => "none",
        }
    }
}

impl Record for Network {
    const NOUN: &'static str = "network";
    const VERSION: u32 = 1;
}

impl Network {
    /// The network that is there without being made. As Podman's it answers no names.
    pub fn default_one() -> Network {
        let (address, prefix) = DEFAULT_SUBNET;
        let subnet = Cidr::around(address.into(), prefix);
        Network {
            name: DEFAULT.to_owned(),
            id: DEFAULT_ID.to_owned(),
            driver: Driver::Bridge,
            interface: DEFAULT_INTERFACE.to_owned(),
            created: Timestamp::now(),
            subnets: subnet.map(Subnet::of).into_iter().collect(),
            ipv6: false,
            internal: false,
            dns: false,
            dns_servers: vec![],
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            routes: vec![],
            ipam: Ipam::HostLocal,
            reserved: BTreeMap::new(),
        }
    }

    pub fn is_default(&self) -> bool {
        self.name == DEFAULT
    }

    pub fn v4(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|one| one.subnet.is_v4())
    }

    pub fn v6(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|one| !one.subnet.is_v4())
    }

    /// Its containers are on an interface of the host's.
    pub fn is_direct(&self) -> bool {
        self.driver != Driver::Bridge
    }

    /// The subnet of this address.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        let mut subnets = self.subnets.iter();
        subnets.find(|one| one.subnet.contains(address))
    }

    /// `None`: as large as the bridge's interfaces can be.
    pub fn mtu(&self) -> Option<u16> {
        self.options.get(MTU)?.parse().ok()
    }

    /// Whether it has a gateway that leads to everywhere else.
    pub fn has_default_route(&self) -> bool {
        let without = self.options.get(NO_DEFAULT_ROUTE);
        let has_gateway = self.subnets.iter().any(|one| one.gateway.is_some());
        has_gateway && !self.internal && without.is_none_or(|text| text != "true")
    }

    /// An address for a container that asks for none: the first that nobody has. `None` where the network has no subnet
    /// of this family.
    pub fn free_address(&self, v4: bool, taken: &[IpAddr]) -> Result<Option<IpAddr>> {
        let Some(subnet) = (if v4 { self.v4() } else { self.v6() }) else {
            return Ok(None);
        };
        let mut leases = subnet.leases();
        let free = leases.find(|address| !taken.contains(address) && !self.keeps(*address));
        match free {
            Some(address) => Ok(Some(address)),
            None => Err(fail(
                Kind::Conflict,
                format!(
                    "all addresses of network \"{}\" ({}) are in use",
                    self.name, subnet.subnet
                ),
            )),
        }
    }

    fn keeps(&self, address: IpAddr) -> bool {
        self.reserved.values().any(|reserved| *reserved == address)
    }

    /// Refuses an address that a container of this network cannot have, whoever has it now.
    pub fn check_address(&self, address: IpAddr) -> Result<()> {
        let refuse = |text: String| Err(fail(Kind::Usage, text));
        let Some(subnet) = self.subnet_of(address) else {
            let subnets: Vec<String> = self
                .subnets
                .iter()
                .map(|one| one.subnet.to_string())
                .collect();
            let subnets = if subnets.is_empty() {
                "none".into()
            } else {
                subnets.join(" and ")
            };
            return refuse(format!(
                "address {address} is outside of network \"{}\", whose subnets are {subnets}",
                self.name
            ));
        };
        if subnet.gateway == Some(address) {
            return refuse(format!(
                "address {address} is the gateway of network \"{}\"",
                self.name
            ));
        }
        if self.keeps(address) {
            return refuse(format!(
                "address {address} is reserved in network \"{}\" (--aux-address)",
                self.name
            ));
        }
        if !subnet.takes(address) {
            return refuse(format!(
                "address {address} is the network's own, or the broadcast address, of {}",
                subnet.subnet
            ));
        }
        Ok(())
    }
}

/// The name that a network has under which it is asked for.
pub fn canonical(name: &str) -> &str {
    if name == DEFAULT_TOO { DEFAULT } else { name }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

fn place(dirs: &Dirs, name: &str) -> PathBuf {
    dirs.networks().join(format!("{name}{SUFFIX}"))
}

/// The directory of the records, which the first of them makes otherwise.
pub fn make_dir(dirs: &Dirs) -> Result<()> {
    let dir = dirs.networks();
    match atomic::make_dir(&dir) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(atomic::with_space_hint(err.into()))
                .with_context(|| format!("cannot create directory {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn lock_file(dirs: &Dirs) -> PathBuf {
    dirs.networks().join(".lock")
}

/// Held while a container is made, or connected, that uses networks.
pub fn lock_for_use(dirs: &Dirs) -> Result<Lock> {
    make_dir(dirs)?;
    Lock::shared(&lock_file(dirs))
}

/// Held while networks are made, changed and removed.
pub fn lock_for_change(dirs: &Dirs) -> Result<Lock> {
    make_dir(dirs)?;
    let lock = Lock::exclusive(&lock_file(dirs))?;
    temp::sweep_alone(&dirs.networks()).ok();
    Ok(lock)
}

/// The network of this very name.
pub fn by_name(dirs: &Dirs, name: &str) -> Result<Option<Network>> {
    let name = canonical(name);
    if !is_name(name) {
        return Ok(None);
    }
    match record::load_if_present::<Network>(&place(dirs, name)) {
        Ok(None) if name == DEFAULT => Ok(Some(Network::default_one())),
        Ok(network) => Ok(network),
        Err(err) => Err(anyhow::anyhow!(error::message(&err))).hint(format!(
            "the record is damaged, or of another version of rbox; `rbox network rm -f {name}` removes the network"
        )),
    }
}

/// Whether there is a network of this name, or with an id that begins so, be its record readable or not.
pub fn exists(dirs: &Dirs, given: &str) -> bool {
    is_taken(dirs, given) || find(dirs, given).is_ok()
}

/// Whether a network has this very name.
pub fn is_taken(dirs: &Dirs, name: &str) -> bool {
    let name = canonical(name);
    name == DEFAULT || is_name(name) && place(dirs, name).symlink_metadata().is_ok()
}

/// All networks by name. A record that cannot be read is passed over: `bad` hears of it.
pub fn all(dirs: &Dirs, mut bad: impl FnMut(anyhow::Error)) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for name in names(dirs)? {
        match by_name(dirs, &name) {
            Ok(network) => networks.extend(network),
            Err(err) => bad(err),
        }
    }
    Ok(networks)
}

/// The names of all networks.
pub fn names(dirs: &Dirs) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dirs.networks()) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(vec![DEFAULT.into()]),
        result => result.context("cannot list networks")?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let file = entry.context("cannot list networks")?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
        names.extend(
            name.filter(|name| is_name(name) && *name != DEFAULT)
                .map(str::to_owned),
        );
    }
    names.push(DEFAULT.to_owned());
    names.sort();
    Ok(names)
}

/// The network that a person means: by its name, or by its id or the unique beginning of it.
pub fn find(dirs: &Dirs, given: &str) -> Result<Network> {
    if let Some(network) = by_name(dirs, given)? {
        return Ok(network);
    }
    let mut matching = all(dirs, drop)?;
    matching.retain(|network| !given.is_empty() && network.id.starts_with(given));
    match matching.len() {
        0 => Err(missing(given)),
        1 => Ok(matching.remove(0)),
        count => Err(fail(
            Kind::Usage,
            format!("\"{given}\" is the beginning of {count} ids of networks"),
        )
        .hint("give more digits")),
    }
}

pub fn missing(given: &str) -> anyhow::Error {
    fail(Kind::NotFound, format!("no network named \"{given}\""))
        .hint("`rbox network ls` lists the networks there are")
}

/// Writes a network down, be it new or changed.
///
/// Must: be called with the lock for change held.
pub fn save(dirs: &Dirs, network: &Network) -> Result<()> {
    record::save(&place(dirs, &network.name), network, Durability::Durable)
}

/// Removes a network; `false` if there is none of this name.
///
/// Must: be called with the lock for change held, and only if no container uses it.
pub fn remove(dirs: &Dirs, name: &str) -> Result<bool> {
    match std::fs::remove_file(place(dirs, name)) {
        Ok(()) => atomic::sync_dir(&dirs.networks()).map(|()| true),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err).with_context(|| format!("cannot remove network \"{name}\"")),
    }
}

/// Tells the journal, as Podman's does.
pub fn happened(dirs: &Dirs, action: &str, network: &Network) {
    let mut event = Event::new("network", action, &network.id, &network.name);
    let driver = network.driver.name().to_owned();
    event.attributes.insert("driver".into(), driver);
    journal::add(dirs, &event);
}

/// The same of a container that was connected or disconnected: the event has its id.
pub fn met(dirs: &Dirs, action: &str, container: &str, network: &str) {
    journal::add(dirs, &Event::new("network", action, container, network));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn named(name: &str, id: &str) -> Network {
        Network {
            name: name.to_owned(),
            id: id.repeat(64 / id.len()),
            ..Network::default_one()
        }
    }

    #[test]
    fn the_default_network_is_always_there() {
        let base = scratch("network-default");
        let dirs = Dirs::at(base.path()).unwrap();
        for given in ["bridge", "podman", "2f259bab93aa"] {
            let found = find(&dirs, given).unwrap();
            assert!(found.is_default() && exists(&dirs, given), "{given}");
            assert_eq!(found.v4().unwrap().gateway, Some([10, 88, 0, 1].into()));
        }
        assert_eq!(names(&dirs).unwrap(), ["bridge"]);
        assert!(!dirs.networks().exists());
        let mut changed = Network::default_one();
        changed.dns_servers.push([9, 9, 9, 9].into());
        let _alone = lock_for_change(&dirs).unwrap();
        save(&dirs, &changed).unwrap();
        assert_eq!(find(&dirs, "podman").unwrap(), changed);
        assert_eq!(names(&dirs).unwrap(), ["bridge"]);
    }

    #[test]
    fn networks_are_found_by_name_and_by_id_and_removed() {
        let base = scratch("network-find");
        let dirs = Dirs::at(base.path()).unwrap();
        let _alone = lock_for_change(&dirs).unwrap();
        for network in [named("web", "ab"), named("db", "ac"), named("ab", "cd")] {
            save(&dirs, &network).unwrap();
        }
        assert_eq!(names(&dirs).unwrap(), ["ab", "bridge", "db", "web"]);
        for (given, expected) in [("web", "web"), ("abab", "web"), ("ab", "ab"), ("ac", "db")] {
            assert_eq!(find(&dirs, given).unwrap().name, expected);
        }
        for given in ["a", "", "x", "../networks/web", ".lock", "abx"] {
            assert!(
                find(&dirs, given).is_err() && !exists(&dirs, given),
                "{given}"
            );
        }
        assert!(remove(&dirs, "web").unwrap() && !remove(&dirs, "web").unwrap());
        assert_eq!(by_name(&dirs, "web").unwrap(), None);
    }

    #[test]
    fn a_record_of_more_is_read_and_a_damaged_one_is_named() {
        let base = scratch("network-record");
        let dirs = Dirs::at(base.path()).unwrap();
        make_dir(&dirs).unwrap();
        let text = r#"{"version":1,"name":"n","id":"00","driver":"bridge","interface":"rbox1",
            "created":"2026-01-01T00:00:00Z","colour":"red",
            "subnets":[{"subnet":"10.89.0.0/24","gateway":"10.89.0.1","speed":1}]}"#;
        std::fs::write(place(&dirs, "n"), text).unwrap();
        let network = find(&dirs, "n").unwrap();
        assert_eq!(network.v4().unwrap().subnet.to_string(), "10.89.0.0/24");
        assert!(network.v6().is_none() && !network.dns && network.mtu().is_none());
        std::fs::write(place(&dirs, "n"), "{").unwrap();
        let err = find(&dirs, "n").unwrap_err();
        assert!(
            error::hint(&err)
                .unwrap()
                .contains("`rbox network rm -f n`")
        );
        let mut bad = 0;
        assert_eq!(all(&dirs, |_| bad += 1).unwrap().len(), 1);
        assert_eq!(bad, 1);
    }

    #[test]
    fn addresses_are_those_of_the_subnets_that_nobody_has() {
        let mut network = Network::default_one();
        network.subnets = vec![Subnet::of("10.0.0.0/29".parse().unwrap())];
        let free = |taken: &[[u8; 4]]| {
            let taken: Vec<IpAddr> = taken.iter().map(|one| (*one).into()).collect();
            network
                .free_address(true, &taken)
                .map(|free| free.unwrap().to_string())
        };
        assert_eq!(free(&[]).unwrap(), "10.0.0.2");
        assert_eq!(free(&[[10, 0, 0, 2], [10, 0, 0, 3]]).unwrap(), "10.0.0.4");
        let all = [2, 3, 4, 5, 6].map(|last| [10, 0, 0, last]);
        let text = error::message(&free(&all).unwrap_err());
        assert_eq!(
            text,
            "all addresses of network \"bridge\" (10.0.0.0/29) are in use"
        );
        assert_eq!(network.free_address(false, &[]).unwrap(), None);
        network.check_address([10, 0, 0, 5].into()).unwrap();
        for outside in [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 7], [10, 0, 0, 8]] {
            assert!(
                network.check_address(outside.into()).is_err(),
                "{outside:?}"
            );
        }
    }
}
