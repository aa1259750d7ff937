//! A container's place on a network: what the network is, and what the container has of it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::config::addresses::Addresses;
use crate::network::direct::Parent;
use crate::network::members;
use crate::network::members::Member;
use crate::network::record;
use crate::network::record::Network;
use crate::network::record::Subnet;
use crate::network::stack;
use crate::network::wire::Cable;
use crate::network::wire::Uplink;
use crate::store::dirs::Dirs;

#[derive(Clone)]
pub struct Place {
    pub network: Network,
    pub member: Member,
}

/// The container's end of its way to the world, as the stack is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub addresses: Addresses,
    /// Of the interface that leads there.
    pub mac: [u8; 6],
    pub mtu: u16,
    /// It leads to the names of the container's networks, and no further.
    pub is_internal: bool,
}

/// Where a container is now, in no order; networks that are gone are left out.
pub fn of_container(dirs: &Dirs, container: &str) -> Vec<Place> {
    let entries = members::of_container(dirs, container).into_iter();
    entries
        .filter_map(|(id, member)| {
            let network = record::find(dirs, &id).ok()?;
            Some(Place { network, member })
        })
        .collect()
}

/// By the network that has the uplink. Without one the way leads nowhere.
pub fn way(places: &[Place]) -> Way {
    let uplink = places.iter().find(|place| place.member.uplink);
    Way {
        addresses: uplink.map_or_else(|| Addresses::on_network(None, None), Place::addresses),
        mac: uplink.map_or(stack::CONTAINER_MAC, |place| mac_bytes(&place.member.mac)),
        mtu: uplink.map_or(stack::MTU, Place::mtu),
        is_internal: uplink.is_none_or(|place| place.network.internal),
    }
}

/// Which of the places has the way to the world: as it was, unless that network does not lead out and another does. Those
/// on interfaces of the host have a way of their own.
pub fn choose_uplink(places: &mut [Place]) {
    let can = |place: &Place| !place.network.is_direct();
    let leads_out = |place: &Place| can(place) && place.network.has_default_route();
    let now = places.iter().position(|place| place.member.uplink);
    let kept = now.filter(|index| leads_out(&places[*index]));
    let chosen = kept
        .or_else(|| places.iter().position(leads_out))
        .or(now)
        .or_else(|| places.iter().position(can));
    for (index, place) in places.iter_mut().enumerate() {
        place.member.uplink = Some(index) == chosen;
    }
}

impl Place {
    fn addresses(&self) -> Addresses {
        let gateway = |subnet: Option<&Subnet>| subnet.and_then(|one| one.gateway);
        let v4 = self.member.ip4.zip(gateway(self.network.v4()).and_then(v4));
        let v6 = self.member.ip6.zip(gateway(self.network.v6()).and_then(v6));
        Addresses::on_network(v4, v6)
    }

    /// Must: as `Member::save`.
    pub fn save(&self, dirs: &Dirs) -> anyhow::Result<()> {
        self.member.save(dirs, &self.network.id)
    }

    /// `device` is that of the supervisor.
    pub fn cable(&self, device: &str) -> Cable {
        let of = |subnet: Option<&Subnet>, ip: Option<IpAddr>| {
            ip.zip(subnet.map(|one| one.subnet.prefix()))
        };
        let member = &self.member;
        let v4 = of(self.network.v4(), member.ip4.map(IpAddr::from));
        let v6 = of(self.network.v6(), member.ip6.map(IpAddr::from));
        let gateways = self.network.subnets.iter().filter_map(|one| one.gateway);
        let routes = self.network.routes.iter().map(|route| {
            let to = &route.destination;
            ((to.first(), to.prefix()), route.gateway, route.metric)
        });
        Cable {
            parent: Parent::of(&self.network),
            bridge: self.network.interface.clone(),
            mtu: self.mtu(),
            port: member.port.clone(),
            interface: member.interface.clone(),
            mac: mac_bytes(&member.mac),
            addresses: v4.into_iter().chain(v6).collect(),
            routes: routes.collect(),
            gateways: gateways.collect(),
            device: device.to_owned(),
            uplink: member.uplink.then(|| Uplink {
                is_default: self.network.has_default_route(),
            }),
        }
    }

    /// The largest that the stack takes, unless the network says less.
    pub fn mtu(&self) -> u16 {
        let asked = self.network.mtu();
        asked.map_or(stack::MTU, |mtu| mtu.min(stack::MTU))
    }
}

pub fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

pub fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    }
}

/// One that was checked when it was asked for.
fn mac_bytes(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(text.split(':')) {
        *to = u8::from_str_radix(from, 16).unwrap_or(0);
    }
    mac
}
