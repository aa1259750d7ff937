//! What decides over the system calls of a container: its filters, and the handler of calls that wait for an answer.

use oci_spec::runtime::Capability;

use crate::container::config::Config;
use crate::container::config::security::Seccomp;
use crate::container::spec;
use crate::engine::seccomp;
use crate::runtime::Filter;
use crate::runtime::notify::Handler;
use crate::runtime::seccomp::emulation;
use crate::runtime::seccomp::learn::Learner;
use crate::store::dirs::Dirs;
use crate::supervisor::emulation::Abilities;
use crate::supervisor::emulation::Emulation;
use crate::sys::idmap::IdMaps;

/// The filters of a container, and of every command that joins it, in the order in which they are installed.
///
/// Must: have at most one whose calls wait for answers; that one comes first, since a profile may forbid seccomp(2).
pub fn filters(dirs: &Dirs, config: &Config, ids: &IdMaps) -> anyhow::Result<Vec<Filter>> {
    let asking = match &config.security.seccomp {
        // The calls of the emulation are among all calls.
        Seccomp::Learn(_) => Some(Filter::asking()),
        _ if emulates(config, ids) => Some(emulation::filter()?),
        _ => None,
    };
    let standard = || Filter::standard(&spec::security::bounding(&config.security));
    let profile = match &config.security.seccomp {
        Seccomp::Default | Seccomp::Learn(_) => Some(standard()),
        Seccomp::Unconfined => None,
        Seccomp::Profile(_) => match spec::security::profile(&config.security)? {
            Some(profile) => Some(seccomp::filter(dirs, &profile)?),
            None => None,
        },
    };
    Ok(asking.into_iter().chain(profile).collect())
}

/// Who answers the calls that these filters leave to the supervisor.
pub fn handler(config: &Config, ids: &IdMaps) -> Option<Box<dyn Handler>> {
    let emulation = emulates(config, ids).then(|| emulation(config));
    match &config.security.seccomp {
        Seccomp::Learn(file) => {
            let held = spec::security::bounding(&config.security);
            Some(Box::new(Learner::new(file, held, emulation)))
        }
        _ => emulation,
    }
}

fn emulation(config: &Config) -> Box<dyn Handler> {
    let held = spec::security::bounding(&config.security);
    let is_labelled = config.security.apparmor.is_some() || config.security.selinux.is_some();
    Box::new(Emulation::new(Abilities {
        chown: held.contains(&Capability::Chown),
        set_user: held.contains(&Capability::Setuid),
        set_group: held.contains(&Capability::Setgid),
        make_node: held.contains(&Capability::Mknod) && !is_labelled,
    }))
}

/// With sub-ids the kernel can do all of it; where the one id is not root's, nothing is refused to root.
fn emulates(config: &Config, ids: &IdMaps) -> bool {
    let root = ids.root();
    config.security.root_emulation && ids.is_single() && (root.uid, root.gid) == (0, 0)
}
