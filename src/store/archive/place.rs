//! An archive put where somebody wants it, by the rules of cp(1), among files that others may be changing.
//!
//! Everything is made under a name of its own, finished through a descriptor, and then renamed to its place:
//! who reads a file meanwhile has the old one or the new one, and no link that is in the way is followed.
//! Directories that exist keep their owners and modes.

use std::collections::HashSet;
use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tar::EntryType;

use crate::error::WithHint;
use crate::store::archive::meta::Meta;
use crate::store::archive::name::Name;
use crate::store::archive::name::quoted;
use crate::store::archive::read::Entry;
use crate::store::archive::read::Input;
use crate::store::archive::read::Reader;
use crate::store::archive::read::Stream;
use crate::store::atomic;
use crate::store::remove;
use crate::sys::path;
use crate::sys::path::Reopen;

const BUFFER: usize = 256 << 10;
/// Runs of zeros of this length become holes.
const HOLE: usize = 4 << 10;
/// Linux: MAXSYMLINKS.
const LINKS_MAX: usize = 40;

/// Where paths begin.
pub enum Base {
    /// The host's files, with the working directory for relative paths.
    Host,
    /// The root of a container, which no link leads out of.
    Root(OwnedFd),
}

impl Base {
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self {
            Base::Host => rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()),
            Base::Root(root) => {
                path::open_in_root(root.as_fd(), path, flags).map_err(|err| err.errno)
            }
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Base::Root(_))
    }
}

/// Who owns what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Who makes it. A file with set-id bits, which would be set for somebody else, loses them.
    Maker,
    Given {
        uid: u32,
        gid: u32,
    },
    /// As the archive says.
    Kept,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub owner: Owner,
    /// What is no directory may take the place of one, and the other way round.
    pub overwrite: bool,
}

/// What was passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Passed {
    pub devices: u64,
}

/// Puts an archive of one file or tree, as `pack` writes it. `name` is what it is called in a directory;
/// without one the contents of a tree go there.
pub fn put(
    input: impl Read,
    base: &Base,
    path: &Path,
    name: Option<&OsStr>,
    rules: Rules,
    reopen: &Reopen,
) -> Result<Passed> {
    let mut tar = Reader::new(Stream(input));
    // An archive that is cut off has a reason, which its writer tells.
    let Some(first) = tar.next().context("cannot read the archive")? else {
        return Ok(Passed::default());
    };
    let mut place = Place::new(base, rules, reopen);
    if first.kind != EntryType::Directory {
        let at = place_of_file(base, path, name)?;
        place
            .make(&first, &mut tar, &at, None)
            .with_context(|| format!("cannot make {}", quoted(path.as_os_str().as_bytes())))?;
        // To the end, so that its writer ends well.
        while tar.next().context("cannot read the archive")?.is_some() {}
        return Ok(place.passed);
    }
    let (top, made) = place.top_directory(base, path, name)?;
    let made = made.then_some(first.meta);
    place.fill(&mut tar, top, made)
}

/// Puts an archive of anybody's into a directory that exists.
pub fn put_all(
    input: impl Read,
    base: &Base,
    path: &Path,
    rules: Rules,
    reopen: &Reopen,
) -> Result<Passed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let top = base
        .open(path, flags)
        .with_context(|| format!("cannot open directory \"{}\"", path.display()))?;
    let mut tar = Reader::new(Stream(input));
    Place::new(base, rules, reopen).fill(&mut tar, top, None)
}

/// A name in an open directory.
struct At {
    dir: OwnedFd,
    name: OsString,
}

impl At {
    fn stat(&self) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A directory that was made, to be finished when all is in it.
struct Made {
    path: Name,
    inode: (u64, u64),
    meta: Meta,
}

struct Place<'a> {
    rules: Rules,
    reopen: &'a Reopen,
    /// Links that lead from one directory to another inside the root may be part of a path.
    follows: bool,
    passed: Passed,
    made: Vec<Made>,
    buffer: Vec<u8>,
}

