//! What happened, as lines of JSON: one write a line, at the end of the file.
//!
//! Linux: writes to a file that is open for appending do not mix (open(2), O_APPEND), so that nobody waits for
//! anybody, and a process that is killed leaves whole lines. A line that a full disk has cut is passed over.
//!
//! A file of `FULL` bytes becomes the older one, and what was older is gone: twice that much is kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use jiff::Timestamp;
use rustix::fs::inotify;
use serde::Deserialize;
use serde::Serialize;

use crate::store::atomic;
use crate::store::dirs::Dirs;
use crate::sys::lock;
use crate::sys::poll;

/// Some 10,000 events.
const FULL: u64 = 4 * 1024 * 1024;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub time: Timestamp,
    /// `container`, `image`, `network`, `volume`.
    pub kind: String,
    /// As Podman calls it.
    pub action: String,
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// One of now.
    pub fn new(kind: &str, action: &str, id: &str, name: &str) -> Event {
        Event {
            time: Timestamp::now(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            image: String::new(),
            exit_code: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// Adds an event. What happened has happened: a journal that cannot be written stops nobody.
pub fn add(dirs: &Dirs, event: &Event) {
    add_all(dirs, std::slice::from_ref(event));
}

pub fn add_all(dirs: &Dirs, events: &[Event]) {
    append(dirs, events).ok();
}

fn append(dirs: &Dirs, events: &[Event]) -> Result<()> {
    let mut lines = Vec::with_capacity(512);
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    let mut file = open(dirs)?;
    file.write_all(&lines)?;
    if file.metadata()?.len() >= FULL {
        rotate(dirs, &file)?;
    }
    Ok(())
}

/// What is there and no file of ours is neither followed nor waited for, as a pipe would be.
const CAREFUL: i32 = libc::O_NONBLOCK | libc::O_NOFOLLOW;

fn open(dirs: &Dirs) -> Result<File> {
    let mut options = File::options();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(CAREFUL);
    let opened = match options.open(dirs.journal()) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            atomic::make_dirs(&dirs.events())?;
            options.open(dirs.journal())
        }
        opened => opened,
    };
    Ok(opened?)
}

fn open_to_read(path: &Path) -> Option<File> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(CAREFUL).open(path).ok()?;
    file.metadata()
        .is_ok_and(|found| found.is_file())
        .then_some(file)
}

/// Must: be called with the file that was full, which the first to come takes away.
fn rotate(dirs: &Dirs, full: &File) -> Result<()> {
    if !lock::try_exclusive(full.as_fd())? {
        return Ok(());
    }
    if is_at(full, &dirs.journal()) {
        std::fs::rename(dirs.journal(), dirs.older_journal())?;
    }
    Ok(())
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), path.metadata()) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Reads the journal from its beginning, and then what comes.
pub struct Reader {
    file: Option<File>,
    path: PathBuf,
    watch: Option<std::os::fd::OwnedFd>,
    /// What was read of a line that is not whole yet.
    rest: Vec<u8>,
    /// The older file, which is read first.
    older: Option<File>,
}

impl Reader {
    /// With `follow` it can wait for more.
    pub fn open(dirs: &Dirs, follow: bool) -> Result<Reader> {
        let watch = if follow {
            atomic::make_dirs(&dirs.events())
                .with_context(|| format!("cannot make {}", dirs.events().display()))?;
            Some(watch(dirs)?)
        } else {
            None
        };
        // In this order: what is renamed in between is read twice rather than not at all.
        let mut file = open_to_read(&dirs.journal());
        let older = open_to_read(&dirs.older_journal());
        if let (Some(new), Some(old)) = (&file, &older)
            && is_same(new, old)
        {
            file = None;
        }
        Ok(Reader {
            file,
            path: dirs.journal(),
            watch,
            rest: vec![],
            older,
        })
    }

