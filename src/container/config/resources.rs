//! What the container may use of the machine, and in which control group it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

/// Processes of a container that nothing was said about, as Podman has it.
pub const DEFAULT_PIDS: i64 = 2048;

/// Linux: the period of a quota of the CPU, in microseconds, where none is named (sched-bwc).
pub const DEFAULT_PERIOD: u64 = 100_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub limits: Limits,
    pub cgroups: Cgroups,
    /// The slice, or the path of the group, in which its group is made.
    pub parent: Option<PathBuf>,
    /// Files of its group, and what is written to them.
    pub conf: BTreeMap<String, String>,
    /// Devices that it may use beside those that every container may.
    pub device_rules: Vec<DeviceRule>,
}

/// Which group is made for a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cgroups {
    /// One for the container, and its supervisor beside it.
    #[default]
    Enabled,
    /// None.
    Disabled,
    /// One for the container alone.
    NoConmon,
    /// The same as `Enabled`, below the group that the command is in.
    Split,
}

impl Cgroups {
    /// As Podman writes it.
    pub fn name(self) -> &'static str {
        match self {
            Cgroups::Enabled => "default",
            Cgroups::Disabled => "disabled",
            Cgroups::NoConmon => "no-conmon",
            Cgroups::Split => "split",
        }
    }
}

/// Negative numbers lift a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Thousand millionths of a CPU.
    pub nano_cpus: Option<i64>,
    pub shares: Option<u64>,
    /// Microseconds of each period.
    pub quota: Option<i64>,
    pub period: Option<u64>,
    /// Lists as of cpuset(7).
    pub cpus: Option<String>,
    pub mems: Option<String>,
    pub pids: Option<i64>,
    pub weight: Option<u16>,
    pub device_weights: Vec<Rate>,
    pub read_bps: Vec<Rate>,
    pub write_bps: Vec<Rate>,
    pub read_iops: Vec<Rate>,
    pub write_iops: Vec<Rate>,
}

/// A block device of the host, and how much of it: a weight, bytes or operations a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub device: PathBuf,
    pub rate: u64,
}

/// Absent numbers are all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`, `b` or `c`.
    pub kind: char,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

impl DeviceRule {
    /// `c 10:* rwm`.
    pub fn parse(text: &str) -> Option<DeviceRule> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            _ => text.parse::<u32>().ok().map(|number| Some(number.into())),
        };
        let known = |allowed: &str, given: &str| {
            !given.is_empty() && given.chars().all(|letter| allowed.contains(letter))
        };
        if words.next().is_some() || kind.len() != 1 || !known("abc", kind) || !known("rwm", access)
        {
            return None;
        }
        Some(DeviceRule {
            kind: kind.chars().next()?,
            major: number(major)?,
            minor: number(minor)?,
            access: access.to_owned(),
        })
    }

    /// As it is given to `--device-cgroup-rule`.
    pub fn text(&self) -> String {
        let number = |number: Option<i64>| number.map_or("*".into(), |number| number.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        format!("{} {major}:{minor} {}", self.kind, self.access)
    }
}

