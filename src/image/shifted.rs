//! Layers for containers whose ids are not those that layers are unpacked for: copies in which every file
//! belongs to the same id of the container as it would otherwise. In an ordinary user's namespace the
//! kernel shows no file system of the host under other owners (mount_setattr(2), MOUNT_ATTR_IDMAP).
//!
//! `layers/<diff-id>/shifted/<map>/diff`: made beside its place, and renamed into it; made once for each
//! map, shared by containers, and removed with the layer.

use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::image::additional;
use crate::image::layers::Stack;
use crate::image::record::Image;
use crate::image::unpack;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::dirs::Dirs;
use crate::store::helper::Helper;
use crate::store::temp;
use crate::store::temp::TempDir;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;

/// Beside the layer's own files.
pub const SHIFTED: &str = "shifted";

/// For whom a copy is made.
#[derive(Debug)]
pub struct Target<'a> {
    /// The map that layers are unpacked for.
    pub default: &'a IdMaps,
    /// That of the container, and its name.
    pub maps: &'a IdMaps,
    pub tag: &'a str,
}

/// What the helper is told of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub default: [Vec<IdRange>; 2],
    pub maps: [Vec<IdRange>; 2],
}

/// What is stacked, as `additional::stack`; copies that are missing are made, which `note` hears of.
pub fn stack(
    dirs: &Dirs,
    image: &Image,
    target: &Target<'_>,
    note: &dyn Fn(&str),
) -> Result<Stack> {
    let unpacked = additional::stack(dirs, image, &target.default.tag(), note)?;
    let digest = Digest::sha256_of(target.tag.as_bytes());
    let key = &digest.hex()[..32];
    let mut told = false;
    let shifted = unpacked.lower.iter().map(|diff| {
        let layer = diff.parent().context("a layer lies in a directory")?;
        let place = layer.join(SHIFTED).join(key);
        if !dirs.data.join(&place).exists() {
            if !told {
                note("copying the layers of the image for the ids of the container (once for each map)");
                told = true;
            }
            make(&dirs.data.join(layer), &dirs.data.join(&place), target)
                .with_context(|| format!("cannot copy layer {}", short(layer)))?;
        }
        Ok(place.join(unpack::DIFF))
    });
    Ok(Stack {
        lower: shifted.collect::<Result<_>>()?,
        contents: unpacked.contents,
    })
}

fn short(layer: &Path) -> String {
    let name = layer.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(12).collect()
}

fn make(layer: &Path, place: &Path, target: &Target<'_>) -> Result<()> {
    let parent = layer.join(SHIFTED);
    match atomic::make_dir(&parent) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => return Err(err.into()),
        _ => {}
    }
    // What a killed command left.
    temp::sweep(&parent)?;
    let temp = TempDir::create_in(&parent)?;
    let name = temp.path().file_name().context("it has a name")?;
    let name = name.to_str().context("it is one of ours")?;
    let mut helper = Helper::start("shift", layer, &[name])?;
    let order = Order {
        default: [target.default.uids.clone(), target.default.gids.clone()],
        maps: [target.maps.uids.clone(), target.maps.gids.clone()],
    };
    helper.send(&serde_json::to_vec(&order)?)?;
    helper.finish()?;
    temp.sync_file_system()?;
    // Another command may have been faster with the same.
    temp.rename_to(place)?;
    atomic::sync_dir(&parent)
}
