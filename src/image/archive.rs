//! Reading the files of an image archive by name, in any order: a tar (plain or compressed, from
//! a file or a pipe) or a directory. What is in it is hostile: only regular files count, and
//! names are keys, never paths of the host.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tar::EntryType;

use crate::image::unpack::stream;
use crate::image::unpack::stream::Compression;
use crate::image::unpack::stream::Memory;
use crate::store::archive::read::Reader;
use crate::store::atomic::with_space_hint;
use crate::store::dirs::Dirs;
use crate::store::spool;
use crate::store::temp;
use crate::sys::path::open_real;

/// More files than this are no image.
const FILES_MAX: usize = 100_000;
/// Bytes of all their names, which are held in memory.
const NAMES_MAX: usize = 16 << 20;
/// More than this is no image either; decompressed archives are written to disk.
const SIZE_MAX: u64 = 1 << 40;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);
const BLOCK: usize = 512;
const NOT_TAR: &str = "it is no image archive: neither a tar nor a directory";

pub enum Archive {
    Tar {
        file: File,
        files: HashMap<Vec<u8>, Place>,
    },
    Dir(OwnedFd),
}

/// Where a file lies in the tar, or what it is a link to.
#[derive(Clone)]
pub enum Place {
    Data { offset: u64, size: u64 },
    Link(Vec<u8>),
}

/// A part of a file, read by position: several readers do not disturb each other.
pub struct Part {
    file: File,
    offset: u64,
    rest: u64,
}

impl Part {
    pub fn size(&self) -> u64 {
        self.rest
    }

    /// Passes over its first bytes.
    pub fn pass(&mut self, count: u64) {
        let count = count.min(self.rest);
        self.offset += count;
        self.rest -= count;
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive is truncated",
            ));
        }
        self.offset += count as u64;
        self.rest -= count as u64;
        Ok(count)
    }
}

