//! Where a container's output is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    pub driver: Driver,
    /// The options as they were given.
    pub options: BTreeMap<String, String>,
    /// Of the drivers that write files: where, if not in the container's directory.
    pub path: Option<PathBuf>,
    pub rotation: Option<Rotation>,
    /// A template (`container::log::tag`).
    pub tag: Option<String>,
    /// Labels, variables and more that go with each record.
    pub attributes: BTreeMap<String, String>,
    /// Rather lose records than make the container wait.
    pub non_blocking: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    #[default]
    #[serde(rename = "k8s-file")]
    K8sFile,
    JsonFile,
    Journald,
    None,
    /// The container has the streams of the command that starts it.
    Passthrough,
    /// The same, also where they are a terminal.
    PassthroughTty,
}

impl Driver {
    pub const ALL: [Driver; 6] = [
        Driver::K8sFile,
        Driver::JsonFile,
        Driver::Journald,
        Driver::None,
        Driver::Passthrough,
        Driver::PassthroughTty,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Driver::K8sFile => "k8s-file",
            Driver::JsonFile => "json-file",
            Driver::Journald => "journald",
            Driver::None => "none",
            Driver::Passthrough => "passthrough",
            Driver::PassthroughTty => "passthrough-tty",
        }
    }

    pub fn writes_files(self) -> bool {
        matches!(self, Driver::K8sFile | Driver::JsonFile)
    }

    pub fn passes_through(self) -> bool {
        matches!(self, Driver::Passthrough | Driver::PassthroughTty)
    }
}

/// When a file is full, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Bytes of a file; a record that is larger has one for itself.
    pub size: u64,
    /// How many there are, the one that is written included.
    pub files: u32,
    /// Full ones are compressed with gzip.
    pub compress: bool,
}
