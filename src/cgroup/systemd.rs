//! Groups that systemd makes on request: scopes, over D-Bus. No call waits longer than `LIMIT` altogether.

use std::path::PathBuf;

use anyhow::Result;
use rustix::process::Pid;

use crate::cgroup::Settings;

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    User,
    System,
}

impl Bus {
    /// That of the machine for root, else that of the user.
    pub fn of_caller() -> Bus {
        match rustix::process::geteuid().is_root() {
            true => Bus::System,
            false => Bus::User,
        }
    }
}

/// What systemd is asked for.
#[derive(Clone, Debug)]
pub struct Scope {
    pub bus: Bus,
    /// `NAME.scope`.
    pub unit: String,
    /// `NAME.slice`, with a dash for each step down: `a-b.slice` is in `a.slice`.
    pub slice: String,
    /// At least one; a scope ends with its last process.
    pub pids: Vec<Pid>,
    pub description: String,
    /// Whether the groups in it are the caller's to make.
    pub delegate: bool,
    pub properties: Vec<Property>,
}

/// A property of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What systemd knows of the settings, so that its own writing (daemon-reload) does not undo them; those that it
/// does not know are for `Group::apply` alone, which writes all of them.
pub fn properties(_settings: &Settings) -> Vec<Property> {
    Vec::new()
}

/// Whether a systemd answers there; quick where there is none.
pub fn available(_bus: Bus) -> bool {
    false
}

/// Starts the scope, waits until it runs, and says where its group is: a path below the mount of the tree.
pub fn start_scope(_scope: &Scope) -> Result<PathBuf> {
    anyhow::bail!("there is no systemd")
}

pub fn set_properties(_bus: Bus, _unit: &str, _properties: &[Property]) -> Result<()> {
    anyhow::bail!("there is no systemd")
}

/// Stops a unit, and forgets that it failed; one that is not there is fine.
pub fn stop(_bus: Bus, _unit: &str) -> Result<()> {
    anyhow::bail!("there is no systemd")
}
