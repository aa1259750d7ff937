//! Containers that share namespaces of another.

use crate::container::config::identity::Userns;
use crate::container::config::namespaces::Namespace;
use crate::container::config::process::Network;
use crate::container::record::Container;
use crate::engine::Engine;

/// Those that depend on a container, directly or by way of others; who depends comes before whom it
/// depends on.
pub fn of(engine: &Engine, container: &Container) -> anyhow::Result<Vec<Container>> {
    let mut rest = Container::list(&engine.dirs, drop)?;
    let mut known = vec![container.config.id.clone()];
    let mut found = Vec::new();
    // A container is made after those that it depends on, and the list begins with the oldest.
    rest.retain(|other| other.config.id != container.config.id);
    for other in rest {
        if known.iter().any(|id| depends(&other, id)) {
            known.push(other.config.id.clone());
            found.push(other);
        }
    }
    found.reverse();
    Ok(found)
}

fn depends(container: &Container, id: &str) -> bool {
    let process = &container.config.process;
    let spaces = &process.namespaces;
    let shares = |space: &Namespace| matches!(space, Namespace::Container(other) if other == id);
    [
        &spaces.pid,
        &spaces.ipc,
        &spaces.uts,
        &spaces.cgroup,
        &spaces.time,
    ]
    .into_iter()
    .any(shares)
        || matches!(&process.network, Network::Container(other) if other == id)
        || matches!(&container.config.identity.userns, Userns::Container { id: other, .. } if other == id)
}
