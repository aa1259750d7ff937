//! What the container's processes may do.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::runtime::Capability;
use serde::Deserialize;
use serde::Serialize;

use crate::oci::seccomp::Profile;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    pub capabilities: Capabilities,
    /// All capabilities of its namespaces, nothing hidden, no filter, all devices of the host that its
    /// user may open.
    pub privileged: bool,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub paths: Paths,
    /// Options for the mount of /proc, such as `hidepid=2`.
    pub proc_options: Vec<String>,
    /// An AppArmor profile that the host has loaded.
    pub apparmor: Option<String>,
    /// A whole SELinux context.
    pub selinux: Option<String>,
    pub sysctls: BTreeMap<String, String>,
    /// Directories with configurations of OCI hooks, read at each start.
    pub hooks_dirs: Vec<PathBuf>,
    /// With one id, calls that need others are answered as if they had worked.
    pub root_emulation: bool,
}

/// What is added to and taken from the usual set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub add: Choice,
    pub drop: Choice,
}

/// A choice of capabilities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    All,
    These(Vec<Capability>),
}

impl Default for Choice {
    fn default() -> Choice {
        Choice::These(vec![])
    }
}

impl Choice {
    /// As people write them: `CAP_NET_ADMIN`, `ALL`.
    pub fn names(&self) -> Vec<String> {
        match self {
            Choice::All => vec!["ALL".to_owned()],
            Choice::These(these) => these.iter().map(|one| format!("CAP_{one}")).collect(),
        }
    }

    pub fn set(&self, all: &HashSet<Capability>) -> HashSet<Capability> {
        match self {
            Choice::All => all.clone(),
            Choice::These(these) => these.iter().copied().collect(),
        }
    }
}

/// Changes to the paths that are hidden or read-only in any container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paths {
    /// Hidden too.
    pub mask: Vec<PathBuf>,
    /// Neither hidden nor read-only: paths, or patterns as of glob(7); `ALL`.
    pub unmask: Vec<String>,
}

/// Which system calls the container may make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The engine's own profile.
    #[default]
    Default,
    Unconfined,
    Profile(Box<Profile>),
    /// The engine's own profile; what the container does under it is written to this file as a profile.
    Learn(PathBuf),
}
