//! From tar entries to files: what is made of each, and its owner, mode, times and attributes.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tar::EntryType;

use crate::error::WithHint;
use crate::image::unpack::contents;
use crate::image::unpack::times::DirTimes;
use crate::image::unpack::tree::Tree;
use crate::store::archive::OWNER_XATTR;
use crate::store::archive::meta::Meta;
use crate::store::archive::name;
use crate::store::archive::name::Marker;
use crate::store::archive::name::Name;
use crate::store::archive::read::Entry;
use crate::store::archive::read::Input;
use crate::store::archive::read::Reader;
use crate::store::spool;
use crate::sys::writeback;

pub const COPY_BUFFER: usize = 256 << 10;
/// Files from this size on are written to disk while the next are unpacked, and not all at the end.
const WRITTEN_EARLY: u64 = 128 << 10;
const OPAQUE_KNOWN_MAX: usize = 10_000;

/// What becomes of owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// They are set.
    Set,
    /// Only one id is mapped: they are recorded in [`OWNER_XATTR`].
    Record,
}

/// Bounds on what one layer may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
}

/// What was unpacked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all files.
    pub size: u64,
    pub entries: u64,
    /// The layer hides everything below it.
    pub opaque_root: bool,
    /// Device nodes, which nobody without privileges can make.
    pub devices_skipped: u64,
    /// Files whose contents are elsewhere.
    pub referring: u64,
}

/// Unpacks a tar into the directory `root`, with a nameless file for notes. The contents of large files stay
/// `elsewhere`, where that is given.
pub fn extract(
    tar: impl Input,
    root: OwnedFd,
    notes: File,
    owners: Owners,
    elsewhere: Option<String>,
    limits: Limits,
) -> Result<Unpacked> {
    let mut extractor = Extractor {
        tree: Tree::new(root),
        owners,
        elsewhere,
        limits,
        done: Unpacked::default(),
        dir_times: DirTimes::new(notes),
        opaque: HashSet::new(),
        buffer: vec![0; COPY_BUFFER],
    };
    let mut tar = Reader::new(tar);
    while let Some(entry) = tar.next().context("cannot read the tar")? {
        extractor
            .entry(&entry, &mut tar)
            .with_context(|| format!("cannot unpack {}", name::quoted(&entry.name)))?;
    }
    extractor.finish()
}

struct Extractor {
    tree: Tree,
    owners: Owners,
    /// See `contents::place`.
    elsewhere: Option<String>,
    limits: Limits,
    done: Unpacked,
    /// Set at the end: each entry made in a directory changes its time.
    dir_times: DirTimes,
    /// Some directories that are opaque already, to be passed over quickly.
    opaque: HashSet<Name>,
    buffer: Vec<u8>,
}

