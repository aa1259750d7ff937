//! Removing images: names, records, and then the layers and blobs that nothing refers to.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::ingest;
use crate::image::layers;
use crate::image::layers::Packed;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::names;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::atomic;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::store::partial;
use crate::store::remove::remove_tree;
use crate::store::temp;

/// How long the beginning of a blob waits for its pull to be repeated, while images are removed.
const PARTIAL_AGE: Duration = Duration::from_hours(24);

/// What [`take`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub untagged: Vec<Reference>,
    /// The image, where its last name went.
    pub deleted: Option<Digest>,
}

/// Tells which layers containers use. Asked while nobody can create a container.
pub type InUse<'a> = dyn Fn() -> Result<HashSet<Digest>> + 'a;

/// Takes away the name by which the image is given, and with the last name the image. Given by
/// its ID, an image with several names goes only by `force`. Layers and blobs are for [`collect`].
pub fn take(dirs: &Dirs, text: &str, force: bool) -> Result<Removed> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    remove_records(&dirs.alone(), text, force)
}

fn remove_records(dirs: &Dirs, text: &str, force: bool) -> Result<Removed> {
    let image = match names::find(dirs, text) {
        Err(err) if force && error::kind(&err) != Some(Kind::NotFound) => {
            return remove_unreadable(dirs, text, err);
        }
        found => found?,
    };
    let all = names::of(dirs, &image.id)?;
    let given = image.names.first();
    let untagged = match given {
        Some(name) => vec![name.clone()],
        None if all.len() > 1 && !force => {
            return Err(fail(
                Kind::Conflict,
                format!("cannot remove image \"{text}\": it has {} names", all.len()),
            )
            .hint("remove it by name, or with --force by all its names"));
        }
        _ => all.clone(),
    };
    for name in &untagged {
        names::remove(dirs, name)?;
    }
    if untagged.len() < all.len() {
        return Ok(Removed {
            untagged,
            deleted: None,
        });
    }
    Ok(Removed {
        untagged,
        deleted: remove_record(dirs, &image)?.then_some(image.id),
    })
}

/// Takes an image away, unless somebody has given it a name.
pub fn take_nameless(dirs: &Dirs, id: &Digest) -> Result<Removed> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    let dirs = &dirs.alone();
    let image = record::load(dirs, id)?;
    let goes = names::of(dirs, id)?.is_empty() && remove_record(dirs, &image)?;
    Ok(Removed {
        untagged: vec![],
        deleted: goes.then_some(image.id),
    })
}

/// Removes the record of an image that has no name. `false` where it was given one meanwhile, and stays.
fn remove_record(dirs: &Dirs, image: &Image) -> Result<bool> {
    match std::fs::remove_file(record::path(dirs, &image.id)) {
        // Another command saw it without a name.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        removed => {
            removed.with_context(|| format!("cannot remove image \"{}\"", image.id.short()))?;
        }
    }
    atomic::sync_dir(&dirs.image_ids())?;
    // `names::save_as` looks from the other side.
    let is_named = !names::of(dirs, &image.id)?.is_empty();
    if is_named {
        record::save(dirs, image)?;
    }
    Ok(!is_named)
}

/// All names and the record, whatever that is, of an image that is known by its digest alone.
fn remove_unreadable(dirs: &Dirs, text: &str, err: anyhow::Error) -> Result<Removed> {
    let Some(id) = names::find_unreadable(dirs, text)? else {
        return Err(err);
    };
    let untagged = names::of(dirs, &id)?;
    for name in &untagged {
        names::remove(dirs, name)?;
    }
    remove_tree(&record::path(dirs, &id))?;
    atomic::sync_dir(&dirs.image_ids())?;
    Ok(Removed {
        untagged,
        deleted: Some(id),
    })
}

/// Removes layers and blobs that neither images nor containers refer to, and what killed
/// commands left. Does nothing while another command may be making references: the next
/// collection does it then.
pub fn collect(dirs: &Dirs, in_use: &InUse<'_>) -> Result<()> {
    collect_all(&dirs.alone(), in_use, Duration::ZERO)
}

/// The same after images were removed: pulls that were interrupted lately can still go on, and images of additional
/// stores stay usable at once.
pub fn collect_after(dirs: &Dirs, in_use: &InUse<'_>) -> Result<()> {
    let with_additional = || {
        let mut layers = in_use()?;
        let others = record::of_additional(dirs).into_iter();
        layers.extend(others.flat_map(|image| image.layers));
        Ok(layers)
    };
    collect_all(&dirs.alone(), &with_additional, PARTIAL_AGE)
}

