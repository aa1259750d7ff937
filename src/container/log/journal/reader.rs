//! Reads the records of one container from the files of the journal, while it is written.
//!
//! A field of a record may be forged by anybody who may log, except for those that journald adds: only
//! records of processes with our own uid count, which the supervisor has.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::container::log::Entry;
use crate::container::log::Stream;
use crate::container::log::journal::file::Datum;
use crate::container::log::journal::file::JournalFile;
use crate::text::time;
use crate::text::time::LogClock;

/// Where journald keeps its files: in a directory for each machine that has logged here.
const PLACES: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// A datum is known by its name and the begin of its value; longer than all that are looked for.
const BEGIN: u64 = 64;

/// How many data of a file are remembered.
const REMEMBERED: usize = 4096;

pub struct JournalReader {
    places: Vec<PathBuf>,
    /// `CONTAINER_ID_FULL=…` and `_UID=…`.
    id: Vec<u8>,
    uid: Vec<u8>,
    files: Vec<Known>,
    /// Found and not read yet: when, its number, in which file and where.
    found: VecDeque<(u64, u64, usize, u64)>,
    clock: LogClock,
    /// There are files that we may not read.
    hidden: bool,
}

/// A file, and what is known of it.
struct Known {
    file: JournalFile,
    identity: (u64, u64),
    /// Where the container's id is, once it is there.
    id: Option<u64>,
    /// How many entries with it were found.
    taken: usize,
    meanings: HashMap<u64, Meaning>,
}

/// What a datum says of its record.
#[derive(Clone)]
enum Meaning {
    Nothing,
    /// It is of a process of ours.
    Ours,
    Stderr,
    /// The line goes on in the next record.
    Partial,
    Message(Vec<u8>),
    Compressed,
}

struct Record {
    time: u64,
    stream: Stream,
    whole: bool,
    text: Vec<u8>,
}

impl JournalReader {
    pub fn new(id: &str) -> JournalReader {
        let uid = rustix::process::geteuid().as_raw();
        JournalReader::at(PLACES.map(PathBuf::from).to_vec(), id, uid)
    }

    fn at(places: Vec<PathBuf>, id: &str, uid: u32) -> JournalReader {
        JournalReader {
            places,
            id: format!("CONTAINER_ID_FULL={id}").into_bytes(),
            uid: format!("_UID={uid}").into_bytes(),
            files: vec![],
            found: VecDeque::new(),
            clock: LogClock::new(time::local_zone()),
            hidden: false,
        }
    }

    /// Goes to the first of the last `count` lines.
    pub fn skip_to_last(&mut self, count: usize) -> io::Result<()> {
        self.look()?;
        let mut lines = 0;
        for index in (0..self.found.len()).rev() {
            let (.., file, offset) = self.found[index];
            let record = self.record(file, offset)?;
            // A record without an end at the end of all is a line too.
            let is_end = index + 1 == self.found.len();
            lines += usize::from(record.is_some_and(|record| record.whole || is_end));
            if lines > count {
                self.found.drain(..=index);
                break;
            }
        }
        Ok(())
    }

