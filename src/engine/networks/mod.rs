//! Networks that users define, and the containers that use them.

mod options;
mod plan;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;

use crate::config::addresses;
use crate::container::name;
use crate::container::record::Container;
use crate::container::uses;
use crate::engine::Engine;
use crate::engine::interfaces::shell::VISITOR;
use crate::engine::remove;
use crate::engine::stop;
use crate::engine::stop::Limit;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::hub::Hub;
use crate::network::members;
use crate::network::record;
use crate::network::record::Network;
use crate::network::wire;
use crate::store::dirs::Dirs;

pub use plan::Range;
pub use plan::Wish;

/// Makes a network; with `ignore` it is the one there is of this name. Its name.
pub fn create(engine: &Engine, wish: Wish, ignore: bool) -> anyhow::Result<String> {
    let dirs = &engine.dirs;
    let called = match &wish.name {
        Some(name) => format!("network \"{name}\""),
        None => "a network".to_owned(),
    };
    let cannot = || format!("cannot create {called}");
    let wish = wish.checked().with_context(cannot)?;
    let _alone = record::lock_for_change(dirs)?;
    if let Some(name) = &wish.name
        && record::is_taken(dirs, name)
    {
        if ignore {
            return Ok(record::canonical(name).to_owned());
        }
        return Err(fail(Kind::Conflict, "there is one of this name"))
            .hint("use another name, or `--ignore` to take the one there is")
            .with_context(cannot);
    }
    // What cannot be read is in nobody's way.
    let others = record::all(dirs, drop)?;
    let taken = record::names(dirs)?;
    let id = name::random_id()?;
    let network =
        plan::network(wish, id, &taken, &others, &addresses::routes()).with_context(cannot)?;
    record::save(dirs, &network).with_context(cannot)?;
    record::happened(dirs, "create", &network);
    Ok(network.name)
}

/// The names of the containers that networks must stay for, by the networks' names: those that are to be on them at
/// their start, and those that are on them now.
pub fn users(dirs: &Dirs) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut users = uses::networks(dirs)?;
    for network in record::all(dirs, drop)? {
        for member in members::of(dirs, &network.id) {
            let of_network = users.entry(network.name.clone()).or_default();
            of_network.insert(member.name);
        }
    }
    Ok(users)
}

/// Removes a network. By force the containers that use it go too, after so many seconds at most.
pub fn remove(engine: &Engine, network: &Network, force: bool, wait: Limit) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let cannot = || format!("cannot remove network \"{}\"", network.name);
    if network.is_default() {
        let text = "it is the default network, which is always there";
        return Err(fail(Kind::Unsupported, text)).with_context(cannot);
    }
    loop {
        let alone = record::lock_for_change(dirs)?;
        let users = users(dirs).with_context(cannot)?.remove(&network.name);
        let users = users.unwrap_or_default();
        if users.is_empty() {
            return gone(dirs, network);
        }
        if !force {
            return Err(in_use(network, &users)).with_context(cannot);
        }
        drop(alone);
        let mut removed = false;
        for user in &users {
            let found = Container::by_name(dirs, user)?;
            // Another one may have the name by now.
            if let Some(container) = found.filter(|container| uses_it(dirs, container, network)) {
                stop::stop(engine, &container, stop::Options::within(Some(wait))).ok();
                remove::remove(engine, &container, true, false).with_context(cannot)?;
                removed = true;
            }
        }
        if !removed {
            return Err(in_use(network, &users)).with_context(cannot);
        }
    }
}

fn uses_it(dirs: &Dirs, container: &Container, network: &Network) -> bool {
    let config = &container.config;
    let mut wanted = config.process.networks.iter();
    wanted.any(|one| one.network == network.name)
        || members::find(dirs, &network.id, &config.id).is_some()
}

/// Must: be called with the lock for change held.
fn gone(dirs: &Dirs, network: &Network) -> anyhow::Result<()> {
    remove_bridge(dirs, network)?;
    if record::remove(dirs, &network.name)? {
        std::fs::remove_dir_all(members::dir(dirs, &network.id)).ok();
        record::happened(dirs, "remove", network);
    }
    Ok(())
}

/// While others keep the hub open it would stay there, and be that of the next network of its name, as it is.
fn remove_bridge(dirs: &Dirs, network: &Network) -> anyhow::Result<()> {
    let hub = Hub::find(dirs).filter(|_| !network.is_direct());
    let Some(hub) = hub else {
        return Ok(());
    };
    let removed = hub.inside(|| wire::remove(&network.interface).map(|()| None));
    removed
        .map(drop)
        .with_context(|| format!("cannot remove the bridge of network \"{}\"", network.name))
}

/// Removes one whose record cannot be read.
pub fn remove_unreadable(engine: &Engine, name: &str) -> anyhow::Result<()> {
    let _alone = record::lock_for_change(&engine.dirs)?;
    record::remove(&engine.dirs, record::canonical(name)).map(drop)
}

fn in_use(network: &Network, users: &BTreeSet<String>) -> anyhow::Error {
    let quoted: Vec<String> = users.iter().map(|name| format!("\"{name}\"")).collect();
    let text = match quoted.as_slice() {
        [one] => format!("container {one} uses it"),
        several => format!("containers {} use it", several.join(", ")),
    };
    if users.iter().all(|user| user.starts_with(VISITOR)) {
        return fail(Kind::Conflict, text).hint("end the `rbox network shell` there");
    }
    fail(Kind::Conflict, text).hint(format!(
        "`rbox network rm -f {}` stops and removes what uses it too",
        network.name
    ))
}

/// Removes the networks that no container uses and that are wanted gone; their names.
pub fn prune(
    engine: &Engine,
    wanted: impl Fn(&Network) -> bool,
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let dirs = &engine.dirs;
    if !dirs.networks().exists() {
        return Ok(vec![]);
    }
    let _alone = record::lock_for_change(dirs)?;
    let used = users(dirs)?;
    let mut names = Vec::new();
    for network in record::all(dirs, drop)? {
        if wanted(&network) && !network.is_default() && !used.contains_key(&network.name) {
            if !dry_run {
                gone(dirs, &network)?;
            }
            names.push(network.name);
        }
    }
    Ok(names)
}

/// Changes the resolvers that are asked for a network: its containers ask those from their next question on.
pub fn update(engine: &Engine, given: &str, add: &[IpAddr], drop: &[IpAddr]) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let _alone = record::lock_for_change(dirs)?;
    let mut network = record::find(dirs, given)?;
    let cannot = || format!("cannot update network \"{}\"", network.name);
    if !add.is_empty() {
        plan::check_asks("--dns-add", network.driver, network.ipam, network.internal)
            .with_context(cannot)?;
    }
    let before = network.dns_servers.clone();
    if let Some(unknown) = drop.iter().find(|server| !before.contains(server)) {
        let text = format!("--dns-drop {unknown}: it has no such resolver");
        return Err(fail(Kind::NotFound, text)).with_context(cannot);
    }
    network.dns_servers.retain(|server| !drop.contains(server));
    for server in add {
        if !network.dns_servers.contains(server) {
            network.dns_servers.push(*server);
        }
    }
    if network.dns_servers != before {
        record::save(dirs, &network).with_context(cannot)?;
    }
    Ok(())
}
