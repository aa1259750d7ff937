//! The namespaces of the specification, and the offsets of its clocks.

use std::collections::HashMap;

use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceBuilder;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::LinuxTimeOffset;

use crate::container::config::Config;
use crate::container::config::identity::Userns;
use crate::container::config::namespaces::Namespace;
use crate::container::spec::Host;

pub fn namespaces(config: &Config, host: &Host) -> anyhow::Result<Vec<LinuxNamespace>> {
    let asked = &config.process.namespaces;
    let private = |namespace: &Namespace| *namespace == Namespace::Private;
    let kinds = [
        // Whose it is says the bundle.
        (
            LinuxNamespaceType::User,
            config.identity.userns != Userns::Host,
        ),
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Pid, private(&asked.pid)),
        (LinuxNamespaceType::Ipc, private(&asked.ipc)),
        (LinuxNamespaceType::Uts, private(&asked.uts)),
        (LinuxNamespaceType::Cgroup, private(&asked.cgroup)),
        (LinuxNamespaceType::Time, private(&asked.time)),
        (LinuxNamespaceType::Network, config.process.network.is_own()),
    ];
    let made = kinds
        .into_iter()
        .filter(|(_, made)| *made)
        .map(|(kind, _)| LinuxNamespaceBuilder::default().typ(kind).build());
    let joined = host.joined.iter().map(|(kind, path)| {
        LinuxNamespaceBuilder::default()
            .typ(*kind)
            .path(path.clone())
            .build()
    });
    Ok(made.chain(joined).collect::<Result<_, _>>()?)
}

pub fn time_offsets(config: &Config) -> HashMap<String, LinuxTimeOffset> {
    let offsets = config.process.namespaces.time_offsets.iter().map(|asked| {
        let mut offset = LinuxTimeOffset::default();
        offset.set_secs(Some(asked.seconds));
        offset.set_nanosecs(Some(asked.nanos));
        (asked.clock.clone(), offset)
    });
    offsets.collect()
}
