//! The files of a log by their names: `LOG.7` and `LOG.6.gz` beside `LOG`.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

/// A full file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    pub number: u64,
    /// Which forms of it there are: both for a moment, and after a crash in that moment.
    pub plain: bool,
    pub packed: bool,
}

/// `LOG` with an ending.
pub fn beside(log: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(ending);
    PathBuf::from(name)
}

pub fn plain(log: &Path, number: u64) -> PathBuf {
    beside(log, &format!(".{number}"))
}

pub fn packed(log: &Path, number: u64) -> PathBuf {
    beside(log, &format!(".{number}.gz"))
}

/// The full files there are, the oldest first.
pub fn list(log: &Path) -> std::io::Result<Vec<Segment>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(vec![]);
    };
    let mut found: Vec<Segment> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let Some(rest) = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix(name)?.strip_prefix('.'))
        else {
            continue;
        };
        let (digits, is_packed) = match rest.strip_suffix(".gz") {
            Some(digits) => (digits, true),
            None => (rest, false),
        };
        let Ok(number) = digits.parse() else {
            continue;
        };
        let known = found.iter().position(|segment| segment.number == number);
        let index = known.unwrap_or(found.len());
        if known.is_none() {
            found.push(Segment {
                number,
                plain: false,
                packed: false,
            });
        }
        found[index].plain |= !is_packed;
        found[index].packed |= is_packed;
    }
    found.sort_unstable();
    Ok(found)
}
