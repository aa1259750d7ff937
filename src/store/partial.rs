//! A blob that is coming: `blobs/<algorithm>/.part-<digits>`, locked by who writes it. What an interrupted
//! command leaves of it is where the next one goes on.

use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::atomic::with_space_hint;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::sys::writeback;

const PREFIX: &str = ".part-";
const BUFFER: usize = 256 << 10;
/// Written to disk while the next come, and not all at the end.
const WRITTEN_EARLY: u64 = 8 << 20;

/// A blob that is not whole, and nobody else's. Dropped, it stays where there is something in it, unless it
/// was given up.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    lock: Lock,
    length: u64,
    /// The kernel has begun to write so many to disk.
    begun: u64,
    /// Its bytes are of use to nobody, or have a place of their own.
    done: bool,
}

impl Partial {
    /// Of the blob with this digest. Waits for whoever else is writing it.
    pub fn open(dirs: &Dirs, digest: &Digest) -> Result<Self> {
        let parent = dirs.blobs().join(digest.algorithm().name());
        Self::at(parent.join(format!("{PREFIX}{}", digest.hex())))
    }

    /// Of a blob whose digest nobody has told; swept like every temporary file.
    pub fn unnamed(dirs: &Dirs) -> Result<Self> {
        let parent = dirs.blobs().join(Algorithm::Sha256.name());
        let mut partial = Self::at(parent.join(atomic::temp_name()))?;
        partial.done = true;
        Ok(partial)
    }

    fn at(path: PathBuf) -> Result<Self> {
        let lock = Lock::exclusive(&path)?;
        let mut file = lock.file();
        let length = file
            .seek(SeekFrom::End(0))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            path,
            lock,
            length,
            begun: length,
            done: false,
        })
    }

    /// The bytes that are there.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = self.lock.file();
        file.write_all(bytes)
            .map_err(|err| with_space_hint(err.into()))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.length += bytes.len() as u64;
        if self.length - self.begun >= WRITTEN_EARLY {
            writeback::begin(self.lock.as_fd(), self.begun, self.length - self.begun);
            self.begun = self.length;
        }
        Ok(())
    }

    /// Gives all bytes that are there.
    pub fn replay(&self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut offset = 0;
        while offset < self.length {
            let count = self
                .lock
                .file()
                .read_at(&mut buffer, offset)
                .with_context(|| format!("cannot read {}", self.path.display()))?;
            anyhow::ensure!(count > 0, "{} has become shorter", self.path.display());
            sink(&buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    }

    /// All over again.
    pub fn clear(&mut self) -> Result<()> {
        let mut file = self.lock.file();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .with_context(|| format!("cannot empty {}", self.path.display()))?;
        self.length = 0;
        self.begun = 0;
        Ok(())
    }

    /// The file, to be read from its beginning.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }

    /// Gives it up: it is removed with this value.
    pub fn give_up(&mut self) {
        self.done = true;
    }

    /// Makes its bytes durable, unless a sync of the file system with this number has done so.
    pub fn sync_beside(&self, device: u64) -> Result<()> {
        let file = self.lock.file();
        let synced = file.metadata().and_then(|metadata| {
            if metadata.dev() == device {
                return Ok(());
            }
            file.sync_all()
        });
        synced
            .map_err(|err| with_space_hint(err.into()))
            .with_context(|| format!("cannot sync {}", self.path.display()))
    }

    /// The blob is whole, verified and durable.
    pub fn move_to(mut self, place: &Path) -> Result<()> {
        rustix::fs::fchmod(self.lock.as_fd(), atomic::OPEN).context("cannot set its mode")?;
        std::fs::rename(&self.path, place)
            .with_context(|| format!("cannot create {}", place.display()))?;
        // Its old name is free, and may be another's by now.
        self.path = PathBuf::new();
        self.done = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if (self.done || self.length == 0) && !self.path.as_os_str().is_empty() {
            // One that stays is removed by a collection.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Removes those that nobody writes and that have not been written to for so long.
pub fn sweep(dir: &Path, age_min: Duration) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Some(lock) = Lock::try_exclusive(&entry.path())? else {
            continue;
        };
        let modified = lock.file().metadata()?.modified()?;
        if modified.elapsed().is_ok_and(|age| age >= age_min) {
            lock.remove();
        }
    }
    Ok(())
}

/// Whether a file in a directory of blobs is one of these.
pub fn is_partial(name: &str) -> bool {
    name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn names(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_is_left_is_gone_on_with() {
        let base = scratch("partial");
        let dirs = Dirs::at(base.path()).unwrap();
        let digest = Digest::sha256_of(b"hello");
        let dir = dirs.blobs().join("sha256");
        let mut first = Partial::open(&dirs, &digest).unwrap();
        first.append(b"hel").unwrap();
        drop(first);
        let mut second = Partial::open(&dirs, &digest).unwrap();
        assert_eq!(second.length(), 3);
        // In use: not swept.
        sweep(&dir, Duration::ZERO).unwrap();
        second.append(b"lo").unwrap();
        let mut bytes = Vec::new();
        let mut sink = |more: &[u8]| {
            bytes.extend_from_slice(more);
            Ok(())
        };
        second.replay(&mut sink).unwrap();
        assert_eq!(bytes, b"hello");
        second.move_to(&dir.join(digest.hex())).unwrap();
        assert_eq!(std::fs::read(dir.join(digest.hex())).unwrap(), b"hello");
        assert_eq!(names(&dir), 1);
    }

    #[test]
    fn what_is_empty_given_up_or_old_goes() {
        let base = scratch("partial-gone");
        let dirs = Dirs::at(base.path()).unwrap();
        let digest = Digest::sha256_of(b"hello");
        let dir = dirs.blobs().join("sha256");
        drop(Partial::open(&dirs, &digest).unwrap());
        assert_eq!(names(&dir), 0);
        let mut partial = Partial::open(&dirs, &digest).unwrap();
        partial.append(b"x").unwrap();
        partial.give_up();
        drop(partial);
        assert_eq!(names(&dir), 0);
        let mut partial = Partial::open(&dirs, &digest).unwrap();
        partial.append(b"x").unwrap();
        partial.clear().unwrap();
        partial.append(b"y").unwrap();
        drop(partial);
        sweep(&dir, Duration::from_hours(1)).unwrap();
        assert_eq!(names(&dir), 1);
        sweep(&dir, Duration::ZERO).unwrap();
        assert_eq!(names(&dir), 0);
    }
}
