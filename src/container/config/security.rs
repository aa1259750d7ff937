//! What the container's processes may do.

use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Security {
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
}

/// Which system calls the container may make.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The engine's own profile.
    Default,
    Unconfined,
    Profile(Box<LinuxSeccomp>),
}
