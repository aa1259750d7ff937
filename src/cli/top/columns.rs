//! What both kinds of columns are made of: names for ids, times, and what is the same for host and container.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::engine::processes;
use crate::engine::processes::Process;
use crate::engine::processes::ticks;
use crate::engine::top::Inside;
use crate::engine::top::Names;
use crate::text::time;

pub struct Column {
    pub heading: String,
    pub value: Value,
}

pub type Value = fn(&View, &Process) -> String;

/// By which processes are looked at.
pub struct View {
    pub inside: Option<Inside>,
    pub host: Names,
    pub clock: Clock,
}

pub struct Clock {
    pub now: Timestamp,
    pub zone: TimeZone,
    /// Since boot.
    up: Duration,
    /// KiB that the machine has.
    pub memory: u64,
}

impl Clock {
    pub fn now() -> Clock {
        let up = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let up = up
            .split(' ')
            .next()
            .and_then(|seconds| seconds.parse().ok());
        let memory = processes::line_of("/proc/meminfo".as_ref(), "MemTotal:");
        let memory = memory.and_then(|line| line.split(' ').next()?.parse().ok());
        Clock {
            now: Timestamp::now(),
            zone: time::local_zone(),
            up: Duration::try_from_secs_f64(up.unwrap_or(0.0)).unwrap_or_default(),
            memory: memory.unwrap_or(0),
        }
    }

    /// How long ago it was started.
    pub fn age(&self, process: &Process) -> Duration {
        self.up.saturating_sub(ticks(process.stat.number(22)))
    }

    pub fn started(&self, process: &Process) -> Timestamp {
        self.now
            .checked_sub(self.age(process))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The time that it has had on CPUs.
pub fn cpu_time(process: &Process) -> Duration {
    ticks(process.stat.number(14) + process.stat.number(15))
}

/// 100 is one CPU for all of its life.
pub fn percent_of_cpu(clock: &Clock, process: &Process) -> f64 {
    let age = clock.age(process).as_secs_f64();
    if age > 0.0 {
        cpu_time(process).as_secs_f64() / age * 100.0
    } else {
        0.0
    }
}

/// KiB of memory in use, and of address space.
pub fn resident(process: &Process) -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    process.stat.number(24) * (page / 1024)
}

pub fn virtual_size(process: &Process) -> u64 {
    process.stat.number(23) / 1024
}

/// Linux: terminals of devpts have the majors 136 to 143, the consoles 4 (admin-guide/devices).
pub fn tty(process: &Process) -> String {
    let device = process.stat.number(7);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    match (major, minor) {
        (0, 0) => "?".into(),
        (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, 64..) => format!("ttyS{}", minor - 64),
        (4, _) => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// The id that counts for what it may do, of the line `Uid:` or `Gid:`: real, effective, saved, of files.
pub fn effective(process: &Process, key: &str) -> u32 {
    process.numbers(key).get(1).copied().unwrap_or(0)
}

pub fn real(process: &Process, key: &str) -> u32 {
    process.numbers(key).first().copied().unwrap_or(0)
}

pub fn label(process: &Process) -> String {
    process.label().unwrap_or_else(|| "?".into())
}
