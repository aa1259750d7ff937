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

/// Podman's name of it, and Docker's.
const MTUS: [&str; 2] = [MTU, "com.docker.network.driver.mtu"];

/// Names of Docker's.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const BETWEEN: &str = "com.docker.network.bridge.enable_icc";

type Kept = BTreeMap<String, String>;

/// What is left of them when the wish has got what they say.
pub fn take(wish: &mut Wish) -> anyhow::Result<Kept> {
    let mut kept = Kept::new();
    let given = std::mem::take(&mut wish.options);
    for (key, value) in &given {
        match (key.as_str(), wish.driver) {
            (NO_DEFAULT_ROUTE, _) => {
                let is_without = boolean(value).ok_or_else(|| no_boolean(key, value))?;
                kept.insert(NO_DEFAULT_ROUTE.into(), is_without.to_string());
            }
            (key, _) if MTUS.contains(&key) => {}
            (key, Driver::Bridge) => of_bridge(wish, &mut kept, key, value)?,
            (key, driver) => of_direct(driver, &mut kept, key, value)?,
        }
    }
    // The last one: of the others comes whether it has IPv6.
    if let Some(mtu) = mtu(&given, wish.has_v6())? {
        kept.insert(MTU.into(), mtu.to_string());
    }
    Ok(kept)
}

fn expected(key: &str, value: &str, what: &str) -> anyhow::Error {
    let text = format!("option {key}=\"{value}\": expected {what}");
    fail(Kind::Usage, text)
}

fn no_boolean(key: &str, value: &str) -> anyhow::Error {
    expected(key, value, "true or false")
}

fn refused(key: &str, value: &str, why: &str) -> anyhow::Error {
    let text = format!("option {key}=\"{value}\": {why}");
    fail(Kind::Unsupported, text)
}

/// By whichever of its names; by both it must be the same.
fn mtu(given: &BTreeMap<String, String>, has_v6: bool) -> anyhow::Result<Option<u16>> {
    let least = LEAST_MTU[usize::from(has_v6)];
    let mut found: Option<u16> = None;
    for key in MTUS {
        let Some(value) = given.get(key) else {
            continue;
        };
        let number = value.parse().ok();
        let number = number.filter(|number| (least..=LARGEST_MTU).contains(number));
        let form = || format!("a number from {least} to {LARGEST_MTU}");
        let number = number.ok_or_else(|| expected(key, value, &form()))?;
        if let Some(other) = found.filter(|other| *other != number) {
            return Err(expected(key, value, &format!("{other}, as {MTU} says")));
        }
        found = Some(number);
    }
    Ok(found)
}

/// Of a network on an interface of the host's.
fn of_direct(driver: Driver, kept: &mut Kept, key: &str, value: &str) -> anyhow::Result<()> {
    let modes = direct::modes(driver);
    let driver = driver.name();
    let name = match key {
        PARENT => PARENT,
        _ if key == MODE || key == format!("{driver}_mode") => {
            if !modes.contains(&value) {
                return Err(expected(key, value, &modes.join(", ")));
            }
            MODE
        }
        _ => {
            let text = format!(
                "option \"{key}\": the driver {driver} has {PARENT}, {MODE}, {MTU} and {NO_DEFAULT_ROUTE}"
            );
            return Err(fail(Kind::Usage, text));
        }
    };
    match kept.insert(name.into(), value.into()) {
        Some(other) if other != value => Err(expected(
            key,
            value,
            &format!("\"{other}\", as is said too"),
        )),
        _ => Ok(()),
    }
}

fn of_bridge(wish: &mut Wish, kept: &mut Kept, key: &str, value: &str) -> anyhow::Result<()> {
    match (key, boolean(value)) {
        (ISOLATE, Some(true)) => {
            kept.insert(ISOLATE.into(), "true".into());
        }
        (ISOLATE, None) if value == "strict" => {
            kept.insert(ISOLATE.into(), value.into());
        }
        (ISOLATE, None) => return Err(expected(key, value, "true, false or strict")),
        (ISOLATE, Some(false)) => {
            let why =
                "no way leads from one network of rbox to another, so they are always isolated";
            return Err(refused(key, value, why)
                .hint("give a container both networks: `--network A --network B`"));
        }
        (BRIDGE_NAME, _) => match &wish.interface {
            Some(other) if other != value => {
                let what = format!("\"{other}\", as --interface-name says");
                return Err(expected(key, value, &what));
            }
            _ => wish.interface = Some(value.to_owned()),
        },
        (ENABLE_IPV6, Some(yes)) => wish.ipv6 |= yes,
        (MASQUERADE | BETWEEN, Some(true)) => {}
        (BETWEEN, Some(false)) => {
            let why = "containers of one network always reach each other";
            return Err(refused(key, value, why).hint("give each container a network of its own"));
        }
        (MASQUERADE, Some(false)) => {
            let why = "what containers send leaves this host as a program's own traffic";
            return Err(
                refused(key, value, why).hint("`--internal` keeps containers from the outside")
            );
        }
        (ENABLE_IPV6 | MASQUERADE | BETWEEN, None) => return Err(no_boolean(key, value)),
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
                "option \"{key}\": the driver bridge has {MTU}, {ISOLATE}, {NO_DEFAULT_ROUTE} and {BRIDGE_NAME}"
            );
            return Err(fail(Kind::Usage, text));
        }
    };
    Err(refused(key, value, why)).hint(hint)
}

/// As Go's ParseBool reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
