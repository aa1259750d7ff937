//! Records: one JSON object a file, with a `version`. Read whole, written whole (see `atomic`).

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::buffer::spare_capacity;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::sys::process;

/// Much more than the longest command line (2 MiB), which a record may hold.
const LARGEST: u64 = 64 * 1024 * 1024;
/// Bytes of a record, in general: then one call gets all of it.
const MOST_HAVE: usize = 4096;

/// A type that is kept as a record.
pub trait Record: Serialize + DeserializeOwned {
    /// What people call it: `container`, `image`.
    const NOUN: &'static str;
    /// Written with each record; another version found on disk is refused.
    const VERSION: u32;
    /// Everybody may read it where the directories let him through (see `additional`).
    const OPEN: bool = false;
}

/// Writes a record: the value's own fields, after `"version"`.
pub fn save<T: Record>(path: &Path, value: &T, durability: Durability) -> Result<()> {
    write::<T>(path, value, durability)
}

/// Like [`save`], without what is as it is by default: of the many things that may be asked for a container few
/// are, and a list of a thousand containers reads a thousand records.
///
/// Must: all structs in `T` take what is missing for their default, and that never changes.
pub fn save_lean<T: Record + Default>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<()> {
    let mut lean = serde_json::to_value(value)?;
    prune(&mut lean, &serde_json::to_value(T::default())?);
    write::<T>(path, &lean, durability)
}

fn write<T: Record>(path: &Path, value: &impl Serialize, durability: Durability) -> Result<()> {
    #[derive(Serialize)]
    struct Versioned<'a, V> {
        version: u32,
        #[serde(flatten)]
        value: &'a V,
    }
    let versioned = Versioned {
        version: T::VERSION,
        value,
    };
    let mut bytes = serde_json::to_vec(&versioned)
        .with_context(|| format!("cannot write {} record {}", T::NOUN, path.display()))?;
    bytes.push(b'\n');
    if T::OPEN {
        atomic::write_open(path, &bytes, durability)
    } else {
        atomic::write(path, &bytes, durability)
    }
}

fn prune(value: &mut Value, default: &Value) {
    let (Value::Object(fields), Value::Object(defaults)) = (value, default) else {
        return;
    };
    // An object of one field may be a variant of an enum, which has no default.
    if fields.len() == 1 {
        return;
    }
    fields.retain(|name, value| defaults.get(name) != Some(value));
    for (name, value) in fields.iter_mut() {
        if let Some(default) = defaults.get(name) {
            prune(value, default);
        }
    }
}

/// Reads a record. A missing file is [`Kind::NotFound`]; one that cannot be understood is an
/// error that names it.
pub fn load<T: Record>(path: &Path) -> Result<T> {
    load_if_present(path)?
        .ok_or_else(|| fail(Kind::NotFound, "there is no such record"))
        .with_context(|| format!("cannot read {} record {}", T::NOUN, path.display()))
}

/// Like [`load`], with `None` for a missing file.
pub fn load_if_present<T: Record>(path: &Path) -> Result<Option<T>> {
    let cannot = || format!("cannot read {} record {}", T::NOUN, path.display());
    let bytes = match read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.with_context(cannot)?,
    };
    match parse(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(err) => Err(err)
            .hint(format!(
                "the file is damaged or of another version of rbox; remove it if you can do without this {}",
                T::NOUN
            ))
            .with_context(cannot),
    }
}

/// The whole file: a record is small, and mostly one call gets all of it. What is no regular file was not
/// written by us: a pipe could keep us waiting for ever, a link could lead anywhere.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = std::fs::File::options();
    options.read(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opened = options.open(path);
    // Linux: of a link, and of a socket (open(2)).
    if let Err(Some(libc::ELOOP | libc::ENXIO)) = opened.as_ref().map_err(io::Error::raw_os_error) {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = opened?;
    // Linux: of a regular file only its end makes a read short.
    let mut bytes = Vec::with_capacity(MOST_HAVE);
    let read = process::retry(|| rustix::io::read(&file, spare_capacity(&mut bytes)));
    if matches!(read, Ok(1..)) && bytes.len() < bytes.capacity() {
        return Ok(bytes);
    }
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    read?;
    while bytes.len() == bytes.capacity() {
        let length = metadata.len().max(bytes.len() as u64);
        if length > LARGEST {
            let text = format!("it has {length} bytes, which no record has");
            return Err(io::Error::other(text));
        }
        bytes.reserve(bytes.len());
        process::retry(|| rustix::io::read(&file, spare_capacity(&mut bytes)))?;
    }
    Ok(bytes)
}

fn parse<T: Record>(bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() {
        anyhow::bail!("it is empty");
    }
    let version = version(bytes)?;
    if version != T::VERSION {
        anyhow::bail!(
            "it has version {version}, and this rbox knows version {}",
            T::VERSION
        );
    }
    // Checked once, and not each string again.
    Ok(serde_json::from_str(str::from_utf8(bytes)?)?)
}

/// The version of a record, which [`save`] writes first: the rest need not be read twice.
fn version(bytes: &[u8]) -> Result<u32> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    if let Some(rest) = bytes.strip_prefix(b"{\"version\":") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if matches!(rest.get(digits), Some(b',' | b'}'))
            && let Ok(version) = str::from_utf8(&rest[..digits])?.parse()
        {
            return Ok(version);
        }
    }
    let version: Version = serde_json::from_slice(bytes)?;
    Ok(version.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Sample {
        name: String,
    }

    impl Record for Sample {
        const NOUN: &'static str = "sample";
        const VERSION: u32 = 2;
    }

    #[test]
    fn comes_back_as_it_was() {
        let base = scratch("record");
        let path = base.path().join("r.json");
        let sample = Sample { name: "x".into() };
        save(&path, &sample, Durability::Durable).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"version\":2,\"name\":\"x\"}\n"
        );
        assert_eq!(load::<Sample>(&path).unwrap(), sample);
    }

    #[test]
    fn a_missing_record_is_not_found_and_a_bad_one_is_named() {
        let base = scratch("record-bad");
        let path = base.path().join("r.json");
        let err = load::<Sample>(&path).unwrap_err();
        assert_eq!(crate::error::kind(&err), Some(Kind::NotFound));
        assert_eq!(load_if_present::<Sample>(&path).unwrap(), None);
        for (text, why) in [
            ("", "it is empty"),
            ("{\"version\":2,\"na", "EOF while parsing"),
            ("\0\0\0\0", "expected value"),
            ("{\"version\":1,\"name\":\"x\"}", "it has version 1"),
            ("{\"version\":2}", "missing field `name`"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_named(&path, why);
        }
    }

    #[track_caller]
    fn assert_named(path: &Path, why: &str) {
        let err = load_if_present::<Sample>(path).unwrap_err();
        let message = crate::error::message(&err);
        assert!(
            message.starts_with(&format!("cannot read sample record {}: ", path.display())),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn what_is_no_file_of_ours_is_neither_read_nor_waited_for() {
        let base = scratch("record-strange");
        let path = |name: &str| base.path().join(name);
        std::fs::create_dir(path("directory")).unwrap();
        assert_named(&path("directory"), "it is no regular file");
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        assert_named(&path("pipe"), "it is no regular file");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_named(&path("socket"), "it is no regular file");
        std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
        assert_named(&path("link"), "it is no regular file");
        let large = std::fs::File::create(path("large")).unwrap();
        large.set_len(1 << 30).unwrap();
        assert_named(&path("large"), "it has 1073741824 bytes");
    }
}
