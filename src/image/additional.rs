//! Images of additional stores (see `store::additional`), made ready for containers of this user: each layer is
//! unpacked into the user's own store once, from the blob in the shared one, for the user's own ids. Where the
//! kernel can do that the contents of large files stay where they are (`unpack::contents`); elsewhere they are
//! unpacked too. Nothing is fetched, and what is unpacked has the digest that the image wants.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::ingest;
use crate::image::layers;
use crate::image::layers::Layer;
use crate::image::layers::SHARED;
use crate::image::layers::Stack;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::packed;
use crate::image::progress::Silent;
use crate::image::record::Image;
use crate::image::unpack;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::helper::Helper;
use crate::store::temp;
use crate::store::temp::TempDir;

/// The additional store that has a layer, its record there, and the file with its bytes.
pub fn find<'a>(dirs: &'a Dirs, diff_id: &Digest) -> Option<(&'a Dirs, Layer, PathBuf)> {
    dirs.additional.iter().find_map(|store| {
        let layer = layers::find(store, diff_id, SHARED).ok()??;
        let path = packed::path(store, &layer)?;
        (layer.diff_id == *diff_id && path.exists()).then_some((store, layer, path))
    })
}

/// Whether this kernel, and the file system of the store, take files whose content is elsewhere.
pub fn refers(dirs: &Dirs) -> bool {
    let scratch = TempDir::create_in(&dirs.tmp());
    let tried = scratch.and_then(|scratch| Helper::start("try", scratch.path(), &[])?.finish());
    tried.is_ok()
}

/// As `layers::stack`; layers that only additional stores have are unpacked, which `note` hears of. The caller holds
/// the store lock.
pub fn layers(dirs: &Dirs, image: &Image, ids_tag: &str, note: &dyn Fn(&str)) -> Result<Stack> {
    if !dirs.additional.is_empty() && !dirs.shared {
        unpack(dirs, image, ids_tag, note)?;
    }
    layers::stack(dirs, image, ids_tag)
}

/// The same to be mounted. Linux 6.16: overlayfs follows references from its lowest layer alone (EPERM for others), so this and those up to the uppermost that has some are copied into one.
pub fn stack(dirs: &Dirs, image: &Image, ids_tag: &str, note: &dyn Fn(&str)) -> Result<Stack> {
    let mut stack = layers(dirs, image, ids_tag, note)?;
    if stack.contents.is_empty() {
        return Ok(stack);
    }
    let refers = |hex: &str| {
        let mut layers = image.layers.iter().filter(|layer| layer.hex() == hex);
        let found = layers.next().map(|layer| layers::load(dirs, layer));
        matches!(found, Some(Ok(Some(layer))) if layer.contents.is_some())
    };
    let names = stack
        .lower
        .iter()
        .filter_map(|diff| diff.parent()?.file_name()?.to_str());
    let names: Vec<String> = names.map(str::to_owned).collect();
    let uppermost = names
        .iter()
        .position(|hex| refers(hex))
        .unwrap_or(names.len());
    if uppermost + 1 < names.len() {
        let merged = merged(dirs, &names[uppermost..])?;
        stack.lower.truncate(uppermost);
        stack.lower.push(merged);
    }
    Ok(stack)
}

/// Beside the files of the uppermost layer of those that were merged.
pub const MERGED: &str = "merged";

