//! What decides over the system calls of a container: its filters, and the handler of calls that wait for an answer.

use anyhow::Context;
use oci_spec::runtime::Capability;

use crate::container::config::Config;
use crate::container::config::security::Seccomp;
use crate::container::spec;
use crate::runtime::Filter;
use crate::runtime::notify::Handler;
use crate::runtime::seccomp::emulation;
use crate::supervisor::emulation::Abilities;
use crate::supervisor::emulation::Emulation;
use crate::sys::idmap::IdMaps;

/// The filters of a container, and of every command that joins it, in the order in which they are installed.
///
/// Must: have at most one whose calls wait for answers; that one comes first, since a profile may forbid seccomp(2).
pub fn filters(config: &Config, ids: &IdMaps) -> anyhow::Result<Vec<Filter>> {
    let emulation = emulates(config, ids).then(emulation::filter).transpose()?;
    let profile = match &config.security.seccomp {
        Seccomp::Default => Some(Filter::standard(&spec::security::bounding(
            &config.security,
        ))),
        Seccomp::Unconfined => None,
        Seccomp::Profile(profile) => {
            Some(Filter::of_profile(profile).context("cannot compile the seccomp profile")?)
        }
    };
    Ok(emulation.into_iter().chain(profile).collect())
}

/// Who answers the calls that these filters leave to the supervisor.
pub fn handler(config: &Config, ids: &IdMaps) -> Option<Box<dyn Handler>> {
    if !emulates(config, ids) {
        return None;
    }
    let held = spec::security::bounding(&config.security);
    let is_labelled = config.security.apparmor.is_some() || config.security.selinux.is_some();
    Some(Box::new(Emulation::new(Abilities {
        chown: held.contains(&Capability::Chown),
        set_user: held.contains(&Capability::Setuid),
        set_group: held.contains(&Capability::Setgid),
        make_node: held.contains(&Capability::Mknod) && !is_labelled,
    })))
}

/// With sub-ids the kernel can do all of it.
fn emulates(config: &Config, ids: &IdMaps) -> bool {
    config.security.root_emulation && ids.is_single()
}
