//! Volumes: directories that outlive containers.
//!
//! ```text
//! DATA/volumes/<name>/  volume.json  what it was made with, never changed
//!                       _data/       its files
//!                       new          there until a container uses it for the first time
//!                       shared       of an anonymous one: more than one container may have used it
//! DATA/volumes/.lock    shared: containers that use volumes are being made; exclusive: removal
//! ```
//!
//! A volume exists when its directory has its name: it is made under another and renamed. Which
//! containers use it is in their records alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use jiff::Timestamp;
use rustix::fs::Mode;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::journal::Event;
use crate::store::lock::Lock;
use crate::store::record;
use crate::store::record::Record;
use crate::store::remove;
use crate::store::temp;
use crate::store::temp::TempDir;

/// The file that says that a volume was never used.
pub const NEW: &str = "new";

/// The file that says that an anonymous volume may be in the records of more than one container.
const SHARED: &str = "shared";

const RECORD: &str = "volume.json";
pub const DATA: &str = "_data";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub created: Timestamp,
    /// Made for one container, with a random name.
    pub anonymous: bool,
    pub labels: BTreeMap<String, String>,
    /// As given by `--opt`.
    pub options: BTreeMap<String, String>,
    /// The owner it gets at its first use, as ids of the container.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Record for Volume {
    const NOUN: &'static str = "volume";
    const VERSION: u32 = 1;
}

impl Volume {
    pub fn named(name: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            created: Timestamp::now(),
            anonymous: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            uid: None,
            gid: None,
        }
    }

    fn dir(&self, dirs: &Dirs) -> PathBuf {
        dirs.volumes().join(&self.name)
    }

    /// The directory with its files.
    pub fn data(&self, dirs: &Dirs) -> PathBuf {
        self.dir(dirs).join(DATA)
    }

    /// Whether no container has used it yet.
    pub fn is_new(&self, dirs: &Dirs) -> bool {
        self.dir(dirs).join(NEW).exists()
    }

    /// `type`, `device` and the words of `o`, checked.
    pub fn mounted(&self) -> Result<Mounted> {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let mut words: Vec<String> = Vec::new();
        let mut is_bind = false;
        let mut owner = (self.uid, self.gid);
        for word in option("o").unwrap_or_default().split(',') {
            let id = |text: &str| {
                let message = format!("option o=\"{word}\": expected a number");
                text.parse::<u32>().map_err(|_| fail(Kind::Usage, message))
            };
            match word.split_once('=').unwrap_or((word, "")) {
                ("", "") => {}
                ("bind" | "rbind", "") => is_bind = true,
                ("uid", text) => owner.0 = Some(id(text)?),
                ("gid", text) => owner.1 = Some(id(text)?),
                _ => words.push(word.to_owned()),
            }
        }
        for key in self.options.keys() {
            if !matches!(key.as_str(), "type" | "device" | "o") {
                return Err(fail(
                    Kind::Usage,
                    format!("option \"{key}\": the driver local has type, device and o"),
                ));
            }
        }
        let source = match (option("type"), option("device")) {
            (Some("tmpfs"), _) => From::Tmpfs,
            (None | Some("" | "none" | "bind"), Some(device))
                if is_bind || option("type") == Some("bind") =>
            {
                if !device.starts_with('/') {
                    return Err(fail(
                        Kind::Usage,
                        format!("option device=\"{device}\": expected an absolute path"),
                    ));
                }
                From::Directory(device.into())
            }
            (None, None) if !is_bind => From::Own,
            (kind, _) => {
                return Err(fail(
                    Kind::Unsupported,
                    format!(
                        "option type=\"{}\" is not possible: in a user namespace only type=tmpfs, and type=none with o=bind and a device, can be mounted",
                        kind.unwrap_or_default()
                    ),
                ));
            }
        };
        Ok(Mounted {
            source,
            words,
            owner: match owner {
                (None, None) => None,
                (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
            },
        })
    }
}

/// What a container that uses a volume mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub source: From,
    /// Mount options.
    pub words: Vec<String>,
    pub owner: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Its own directory.
    Own,
    /// A file system in memory, one each container.
    Tmpfs,
    /// A directory of the host.
    Directory(PathBuf),
}