/// Layers as one, the uppermost first by their digits: `layers/<uppermost>/merged/<digest of all>/diff`, made once.
fn merged(dirs: &Dirs, layers: &[String]) -> Result<PathBuf> {
    let top = Path::new(&layers[0]).join(MERGED);
    let digest = Digest::sha256_of(layers.join(" ").as_bytes());
    let place = top.join(&digest.hex()[..32]);
    let whole = dirs.layers().join(&place);
    if !whole.exists() {
        let parent = dirs.layers().join(&top);
        match atomic::make_dir(&parent) {
            Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => return Err(err.into()),
            _ => {}
        }
        temp::sweep(&parent)?;
        let temp = TempDir::create_in(&parent)?;
        let name = temp.path().strip_prefix(dirs.layers())?;
        let name = name.to_str().context("it is one of ours")?;
        let lowest_first = layers.iter().rev().map(String::as_str);
        let args: Vec<&str> = std::iter::once(name).chain(lowest_first).collect();
        let merged = Helper::start("merge", &dirs.layers(), &args).and_then(Helper::finish);
        merged.context("cannot merge the layers of the image")?;
        temp.sync_file_system()?;
        // Another command may have been faster with the same.
        temp.rename_to(&whole)?;
        atomic::sync_dir(&parent)?;
    }
    Ok(Path::new("layers").join(place).join(unpack::DIFF))
}

fn unpack(dirs: &Dirs, image: &Image, ids_tag: &str, note: &dyn Fn(&str)) -> Result<()> {
    let is_missing = |diff_id: &&Digest| {
        !matches!(layers::find(dirs, diff_id, ids_tag), Ok(Some(_)))
            && find(dirs, diff_id).is_some()
    };
    let missing: Vec<Digest> = image.layers.iter().filter(is_missing).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    note(if refers(dirs) {
        "making the image of the additional store usable for your ids (once); its large files stay there"
    } else {
        "copying the image of the additional store, since this kernel cannot share its files (once)"
    });
    let blobs = blobs_of(dirs, image);
    let source = Nowhere {
        blobs: missing.iter().map(blobs).collect(),
    };
    ingest::layers(dirs, &missing, &source, &Silent).map_err(|err| match error::hint(&err) {
        Some(_) => err,
        None => err.hint("`rbox pull --policy always` fetches the image into your own store; tell the owner of the additional one"),
    })
}

/// The blobs that the manifest of an image names, by the layers that they are of.
fn blobs_of(dirs: &Dirs, image: &Image) -> impl Fn(&Digest) -> Option<Digest> {
    let bytes = blobs::get(dirs, &image.manifest_digest).unwrap_or_default();
    let descriptors = match manifest::parse(&bytes, None) {
        Ok(Document::Manifest(manifest)) => manifest.layers,
        _ => vec![],
    };
    let layers = image.layers.clone();
    move |diff_id| {
        let index = layers.iter().position(|layer| layer == diff_id)?;
        descriptors.get(index).map(|found| found.digest.clone())
    }
}

/// Layers that come from additional stores or not at all.
struct Nowhere {
    blobs: Vec<Option<Digest>>,
}

impl ingest::Source for Nowhere {
    fn size(&self, _: usize) -> Option<u64> {
        None
    }

    fn digest(&self, index: usize) -> Option<&Digest> {
        self.blobs[index].as_ref()
    }

    fn copy(&self, _: usize, _: u64, _: &mut ingest::Sink<'_>) -> Result<()> {
        Err(fail(Kind::NotFound, "no additional store has it any more"))
    }

    fn is_another(&self) -> bool {
        false
    }
}

/// Keeps the owners of shared stores from removing contents that these layers refer to, for as long as the locks are
/// held; an error where they have gone.
pub fn hold(dirs: &Dirs, layers: &[Digest]) -> Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    for diff_id in layers {
        let Some(layer) = layers::load(dirs, diff_id)? else {
            continue;
        };
        let Some(place) = &layer.contents else {
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let contents = place.join(diff_id.hex());
        let locked = rustix::fs::open(&contents, flags, Mode::empty()).and_then(|dir| {
            rustix::fs::flock(dir.as_fd(), FlockOperation::NonBlockingLockShared)?;
            Ok(dir)
        });
        let store = place.parent().unwrap_or(place).display();
        let gone = |_| {
            let text = format!(
                "layer {} is no longer in additional store \"{store}\"",
                diff_id.short()
            );
            fail(Kind::NotFound, text).hint(
                "fetch the image with `rbox pull --policy always`, and create the container anew",
            )
        };
        held.push(locked.map_err(gone)?);
    }
    Ok(held)
}
