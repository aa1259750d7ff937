//! The record of an image, `images/ids/<config digest>.json`.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::image::config::FromImage;
use crate::image::config::ImageConfig;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;
use crate::sys::parallel;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of the image config.
    pub id: Digest,
    pub manifest_digest: Digest,
    /// Of the manifest.
    pub media_type: String,
    /// Diff-ids, the lowest layer first.
    pub layers: Vec<Digest>,
    pub platform: Platform,
    /// RFC 3339, as the image says.
    pub created: Option<String>,
    /// Bytes of the files of all layers.
    pub size: u64,
    pub config: FromImage<ImageConfig>,
    /// Its manifest was written here, and names the tars of its layers: in a registry they are compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
    /// Its names. After [`super::find`], the one it was found by alone.
    #[serde(skip)]
    pub names: Vec<Reference>,
    /// The additional store that it is in, where it is not the user's own.
    #[serde(skip)]
    pub store: Option<PathBuf>,
}

impl Record for Image {
    const NOUN: &'static str = "image";
    const VERSION: u32 = 1;
    const OPEN: bool = true;
}

impl Image {
    /// Whether it stands for images for several platforms (see `lists`).
    pub fn is_list(&self) -> bool {
        self.id == self.manifest_digest
    }
}

pub fn path(dirs: &Dirs, id: &Digest) -> PathBuf {
    dirs.image_ids().join(format!("{}.json", id.hex()))
}

pub fn load(dirs: &Dirs, id: &Digest) -> Result<Image> {
    let mut found = dirs.all().filter(|store| path(store, id).exists());
    load_from(dirs, &path(found.next().unwrap_or(dirs), id))
}

/// The image whose record has this path, in whichever store.
pub fn load_from(dirs: &Dirs, path: &Path) -> Result<Image> {
    let mut others = dirs.additional.iter();
    let other = others.find(|store| path.starts_with(&store.data));
    match record::load(path) {
        Ok(image) => Ok(Image {
            store: other.map(|store| store.data.clone()),
            ..image
        }),
        Err(err) if crate::error::kind(&err) != Some(Kind::NotFound) && other.is_none() => {
            Err(with_hint(err, path))
        }
        err => err,
    }
}

pub fn save(dirs: &Dirs, image: &Image) -> Result<()> {
    record::save(&path(dirs, &image.id), image, Durability::Durable)
}

/// All images. One whose record cannot be read is passed over, so that the others can still be used:
/// `bad` hears of it.
pub fn all(dirs: &Dirs, mut bad: impl FnMut(anyhow::Error)) -> Result<Vec<Image>> {
    let mut paths = dirs.entries(Dirs::image_ids, &mut bad)?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    let mut images = Vec::with_capacity(paths.len());
    for read in parallel::map(&paths, |path| load_from(dirs, path)) {
        match read {
            Ok(image) => images.push(image),
            // It was removed since it was listed.
            Err(err) if crate::error::kind(&err) == Some(Kind::NotFound) => {}
            Err(err) => bad(err),
        }
    }
    Ok(images)
}

/// Images that only additional stores have.
pub fn of_additional(dirs: &Dirs) -> Vec<Image> {
    if dirs.additional.is_empty() {
        return vec![];
    }
    let mut images = all(dirs, drop).unwrap_or_default();
    images.retain(|image| image.store.is_some());
    images
}

fn with_hint(err: anyhow::Error, path: &Path) -> anyhow::Error {
    let id = path.file_stem().unwrap_or_default().to_string_lossy();
    let short = id.get(..12).unwrap_or(&id);
    err.hint(format!(
        "the record is damaged, or of another version of rbox; `rbox rmi -f {short}` removes the image"
    ))
}
