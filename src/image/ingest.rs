//! Getting the layers of an image into the store, from a registry or an archive: several at once,
//! each piped into an unpacker of its own; those that another rbox is just making are waited for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::config::ids::Ids;
use crate::image::config;
use crate::image::config::FromImage;
use crate::image::layers;
use crate::image::layers::Finished;
use crate::image::layers::Unfinished;
use crate::image::manifest::Manifest;
use crate::image::progress::Progress;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::store::temp;

/// Layers that are fetched and unpacked at the same time.
const PARALLEL: usize = 4;

/// Takes the bytes of a layer as they come.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Where layers come from.
pub trait Source: Sync {
    /// The size of a layer as it is transferred, where that is known.
    fn size(&self, index: usize) -> Option<u64>;
    /// Gives the bytes of a layer, verified at the end against what the source promised.
    fn copy(&self, index: usize, sink: &mut Sink<'_>) -> Result<()>;
}

/// Sweeps what killed commands left. What cannot be swept is no obstacle.
pub fn sweep(dirs: &Dirs) {
    for dir in [
        dirs.layers(),
        dirs.tmp(),
        dirs.image_ids(),
        dirs.image_refs(),
        dirs.blobs().join("sha256"),
        dirs.blobs().join("sha512"),
    ] {
        temp::sweep(&dir).ok();
    }
}

/// A layer that is wanted: its place in the manifest and what it must unpack to.
#[derive(Clone)]
struct Wanted {
    index: usize,
    diff_id: Digest,
}

/// Sees to it that all these layers are in the store. The caller holds the store lock.
pub fn layers(
    dirs: &Dirs,
    diff_ids: &[Digest],
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<()> {
    let ids_tag = Ids::detect()?.maps.tag();
    let mut told = false;
    loop {
        let missing = missing(dirs, diff_ids, &ids_tag);
        if !told {
            tell_present(diff_ids, &missing, progress);
            told = true;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut held = Vec::new();
        let mut work = Vec::new();
        for wanted in &missing {
            if let Some(lock) = Lock::try_exclusive(&lock_path(dirs, &wanted.diff_id))? {
                held.push(Making(Some(lock)));
                work.push(wanted.clone());
            }
        }
        if work.is_empty() {
            // All of them are being made by others. One is waited for, with no lock held, so that
            // two pulls never wait for each other; who then has the lock makes what is missing.
            Lock::exclusive(&lock_path(dirs, &missing[0].diff_id))?.remove();
            continue;
        }
        // Between the look and the lock, another may have finished.
        work.retain(|wanted| !matches!(layers::find(dirs, &wanted.diff_id, &ids_tag), Ok(Some(_))));
        let finished = fetch(dirs, work, &ids_tag, source, progress)?;
        layers::commit(dirs, finished)?;
        drop(held);
    }
}

/// Held by who makes a layer; its file goes with it.
struct Making(Option<Lock>);

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.remove();
        }
    }
}

fn lock_path(dirs: &Dirs, diff_id: &Digest) -> std::path::PathBuf {
    dirs.layers().join(format!(".lock-{}", diff_id.hex()))
}

fn missing(dirs: &Dirs, diff_ids: &[Digest], ids_tag: &str) -> Vec<Wanted> {
    let mut missing: Vec<Wanted> = Vec::new();
    for (index, diff_id) in diff_ids.iter().enumerate() {
        // A damaged record counts as a missing layer: it is replaced.
        let found = layers::find(dirs, diff_id, ids_tag).ok().flatten();
        if found.is_none() && missing.iter().all(|wanted| wanted.diff_id != *diff_id) {
            missing.push(Wanted {
                index,
                diff_id: diff_id.clone(),
            });
        }
    }
    missing
}

fn tell_present(diff_ids: &[Digest], missing: &[Wanted], progress: &dyn Progress) {
    for diff_id in diff_ids {
        if missing.iter().all(|wanted| wanted.diff_id != *diff_id) {
            progress.present(diff_id);
        }
    }
}

/// Fetches and unpacks layers on several threads; the first error stops all.
fn fetch(
    dirs: &Dirs,
    work: Vec<Wanted>,
    ids_tag: &str,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Vec<Finished>> {
    let threads = work.len().min(PARALLEL);
    let queue = Mutex::new(VecDeque::from(work));
    let stopped = AtomicBool::new(false);
    let job = || -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        loop {
            let next = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(wanted) = next else {
                return Ok(finished);
            };
            let layer = fetch_one(dirs, &wanted, ids_tag, source, progress, &stopped);
            finished.push(layer.inspect_err(|_| stopped.store(true, Ordering::Relaxed))?);
        }
    };
    let results: Vec<Result<Vec<Finished>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(job)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a panic aborts the process"))
            .collect()
    });
    let mut finished = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(layers) => finished.extend(layers),
            Err(err) => errors.push(err),
        }
    }
    // Those that were merely stopped say less than the one that went wrong.
    errors.sort_by_key(anyhow::Error::is::<Stopped>);
    match errors.into_iter().next() {
        None => Ok(finished),
        Some(err) => Err(err),
    }
}

/// Another layer could not be had.
#[derive(Debug)]
struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another layer could not be had")
    }
}

impl std::error::Error for Stopped {}

fn fetch_one(
    dirs: &Dirs,
    wanted: &Wanted,
    ids_tag: &str,
    source: &dyn Source,
    progress: &dyn Progress,
    stopped: &AtomicBool,
) -> Result<Finished> {
    let diff_id = &wanted.diff_id;
    let cannot = || format!("cannot unpack layer {}", diff_id.short());
    progress.started(diff_id, source.size(wanted.index));
    let mut layer = Unfinished::start(dirs, diff_id, ids_tag).with_context(cannot)?;
    source
        .copy(wanted.index, &mut |bytes| {
            if stopped.load(Ordering::Relaxed) {
                return Err(Stopped.into());
            }
            layer.write(bytes)?;
            progress.advanced(diff_id, bytes.len() as u64);
            Ok(())
        })
        .with_context(cannot)?;
    let finished = layer.finish().with_context(cannot)?;
    progress.finished(diff_id);
    Ok(finished)
}

/// Records an image whose layers are all there. The bytes have been verified.
pub fn image(
    dirs: &Dirs,
    config_bytes: &[u8],
    manifest: &Manifest,
    manifest_digest: &Digest,
    manifest_bytes: &[u8],
) -> Result<Image> {
    let parsed = config::parse(config_bytes)?;
    let ids_tag = Ids::detect()?.maps.tag();
    let mut size = 0;
    for diff_id in &parsed.diff_ids {
        match layers::find(dirs, diff_id, &ids_tag)? {
            Some(layer) => size += layer.size,
            None => bail!("layer {} has gone in the meantime", diff_id.short()),
        }
    }
    blobs::put(dirs, &manifest.config.digest, config_bytes)?;
    blobs::put(dirs, manifest_digest, manifest_bytes)?;
    let image = Image {
        id: manifest.config.digest.clone(),
        manifest_digest: manifest_digest.clone(),
        media_type: manifest.media_type.clone(),
        layers: parsed.diff_ids,
        platform: parsed.platform,
        created: parsed.created,
        size,
        config: FromImage::new(parsed.config),
        names: Vec::new(),
    };
    record::save(dirs, &image)?;
    Ok(image)
}
