//! Container to OCI runtime specification. Pure: the same input gives the same specification.

mod mounts;
mod namespaces;
mod process;
mod resources;
pub mod security;
pub mod user_mounts;

use std::path::PathBuf;

use oci_spec::runtime::LinuxBuilder;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::RootBuilder;
use oci_spec::runtime::Spec;
use oci_spec::runtime::SpecBuilder;

use crate::container::config::Config;
use crate::container::config::namespaces::Namespace;

pub use resources::Numbers;
pub use resources::resources;

/// What the machine, and not the user, decides.
pub struct Host {
    /// The container has gid 5, the group of terminals.
    pub tty_group: bool,
    /// /sys/fs/cgroup is cgroup v2.
    pub unified_cgroup: bool,
    /// Files made for this start, and where the container sees them.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Where mounts come from.
    pub places: user_mounts::Places,
    /// Rows and columns of the terminal that asks.
    pub size: Option<(u16, u16)>,
    /// Namespaces that are there already, and where.
    pub joined: Vec<(LinuxNamespaceType, PathBuf)>,
    /// The host shows its message queues.
    pub mqueue: bool,
    /// Those that its limits name.
    pub block_devices: Vec<Numbers>,
    /// Variables of this start.
    pub variables: Vec<String>,
    /// The socket of sd_notify(3), and where the container sees it.
    pub notify: Option<(PathBuf, &'static str)>,
}

/// The specification of one start of a container.
pub fn of(config: &Config, host: &Host) -> anyhow::Result<Spec> {
    let mut linux = LinuxBuilder::default().namespaces(namespaces::namespaces(config, host)?);
    if !config.process.namespaces.time_offsets.is_empty() {
        linux = linux.time_offsets(namespaces::time_offsets(config));
    }
    let limits = resources(&config.resources, &host.block_devices)?;
    let linux = process::limit(linux.resources(limits), config)?;
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(config.files.read_only)
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .mounts(mounts::mounts(config, host)?)
        .process(process::process(config, host)?)
        .linux(security::restrict(linux, config)?.build()?)
        .build()?;
    let hostname = &config.process.hostname;
    let own = config.process.namespaces.uts == Namespace::Private;
    spec.set_hostname((own && !hostname.is_empty()).then(|| hostname.clone()));
    if !config.annotations.is_empty() {
        spec.set_annotations(Some(config.annotations.clone().into_iter().collect()));
    }
    Ok(spec)
}
