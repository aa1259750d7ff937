//! The resources of a config.json as files of a group and what goes into them. Pure.

use anyhow::Result;
use oci_spec::runtime::LinuxResources;

/// One file of a group and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Such as `memory.max`; what is before the dot is the controller.
    pub file: String,
    pub value: String,
    /// Another file and value, where that file does not exist.
    pub instead: Option<(String, String)>,
    /// Whether it is no limit, so that it does not matter where the file does not exist.
    pub lifts: bool,
}

/// What is to be set, in an order in which the kernel takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub list: Vec<Setting>,
    /// `checkBeforeUpdate`: a memory limit below what is in use is refused.
    pub check_memory: bool,
}

/// What these resources are in files of version 2, values of version 1 converted. What version 2 does not have
/// is an error; zero is "not set", as callers of runtimes mean it, but for `pids.limit`.
pub fn settings(_resources: &LinuxResources) -> Result<Settings> {
    Ok(Settings::default())
}

impl Settings {
    /// Whether nothing limits anything.
    pub fn is_empty(&self) -> bool {
        self.list.iter().all(|setting| setting.lifts)
    }

    /// The controllers that are needed.
    pub fn controllers(&self) -> Vec<&str> {
        Vec::new()
    }
}