impl Extractor {
    fn entry(&mut self, entry: &Entry, tar: &mut Reader<impl Input>) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries + self.tree.made > self.limits.entries {
            bail!("the layer has more than {} entries", self.limits.entries);
        }
        let name = Name::parse(&entry.name)?;
        if let Some((dir, last)) = name.split() {
            match name::marker(last)? {
                Marker::None => {}
                Marker::Ignored => return Ok(()),
                Marker::Opaque => return self.make_opaque(dir),
                Marker::Whiteout(hidden) => return self.tree.make_whiteout(&dir, hidden),
            }
        }
        let meta = &entry.meta;
        match entry.kind {
            kind if contents::is_file(kind) => self.file(entry, &name, tar),
            EntryType::Directory => self.dir(name, meta),
            EntryType::Symlink => {
                self.tree.make_symlink(&name, entry.link()?)?;
                self.set_meta_at(&name, meta, false)
            }
            EntryType::Link => {
                let target = Name::parse(entry.link()?)?;
                self.tree.make_hard_link(&name, &target)
            }
            EntryType::Fifo => {
                let mode = Mode::from_raw_mode(meta.mode & 0o777);
                self.tree.make_fifo(&name, mode)?;
                self.set_meta_at(&name, meta, true)
            }
            EntryType::Char | EntryType::Block => {
                self.done.devices_skipped += 1;
                Ok(())
            }
            other => bail!(
                "entries of type {:?} are unknown",
                char::from(other.as_byte())
            ),
        }
    }

    fn make_opaque(&mut self, dir: Name) -> Result<()> {
        if dir.is_root() {
            self.done.opaque_root = true;
        } else if !self.opaque.contains(&dir) {
            self.tree.make_opaque(&dir)?;
            if self.opaque.len() >= OPAQUE_KNOWN_MAX {
                self.opaque.clear();
            }
            self.opaque.insert(dir);
        }
        Ok(())
    }

    fn dir(&mut self, name: Name, meta: &Meta) -> Result<()> {
        let dir = self.tree.make_dir(&name)?;
        self.set_meta(dir.as_fd(), meta)?;
        self.dir_times.push(&name, meta.modified)
    }

    fn file(&mut self, entry: &Entry, name: &Name, tar: &mut Reader<impl Input>) -> Result<()> {
        self.done.size = self.done.size.saturating_add(entry.size);
        if self.done.size > self.limits.bytes {
            bail!(
                "the layer's files have more than {} bytes",
                self.limits.bytes
            );
        }
        let file = self.tree.make_file(name)?;
        match &self.elsewhere {
            // What rbox itself reads of an image is in its tree.
            Some(place) if entry.size >= contents::LARGE && !name.path().starts_with("etc") => {
                contents::refer(file.as_fd(), entry.size, place, self.done.entries)?;
                self.done.referring += 1;
            }
            _ => copy(tar, file.as_fd(), entry.size, &mut self.buffer)?,
        }
        self.set_meta(file.as_fd(), &entry.meta)?;
        set_times(file.as_fd(), entry.meta.modified)
    }

    /// Owner, mode and attributes of an open file or directory.
    fn set_meta(&self, fd: BorrowedFd<'_>, meta: &Meta) -> Result<()> {
        match self.owners {
            Owners::Set => {
                let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
                rustix::fs::fchown(fd, Some(uid), Some(gid))
                    .map_err(|err| owner_error(err, meta))?;
            }
            Owners::Record if (meta.uid, meta.gid) != (0, 0) => {
                let value = format!("{}:{}:{:o}", meta.uid, meta.gid, meta.mode);
                rustix::fs::fsetxattr(fd, OWNER_XATTR, value.as_bytes(), XattrFlags::empty())
                    .context("cannot record its owner in an extended attribute")?;
            }
            Owners::Record => {}
        }
        // Linux: chown(2) clears the set-id bits and security.capability, so these come after.
        rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode)).context("cannot set its mode")?;
        for (key, value) in &meta.xattrs {
            match rustix::fs::fsetxattr(fd, key.as_slice(), value, XattrFlags::empty()) {
                // A file system without them, or file capabilities where these may not be given.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(err) => {
                    return Err(err).with_context(|| {
                        format!("cannot set its extended attribute {}", name::quoted(key))
                    });
                }
            }
        }
        Ok(())
    }

    /// Owner, times and, for what is no symlink, mode of something that must not be opened.
    fn set_meta_at(&mut self, name: &Name, meta: &Meta, has_mode: bool) -> Result<()> {
        let (parent, last) = self.tree.parent(name)?;
        if self.owners == Owners::Set {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&*parent, last, Some(uid), Some(gid), nofollow)
                .map_err(|err| owner_error(err, meta))?;
        }
        if has_mode {
            // Nothing else writes in this tree: what was just made is no symlink.
            let mode = Mode::from_raw_mode(meta.mode & 0o777);
            rustix::fs::chmodat(&*parent, last, mode, AtFlags::empty())?;
        }
        let times = timestamps(meta.modified);
        rustix::fs::utimensat(&*parent, last, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn finish(self) -> Result<Unpacked> {
        self.dir_times.each(|name, modified| {
            // A later entry may have put something else in its place, with a time of its own.
            if let Some(dir) = self.tree.find_dir(name) {
                set_times(dir.as_fd(), modified).ok();
            }
        })?;
        Ok(self.done)
    }
}

/// Linux: chown(2) says EINVAL for an id that the user namespace does not map.
fn owner_error(errno: Errno, meta: &Meta) -> anyhow::Error {
    let owner = format!("cannot give it to uid {} and gid {}", meta.uid, meta.gid);
    if errno == Errno::INVAL {
        return anyhow!("{owner}: your range of sub-ids is too small for these").hint(
            "give yourself a larger range: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`",
        );
    }
    anyhow::Error::new(errno).context(owner)
}

fn timestamps(modified: Timespec) -> Timestamps {
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}

/// Gives a file the content of an entry. Leaves holes where there are only zeros, so that a small archive cannot
/// fill the disk.
pub fn copy(
    tar: &mut Reader<impl Input>,
    file: BorrowedFd<'_>,
    size: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let mut end = 0;
    while let Some((offset, count)) = tar.data(buffer)? {
        let data = &buffer[..count];
        if !spool::is_zero(data) {
            write_all_at(file, data, offset)?;
            end = offset + count as u64;
        }
    }
    if end < size {
        rustix::fs::ftruncate(file, size).context("cannot set its size")?;
    }
    if end >= WRITTEN_EARLY {
        writeback::begin(file, 0, 0);
    }
    Ok(())
}

pub fn set_times(fd: BorrowedFd<'_>, modified: Timespec) -> Result<()> {
    rustix::fs::futimens(fd, &timestamps(modified)).context("cannot set its time")
}

fn write_all_at(fd: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        let count = crate::sys::process::retry(|| rustix::io::pwrite(fd, bytes, offset))?;
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}
