//! The resources of a config.json as files of a group and what goes into them. Pure.

mod block;
mod cpu;
mod memory;
#[cfg(test)]
mod tests;

pub(super) use cpu::parse_set;

use anyhow::Result;
use oci_spec::runtime::LinuxResources;

use crate::error::Kind;
use crate::error::fail;

/// One file of a group and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Such as `memory.max`; what is before the dot is the controller.
    pub file: String,
    pub value: String,
    /// Another file and value, for where that file does not exist.
    pub instead: Option<(String, String)>,
    /// Where the file does not exist nothing is lost: the value is no limit, or only adds to another.
    pub optional: bool,
}

impl Setting {
    fn new(file: impl Into<String>, value: impl ToString) -> Setting {
        Setting {
            file: file.into(),
            value: value.to_string(),
            instead: None,
            optional: false,
        }
    }

    fn optional(self, optional: bool) -> Setting {
        Setting { optional, ..self }
    }

    /// A number, or `max` for no limit, which is -1 in a config.json.
    fn limit(file: impl Into<String>, limit: i64) -> Setting {
        if limit < 0 {
            Setting::new(file, "max").optional(true)
        } else {
            Setting::new(file, limit)
        }
    }

    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// What is to be set, in an order in which the kernel takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub list: Vec<Setting>,
    /// `checkBeforeUpdate`: this memory limit is refused where more is in use.
    pub checked_memory: Option<u64>,
}

impl Settings {
    /// The value of a file, the last if there are several.
    pub(super) fn value(&self, file: &str) -> Option<&str> {
        self.list.iter().rev().find_map(|setting| {
            let instead = setting.instead.as_ref();
            let instead = instead.map(|(file, value)| (file.as_str(), value.as_str()));
            let pairs = [
                Some((setting.file.as_str(), setting.value.as_str())),
                instead,
            ];
            let found = pairs.into_iter().flatten().find(|(name, _)| *name == file);
            found.map(|(_, value)| value)
        })
    }
}

/// What these resources are in files of version 2, values of version 1 converted. What version 2 does not have
/// is an error; zero is "not set", as callers of runtimes mean it, but for `pids.limit`.
///
/// Devices are not files (`cgroup::devices`).
pub fn settings(resources: &LinuxResources) -> Result<Settings> {
    let mut settings = Settings::default();
    let list = &mut settings.list;
    if let Some(memory) = resources.memory() {
        settings.checked_memory = memory::add(list, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::add(list, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        // runc 1.4, runtime-spec 1.3: 0 is a limit. Callers of older versions meant "none" by it, so that it is not
        // insisted on where there is no such controller.
        let limit = pids.limit();
        list.push(Setting::limit("pids.max", limit).optional(limit <= 0));
    }
    if let Some(block) = resources.block_io() {
        block::add(list, block)?;
    }
    add_huge_pages(list, resources)?;
    add_rdma(list, resources)?;
    if let Some(network) = resources.network() {
        let class = network.class_id().is_some_and(|class| class != 0);
        let priorities = network.priorities().as_ref();
        if class || priorities.is_some_and(|list| !list.is_empty()) {
            return Err(absent("network.classID and network.priorities"));
        }
    }
    add_unified(list, resources)?;
    Ok(settings)
}

/// Of a value that only version 1 knows.
fn absent(what: &str) -> anyhow::Error {
    fail(
        Kind::Unsupported,
        format!("cannot set {what}: control groups of version 2 do not have it"),
    )
}

/// Of a value that is wrong.
fn wrong(message: String) -> anyhow::Error {
    fail(Kind::Usage, message)
}

fn add_huge_pages(list: &mut Vec<Setting>, resources: &LinuxResources) -> Result<()> {
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        let digits = size.trim_end_matches('B').trim_end_matches(['K', 'M', 'G']);
        let unit = &size[digits.len()..];
        let number: Option<u64> = digits.parse().ok();
        if number.is_none() || !["KB", "MB", "GB"].contains(&unit) {
            return Err(wrong(format!(
                "hugepageLimits: page size {size:?}: expected a number with KB, MB or GB, as 2MB"
            )));
        }
        list.push(Setting::limit(format!("hugetlb.{size}.max"), limit.limit()));
        // Linux 5.7: what is reserved counts only there.
        let reserved = Setting::limit(format!("hugetlb.{size}.rsvd.max"), limit.limit());
        list.push(reserved.optional(true));
    }
    Ok(())
}

fn add_rdma(list: &mut Vec<Setting>, resources: &LinuxResources) -> Result<()> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(name, _)| name.as_str());
    for (name, limit) in devices {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong(format!("rdma: {name:?} is not the name of a device")));
        }
        let part = |name: &str, value: Option<u32>| {
            value.map_or(String::new(), |value| format!(" {name}={value}"))
        };
        let handles = part("hca_handle", limit.hca_handles());
        let objects = part("hca_object", limit.hca_objects());
        if !(handles.is_empty() && objects.is_empty()) {
            list.push(Setting::new(
                "rdma.max",
                format!("{name}{handles}{objects}"),
            ));
        }
    }
    Ok(())
}

/// Files of a group that are no settings: writing them moves or ends processes.
const ACTIONS: [&str; 6] = [
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

fn add_unified(list: &mut Vec<Setting>, resources: &LinuxResources) -> Result<()> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort_unstable();
    for (file, value) in files {
        list.extend(unified(file, value)?);
    }
    Ok(())
}

/// A file of version 2 by its own name.
fn unified(file: &str, value: &str) -> Result<Vec<Setting>> {
    let (controller, rest) = file.split_once('.').unwrap_or_default();
    let is_name = !controller.is_empty() && !rest.is_empty() && !file.contains(['/', '\0']);
    if !is_name {
        return Err(wrong(format!(
            "unified: {file:?} is not a file of a control group: expected CONTROLLER.NAME, as memory.high"
        )));
    }
    if ACTIONS.contains(&file) {
        return Err(wrong(format!("unified: {file:?} is not a setting")));
    }
    // Linux: the nested keys of io.max and the like are taken a line a write.
    let lines = value.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(|line| Setting::new(file, line.trim())).collect())
}