fn make_dir(dirs: &Dirs) -> Result<()> {
    let dir = dirs.volumes();
    match rustix::fs::mkdir(&dir, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => {
            let err = atomic::with_space_hint(errno.into());
            Err(err).with_context(|| format!("cannot create directory {}", dir.display()))
        }
    }
}

fn lock_file(dirs: &Dirs) -> PathBuf {
    dirs.volumes().join(".lock")
}

/// Held while a container is made that uses volumes.
pub fn lock_for_use(dirs: &Dirs) -> Result<Lock> {
    make_dir(dirs)?;
    Lock::shared(&lock_file(dirs))
}

/// Held while it is looked which volumes are in use, and others are removed.
pub fn lock_for_removal(dirs: &Dirs) -> Result<Lock> {
    make_dir(dirs)?;
    Lock::exclusive(&lock_file(dirs))
}

/// Makes a volume; `false` if there is one of this name. On disk before anything is said of it, also for a container
/// with `--rm`: it may outlive that, and half a record would be there after a power cut.
pub fn create(dirs: &Dirs, volume: &Volume) -> Result<bool> {
    let cannot = || format!("cannot create volume \"{}\"", volume.name);
    make_dir(dirs)?;
    temp::sweep(&dirs.volumes()).ok();
    let temp = TempDir::create_in(&dirs.volumes()).with_context(cannot)?;
    let data = temp.path().join(DATA);
    let made = || -> Result<()> {
        record::save(&temp.path().join(RECORD), volume, Durability::Durable)?;
        rustix::fs::mkdir(&data, Mode::from_raw_mode(0o755))?;
        // The mode above is cut by the umask.
        rustix::fs::chmod(&data, Mode::from_raw_mode(0o755))?;
        std::fs::write(temp.path().join(NEW), "")?;
        Ok(())
    };
    made()
        .map_err(atomic::with_space_hint)
        .with_context(cannot)?;
    let made = temp.rename_to(&volume.dir(dirs)).with_context(cannot)?;
    if made {
        atomic::sync_dir(&dirs.volumes())?;
        happened(dirs, "create", &volume.name);
    }
    Ok(made)
}

