//! Whose credentials are whose: a process has those that it was given, or else those of the nearest ancestor.
//!
//! A child has what its parent had when the child was made. Two moments would make the ancestors tell something
//! else, and in both the parent waits for our answer: before its credentials change and before it ends, its children
//! get entries of their own. (One that is killed has no such moment: then its children count as those of whoever
//! adopts them.)
//!
//! A process is known by its pid and the time of its start. Everything here is bounded, for the processes are hostile.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use rustix::process::Pid;

use crate::supervisor::emulation::ids::Credentials;
use crate::sys::process::start_and_arguments;

/// Entries. Beyond that nothing is remembered that could be found out again, and ids cannot be changed.
const MOST: usize = 4096;

/// Generations that are looked through.
const GENERATIONS: usize = 64;

/// Bytes of a file that lists children.
const LISTED: u64 = 64 * 1024;

/// One execution of a program by one thread.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Image {
    start: u64,
    arguments: u64,
}

impl Image {
    fn of(tid: i32) -> Option<Image> {
        let (start, arguments) = start_and_arguments(Pid::from_raw(tid)?)?;
        Some(Image { start, arguments })
    }
}

struct Entry {
    image: Image,
    credentials: Rc<Credentials>,
}

impl Entry {
    /// For a thread of this image that has its credentials from here.
    fn inherited(&self, image: Image) -> Rc<Credentials> {
        if self.image.arguments == image.arguments {
            return self.credentials.clone();
        }
        Rc::new(self.credentials.execute())
    }
}

#[derive(Default)]
pub struct Tree {
    entries: HashMap<i32, Entry>,
}

impl Tree {
    /// The credentials of a thread.
    pub fn of(&mut self, tid: i32) -> Rc<Credentials> {
        // As long as nobody has changed ids.
        if self.entries.is_empty() {
            return Rc::default();
        }
        let Some(image) = Image::of(tid) else {
            return Rc::default();
        };
        let mut at = Some(tid);
        let mut credentials = Rc::default();
        for _ in 0..GENERATIONS {
            let Some(tid) = at else { break };
            if let Some(entry) = self.entry(tid) {
                credentials = entry.inherited(image);
                break;
            }
            at = origin(tid);
        }
        self.remember(tid, image, &credentials);
        credentials
    }

    fn entry(&self, tid: i32) -> Option<&Entry> {
        let entry = self.entries.get(&tid)?;
        let image = Image::of(tid)?;
        (image.start == entry.image.start).then_some(entry)
    }

    /// `false`: there is no room.
    fn remember(&mut self, tid: i32, image: Image, credentials: &Rc<Credentials>) -> bool {
        if self.entries.len() >= MOST && !self.entries.contains_key(&tid) {
            let lives = |tid: i32, entry: &Entry| {
                Image::of(tid).is_some_and(|image| image.start == entry.image.start)
            };
            self.entries.retain(|tid, entry| lives(*tid, entry));
            if self.entries.len() >= MOST {
                return false;
            }
        }
        let credentials = credentials.clone();
        self.entries.insert(tid, Entry { image, credentials });
        true
    }

    /// Gives a thread other credentials; `false` when there is no room for that.
    pub fn change(&mut self, tid: i32, new: Credentials) -> bool {
        let Some(image) = Image::of(tid) else {
            return true;
        };
        let old = self.of(tid);
        if !self.remember(tid, image, &old) {
            return false;
        }
        // They may have theirs from this one.
        for thread in threads(tid) {
            self.of(thread);
        }
        self.bequeath(image, &old, &children(tid, tid)) && self.remember(tid, image, &Rc::new(new))
    }

    /// A process ends, with all its threads.
    pub fn end(&mut self, tid: i32) {
        if self.entries.is_empty() {
            return;
        }
        for thread in threads(tid) {
            let children = children(tid, thread);
            if let (false, Some(image)) = (children.is_empty(), Image::of(thread)) {
                let credentials = self.of(thread);
                self.bequeath(image, &credentials, &children);
            }
            self.entries.remove(&thread);
        }
    }

    /// Gives children entries, where they have none.
    fn bequeath(&mut self, image: Image, credentials: &Rc<Credentials>, children: &[i32]) -> bool {
        let parent = Entry {
            image,
            credentials: credentials.clone(),
        };
        children.iter().all(|child| match Image::of(*child) {
            Some(image) if self.entry(*child).is_none() => {
                self.remember(*child, image, &parent.inherited(image))
            }
            _ => true,
        })
    }
}

/// Where a thread without an entry has its credentials from: the process it belongs to, or its parent.
fn origin(tid: i32) -> Option<i32> {
    let mut text = String::new();
    File::open(format!("/proc/{tid}/status"))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    let field = |name: &str| -> Option<i32> {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| value.trim().parse().ok())
    };
    let process = field("Tgid")?;
    if process != tid {
        return Some(process);
    }
    field("PPid").filter(|parent| *parent > 0)
}

/// All threads of the process that a thread belongs to.
fn threads(tid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{tid}/task")) else {
        return vec![tid];
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .take(MOST)
        .collect()
}

/// The children of one thread. Linux: there since 3.5 with CONFIG_PROC_CHILDREN; complete, as the thread waits.
fn children(process: i32, thread: i32) -> Vec<i32> {
    let mut text = String::new();
    if let Ok(file) = File::open(format!("/proc/{process}/task/{thread}/children")) {
        file.take(LISTED).read_to_string(&mut text).ok();
    }
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
