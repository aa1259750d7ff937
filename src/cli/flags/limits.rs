//! Flags that limit what a container may use of the machine; `update` has them too.

use clap::Args;

use crate::container::config::resources::Limits;
use crate::container::config::resources::Rate;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::size;

pub const HEADING: &str = "Resource limits";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = HEADING)]
pub struct LimitFlags {
    /// Set the share of block devices, relative to others: 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = weight)]
    blkio_weight: Option<u16>,

    /// Set the share of one block device: 10 to 1000
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = device_weight)]
    blkio_weight_device: Vec<Rate>,

    /// Set the period of --cpu-quota in microseconds [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", value_parser = period)]
    cpu_period: Option<u64>,

    /// Limit the time on CPUs in each period, in microseconds; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", value_parser = quota, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// Refused: version 2 of control groups has no real-time time
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_period: Option<String>,

    /// Refused: version 2 of control groups has no real-time time
    #[arg(
        long,
        value_name = "MICROSECONDS",
        hide = true,
        allow_hyphen_values = true
    )]
    cpu_rt_runtime: Option<String>,

    /// Set the share of the CPUs, relative to others: 2 to 262144, 1024 is the usual one
    #[arg(short, long, value_name = "SHARES", value_parser = shares)]
    cpu_shares: Option<u64>,

    /// Limit the number of CPUs, such as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus)]
    cpus: Option<i64>,

    /// Run on these CPUs only, such as 0-3,6
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpuset_cpus: Option<String>,

    /// Take memory of these NUMA nodes only, such as 0,1
    #[arg(long, value_name = "LIST", value_parser = node_list)]
    cpuset_mems: Option<String>,

    /// Limit the bytes a second that are read from a block device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = device_bytes)]
    device_read_bps: Vec<Rate>,

    /// Limit the reads a second from a block device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = device_operations)]
    device_read_iops: Vec<Rate>,

    /// Limit the bytes a second that are written to a block device
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = device_bytes)]
    device_write_bps: Vec<Rate>,

    /// Limit the writes a second to a block device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = device_operations)]
    device_write_iops: Vec<Rate>,

    /// Refused: Linux has no limit of kernel memory of its own any more
    #[arg(long, value_name = "BYTES", hide = true)]
    kernel_memory: Option<String>,

    /// Limit the memory, such as 512m; at least 6m
    #[arg(short, long, value_name = "BYTES", value_parser = memory)]
    memory: Option<i64>,

    /// Take memory back down to this where the host is short of it
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    memory_reservation: Option<i64>,

    /// Limit memory and swap together; -1 is all the swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,

    /// Refused but for -1: version 2 of control groups has no swappiness
    #[arg(long, value_name = "PERCENT", hide = true, allow_hyphen_values = true)]
    memory_swappiness: Option<String>,

    /// Limit the number of processes; -1 is no limit [default: 2048]
    #[arg(long, value_name = "NUMBER", value_parser = pids, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

impl LimitFlags {
    pub fn into_limits(self) -> anyhow::Result<Limits> {
        self.refuse()?;
        if let Some(other) = [
            (self.cpu_period.is_some(), "--cpu-period"),
            (self.cpu_quota.is_some(), "--cpu-quota"),
        ]
        .iter()
        .find(|(given, _)| *given && self.cpus.is_some())
        {
            let text = format!("flag --cpus cannot be used with {}", other.1);
            return Err(fail(Kind::Usage, text).hint("--cpus sets both; give one form"));
        }
        Ok(Limits {
            memory: self.memory,
            reservation: self.memory_reservation,
            swap: self.memory_swap,
            nano_cpus: self.cpus,
            shares: self.cpu_shares.filter(|shares| *shares > 0),
            quota: self.cpu_quota,
            period: self.cpu_period.filter(|period| *period > 0),
            cpus: self.cpuset_cpus.filter(|list| !list.is_empty()),
            mems: self.cpuset_mems.filter(|list| !list.is_empty()),
            pids: self.pids_limit,
            weight: self.blkio_weight.filter(|weight| *weight > 0),
            device_weights: self.blkio_weight_device,
            read_bps: self.device_read_bps,
            write_bps: self.device_write_bps,
            read_iops: self.device_read_iops,
            write_iops: self.device_write_iops,
        })
    }

