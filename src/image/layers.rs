//! Layers as they lie on disk: `layers/<diff-id>/{diff/, layer.json}`. Made beside their place
//! and renamed into it once their files are durable; never changed after that.

use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::record::Image;
use crate::image::unpack;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::helper::Helper;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp::TempDir;

const RECORD: &str = "layer.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: Digest,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// The id map under which the files have their owners (`IdMaps::tag`).
    pub ids: String,
    /// Overlayfs does not look at the root of a lower directory: layers below such a one are
    /// left out of the stack instead.
    pub opaque_root: bool,
}

impl Record for Layer {
    const NOUN: &'static str = "layer";
    const VERSION: u32 = 1;
}

pub fn dir(dirs: &Dirs, diff_id: &Digest) -> PathBuf {
    dirs.layers().join(diff_id.hex())
}

/// Where the files of a layer are.
pub fn files(dirs: &Dirs, diff_id: &Digest) -> PathBuf {
    dir(dirs, diff_id).join(unpack::DIFF)
}

/// The layer, where it is in the store and of this id map.
pub fn find(dirs: &Dirs, diff_id: &Digest, ids_tag: &str) -> Result<Option<Layer>> {
    let layer: Option<Layer> = record::load_if_present(&dir(dirs, diff_id).join(RECORD))?;
    Ok(layer.filter(|layer| layer.ids == ids_tag))
}

/// The directories to be stacked, relative to the data directory, the top layer first.
pub fn lowerdirs(dirs: &Dirs, image: &Image, ids_tag: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for diff_id in image.layers.iter().rev() {
        let Some(layer) = find(dirs, diff_id, ids_tag)? else {
            return Err(unusable(dirs, image, diff_id));
        };
        let path = PathBuf::from("layers")
            .join(diff_id.hex())
            .join(unpack::DIFF);
        // Overlayfs takes no directory twice, and the upper one decides anyhow.
        if !found.contains(&path) {
            found.push(path);
        }
        if layer.opaque_root {
            break;
        }
    }
    Ok(found)
}

fn unusable(dirs: &Dirs, image: &Image, diff_id: &Digest) -> anyhow::Error {
    let name = match image.names.first() {
        Some(name) => name.familiar(),
        None => image.id.short().to_owned(),
    };
    let why = if dir(dirs, diff_id).exists() {
        "was unpacked for another range of ids"
    } else {
        "is missing"
    };
    fail(
        Kind::NotFound,
        format!(
            "cannot use image \"{name}\": layer {} {why}",
            diff_id.short()
        ),
    )
    .hint(format!(
        "fetch it again with `rbox pull {name}` or `rbox load`"
    ))
}

/// A layer that is being unpacked. Dropped, it leaves nothing.
pub struct Unfinished {
    // In this order: the helper is dead before its directory is removed.
    helper: Helper,
    temp: TempDir,
    diff_id: Digest,
    ids: String,
}

/// A layer whose files are there, but not yet durable nor in their place.
pub struct Finished {
    temp: TempDir,
    layer: Layer,
}

impl Unfinished {
    pub fn start(dirs: &Dirs, diff_id: &Digest, ids_tag: &str) -> Result<Self> {
        let temp = TempDir::create_in(&dirs.layers())?;
        let helper = Helper::start("extract", temp.path(), &[diff_id.algorithm().name()])?;
        Ok(Self {
            helper,
            temp,
            diff_id: diff_id.clone(),
            ids: ids_tag.to_owned(),
        })
    }

    /// The next bytes of the layer, compressed or not.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.helper.send(bytes)
    }

    pub fn finish(self) -> Result<Finished> {
        let answer = self.helper.finish()?;
        let report: unpack::Report =
            serde_json::from_str(&answer).context("cannot understand the unpacker")?;
        if report.diff_id != self.diff_id {
            bail!(
                "its files have the digest {}, and the image wants {}",
                report.diff_id,
                self.diff_id
            );
        }
        let layer = Layer {
            diff_id: self.diff_id,
            size: report.size,
            tar_size: report.tar_size,
            ids: self.ids,
            opaque_root: report.opaque_root,
        };
        let path = self.temp.path().join(RECORD);
        // Made durable with all the other files, in `commit`.
        record::save(&path, &layer, Durability::Volatile)?;
        Ok(Finished {
            temp: self.temp,
            layer,
        })
    }
}

/// Puts layers in their place, after one sync for all of them.
pub fn commit(dirs: &Dirs, layers: Vec<Finished>) -> Result<()> {
    let Some(first) = layers.first() else {
        return Ok(());
    };
    first.temp.sync_file_system()?;
    for Finished { temp, layer } in layers {
        let place = dir(dirs, &layer.diff_id);
        if place.exists()
            && find(dirs, &layer.diff_id, &layer.ids)
                .ok()
                .flatten()
                .is_none()
        {
            // There under another id map, or damaged.
            temp.exchange_with(&place)?;
        } else {
            temp.rename_to(&place)?;
        }
    }
    atomic::sync_dir(&dirs.layers())
}
