//! What `inspect` tells of limits: those that were asked for, and how often they were met.

use serde_json::Value;
use serde_json::json;

use crate::cgroup::Hierarchy;
use crate::cgroup::Version;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::DEFAULT_PIDS;
use crate::container::config::resources::DeviceRule;
use crate::container::config::resources::Limits;
use crate::container::config::resources::Rate;
use crate::container::record::Container;
use crate::container::status::Limited;
use crate::container::status::Status;
use crate::engine::groups;

/// For `HostConfig`, in the names of Docker and Podman.
pub fn limits(container: &Container) -> Value {
    let resources = &container.config.resources;
    let limits = &resources.limits;
    let number = |limit: Option<i64>| limit.unwrap_or(0).max(0);
    let rules: Vec<String> = resources
        .device_rules
        .iter()
        .map(DeviceRule::text)
        .collect();
    let manager = match resources.cgroups {
        Cgroups::Disabled => "",
        _ => groups::manager(),
    };
    json!({
        "Memory": number(limits.memory),
        "MemoryReservation": number(limits.reservation),
        "MemorySwap": limits.memory_and_swap().unwrap_or(0),
        "MemorySwappiness": 0,
        "KernelMemory": 0,
        "NanoCpus": number(limits.nano_cpus),
        "CpuShares": limits.shares.unwrap_or(0),
        "CpuQuota": limits.quota.unwrap_or(0),
        "CpuPeriod": limits.period.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.mems.clone().unwrap_or_default(),
        "PidsLimit": pids(limits, resources.cgroups),
        "BlkioWeight": limits.weight.unwrap_or(0),
        "BlkioWeightDevice": rates(&limits.device_weights, "Weight"),
        "BlkioDeviceReadBps": rates(&limits.read_bps, "Rate"),
        "BlkioDeviceWriteBps": rates(&limits.write_bps, "Rate"),
        "BlkioDeviceReadIOps": rates(&limits.read_iops, "Rate"),
        "BlkioDeviceWriteIOps": rates(&limits.write_iops, "Rate"),
        "OomKillDisable": false,
        "Cgroups": resources.cgroups.name(),
        "CgroupManager": manager,
        "CgroupParent": resources.parent.clone().unwrap_or_default(),
        "CgroupConf": resources.conf,
        "CgroupnsMode": container.config.process.namespaces.cgroup.name(),
        "DeviceCgroupRules": rules,
    })
}

/// The usual limit holds where there are groups of version 2.
fn pids(limits: &Limits, cgroups: Cgroups) -> i64 {
    match limits.pids {
        Some(limit) => limit,
        None if cgroups == Cgroups::Disabled => 0,
        None if Hierarchy::detect().version != Version::V2 => 0,
        None => DEFAULT_PIDS,
    }
}

fn rates(rates: &[Rate], name: &str) -> Vec<Value> {
    let all = rates.iter();
    all.map(|rate| json!({ "Path": rate.device, name: rate.rate }))
        .collect()
}

/// For `State`: the group, and how often limits were met in this run or the last one.
pub fn state(container: &Container, status: &Status) -> anyhow::Result<Value> {
    let (limited, group) = match status {
        Status::Created | Status::Unreadable(_) => (Limited::default(), None),
        Status::Restarting(exit) | Status::Exited(exit) => (exit.limited, None),
        Status::Running(state) => {
            let group = groups::of(container, state)?;
            (groups::limited(group.as_ref()), state.cgroup.clone())
        }
    };
    let mount = Hierarchy::detect().mount.unwrap_or_default();
    let path = group.and_then(|group| {
        let below = group.strip_prefix(mount).ok()?;
        Some(format!("/{}", below.display()))
    });
    Ok(json!({
        "OOMKilled": limited.oom_kills > 0,
        "OOMKills": limited.oom_kills,
        "PidsRefused": limited.pids_refused,
        "ThrottledPeriods": limited.throttled_periods,
        "ThrottledMicroseconds": limited.throttled_microseconds,
        "CgroupPath": path.unwrap_or_default(),
    }))
}
