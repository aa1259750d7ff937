//! Which namespaces a container has of its own, and which it shares.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    Private,
    /// That of who starts the container.
    Host,
    /// That of another container, by its id.
    Container(String),
    /// That behind a file, as `/proc/PID/ns/KIND` or one it was mounted on.
    Path(PathBuf),
}

impl Namespace {
    /// As Docker and Podman write it.
    pub fn name(&self) -> String {
        match self {
            Namespace::Private => "private".into(),
            Namespace::Host => "host".into(),
            Namespace::Container(id) => format!("container:{id}"),
            Namespace::Path(path) => format!("ns:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    pub pid: Namespace,
    pub ipc: Namespace,
    /// Of a private IPC namespace: what there is of /dev/shm.
    pub shm: Shm,
    pub uts: Namespace,
    pub cgroup: Namespace,
    pub time: Namespace,
    pub time_offsets: Vec<TimeOffset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shm {
    Private,
    /// Other containers may join.
    Shareable,
    None,
}

/// By how much a clock of a private time namespace is ahead of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    pub seconds: i64,
    pub nanos: u32,
}