    /// What version 2 of control groups does not have.
    fn refuse(&self) -> anyhow::Result<()> {
        // Podman passes -1, and Docker 0, where nothing is meant.
        let zero = |value: &Option<String>| value.clone().filter(|value| value != "0");
        let swappiness = self.memory_swappiness.clone();
        let flags = [
            (
                "--cpu-rt-period",
                zero(&self.cpu_rt_period),
                "cgroup v2 gives no real-time time to groups",
            ),
            (
                "--cpu-rt-runtime",
                zero(&self.cpu_rt_runtime),
                "cgroup v2 gives no real-time time to groups",
            ),
            (
                "--kernel-memory",
                zero(&self.kernel_memory),
                "Linux counts it as memory, and --memory limits it",
            ),
            (
                "--memory-swappiness",
                swappiness.filter(|value| value != "-1"),
                "cgroup v2 has no swappiness; --memory-swap limits the swap",
            ),
        ];
        for (flag, value, reason) in flags {
            if let Some(value) = value {
                return Err(fail(
                    Kind::Unsupported,
                    format!("{flag}=\"{value}\": {reason}"),
                ));
            }
        }
        Ok(())
    }
}

/// Docker: less than this starts nothing.
const LEAST_MEMORY: u64 = 6 * 1024 * 1024;

fn bytes(text: &str) -> Option<i64> {
    i64::try_from(size::parse(text).ok()?).ok()
}

/// 0 is no limit.
fn memory(text: &str) -> Result<i64, String> {
    let bytes = bytes(text).ok_or("expected a number with one of b, k, m, g, t, p, as 512m")?;
    if bytes != 0 && bytes.cast_unsigned() < LEAST_MEMORY {
        return Err("expected at least 6m".into());
    }
    Ok(bytes)
}

fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    bytes(text).ok_or("expected a number with one of b, k, m, g, t, p, as 1g, or -1".into())
}

fn pids(text: &str) -> Result<i64, String> {
    let number: Option<i64> = text.parse().ok().filter(|number| *number >= -1);
    // 0 as with Docker and Podman.
    let number = number.map(|number| if number == 0 { -1 } else { number });
    number.ok_or("expected a number of processes, or -1".into())
}

/// Thousand millionths of a CPU.
fn cpus(text: &str) -> Result<i64, String> {
    const EXPECTED: &str = "expected a number of CPUs from 0.01 on, such as 1.5";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(EXPECTED.into());
    }
    let nano: Option<i64> = format!("{whole}{fraction:0<9}").parse().ok();
    // Linux: a quota is at least a millisecond of a period of 100 (sched-bwc).
    let nano =
        nano.filter(|nano| *nano == 0 || (10_000_000..=1_000_000_000_000_000).contains(nano));
    nano.ok_or(EXPECTED.into())
}

/// Linux: kernel/sched/core.c, `min_cfs_quota_period` and `max_cfs_quota_period`.
fn period(text: &str) -> Result<u64, String> {
    let number = text.parse().ok();
    number
        .filter(|number| *number == 0 || (1_000..=1_000_000).contains(number))
        .ok_or("expected microseconds from 1000 to 1000000".into())
}

fn quota(text: &str) -> Result<i64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (-1..=0).contains(number) || *number >= 1_000);
    number
        .map(|number| if number == 0 { -1 } else { number })
        .ok_or("expected microseconds from 1000 on, or -1".into())
}

fn shares(text: &str) -> Result<u64, String> {
    let number = text.parse().ok();
    number
        .filter(|number| *number == 0 || (2..=262_144).contains(number))
        .ok_or("expected a number from 2 to 262144".into())
}

fn weight(text: &str) -> Result<u16, String> {
    let number = text.parse().ok();
    number
        .filter(|number| *number == 0 || (10..=1000).contains(number))
        .ok_or("expected a number from 10 to 1000".into())
}

fn device_weight(text: &str) -> Result<Rate, String> {
    const EXPECTED: &str = "expected DEVICE:WEIGHT, as /dev/sda:500, with a weight from 10 to 1000";
    let (device, given) = device(text).ok_or(EXPECTED)?;
    let rate = weight(given).ok().filter(|weight| *weight > 0);
    let rate = rate.ok_or(EXPECTED)?.into();
    Ok(Rate { device, rate })
}

fn device_bytes(text: &str) -> Result<Rate, String> {
    const EXPECTED: &str = "expected DEVICE:BYTES, as /dev/sda:1mb";
    let (device, given) = device(text).ok_or(EXPECTED)?;
    let rate = size::parse(given).ok().filter(|rate| *rate > 0);
    let rate = rate.ok_or(EXPECTED)?;
    Ok(Rate { device, rate })
}

