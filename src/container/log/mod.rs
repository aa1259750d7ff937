//! The log of a container: what it writes to its standard streams, line by line, kept by one of the
//! drivers.
//!
//! ```text
//! ctr.log        the file that is written
//! ctr.log.7      full, the newest; numbers only grow and are never given again
//! ctr.log.6.gz   full and compressed
//! ```
//!
//! A full file gets its number by one rename, and is compressed by a process of its own under another
//! name that is renamed last: whoever is killed at any moment, each record is in one file that is read
//! (where both forms of a file exist, one is). Readers go from number to number and need no lock.

mod entry;
mod file;
mod journal;
pub mod reader;
mod segments;
pub mod tag;

use std::os::fd::BorrowedFd;

use jiff::Timestamp;

use crate::container::config::log::Driver;
use crate::container::log::entry::Encoder;
use crate::container::log::file::LogFile;
use crate::container::log::journal::Journal;
use crate::container::record::Container;

pub use entry::Entry;
pub use journal::reader::JournalReader;

/// A line longer than this is written in parts.
const PART: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes a log; owned by the supervisor. A log that cannot be written (a full disk) loses lines,
/// tells so in itself as soon as it can, and never stops the container.
pub struct Writer {
    target: Target,
    /// What has come of a line that has no end yet, for each stream.
    partial: [Vec<u8>; 2],
}

enum Target {
    File(Box<(LogFile, Encoder)>),
    Journal(Box<Journal>),
    Nothing,
}

impl Writer {
    pub fn open(container: &Container) -> anyhow::Result<Writer> {
        let log = &container.config.log;
        let target = match (log.driver, container.log_path()) {
            (Driver::K8sFile | Driver::JsonFile, Some(path)) => {
                let mut file = LogFile::open(&path, log.rotation)?;
                let mut encoder = Encoder::of(container)?;
                close_lines(&mut file, &mut encoder);
                Target::File(Box::new((file, encoder)))
            }
            (Driver::Journald, _) => Target::Journal(Box::new(Journal::open(container)?)),
            _ => Target::Nothing,
        };
        Ok(Writer {
            target,
            partial: [vec![], vec![]],
        })
    }

    /// The container is started again: its first line is none that was left open.
    pub fn begin_run(&mut self) {
        if let Target::File(target) = &mut self.target {
            let (file, encoder) = &mut **target;
            close_lines(file, encoder);
        }
    }

    /// Takes bytes as they come from a stream and writes the lines that are whole.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match &mut self.target {
            Target::Nothing => return,
            Target::Journal(_) => {}
            Target::File(target) => {
                let (file, encoder) = &mut **target;
                file.tell_lost(|out, text| {
                    let now = Timestamp::now();
                    encoder.encode(out, now, Stream::Stderr, text.as_bytes(), true);
                });
            }
        }
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        partial.extend_from_slice(bytes);
        let mut rest = partial.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line(stream, &rest[..end]);
            rest = &rest[end + 1..];
        }
        while rest.len() >= PART {
            self.record(stream, &rest[..PART], false);
            rest = &rest[PART..];
        }
        let rest = rest.len();
        partial.drain(..partial.len() - rest);
        partial.shrink_to(PART);
        self.partial[stream as usize] = partial;
        self.flush();
    }

    /// Writes what is left of unfinished lines, when the streams have ended.
    pub fn finish(&mut self) {
        for stream in Stream::BOTH {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                self.record(stream, &rest, false);
            }
        }
        self.flush();
    }

    /// A process that works for the log; when this is readable, [`Writer::reap`] is to be called.
    pub fn helper(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::File(target) => target.0.helper(),
            _ => None,
        }
    }

    pub fn reap(&mut self) {
        if let Target::File(target) = &mut self.target {
            target.0.reap();
        }
    }

    /// Ends what works for the log; before the end of the container is recorded.
    pub fn close(&mut self) {
        if let Target::File(target) = &mut self.target {
            target.0.close();
        }
    }

    fn line(&mut self, stream: Stream, mut line: &[u8]) {
        while line.len() > PART {
            self.record(stream, &line[..PART], false);
            line = &line[PART..];
        }
        self.record(stream, line, true);
    }

    fn record(&mut self, stream: Stream, text: &[u8], whole: bool) {
        match &mut self.target {
            Target::File(target) => {
                let (file, encoder) = &mut **target;
                file.add(|out| encoder.encode(out, Timestamp::now(), stream, text, whole));
            }
            Target::Journal(journal) => journal.send(stream, text, whole),
            Target::Nothing => {}
        }
    }

    fn flush(&mut self) {
        if let Target::File(target) = &mut self.target {
            target.0.flush();
        }
    }
}

/// A line that an earlier run left open must not take the first one of this.
fn close_lines(file: &mut LogFile, encoder: &mut Encoder) {
    for stream in encoder.open_streams(&file.last_records()) {
        file.add(|out| encoder.encode(out, Timestamp::now(), stream, b"", true));
    }
    file.flush();
}

#[cfg(test)]
mod tests;
