//! Who is on a network now. There is no other record of it: an address is leased by standing here, and names are
//! looked up here.
//!
//! ```text
//! RUN/networks/lock                           held while entries are made
//! RUN/networks/<network id>/<container id>    one container on one network
//! ```
//!
//! An entry counts as long as the process lives that it names: the container's supervisor, and before there is one,
//! the command that starts it. So what a killed process leaves is nothing but a file that the next one removes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use serde::Deserialize;
use serde::Serialize;

use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp;
use crate::sys::process;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Of the container.
    pub id: String,
    pub name: String,
    /// Further names that it has on this network.
    pub aliases: Vec<String>,
    pub ip4: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    /// `02:42:0a:59:00:02`; empty where it is that of the host's interface (ipvlan).
    pub mac: String,
    /// In the container.
    pub interface: String,
    /// Its other end, in the namespace of the bridges.
    pub port: String,
    /// The way to the world is by this network.
    pub uplink: bool,
    pub supervisor: i32,
    /// When that was started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Record for Member {
    const NOUN: &'static str = "network member";
    const VERSION: u32 = 1;
}

impl Member {
    pub fn is_alive(&self) -> bool {
        process::runs(self.supervisor, self.start_ticks)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.ip4.map(IpAddr::from);
        v4.into_iter().chain(self.ip6.map(IpAddr::from))
    }

    /// Makes the entry, or takes the place of the one that there is.
    ///
    /// Must: be called with the lock held, or by who made the entry.
    pub fn save(&self, dirs: &Dirs, network: &str) -> anyhow::Result<()> {
        let dir = dir(dirs, network);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        // After a power cut nobody is on any network.
        record::save(&dir.join(&self.id), self, Durability::Volatile)
    }
}

/// The directory of a network's members; it need not be there.
pub fn dir(dirs: &Dirs, network: &str) -> PathBuf {
    dirs.run_networks().join(network)
}

/// Those on one network, by its id.
pub fn of(dirs: &Dirs, network: &str) -> Vec<Member> {
    let mut all = in_dir(&dir(dirs, network));
    all.retain(Member::is_alive);
    all
}

/// The container's entry on a network, of whichever run of it.
pub fn find(dirs: &Dirs, network: &str, container: &str) -> Option<Member> {
    record::load_if_present(&dir(dirs, network).join(container)).ok()?
}

/// Where a container is now: ids of networks, and its entries.
pub fn of_container(dirs: &Dirs, container: &str) -> Vec<(String, Member)> {
    let networks = networks(dirs).into_iter();
    networks
        .filter_map(|network| {
            let member = find(dirs, &network, container)?;
            Some((network, member))
        })
        .collect()
}

/// Ids of the networks that a container is on now.
pub fn networks_of(dirs: &Dirs, container: &str) -> BTreeSet<String> {
    let mut found = networks(dirs);
    found.retain(|network| dir(dirs, network).join(container).exists());
    found
}

/// Takes a container off a network.
pub fn remove(dirs: &Dirs, network: &str, container: &str) {
    std::fs::remove_file(dir(dirs, network).join(container)).ok();
}

/// Takes a container off all networks.
pub fn remove_all(dirs: &Dirs, container: &str) {
    for network in networks(dirs) {
        remove(dirs, &network, container);
    }
}

/// Removes what processes have left that are gone.
///
/// Must: be called with the lock held.
pub fn sweep(dirs: &Dirs) {
    for network in networks(dirs) {
        temp::sweep_alone(&dir(dirs, &network)).ok();
        for member in in_dir(&dir(dirs, &network)) {
            if !member.is_alive() {
                remove(dirs, &network, &member.id);
            }
        }
    }
}

/// Ids of the networks that have, or had, members.
fn networks(dirs: &Dirs) -> BTreeSet<String> {
    names_in(&dirs.run_networks())
}

/// Those whose entries are in a directory, alive or not, in the order of their ids.
pub fn in_dir(dir: &Path) -> Vec<Member> {
    names_in(dir)
        .iter()
        // One that is being written has another name, and one that is gone meanwhile is gone.
        .filter_map(|name| record::load_if_present(&dir.join(name)).ok()?)
        .collect()
}

/// Names of files that are ids.
pub fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect()
}
