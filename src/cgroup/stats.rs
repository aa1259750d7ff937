//! What the kernel counted for a group. Files that a kernel or a group without the controller does not have are
//! counted as nothing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::Result;

use crate::cgroup::Group;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// `cpu.stat`: `usage_usec`, `user_usec`, `system_usec`, `nr_periods`, `nr_throttled`, `throttled_usec`…
    pub cpu: BTreeMap<String, u64>,
    pub memory: Memory,
    pub pids_current: u64,
    pub pids_peak: Option<u64>,
    /// None is no limit.
    pub pids_limit: Option<u64>,
    pub io: Vec<Device>,
    /// By page size, such as `2MB`.
    pub huge_pages: BTreeMap<String, HugePages>,
    /// By device: handles and objects in use.
    pub rdma: BTreeMap<String, (u32, u32)>,
    pub pressure: Pressure,
    pub counts: Counts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub current: u64,
    /// Linux 5.19.
    pub peak: Option<u64>,
    /// None is no limit.
    pub limit: Option<u64>,
    pub swap: u64,
    pub swap_limit: Option<u64>,
    /// `memory.stat`: `anon`, `file`, `inactive_file`, `pgfault`…
    pub stat: BTreeMap<String, u64>,
}

impl Memory {
    /// What a person calls used: without the cache that can be dropped at once, as `docker stats` shows it.
    pub fn used(&self) -> u64 {
        let cache = self.stat.get("inactive_file").copied().unwrap_or(0);
        self.current.saturating_sub(cache)
    }
}

/// A line of `io.stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
    pub discard_bytes: u64,
    pub discards: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    pub current: u64,
    pub limit: Option<u64>,
    /// How often the limit was in the way.
    pub hits: u64,
}

/// Time lost for want of something (psi), where the kernel measures it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    pub cpu: Option<(Stall, Stall)>,
    pub memory: Option<(Stall, Stall)>,
    pub io: Option<(Stall, Stall)>,
}

/// Percentages of the last seconds, and all microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// How often a limit did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that were killed for want of memory, in this group or one in it.
    pub oom_kill: u64,
    pub oom_group_kill: u64,
    /// How often the memory limit was reached and nothing could be freed.
    pub oom: u64,
    /// Forks that failed at the pids limit.
    pub pids_max: u64,
    pub throttled_periods: u64,
    pub throttled_usec: u64,
}

impl Group {
    /// Everything; an error only where the group is gone.
    pub fn stats(&self) -> Result<Stats> {
        let events = self.open_file("cgroup.events");
        events.with_context(|| format!("cannot read control group {:?}", self.path()))?;
        let pressure = |file| self.read(file).ok().as_deref().and_then(stalls);
        Ok(Stats {
            cpu: self.map("cpu.stat"),
            memory: Memory {
                current: self.number("memory.current").unwrap_or(0),
                peak: self.number("memory.peak"),
                limit: self.number("memory.max"),
                swap: self.number("memory.swap.current").unwrap_or(0),
                swap_limit: self.number("memory.swap.max"),
                stat: self.map("memory.stat"),
            },
            pids_current: match self.number("pids.current") {
                Some(count) => count,
                None => self.processes()?.len() as u64,
            },
            pids_peak: self.number("pids.peak"),
            pids_limit: self.number("pids.max"),
            io: self
                .lines("io.stat")
                .iter()
                .filter_map(|line| device(line))
                .collect(),
            huge_pages: self.huge_pages(),
            rdma: self
                .lines("rdma.current")
                .iter()
                .filter_map(|line| adapter(line))
                .collect(),
            pressure: Pressure {
                cpu: pressure("cpu.pressure"),
                memory: pressure("memory.pressure"),
                io: pressure("io.pressure"),
            },
            counts: self.counts(),
        })
    }

    /// A few of the numbers, for few reads. A group that is gone has counted nothing.
    pub fn counts(&self) -> Counts {
        let number = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
        let memory = self.map("memory.events");
        let cpu = self.map("cpu.stat");
        Counts {
            oom_kill: number(&memory, "oom_kill"),
            oom_group_kill: number(&memory, "oom_group_kill"),
            oom: number(&memory, "oom"),
            pids_max: number(&self.map("pids.events"), "max"),
            throttled_periods: number(&cpu, "nr_throttled"),
            throttled_usec: number(&cpu, "throttled_usec"),
        }
    }

