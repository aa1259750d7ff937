//! What the container sees of files beside those of its image.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Files {
    pub volumes: Vec<Volume>,
    /// The root file system is read-only.
    pub read_only: bool,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
}

/// A directory or file of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub read_only: bool,
}
