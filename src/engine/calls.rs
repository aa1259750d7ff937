//! What decides over the system calls of a container: its filters, and the handler of calls that wait for an answer.

use anyhow::Context;

use crate::container::config::Config;
use crate::container::config::security::Seccomp;
use crate::container::spec;
use crate::runtime::Filter;
use crate::runtime::notify::Handler;
use crate::sys::idmap::IdMaps;

/// The filters of a container, and of every command that joins it, in the order in which they are installed.
///
/// Must: have at most one whose calls wait for answers; that one comes first, since a profile may forbid seccomp(2).
pub fn filters(config: &Config, _ids: &IdMaps) -> anyhow::Result<Vec<Filter>> {
    let profile = match &config.security.seccomp {
        Seccomp::Default => Some(Filter::standard(
            &spec::security::DEFAULT_CAPABILITIES.into(),
        )),
        Seccomp::Unconfined => None,
        Seccomp::Profile(profile) => {
            Some(Filter::of_profile(profile).context("cannot compile the seccomp profile")?)
        }
    };
    Ok(profile.into_iter().collect())
}

/// Who answers the calls that these filters leave to the supervisor.
pub fn handler(_config: &Config, _ids: &IdMaps) -> Option<Box<dyn Handler>> {
    None
}