fn device_operations(text: &str) -> Result<Rate, String> {
    const EXPECTED: &str = "expected DEVICE:NUMBER, as /dev/sda:1000";
    let (device, given) = device(text).ok_or(EXPECTED)?;
    let rate = given.parse().ok().filter(|rate| *rate > 0);
    let rate = rate.ok_or(EXPECTED)?;
    Ok(Rate { device, rate })
}

fn device(text: &str) -> Option<(std::path::PathBuf, &str)> {
    let (device, value) = text.rsplit_once(':')?;
    device
        .starts_with("/dev/")
        .then_some((device.into(), value))
}

fn cpu_list(text: &str) -> Result<String, String> {
    numbers(text, "/sys/devices/system/cpu/online", "CPUs")
}

fn node_list(text: &str) -> Result<String, String> {
    numbers(text, "/sys/devices/system/node/online", "memory nodes")
}

/// A list of what is there, as of cpuset(7).
fn numbers(text: &str, online: &str, what: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let asked = ranges(text).ok_or("expected numbers and ranges, such as 0-2,4")?;
    let online = std::fs::read_to_string(online).unwrap_or_default();
    let there = ranges(online.trim()).unwrap_or_default();
    let has = |number: &u32| there.iter().any(|range| range.contains(number));
    if there.is_empty() || asked.into_iter().flatten().all(|number| has(&number)) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected {what} of this machine: {}",
        online.trim()
    ))
}

fn ranges(text: &str) -> Option<Vec<std::ops::RangeInclusive<u32>>> {
    /// Linux: more than any kernel has of either (NR_CPUS).
    const MOST: u32 = 65_536;
    let parts = text.split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>()
                .ok()
                .filter(|number| digits && *number < MOST)
        };
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cpus_are_exact() {
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(cpus(".5"), Ok(500_000_000));
        assert_eq!(cpus("2"), Ok(2_000_000_000));
        assert_eq!(cpus("0"), Ok(0));
        for wrong in ["", ".", "-1", "1.5.1", "0.001", "1e3", "x", "0.0000000001"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_have_ranges() {
        assert_eq!(memory("6m"), Ok(6 << 20));
        assert_eq!(memory("0"), Ok(0));
        assert!(memory("5m").is_err() && memory("-1").is_err() && memory("9999999p").is_err());
        assert_eq!(swap("-1"), Ok(-1));
        assert!(swap("-2").is_err());
        assert_eq!((pids("0"), pids("-1"), pids("7")), (Ok(-1), Ok(-1), Ok(7)));
        assert!(pids("-2").is_err());
        assert_eq!((quota("0"), quota("1000")), (Ok(-1), Ok(1000)));
        assert!(quota("999").is_err() && quota("-2").is_err());
        assert!(period("999").is_err() && period("1000001").is_err() && period("1000").is_ok());
        assert!(shares("1").is_err() && shares("2").is_ok() && shares("262145").is_err());
        assert!(weight("9").is_err() && weight("10").is_ok() && weight("1001").is_err());
    }

    #[test]
    fn lists_have_numbers_and_ranges() {
        assert_eq!(ranges("0-2,4"), Some(vec![0..=2, 4..=4]));
        for wrong in ["", "a", "2-1", "0,", "-1", "0--2", "+1", "99999"] {
            assert_eq!(ranges(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn devices_have_a_path_and_a_rate() {
        let sda = |rate| Rate {
            device: "/dev/sda".into(),
            rate,
        };
        assert_eq!(device_bytes("/dev/sda:1mb"), Ok(sda(1 << 20)));
        assert_eq!(device_operations("/dev/sda:10"), Ok(sda(10)));
        assert_eq!(device_weight("/dev/sda:10"), Ok(sda(10)));
        for wrong in [
            "/dev/sda",
            "sda:1",
            "/dev/sda:",
            "/dev/sda:0",
            "/dev/sda:-1",
        ] {
            assert!(device_bytes(wrong).is_err(), "{wrong}");
            assert!(device_operations(wrong).is_err(), "{wrong}");
            assert!(device_weight(wrong).is_err(), "{wrong}");
        }
        assert!(device_weight("/dev/sda:5").is_err());
    }
}
