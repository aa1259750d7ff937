//! What an entry of a tar says about its file. Hostile data: nothing of it is trusted here, and what may
//! be done with it is for others to say.

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Timespec;

/// What an entry says about its file.
#[derive(Debug)]
pub struct Meta {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub modified: Timespec,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Linux: the largest number is no id, but stands for "leave it as it is" (chown(2)).
pub fn id(number: i64) -> Result<u32> {
    let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
    id.with_context(|| format!("there is no id {number}"))
}

/// Attributes that an image may give its files. Not those that overlayfs and rbox itself
/// act upon, nor those of the host's security modules.
pub fn may_set(xattr: &[u8]) -> bool {
    xattr == b"security.capability"
        || (xattr.starts_with(b"user.")
            && !xattr.starts_with(b"user.overlay.")
            && !xattr.starts_with(b"user.containers.")
            && !xattr.starts_with(b"user.fuseoverlayfs.")
            && !xattr.contains(&0))
}
