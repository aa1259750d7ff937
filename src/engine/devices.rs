//! Device nodes of the host that a container is shown.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::container::mounts::device::Device;
use crate::error::Kind;
use crate::error::fail;

/// Levels of directories such as /dev/bus/usb/001.
const DEPTH_MAX: u32 = 8;

/// Where the nodes are, on the host and in the container: one, or all of a directory.
pub fn nodes(device: &Device) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let cannot = || format!("cannot use device {}", device.host.display());
    let kind = std::fs::metadata(&device.host)
        .with_context(cannot)?
        .file_type();
    if kind.is_char_device() || kind.is_block_device() {
        return Ok(vec![(device.host.clone(), device.container.clone())]);
    }
    if !kind.is_dir() {
        return Err(fail(
            Kind::Usage,
            format!("{} is not a device", device.host.display()),
        ));
    }
    let mut found = Vec::new();
    add_below(&device.host, &device.container, 0, &mut found).with_context(cannot)?;
    if found.is_empty() {
        return Err(fail(
            Kind::Usage,
            format!("there is no device in {}", device.host.display()),
        ));
    }
    found.sort();
    Ok(found)
}

/// Directories of /dev that are the container's own, and nodes that every container has.
const OWN: [&str; 14] = [
    ".udev", "console", "fd", "full", "log", "mqueue", "null", "ptmx", "pts", "random", "shm",
    "tty", "urandom", "zero",
];

/// All devices of the host, for a privileged container.
pub fn all() -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let cannot = "cannot list the host's devices";
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/dev").context(cannot)? {
        let entry = entry.context(cannot)?;
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type().context(cannot)?);
        if kind.is_char_device() || kind.is_block_device() {
            found.push((path.clone(), path));
        } else if kind.is_dir() {
            // Who may not look into a directory has no use of what is in it.
            add_below(&path, &path, 1, &mut found).ok();
        }
    }
    found.sort();
    Ok(found)
}

fn add_below(
    host: &Path,
    container: &Path,
    depth: u32,
    found: &mut Vec<(PathBuf, PathBuf)>,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(host)? {
        let entry = entry?;
        let (host, container) = (entry.path(), container.join(entry.file_name()));
        // A link is not followed: it may lead anywhere.
        let kind = entry.file_type()?;
        if kind.is_char_device() || kind.is_block_device() {
            found.push((host, container));
        } else if kind.is_dir() && depth < DEPTH_MAX {
            add_below(&host, &container, depth + 1, found)?;
        }
    }
    Ok(())
}
