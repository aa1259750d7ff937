//! Limits as the specification has them.

use std::path::Path;

use anyhow::Context;
use oci_spec::runtime::LinuxBlockIo;
use oci_spec::runtime::LinuxBlockIoBuilder;
use oci_spec::runtime::LinuxCpu;
use oci_spec::runtime::LinuxCpuBuilder;
use oci_spec::runtime::LinuxMemory;
use oci_spec::runtime::LinuxMemoryBuilder;
use oci_spec::runtime::LinuxPidsBuilder;
use oci_spec::runtime::LinuxResources;
use oci_spec::runtime::LinuxResourcesBuilder;
use oci_spec::runtime::LinuxThrottleDevice;
use oci_spec::runtime::LinuxThrottleDeviceBuilder;
use oci_spec::runtime::LinuxWeightDevice;
use oci_spec::runtime::LinuxWeightDeviceBuilder;

use crate::container::config::resources::DEFAULT_PIDS;
use crate::container::config::resources::Limits;
use crate::container::config::resources::Rate;
use crate::container::config::resources::Resources;

/// A block device of the host and its numbers.
pub type Numbers = (std::path::PathBuf, (u32, u32));

/// `limits` are those of `resources`, or what became of them.
pub fn resources(resources: &Resources, devices: &[Numbers]) -> anyhow::Result<LinuxResources> {
    let limits = &resources.limits;
    let pids = LinuxPidsBuilder::default().limit(limits.pids.unwrap_or(DEFAULT_PIDS));
    let mut all = LinuxResourcesBuilder::default().pids(pids.build()?);
    if let Some(memory) = memory(limits)? {
        all = all.memory(memory);
    }
    if let Some(cpu) = cpu(limits)? {
        all = all.cpu(cpu);
    }
    if let Some(io) = block_io(limits, devices)? {
        all = all.block_io(io);
    }
    if !resources.conf.is_empty() {
        all = all.unified(
            resources
                .conf
                .clone()
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
    }
    Ok(all.build()?)
}

fn memory(limits: &Limits) -> anyhow::Result<Option<LinuxMemory>> {
    let mut memory = LinuxMemoryBuilder::default();
    let swap = limits.memory_and_swap();
    if limits.memory.or(limits.reservation).or(swap).is_none() {
        return Ok(None);
    }
    if let Some(bytes) = limits.memory {
        memory = memory.limit(bytes);
    }
    if let Some(bytes) = limits.reservation {
        memory = memory.reservation(bytes);
    }
    if let Some(bytes) = swap {
        memory = memory.swap(bytes);
    }
    Ok(Some(memory.build()?))
}

fn cpu(limits: &Limits) -> anyhow::Result<Option<LinuxCpu>> {
    let (quota, period) = limits.bandwidth();
    let lists = limits.cpus.as_ref().or(limits.mems.as_ref());
    if quota.is_none() && period.or(limits.shares).is_none() && lists.is_none() {
        return Ok(None);
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(shares) = limits.shares {
        cpu = cpu.shares(shares);
    }
    if let Some(quota) = quota {
        cpu = cpu.quota(quota);
    }
    if let Some(period) = period {
        cpu = cpu.period(period);
    }
    if let Some(list) = &limits.cpus {
        cpu = cpu.cpus(list.clone());
    }
    if let Some(list) = &limits.mems {
        cpu = cpu.mems(list.clone());
    }
    Ok(Some(cpu.build()?))
}

fn block_io(limits: &Limits, devices: &[Numbers]) -> anyhow::Result<Option<LinuxBlockIo>> {
    if limits.weight.is_none() && limits.rates().next().is_none() {
        return Ok(None);
    }
    let number = |device: &Path| {
        let found = devices.iter().find(|(path, _)| path == device);
        let (_, (major, minor)) =
            found.with_context(|| format!("no numbers of {}", device.display()))?;
        anyhow::Ok((i64::from(*major), i64::from(*minor)))
    };
    let throttles = |rates: &[Rate]| -> anyhow::Result<Vec<LinuxThrottleDevice>> {
        let all = rates.iter().map(|rate| {
            let (major, minor) = number(&rate.device)?;
            let device = LinuxThrottleDeviceBuilder::default();
            Ok(device.major(major).minor(minor).rate(rate.rate).build()?)
        });
        all.collect()
    };
    let weights = limits.device_weights.iter().map(|rate| {
        let (major, minor) = number(&rate.device)?;
        let device = LinuxWeightDeviceBuilder::default();
        let weight = u16::try_from(rate.rate)?;
        Ok(device.major(major).minor(minor).weight(weight).build()?)
    });
    let mut io = LinuxBlockIoBuilder::default()
        .weight_device(weights.collect::<anyhow::Result<Vec<LinuxWeightDevice>>>()?)
        .throttle_read_bps_device(throttles(&limits.read_bps)?)
        .throttle_write_bps_device(throttles(&limits.write_bps)?)
        .throttle_read_iops_device(throttles(&limits.read_iops)?)
        .throttle_write_iops_device(throttles(&limits.write_iops)?);
    if let Some(weight) = limits.weight {
        io = io.weight(weight);
    }
    Ok(Some(io.build()?))
}