impl<'a> Place<'a> {
    fn new(base: &Base, rules: Rules, reopen: &'a Reopen) -> Self {
        Place {
            rules,
            reopen,
            follows: base.is_container(),
            passed: Passed::default(),
            made: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// The directory that a tree goes to, and whether it was made for it.
    fn top_directory(
        &self,
        base: &Base,
        path: &Path,
        name: Option<&OsStr>,
    ) -> Result<(OwnedFd, bool)> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let at = match (base.open(path, directory), name) {
            (Ok(dir), None) => return Ok((dir, false)),
            (Ok(dir), Some(name)) => At {
                dir,
                name: name.to_owned(),
            },
            (Err(Errno::NOENT | Errno::NOTDIR), _) => end_of_links(base, path)?,
            (Err(err), _) => {
                return Err(err).with_context(|| format!("cannot look up \"{}\"", path.display()));
            }
        };
        self.directory(&at)
            .with_context(|| format!("cannot copy to \"{}\"", path.display()))
    }

    /// The directory of this name, and whether it had to be made.
    fn directory(&self, at: &At) -> Result<(OwnedFd, bool)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&at.dir, &at.name, flags, Mode::empty());
        match rustix::fs::mkdirat(&at.dir, &at.name, Mode::RWXU) {
            Ok(()) => return Ok((open()?, true)),
            Err(Errno::EXIST) => {}
            Err(err) => return Err(err.into()),
        }
        match open() {
            Ok(dir) => return Ok((dir, false)),
            Err(Errno::LOOP | Errno::NOTDIR) if self.follows => {
                let path = Path::new(&at.name);
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                if let Ok(dir) = path::open_in_root(at.dir.as_fd(), path, flags) {
                    return Ok((dir, false));
                }
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {}
            Err(err) => return Err(err.into()),
        }
        if !self.rules.overwrite {
            return Err(in_the_way("a directory", "is none", &at.name));
        }
        remove::remove_entry(at.dir.as_fd(), c_name(&at.name)?)?;
        rustix::fs::mkdirat(&at.dir, &at.name, Mode::RWXU)?;
        Ok((open()?, true))
    }

    /// Puts all entries into a directory; `meta` is of that, if it is new.
    fn fill(
        mut self,
        tar: &mut Reader<impl Input>,
        top: OwnedFd,
        meta: Option<Meta>,
    ) -> Result<Passed> {
        if let Some(meta) = meta {
            self.remember(Name::default(), &top, meta)?;
        }
        while let Some(entry) = tar.next().context("cannot read the archive")? {
            let name = quoted(&entry.name);
            self.entry(entry, tar, &top)
                .with_context(|| format!("cannot make {name}"))?;
        }
        for made in std::mem::take(&mut self.made).into_iter().rev() {
            self.finish(&top, &made)
                .with_context(|| format!("cannot finish {}", made.path.display()))?;
        }
        Ok(self.passed)
    }

    fn entry(&mut self, entry: Entry, tar: &mut Reader<impl Input>, top: &OwnedFd) -> Result<()> {
        let path = Name::parse(&entry.name)?;
        let Some((above, last)) = path.split() else {
            // The directory is there already, and is not the archive's to change.
            return Ok(());
        };
        let at = At {
            dir: self.parent(top, &above)?,
            name: OsStr::from_bytes(last).to_owned(),
        };
        if entry.kind != EntryType::Directory {
            return self.make(&entry, tar, &at, Some(top));
        }
        let (dir, made) = self.directory(&at)?;
        if made {
            self.remember(path, &dir, entry.meta)?;
        }
        Ok(())
    }

