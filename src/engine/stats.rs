//! What running containers use: from their control groups, and from /proc where those have no controller.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::cgroup::Device;
use crate::cgroup::Group;
use crate::container::record::Container;
use crate::container::status::Limited;
use crate::container::status::State;
use crate::engine::groups;
use crate::engine::processes;
use crate::engine::processes::Stat;
use crate::engine::processes::ticks;

/// All of it since the container was started, but for memory and pids.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Since the start.
    pub up: Duration,
    pub cpu: Duration,
    /// The part of it that the kernel took.
    pub system: Duration,
    pub memory: u64,
    /// That of the group, or what the machine has.
    pub memory_limit: u64,
    pub received: u64,
    pub sent: u64,
    pub read: u64,
    pub written: u64,
    /// Threads, as the kernel limits them.
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub limited: Limited,
}

pub fn sample(container: &Container, state: &State) -> anyhow::Result<Sample> {
    let group = groups::of(container, state)?;
    let stats = group.as_ref().map(Group::stats).transpose()?;
    let stats = stats.unwrap_or_default();
    let has = |controller: &str| {
        let there = group.as_ref().and_then(|group| group.controllers().ok());
        there.is_some_and(|names| names.iter().any(|name| name == controller))
    };
    let proc = Proc::of(container, state);
    let (received, sent) = network(container, state);
    let usage = |key: &str| stats.cpu.get(key).map(|usec| Duration::from_micros(*usec));
    let io = |field: fn(&Device) -> u64| stats.io.iter().map(field).sum();
    let by_group = has("io");
    let machine = memory_of_machine();
    let up = Timestamp::now().duration_since(state.started);
    Ok(Sample {
        up: Duration::try_from(up).unwrap_or_default(),
        cpu: usage("usage_usec").unwrap_or(proc.cpu),
        system: usage("system_usec").unwrap_or(proc.system),
        memory: if has("memory") {
            stats.memory.used()
        } else {
            proc.memory
        },
        memory_limit: stats
            .memory
            .limit
            .map_or(machine, |limit| limit.min(machine)),
        received,
        sent,
        read: if by_group {
            io(|device| device.read_bytes)
        } else {
            proc.read
        },
        written: if by_group {
            io(|device| device.write_bytes)
        } else {
            proc.written
        },
        pids: if has("pids") {
            stats.pids_current
        } else {
            proc.threads
        },
        pids_limit: stats.pids_limit,
        limited: Limited {
            oom_kills: stats.counts.oom_kill,
            pids_refused: stats.counts.pids_max,
            throttled_periods: stats.counts.throttled_periods,
            throttled_microseconds: stats.counts.throttled_usec,
        },
    })
}

/// The sum over the processes of now. What those have used that have ended counts for who waited for them.
#[derive(Default)]
struct Proc {
    cpu: Duration,
    system: Duration,
    memory: u64,
    read: u64,
    written: u64,
    threads: u64,
}

impl Proc {
    fn of(container: &Container, state: &State) -> Proc {
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let mut sum = Proc::default();
        for pid in processes::of(container, state) {
            let Some(stat) = Stat::of(pid) else {
                continue;
            };
            // proc(5): utime, stime, cutime, cstime; num_threads; rss.
            let system = ticks(stat.number(15) + stat.number(17));
            sum.cpu += ticks(stat.number(14) + stat.number(16)) + system;
            sum.system += system;
            sum.threads += stat.number(20);
            sum.memory += stat.number(24) * page;
            let io = PathBuf::from(format!("/proc/{pid}/io"));
            let bytes = |key: &str| -> u64 {
                let value = processes::line_of(&io, key);
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            sum.read += bytes("read_bytes:");
            sum.written += bytes("write_bytes:");
        }
        sum
    }
}

/// Bytes over the interfaces of its own network namespace.
fn network(container: &Container, state: &State) -> (u64, u64) {
    if !container.config.process.network.is_own() {
        return (0, 0);
    }
    let text = std::fs::read_to_string(format!("/proc/{}/net/dev", state.pid));
    interfaces(&text.unwrap_or_default())
}

/// proc(5): after the name, eight numbers of what came in and eight of what went out.
fn interfaces(text: &str) -> (u64, u64) {
    let (mut received, mut sent) = (0, 0);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        received += numbers.first().unwrap_or(&0);
        sent += numbers.get(8).unwrap_or(&0);
    }
    (received, sent)
}

fn memory_of_machine() -> u64 {
    let line = processes::line_of("/proc/meminfo".as_ref(), "MemTotal:");
    let number = line.and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_summed_without_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n  tun0:1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0\n";
        assert_eq!(interfaces(text), (11, 22));
    }
}
