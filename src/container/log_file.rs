//! The log of a container in the k8s-file format (CRI): `TIME stdout F line`, where P instead of F
//! says that the line goes on in the next record.

use std::fs::File;
use std::io::BufRead;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;

use crate::text::time;
use crate::text::time::LogClock;

/// A line longer than this is written in parts.
const PART: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes a log; owned by the supervisor.
pub struct Writer {
    file: File,
    clock: LogClock,
    /// What has come of a line that has no end yet, for each stream.
    partial: [Vec<u8>; 2],
    out: Vec<u8>,
}

impl Writer {
    pub fn open(path: &Path) -> anyhow::Result<Writer> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open log {}", path.display()))?;
        Ok(Writer {
            file,
            clock: LogClock::new(time::local_zone()),
            partial: [vec![], vec![]],
            out: vec![],
        })
    }

    /// Takes bytes as they come from a stream and writes the lines that are whole.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> anyhow::Result<()> {
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        partial.extend_from_slice(bytes);
        let mut rest = partial.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line(stream, &rest[..end]);
            rest = &rest[end + 1..];
        }
        while rest.len() >= PART {
            self.record(stream, 'P', &rest[..PART]);
            rest = &rest[PART..];
        }
        self.partial[stream as usize] = rest.to_vec();
        self.flush()
    }

    /// Writes what is left of unfinished lines, when the streams have ended.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                self.record(stream, 'P', &rest);
            }
        }
        self.flush()
    }

    fn line(&mut self, stream: Stream, mut line: &[u8]) {
        while line.len() > PART {
            self.record(stream, 'P', &line[..PART]);
            line = &line[PART..];
        }
        self.record(stream, 'F', line);
    }

    fn record(&mut self, stream: Stream, tag: char, text: &[u8]) {
        let stamp = self.clock.stamp(Timestamp::now());
        self.out.extend_from_slice(stamp.as_bytes());
        self.out
            .extend_from_slice(format!(" {} {tag} ", stream.name()).as_bytes());
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let result = self
            .file
            .write_all(&self.out)
            .context("cannot write the log");
        self.out.clear();
        result
    }
}

/// One record of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: &'a str,
    pub stream: Stream,
    /// Whether the line ends here.
    pub whole: bool,
    pub text: &'a [u8],
}

/// Takes a line of the file apart; `None` for what a crash has cut off.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let whole = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record {
        time,
        stream,
        whole,
        text: fields.next()?,
    })
}

/// The records from `reader` up to its end; an unfinished last line is left for the next call.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    reader.read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[(Stream, &[u8])]) -> Vec<(Stream, bool, Vec<u8>)> {
        let path = std::env::temp_dir().join(format!(
            "rbox-log-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::remove_file(&path).ok();
        let mut writer = Writer::open(&path).unwrap();
        for (stream, bytes) in parts {
            writer.write(*stream, bytes).unwrap();
        }
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        bytes
            .split(|byte| *byte == b'\n')
            .filter_map(parse)
            .map(|record| (record.stream, record.whole, record.text.to_vec()))
            .collect()
    }

    #[test]
    fn lines_are_joined_from_pieces_and_streams_are_kept_apart() {
        let records = written(&[
            (Stream::Stdout, b"one\ntw"),
            (Stream::Stderr, b"err\n"),
            (Stream::Stdout, b"o\n\nend"),
        ]);
        assert_eq!(
            records,
            [
                (Stream::Stdout, true, b"one".to_vec()),
                (Stream::Stderr, true, b"err".to_vec()),
                (Stream::Stdout, true, b"two".to_vec()),
                (Stream::Stdout, true, b"".to_vec()),
                (Stream::Stdout, false, b"end".to_vec()),
            ]
        );
    }

    #[test]
    fn a_long_line_is_written_in_parts() {
        let records = written(&[
            (Stream::Stdout, &vec![b'x'; 40_000]),
            (Stream::Stdout, b"\n"),
        ]);
        let lengths: Vec<(bool, usize)> = records
            .iter()
            .map(|(_, whole, text)| (*whole, text.len()))
            .collect();
        assert_eq!(
            lengths,
            [(false, PART), (false, PART), (true, 40_000 - 2 * PART)]
        );
    }

    #[test]
    fn what_is_cut_off_is_no_record() {
        assert_eq!(parse(b"2026-01-01T00:00:00Z stdout"), None);
        assert_eq!(parse(b""), None);
    }
}
