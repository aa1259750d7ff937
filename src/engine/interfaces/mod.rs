//! The interfaces of a container on its networks: addresses are leased before it is made, cables laid while it is
//! made, and all of it is given back with the run.

pub mod live;
pub mod shell;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;

use crate::container::config::process::Attachment;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::etc::Connected;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::direct;
use crate::network::hub;
use crate::network::hub::Hub;
use crate::network::hub::Keeper;
use crate::network::members;
use crate::network::members::Member;
use crate::network::place;
use crate::network::place::Place;
use crate::network::place::Way;
use crate::network::record;
use crate::network::record::Driver;
use crate::network::record::Network;
use crate::network::wire;
use crate::network::wire::Cable;
use crate::runtime::Wire;
use crate::store::atomic;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::sys::process;

/// The digits of an id that is a name.
const SHORT: usize = 12;

/// The places of a container on its networks, in their order.
pub struct Interfaces {
    hub: Hub,
    dirs: Dirs,
    container: String,
    /// The supervisor's, in the hub.
    device: String,
    places: Vec<Place>,
}

impl Interfaces {
    /// Takes a place on each of the networks of a container that is to be started.
    ///
    /// Must: be called by a single-threaded process.
    pub fn lease(engine: &Engine, container: &Container) -> anyhow::Result<Interfaces> {
        let dirs = &engine.dirs;
        let wanted = &container.config.process.networks;
        let networks = wanted
            .iter()
            .map(|one| record::find(dirs, &one.network))
            .collect::<anyhow::Result<Vec<Network>>>()?;
        let _lock = lock(dirs)?;
        members::sweep(dirs);
        hub::sweep(dirs);
        let id = &container.config.id;
        members::remove_all(dirs, id);
        let mut interfaces = Interfaces {
            hub: Hub::find_or_make(dirs, &engine.ids()?.maps)?,
            dirs: dirs.clone(),
            container: id.clone(),
            device: unique("t"),
            places: vec![],
        };
        let leased = interfaces.lease_all(container, networks, wanted);
        if leased.is_err() {
            members::remove_all(dirs, id);
            Keeper::remove(dirs, id);
        }
        leased?;
        Ok(interfaces)
    }

    fn lease_all(
        &mut self,
        container: &Container,
        networks: Vec<Network>,
        wanted: &[Attachment],
    ) -> anyhow::Result<()> {
        self.keep()?;
        let owner = Owner::of_this_process();
        for (network, wish) in networks.into_iter().zip(wanted) {
            let cannot = || format!("cannot connect to network \"{}\"", wish.network);
            let who = Named::of(container, wish);
            let place = lease(&self.dirs, who, (network, wish), &self.places, owner);
            self.places.push(place.with_context(cannot)?);
        }
        place::choose_uplink(&mut self.places);
        Ok(())
    }

    /// This process has the hub open.
    fn keep(&self) -> anyhow::Result<()> {
        let keeper = self.hub.keeper(self.device.clone());
        keeper.save(&self.dirs, &self.container)
    }

    /// What the command that starts the container has leased is the supervisor's from now on. A command that was killed
    /// meanwhile has lost it.
    fn take_over(&self) -> anyhow::Result<()> {
        let _lock = lock(&self.dirs)?;
        let lost = || {
            fail(
                Kind::Conflict,
                "its place on the network was given to another",
            )
        };
        Keeper::of(&self.dirs, &self.container)
            .filter(|keeper| keeper.device == self.device)
            .ok_or_else(lost)?;
        self.keep()?;
        let owner = Owner::of_this_process();
        for place in &self.places {
            // It may have another name by now.
            let mut member = members::find(&self.dirs, &place.network.id, &self.container)
                .filter(|member| member.port == place.member.port)
                .ok_or_else(lost)?;
            member.uplink = place.member.uplink;
            (member.supervisor, member.start_ticks) = (owner.pid, owner.start_ticks);
            member.save(&self.dirs, &place.network.id)?;
        }
        Ok(())
    }

    /// What the supervisor's stack is told.
    pub fn way(&self) -> Way {
        place::way(&self.places)
    }

    pub fn connected(&self, container: &Container) -> Connected {
        connected(&self.places, container)
    }

    /// The user namespace in which that of the container is made.
    pub fn user(&self) -> Option<BorrowedFd<'_>> {
        self.hub.user()
    }

    /// What has to stay open while the container is on its networks.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hub.fds()
    }
}

