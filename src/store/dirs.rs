//! Where everything is: the data directory, which outlives reboots, and the run directory,
//! which does not. Made on first use, with mode 0700, and refused when somebody else owns them.
//! Images may be in stores of others too (`additional`), which are read, and never written to.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::additional;
use crate::store::additional::Unusable;
use crate::store::lock::Lock;

/// The two directories of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirs {
    pub data: PathBuf,
    pub run: PathBuf,
    /// The data directory is a store of images for everybody to read (see `additional`), and of nothing else.
    pub shared: bool,
    /// Such stores of others, in the order in which images are looked for.
    pub additional: Vec<Dirs>,
    /// Additional stores that cannot be used.
    pub unusable: Vec<Unusable>,
}

/// What the command line says of stores.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// A shared store in place of the user's own.
    pub image_store: Option<PathBuf>,
    /// In place of those that storage.conf names.
    pub additional: Option<Vec<PathBuf>>,
}

/// Directories below `data`, in the order in which they are made.
pub const DATA_DIRS: [&str; 8] = [
    "containers",
    "names",
    "images/ids",
    "images/refs",
    "blobs/sha256",
    "blobs/sha512",
    "layers",
    "tmp",
];
/// Made last: where it exists, the directories do too.
pub const LOCK: &str = "lock";

impl Dirs {
    /// The directories of the calling user, made where they do not exist.
    pub fn open(wish: &Wish) -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let mut dirs = match &wish.image_store {
            Some(path) => additional::open_own(path, Self::locate()?, uid)?,
            None => Self::locate()?.make(uid)?,
        };
        additional::find(&mut dirs, wish.additional.as_deref())?;
        Ok(dirs)
    }

    /// Without the stores of others: what is changed, collected or repaired is the user's own.
    pub fn alone(&self) -> Self {
        Self {
            data: self.data.clone(),
            run: self.run.clone(),
            shared: self.shared,
            ..Self::default()
        }
    }

    /// The user's own store, and those of others.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.additional)
    }

    /// The files of a directory in all stores. Of those by one name there is the first, which is the user's own where
    /// he has one. `bad` hears of additional stores that cannot be read.
    pub fn entries(
        &self,
        place: impl Fn(&Self) -> PathBuf,
        mut bad: impl FnMut(anyhow::Error),
    ) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut names = HashSet::new();
        for store in self.all() {
            let place = place(store);
            let entries = match std::fs::read_dir(&place) {
                Err(err) if store != self => {
                    let cannot = format!("cannot read additional store {}", place.display());
                    bad(anyhow::Error::new(err).context(cannot));
                    continue;
                }
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let is_hidden = name.as_encoded_bytes().starts_with(b".");
                if !is_hidden && (self.additional.is_empty() || names.insert(name)) {
                    found.push(entry.path());
                }
            }
        }
        Ok(found)
    }

    /// Where they are or would be; nothing is made or checked.
    pub fn locate() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        Self::for_user(uid, |name| std::env::var_os(name))
    }

    /// The directories, chosen as the XDG base directory specification says.
    fn for_user(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        // A relative path in these variables counts as unset (XDG base directory specification).
        let absolute = |name: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data = match (absolute("XDG_DATA_HOME"), absolute("HOME")) {
            (Some(base), _) => base.join("rbox"),
            (None, _) if uid == 0 => PathBuf::from("/var/lib/rbox"),
            (None, Some(home)) => home.join(".local/share/rbox"),
            (None, None) => {
                return Err(fail(
                    Kind::Unsupported,
                    "cannot find the data directory: neither XDG_DATA_HOME nor HOME is set",
                )
                .hint("set HOME to your home directory"));
            }
        };
        // systemd: root's is made at a login and goes with the last one; services have none.
        let of_login = |base: &Path| uid == 0 && base == Path::new("/run/user/0");
        let run = match absolute("XDG_RUNTIME_DIR").filter(|base| !of_login(base)) {
            Some(base) => base.join("rbox"),
            None if uid == 0 => PathBuf::from("/run/rbox"),
            None => PathBuf::from(format!("/tmp/rbox-{uid}")),
        };
        Ok(Self {
            data,
            run,
            ..Self::default()
        })
    }

    /// Directories at given places, for tests.
    #[cfg(test)]
    pub fn at(base: &Path) -> Result<Self> {
        Self {
            data: base.join("data"),
            run: base.join("run"),
            ..Self::default()
        }
        .make(rustix::process::geteuid().as_raw())
    }

    fn make(self, uid: u32) -> Result<Self> {
        if !self.lock_file().exists() {
            make_private(&self.data, uid)?;
            for dir in DATA_DIRS {
                make_private(&self.data.join(dir), uid)?;
            }
            Lock::shared(&self.lock_file())?;
        }
        check_private(&self.data, uid)?;
        self.make_run(uid)?;
        Ok(self)
    }

    pub(super) fn make_run(&self, uid: u32) -> Result<()> {
        if !self.run_containers().exists() {
            make_private(&self.run, uid)?;
            make_private(&self.run_containers(), uid)?;
        }
        check_private(&self.run, uid)
    }

    /// Shared: "I may create references to images, layers, containers". Exclusive: removal of
    /// what nothing refers to.
    pub fn lock_file(&self) -> PathBuf {
        self.data.join(LOCK)
    }

    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    pub fn image_ids(&self) -> PathBuf {
        self.data.join("images/ids")
    }

    pub fn image_refs(&self) -> PathBuf {
        self.data.join("images/refs")
    }

    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs")
    }

    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// Made with the first volume.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// Made with the first network that a user defines.
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// Files that live as long as one command.
    pub fn tmp(&self) -> PathBuf {
        self.data.join("tmp")
    }

    /// Exists where the data directory's file system was found not to take overlays; in the
    /// runtime directory, so that a reboot (another kernel) asks anew.
    pub fn no_overlay(&self) -> PathBuf {
        self.run.join("no-overlay")
    }

    /// Held while a container is created that gets ids which no other has.
    pub fn auto_ids_lock(&self) -> PathBuf {
        self.data.join("auto-ids.lock")
    }

    /// Exists once the user has been told that containers have one id only.
    pub fn told_single_id(&self) -> PathBuf {
        self.data.join("told-single-id")
    }

    /// Held while a local manifest list is changed.
    pub fn lists_lock(&self) -> PathBuf {
        self.data.join("lists.lock")
    }

    /// What layers were compressed to; made with the first push that compresses.
    pub fn packed_cache(&self) -> PathBuf {
        self.data.join("cache/packed")
    }

    /// See `store::journal`; made with the first event.
    pub fn events(&self) -> PathBuf {
        self.data.join("events")
    }

    pub fn journal(&self) -> PathBuf {
        self.events().join("journal")
    }

    pub fn older_journal(&self) -> PathBuf {
        self.events().join("journal.1")
    }

    pub fn run_containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Who is on which network; made with the first.
    pub fn run_networks(&self) -> PathBuf {
        self.run.join("networks")
    }
}

