//! From tar entries to files: what is made of each, and its owner, mode, times and attributes.

use std::collections::HashSet;
use std::io::Read;
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
use crate::image::unpack::tree::Tree;
use crate::store::archive::OWNER_XATTR;
use crate::store::archive::meta::Meta;
use crate::store::archive::meta::is_old_directory;
use crate::store::archive::meta::link_target;
use crate::store::archive::name;
use crate::store::archive::name::Marker;
use crate::store::archive::name::Name;

const COPY_BUFFER: usize = 256 << 10;

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
}

/// Unpacks a tar into the directory `root`.
pub fn extract(tar: impl Read, root: OwnedFd, owners: Owners, limits: Limits) -> Result<Unpacked> {
    let mut extractor = Extractor {
        tree: Tree::new(root),
        owners,
        limits,
        done: Unpacked::default(),
        dir_times: Vec::new(),
        opaque: HashSet::new(),
        buffer: vec![0; COPY_BUFFER],
    };
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().context("cannot read the tar")? {
        let mut entry = entry.context("cannot read the tar")?;
        let raw = entry.path_bytes().into_owned();
        extractor
            .entry(&mut entry, &raw)
            .with_context(|| format!("cannot unpack {}", name::quoted(&raw)))?;
    }
    extractor.set_dir_times();
    Ok(extractor.done)
}

struct Extractor {
    tree: Tree,
    owners: Owners,
    limits: Limits,
    done: Unpacked,
    /// Set at the end: each entry made in a directory changes its time.
    dir_times: Vec<(Name, Timespec)>,
    /// Directories that are opaque already.
    opaque: HashSet<Name>,
    buffer: Vec<u8>,
}

impl Extractor {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, raw: &[u8]) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            bail!("the layer has more than {} entries", self.limits.entries);
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let name = Name::parse(raw)?;
        if let Some((dir, last)) = name.split() {
            match name::marker(last)? {
                Marker::None => {}
                Marker::Ignored => return Ok(()),
                Marker::Opaque => return self.make_opaque(dir),
                Marker::Whiteout(hidden) => return self.tree.make_whiteout(&dir, hidden),
            }
        }
        let meta = Meta::read(entry)?;
        match kind {
            EntryType::Regular if is_old_directory(entry.header(), raw) => self.dir(name, &meta),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &name, &meta)
            }
            EntryType::Directory => self.dir(name, &meta),
            EntryType::Symlink => {
                self.tree.make_symlink(&name, &link_target(entry)?)?;
                self.set_meta_at(&name, &meta, false)
            }
            EntryType::Link => {
                let target = Name::parse(&link_target(entry)?)?;
                self.tree.make_hard_link(&name, &target)
            }
            EntryType::Fifo => {
                let mode = Mode::from_raw_mode(meta.mode & 0o777);
                self.tree.make_fifo(&name, mode)?;
                self.set_meta_at(&name, &meta, true)
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
            self.opaque.insert(dir);
        }
        Ok(())
    }

    fn dir(&mut self, name: Name, meta: &Meta) -> Result<()> {
        let dir = self.tree.make_dir(&name)?;
        self.set_meta(dir.as_fd(), meta)?;
        self.dir_times.push((name, meta.modified));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        name: &Name,
        meta: &Meta,
    ) -> Result<()> {
        if meta.pax_sparse {
            bail!("it is a sparse file in the PAX format, which is not supported");
        }
        let size = entry.size();
        self.done.size = self.done.size.saturating_add(size);
        if self.done.size > self.limits.bytes {
            bail!(
                "the layer's files have more than {} bytes",
                self.limits.bytes
            );
        }
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        let file = self.tree.make_file(name)?;
        let copied = if sparse {
            self.copy_sparse(entry, file.as_fd())?
        } else {
            self.copy(entry, file.as_fd())?
        };
        if copied != size {
            bail!("the tar ends after {copied} of its {size} bytes");
        }
        self.set_meta(file.as_fd(), meta)?;
        set_times(file.as_fd(), meta.modified)?;
        Ok(())
    }

    fn copy(&mut self, input: &mut impl Read, file: BorrowedFd<'_>) -> Result<u64> {
        let mut copied = 0;
        loop {
            let count = input.read(&mut self.buffer)?;
            if count == 0 {
                return Ok(copied);
            }
            write_all(file, &self.buffer[..count])?;
            copied += count as u64;
        }
    }

    /// Leaves holes where there are only zeros, so that a small archive cannot fill the disk.
    fn copy_sparse(&mut self, input: &mut impl Read, file: BorrowedFd<'_>) -> Result<u64> {
        let mut copied: u64 = 0;
        loop {
            let count = input.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            let data = &self.buffer[..count];
            if data.iter().any(|byte| *byte != 0) {
                rustix::fs::seek(file, rustix::fs::SeekFrom::Start(copied))?;
                write_all(file, data)?;
            }
            copied += count as u64;
        }
        rustix::fs::ftruncate(file, copied)?;
        Ok(copied)
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

    fn set_dir_times(&mut self) {
        for (name, modified) in std::mem::take(&mut self.dir_times) {
            // A later entry may have put something else in its place, with a time of its own.
            if let Some(dir) = self.tree.find_dir(&name) {
                set_times(dir.as_fd(), modified).ok();
            }
        }
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

fn set_times(fd: BorrowedFd<'_>, modified: Timespec) -> Result<()> {
    rustix::fs::futimens(fd, &timestamps(modified)).context("cannot set its time")
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let count = crate::sys::process::retry(|| rustix::io::write(fd, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}