impl Wire for Interfaces {
    /// By the supervisor: the places are its own from now on.
    fn connect(&self, container: BorrowedFd<'_>) -> anyhow::Result<OwnedFd> {
        self.take_over()?;
        let cable = |place: &Place| place.cable(&self.device);
        let cables: Vec<Cable> = self.places.iter().map(cable).collect();
        direct::lay(&cables, container)?;
        let device = self
            .hub
            .inside(|| wire::connect(Some(&self.device), &cables, container))?;
        device.context("the device of its way to the world did not arrive")
    }
}

/// Who takes a place on a network.
struct Named {
    id: String,
    name: String,
    aliases: Vec<String>,
}

/// What the files of a container say of its networks.
fn connected(places: &[Place], container: &Container) -> Connected {
    let wanted = container.config.process.etc.resolver.servers.as_deref();
    let addresses = place::way(places).addresses;
    Connected {
        addresses: (addresses.has4 || addresses.has6).then_some(addresses),
        own: places
            .iter()
            .flat_map(|place| place.member.addresses())
            .collect(),
        resolvers: resolvers(places, addresses.resolver(), wanted),
    }
}

/// The resolvers of the container where names are answered: the stack, and of those that are asked for or are those
/// of its networks the ones that only the container reaches, for they are on a network with it.
fn resolvers(places: &[Place], own: IpAddr, wanted: Option<&[IpAddr]>) -> Option<Vec<IpAddr>> {
    let networks = || places.iter().map(|place| &place.network);
    if !networks().any(|network| network.dns) {
        return None;
    }
    let of_networks: Vec<IpAddr> = networks()
        .flat_map(|network| network.dns_servers.clone())
        .collect();
    let mut near = wanted.map_or(of_networks, <[IpAddr]>::to_vec);
    near.retain(|ip| networks().any(|network| network.subnet_of(*ip).is_some()));
    near.insert(0, own);
    Some(near)
}

/// The process that a place on a network is tied to.
#[derive(Clone, Copy)]
struct Owner {
    pid: i32,
    start_ticks: u64,
}

impl Owner {
    fn of_this_process() -> Owner {
        let own = rustix::process::getpid();
        Owner {
            pid: own.as_raw_pid(),
            start_ticks: process::start_ticks(own).unwrap_or(0),
        }
    }
}

/// Takes a place on a network beside those that the container has.
///
/// Must: be called with the members' lock held.
fn lease(
    dirs: &Dirs,
    who: Named,
    (network, wish): (Network, &Attachment),
    beside: &[Place],
    owner: Owner,
) -> anyhow::Result<Place> {
    let others = members::of(dirs, &network.id);
    let taken: Vec<IpAddr> = others.iter().flat_map(Member::addresses).collect();
    let ip4 = address(&network, wish.ip.map(IpAddr::from), true, &taken, &others)?;
    let ip6 = address(&network, wish.ip6.map(IpAddr::from), false, &taken, &others)?;
    let mac = match network.driver {
        Driver::Ipvlan => String::new(),
        _ => hardware_address(wish.mac.as_ref(), (ip4, ip6), &others)?,
    };
    let member = Member {
        id: who.id,
        name: who.name,
        aliases: who.aliases,
        ip4: ip4.and_then(place::v4),
        ip6: ip6.and_then(place::v6),
        mac,
        interface: interface_name(wish, beside)?,
        port: unique("v"),
        uplink: false,
        supervisor: owner.pid,
        start_ticks: owner.start_ticks,
    };
    member
        .save(dirs, &network.id)
        .with_context(|| format!("cannot write who is on network \"{}\"", network.name))?;
    Ok(Place { network, member })
}

/// A name for an interface in the hub that no other has: 15 bytes at most (IFNAMSIZ).
fn unique(kind: &str) -> String {
    format!("{kind}{}", &atomic::random_hex()[..12])
}

/// Networks that a container is to be on, by the names that they have; each must be there, once, and have the
/// addresses that are asked of it.
pub fn check(dirs: &Dirs, mut wanted: Vec<Attachment>) -> anyhow::Result<Vec<Attachment>> {
    let mut seen: Vec<String> = Vec::new();
    for wish in &mut wanted {
        let network = record::find(dirs, &wish.network)?;
        for ip in [wish.ip.map(IpAddr::from), wish.ip6.map(IpAddr::from)]
            .into_iter()
            .flatten()
        {
            network.check_address(ip)?;
        }
        if wish.mac.is_some() && network.driver == Driver::Ipvlan {
            let text = format!(
                "containers of network \"{}\" have the hardware address of its parent (--driver ipvlan)",
                network.name
            );
            return Err(fail(Kind::Unsupported, text))
                .hint("leave it out, or use a network of `--driver macvlan`");
        }
        if seen.contains(&network.name) {
            let text = format!("--network=\"{}\": it is given twice", wish.network);
            return Err(fail(Kind::Usage, text));
        }
        seen.push(network.name.clone());
        wish.network = network.name;
    }
    Ok(wanted)
}

