//! Reading a tar archive that anybody may have made, as the engines that read layers do (Go's archive/tar),
//! so that one archive is one tree everywhere. Where readers disagree about what an archive holds, it is refused.
//!
//! | form | what is read of it |
//! |---|---|
//! | ustar, v7, GNU | all fields; numbers octal or base-256; blank ones count as 0 |
//! | PAX (`x`) | path, linkpath, size, uid, gid, mtime, SCHILY.xattr.*, GNU.sparse.*; they win over the header's |
//! | PAX (`g`) | nothing: no engine applies global records to layers |
//! | GNU (`L`, `K`) | the long name and target; they win over PAX |
//! | sparse | GNU's old form, and PAX 0.0, 0.1 and 1.0 |
//!
//! Of what describes an entry no more than [`EXTENSION_MAX`] bytes each are held, and of its bytes none.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Timespec;
use tar::EntryType;

use crate::store::archive::BLOCK;
use crate::store::archive::meta::Meta;
use crate::store::archive::meta::id;
use crate::store::archive::read::header::Header;
use crate::store::archive::read::pax::Records;
use crate::store::archive::read::sparse::Map;

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

/// Go's archive/tar allows as much for a long name, the records of an entry, and its sparse map.
const EXTENSION_MAX: u64 = 1 << 20;

/// What an archive is read from.
pub trait Input: Read {
    /// Passes over so many bytes, or those that there are.
    fn skip(&mut self, count: u64) -> io::Result<u64>
    where
        Self: Sized,
    {
        io::copy(&mut self.take(count), &mut io::sink())
    }
}

impl<I: Input> Input for &mut I {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        (**self).skip(count)
    }
}

impl Input for &[u8] {}

/// A file, read from where it is.
impl Input for &File {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let start = self.stream_position()?;
        let end = start.saturating_add(count).min(self.metadata()?.len());
        self.seek(SeekFrom::Start(end))?;
        Ok(end.saturating_sub(start))
    }
}

/// Anything that can only be read.
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Input for Stream<R> {}

/// One entry, without its bytes.
#[derive(Debug)]
pub struct Entry {
    pub kind: EntryType,
    pub name: Vec<u8>,
    /// What a symbolic or hard link leads to.
    link: Vec<u8>,
    /// Of the file, holes included. What is no file has no bytes, whatever its header says.
    pub size: u64,
    /// The archive has not all of its bytes in one piece.
    pub is_sparse: bool,
    pub meta: Meta,
}

impl Entry {
    pub fn link(&self) -> Result<&[u8]> {
        match self.link.as_slice() {
            b"" => bail!("it is a link without a target"),
            link if link.contains(&0) => bail!("its target holds a NUL byte"),
            link => Ok(link),
        }
    }
}

/// Goes through an archive, entry by entry.
pub struct Reader<I> {
    input: I,
    /// Bytes of the current entry that are still in the input, and those between them and the next header.
    rest: u64,
    padding: u64,
    position: u64,
    map: Map,
}

/// What came in front of an entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.records.is_none()
    }
}

impl<I: Input> Reader<I> {
    pub fn new(input: I) -> Self {
        Self {
            input,
            rest: 0,
            padding: 0,
            position: 0,
            map: Map::whole(0),
        }
    }

