//! What containers use of volumes and networks: told by their records, and by nothing else.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::container::config::Config;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::store::dirs::Dirs;

/// Volumes in use, and the names of the containers that use them. A record that cannot be read is an
/// error: what its container uses is not known.
pub fn volumes(dirs: &Dirs) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut damaged = None;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in Container::list(dirs, |one| damaged = Some(one.err))? {
        for mount in &container.config.files.mounts {
            if let Source::Volume { name, .. } = &mount.source {
                let users = used.entry(name.clone()).or_default();
                users.insert(container.name.clone());
            }
        }
    }
    match damaged {
        Some(err) => Err(err),
        None => Ok(used),
    }
}

/// Networks that containers are to be on at their start, and the names of these containers; for the rest as above.
pub fn networks(dirs: &Dirs) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut damaged = None;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in Container::list(dirs, |one| damaged = Some(one.err))? {
        for attachment in &container.config.process.networks {
            let users = used.entry(attachment.network.clone()).or_default();
            users.insert(container.name.clone());
        }
    }
    match damaged {
        Some(err) => Err(err),
        None => Ok(used),
    }
}

/// The volumes that are to go with a container, unless another uses them too.
pub fn anonymous(config: &Config) -> Vec<String> {
    let names = config
        .files
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            Source::Volume {
                name,
                anonymous: true,
                ..
            } => Some(name.clone()),
            _ => None,
        });
    names.collect()
}
