//! `rbox oci events`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use rustix::event::PollFlags;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::bundle::Container;
use crate::cgroup::Device;
use crate::cgroup::Group;
use crate::cgroup::Stall;
use crate::cgroup::Stats;
use crate::cli::oci::Context;
use crate::cli::output;
use crate::error::Kind;
use crate::error::fail;
use crate::sys::poll;
use crate::text::duration;

/// Print what a container uses, and that memory was out, as lines of JSON
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long from one line to the next
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,

    /// Print one line and end
    #[arg(long)]
    stats: bool,

    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

fn interval(text: &str) -> anyhow::Result<Duration> {
    let interval = duration::parse(text)?;
    if interval.is_zero() {
        anyhow::bail!("duration {text:?}: expected more than 0");
    }
    Ok(interval)
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    let (_, init) = container.live()?;
    let group = container.group()?.ok_or_else(|| {
        let text = "it has no control group of version 2, which is what counts";
        fail(Kind::Unsupported, text)
    })?;
    if args.stats {
        print_stats(&container, &group)?;
    } else {
        follow(&container, &group, &init, args.interval)?;
    }
    Ok(0)
}

/// Until init ends.
fn follow(
    container: &Container,
    group: &Group,
    init: &OwnedFd,
    interval: Duration,
) -> anyhow::Result<()> {
    let changes = group.watch("memory.events");
    let mut kills = group.counts().oom_kill;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let memory = changes.as_ref().map(|fd| (fd.as_fd(), PollFlags::PRI));
        let [ended, changed] =
            poll::ready([Some((init.as_fd(), PollFlags::IN)), memory], Some(left))?;
        if changed || ended {
            let now = changes.as_ref().map_or(0, Group::oom_kills);
            for _ in kills..now {
                print_event("oom", container, None)?;
            }
            kills = now.max(kills);
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            print_stats(container, group)?;
            next += interval;
        }
    }
}

fn print_stats(container: &Container, group: &Group) -> anyhow::Result<()> {
    let stats = group.stats().context("the container has ended")?;
    print_event("stats", container, Some(data(&stats)))
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn print_event(kind: &str, container: &Container, data: Option<Value>) -> anyhow::Result<()> {
    let id = &container.state.id;
    output::print_line(&serde_json::to_string(&Event { kind, id, data })?)
}

/// runc's form, which is that of version 1: nanoseconds, and swap counted with memory.
fn data(stats: &Stats) -> Value {
    let cpu = |key: &str| stats.cpu.get(key).copied().unwrap_or(0);
    let memory = &stats.memory;
    let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let huge_pages: BTreeMap<_, _> = stats
        .huge_pages
        .iter()
        .map(|(size, pages)| {
            let entry = json!({
                "usage": pages.current, "max": limit(pages.limit), "failcnt": pages.hits
            });
            (size, entry)
        })
        .collect();
    json!({
        "cpu": {
            "usage": {
                "total": cpu("usage_usec") * 1000,
                "kernel": cpu("system_usec") * 1000,
                "user": cpu("user_usec") * 1000,
            },
            "throttling": {
                "periods": cpu("nr_periods"),
                "throttledPeriods": cpu("nr_throttled"),
                "throttledTime": cpu("throttled_usec") * 1000,
            },
            "psi": stalls(stats.pressure.cpu),
        },
        "memory": {
            "cache": memory.stat.get("file").copied().unwrap_or(0),
            "usage": {
                "limit": limit(memory.limit),
                "usage": memory.current,
                "max": memory.peak.unwrap_or(0),
                "failcnt": stats.counts.oom,
            },
            "swap": {
                "limit": limit(memory.limit).saturating_add(limit(memory.swap_limit)),
                "usage": memory.current + memory.swap,
                "failcnt": 0,
            },
            "raw": memory.stat,
            "psi": stalls(stats.pressure.memory),
        },
        "pids": {"current": stats.pids_current, "limit": stats.pids_limit.unwrap_or(0)},
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.io, |device| [device.read_bytes, device.write_bytes, device.discard_bytes]),
            "ioServicedRecursive": entries(&stats.io, |device| [device.reads, device.writes, device.discards]),
            "psi": stalls(stats.pressure.io),
        },
        "hugetlb": huge_pages,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn entries(devices: &[Device], numbers: impl Fn(&Device) -> [u64; 3]) -> Vec<Value> {
    let entries = devices.iter().flat_map(|device| {
        let operations = ["Read", "Write", "Discard"].into_iter();
        operations.zip(numbers(device)).map(|(operation, value)| {
            json!({"major": device.major, "minor": device.minor, "op": operation, "value": value})
        })
    });
    entries.collect()
}

fn stalls(pressure: Option<(Stall, Stall)>) -> Option<Value> {
    let stall = |stall: Stall| {
        json!({
            "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": stall.total
        })
    };
    pressure.map(|(some, full)| json!({"some": stall(some), "full": stall(full)}))
}
