//! Control groups: which version, and which controllers this user may use for containers.

use super::Finding;
use super::systemd_runs;
use crate::cgroup::Hierarchy;
use crate::cgroup::UNIFY;
use crate::cgroup::Version;
use crate::cgroup::WANTED;
use crate::cgroup::delegation;

const NAME: &str = "cgroups";

/// What there is for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    pub version: Version,
    /// Controllers that may be given to groups made by this user.
    pub delegated: Vec<String>,
}

impl Cgroups {
    pub fn detect() -> Cgroups {
        let hierarchy = Hierarchy::detect();
        Cgroups {
            version: hierarchy.version,
            delegated: hierarchy.delegated(),
        }
    }
}

pub(super) fn finding() -> Finding {
    judge(&Cgroups::detect(), systemd_runs())
}

fn judge(cgroups: &Cgroups, systemd: bool) -> Finding {
    let version = match cgroups.version {
        Version::V2 => "version 2",
        Version::Hybrid => "hybrid (version 1 beside version 2)",
        Version::V1 => "version 1",
        Version::None => {
            return Finding::warn(NAME, "not mounted: no resource limits", None);
        }
    };
    let missing: Vec<&str> = WANTED
        .into_iter()
        .filter(|wanted| !cgroups.delegated.iter().any(|name| name == wanted))
        .collect();
    if missing.is_empty() {
        return Finding::ok(NAME, format!("{version} with {}", WANTED.join(", ")));
    }
    let what = format!(
        "{version}, no {} for this user: such limits cannot be set",
        missing.join(", ")
    );
    let fix = match cgroups.version {
        _ if !systemd => None,
        Version::V2 => Some(delegation(None)),
        _ => Some(UNIFY.to_owned()),
    };
    Finding::warn(NAME, what, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::State;

    #[test]
    fn missing_controllers_come_with_the_drop_in() {
        let cgroups = |version, names: &[&str]| Cgroups {
            version,
            delegated: names.iter().map(ToString::to_string).collect(),
        };
        let finding = judge(&cgroups(Version::V2, &["memory", "pids"]), true);
        assert_eq!(finding.state, State::Warn);
        let what = "version 2, no cpu, cpuset, io for this user: such limits cannot be set";
        assert_eq!(finding.what, what);
        let fix = finding.fix.unwrap();
        assert!(fix.contains("user@.service.d/delegate.conf"), "{fix}");
        assert!(fix.contains("Delegate=cpu cpuset io memory pids"), "{fix}");
        assert_eq!(judge(&cgroups(Version::V2, &WANTED), true).state, State::Ok);
        assert_eq!(judge(&cgroups(Version::V1, &[]), false).fix, None);
    }
}
