//! The directory that a layer is unpacked into. Everything is done by descriptors: a directory is
//! looked up below the root with openat2(2) RESOLVE_IN_ROOT, and the last part of a name is never
//! followed, so that no entry can reach what another entry's symlink points to outside.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::WithHint;
use crate::store::archive::name::Name;
use crate::store::archive::name::quoted;
use crate::store::remove;
use crate::sys::path::open_in_root;

/// Overlayfs mounted with `userxattr` reads this from lower directories: "y" hides the layers below.
const OPAQUE_XATTR: &str = "user.overlay.opaque";

pub struct Tree {
    root: OwnedFd,
    /// The directory that was looked up last: entries come directory by directory.
    last: Option<(Name, Rc<OwnedFd>)>,
    /// Directories that were made on the way to something.
    pub made: u64,
}

impl Tree {
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root,
            last: None,
            made: 0,
        }
    }

    /// A directory, made with its parents where it does not exist, for use as `dirfd`.
    pub fn dir(&mut self, name: &Name) -> Result<Rc<OwnedFd>> {
        if let Some((last, dir)) = &self.last
            && last == name
        {
            return Ok(Rc::clone(dir));
        }
        let dir = Rc::new(self.find_or_make_dir(name)?);
        self.last = Some((name.clone(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn find_or_make_dir(&mut self, name: &Name) -> Result<OwnedFd> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let look_up = |path: &Path| match open_in_root(self.root.as_fd(), path, directory) {
            Ok(dir) => Ok(Some(dir)),
            Err(err) if matches!(err.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
            // Without the name, which may be long.
            Err(err) => Err(err.errno),
        };
        if let Some(dir) = look_up(name.path())? {
            return Ok(dir);
        }
        // Step by step, so that a long name costs no more than its length.
        let flags = directory | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = rustix::fs::openat(&self.root, c".", flags, Mode::empty())?;
        for (path, last) in name.steps() {
            let open = |dir: &OwnedFd| rustix::fs::openat(dir, last, flags, Mode::empty());
            let found = match open(&dir) {
                Ok(below) => Some(below),
                Err(Errno::NOENT) => None,
                // Maybe a link to one.
                Err(Errno::NOTDIR) => look_up(path)?,
                Err(err) => return Err(err.into()),
            };
            dir = if let Some(below) = found {
                below
            } else {
                make_dir_or_take(dir.as_fd(), last, Mode::from_raw_mode(0o755)).with_context(
                    || {
                        format!(
                            "cannot create directory {}",
                            quoted(path.as_os_str().as_bytes())
                        )
                    },
                )?;
                self.made += 1;
                open(&dir)?
            };
        }
        Ok(dir)
    }

    /// The directory of a name and its last part.
    pub fn parent<'a>(&mut self, name: &'a Name) -> Result<(Rc<OwnedFd>, &'a [u8])> {
        match name.split() {
            Some((above, last)) => Ok((self.dir(&above)?, last)),
            None => bail!("the root of a layer can only be a directory"),
        }
    }

    /// The root itself, or a directory of this name that is there already, or is made.
    pub fn make_dir(&mut self, name: &Name) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if name.is_root() {
            return Ok(rustix::fs::openat(&self.root, c".", flags, Mode::empty())?);
        }
        let (parent, last) = self.parent(name)?;
        let made = rustix::fs::mkdirat(&*parent, last, Mode::RWXU);
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = stat(parent.as_fd(), last)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    self.clear(parent.as_fd(), last)?;
                    rustix::fs::mkdirat(&*parent, last, Mode::RWXU)?;
                    if is_whiteout(&stat) {
                        set_opaque(parent.as_fd(), last)?;
                    }
                }
            }
            Err(err) => return Err(err.into()),
        }
        Ok(rustix::fs::openat(&*parent, last, flags, Mode::empty())?)
    }

    /// A new empty file, in place of whatever has the name.
    pub fn make_file(&mut self, name: &Name) -> Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.make(name, |parent, last| {
            rustix::fs::openat(parent, last, flags, Mode::RUSR | Mode::WUSR)
        })
    }

    pub fn make_symlink(&mut self, name: &Name, target: &[u8]) -> Result<()> {
        self.make(name, |parent, last| {
            rustix::fs::symlinkat(target, parent, last)
        })
    }

    pub fn make_fifo(&mut self, name: &Name, mode: Mode) -> Result<()> {
        self.make(name, |parent, last| {
            rustix::fs::mknodat(parent, last, FileType::Fifo, mode, 0)
        })
    }

    /// A second name for a file of this layer. A symlink gets the second name itself.
    pub fn make_hard_link(&mut self, name: &Name, target: &Name) -> Result<()> {
        if name == target {
            return Ok(());
        }
        let (target_dir, target_last) = self.parent(target)?;
        let found = stat(target_dir.as_fd(), target_last)
            .with_context(|| format!("cannot find its target {}", target.display()))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
            _ => bail!(
                "its target {} is no file that can have two names",
                target.display()
            ),
        }
        let (parent, last) = self.parent(name)?;
        if let Ok(existing) = stat(parent.as_fd(), last)
            && (existing.st_ino, existing.st_dev) == (found.st_ino, found.st_dev)
        {
            return Ok(());
        }
        self.make(name, |parent, last| {
            rustix::fs::linkat(&*target_dir, target_last, parent, last, AtFlags::empty())
        })
    }

    /// Hides a file of the layers below, unless this layer has one of its own by that name.
    pub fn make_whiteout(&mut self, dir: &Name, hidden: &[u8]) -> Result<()> {
        let parent = self.dir(dir)?;
        // Linux: a character device 0:0 is overlayfs's whiteout, and anybody may make one
        // (since 5.8, a3c751a50fe6 "vfs: allow unprivileged whiteout creation").
        match rustix::fs::mknodat(
            &*parent,
            hidden,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = stat(parent.as_fd(), hidden)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    set_opaque(parent.as_fd(), hidden)?;
                }
                Ok(())
            }
            Err(err) => Err(anyhow!(err))
                .with_context(|| format!("cannot create the whiteout of {}", quoted(hidden))),
        }
    }

    /// Hides everything of the layers below in a directory.
    pub fn make_opaque(&mut self, name: &Name) -> Result<()> {
        let dir = self.dir(name)?;
        set_opaque(dir.as_fd(), b".")
    }

    /// A directory of this name, if it still is one, not through symlinks.
    pub fn find_dir(&self, name: &Name) -> Option<OwnedFd> {
        use rustix::fs::ResolveFlags;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, name.path(), flags, Mode::empty(), resolve).ok()
    }

    /// Makes something that must be new; what has the name already is removed first.
    fn make<T>(
        &mut self,
        name: &Name,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T> {
        let (parent, last) = self.parent(name)?;
        match make(parent.as_fd(), last) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        self.clear(parent.as_fd(), last)?;
        Ok(make(parent.as_fd(), last)?)
    }

    fn clear(&mut self, parent: BorrowedFd<'_>, last: &[u8]) -> Result<()> {
        // The directory that was looked up last may be below what goes.
        self.last = None;
        let name = std::ffi::CString::new(last)?;
        Ok(remove::remove_entry(parent, name)?)
    }
}

fn stat(dir: BorrowedFd<'_>, last: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, last, AtFlags::SYMLINK_NOFOLLOW)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// A directory on the way to an entry: there, or made, or made in place of its own whiteout.
fn make_dir_or_take(parent: BorrowedFd<'_>, last: &[u8], mode: Mode) -> Result<()> {
    match rustix::fs::mkdirat(parent, last, mode) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(err) => return Err(err.into()),
    }
    if !is_whiteout(&stat(parent, last)?) {
        bail!("there is something else by that name");
    }
    rustix::fs::unlinkat(parent, last, AtFlags::empty())?;
    rustix::fs::mkdirat(parent, last, mode)?;
    set_opaque(parent, last)
}

fn set_opaque(parent: BorrowedFd<'_>, last: &[u8]) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, last, flags, Mode::empty())?;
    rustix::fs::fsetxattr(&dir, OPAQUE_XATTR, b"y", XattrFlags::empty())
        .context("cannot set user.overlay.opaque")
        .hint("keep the store on a file system with user extended attributes, such as ext4, xfs or btrfs")
}