    /// A directory on the way to an entry, made where the archive did not name it before.
    fn parent(&self, top: &OwnedFd, path: &Name) -> Result<OwnedFd> {
        match self.find(top, path) {
            Err(Errno::NOENT) => {}
            dir => return Ok(dir?),
        }
        let Some((above, last)) = path.split() else {
            bail!("the directory is gone");
        };
        let at = At {
            dir: self.parent(top, &above)?,
            name: OsStr::from_bytes(last).to_owned(),
        };
        let (dir, made) = self.directory(&at)?;
        if made {
            self.reopen.change_mode(dir.as_fd(), Mode::from(0o755))?;
            self.own(dir.as_fd(), None)?;
        }
        Ok(dir)
    }

    fn find(&self, top: &OwnedFd, path: &Name) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if self.follows {
            return path::open_in_root(top.as_fd(), path.path(), flags).map_err(|err| err.errno);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(top, path.path(), flags, Mode::empty(), resolve)
    }

    fn remember(&mut self, path: Name, dir: &OwnedFd, meta: Meta) -> Result<()> {
        let stat = rustix::fs::fstat(dir)?;
        self.made.push(Made {
            path,
            inode: (stat.st_dev, stat.st_ino),
            meta,
        });
        Ok(())
    }

    /// Gives a directory its owner, mode and time, if it still is the one that was made.
    fn finish(&self, top: &OwnedFd, made: &Made) -> Result<()> {
        let Ok(dir) = self.find(top, &made.path) else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&dir)?;
        if (stat.st_dev, stat.st_ino) != made.inode {
            return Ok(());
        }
        let dir = self
            .reopen
            .open(dir.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.attributes(dir.as_fd(), &made.meta)
    }

    /// Anything but a directory. Targets of hard links are looked up below `top`.
    fn make(
        &mut self,
        entry: &Entry,
        tar: &mut Reader<impl Input>,
        at: &At,
        top: Option<&OwnedFd>,
    ) -> Result<()> {
        if matches!(entry.kind, EntryType::Char | EntryType::Block) {
            self.passed.devices += 1;
            return Ok(());
        }
        if at.stat()?.is_some_and(|stat| is_dir(&stat)) {
            if !self.rules.overwrite {
                return Err(in_the_way("a file", "is a directory", &at.name));
            }
            remove::remove_entry(at.dir.as_fd(), c_name(&at.name)?)?;
        }
        let temp = At {
            dir: at.dir.try_clone()?,
            name: atomic::temp_name().into_os_string(),
        };
        let done = self
            .make_new(entry, tar, &temp, top)
            .and_then(|()| self.move_to(&temp, at));
        // Linux: a rename to another name of the same file does nothing (rename(2)).
        rustix::fs::unlinkat(&temp.dir, &temp.name, AtFlags::empty()).ok();
        done
    }