/// `age_min` is that of the beginnings of blobs which go: the next pull goes on with those that stay.
fn collect_all(dirs: &Dirs, in_use: &InUse<'_>, age_min: Duration) -> Result<()> {
    let Some(_lock) = Lock::try_exclusive(&dirs.lock_file())? else {
        return Ok(());
    };
    ingest::sweep(dirs);
    for dir in blob_dirs(dirs) {
        partial::sweep(&dir, age_min)?;
        temp::sweep_alone(&dir)?;
    }
    // Whoever writes there holds the store lock.
    for dir in [dirs.layers(), dirs.image_ids(), dirs.image_refs()] {
        temp::sweep_alone(&dir)?;
    }
    let mut layers = in_use()?;
    let mut unreadable = 0;
    let images = record::all(dirs, |_| unreadable += 1)?;
    if unreadable > 0 {
        // What belongs to those is not known.
        return Ok(());
    }
    layers.extend(images.iter().flat_map(|image| image.layers.iter().cloned()));
    // These first: on a full disk they make the room for the rest.
    delete(&retire_layers(dirs, &layers)?)?;
    match blobs_in_use(dirs, &images, &layers) {
        Some(blobs) => delete(&retire_blobs(dirs, &blobs)?),
        None => Ok(()),
    }
}

/// Takes the layers that nobody uses out of their places, by one rename each: half a layer must never be there.
/// Returns where they are.
fn retire_layers(dirs: &Dirs, used: &HashSet<Digest>) -> Result<Vec<PathBuf>> {
    let keep: HashSet<&str> = used.iter().map(Digest::hex).collect();
    let mut retired = Vec::new();
    for entry in std::fs::read_dir(dirs.layers())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stays = name.starts_with(atomic::TEMP_PREFIX)
            || keep.contains(&*name)
            || dirs.shared && is_held(&entry.path());
        if !stays {
            retired.push(retire(&entry.path())?);
        }
    }
    Ok(retired)
}

/// Whether containers of other users read the contents of a layer (`additional::hold`).
fn is_held(layer: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let locked = rustix::fs::open(layer, flags, Mode::empty())
        .and_then(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive));
    locked == Err(Errno::WOULDBLOCK)
}

fn retire_blobs(dirs: &Dirs, used: &HashSet<Digest>) -> Result<Vec<PathBuf>> {
    let keep: HashSet<&str> = used.iter().map(Digest::hex).collect();
    let mut retired = Vec::new();
    for dir in blob_dirs(dirs) {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unfinished = name.starts_with(atomic::TEMP_PREFIX) || partial::is_partial(&name);
            if !unfinished && !keep.contains(&*name) {
                retired.push(retire(&entry.path())?);
            }
        }
    }
    Ok(retired)
}

fn retire(path: &Path) -> Result<PathBuf> {
    let temp = path.with_file_name(atomic::temp_name());
    std::fs::rename(path, &temp).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(temp)
}

/// Once their places are durably empty, and not before: where a power cut brings back a name, it must bring back the
/// bytes. Linux: ext4_free_blocks (fs/ext4/mballoc.c): with `data=writeback` the blocks of a removed file are for
/// others at once.
fn delete(retired: &[PathBuf]) -> Result<()> {
    let parents: BTreeSet<&Path> = retired.iter().filter_map(|path| path.parent()).collect();
    for parent in parents {
        atomic::sync_dir(parent)?;
    }
    for path in retired {
        remove_tree(path)?;
    }
    Ok(())
}

fn blob_dirs(dirs: &Dirs) -> [PathBuf; 2] {
    ["sha256", "sha512"].map(|algorithm| dirs.blobs().join(algorithm))
}

/// What images, their names and their layers refer to; `None` where that cannot be known.
pub fn blobs_in_use(
    dirs: &Dirs,
    images: &[Image],
    layers: &HashSet<Digest>,
) -> Option<HashSet<Digest>> {
    let mut used = HashSet::new();
    for image in images {
        let Ok(Document::Manifest(manifest)) = document(dirs, &image.manifest_digest) else {
            return None;
        };
        used.extend([image.id.clone(), image.manifest_digest.clone()]);
        used.extend(manifest.layers.into_iter().map(|layer| layer.digest));
    }
    let mut unknown = false;
    let names = names::all_readable(dirs, |_| unknown = true).ok()?;
    if unknown {
        return None;
    }
    for name in names {
        // An index need not be here, nor what it refers to. The manifests that are stay with it.
        match document(dirs, &name.manifest_digest) {
            Ok(Document::Index(index)) => {
                used.extend(index.into_iter().map(|manifest| manifest.digest));
            }
            // The same image may have come in another form under another name.
            Ok(Document::Manifest(manifest)) => {
                used.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            }
            Err(_) => {}
        }
        used.insert(name.manifest_digest);
    }
    for diff_id in layers {
        if let Some(Packed::Blob(digest)) = layers::load(dirs, diff_id)
            .ok()
            .flatten()
            .and_then(|layer| layer.packed)
        {
            used.insert(digest);
        }
    }
    Some(used)
}

fn document(dirs: &Dirs, digest: &Digest) -> Result<Document> {
    manifest::parse(&blobs::get(dirs, digest)?, None)
}
