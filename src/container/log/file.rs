//! The file that is written: records are added whole or not at all, and a full file makes room for a
//! new one.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Pid;

use crate::container::config::log::Rotation;
use crate::container::log::PART;
use crate::container::log::segments;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::signal;

/// What the last records of a file are looked for in.
const TAIL: u64 = 8 * PART as u64;

pub struct LogFile {
    path: PathBuf,
    file: File,
    rotation: Option<Rotation>,
    /// Bytes in the file.
    length: u64,
    /// The number of the newest full file.
    newest: u64,
    /// Records that are not written yet.
    out: Vec<u8>,
    /// Records that could not be written, and why.
    lost: Option<(usize, std::io::Error)>,
    /// The last write left half a record behind that could not be taken away.
    torn: bool,
    packer: Option<Child>,
}

impl LogFile {
    pub fn open(path: &Path, rotation: Option<Rotation>) -> anyhow::Result<LogFile> {
        let cannot = || format!("cannot open log {}", path.display());
        let file = create(path).with_context(cannot)?;
        let length = file.metadata().with_context(cannot)?.len();
        let mut log = LogFile {
            path: path.to_owned(),
            file,
            rotation,
            length,
            newest: 0,
            out: vec![],
            lost: None,
            torn: false,
            packer: None,
        };
        if rotation.is_some() {
            let full = segments::list(path).with_context(cannot)?;
            log.newest = full.last().map_or(0, |segment| segment.number);
            log.pack();
        }
        log.torn = length > 0 && log.last_records().last() != Some(&b'\n');
        Ok(log)
    }

    /// The end of the file.
    pub fn last_records(&self) -> Vec<u8> {
        if self.length == 0 {
            return vec![];
        }
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().unwrap_or_default()
    }