    fn make_new(
        &mut self,
        entry: &Entry,
        tar: &mut Reader<impl Input>,
        at: &At,
        top: Option<&OwnedFd>,
    ) -> Result<()> {
        let meta = &entry.meta;
        match entry.kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file = rustix::fs::openat(&at.dir, &at.name, flags, mode)?;
                while let Some((offset, count)) = tar.data(&mut self.buffer)? {
                    write_data(file.as_fd(), &self.buffer[..count], offset)?;
                }
                rustix::fs::ftruncate(&file, entry.size)?;
                self.attributes(file.as_fd(), meta)
            }
            EntryType::Symlink => {
                let target = entry.link()?;
                rustix::fs::symlinkat(OsStr::from_bytes(target), &at.dir, &at.name)?;
                self.attributes_of_closed(at, FileType::Symlink, meta)
            }
            EntryType::Fifo => {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(&at.dir, &at.name, FileType::Fifo, mode, 0)?;
                self.attributes_of_closed(at, FileType::Fifo, meta)
            }
            EntryType::Link => {
                let target = Name::parse(entry.link()?)?;
                let Some((top, (above, last))) = top.zip(target.split()) else {
                    bail!("it is a link to nothing");
                };
                let dir = self.find(top, &above)?;
                let last = OsStr::from_bytes(last);
                rustix::fs::linkat(&dir, last, &at.dir, &at.name, AtFlags::empty())
                    .with_context(|| format!("cannot link it to {}", target.display()))
            }
            other => bail!(
                "entries of type {:?} are unknown",
                char::from(other.as_byte())
            ),
        }
    }

    fn move_to(&mut self, temp: &At, at: &At) -> Result<()> {
        match rustix::fs::renameat(&temp.dir, &temp.name, &at.dir, &at.name) {
            // Linux: what is mounted on a name keeps it (rename(2)), as a file that a container has from its
            // host. Its bytes can be changed.
            Err(Errno::BUSY) => self.rewrite(temp, at).context("it is a mount"),
            result => Ok(result?),
        }
    }

    /// Writes the bytes of a new file into the one that is there.
    fn rewrite(&mut self, temp: &At, at: &At) -> Result<()> {
        let open = |at: &At| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&at.dir, &at.name, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                bail!("only files can take the place of files there");
            }
            Ok(file)
        };
        let (from, to) = (open(temp)?, open(at)?);
        let from = self.reopen.open(from.as_fd(), OFlags::RDONLY)?;
        let to = self
            .reopen
            .open(to.as_fd(), OFlags::WRONLY | OFlags::TRUNC)?;
        copy(&mut std::fs::File::from(from), to.as_fd(), &mut self.buffer)?;
        Ok(())
    }

    /// Owner, mode, extended attributes and times of an open file or directory, in this order: a change
    /// of owner drops set-id bits and file capabilities.
    fn attributes(&self, file: BorrowedFd<'_>, meta: &Meta) -> Result<()> {
        self.own(file, Some(meta))?;
        rustix::fs::fchmod(file, self.mode(meta)).context("cannot set its mode")?;
        for (key, value) in &meta.xattrs {
            if self.rules.owner == Owner::Maker && !key.starts_with(b"user.") {
                continue;
            }
            match rustix::fs::fsetxattr(file, key.as_slice(), value, XattrFlags::empty()) {
                // A file system without them, or file capabilities where these may not be given.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(err) => {
                    return Err(err).with_context(|| {
                        format!("cannot set its extended attribute {}", quoted(key))
                    });
                }
            }
        }
        rustix::fs::futimens(file, &times(meta)).context("cannot set its time")
    }

    /// The same of a symbolic link or FIFO that was just made; what has taken its place meanwhile is
    /// left as it is.
    fn attributes_of_closed(&self, at: &At, kind: FileType, meta: &Meta) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&at.dir, &at.name, flags, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != kind {
            bail!("something else has taken its place");
        }
        self.own(file.as_fd(), Some(meta))?;
        if kind == FileType::Fifo {
            self.reopen.change_mode(file.as_fd(), self.mode(meta))?;
        }
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&at.dir, &at.name, &times(meta), nofollow)
            .context("cannot set its time")
    }

    fn mode(&self, meta: &Meta) -> Mode {
        match self.rules.owner {
            Owner::Maker => Mode::from_raw_mode(meta.mode & 0o1777),
            Owner::Given { .. } | Owner::Kept => Mode::from_raw_mode(meta.mode),
        }
    }

    fn own(&self, file: BorrowedFd<'_>, meta: Option<&Meta>) -> Result<()> {
        let (uid, gid) = match (self.rules.owner, meta) {
            (Owner::Maker, _) | (Owner::Kept, None) => return Ok(()),
            (Owner::Given { uid, gid }, _) => (uid, gid),
            (Owner::Kept, Some(meta)) => (meta.uid, meta.gid),
        };
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match rustix::fs::chownat(file, c"", user, group, AtFlags::EMPTY_PATH) {
            // Linux: EINVAL for an id that the user namespace does not map.
            Err(Errno::INVAL) => Err(anyhow!(
                "cannot give it to uid {uid} and gid {gid}: the container does not have these ids"
            )
            .hint("leave out `--archive=false`: the files then belong to the container's user")),
            result => result.context("cannot set its owner"),
        }
    }
}

