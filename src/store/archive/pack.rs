//! A tree of files as an archive, while others may be changing it: each file is looked at once, by a
//! descriptor, and read through that. Symbolic links are copied, never followed; devices and FIFOs are never
//! opened; what vanishes on the way is left out.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::io::Errno;
use tar::EntryType;

use crate::store::archive::Entry;
use crate::store::archive::OWNER_XATTR;
use crate::store::archive::Writer;
use crate::store::archive::meta::may_set;
use crate::store::archive::name::quoted;
use crate::store::copy;
use crate::store::copy::Marks;
use crate::sys::path::Reopen;

const BUFFER: usize = 256 << 10;
/// The most that is read of a file without a size, as those of procfs are.
const SIZELESS_MAX: usize = 16 << 20;

/// What becomes of a tree on its way.
pub struct Options<'a> {
    /// `Keep`: overlayfs's marks are written as those of an OCI layer. `Apply`: there are none.
    pub marks: Marks,
    /// Owners are in [`OWNER_XATTR`], since all files are one user's.
    pub owners_recorded: bool,
    /// Times are cut to seconds, as in layers.
    pub whole_seconds: bool,
    /// Paths below the top that stay out.
    pub leaves_out: &'a dyn Fn(&Path) -> bool,
}

impl Options<'_> {
    /// A copy that is as exact as can be.
    pub fn exact(owners_recorded: bool) -> Options<'static> {
        Options {
            marks: Marks::Apply,
            owners_recorded,
            whole_seconds: false,
            leaves_out: &|_| false,
        }
    }
}

/// Writes the file or tree behind a descriptor (O_PATH will do). The first entry is called `name`, a
/// directory with a slash at the end, and all others are below it. With no name there is no entry of a top
/// directory, as in layers.
pub fn tree<W: Write>(
    out: &mut Writer<W>,
    top: BorrowedFd<'_>,
    name: &[u8],
    reopen: &Reopen,
    options: &Options<'_>,
) -> Result<()> {
    let mut pack = Pack {
        out,
        top,
        name,
        reopen,
        options,
        links: HashMap::new(),
        kernel: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    let stat = rustix::fs::fstat(top)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return pack
            .file(top, &stat, name)
            .with_context(|| format!("cannot read {}", quoted(name)));
    }
    if pack.is_of_kernel(top, stat.st_dev) {
        bail!("it is a directory of the kernel's, which has no files to copy");
    }
    pack.directories()
}

struct Pack<'a, W> {
    out: &'a mut Writer<W>,
    top: BorrowedFd<'a>,
    name: &'a [u8],
    reopen: &'a Reopen,
    options: &'a Options<'a>,
    /// The first name in the archive of a file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// File systems by device, and whether they are views of the kernel.
    kernel: HashMap<u64, bool>,
    buffer: Vec<u8>,
}

/// A directory whose header is written.
struct Level {
    path: PathBuf,
    /// What is still to be written of it, the last first.
    names: Vec<CString>,
}