    /// Takes one record, to be written by the next [`LogFile::flush`].
    pub fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        encode(&mut self.out);
        let Some(rotation) = self.rotation else {
            return;
        };
        let before = self.length + start as u64;
        if before > 0 && self.length + self.out.len() as u64 > rotation.size {
            let record = self.out.split_off(start);
            self.flush();
            // Where that is not possible, the file grows on.
            self.rotate(rotation).ok();
            self.out.extend_from_slice(&record);
        }
    }

    /// Tells of records that were lost, as soon as that can be written.
    pub fn tell_lost(&mut self, encode: impl FnOnce(&mut Vec<u8>, &str)) {
        let Some((count, err)) = self.lost.take() else {
            return;
        };
        let mut notice = Vec::new();
        let text = format!("rbox: {count} records of this log were lost: {err}");
        encode(&mut notice, &text);
        if self.write(&notice).is_err() {
            self.lost = Some((count, err));
        }
    }

    /// Writes what was added. What cannot be written is lost.
    pub fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        if let Err((whole, err)) = self.write(&out) {
            let count = out[whole..].split(|byte| *byte == b'\n').count() - 1;
            let earlier = self.lost.as_ref().map_or(0, |(count, _)| *count);
            self.lost = Some((earlier + count, err));
        }
        self.out = out;
        self.out.clear();
        self.out.shrink_to(4 * PART);
    }

    /// Writes records; after an error as many bytes are there as it says, which are whole records.
    fn write(&mut self, records: &[u8]) -> Result<(), (usize, std::io::Error)> {
        if self.torn {
            write_all(&mut self.file, b"\n").map_err(|(_, err)| (0, err))?;
            self.torn = false;
            self.length += 1;
        }
        let Err((written, err)) = write_all(&mut self.file, records) else {
            self.length += records.len() as u64;
            return Ok(());
        };
        let whole = records[..written].iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        let half = (written - whole) as u64;
        self.length += written as u64;
        if half > 0 {
            let end = self.file.metadata().map_or(0, |file| file.len());
            self.torn = end < half || self.file.set_len(end - half).is_err();
            self.length -= if self.torn { 0 } else { half };
        }
        Err((whole, err))
    }

    /// Puts the full file aside and goes on with a new one.
    fn rotate(&mut self, rotation: Rotation) -> std::io::Result<()> {
        let number = self.newest + 1;
        // Made first: a full disk may refuse it, and then nothing has changed.
        let fresh = segments::beside(&self.path, ".new");
        std::fs::remove_file(&fresh).ok();
        let file = create(&fresh)?;
        let aside = segments::plain(&self.path, number);
        std::fs::rename(&self.path, &aside)?;
        if let Err(err) = std::fs::rename(&fresh, &self.path) {
            // Full files are not written any more, so that this one must not count as one.
            std::fs::rename(&aside, &self.path)?;
            return Err(err);
        }
        self.file = file;
        self.length = 0;
        self.newest = number;
        self.prune(rotation);
        self.pack();
        Ok(())
    }

    /// Removes the files that are too many.
    fn prune(&self, rotation: Rotation) {
        let full = segments::list(&self.path).unwrap_or_default();
        let kept = rotation.files.saturating_sub(1) as usize;
        let surplus = full.len().saturating_sub(kept);
        for segment in &full[..surplus] {
            std::fs::remove_file(segments::plain(&self.path, segment.number)).ok();
            std::fs::remove_file(segments::packed(&self.path, segment.number)).ok();
        }
    }

    pub fn helper(&self) -> Option<BorrowedFd<'_>> {
        self.packer.as_ref().map(|packer| packer.pidfd.as_fd())
    }

    /// Takes note of the end of the process that compresses, and starts the next.
    pub fn reap(&mut self) {
        let ended = self.packer.take();
        let ended = ended.and_then(|packer| process::wait(packer.pidfd.as_fd()).ok());
        // After a failure, which is of the disk mostly, it is tried again with the next full file.
        if ended.is_some_and(|exit| exit.status == 0) {
            self.pack();
        }
    }

    /// Ends the process that compresses. What it has not done the next run of the container does.
    pub fn close(&mut self) {
        if let Some(packer) = self.packer.take() {
            signal::send(packer.pidfd.as_fd(), libc::SIGKILL).ok();
            process::wait(packer.pidfd.as_fd()).ok();
        }
    }

    /// Starts to compress the oldest file that is not compressed, unless another is at work.
    fn pack(&mut self) {
        if self.packer.is_some() || !self.rotation.is_some_and(|rotation| rotation.compress) {
            return;
        }
        let full = segments::list(&self.path).unwrap_or_default();
        let mut plain = full.iter().filter(|segment| segment.plain);
        let Some(next) = plain.next() else {
            return;
        };
        let supervisor = rustix::process::getpid();
        match process::fork() {
            Ok(Side::Parent(child)) => self.packer = Some(child),
            Ok(Side::Child) => {
                let packed = packer(&self.path, next.number, supervisor);
                process::exit_now(i32::from(packed.is_err()))
            }
            // The file stays as it is, to be compressed after the next one.
            Err(_) => {}
        }
    }
}

/// A process of its own, which ends with its supervisor.
fn packer(log: &Path, number: u64, supervisor: Pid) -> anyhow::Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    anyhow::ensure!(rustix::process::getppid() == Some(supervisor));
    // The run lock, the streams of the container: all that others wait for the end of.
    process::close_range(3, u32::MAX)?;
    let plain = segments::plain(log, number);
    let packed = segments::packed(log, number);
    if !packed.exists() {
        let half = segments::beside(log, ".gz.new");
        let mut source = File::open(&plain)?;
        let target = File::create(&half)?;
        let mut encoder = GzEncoder::new(target, Compression::fast());
        std::io::copy(&mut source, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        std::fs::rename(&half, &packed)?;
    }
    std::fs::remove_file(&plain)?;
    Ok(())
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// After an error: how much of it was written before.
fn write_all(file: &mut File, bytes: &[u8]) -> Result<(), (usize, std::io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, std::io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Err(err) => return Err((written, err)),
        }
    }
    Ok(())
}
