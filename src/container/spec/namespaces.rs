//! The namespaces of the specification.

use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceBuilder;
use oci_spec::runtime::LinuxNamespaceType;

use crate::container::config::Config;
use crate::container::config::identity::Userns;
use crate::container::config::process::Network;

pub fn namespaces(config: &Config) -> anyhow::Result<Vec<LinuxNamespace>> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    if config.identity.userns != Userns::Host {
        kinds.insert(0, LinuxNamespaceType::User);
    }
    if config.process.network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    let made = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    Ok(made.collect::<Result<_, _>>()?)
}