impl<W: Write> Pack<'_, W> {
    /// The walk holds two descriptors, however deep the tree is.
    fn directories(&mut self) -> Result<()> {
        let top = self.open_dir(Path::new(""))?;
        let mut stack = vec![self.enter(top.as_fd(), PathBuf::new())?];
        drop(top);
        while let Some(level) = stack.last_mut() {
            let path = level.path.clone();
            let quote = |path: &Path| quoted(path.as_os_str().as_bytes());
            let dir = match self.open_dir(&path) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                    stack.pop();
                    continue;
                }
                Err(err) => {
                    return Err(err).with_context(|| format!("cannot read {}", quote(&path)));
                }
            };
            let mut below = None;
            while let Some(name) = level.names.pop() {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                below = self
                    .child(dir.as_fd(), &name, &path)
                    .with_context(|| format!("cannot read {}", quote(&path)))?;
                if below.is_some() {
                    break;
                }
            }
            match below {
                Some(below) => stack.push(below),
                None => drop(stack.pop()),
            }
        }
        Ok(())
    }

    fn open_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(self.top, path, flags, Mode::empty(), resolve)
    }

    /// Writes what a directory has by this name; a directory to go into is returned.
    fn child(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Option<Level>> {
        if (self.options.leaves_out)(path) {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file?,
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = self.reopen.open(file.as_fd(), flags)?;
            return self.enter(dir.as_fd(), path.to_owned()).map(Some);
        }
        let full = self.full_name(path);
        if self.options.marks == Marks::Keep {
            if self.mark(&file, &stat, path)? {
                return Ok(None);
            }
            if name.to_bytes().starts_with(b".wh.") {
                bail!("a file with such a name cannot be in a layer, where it hides another");
            }
        }
        self.file(file.as_fd(), &stat, &full)?;
        Ok(None)
    }

    fn full_name(&self, path: &Path) -> Vec<u8> {
        let slash: &[u8] = if self.name.is_empty() { b"" } else { b"/" };
        [self.name, slash, path.as_os_str().as_bytes()].concat()
    }

    /// Writes the header of a directory and lists it.
    fn enter(&mut self, dir: BorrowedFd<'_>, path: PathBuf) -> Result<Level> {
        let stat = rustix::fs::fstat(dir)?;
        let mut name = self.full_name(&path);
        if !name.is_empty() {
            if name.last() != Some(&b'/') {
                name.push(b'/');
            }
            self.entry(Some(dir), &stat, &name, |entry| {
                entry.kind = EntryType::Directory;
            })?;
        }
        if self.options.marks == Marks::Keep && copy::is_opaque(dir) {
            self.out.entry(&Entry {
                name: &[name.as_slice(), b".wh..wh..opq"].concat(),
                ..Entry::default()
            })?;
        }
        let mut names = Vec::new();
        // What the kernel shows at such places is no part of a tree of files.
        if !self.is_of_kernel(dir, stat.st_dev) {
            for entry in Dir::read_from(dir)? {
                let entry = entry?;
                if entry.file_name() != c"." && entry.file_name() != c".." {
                    names.push(entry.file_name().to_owned());
                }
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Level { path, names })
    }

    /// Writes a whiteout of overlayfs as one of a layer; whether it was one.
    fn mark(&mut self, file: &OwnedFd, stat: &Stat, path: &Path) -> Result<bool> {
        let is_mark = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == 0,
            FileType::RegularFile if stat.st_size == 0 => {
                let file = self.reopen.open(file.as_fd(), OFlags::RDONLY)?;
                copy::is_whiteout(file.as_fd())
            }
            _ => false,
        };
        if !is_mark {
            return Ok(false);
        }
        let last = path.file_name().unwrap_or_default();
        let hidden = [b".wh.", last.as_bytes()].concat();
        let name = self.full_name(&path.with_file_name(OsStr::from_bytes(&hidden)));
        self.out.entry(&Entry {
            name: &name,
            ..Entry::default()
        })?;
        Ok(true)
    }

    /// Anything but a directory.
    fn file(&mut self, file: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> Result<()> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                return self.entry(None, stat, name, |entry| {
                    entry.kind = EntryType::Link;
                    entry.link = &first;
                });
            }
            self.links.insert(key, name.to_owned());
        }
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.content(file, stat, name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(file, c"", Vec::new())?;
                self.entry(None, stat, name, |entry| {
                    entry.kind = EntryType::Symlink;
                    entry.link = target.as_bytes();
                })
            }
            FileType::Fifo => self.entry(None, stat, name, |entry| entry.kind = EntryType::Fifo),
            FileType::CharacterDevice => self.entry(None, stat, name, |entry| {
                entry.kind = EntryType::Char;
                entry.device = device;
            }),
            FileType::BlockDevice => self.entry(None, stat, name, |entry| {
                entry.kind = EntryType::Block;
                entry.device = device;
            }),
            // A socket is nothing without who listens on it.
            _ => Ok(()),
        }
    }

    /// A regular file, of the size that it had when it was looked at.
    fn content(&mut self, file: BorrowedFd<'_>, stat: &Stat, name: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = self.reopen.open(file, flags)?;
        if stat.st_size == 0 && self.is_of_kernel(file.as_fd(), stat.st_dev) {
            let bytes = sizeless(file.as_fd())?;
            let size = bytes.len() as u64;
            self.entry(Some(file.as_fd()), stat, name, |entry| entry.size = size)?;
            return Ok(self.out.data(&bytes)?);
        }
        let size = stat.st_size.cast_unsigned();
        self.entry(Some(file.as_fd()), stat, name, |entry| entry.size = size)?;
        while self.out.owed() > 0 {
            let most = usize::try_from(self.out.owed()).unwrap_or(BUFFER);
            let most = most.min(BUFFER);
            let count =
                crate::sys::process::retry(|| rustix::io::read(&file, &mut self.buffer[..most]))?;
            if count == 0 {
                bail!("it became shorter while it was read");
            }
            self.out.data(&self.buffer[..count])?;
        }
        Ok(())
    }

    /// Writes a header; `open` is the file, where it may be read.
    fn entry<'e>(
        &mut self,
        open: Option<BorrowedFd<'_>>,
        stat: &Stat,
        name: &'e [u8],
        change: impl FnOnce(&mut Entry<'e>),
    ) -> Result<()> {
        let (mut xattrs, mut owner) = (Vec::new(), (stat.st_uid, stat.st_gid));
        if self.options.owners_recorded {
            owner = (0, 0);
        }
        if let Some(open) = open {
            xattrs = attributes(open)?;
            if self.options.owners_recorded {
                owner = recorded_owner(open).unwrap_or(owner);
            }
        }
        let nanos = if self.options.whole_seconds {
            0
        } else {
            stat.st_mtime_nsec.cast_signed()
        };
        let mut entry = Entry {
            name,
            mode: stat.st_mode & 0o7777,
            uid: owner.0,
            gid: owner.1,
            modified: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: nanos,
            },
            ..Entry::default()
        };
        change(&mut entry);
        Ok(self.out.entry(&Entry {
            xattrs: &xattrs,
            ..entry
        })?)
    }

    /// Whether a file is of a file system that shows the kernel rather than keeps files.
    fn is_of_kernel(&mut self, file: BorrowedFd<'_>, device: u64) -> bool {
        *self.kernel.entry(device).or_insert_with(|| {
            rustix::fs::fstatfs(file).is_ok_and(|stat| KERNEL.contains(&stat.f_type))
        })
    }
}

/// Linux: linux/magic.h: proc, sysfs, cgroup, cgroup2, devpts, securityfs, debugfs, tracefs, bpf,
/// pstore, efivarfs, binfmt_misc, configfs, selinuxfs, mqueue.
const KERNEL: [i64; 15] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x4249_4e4d,
    0x6265_6570,
    0xf97c_ff8c,
    0x1980_0202,
];

fn sizeless(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while bytes.len() < SIZELESS_MAX {
        let count = crate::sys::process::retry(|| rustix::io::read(file, &mut buffer))?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    Ok(bytes)
}

/// Extended attributes that belong to a file wherever it is.
fn attributes(file: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in copy::attribute_names(file)? {
        if !may_set(name.to_bytes()) {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(file, &name, &mut value) {
            value.truncate(length);
            found.push((name.into_bytes(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn recorded_owner(file: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut value = [0u8; 64];
    let length = rustix::fs::fgetxattr(file, OWNER_XATTR, &mut value).ok()?;
    let text = std::str::from_utf8(&value[..length]).ok()?;
    let mut fields = text.split(':');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
