//! The record of an image, `images/ids/<config digest>.json`.

use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::image::config::FromImage;
use crate::image::config::ImageConfig;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;

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
    /// Its names. After [`super::find`], the one it was found by alone.
    #[serde(skip)]
    pub names: Vec<Reference>,
}

impl Record for Image {
    const NOUN: &'static str = "image";
    const VERSION: u32 = 1;
}

pub fn path(dirs: &Dirs, id: &Digest) -> PathBuf {
    dirs.image_ids().join(format!("{}.json", id.hex()))
}

pub fn load(dirs: &Dirs, id: &Digest) -> Result<Image> {
    record::load(&path(dirs, id))
}

pub fn save(dirs: &Dirs, image: &Image) -> Result<()> {
    record::save(&path(dirs, &image.id), image, Durability::Durable)
}

/// All images. One whose record is damaged is passed over, so that the others can still be used.
pub fn all(dirs: &Dirs) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for entry in std::fs::read_dir(dirs.image_ids())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && let Ok(image) = record::load(&path)
        {
            images.push(image);
        }
    }
    Ok(images)
}
