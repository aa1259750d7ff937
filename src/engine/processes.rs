//! The processes of a running container, as the host sees them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Pid;

use crate::container::config::namespaces::Namespace;
use crate::container::record::Container;
use crate::container::record::State;
use crate::engine::groups;

/// Their pids, ascending: by the control group, or by namespaces where there is none. Every process of a
/// container is in its mount namespace, which is always its own, or in its process namespace.
pub fn of(container: &Container, state: &State) -> Vec<i32> {
    let mut pids: Vec<i32> = match groups::of(container, state) {
        Ok(Some(group)) => {
            let found = group.processes().unwrap_or_default();
            found.into_iter().map(Pid::as_raw_pid).collect()
        }
        _ => in_namespaces(container, state),
    };
    pids.sort_unstable();
    pids
}

fn in_namespaces(container: &Container, state: &State) -> Vec<i32> {
    let link = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own_pids = container.config.process.namespaces.pid == Namespace::Private;
    let kinds: &[&str] = if own_pids { &["mnt", "pid"] } else { &["mnt"] };
    let wanted: Vec<(&str, PathBuf)> = kinds
        .iter()
        .filter_map(|kind| Some((*kind, link(state.pid, kind)?)))
        .collect();
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    let all = entries.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        wanted
            .iter()
            .any(|(kind, namespace)| link(*pid, kind).as_ref() == Some(namespace))
    })
    .collect()
}

/// `/proc/PID/stat`, by the numbers of proc(5): from the third field on.
pub struct Stat(Vec<String>);

impl Stat {
    pub fn of(pid: i32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(") ")?;
        Some(Stat(rest.split_whitespace().map(str::to_owned).collect()))
    }

    pub fn text(&self, field: usize) -> &str {
        self.0.get(field - 3).map_or("", String::as_str)
    }

    pub fn number(&self, field: usize) -> u64 {
        self.text(field).parse().unwrap_or(0)
    }
}

/// A line of a file of `Key: value` lines.
pub fn line_of(path: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().to_owned())
}