/// Where a file goes: to the path, over the file that is there, or into the directory that is there.
fn place_of_file(base: &Base, path: &Path, name: Option<&OsStr>) -> Result<At> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match (base.open(path, directory), name) {
        (Ok(dir), Some(name)) => Ok(At {
            dir,
            name: name.to_owned(),
        }),
        (Err(Errno::NOENT | Errno::NOTDIR), _) if ends_as_directory(path) => Err(anyhow!(
            "cannot copy to \"{}\": there is no such directory",
            path.display()
        )),
        (Err(Errno::NOENT | Errno::NOTDIR), _) => end_of_links(base, path),
        (Ok(_), None) => bail!("cannot copy a file onto \"{}\"", path.display()),
        (Err(err), _) => Err(err).with_context(|| format!("cannot look up \"{}\"", path.display())),
    }
}

fn in_the_way(what: &str, but: &str, name: &OsStr) -> anyhow::Error {
    anyhow!(
        "cannot put {what} where \"{}\" {but}",
        Path::new(name).display()
    )
    .hint("`--overwrite` removes what is in the way")
}

fn c_name(name: &OsStr) -> Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}

/// `a/` and `a/.` can only be directories.
fn ends_as_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"."
}

/// The name that a path ends at, which may be free: a link in the last place leads on, also one to
/// nothing, and stays in the base.
fn end_of_links(base: &Base, path: &Path) -> Result<At> {
    let mut path = path.to_owned();
    let mut seen = HashSet::new();
    for _ in 0..LINKS_MAX {
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
            _ if base.is_container() => PathBuf::from("/"),
            _ => PathBuf::from("."),
        };
        let name = path
            .file_name()
            .with_context(|| format!("\"{}\" names no file", path.display()))?;
        let dir = base
            .open(&above, OFlags::PATH | OFlags::DIRECTORY)
            .with_context(|| format!("cannot open directory \"{}\"", above.display()))?;
        let Ok(to) = rustix::fs::readlinkat(&dir, name, Vec::new()) else {
            return Ok(At {
                dir,
                name: name.to_owned(),
            });
        };
        path = above.join(OsStr::from_bytes(to.as_bytes()));
        if !seen.insert(path.clone()) {
            break;
        }
    }
    Err(Errno::LOOP).with_context(|| format!("cannot look up \"{}\"", path.display()))
}

fn times(meta: &Meta) -> Timestamps {
    Timestamps {
        last_access: meta.modified,
        last_modification: meta.modified,
    }
}

/// Copies to the end.
fn copy(input: &mut impl Read, file: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<()> {
    let mut copied: u64 = 0;
    loop {
        let count = input.read(buffer)?;
        if count == 0 {
            rustix::fs::ftruncate(file, copied)?;
            return Ok(());
        }
        write_data(file, &buffer[..count], copied)?;
        copied += count as u64;
    }
}

/// Writes but what is only zeros, which becomes a hole, so that a small archive cannot fill the disk.
fn write_data(file: BorrowedFd<'_>, bytes: &[u8], start: u64) -> Result<()> {
    let is_zero = |chunk: &[u8]| chunk.iter().all(|byte| *byte == 0);
    let mut at = 0;
    for run in bytes
        .chunks(HOLE)
        .collect::<Vec<_>>()
        .chunk_by(|one, next| is_zero(one) == is_zero(next))
    {
        let length: usize = run.iter().map(|chunk| chunk.len()).sum();
        if !is_zero(run[0]) {
            let bytes = &bytes[at..at + length];
            write_at(file, bytes, start + at as u64).map_err(atomic::with_space_hint)?;
        }
        at += length;
    }
    Ok(())
}

fn write_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let count = crate::sys::process::retry(|| rustix::io::pwrite(file, bytes, at))?;
        bytes = &bytes[count..];
        at += count as u64;
    }
    Ok(())
}
