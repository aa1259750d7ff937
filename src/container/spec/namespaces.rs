//! The namespaces of the specification.

use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceBuilder;
use oci_spec::runtime::LinuxNamespaceType;

use crate::container::config::process::Network;

pub fn namespaces(network: Network) -> anyhow::Result<Vec<LinuxNamespace>> {
    let mut kinds = vec![
        LinuxNamespaceType::User,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    if network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    let made = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    Ok(made.collect::<Result<_, _>>()?)
}