    /// Why there may be records that are not found.
    pub fn blindness(&self) -> Option<&'static str> {
        match (self.hidden, self.files.is_empty()) {
            // Where journald keeps nothing for each user, only root and few groups may read the journal.
            (true, _) => Some("it is in files of the journal that you may not read"),
            (false, true) => Some("there is no journal in /run/log/journal or /var/log/journal"),
            (false, false) => None,
        }
    }

    /// Whether there is a record to read.
    pub fn has_some(&mut self) -> io::Result<bool> {
        if self.found.is_empty() {
            self.look()?;
        }
        Ok(!self.found.is_empty())
    }

    /// The next record; `None` where there is none yet.
    pub fn read(&mut self) -> io::Result<Option<Entry<'static>>> {
        if self.found.is_empty() {
            self.look()?;
        }
        while let Some((.., file, offset)) = self.found.pop_front() {
            let Some(record) = self.record(file, offset)? else {
                continue;
            };
            let time = i64::try_from(record.time).ok();
            let time = time.and_then(|time| Timestamp::from_microsecond(time).ok());
            let stamp = self.clock.stamp(time.unwrap_or_default());
            return Ok(Some(Entry {
                time: stamp.to_owned().into(),
                stream: record.stream,
                whole: record.whole,
                text: record.text.into(),
                attributes: None,
            }));
        }
        Ok(None)
    }

    /// Looks for new files and new entries in those that are known.
    fn look(&mut self) -> io::Result<()> {
        let (paths, hidden) = journal_files(&self.places);
        self.hidden |= hidden;
        for path in paths {
            self.open(&path)?;
        }
        let mut found = Vec::new();
        for (index, known) in self.files.iter_mut().enumerate() {
            if known.id.is_none() {
                known.id = known.file.find(&self.id)?;
            }
            let Some(id) = known.id else { continue };
            if known.file.count(id)? <= known.taken as u64 {
                continue;
            }
            let entries = known.file.entries(id)?;
            for offset in entries.iter().skip(known.taken) {
                let record = known.file.record(*offset)?;
                found.push((record.time, record.number, index, *offset));
            }
            known.taken = entries.len();
        }
        found.sort_unstable();
        self.found.extend(found);
        Ok(())
    }

    /// Opens a file that is not known. One that journald removes, or has just begun, is passed over.
    fn open(&mut self, path: &Path) -> io::Result<()> {
        let Ok(metadata) = path.metadata() else {
            return Ok(());
        };
        let identity = (metadata.dev(), metadata.ino());
        if self.files.iter().any(|known| known.identity == identity) {
            return Ok(());
        }
        match JournalFile::open(path) {
            Ok(file) => self.files.push(Known {
                file,
                identity,
                id: None,
                taken: 0,
                meanings: HashMap::new(),
            }),
            Err(err) => match err.kind() {
                io::ErrorKind::PermissionDenied => self.hidden = true,
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {}
                kind => return Err(io::Error::new(kind, format!("{}: {err}", path.display()))),
            },
        }
        Ok(())
    }

    /// `None`: it is not of our supervisor, or without a text.
    fn record(&mut self, file: usize, offset: u64) -> io::Result<Option<Record>> {
        let known = &mut self.files[file];
        let entry = known.file.record(offset)?;
        let mut record = Record {
            time: entry.time,
            stream: Stream::Stdout,
            whole: true,
            text: vec![],
        };
        let (mut ours, mut text, mut compressed) = (false, None, false);
        for datum in entry.data {
            match known.meaning(datum, &self.uid)? {
                Meaning::Nothing => {}
                Meaning::Ours => ours = true,
                Meaning::Stderr => record.stream = Stream::Stderr,
                Meaning::Partial => record.whole = false,
                Meaning::Message(message) => text = Some(message),
                Meaning::Compressed => compressed = true,
            }
        }
        if text.is_none() && ours && compressed {
            let text = "a record is compressed by lz4 or xz, which rbox does not read";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        record.text = text.unwrap_or_default();
        Ok(ours.then_some(record))
    }
}

impl Known {
    fn meaning(&mut self, offset: u64, uid: &[u8]) -> io::Result<Meaning> {
        if let Some(known) = self.meanings.get(&offset) {
            return Ok(known.clone());
        }
        let Datum::Plain(mut datum) = self.file.datum(offset, Some(BEGIN))? else {
            return Ok(Meaning::Compressed);
        };
        if datum.starts_with(b"MESSAGE=") {
            if datum.len() as u64 == BEGIN
                && let Datum::Plain(whole) = self.file.datum(offset, None)?
            {
                datum = whole;
            }
            return Ok(Meaning::Message(datum.split_off(b"MESSAGE=".len())));
        }
        let meaning = match datum.as_slice() {
            // syslog(3): 3 is an error.
            b"PRIORITY=3" => Meaning::Stderr,
            b"CONTAINER_PARTIAL_MESSAGE=true" => Meaning::Partial,
            datum if datum == uid => Meaning::Ours,
            _ => Meaning::Nothing,
        };
        if self.meanings.len() >= REMEMBERED {
            self.meanings.clear();
        }
        self.meanings.insert(offset, meaning.clone());
        Ok(meaning)
    }
}

