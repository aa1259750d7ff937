//! Stores of images that everybody may read: made by one user (`rbox system share`), who alone writes there
//! (`rbox --imagestore`), and named by others in storage.conf. They hold images and nothing else.
//!
//! ```text
//! STORE/shared                     what makes it such a store
//! STORE/images/ blobs/ layers/     as in any store, of mode 0755; all else is private
//! STORE/layers/<diff-id>/diff/     not the layer's tree, but the contents of its large files (image/additional.rs):
//!                                  nobody gets a set-id file of an image, nor ids that are not his
//! ```
//!
//! Whoever names a store trusts its owner with what is in its images, as he would a registry without
//! digests: an owner can change a file at any time. Others than the owner must not be able to.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::config::storage;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::dirs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

const MARK: &str = "shared";
/// Directories for everybody.
const OPEN: [&str; 8] = [
    "",
    "images",
    "images/ids",
    "images/refs",
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "layers",
];

/// Directories that a usual store makes later, and for nobody else here either.
const PRIVATE: [&str; 2] = ["cache", "events"];

/// An additional store that cannot be used, or the file that should name some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub path: PathBuf,
    pub why: String,
    /// It is another engine's, which is in nobody's way.
    pub foreign: bool,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        write!(f, "cannot use additional store \"{path}\": {}", self.why)
    }
}

/// Makes a store to be shared, where there is none yet.
pub fn make(path: &Path) -> Result<()> {
    let cannot = || format!("cannot make image store \"{}\"", path.display());
    let path = &std::path::absolute(path).with_context(cannot)?;
    let uid = rustix::process::geteuid().as_raw();
    let is_shared = path.join(MARK).exists();
    if !is_shared && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        let text = "there is something else in this directory";
        return Err(fail(Kind::Conflict, text))
            .hint("name a directory that is empty or does not exist")
            .with_context(cannot);
    }
    if !is_shared {
        // A directory of somebody else is refused.
        for dir in [""].into_iter().chain(dirs::DATA_DIRS).chain(PRIVATE) {
            dirs::make_private(&path.join(dir), uid).with_context(cannot)?;
        }
    }
    check_owner(path, uid).with_context(cannot)?;
    for dir in OPEN {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path.join(dir), mode).with_context(cannot)?;
    }
    std::fs::write(
        path.join(MARK),
        "images for all users: `rbox system share`\n",
    )
    .with_context(cannot)?;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path.join(MARK), mode).with_context(cannot)?;
    Lock::shared(&path.join(dirs::LOCK)).map(drop)
}

/// A shared store of this user's in place of his own one.
pub fn open_own(path: &Path, own: Dirs, uid: u32) -> Result<Dirs> {
    let cannot = || format!("cannot use image store \"{}\"", path.display());
    let path = std::path::absolute(path).with_context(cannot)?;
    if !path.join(MARK).exists() {
        let hint = format!("make it with `rbox system share {}`", path.display());
        return Err(fail(Kind::NotFound, "it is no store to be shared"))
            .hint(hint)
            .with_context(cannot);
    }
    check_owner(&path, uid).with_context(cannot)?;
    let dirs = Dirs {
        data: path,
        // Of containers that run from the user's own store this one knows nothing.
        run: own.run.join("imagestore"),
        shared: true,
        ..Dirs::default()
    };
    dirs.make_run(uid)?;
    Ok(dirs)
}

fn check_owner(path: &Path, uid: u32) -> Result<()> {
    let owner = path.metadata()?.uid();
    if owner == uid {
        return Ok(());
    }
    let text = format!("it belongs to uid {owner}, and you are uid {uid}");
    Err(fail(Kind::Unsupported, text))
}

/// A shared store must not become private by being somebody's data directory.
pub fn refuse_as_own(path: &Path) -> Result<()> {
    if !path.join(MARK).exists() {
        return Ok(());
    }
    let text = format!("{} holds images for all users", path.display());
    let hint = format!("use it with `rbox --imagestore {}`", path.display());
    Err(fail(Kind::Unsupported, text).hint(hint))
}

/// Finds the additional stores: those that are given, or those of storage.conf.
pub fn find(dirs: &mut Dirs, given: Option<&[PathBuf]>) -> Result<()> {
    if let Some(given) = given {
        for path in given {
            let store = open(path);
            let cannot = || format!("cannot use additional store \"{}\"", path.display());
            dirs.additional.push(store.with_context(cannot)?);
        }
        return Ok(());
    }
    let paths = match storage::additional_stores() {
        Ok(paths) => paths,
        Err((path, why)) => {
            dirs.unusable.push(Unusable {
                path,
                why,
                foreign: false,
            });
            return Ok(());
        }
    };
    for path in paths {
        match open(&path) {
            Ok(store) if store.data == dirs.data => {}
            Ok(store) => dirs.additional.push(store),
            Err(err) => dirs.unusable.push(Unusable {
                foreign: is_foreign(&path),
                why: error::message(&err),
                path,
            }),
        }
    }
    Ok(())
}

/// That of Podman and its relatives.
fn is_foreign(path: &Path) -> bool {
    ["overlay-images", "vfs-images", "storage.lock"]
        .iter()
        .any(|name| path.join(name).exists())
}

const HINT: &str = "its owner makes a store that others can read with `rbox system share PATH`, and puts images there with `rbox --imagestore PATH pull IMAGE`; all directories above it must let you through";

fn open(path: &Path) -> Result<Dirs> {
    match path.join(MARK).symlink_metadata() {
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let text = if path.exists() {
                "it is no store to be shared"
            } else {
                "there is no such directory"
            };
            return Err(fail(Kind::NotFound, text).hint(HINT));
        }
        Err(err) => return Err(anyhow::Error::from(err).hint(HINT)),
        Ok(_) => {}
    }
    let owner = path.metadata()?.uid();
    for dir in OPEN {
        let place = path.join(dir);
        let metadata = if dir.is_empty() {
            place.metadata()
        } else {
            place.symlink_metadata()
        };
        let metadata = metadata.with_context(|| place.display().to_string())?;
        if metadata.uid() != owner || metadata.mode() & 0o022 != 0 || !metadata.is_dir() {
            let text = format!("others than its owner can write to {}", place.display());
            let hint = format!(
                "its owner closes it with `chmod -R go-w {}`",
                path.display()
            );
            return Err(fail(Kind::Unsupported, text).hint(hint));
        }
    }
    Ok(Dirs {
        data: path.to_owned(),
        shared: true,
        ..Dirs::default()
    })
}
