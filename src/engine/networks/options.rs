//! `--opt` of a network: Podman's names, Docker's names for the same, and why others cannot be had.

use std::collections::BTreeMap;

use crate::engine::networks::Wish;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::direct;
use crate::network::direct::MODE;
use crate::network::direct::PARENT;
use crate::network::record::Driver;
use crate::network::record::MTU;
use crate::network::record::NO_DEFAULT_ROUTE;
use crate::network::stack;

/// IPv4: RFC 791. IPv6: RFC 8200, section 5.
const LEAST_MTU: [u16; 2] = [68, 1280];
/// What the containers' way to the world takes.
const LARGEST_MTU: u16 = stack::MTU;

const ISOLATE: &str = "isolate";

/// What is left of them when the wish has got what they say.
pub fn take(wish: &mut Wish) -> anyhow::Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    for (key, value) in std::mem::take(&mut wish.options) {
        one(wish, &mut kept, &key, &value)?;
    }
    Ok(kept)
}

fn one(
    wish: &mut Wish,
    kept: &mut BTreeMap<String, String>,
    key: &str,
    value: &str,
) -> anyhow::Result<()> {
    let expected = |what: &str| {
        Err(fail(
            Kind::Usage,
            format!("option {key}=\"{value}\": expected {what}"),
        ))
    };
    let refused = |why: &str| {
        Err(fail(
            Kind::Unsupported,
            format!("option {key}=\"{value}\": {why}"),
        ))
    };
    if wish.driver != Driver::Bridge {
        let modes = direct::modes(wish.driver);
        let driver = wish.driver.name();
        match key {
            PARENT => {
                kept.insert(PARENT.into(), value.into());
                return Ok(());
            }
            _ if key == MODE || key == format!("{driver}_mode") => {
                if !modes.contains(&value) {
                    return expected(&modes.join(", "));
                }
                kept.insert(MODE.into(), value.into());
                return Ok(());
            }
            MTU | "com.docker.network.driver.mtu" | NO_DEFAULT_ROUTE => {}
            _ => {
                let text = format!(
                    "option \"{key}\": the driver {driver} has {PARENT}, {MODE}, {MTU} and {NO_DEFAULT_ROUTE}"
                );
                return Err(fail(Kind::Usage, text));
            }
        }
    }
    match key {
        MTU | "com.docker.network.driver.mtu" => {
            let least = LEAST_MTU[usize::from(wish.has_v6())];
            match value.parse::<u16>() {
                Ok(number) if (least..=LARGEST_MTU).contains(&number) => {
                    kept.insert(MTU.into(), number.to_string());
                }
                _ => return expected(&format!("a number from {least} to {LARGEST_MTU}")),
            }
        }
        ISOLATE => {
            match (boolean(value), value) {
                (Some(true), _) | (None, "strict") => {
                    let value = if value == "strict" { "strict" } else { "true" };
                    kept.insert(ISOLATE.into(), value.into());
                }
                (Some(false), _) => {
                    return refused("no way leads from one network of rbox to another, so they are always isolated")
                    .hint("give a container both networks: `--network A --network B`");
                }
                _ => return expected("true, false or strict"),
            }
        }
        NO_DEFAULT_ROUTE => match boolean(value) {
            Some(yes) => {
                kept.insert(NO_DEFAULT_ROUTE.into(), yes.to_string());
            }
            None => return expected("true or false"),
        },
        "com.docker.network.bridge.name" => match &wish.interface {
            Some(other) if other != value => {
                return expected(&format!("\"{other}\", as --interface-name says"));
            }
            _ => wish.interface = Some(value.to_owned()),
        },
        "com.docker.network.enable_ipv6" => match boolean(value) {
            Some(yes) => wish.ipv6 |= yes,
            None => return expected("true or false"),
        },
        "com.docker.network.bridge.enable_ip_masquerade"
        | "com.docker.network.bridge.enable_icc" => match boolean(value) {
            Some(true) => {}
            Some(false) if key.ends_with("icc") => {
                return refused("containers of one network always reach each other")
                    .hint("give each container a network of its own");
            }
            Some(false) => {
                return refused("what containers send leaves this host as a program's own traffic")
                    .hint("`--internal` keeps containers from the outside");
            }
            None => return expected("true or false"),
        },
        _ => return no_such(key, value),
    }
    Ok(())
}

/// Options that other engines have, and why rbox has not.
fn no_such(key: &str, value: &str) -> anyhow::Result<()> {
    let (why, hint) = match key {
        "vlan" => (
            "the bridge of a network joins no interface of the host, so nobody would see the tag",
            "leave it out: networks are isolated from each other without it",
        ),
        "metric" => (
            "a container has one way to the world, by the first of its networks",
            "give the network that is to have it first: `--network A --network B`",
        ),
        "vrf" => (
            "the bridge of a network is in no routing domain of the host",
            "leave it out: networks are isolated from each other without it",
        ),
        "mode" if value == "managed" => return Ok(()),
        "mode" => (
            "a bridge of the host cannot be used without its root's permission",
            "leave it out, and publish ports with `-p`",
        ),
        "parent" | "macvlan_mode" | "ipvlan_mode" | "bclim" => (
            "it is for the drivers macvlan and ipvlan",
            "leave it out: the driver bridge has no parent interface",
        ),
        "com.docker.network.bridge.host_binding_ipv4" => (
            "each port is published where its container says",
            "`-p ADDRESS:PORT:PORT` publishes on one address of the host",
        ),
        "com.docker.network.container_iface_prefix" => (
            "interfaces are named for each container",
            "`--network NAME:interface_name=eth5` names one",
        ),
        _ => {
            let text = format!(
                "option \"{key}\": the driver bridge has {MTU}, {ISOLATE}, {NO_DEFAULT_ROUTE} and com.docker.network.bridge.name"
            );
            return Err(fail(Kind::Usage, text));
        }
    };
    Err(fail(
        Kind::Unsupported,
        format!("option {key}=\"{value}\": {why}"),
    ))
    .hint(hint)
}

/// As Go's ParseBool reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