    /// How far in the input it is: after `next`, where the bytes of that entry begin.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; what is behind the last one is nobody's.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.next_header()? else {
                if !extensions.is_empty() {
                    bail!("the tar ends where it announced an entry");
                }
                return Ok(None);
            };
            let again = match header.kind {
                EntryType::GNULongName => {
                    let text = self.long_text()?;
                    extensions.name.replace(text).is_some()
                }
                EntryType::GNULongLink => {
                    let text = self.long_text()?;
                    extensions.link.replace(text).is_some()
                }
                EntryType::XHeader => {
                    let records = Records::parse(&self.extension()?)?;
                    extensions.records.replace(records).is_some()
                }
                EntryType::XGlobalHeader => !extensions.is_empty(),
                _ => return self.entry(header, extensions).map(Some),
            };
            if again {
                bail!("the tar describes one entry twice");
            }
        }
    }

    /// The next bytes of the entry's file, and where in it they belong; what is left out between them is
    /// zeros. `None` when there are no more.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<Option<(u64, usize)>> {
        let Some((offset, most)) = self.map.next() else {
            return Ok(None);
        };
        let most = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = read(&mut self.input, &mut buffer[..most])?;
        if count == 0 {
            return Err(cut_off(self.rest));
        }
        self.passed(count as u64);
        self.map.advance(count as u64);
        Ok(Some((offset, count)))
    }

    fn entry(&mut self, header: Header, extensions: Extensions) -> Result<Entry> {
        let records = extensions.records.unwrap_or_default();
        let mut entry = Entry {
            kind: header.kind,
            name: extensions.name.or(records.path).unwrap_or(header.name),
            link: extensions.link.or(records.link).unwrap_or(header.link),
            size: 0,
            is_sparse: header.sparse.is_some() || records.sparse.is_some(),
            meta: Meta {
                uid: id(records.uid.unwrap_or(header.uid)).context("cannot read its uid")?,
                gid: id(records.gid.unwrap_or(header.gid)).context("cannot read its gid")?,
                mode: header.mode,
                modified: records.modified.unwrap_or(Timespec {
                    tv_sec: header.modified,
                    tv_nsec: 0,
                }),
                xattrs: records.xattrs,
            },
        };
        self.begin(records.size.unwrap_or(header.size))?;
        match entry.kind {
            // Before POSIX, a directory was a file whose name ends in a slash.
            EntryType::Regular if header.is_old && entry.name.ends_with(b"/") => {
                entry.kind = EntryType::Directory;
                self.begin(0)?;
            }
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => self.begin(0)?,
            _ => {}
        }
        if let Some(old) = header.sparse {
            self.map = self.old_map(old)?;
        } else if let Some(sparse) = records.sparse {
            if entry.kind != EntryType::Regular {
                bail!("the tar has a sparse file that is no file");
            }
            if let Some(name) = sparse.name.clone() {
                entry.name = name;
            }
            self.map = self.pax_map(sparse)?;
        }
        if self.map.stored() != self.rest {
            bail!("the tar has other bytes of a sparse file than its map says");
        }
        entry.size = self.map.size();
        Ok(entry)
    }

    /// Sets out to read so many bytes, and what fills their last block.
    fn begin(&mut self, size: u64) -> Result<()> {
        let end = size.checked_next_multiple_of(BLOCK as u64);
        self.padding = end.context("the tar has a file of more bytes than can be")? - size;
        self.rest = size;
        self.map = Map::whole(size);
        Ok(())
    }

    fn next_header(&mut self) -> Result<Option<Header>> {
        let rest = self.rest.saturating_add(self.padding);
        let skipped = if rest == 0 { 0 } else { self.input.skip(rest)? };
        self.position += skipped;
        // The last block may be cut short: Go's reader takes that too.
        if skipped < self.rest {
            return Err(cut_off(self.rest - skipped));
        }
        self.begin(0)?;
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(block) if block.iter().any(|byte| *byte != 0) => {
                    bail!("the tar goes on after its end")
                }
                _ => Ok(None),
            };
        }
        let header = Header::parse(&block)?;
        self.begin(header.size)?;
        Ok(Some(header))
    }

    /// `None` where the input ends.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match read(&mut self.input, &mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => bail!("the tar is cut off in a header"),
                count => filled += count,
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    /// All bytes of an entry that describes another one.
    fn extension(&mut self) -> Result<Vec<u8>> {
        if self.rest > EXTENSION_MAX {
            bail!(
                "the tar describes an entry with {} bytes, and {EXTENSION_MAX} are allowed",
                self.rest
            );
        }
        let mut bytes = Vec::new();
        let count = (&mut self.input).take(self.rest).read_to_end(&mut bytes)? as u64;
        self.passed(count);
        if self.rest > 0 {
            return Err(cut_off(self.rest));
        }
        Ok(bytes)
    }

    fn long_text(&mut self) -> Result<Vec<u8>> {
        let mut text = self.extension()?;
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    fn passed(&mut self, count: u64) {
        self.rest -= count;
        self.position += count;
    }
}

fn cut_off(missing: u64) -> anyhow::Error {
    anyhow::anyhow!("the tar ends {missing} bytes too early")
}

fn read(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
