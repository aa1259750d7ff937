//! The layers of an image copied into one directory, for stores whose file system overlayfs cannot
//! write to (another overlay, in a nested container). Run by init, as root of the user namespace.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::runtime::rootfs::Opened;
use crate::store::copy;
use crate::store::copy::Marks;
use crate::store::copy::SameOwners;

/// In the work directory, which overlayfs does not use here: the copy is whole.
const DONE: &str = "copied";

/// Copies the layers into `merged`, unless an earlier start has done so. A copy that was cut off is made
/// anew.
pub fn copy(opened: &Opened) -> anyhow::Result<()> {
    if rustix::fs::accessat(&opened.work, DONE, Access::EXISTS, AtFlags::empty()).is_ok() {
        return Ok(());
    }
    let target = readable(&opened.merged)?;
    copy::empty(target.as_fd())?;
    for layer in opened.lower.iter().rev() {
        let source = readable(layer)?;
        copy::tree(source.as_fd(), target.as_fd(), Marks::Apply, &SameOwners)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(&opened.work, DONE, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(())
}

fn readable(dir: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, c".", flags, Mode::empty())
}
