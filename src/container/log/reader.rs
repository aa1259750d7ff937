//! Reads a log: from file to file, while it is written and rotated.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;

use crate::container::config::log::Driver;
use crate::container::log::Entry;
use crate::container::log::entry;
use crate::container::log::segments;

/// How much of a file is looked at first for its last lines.
const WINDOW: u64 = 64 * 1024;

pub struct Reader {
    log: PathBuf,
    driver: Driver,
    open: Option<Open>,
    line: Vec<u8>,
}

/// A file that is read.
struct Open {
    input: Input,
    number: u64,
    /// Device and inode, of the file that is written or was when it was opened.
    identity: Option<(u64, u64)>,
    /// Nothing is added any more.
    full: bool,
}

enum Input {
    Plain(BufReader<File>),
    Packed(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl Input {
    fn buffer(&mut self) -> &mut dyn BufRead {
        match self {
            Input::Plain(reader) => reader,
            Input::Packed(reader) => reader,
        }
    }
}

impl Reader {
    /// From the oldest record that there is.
    pub fn new(log: &Path, driver: Driver) -> Reader {
        Reader {
            log: log.to_owned(),
            driver,
            open: None,
            line: vec![],
        }
    }

    /// From the first of the last `count` lines on.
    pub fn last_lines(log: &Path, driver: Driver, count: usize) -> io::Result<Reader> {
        let mut reader = Reader::new(log, driver);
        let mut left = count;
        let mut open = open_current(log, 0)?;
        let mut older = segments::list(log)?;
        if let Some(open) = &mut open {
            older.retain(|segment| !is_same(log, segment.number, open));
        }
        loop {
            if let Some(open) = &mut open {
                // Of a full file the end is the end of a line.
                let found = position_at_last(log, open, driver, left)?;
                left = left.saturating_sub(found);
            }
            if open.is_some() {
                reader.open = open.take();
            }
            if left == 0 {
                return Ok(reader);
            }
            let Some(segment) = older.pop() else {
                return Ok(reader);
            };
            open = open_full(log, segment.number)?;
        }
    }

    /// The next record; `None` where there is none yet. What is no record is passed over.
    pub fn read(&mut self) -> io::Result<Option<Entry<'_>>> {
        loop {
            if self.open.is_none() && !self.advance()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else {
                return Ok(None);
            };
            match open.input.buffer().read_until(b'\n', &mut self.line) {
                // A compressed file that is damaged: what can be read of it was read.
                Err(err) if !matches!(open.input, Input::Packed(_)) => return Err(err),
                _ => {}
            }
            let is_whole = self.line.last() == Some(&b'\n');
            if !is_whole && !open.full {
                // What was written before the file was put aside may have come after our look.
                open.full = !is_current(&self.log, open);
                if open.full {
                    continue;
                }
                return Ok(None);
            }
            if !is_whole && self.line.is_empty() {
                if !self.advance()? {
                    return Ok(None);
                }
                continue;
            }
            if entry::parse(self.driver, trimmed(&self.line)).is_some() {
                break;
            }
            self.line.clear();
        }
        Ok(entry::parse(self.driver, trimmed(&self.line)))
    }

    /// To be called when the record that `read` gave is done with.
    pub fn taken(&mut self) {
        self.line.clear();
    }

    /// Opens the file that comes after the one that is open; whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let number = self.open.as_ref().map_or(0, |open| open.number);
        let current = open_current(&self.log, number)?;
        // After that: one that was put aside since comes first.
        for segment in segments::list(&self.log)? {
            if segment.number <= number {
                continue;
            }
            if let Some(open) = &mut self.open
                && is_same(&self.log, segment.number, open)
            {
                continue;
            }
            if let Some(next) = open_full(&self.log, segment.number)? {
                self.open = Some(next);
                return Ok(true);
            }
        }
        let is_new = |next: &Open| {
            let ours = self.open.as_ref().and_then(|open| open.identity);
            ours.is_none() || ours != next.identity
        };
        match current.filter(is_new) {
            Some(next) => {
                self.open = Some(next);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The file that is written; `None` in the moment in which there is none.
fn open_current(log: &Path, after: u64) -> io::Result<Option<Open>> {
    let Some(file) = found(File::open(log))? else {
        return Ok(None);
    };
    let newest = segments::list(log)?.last().map_or(0, |last| last.number);
    Ok(Some(Open {
        identity: Some(identity(&file)?),
        input: Input::Plain(BufReader::new(file)),
        number: newest.max(after) + 1,
        full: false,
    }))
}

/// A full file in either form; `None` when it was removed.
fn open_full(log: &Path, number: u64) -> io::Result<Option<Open>> {
    // It may be compressed between the looks.
    for _ in 0..2 {
        if let Some(file) = found(File::open(segments::plain(log, number)))? {
            return Ok(Some(Open {
                identity: Some(identity(&file)?),
                input: Input::Plain(BufReader::new(file)),
                number,
                full: true,
            }));
        }
        if let Some(file) = found(File::open(segments::packed(log, number)))? {
            let decoder = MultiGzDecoder::new(BufReader::new(file));
            return Ok(Some(Open {
                identity: None,
                input: Input::Packed(Box::new(BufReader::new(decoder))),
                number,
                full: true,
            }));
        }
    }
    Ok(None)
}

fn found(result: io::Result<File>) -> io::Result<Option<File>> {
    match result {
        Ok(file) => Ok(Some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn is_current(log: &Path, open: &Open) -> bool {
    identity_of(log) == open.identity
}

/// Whether the file with this number is the open one, which then has this number.
fn is_same(log: &Path, number: u64, open: &mut Open) -> bool {
    let same =
        open.identity.is_some() && identity_of(&segments::plain(log, number)) == open.identity;
    if same {
        open.number = number;
    }
    same
}

/// Puts the reader at the first of the last `count` lines of the file, or at its beginning; how many
/// lines follow, at most `count`.
fn position_at_last(
    log: &Path,
    open: &mut Open,
    driver: Driver,
    count: usize,
) -> io::Result<usize> {
    let Input::Plain(reader) = &mut open.input else {
        return position_in_packed(log, open, driver, count);
    };
    let length = reader.get_ref().metadata()?.len();
    let mut window = WINDOW;
    loop {
        let start = length.saturating_sub(window);
        reader.seek(SeekFrom::Start(start))?;
        let mut skipped = Vec::new();
        if start > 0 {
            reader.read_until(b'\n', &mut skipped)?;
        }
        let (found, offset) = scan(reader, driver, count)?;
        if found == count || start == 0 {
            let offset = start + skipped.len() as u64 + offset;
            // Of what is older only the lines before it are wanted, not the end of one.
            reader.seek(SeekFrom::Start(offset))?;
            return Ok(found);
        }
        window *= 8;
    }
}

fn position_in_packed(
    log: &Path,
    open: &mut Open,
    driver: Driver,
    count: usize,
) -> io::Result<usize> {
    let (found, offset) = scan(open.input.buffer(), driver, count)?;
    if let Some(again) = open_full(log, open.number)? {
        *open = again;
        io::copy(&mut open.input.buffer().take(offset), &mut io::sink())?;
    }
    Ok(found)
}

/// How many of the last `count` lines there are from here to the end, and where they begin.
fn scan(reader: &mut dyn BufRead, driver: Driver, count: usize) -> io::Result<(usize, u64)> {
    let mut starts = std::collections::VecDeque::new();
    let (mut position, mut start) = (0, 0);
    let mut has_part = false;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 && line.last() == Some(&b'\n') {
        position += line.len() as u64;
        if let Some(entry) = entry::parse(driver, trimmed(&line)) {
            has_part = !entry.whole;
            if entry.whole {
                starts.push_back(start);
                start = position;
            }
            if starts.len() > count {
                starts.pop_front();
            }
        }
        line.clear();
    }
    if has_part {
        starts.push_back(start);
        if starts.len() > count {
            starts.pop_front();
        }
    }
    let first = starts.front().copied().unwrap_or(position);
    Ok((starts.len(), first))
}

/// Whether there is no file of this log.
pub fn is_empty(log: &Path) -> bool {
    segments::list(log).is_ok_and(|full| full.is_empty()) && !log.exists()
}
