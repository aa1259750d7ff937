//! Which namespaces a container has of its own, and which it shares.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    #[default]
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
#[serde(default)]
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shm {
    #[default]
    Private,
    /// Other containers may join.
    Shareable,
    None,
}

impl Default for Namespaces {
    fn default() -> Namespaces {
        Namespaces {
            pid: Namespace::Private,
            ipc: Namespace::Private,
            shm: Shm::Private,
            uts: Namespace::Private,
            cgroup: Namespace::Private,
            // Only where it is asked for.
            time: Namespace::Host,
            time_offsets: vec![],
        }
    }
}

/// By how much a clock of a private time namespace is ahead of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    pub seconds: i64,
    pub nanos: u32,
}
