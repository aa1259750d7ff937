//! What the container sees of files beside those of its image.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::container::mounts::Mount;
use crate::container::mounts::device::Device;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Files {
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Names of devices in CDI files, and where the files are.
    pub cdi_devices: Vec<String>,
    pub cdi_dirs: Vec<PathBuf>,
    /// The root file system is read-only.
    pub read_only: bool,
    /// Where it is, /run, /tmp and /var/tmp are writable all the same.
    pub read_only_tmpfs: bool,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// The command is an init such as systemd, and finds what that expects.
    pub systemd: bool,
    /// Bytes of each tmpfs that is made for systemd.
    pub systemd_size: Option<u64>,
    /// Directories of the container that get the engine's files of /etc too.
    pub chroot_dirs: Vec<PathBuf>,
    /// The root file system is this directory instead of an image.
    pub rootfs: Option<Rootfs>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    pub path: PathBuf,
    /// Changes go with the container.
    pub overlay: bool,
}
