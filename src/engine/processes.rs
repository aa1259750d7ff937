//! The processes of a running container, as the host sees them.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;

use crate::container::config::namespaces::Namespace;
use crate::container::record::Container;
use crate::container::status::State;
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

/// Linux: times in /proc are in ticks, of which there are 100 a second for programs on every machine (USER_HZ).
pub fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(10))
}

/// A line of a file of `Key: value` lines.
pub fn line_of(path: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().to_owned())
}

/// What is read of a command line, which a program may make as long as it likes.
const COMMAND_LIMIT: u64 = 32 * 1024;

/// One process, as /proc tells of it: nothing is asked of the process, and no program is executed.
pub struct Process {
    /// As the host counts.
    pub pid: i32,
    pub stat: Stat,
    status: String,
    /// Its arguments, or its name in brackets where it has none.
    pub command: String,
}

impl Process {
    /// `None` where it has ended.
    pub fn of(pid: i32) -> Option<Process> {
        let stat = Stat::of(pid)?;
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
            // Of one that has just ended nothing is read, as of one that is no program.
            file.take(COMMAND_LIMIT).read_to_end(&mut bytes).ok();
        }
        let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        let command = String::from_utf8_lossy(words).replace('\0', " ");
        let mut process = Process {
            pid,
            stat,
            status,
            command,
        };
        if process.command.is_empty() {
            process.command = format!("[{}]", process.line("Name:"));
        }
        Some(process)
    }

    /// A line of its `status`, such as `NSpid:`.
    pub fn line(&self, key: &str) -> &str {
        let mut lines = self.status.lines();
        let line = lines.find_map(|line| line.strip_prefix(key));
        line.map_or("", str::trim)
    }

    /// The numbers of a line.
    pub fn numbers(&self, key: &str) -> Vec<u32> {
        let words = self.line(key).split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// What the security module confines it to, if there is one.
    pub fn label(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/attr/current", self.pid)).ok()?;
        let label = text.trim_end_matches(['\0', '\n']);
        (!label.is_empty()).then(|| label.to_owned())
    }
}