impl Limits {
    /// The flag of one that is asked for; lifting a limit asks for nothing.
    pub fn first_flag(&self) -> Option<&'static str> {
        let above = |value: Option<i64>| value.is_some_and(|value| value > 0);
        let flags = [
            (above(self.memory), "--memory"),
            (above(self.reservation), "--memory-reservation"),
            (above(self.swap), "--memory-swap"),
            (above(self.nano_cpus), "--cpus"),
            (self.shares.is_some(), "--cpu-shares"),
            (above(self.quota), "--cpu-quota"),
            (self.period.is_some(), "--cpu-period"),
            (self.cpus.is_some(), "--cpuset-cpus"),
            (self.mems.is_some(), "--cpuset-mems"),
            (above(self.pids), "--pids-limit"),
            (self.weight.is_some(), "--blkio-weight"),
            (!self.device_weights.is_empty(), "--blkio-weight-device"),
            (!self.read_bps.is_empty(), "--device-read-bps"),
            (!self.write_bps.is_empty(), "--device-write-bps"),
            (!self.read_iops.is_empty(), "--device-read-iops"),
            (!self.write_iops.is_empty(), "--device-write-iops"),
        ];
        let found = flags.into_iter().find(|(asked, _)| *asked);
        found.map(|(_, flag)| flag)
    }

    /// Quota and period of the CPU.
    pub fn bandwidth(&self) -> (Option<i64>, Option<u64>) {
        match self.nano_cpus {
            Some(nano) if nano > 0 => {
                let period = i64::try_from(DEFAULT_PERIOD).unwrap_or(0);
                let quota = i128::from(nano) * i128::from(period) / 1_000_000_000;
                (i64::try_from(quota).ok(), Some(DEFAULT_PERIOD))
            }
            Some(_) => (Some(-1), Some(DEFAULT_PERIOD)),
            None => (self.quota, self.period),
        }
    }

    /// Memory and swap together; where only memory was limited, twice of that, as with Docker and Podman.
    pub fn memory_and_swap(&self) -> Option<i64> {
        match (self.swap, self.memory) {
            (None, Some(memory)) if memory > 0 => memory.checked_mul(2),
            (None, Some(memory)) => Some(memory),
            (swap, _) => swap,
        }
    }

    /// These with the changes of an `update`.
    pub fn changed(&self, by: Limits) -> Limits {
        let Limits {
            memory,
            reservation,
            swap,
            nano_cpus,
            shares,
            quota,
            period,
            cpus,
            mems,
            pids,
            weight,
            device_weights,
            read_bps,
            write_bps,
            read_iops,
            write_iops,
        } = by;
        // One form of a limit of the CPU takes the place of the other.
        let (old_nano, old_quota, old_period) =
            match (nano_cpus, quota.is_some() || period.is_some()) {
                (Some(_), _) => (None, None, None),
                (None, true) => {
                    let (quota, period) = self.bandwidth();
                    (None, quota, period)
                }
                (None, false) => (self.nano_cpus, self.quota, self.period),
            };
        Limits {
            memory: memory.or(self.memory),
            reservation: reservation.or(self.reservation),
            swap: swap.or(self.swap),
            nano_cpus: nano_cpus.or(old_nano),
            shares: shares.or(self.shares),
            quota: quota.or(old_quota),
            period: period.or(old_period),
            cpus: cpus.or(self.cpus.clone()),
            mems: mems.or(self.mems.clone()),
            pids: pids.or(self.pids),
            weight: weight.or(self.weight),
            device_weights: joined(&self.device_weights, device_weights),
            read_bps: joined(&self.read_bps, read_bps),
            write_bps: joined(&self.write_bps, write_bps),
            read_iops: joined(&self.read_iops, read_iops),
            write_iops: joined(&self.write_iops, write_iops),
        }
    }

    /// All rates, to look at their devices.
    pub fn rates(&self) -> impl Iterator<Item = &Rate> {
        let lists = [
            &self.device_weights,
            &self.read_bps,
            &self.write_bps,
            &self.read_iops,
            &self.write_iops,
        ];
        lists.into_iter().flatten()
    }
}

/// The later of each device counts.
fn joined(old: &[Rate], new: Vec<Rate>) -> Vec<Rate> {
    let named = |rate: &Rate| new.iter().any(|other| other.device == rate.device);
    let mut all: Vec<Rate> = old.iter().filter(|rate| !named(rate)).cloned().collect();
    all.extend(new);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_what_they_name() {
        let rate = |device: &str, rate| Rate {
            device: device.into(),
            rate,
        };
        let old = Limits {
            memory: Some(64),
            nano_cpus: Some(500_000_000),
            read_bps: vec![rate("/dev/a", 1), rate("/dev/b", 2)],
            ..Limits::default()
        };
        let new = old.changed(Limits {
            quota: Some(20_000),
            read_bps: vec![rate("/dev/b", 3)],
            ..Limits::default()
        });
        let expected = Limits {
            memory: Some(64),
            quota: Some(20_000),
            period: Some(100_000),
            read_bps: vec![rate("/dev/a", 1), rate("/dev/b", 3)],
            ..Limits::default()
        };
        assert_eq!(new, expected);
        assert_eq!(old.bandwidth(), (Some(50_000), Some(100_000)));
        assert_eq!(old.memory_and_swap(), Some(128));
    }
}
