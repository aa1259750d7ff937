//! `NetworkSettings`: ports, and what the container has of each network while it runs.

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::port;
use crate::config::addresses::Addresses;
use crate::container::config::process::Network;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::network::place;
use crate::network::place::Place;
use crate::network::record;
use crate::network::stack;
use crate::store::dirs::Dirs;

pub fn settings(dirs: &Dirs, container: &Container, status: &Status) -> Value {
    let (mut settings, networks) = match container.config.process.network {
        Network::Bridge => on_networks(dirs, container, status),
        _ => private(container, status),
    };
    settings["Ports"] = port::bindings(&port::published(status));
    settings["Networks"] = networks;
    settings
}

/// Of the network in user mode, if it has that.
fn private(container: &Container, status: &Status) -> (Value, Value) {
    let mode = container.config.process.network.name();
    let mut settings = json!({});
    if let Status::Running(state) = status
        && state.rest.is_none()
        && let Some(network) = &state.network
    {
        let addresses = network.addresses;
        let shown = |ip: IpAddr| {
            let known = addresses.has_family(ip).then(|| ip.to_string());
            known.unwrap_or_default()
        };
        settings = json!({
            "IPAddress": shown(addresses.container4.into()),
            "IPPrefixLen": if addresses.has4 { Addresses::PREFIX4 } else { 0 },
            "Gateway": shown(addresses.gateway4.into()),
            "GlobalIPv6Address": shown(addresses.container6.into()),
            "GlobalIPv6PrefixLen": if addresses.has6 { Addresses::PREFIX6 } else { 0 },
            "IPv6Gateway": shown(addresses.gateway6.into()),
            "MacAddress": stack::CONTAINER_MAC.map(|byte| format!("{byte:02x}")).join(":"),
        });
    }
    let networks = json!({ mode: settings.clone() });
    (settings, networks)
}

/// One entry for each network; the first ones are those of the way to the world, as Podman has it.
fn on_networks(dirs: &Dirs, container: &Container, status: &Status) -> (Value, Value) {
    let places = match status {
        Status::Running(_) => place::of_container(dirs, &container.config.id),
        _ => vec![],
    };
    let mut networks = Map::new();
    for wish in &container.config.process.networks {
        let place = places
            .iter()
            .find(|place| place.network.name == wish.network);
        let entry = match place {
            Some(place) => {
                let mut entry = described(place);
                entry["NetworkID"] = json!(place.network.id);
                entry["Aliases"] = json!(place.member.aliases);
                entry["InterfaceName"] = json!(place.member.interface);
                entry
            }
            None => json!({
                "NetworkID": record::find(dirs, &wish.network).map_or(String::new(), |found| found.id),
                "Aliases": wish.aliases,
            }),
        };
        networks.insert(wish.network.clone(), entry);
    }
    let first = places.iter().find(|place| place.member.uplink);
    (first.map_or_else(|| json!({}), described), networks.into())
}

fn described(place: &Place) -> Value {
    let member = &place.member;
    let (v4, v6) = (place.network.v4(), place.network.v6());
    let (prefix4, prefix6) = (
        v4.map(|one| one.subnet.prefix()),
        v6.map(|one| one.subnet.prefix()),
    );
    json!({
        "IPAddress": member.ip4.map_or(String::new(), |ip| ip.to_string()),
        "IPPrefixLen": prefix4.filter(|_| member.ip4.is_some()).unwrap_or(0),
        "Gateway": v4.and_then(|one| one.gateway).map_or(String::new(), |ip| ip.to_string()),
        "GlobalIPv6Address": member.ip6.map_or(String::new(), |ip| ip.to_string()),
        "GlobalIPv6PrefixLen": prefix6.filter(|_| member.ip6.is_some()).unwrap_or(0),
        "IPv6Gateway": v6.and_then(|one| one.gateway).map_or(String::new(), |ip| ip.to_string()),
        "MacAddress": member.mac,
    })
}
