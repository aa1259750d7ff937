//! One file of systemd's journal, as systemd.io/JOURNAL_FILE_FORMAT has it: objects that refer to each other
//! by their offsets, found by a hash table of all data (`NAME=value`), each of which lists its entries.
//!
//! journald maps the file and adds to it while it is read here: an object is written before anything refers
//! to it. What a damaged file says is believed only as far as it leads on: offsets of a list only grow.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::container::log::journal::hash::Hash;

const SIGNATURE: &[u8] = b"LPKSHHRH";

// Incompatible flags of the header.
const KEYED_HASH: u32 = 4;
const COMPACT: u32 = 16;
/// With compression by xz, lz4 and zstd.
const KNOWN: u32 = 1 | 2 | KEYED_HASH | 8 | COMPACT;

// Types of objects, and how one is compressed.
const DATA: u8 = 1;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;
const ZSTD: u8 = 4;

/// The largest object that is read, and text that comes out of one.
const LARGEST: u64 = 64 * 1024 * 1024;

pub struct JournalFile {
    file: File,
    hash: Hash,
    compact: bool,
    /// Where the hash table of the data is, and how many buckets it has.
    table: (u64, u64),
}

/// One entry: a record.
pub struct Record {
    /// Microseconds since 1970.
    pub time: u64,
    pub number: u64,
    /// The offsets of its data.
    pub data: Vec<u64>,
}

/// What a datum begins with, or all of it.
pub enum Datum {
    Plain(Vec<u8>),
    /// By a method other than zstd.
    Compressed,
}

impl JournalFile {
    pub fn open(path: &Path) -> io::Result<JournalFile> {
        let file = File::open(path)?;
        let mut header = [0; 208];
        file.read_exact_at(&mut header, 0)?;
        let flags = u32_at(&header, 12);
        if &header[..8] != SIGNATURE || flags & !KNOWN != 0 {
            return Err(unfit());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&header[24..40]);
        let keyed = flags & KEYED_HASH != 0;
        Ok(JournalFile {
            file,
            hash: if keyed {
                Hash::Keyed(key)
            } else {
                Hash::Jenkins
            },
            compact: flags & COMPACT != 0,
            table: (u64_at(&header, 104), u64_at(&header, 112) / 16),
        })
    }

    /// The offset of this datum, if there is one.
    pub fn find(&self, datum: &[u8]) -> io::Result<Option<u64>> {
        let (start, buckets) = self.table;
        if buckets == 0 {
            return Ok(None);
        }
        let hash = self.hash.of(datum);
        let bucket: [u8; 16] = self.bytes(start + hash % buckets * 16)?;
        let mut offset = u64_at(&bucket, 0);
        while offset != 0 {
            let head: [u8; 64] = self.object(offset, DATA)?;
            if u64_at(&head, 16) == hash
                && matches!(self.datum(offset, None)?, Datum::Plain(found) if found == datum)
            {
                return Ok(Some(offset));
            }
            offset = later(offset, u64_at(&head, 24))?;
        }
        Ok(None)
    }

    /// How many entries have this datum.
    pub fn count(&self, offset: u64) -> io::Result<u64> {
        let head: [u8; 64] = self.object(offset, DATA)?;
        Ok(u64_at(&head, 56))
    }

    /// The offsets of its entries, the oldest first.
    pub fn entries(&self, offset: u64) -> io::Result<Vec<u64>> {
        let head: [u8; 64] = self.object(offset, DATA)?;
        let count = usize::try_from(u64_at(&head, 56)).unwrap_or(usize::MAX);
        let mut all = vec![u64_at(&head, 40)];
        let mut array = u64_at(&head, 48);
        while array != 0 && all.len() < count {
            let head: [u8; 24] = self.object(array, ENTRY_ARRAY)?;
            let items = self.payload(array, 24, u64_at(&head, 8), None)?;
            all.extend(self.items(&items, 8));
            array = later(array, u64_at(&head, 16))?;
        }
        all.truncate(count);
        // Those at the end of the last array are not there yet.
        all.retain(|offset| *offset != 0);
        Ok(all)
    }

    pub fn record(&self, offset: u64) -> io::Result<Record> {
        let head: [u8; 64] = self.object(offset, ENTRY)?;
        let items = self.payload(offset, 64, u64_at(&head, 8), None)?;
        Ok(Record {
            time: u64_at(&head, 24),
            number: u64_at(&head, 16),
            // Beside each offset is the hash of its datum.
            data: self.items(&items, 16).collect(),
        })
    }

    /// Offsets, each in an item of so many bytes; in compact files always in four.
    fn items<'b>(&self, bytes: &'b [u8], size: usize) -> impl Iterator<Item = u64> + use<'b> {
        let compact = self.compact;
        let size = if compact { 4 } else { size };
        bytes.chunks_exact(size).map(move |item| {
            if compact {
                u64::from(u32_at(item, 0))
            } else {
                u64_at(item, 0)
            }
        })
    }

    /// The text of a datum; of a long one that is not compressed only this much if so asked.
    pub fn datum(&self, offset: u64, limit: Option<u64>) -> io::Result<Datum> {
        let head: [u8; 64] = self.object(offset, DATA)?;
        let start = if self.compact { 72 } else { 64 };
        let limit = limit.filter(|_| head[1] == 0);
        let bytes = self.payload(offset, start, u64_at(&head, 8), limit)?;
        Ok(match head[1] {
            0 => Datum::Plain(bytes),
            ZSTD => {
                let mut text = Vec::new();
                let decoder = zstd::stream::read::Decoder::new(bytes.as_slice())?;
                decoder.take(LARGEST).read_to_end(&mut text)?;
                Datum::Plain(text)
            }
            _ => Datum::Compressed,
        })
    }

    fn payload(
        &self,
        offset: u64,
        start: u64,
        size: u64,
        limit: Option<u64>,
    ) -> io::Result<Vec<u8>> {
        let size = size.checked_sub(start).filter(|size| *size <= LARGEST);
        let size = size.ok_or_else(unfit)?.min(limit.unwrap_or(LARGEST));
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| unfit())?];
        let at = offset.checked_add(start).ok_or_else(unfit)?;
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The beginning of an object, which has to be of this type.
    fn object<const N: usize>(&self, offset: u64, kind: u8) -> io::Result<[u8; N]> {
        let head: [u8; N] = self.bytes(offset)?;
        if head[0] == kind {
            Ok(head)
        } else {
            Err(unfit())
        }
    }

    fn bytes<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// The next offset of a list, or 0 at its end.
fn later(offset: u64, next: u64) -> io::Result<u64> {
    if next == 0 || next > offset {
        Ok(next)
    } else {
        Err(unfit())
    }
}

fn unfit() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it is damaged, or of a newer systemd",
    )
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
