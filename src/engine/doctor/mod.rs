//! What this machine allows: each thing that `run` and its options rest on is tried for real,
//! and what does not work comes with the command that mends it.
//!
//! Runs in the command line's process; the trials that need a user namespace in a child of it.
//! Leaves nothing on disk but the empty directories of the store.

mod cgroups;
mod host;
mod ids;
mod probes;
mod userns;

use std::path::Path;

use serde::Serialize;

use crate::config::ids::Ids;
use crate::error;
use crate::store::dirs::Dirs;
use crate::store::dirs::Wish;

pub use cgroups::Cgroups;
pub use probes::file_system;
pub use probes::seccomp as has_seccomp;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Something is missing that not every container needs.
    Warn,
    /// `run` cannot work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    /// What was found, and what it means where it is not good.
    pub what: String,
    /// The command that mends it, for a shell; it may have several lines.
    pub fix: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Finding {
        Finding {
            name,
            state: State::Ok,
            what: what.into(),
            fix: None,
        }
    }

    fn warn(name: &'static str, what: impl Into<String>, fix: Option<String>) -> Finding {
        Finding {
            state: State::Warn,
            fix: fix.map(|fix| for_user(&fix)),
            ..Finding::ok(name, what)
        }
    }

    fn fail(name: &'static str, what: impl Into<String>, fix: Option<String>) -> Finding {
        Finding {
            state: State::Fail,
            ..Finding::warn(name, what, fix)
        }
    }
}

/// Whether `run` will work.
pub fn run_works(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != State::Fail)
}

/// Looks at everything.
///
/// Must: be called by a single-threaded process.
pub fn examine() -> Vec<Finding> {
    let store = Dirs::open(&Wish::default());
    let mut findings = Vec::new();
    let ids = Ids::detect();
    let works = userns::try_clone();
    let mapping = ids
        .as_ref()
        .ok()
        .filter(|_| works.is_ok())
        .map(ids::try_maps);
    let maps = match (&ids, &mapping) {
        (Ok(ids), Some(Ok(()))) => ids.maps.clone(),
        _ => ids::single(),
    };
    let probes = match &works {
        Ok(()) => probes::run(&maps, store.as_ref().ok()),
        Err(_) => Err(anyhow::anyhow!("user namespaces do not work")),
    };
    findings.push(probes::kernel(probes.as_ref().ok()));
    findings.push(userns::finding(&works, probes.as_ref()));
    findings.push(match ids {
        Ok(ids) => ids::finding(&ids, mapping),
        Err(err) => Finding::fail("sub-ids", error::message(&err), None),
    });
    findings.push(match &store {
        Ok(dirs) => Finding::ok("store", dirs.data.display().to_string()),
        Err(err) => Finding::fail(
            "store",
            error::message(err),
            error::hint(err).map(str::to_owned),
        ),
    });
    if let (Ok(dirs), Ok(probes)) = (&store, &probes) {
        findings.push(probes::overlay(dirs, probes));
    }
    findings.push(cgroups::finding());
    findings.push(host::tun());
    findings.push(host::runtime_dir());
    findings.extend(host::linger());
    findings.push(host::reboot());
    findings.push(host::registries());
    findings
}

/// The command as this user must type it.
fn for_user(command: &str) -> String {
    if rustix::process::geteuid().is_root() {
        return command.replace("sudo ", "");
    }
    command.to_owned()
}

/// The trimmed text of a small file, where it can be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Whether systemd is this machine's init (sd_booted(3)).
fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