pub fn make_private(path: &Path, uid: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    // The mode above is cut by the umask, and a directory may have been there before.
    match made {
        Ok(()) => check_private(path, uid),
        Err(err) => Err(err).with_context(|| format!("cannot create directory {}", path.display())),
    }
}

fn check_private(path: &Path, uid: u32) -> Result<()> {
    let cannot_use = || format!("cannot use directory {}", path.display());
    let metadata = path.symlink_metadata().with_context(cannot_use)?;
    // A link is followed where the user made it himself, for a store on another disk.
    let metadata = if metadata.is_symlink() && metadata.uid() == uid {
        path.metadata().with_context(cannot_use)?
    } else {
        metadata
    };
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory)).with_context(cannot_use);
    }
    if metadata.uid() != uid {
        return Err(fail(
            Kind::Unsupported,
            format!(
                "it belongs to uid {}, and you are uid {uid}",
                metadata.uid()
            ),
        ))
        .with_context(cannot_use);
    }
    if metadata.mode() & 0o7777 != 0o700 {
        additional::refuse_as_own(path)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).with_context(cannot_use)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn chosen(uid: u32, variables: &[(&str, &str)]) -> Result<(String, String)> {
        let dirs = Dirs::for_user(uid, |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })?;
        Ok((
            dirs.data.display().to_string(),
            dirs.run.display().to_string(),
        ))
    }

    #[test]
    fn directories_follow_xdg() {
        let pair = |data: &str, run: &str| (data.to_owned(), run.to_owned());
        let home = ("HOME", "/home/ann");
        assert_eq!(
            chosen(1000, &[home]).unwrap(),
            pair("/home/ann/.local/share/rbox", "/tmp/rbox-1000")
        );
        assert_eq!(
            chosen(
                1000,
                &[home, ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r")]
            )
            .unwrap(),
            pair("/d/rbox", "/r/rbox")
        );
        assert_eq!(
            chosen(1000, &[home, ("XDG_DATA_HOME", "d")]).unwrap().0,
            "/home/ann/.local/share/rbox"
        );
        assert_eq!(
            chosen(0, &[("HOME", "/root")]).unwrap(),
            pair("/var/lib/rbox", "/run/rbox")
        );
        assert!(chosen(1000, &[]).is_err());
    }

    #[test]
    fn everything_is_private_whatever_was_there_before() {
        let base = scratch("dirs");
        std::fs::create_dir(base.path().join("data")).unwrap();
        let dirs = Dirs::at(base.path()).unwrap();
        for dir in [
            &dirs.data,
            &dirs.run,
            &dirs.layers(),
            &dirs.run_containers(),
        ] {
            assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o700, "{dir:?}");
        }
        assert_eq!(Dirs::at(base.path()).unwrap(), dirs);
    }

    #[test]
    fn a_planted_run_directory_is_refused() {
        let base = scratch("planted");
        std::fs::write(base.path().join("run"), "").unwrap();
        assert!(Dirs::at(base.path()).is_err());
    }
}
