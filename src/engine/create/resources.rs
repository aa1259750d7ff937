//! What a container will be allowed to use of the machine: limits that make sense, on a host that can keep them.

use std::os::unix::fs::FileTypeExt;

use anyhow::Context;

use crate::cgroup::Hierarchy;
use crate::cgroup::Version;
use crate::container::config::Identity;
use crate::container::config::identity::Userns;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::Limits;
use crate::container::config::resources::Resources;
use crate::container::spec;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

pub fn decide(wish: Resources, identity: &Identity) -> anyhow::Result<Resources> {
    let mut resources = wish;
    // 0 is no limit, and nothing is asked for by it.
    for limit in [
        &mut resources.limits.memory,
        &mut resources.limits.reservation,
        &mut resources.limits.swap,
        &mut resources.limits.nano_cpus,
    ] {
        *limit = limit.filter(|limit| *limit != 0);
    }
    check(&resources.limits)?;
    check_rules(&resources, identity)?;
    if let Some(flag) = asked(&resources) {
        if resources.cgroups == Cgroups::Disabled {
            let text = format!("flag {flag} cannot be used with --cgroups disabled");
            return Err(fail(Kind::Usage, text).hint("a limit holds for a control group"));
        }
        check_host(flag)?;
    }
    Ok(resources)
}

/// The flag that needs a control group with controllers.
pub fn asked(resources: &Resources) -> Option<&'static str> {
    let conf = (!resources.conf.is_empty()).then_some("--cgroup-conf");
    resources.limits.first_flag().or(conf)
}

/// Version 1 has other files, and no safe way to give them to users.
pub fn check_host(flag: &str) -> anyhow::Result<()> {
    let there = match Hierarchy::detect().version {
        Version::V2 => return Ok(()),
        Version::Hybrid => "this host has its controllers in version 1 (hybrid)",
        Version::V1 => "this host has version 1",
        Version::None => "this host has none mounted",
    };
    let text = format!("{flag} needs control groups of version 2, and {there}");
    Err(fail(Kind::Unsupported, text)
        .hint("containers run without limits; `rbox doctor` tells more"))
}

/// What limits need of each other, and of the host's devices.
pub fn check(limits: &Limits) -> anyhow::Result<()> {
    let above = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
    let memory = above(limits.memory);
    let wrong = |text: &str| Err(fail(Kind::Usage, text.to_owned()));
    match (limits.swap, memory) {
        (Some(1..), None) => return wrong("--memory-swap needs --memory beside it"),
        (Some(swap @ 1..), Some(memory)) if swap < memory => {
            return wrong("--memory-swap is less than --memory, which it includes");
        }
        _ => {}
    }
    if let (Some(reservation), Some(memory)) = (above(limits.reservation), memory)
        && reservation > memory
    {
        return wrong("--memory-reservation is more than --memory");
    }
    for rate in limits.rates() {
        let found = std::fs::metadata(&rate.device);
        if !found.is_ok_and(|found| found.file_type().is_block_device()) {
            let text = format!("\"{}\": expected a block device", rate.device.display());
            return Err(fail(Kind::Usage, text));
        }
    }
    Ok(())
}

/// Rules matter where devices can be made, and where a filter can be set.
fn check_rules(resources: &Resources, identity: &Identity) -> anyhow::Result<()> {
    let Some(rule) = resources.device_rules.first() else {
        return Ok(());
    };
    if identity.userns == Userns::Host {
        return Ok(());
    }
    let text = format!(
        "--device-cgroup-rule=\"{}\" is not possible: a container has a user namespace of its own, in which no device can be made, whatever a device cgroup allows",
        rule.text()
    );
    Err(fail(Kind::Unsupported, text).hint("show the device with `--device`"))
}

/// The numbers of the block devices that limits name.
pub fn block_devices(limits: &Limits) -> anyhow::Result<Vec<spec::Numbers>> {
    let all = limits.rates().map(|rate| {
        let stat = rustix::fs::stat(&rate.device)
            .with_context(|| format!("cannot look at {}", rate.device.display()))?;
        let numbers = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        Ok((rate.device.clone(), numbers))
    });
    all.collect()
}