impl Archive {
    pub fn open(dirs: &Dirs, path: &Path) -> Result<Self> {
        // A pipe is waited for, as by `load < PIPE`.
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Self::Dir(file.into()));
        }
        let mut magic = [0; 16];
        let compressed = metadata.is_file() && {
            let count = file.read_at(&mut magic, 0)?;
            Compression::of(&magic[..count]) != Compression::None
        };
        if compressed || !metadata.is_file() {
            return Self::read(dirs, file);
        }
        Self::index(file)
    }

    /// From a stream, which is written to a nameless file first: archives may have their parts
    /// in any order.
    pub fn read<R: Read + Send + 'static>(dirs: &Dirs, input: R) -> Result<Self> {
        let mut input =
            stream::decompressed(input, Memory::ARCHIVE).context("cannot read the archive")?;
        let mut start = Vec::new();
        (&mut input)
            .take(BLOCK as u64)
            .read_to_end(&mut start)
            .context("cannot read the archive")?;
        if start.is_empty() {
            bail!("the archive is empty");
        }
        // Whatever else comes, without end perhaps, is not copied first.
        if !stream::is_tar(&start) || start.iter().all(|byte| *byte == 0) {
            bail!(NOT_TAR);
        }
        let mut spool = temp::nameless_file(&dirs.tmp())?;
        spool::copy(&mut start.chain(input).take(SIZE_MAX), &mut spool)
            .map_err(|err| with_space_hint(err.into()))
            .context("cannot copy the archive into the store")?;
        Self::index(spool)
    }

    fn index(mut file: File) -> Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let size = file.metadata()?.len();
        let mut tar = Reader::new(&file);
        let mut files = HashMap::new();
        let mut names = 0;
        loop {
            // What is said of a bad header is about its blocks, not about the archive.
            let entry = tar.next().map_err(|err| {
                anyhow!(if files.is_empty() {
                    NOT_TAR.to_owned()
                } else {
                    format!("the archive is damaged or truncated: {err:#}")
                })
            })?;
            let Some(entry) = entry else {
                break;
            };
            let place = match entry.kind {
                EntryType::Regular | EntryType::Continuous if !entry.is_sparse => Place::Data {
                    offset: tar.position(),
                    size: entry.size,
                },
                EntryType::Symlink | EntryType::Link => {
                    Place::Link(entry.link().unwrap_or_default().to_vec())
                }
                _ => continue,
            };
            if let Place::Data {
                offset,
                size: length,
            } = place
                && offset.checked_add(length).is_none_or(|end| end > size)
            {
                bail!("the archive is truncated");
            }
            // The last of several by one name counts, as for tar(1).
            let name = clean(&entry.name);
            names += name.len() + entry.link().map_or(0, <[u8]>::len);
            if files.insert(name.clone(), place).is_some() && is_list(&name) {
                let name = String::from_utf8_lossy(&name);
                bail!("it has {name:?} twice, which readers may understand differently");
            }
            if files.len() > FILES_MAX || names > NAMES_MAX {
                bail!("the archive has more than {FILES_MAX} files");
            }
        }
        Ok(Self::Tar { file, files })
    }

    pub fn has(&self, name: &str) -> Result<bool> {
        match self {
            Self::Tar { files, .. } => Ok(files.contains_key(name.as_bytes())),
            // A link is there; who reads it is refused.
            Self::Dir(root) => match open_real(root.as_fd(), Path::new(name), LOOK) {
                Ok(_) => Ok(true),
                Err(err) if err.errno == Errno::NOENT => Ok(false),
                Err(err) => Err(io::Error::from(err.errno))
                    .with_context(|| format!("cannot read {name:?} of the archive")),
            },
        }
    }

    /// A file of the archive.
    pub fn part(&self, name: &str) -> Result<Part> {
        let cannot = || format!("cannot read {name:?} of the archive");
        match self {
            Self::Tar { file, files } => {
                let (offset, size) = look_up(files, name.as_bytes()).with_context(cannot)?;
                Ok(Part {
                    file: file.try_clone().with_context(cannot)?,
                    offset,
                    rest: size,
                })
            }
            Self::Dir(root) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                let file = match open_real(root.as_fd(), Path::new(name), flags) {
                    Err(err) if err.errno == Errno::LOOP => {
                        bail!(
                            "cannot read {name:?} of the archive: there is a symbolic link on the way"
                        )
                    }
                    other => other
                        .map_err(|err| io::Error::from(err.errno))
                        .with_context(cannot)?,
                };
                let stat = rustix::fs::fstat(&file).with_context(cannot)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(anyhow::anyhow!("it is no regular file")).with_context(cannot);
                }
                Ok(Part {
                    file: File::from(file),
                    offset: 0,
                    rest: u64::try_from(stat.st_size).unwrap_or(0),
                })
            }
        }
    }

    /// All bytes of a small file.
    pub fn small(&self, name: &str, size_max: u64) -> Result<Vec<u8>> {
        let mut part = self.part(name)?;
        if part.size() > size_max {
            bail!("{name:?} of the archive is larger than {size_max} bytes");
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {name:?} of the archive"))?;
        Ok(bytes)
    }
}

/// What says which images there are. All else is named by digests, or verified by them.
fn is_list(name: &[u8]) -> bool {
    matches!(name, b"manifest.json" | b"index.json")
}

/// Docker writes a layer that occurs twice as a link to the first; one step is followed.
fn look_up(files: &HashMap<Vec<u8>, Place>, name: &[u8]) -> Result<(u64, u64)> {
    let name = clean(name);
    let place = match files.get(&name) {
        Some(Place::Link(target)) => {
            let dir = match name.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => &name[..=slash],
                None => &[],
            };
            files
                .get(&clean(&[dir, target].concat()))
                .or_else(|| files.get(&clean(target)))
        }
        other => other,
    };
    match place {
        Some(Place::Data { offset, size }) => Ok((*offset, *size)),
        Some(Place::Link(_)) => bail!("it is a link to a link"),
        None => bail!("there is no such file in it"),
    }
}

/// `./a//b/../c` is `a/c`. Only a key, so what leads out of the top is merely not found.
fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
