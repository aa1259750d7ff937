//! Tar archives of directory trees, both ways, by descriptors: `pack` reads a tree that others may be
//! changing, `place` puts an archive where somebody wants it, and neither leaves what it was given;
//! `changes` tells what a layer changes.
//!
//! The form is that of POSIX (ustar) with PAX records for fractions of a second and extended attributes. Long
//! names and large numbers are as GNU tar began it and everybody reads it.

pub mod changes;
pub mod meta;
pub mod name;
pub mod pack;
pub mod place;
pub mod read;

use std::io;
use std::io::Write;

use rustix::fs::Timespec;
use tar::EntryType;

/// Keeps the owner and mode of a file where they cannot be set: `uid:gid:mode`, as fuse-overlayfs
/// and containers/storage write it. Absent, the owner is 0:0.
pub const OWNER_XATTR: &str = "user.containers.override_stat";

const BLOCK: usize = 512;

/// What is written of a file before its bytes.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Timespec,
    pub size: u64,
    /// What a symbolic or hard link leads to.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            name: b"",
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            modified: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            size: 0,
            link: b"",
            device: (0, 0),
            xattrs: &[],
        }
    }
}

/// Writes an archive. After an entry with a size come exactly so many bytes.
pub struct Writer<W> {
    out: W,
    /// Bytes that the last entry still lacks, and those that fill its last block.
    owed: u64,
    padding: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Writer {
            out,
            owed: 0,
            padding: 0,
        }
    }

    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        debug_assert_eq!(
            self.owed, 0,
            "the bytes of the entry before are not all there"
        );
        // A ustar field that is full has no NUL at its end, which some readers expect.
        for (kind, text) in [
            (EntryType::GNULongName, entry.name),
            (EntryType::GNULongLink, entry.link),
        ] {
            if text.len() >= 100 {
                self.header(&Entry {
                    name: b"././@LongLink",
                    kind,
                    size: text.len() as u64 + 1,
                    ..Entry::default()
                })?;
                self.data(&[text, b"\0"].concat())?;
            }
        }
        let records = records(entry);
        if !records.is_empty() {
            let size = records.len() as u64;
            let head = Entry {
                name: b"PaxHeader",
                kind: EntryType::XHeader,
                mode: 0o644,
                size,
                ..Entry::default()
            };
            self.header(&head)?;
            self.data(&records)?;
        }
        self.header(entry)
    }

    fn header(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        copy_start(&mut old.name, entry.name);
        copy_start(&mut old.linkname, entry.link);
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_size(entry.size);
        header.set_mtime(u64::try_from(entry.modified.tv_sec).unwrap_or(0));
        header.set_device_major(entry.device.0)?;
        header.set_device_minor(entry.device.1)?;
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.owed = entry.size;
        self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
        self.fill()
    }

    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(bytes.len() as u64 <= self.owed, "more bytes than announced");
        self.out.write_all(bytes)?;
        self.owed -= bytes.len() as u64;
        self.fill()
    }

    /// Bytes that the entry still lacks.
    pub fn owed(&self) -> u64 {
        self.owed
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.owed == 0 && self.padding > 0 {
            let zeros = [0; BLOCK];
            let padding = std::mem::take(&mut self.padding);
            self.out
                .write_all(&zeros[..usize::try_from(padding).unwrap_or(0)])?;
        }
        Ok(())
    }

    /// Two empty blocks, without which an archive counts as cut off.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }
}

fn copy_start(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// The PAX records that an entry needs.
fn records(entry: &Entry<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    let Timespec { tv_sec, tv_nsec } = entry.modified;
    if tv_sec < 0 || tv_nsec != 0 {
        record(&mut records, b"mtime", &pax_time(tv_sec, tv_nsec));
    }
    for (name, value) in entry.xattrs {
        // A name with this sign could not be told from its value.
        if !name.contains(&b'=') {
            record(
                &mut records,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
    }
    records
}

/// Seconds and their fraction, as one decimal number.
fn pax_time(seconds: i64, nanos: i64) -> Vec<u8> {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, rest) = (total.abs() / 1_000_000_000, total.abs() % 1_000_000_000);
    format!("{sign}{whole}.{rest:09}").into_bytes()
}

/// `LENGTH KEY=VALUE` and a line end, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(length.to_string().into_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::archive::read::Reader;

    #[test]
    fn what_is_written_is_read_again() {
        let long = [b"d/\n/".as_slice(), &[b'x'; 300]].concat();
        let xattrs = vec![
            (b"user.a".to_vec(), b"1=\0".to_vec()),
            (b"user.c\n".to_vec(), b"\n10 path=x\n".to_vec()),
            (b"user.b=c".to_vec(), b"lost".to_vec()),
        ];
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer
            .entry(&Entry {
                name: &long,
                mode: 0o4755,
                uid: 3_000_000,
                gid: 70_000,
                modified: Timespec {
                    tv_sec: -2,
                    tv_nsec: 250_000_000,
                },
                size: 3,
                xattrs: &xattrs,
                ..Entry::default()
            })
            .unwrap();
        writer.data(b"abc").unwrap();
        writer
            .entry(&Entry {
                name: b"l",
                kind: EntryType::Symlink,
                link: &long,
                ..Entry::default()
            })
            .unwrap();
        writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.name.as_slice(), first.size), (long.as_slice(), 3));
        let meta = first.meta;
        assert_eq!((meta.uid, meta.gid, meta.mode), (3_000_000, 70_000, 0o4755));
        assert_eq!(
            (meta.modified.tv_sec, meta.modified.tv_nsec),
            (-2, 250_000_000)
        );
        assert_eq!(meta.xattrs, xattrs[..2]);
        let second = reader.next().unwrap().unwrap();
        assert_eq!(second.link().unwrap(), long.as_slice());
        assert!(reader.next().unwrap().is_none());
    }
}
