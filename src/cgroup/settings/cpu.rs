//! `cpu` of a config.json.

use anyhow::Result;
use oci_spec::runtime::LinuxCpu;

use super::Setting;
use super::absent;
use super::wrong;

/// Linux: the period of a quota that says none, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Linux: `cpu.weight` of a group where nobody has said anything.
const DEFAULT_WEIGHT: u64 = 100;

pub(super) fn add(list: &mut Vec<Setting>, cpu: &LinuxCpu) -> Result<()> {
    if cpu.realtime_runtime().is_some_and(|value| value != 0)
        || cpu.realtime_period().is_some_and(|value| value != 0)
    {
        return Err(absent("cpu.realtimeRuntime and cpu.realtimePeriod"));
    }
    match cpu.idle() {
        None => {}
        Some(idle @ (0 | 1)) => list.push(Setting::new("cpu.idle", idle).optional(idle == 0)),
        Some(other) => return Err(wrong(format!("cpu.idle {other}: expected 0 or 1"))),
    }
    let shares = cpu.shares().filter(|shares| *shares != 0);
    // Linux: an idle group has no weight (EINVAL).
    if let Some(shares) = shares.filter(|_| cpu.idle() != Some(1)) {
        let weight = weight(shares);
        list.push(Setting::new("cpu.weight", weight).optional(weight == DEFAULT_WEIGHT));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let period = period.unwrap_or(DEFAULT_PERIOD);
        list.push(match quota {
            Some(quota @ 1..) => Setting::new("cpu.max", format!("{quota} {period}")),
            _ => Setting::new("cpu.max", format!("max {period}")).optional(true),
        });
    }
    if let Some(burst) = cpu.burst() {
        list.push(Setting::new("cpu.max.burst", burst).optional(burst == 0));
    }
    for (file, set) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
            if parse_set(set).is_none() {
                let what = &file["cpuset.".len()..];
                return Err(wrong(format!(
                    "cpu.{what} {set:?}: expected numbers and ranges, as 0-3,5"
                )));
            }
            list.push(Setting::new(file, set.trim()));
        }
    }
    Ok(())
}

/// `cpu.weight` (1 to 10000) of shares of version 1 (2 to 262144), so that both defaults, 1024 and 100, and both
/// ends meet: runc 1.3.2 and crun 1.23 take this curve, older versions a line on which 1024 was 39.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    #[expect(clippy::cast_precision_loss, reason = "less than 2^18")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10000"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

/// The numbers of a set such as `0-3,5`; none for what is not a set. Linux has at most 8192 processors.
pub(in crate::cgroup) fn parse_set(text: &str) -> Option<Vec<usize>> {
    const MOST: usize = 8192;
    let mut numbers = Vec::new();
    let number =
        |text: &str| -> Option<usize> { text.parse().ok().filter(|number| *number < MOST) };
    for part in text.trim().split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}