/// The volume of this very name.
pub fn by_name(dirs: &Dirs, name: &str) -> Result<Option<Volume>> {
    if !is_name(name) {
        return Ok(None);
    }
    let dir = dirs.volumes().join(name);
    match record::load(&dir.join(RECORD)) {
        Ok(volume) => Ok(Some(volume)),
        Err(err) if crate::error::kind(&err) == Some(Kind::NotFound) && !dir.exists() => Ok(None),
        // To those who ask whether there is such a volume: there is.
        Err(err) => Err(anyhow::anyhow!(crate::error::message(&err))).hint(format!(
            "the record is damaged, or of another version of rbox; `rbox volume rm -f {name}` removes the volume with its files"
        )),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

/// All volumes by name. A record that cannot be read is passed over: `bad` hears of it.
pub fn list(dirs: &Dirs, mut bad: impl FnMut(anyhow::Error)) -> Result<Vec<Volume>> {
    let entries = match std::fs::read_dir(dirs.volumes()) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        result => result.context("cannot list volumes")?,
    };
    let mut volumes = Vec::new();
    for entry in entries {
        let name = entry.context("cannot list volumes")?.file_name();
        match by_name(dirs, &name.to_string_lossy()) {
            Ok(volume) => volumes.extend(volume),
            Err(err) => bad(err),
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// The names of those whose record cannot be read.
pub fn unreadable(dirs: &Dirs) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dirs.volumes()).context("cannot list volumes")? {
        let name = entry.context("cannot list volumes")?.file_name();
        let name = name.to_string_lossy();
        if by_name(dirs, &name).is_err() {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// The volume that a person means: by its name, or the unique beginning of one.
pub fn find(dirs: &Dirs, given: &str) -> Result<Volume> {
    if let Some(volume) = by_name(dirs, given)? {
        return Ok(volume);
    }
    let mut matching = list(dirs, drop)?;
    matching.retain(|volume| !given.is_empty() && volume.name.starts_with(given));
    match matching.len() {
        0 => Err(missing(given)),
        1 => Ok(matching.remove(0)),
        count => Err(fail(
            Kind::Usage,
            format!("\"{given}\" is the beginning of {count} volume names"),
        )
        .hint("give more letters")),
    }
}

pub fn missing(given: &str) -> anyhow::Error {
    fail(Kind::NotFound, format!("no volume named \"{given}\""))
        .hint("`rbox volume ls` lists the volumes there are")
}

/// Takes a volume away: from then on it does not exist, and what is left of it is to be deleted.
///
/// Must: be called with the lock for removal held, and only if no container uses it.
pub fn retire(dirs: &Dirs, name: &str) -> Result<Option<PathBuf>> {
    let left = dirs.volumes().join(atomic::temp_name());
    match std::fs::rename(dirs.volumes().join(name), &left) {
        Ok(()) => {
            happened(dirs, "remove", name);
            Ok(Some(left))
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("cannot remove volume \"{name}\"")),
    }
}

fn happened(dirs: &Dirs, action: &str, name: &str) {
    journal::add(dirs, &Event::new("volume", action, name, name));
}

/// Removes a volume with all that is in it.
///
/// Must: as for `retire`.
pub fn remove(dirs: &Dirs, name: &str) -> Result<()> {
    match retire(dirs, name)? {
        Some(left) => {
            remove::remove_tree(&left).with_context(|| format!("cannot remove volume \"{name}\""))
        }
        None => Ok(()),
    }
}

/// Its directory.
pub fn place(dirs: &Dirs, name: &str) -> PathBuf {
    dirs.volumes().join(name)
}

/// Removes the directory for the files of a new volume, if it is empty: it is to be made again with
/// another owner.
pub fn give_up(dirs: &Dirs, name: &str) -> Result<()> {
    match rustix::fs::rmdir(place(dirs, name).join(DATA)) {
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTEMPTY) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("cannot use volume \"{name}\"")),
    }
}

/// A container is made that uses a volume which was there before it.
///
/// Must: be called with the lock for use held.
pub fn mark_shared(dirs: &Dirs, name: &str) -> Result<()> {
    let file = place(dirs, name).join(SHARED);
    std::fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))
}

/// Whether only the records of all containers tell who uses it.
pub fn is_shared(dirs: &Dirs, name: &str) -> bool {
    place(dirs, name).join(SHARED).exists()
}

/// From now on it is not new.
pub fn mark_used(dirs: &Dirs, name: &str) {
    std::fs::remove_file(place(dirs, name).join(NEW)).ok();
}

/// Whether there is a volume of this very name, be it readable or not.
pub fn exists(dirs: &Dirs, name: &str) -> bool {
    is_name(name) && dirs.volumes().join(name).symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[test]
    fn a_volume_is_made_once_found_and_removed() {
        let base = scratch("volume");
        let dirs = Dirs::at(base.path()).unwrap();
        assert_eq!(list(&dirs, drop).unwrap(), []);
        let volume = Volume::named("data");
        assert!(create(&dirs, &volume).unwrap());
        assert!(!create(&dirs, &volume).unwrap());
        assert!(volume.is_new(&dirs) && volume.data(&dirs).is_dir());
        assert_eq!(find(&dirs, "da").unwrap(), volume);
        assert!(find(&dirs, "").is_err() && find(&dirs, "../volumes/data").is_err());
        let _alone = lock_for_removal(&dirs).unwrap();
        for _ in 0..2 {
            remove(&dirs, "data").unwrap();
        }
        assert_eq!(list(&dirs, drop).unwrap(), []);
        assert_eq!(std::fs::read_dir(dirs.volumes()).unwrap().count(), 1);
    }

    #[test]
    fn options_of_the_local_driver() {
        let mounted = |options: &[(&str, &str)]| {
            let mut volume = Volume::named("v");
            volume.options = options
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            volume.mounted()
        };
        assert_eq!(mounted(&[]).unwrap().source, From::Own);
        let tmpfs = mounted(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,uid=5"),
        ])
        .unwrap();
        assert_eq!((tmpfs.source, tmpfs.owner), (From::Tmpfs, Some((5, 0))));
        assert_eq!(
            mounted(&[("type", "none"), ("device", "/srv"), ("o", "bind")])
                .unwrap()
                .source,
            From::Directory("/srv".into())
        );
        for wrong in [
            [("type", "nfs"), ("device", ":/x")],
            [("type", "none"), ("device", "/x")],
            [("device", "x"), ("o", "bind")],
            [("o", "uid=x"), ("type", "tmpfs")],
            [("size", "1m"), ("type", "tmpfs")],
        ] {
            assert!(mounted(&wrong).is_err(), "{wrong:?}");
        }
    }
}