    /// What has been written since the last call, oldest first.
    pub fn read(&mut self, mut each: impl FnMut(Event) -> Result<()>) -> Result<()> {
        if let Some(mut older) = self.older.take() {
            self.take(&mut older, &mut each)?;
            self.rest.clear();
        }
        loop {
            if self.file.is_none() {
                self.file = open_to_read(&self.path);
            }
            let Some(mut file) = self.file.take() else {
                return Ok(());
            };
            // Looked at before it is read: what is renamed then gets no lines after that are not read
            // here, but for one that is being written.
            let current = is_at(&file, &self.path);
            self.take(&mut file, &mut each)?;
            if current {
                self.file = Some(file);
                return Ok(());
            }
            self.rest.clear();
        }
    }

    fn take(&mut self, file: &mut File, each: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        file.read_to_end(&mut self.rest)
            .context("cannot read the journal")?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n');
        let Some(end) = whole.map(|at| at + 1) else {
            return Ok(());
        };
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        for line in lines.split(|byte| *byte == b'\n') {
            if let Ok(event) = serde_json::from_slice(line) {
                each(event)?;
            }
        }
        Ok(())
    }

    /// Waits until something was written, at most this long; whether it was.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        let Some(watch) = &self.watch else {
            return Ok(false);
        };
        let [ready] = poll::readable([Some(watch.as_fd())], limit)?;
        if ready {
            let mut buffer = [0; 4096];
            // Which file it was is seen by reading.
            rustix::io::read(watch, &mut buffer).ok();
        }
        Ok(ready)
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) else {
        return false;
    };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn watch(dirs: &Dirs) -> Result<std::os::fd::OwnedFd> {
    let cannot = || format!("cannot watch {}", dirs.events().display());
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).with_context(cannot)?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, dirs.events(), events).with_context(cannot)?;
    Ok(watch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn all(dirs: &Dirs) -> Vec<String> {
        let mut names = Vec::new();
        let mut reader = Reader::open(dirs, false).unwrap();
        let mut each = |event: Event| {
            names.push(event.name);
            Ok(())
        };
        reader.read(&mut each).unwrap();
        names
    }

    #[test]
    fn lines_come_back_and_bad_ones_are_passed_over() {
        let base = scratch("journal");
        let dirs = Dirs::at(base.path()).unwrap();
        assert_eq!(all(&dirs), [""; 0]);
        add(&dirs, &Event::new("container", "create", "1", "one"));
        let mut file = open(&dirs).unwrap();
        file.write_all(b"{\"time\":\"2020\n\0\xff\n{}\n").unwrap();
        add(&dirs, &Event::new("container", "create", "2", "two\nlines"));
        file.write_all(b"{\"half").unwrap();
        assert_eq!(all(&dirs), ["one", "two\nlines"]);
    }

    #[test]
    fn a_full_journal_makes_room_and_a_reader_goes_on() {
        let base = scratch("journal-full");
        let dirs = Dirs::at(base.path()).unwrap();
        let mut reader = Reader::open(&dirs, true).unwrap();
        add(&dirs, &Event::new("container", "create", "1", "one"));
        let mut seen = Vec::new();
        let mut read = |reader: &mut Reader| {
            let each = |event: Event| {
                seen.push(event.name);
                Ok(())
            };
            reader.read(each).unwrap();
            seen.len()
        };
        assert_eq!(read(&mut reader), 1);
        assert!(reader.wait(None).unwrap());
        // Too large, and no event.
        let junk = vec![b'x'; usize::try_from(FULL).unwrap()];
        open(&dirs).unwrap().write_all(&junk).unwrap();
        open(&dirs).unwrap().write_all(b"\n").unwrap();
        add(&dirs, &Event::new("container", "create", "2", "two"));
        assert!(dirs.older_journal().exists() && !dirs.journal().exists());
        add(&dirs, &Event::new("container", "create", "3", "three"));
        assert_eq!(read(&mut reader), 3);
        assert_eq!(all(&dirs), ["one", "two", "three"]);
        assert_eq!(read(&mut reader), 3);
    }
}