/// All files of journals, also those that are full; and whether there is a directory that we may not read.
fn journal_files(places: &[PathBuf]) -> (Vec<PathBuf>, bool) {
    let mut hidden = false;
    let mut list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).inspect_err(|err| {
            hidden |= err.kind() == io::ErrorKind::PermissionDenied;
        });
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let machines: Vec<PathBuf> = places.iter().flat_map(|place| list(place)).collect();
    let mut files: Vec<PathBuf> = machines.iter().flat_map(|machine| list(machine)).collect();
    files.retain(|path| {
        let extension = path.extension().unwrap_or_default();
        extension == "journal" || extension == "journal~"
    });
    (files, hidden)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::store::temp::tests::scratch;

    /// As systemd 252 wrote them: the forms of now, of 246 and of before.
    const FILES: [&[u8]; 3] = [
        include_bytes!("testdata/compact.journal.gz"),
        include_bytes!("testdata/keyed.journal.gz"),
        include_bytes!("testdata/jenkins.journal.gz"),
    ];

    fn id() -> String {
        "ab".repeat(32)
    }

    /// A place with this file in it, one after the other.
    fn with_files(test: impl Fn(&[PathBuf], &Path)) {
        for packed in FILES {
            let base = scratch("journal-files");
            let machine = base.path().join("machine");
            std::fs::create_dir(&machine).unwrap();
            let path = machine.join("system.journal");
            let mut bytes = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(packed);
            decoder.read_to_end(&mut bytes).unwrap();
            std::fs::write(&path, bytes).unwrap();
            test(&[base.path().to_owned()], &path);
        }
    }

    fn all(reader: &mut JournalReader) -> Vec<(Stream, bool, String)> {
        let mut all = Vec::new();
        while let Some(entry) = reader.read().unwrap() {
            let text = String::from_utf8_lossy(&entry.text).into_owned();
            all.push((entry.stream, entry.whole, text));
        }
        all
    }

    #[test]
    fn a_containers_records_come_out_as_journald_took_them() {
        with_files(|places, _| {
            let mut reader = JournalReader::at(places.to_vec(), &id(), 0);
            let mut expected: Vec<(Stream, bool, String)> = [
                (Stream::Stdout, true, "first"),
                (Stream::Stderr, true, "err"),
                // Long enough to be compressed.
                (Stream::Stdout, true, &"x".repeat(2000)),
                (Stream::Stdout, false, "part one, "),
                (Stream::Stdout, true, "part two"),
                (Stream::Stdout, true, ""),
                (Stream::Stdout, true, "first"),
            ]
            .map(|(stream, whole, text)| (stream, whole, text.to_owned()))
            .to_vec();
            expected.extend((0..40).map(|n| (Stream::Stdout, true, format!("line {n}"))));
            assert_eq!(all(&mut reader), expected);
            assert_eq!(all(&mut reader), []);
            let mut reader = JournalReader::at(places.to_vec(), &id(), 0);
            reader.skip_to_last(2).unwrap();
            assert_eq!(all(&mut reader), expected[expected.len() - 2..]);
        });
    }

    #[test]
    fn records_of_other_users_and_containers_do_not_count() {
        with_files(|places, _| {
            let mut reader = JournalReader::at(places.to_vec(), &id(), 1000);
            assert_eq!(all(&mut reader), []);
            let mut reader = JournalReader::at(places.to_vec(), &"ef".repeat(32), 0);
            assert_eq!(all(&mut reader), []);
        });
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_the_end_of_us() {
        with_files(|places, path| {
            let good = std::fs::read(path).unwrap();
            let used = good.iter().rposition(|byte| *byte != 0).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            for round in 0..300 {
                // Everywhere in the file, and in each run of the test the same.
                let places_in_it = [(round * 7919 + 24) % used, (round * 104_729 + 100) % used];
                for at in places_in_it {
                    file.write_all_at(&[good[at] ^ 0xff], at as u64).unwrap();
                }
                let mut reader = JournalReader::at(places.to_vec(), &id(), 0);
                let mut count = 0;
                while let Ok(Some(_)) = reader.read() {
                    count += 1;
                    assert!(count < 1000);
                }
                for at in places_in_it {
                    file.write_all_at(&[good[at]], at as u64).unwrap();
                }
            }
        });
    }
}
