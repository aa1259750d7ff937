//! The contents of large files apart from the tree: what a shared store has of a layer, so that many users read the
//! same bytes, and how the files of a user's own tree refer to them.
//!
//! Linux 6.16 ("ovl: relax redirect/metacopy requirements for lower -> data redirect"): below a file of a
//! lower layer that is marked so, overlayfs takes the content from a data-only layer, also with `userxattr`. Owner,
//! mode and attributes are those of the file itself. The data-only layer is a shared store's `layers/`.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tar::EntryType;

use crate::image::unpack::DIFF;
use crate::image::unpack::extract;
use crate::image::unpack::extract::Limits;
use crate::image::unpack::extract::Unpacked;
use crate::oci::digest::Digest;
use crate::store::archive::read::Input;
use crate::store::archive::read::Reader;
use crate::sys::mount::Attributes;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;
use crate::sys::process;

/// Smaller files are in each tree: the marks take a block of the file system too.
pub const LARGE: u64 = 8 << 10;
/// Overlayfs's own marks under `userxattr`: the content is elsewhere, and where.
const ELSEWHERE: &str = "user.overlay.metacopy";
const PLACE: &str = "user.overlay.redirect";

/// Unpacks the contents of the large files of a tar into the directory `root`. Each has the number of its entry for
/// a name: nothing of the tar decides where anything is written, and whoever reads the same tar finds it again.
pub fn extract(tar: impl Input, root: OwnedFd, limits: Limits) -> Result<Unpacked> {
    let mut done = Unpacked::default();
    let mut buffer = vec![0; extract::COPY_BUFFER];
    let mut tar = Reader::new(tar);
    while let Some(entry) = tar.next().context("cannot read the tar")? {
        done.entries += 1;
        if done.entries > limits.entries {
            bail!("the layer has more than {} entries", limits.entries);
        }
        if !is_file(entry.kind) {
            continue;
        }
        done.size = done.size.saturating_add(entry.size);
        if done.size > limits.bytes {
            bail!("the layer's files have more than {} bytes", limits.bytes);
        }
        if entry.size < LARGE {
            continue;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = done.entries.to_string();
        let file = rustix::fs::openat(&root, &name, flags, Mode::from_raw_mode(0o444))
            .context("cannot create a file")?;
        extract::copy(&mut tar, file.as_fd(), entry.size, &mut buffer)?;
        extract::set_times(file.as_fd(), EPOCH)?;
    }
    extract::set_times(root.as_fd(), EPOCH)?;
    Ok(done)
}

/// The same each time that it is unpacked.
const EPOCH: rustix::fs::Timespec = rustix::fs::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

pub fn is_file(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
    )
}

/// Where the contents of a layer are, below the directory of layers.
pub fn place(diff_id: &Digest) -> String {
    format!("/{}/{DIFF}", diff_id.hex())
}

/// Makes an empty file one of this size whose content is that of an entry.
pub fn refer(file: BorrowedFd<'_>, size: u64, place: &str, entry: u64) -> Result<()> {
    rustix::fs::ftruncate(file, size).context("cannot set its size")?;
    let value = format!("{place}/{entry}");
    let set =
        |key: &str, value: &[u8]| rustix::fs::fsetxattr(file, key, value, XattrFlags::empty());
    set(ELSEWHERE, b"")
        .and_then(|()| set(PLACE, value.as_bytes()))
        .context("cannot say where its content is")
}

/// In the helper process: whether overlayfs finds contents elsewhere, in the empty directory that is its root.
pub fn try_here() -> Result<()> {
    process::unshare(libc::CLONE_NEWNS)?;
    for dir in ["lower", "data", "upper", "work"] {
        rustix::fs::mkdir(dir, Mode::RWXU)?;
    }
    let create = |name: &str| {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, name, flags, Mode::RUSR | Mode::WUSR)
    };
    rustix::io::write(create("data/1")?, b"x")?;
    refer(create("lower/file")?.as_fd(), 1, "", 1)?;
    let overlay = FileSystem::open("overlay")?;
    overlay.set(Parameter::String("lowerdir+", "lower"))?;
    overlay.set(Parameter::String("datadir+", "data"))?;
    overlay.set(Parameter::String("upperdir", "upper"))?;
    overlay.set(Parameter::String("workdir", "work"))?;
    overlay.set(Parameter::Flag("userxattr"))?;
    let mount = overlay.mount(Attributes::MOUNT_ATTR_NODEV)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&mount, "file", flags, Mode::empty())?;
    let mut byte = [0];
    let count: Result<usize, Errno> = rustix::io::read(&file, &mut byte);
    ensure!(count? == 1 && byte == *b"x", "the content is another");
    Ok(())
}