/// Refuses what cannot be had where a container is on an interface of the host's: rbox sees nothing of that.
pub fn check_direct(
    dirs: &Dirs,
    networks: &[Attachment],
    publishes: bool,
    is_limited: bool,
) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for one in networks {
        all.push(record::find(dirs, &one.network)?);
    }
    let Some(direct) = all.iter().find(|network| network.is_direct()) else {
        return Ok(());
    };
    let (name, driver) = (&direct.name, direct.driver.name());
    if is_limited {
        let text = format!(
            "--network-policy and --net-rate cannot be used on network \"{name}\": what its containers send does not pass rbox (--driver {driver})"
        );
        return Err(fail(Kind::Unsupported, text).hint("use a network of `--driver bridge`"));
    }
    if publishes && all.iter().all(Network::is_direct) {
        let text = format!(
            "no port can be published on network \"{name}\" (--driver {driver}): its containers have addresses that others reach"
        );
        return Err(fail(Kind::Unsupported, text)
            .hint("leave out `-p`; or give it another network too: `--network bridge`"));
    }
    Ok(())
}

/// The lock on who is on which network.
pub fn lock(dirs: &Dirs) -> anyhow::Result<Lock> {
    let dir = dirs.run_networks();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Lock::exclusive(&dir.join("lock"))
}

fn address(
    network: &Network,
    wish: Option<IpAddr>,
    is_v4: bool,
    taken: &[IpAddr],
    others: &[Member],
) -> anyhow::Result<Option<IpAddr>> {
    let Some(wish) = wish else {
        return network.free_address(is_v4, taken);
    };
    network.check_address(wish)?;
    let has = |other: &&Member| other.addresses().any(|ip| ip == wish);
    match others.iter().find(has) {
        Some(other) => {
            let text = format!("address {wish} is that of container \"{}\"", other.name);
            Err(fail(Kind::Conflict, text).hint("leave it out, and the network gives a free one"))
        }
        None => Ok(Some(wish)),
    }
}

/// That which is asked for, or one that nobody has.
fn hardware_address(
    wish: Option<&String>,
    (ip4, ip6): (Option<IpAddr>, Option<IpAddr>),
    others: &[Member],
) -> anyhow::Result<String> {
    let holder = |mac: &String| others.iter().find(|other| other.mac == *mac);
    let Some(mac) = wish else {
        let of_address = Some(mac_of(ip4, ip6)).filter(|mac| holder(mac).is_none());
        return Ok(of_address.unwrap_or_else(|| mac_of(None, None)));
    };
    match holder(mac) {
        Some(other) => {
            let text = format!(
                "hardware address {mac} is that of container \"{}\"",
                other.name
            );
            Err(fail(Kind::Conflict, text))
        }
        None => Ok(mac.clone()),
    }
}

/// Locally administered, and as unique on the network as the address: as Docker makes it of the IPv4 address.
fn mac_of(ip4: Option<IpAddr>, ip6: Option<IpAddr>) -> String {
    let tail = match (ip4, ip6) {
        (Some(IpAddr::V4(ip)), _) => ip.octets(),
        (_, Some(IpAddr::V6(ip))) => {
            let octets = ip.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
        _ => {
            let mut random = [0; 4];
            rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty()).ok();
            random
        }
    };
    mac_text([0x02, 0x42, tail[0], tail[1], tail[2], tail[3]])
}

pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn interface_name(wish: &Attachment, beside: &[Place]) -> anyhow::Result<String> {
    let taken: Vec<&str> = beside
        .iter()
        .map(|place| place.member.interface.as_str())
        .collect();
    if let Some(name) = &wish.interface {
        if taken.contains(&name.as_str()) {
            let text = format!("it has an interface \"{name}\" already");
            return Err(fail(Kind::Conflict, text));
        }
        return Ok(name.clone());
    }
    let names = (0..).map(|number| format!("eth{number}"));
    let mut free = names.filter(|name| !taken.contains(&name.as_str()));
    Ok(free.next().expect("there are more numbers than interfaces"))
}

impl Named {
    /// Besides its own name it has, as with Docker, the beginning of its id and its host name.
    fn of(container: &Container, wish: &Attachment) -> Named {
        let config = &container.config;
        let mut aliases = vec![config.id[..SHORT].to_owned()];
        for name in wish.aliases.iter().chain([&config.process.hostname]) {
            if !name.is_empty() && *name != container.name && !aliases.contains(name) {
                aliases.push(name.clone());
            }
        }
        Named {
            id: config.id.clone(),
            name: container.name.clone(),
            aliases,
        }
    }
}
