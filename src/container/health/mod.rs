//! What is known of a container's health, for those who ask: the last checks and what followed from
//! them. `health.json` in the runtime directory, which the supervisor's checks write.

mod machine;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::container::config::health::Destination;
use crate::container::config::health::Health;
use crate::container::config::health::Log;
use crate::container::record::Container;
use crate::container::status::Status as Doing;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::record;
use crate::store::record::Record;

pub use machine::Machine;
pub use machine::Need;
pub use machine::Outcome;
pub use machine::Status;

/// Of all checks that are kept, whatever the user wants: their number, and the bytes that they have written.
const MOST: usize = 1000;
const ROOM: usize = 1024 * 1024;

/// Of one.
const MOST_OUTPUT: usize = 64 * 1024;

/// By Docker's and Podman's names, which is the file in a directory of the user's too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    pub status: Status,
    pub failing_streak: u32,
    #[serde(default)]
    pub log: Vec<Entry>,
}

/// A check that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    pub start: Timestamp,
    pub end: Timestamp,
    /// -1 where it took too long.
    pub exit_code: i32,
    pub output: String,
}

impl Record for Report {
    const NOUN: &'static str = "container health";
    const VERSION: u32 = 1;
}

impl Log {
    /// How much is kept of what a check writes.
    pub fn room(&self) -> usize {
        match usize::try_from(self.size) {
            Ok(size @ 1..=MOST_OUTPUT) => size,
            _ => MOST_OUTPUT,
        }
    }

    /// Adds a check, and leaves out the oldest that have no place any more.
    fn add(&self, log: &mut Vec<Entry>, entry: Entry) {
        log.push(entry);
        let most = match usize::try_from(self.count) {
            Ok(count @ 1..=MOST) => count,
            _ => MOST,
        };
        let mut room = ROOM;
        let fitting = log.iter().rev().take(most).take_while(|entry| {
            let left = room.checked_sub(entry.output.len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        let kept = fitting.count();
        log.drain(..log.len() - kept);
    }
}

/// A container starts: what was known of an earlier run is history.
pub fn begin(container: &Container) -> anyhow::Result<()> {
    let file = container.health_file();
    let known: Option<Report> = record::load_if_present(&file).unwrap_or_default();
    let report = Report {
        log: known.unwrap_or_default().log,
        ..Report::default()
    };
    record::save(&file, &report, Durability::Volatile)
}

/// Records a check and what followed from it.
pub fn note(
    container: &Container,
    health: &Health,
    machine: &Machine,
    entry: Entry,
) -> anyhow::Result<()> {
    let mut report = load(container, health);
    report.status = machine.status;
    report.failing_streak = machine.streak;
    health.log.add(&mut report.log, entry);
    let file = container.health_file();
    let Some(other) = elsewhere(container, health) else {
        return record::save(&file, &report, Durability::Volatile);
    };
    let written = atomic::write(&other, &serde_json::to_vec(&report)?, Durability::Volatile);
    report.log.clear();
    record::save(&file, &report, Durability::Volatile)?;
    written
}

/// What is known. `None`: the container is not checked.
pub fn of(container: &Container, doing: &Doing) -> Option<Report> {
    let health = &container.config.health;
    health.check.as_ref()?;
    let mut report = load(container, health);
    // Docker: who is not checked any more is unhealthy, and who has never run is starting.
    if !matches!(doing, Doing::Running(_)) && container.health_file().exists() {
        report.status = Status::Unhealthy;
    }
    Some(report)
}

/// A file that cannot be read says nothing: the next check writes another.
fn load(container: &Container, health: &Health) -> Report {
    let known = record::load_if_present(&container.health_file());
    let mut report: Report = known.unwrap_or_default().unwrap_or_default();
    if let Some(other) = elsewhere(container, health) {
        let log = std::fs::read(other).ok();
        let log = log.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
        report.log = log.unwrap_or_default().log;
    }
    report
}

/// The log, where it is in a directory of the user's.
fn elsewhere(container: &Container, health: &Health) -> Option<PathBuf> {
    match &health.log.destination {
        Destination::Directory(path) => {
            Some(path.join(format!("{}-healthcheck.log", container.config.id)))
        }
        Destination::Local | Destination::Events => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(output: usize) -> Entry {
        Entry {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code: 0,
            output: "x".repeat(output),
        }
    }

    fn kept(log: &Log, outputs: &[usize]) -> Vec<usize> {
        let mut entries = Vec::new();
        for output in outputs {
            log.add(&mut entries, entry(*output));
        }
        entries.iter().map(|entry| entry.output.len()).collect()
    }

    #[test]
    fn the_last_ones_are_kept_and_no_log_grows_for_ever() {
        let of = |count, size| Log {
            count,
            size,
            ..Log::default()
        };
        assert_eq!(kept(&of(2, 500), &[1, 2, 3]), [2, 3]);
        assert_eq!(kept(&of(0, 0), &[1; 2 * MOST]).len(), MOST);
        assert_eq!(kept(&of(u32::MAX, 0), &[1; 2 * MOST]).len(), MOST);
        assert_eq!(kept(&of(0, 0), &[MOST_OUTPUT; 20]).len(), 16);
        assert_eq!(of(0, 0).room(), MOST_OUTPUT);
        assert_eq!(of(0, u32::MAX).room(), MOST_OUTPUT);
        assert_eq!(of(0, 7).room(), 7);
    }
}
