//! What the user asked for, joined with what the image says: written once, when the container is
//! created, and never changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde::Serialize;

use crate::oci::digest::Digest;
use crate::store::record::Record;

/// `config.json` of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// 64 hexadecimal digits.
    pub id: String,
    pub created: Timestamp,
    /// The image as its reference, and the digest of its configuration.
    pub image: String,
    pub image_id: String,
    /// The diff-ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Where they are unpacked, relative to the data directory, the top one first; and for which ids
    /// (`IdMaps::tag`).
    pub lower: Vec<PathBuf>,
    pub ids: String,
    /// What was set for the container and where the image's own value is kept otherwise.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub workdir: String,
    /// As `name`, `uid`, `name:group`…; looked up in the container.
    pub user: String,
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub network: Network,
    pub volumes: Vec<Volume>,
    /// `-t`: a pseudo-terminal.
    pub terminal: bool,
    /// `-i`: standard input is kept open.
    pub interactive: bool,
    /// `--rm`: the container goes when its command ends.
    pub remove: bool,
    pub read_only: bool,
    pub seccomp: Seccomp,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    pub no_new_privileges: bool,
    pub stop_signal: i32,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u32,
}

impl Record for Config {
    const NOUN: &'static str = "container";
    const VERSION: u32 = 1;
}

impl Config {
    /// The whole command line.
    pub fn args(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), self.command.as_slice()].concat()
    }

    /// The first digits of the id, as people see it.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }
}

/// How the container sees the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace with nothing but loopback.
    None,
    /// The host's own.
    Host,
}

impl Network {
    pub fn name(self) -> &'static str {
        match self {
            Network::None => "none",
            Network::Host => "host",
        }
    }
}

/// Which system calls the container may make.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// As Docker's and Podman's profiles allow.
    Default,
    Unconfined,
    Profile(Box<LinuxSeccomp>),
}

/// A directory or file of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}