    /// A file to poll for changes (POLLPRI), where there is such a file.
    pub fn watch(&self, file: &str) -> Option<OwnedFd> {
        self.open_file(file).ok()
    }

    /// `oom_kill` of `memory.events`, which `watch` opened; reading it through that makes it wait for the next change.
    pub fn oom_kills(events: &OwnedFd) -> u64 {
        let mut buffer = [0; 512];
        let length = rustix::io::pread(events, &mut buffer, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..length]);
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        count.unwrap_or(0)
    }

    /// The one number of a file; none for `max` too.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = self.read(file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Lines of a name and a number.
    fn map(&self, file: &str) -> BTreeMap<String, u64> {
        let entry = |line: &String| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        self.lines(file).iter().filter_map(entry).collect()
    }

    fn huge_pages(&self) -> BTreeMap<String, HugePages> {
        let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages");
        let names = sizes.into_iter().flatten().flatten();
        names
            .filter_map(|entry| page_size(entry.file_name().to_str()?))
            .filter_map(|size| {
                let pages = HugePages {
                    current: self.number(&format!("hugetlb.{size}.current"))?,
                    limit: self.number(&format!("hugetlb.{size}.max")),
                    hits: self
                        .map(&format!("hugetlb.{size}.events"))
                        .get("max")
                        .copied()
                        .unwrap_or(0),
                };
                Some((size, pages))
            })
            .collect()
    }
}

/// `2MB` of `hugepages-2048kB`, as the files of groups are named (Linux: mem_fmt of mm/hugetlb_cgroup.c).
fn page_size(directory: &str) -> Option<String> {
    let kib: u64 = directory
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kib {
        1_048_576.. => format!("{}GB", kib >> 20),
        1024.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`; devices that did nothing have the numbers alone.
fn device(line: &str) -> Option<Device> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let mut device = Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..Device::default()
    };
    for word in words {
        let Some((key, Ok(value))) = word
            .split_once('=')
            .map(|(key, value)| (key, value.parse()))
        else {
            continue;
        };
        match key {
            "rbytes" => device.read_bytes = value,
            "wbytes" => device.write_bytes = value,
            "rios" => device.reads = value,
            "wios" => device.writes = value,
            "dbytes" => device.discard_bytes = value,
            "dios" => device.discards = value,
            _ => {}
        }
    }
    Some(device)
}

/// `mlx4_0 hca_handle=2 hca_object=2000`.
fn adapter(line: &str) -> Option<(String, (u32, u32))> {
    let (name, rest) = line.split_once(' ')?;
    let value = |key: &str| {
        let mut words = rest.split(' ');
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Some((name.to_owned(), (value("hca_handle"), value("hca_object"))))
}

/// The lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`. Linux: cpu.pressure had no second
/// line before 5.13.
fn stalls(text: &str) -> Option<(Stall, Stall)> {
    let mut both = (Stall::default(), Stall::default());
    let mut found = false;
    for line in text.lines() {
        let mut words = line.split(' ');
        let stall = match words.next()? {
            "some" => &mut both.0,
            "full" => &mut both.1,
            _ => continue,
        };
        found = true;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    found.then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=7 dios=1 x=y";
        let expected = Device {
            major: 8,
            minor: 16,
            read_bytes: 1_459_200,
            write_bytes: 314_773_504,
            reads: 192,
            writes: 353,
            discard_bytes: 7,
            discards: 1,
        };
        assert_eq!(device(line), Some(expected));
        let idle = Device {
            major: 7,
            ..Device::default()
        };
        assert_eq!(device("7:0"), Some(idle));
        assert_eq!(device(""), None);
        assert_eq!(
            adapter("mlx4_0 hca_handle=2 hca_object=2000"),
            Some(("mlx4_0".to_owned(), (2, 2000)))
        );
        assert_eq!(page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(page_size("hugepages-64kB").as_deref(), Some("64KB"));
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=2.00 total=3\n";
        let (some, full) = stalls(text).unwrap();
        assert_eq!((some.avg10, some.avg60, some.total), (1.5, 0.25, 12));
        assert_eq!((full.avg300, full.total), (2.0, 3));
        assert_eq!(stalls(""), None);
    }
}
