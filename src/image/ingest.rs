//! Getting the layers of an image into the store, from a registry or an archive: several at once,
//! each kept as it comes and piped into an unpacker of its own; those that another rbox is just making are
//! waited for.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image::additional;
use crate::image::config;
use crate::image::config::FromImage;
use crate::image::interrupt;
use crate::image::keep::Keeper;
use crate::image::layers;
use crate::image::layers::Finished;
use crate::image::layers::NewPacked;
use crate::image::layers::Packed;
use crate::image::layers::Unfinished;
use crate::image::manifest;
use crate::image::manifest::Manifest;
use crate::image::packed;
use crate::image::progress::Progress;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::store::remove::remove_tree;
use crate::store::temp;

/// Layers that are fetched and unpacked at the same time.
const PARALLEL: usize = 4;
const BUFFER: usize = 256 << 10;

/// Takes the bytes of a layer as they come.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Where layers come from.
pub trait Source: Sync {
    /// The size of a layer as it is transferred, where that is known.
    fn size(&self, index: usize) -> Option<u64>;
    /// The digest of those bytes, where one is promised: they are compared with it.
    fn digest(&self, index: usize) -> Option<&Digest>;
    /// Whether they come from far, and are worth to be kept where an interrupted command cannot use them as they are.
    fn is_far(&self) -> bool {
        false
    }
    /// Gives the bytes of a layer. Those before `from`, which is 0 for bytes without a digest, are known.
    fn copy(&self, index: usize, from: u64, sink: &mut Sink<'_>) -> Result<()>;
    /// Whether it gives layers that an additional store cannot give.
    fn is_another(&self) -> bool {
        true
    }
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

/// A layer that is wanted: its place in the manifest, what it must unpack to, and what there is of it.
#[derive(Clone)]
struct Wanted {
    index: usize,
    diff_id: Digest,
    /// The blob to be kept byte for byte. A layer that is not compressed is its own tar, and is kept as zstd.
    blob: Option<Digest>,
    unpacked: bool,
    packed: bool,
}

/// Sees to it that all these layers are in the store. The caller holds the store lock.
pub fn layers(
    dirs: &Dirs,
    diff_ids: &[Digest],
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<()> {
    let job = Job {
        dirs,
        source,
        progress,
        ids_tag: layers::ids_tag(dirs)?,
        refers: OnceLock::new(),
        stopped: AtomicBool::new(false),
        unfinished: Mutex::new(Vec::new()),
    };
    let mut told = false;
    loop {
        let missing = job.missing(diff_ids);
        if !told {
            tell_present(diff_ids, &missing, progress);
            told = true;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut held: Vec<(Digest, Making)> = Vec::new();
        let mut work = Vec::new();
        for wanted in &missing {
            let is_held = |held: &[(Digest, Making)]| {
                let mut held = held.iter();
                held.any(|(diff_id, _)| *diff_id == wanted.diff_id)
            };
            if !is_held(&held)
                && let Some(lock) = Lock::try_exclusive(&lock_path(dirs, &wanted.diff_id))?
            {
                held.push((wanted.diff_id.clone(), Making(Some(lock))));
            }
            if is_held(&held) {
                work.push(wanted.index);
            }
        }
        if work.is_empty() {
            // All of them are being made by others. One is waited for, with no lock held, so that
            // two pulls never wait for each other; who then has the lock makes what is missing.
            Lock::exclusive(&lock_path(dirs, &missing[0].diff_id))?.remove();
            continue;
        }
        // Between the look and the lock, another may have finished.
        let mut missing = job.missing(diff_ids);
        missing.retain(|wanted| work.contains(&wanted.index));
        interrupt::watched(&job.stopped, &|| job.clean(), || -> Result<()> {
            let finished = fetch(&job, missing)?;
            job.keep()?;
            layers::commit(dirs, finished)?;
            drop(held);
            Ok(())
        })??;
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

fn lock_path(dirs: &Dirs, diff_id: &Digest) -> PathBuf {
    dirs.layers().join(format!(".lock-{}", diff_id.hex()))
}

fn tell_present(diff_ids: &[Digest], missing: &[Wanted], progress: &dyn Progress) {
    for diff_id in diff_ids {
        if missing.iter().all(|wanted| wanted.diff_id != *diff_id) {
            progress.present(diff_id);
        }
    }
}

/// Fetches and unpacks layers on several threads; the first error stops all.
fn fetch(job: &Job<'_>, work: Vec<Wanted>) -> Result<Vec<Finished>> {
    let threads = work.len().min(PARALLEL);
    let queue = Mutex::new(VecDeque::from(work));
    let worker = || -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        loop {
            let next = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(wanted) = next else {
                return Ok(finished);
            };
            let layer = job.fetch_one(&wanted);
            finished.push(layer.inspect_err(|_| job.stopped.store(true, Ordering::Relaxed))?);
        }
    };
    let results: Vec<Result<Vec<Finished>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
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

/// What all layers of one image have in common.
struct Job<'a> {
    dirs: &'a Dirs,
    source: &'a dyn Source,
    progress: &'a dyn Progress,
    ids_tag: String,
    /// See `additional::refers`; asked for where it matters.
    refers: OnceLock<bool>,
    stopped: AtomicBool,
    /// The directories of layers that are being unpacked, or were.
    unfinished: Mutex<Vec<PathBuf>>,
}

/// Why a layer could not be had.
struct Failure {
    err: anyhow::Error,
    /// What an earlier command left of it was used.
    resumed: bool,
    /// It did not come, or no longer; what came may be right.
    interrupted: bool,
}

impl Job<'_> {
    fn missing(&self, diff_ids: &[Digest]) -> Vec<Wanted> {
        let mut missing: Vec<Wanted> = Vec::new();
        for (index, diff_id) in diff_ids.iter().enumerate() {
            // A damaged record counts as a missing layer: it is replaced.
            let found = layers::find(self.dirs, diff_id, &self.ids_tag);
            let blob = self.source.digest(index).filter(|blob| *blob != diff_id);
            let packed = match blob {
                Some(blob) => blobs::find(self.dirs, blob).is_some(),
                None => packed::has_tar(self.dirs, diff_id),
            };
            let same = |wanted: &&Wanted| wanted.diff_id == *diff_id;
            let earlier: Vec<&Wanted> = missing.iter().filter(same).collect();
            let unpacked = matches!(found, Ok(Some(_))) || !earlier.is_empty();
            let packed = packed || earlier.iter().any(|wanted| wanted.blob.as_ref() == blob);
            if !unpacked || !packed {
                missing.push(Wanted {
                    index,
                    diff_id: diff_id.clone(),
                    blob: blob.cloned(),
                    unpacked,
                    packed,
                });
            }
        }
        missing
    }

    fn fetch_one(&self, wanted: &Wanted) -> Result<Finished> {
        let diff_id = &wanted.diff_id;
        self.progress
            .started(diff_id, self.source.size(wanted.index));
        let here = self.unpack_shared(wanted);
        let here = here.or_else(|| self.unpack_kept(wanted));
        let finished = here.unwrap_or_else(|| {
            match self.transfer(wanted) {
                // What was left may have been what is wrong: it is gone now.
                Err(failure) if failure.resumed && !failure.interrupted => self.transfer(wanted),
                other => other,
            }
            .map_err(|failure| failure.err)
        });
        let finished =
            finished.with_context(|| format!("cannot unpack layer {}", diff_id.short()))?;
        self.progress.finished(diff_id);
        Ok(finished)
    }

    /// From an additional store, which keeps the contents of its large files.
    fn unpack_shared(&self, wanted: &Wanted) -> Option<Result<Finished>> {
        if !wanted.packed || wanted.unpacked || self.dirs.shared {
            return None;
        }
        let (store, _, path) = additional::find(self.dirs, &wanted.diff_id)?;
        let unpack = || {
            let mut file = blobs::open_file(&path)?;
            let refers = *self.refers.get_or_init(|| additional::refers(self.dirs));
            let contents = refers.then(|| store.layers());
            let mut layer = self.start(&wanted.diff_id, contents.as_deref())?;
            self.feed(&mut file, &mut |bytes| layer.write(bytes))?;
            layer.finish(NewPacked::Elsewhere)
        };
        match unpack() {
            Err(err) if !err.is::<Stopped>() && self.source.is_another() => None,
            unpacked => Some(unpacked.with_context(|| {
                format!(
                    "cannot take it from additional store \"{}\"",
                    store.data.display()
                )
            })),
        }
    }

    /// Gives all bytes of what is kept, unless the command is stopped.
    fn feed(&self, kept: &mut dyn Read, sink: &mut Sink<'_>) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = kept.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.check_stopped()?;
            sink(&buffer[..count])?;
        }
    }

    /// From the packed form in the store, where that is all that is needed and it is what it should be.
    fn unpack_kept(&self, wanted: &Wanted) -> Option<Result<Finished>> {
        if !wanted.packed || wanted.unpacked {
            return None;
        }
        let mut kept: Box<dyn Read> = match &wanted.blob {
            Some(blob) => Box::new(blobs::open(self.dirs, blob).ok()?),
            None => Box::new(packed::tar(self.dirs, &wanted.diff_id).ok()?),
        };
        let mut unpack = || -> Result<Finished> {
            let mut layer = self.start(&wanted.diff_id, None)?;
            let mut keeper = match &wanted.blob {
                Some(_) => None,
                None => Some(self.keeper(wanted, Some(&layer))?),
            };
            self.feed(&mut kept, &mut |bytes| {
                if let Some(keeper) = &mut keeper {
                    keeper.write(bytes)?;
                }
                layer.write(bytes)
            })?;
            let packed = match (keeper, &wanted.blob) {
                (Some(keeper), _) => keeper.finish(None)?,
                (None, blob) => NewPacked::Old(Packed::Blob(blob.clone().expect("it was read"))),
            };
            layer.finish(packed)
        };
        match unpack() {
            Ok(finished) => Some(Ok(finished)),
            Err(err) if err.is::<Stopped>() => Some(Err(err)),
            // Damaged: it is fetched again.
            Err(_) => None,
        }
    }

    fn keeper(&self, wanted: &Wanted, layer: Option<&Unfinished>) -> Result<Keeper<'_>> {
        if let Some(blob) = &wanted.blob {
            return Keeper::of_blob(self.dirs, blob);
        }
        let place = layer.map(|layer| layer.path().to_owned());
        Keeper::of_anything(self.dirs, &wanted.diff_id, place)
    }

    /// From the source, to be kept and, where that is missing, unpacked.
    fn transfer(&self, wanted: &Wanted) -> Result<Finished, Failure> {
        let ours = |err| Failure {
            err,
            resumed: false,
            interrupted: false,
        };
        let mut layer = if wanted.unpacked {
            None
        } else {
            Some(self.start(&wanted.diff_id, None).map_err(ours)?)
        };
        let mut keeper = self.keeper(wanted, layer.as_ref()).map_err(ours)?;
        if wanted.blob.is_none()
            && self.source.is_far()
            && self.source.digest(wanted.index) == Some(&wanted.diff_id)
        {
            keeper = keeper.resumable(&wanted.diff_id).map_err(ours)?;
        }
        let mut local = false;
        let mut resumed = 0;
        let copied = self.copy(wanted, &mut keeper, &mut layer, &mut resumed, &mut local);
        let interrupted = copied
            .as_ref()
            .is_err_and(|err| !local || err.is::<Stopped>());
        if copied.is_err() && !interrupted {
            keeper.give_up();
        }
        let failed = |err| Failure {
            err,
            resumed: resumed > 0,
            interrupted,
        };
        copied.map_err(failed)?;
        let unseen = layer.is_none().then_some(&wanted.diff_id);
        let packed = keeper.finish(unseen).map_err(failed)?;
        match layer {
            None => Ok(Finished::packed(&wanted.diff_id, packed)),
            Some(layer) => layer.finish(packed).map_err(failed),
        }
    }

    /// `local` tells whether an error was here rather than at the source.
    fn copy(
        &self,
        wanted: &Wanted,
        keeper: &mut Keeper<'_>,
        layer: &mut Option<Unfinished>,
        resumed: &mut u64,
        local: &mut bool,
    ) -> Result<()> {
        let mut unpack = |bytes: &[u8]| -> Result<()> {
            self.check_stopped()?;
            if let Some(layer) = layer.as_mut() {
                layer.write(bytes)?;
            }
            self.progress.advanced(&wanted.diff_id, bytes.len() as u64);
            Ok(())
        };
        *local = true;
        let there = keeper.resume(self.source.size(wanted.index), &mut unpack);
        // Also where that is what is wrong.
        *resumed = there.as_ref().map_or(1, |length| *length);
        let from = there?;
        *local = false;
        self.source.copy(wanted.index, from, &mut |bytes| {
            *local = true;
            keeper.write(bytes)?;
            unpack(bytes)?;
            *local = false;
            Ok(())
        })
    }

    fn start(&self, diff_id: &Digest, contents: Option<&Path>) -> Result<Unfinished> {
        let layer = Unfinished::start(self.dirs, diff_id, &self.ids_tag, contents)?;
        let mut unfinished = self
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unfinished.push(layer.path().to_owned());
        Ok(layer)
    }

    /// Before the program ends in the middle of it.
    fn clean(&self) {
        let unfinished = self
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for path in unfinished.iter() {
            // What stays is swept by the next command.
            remove_tree(path).ok();
        }
    }

    /// Layers are whole, and are about to get their names: nobody cleans them away any more.
    fn keep(&self) -> Result<()> {
        let mut unfinished = self
            .unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.check_stopped()?;
        unfinished.clear();
        Ok(())
    }

    fn check_stopped(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Stopped.into());
        }
        Ok(())
    }
}

/// Records an image whose layers are all there. The bytes have been verified.
pub fn image(
    dirs: &Dirs,
    config_bytes: &[u8],
    manifest: &Manifest,
    manifest_digest: &Digest,
    manifest_bytes: &[u8],
) -> Result<Image> {
    let image = prepare(
        dirs,
        config_bytes,
        manifest,
        manifest_digest,
        manifest_bytes,
    )?;
    record::save(dirs, &image)?;
    Ok(image)
}

/// The same for an image that comes without a manifest: one is written, which names its layers by their
/// tars. Where the image came with its own manifest once, that stays.
pub fn made(dirs: &Dirs, config_bytes: &[u8], manifest: &Manifest) -> Result<Image> {
    // The manifest that it once came with says more.
    if let Ok(before) = record::load(dirs, &manifest.config.digest)
        && !before.made
        && blobs::get(dirs, &before.manifest_digest).is_ok()
        && blobs::get(dirs, &before.id).is_ok()
    {
        return Ok(before);
    }
    let bytes = manifest::write(manifest)?;
    let digest = Digest::sha256_of(&bytes);
    let mut image = prepare(dirs, config_bytes, manifest, &digest, &bytes)?;
    image.made = true;
    record::save(dirs, &image)?;
    Ok(image)
}

fn prepare(
    dirs: &Dirs,
    config_bytes: &[u8],
    manifest: &Manifest,
    manifest_digest: &Digest,
    manifest_bytes: &[u8],
) -> Result<Image> {
    let parsed = config::parse(config_bytes)?;
    let ids_tag = layers::ids_tag(dirs)?;
    let mut size = 0;
    for (diff_id, descriptor) in parsed.diff_ids.iter().zip(&manifest.layers) {
        match layers::find(dirs, diff_id, &ids_tag)? {
            Some(layer) if packed::has(dirs, descriptor, diff_id) => size += layer.size,
            _ => bail!("layer {} has gone in the meantime", diff_id.short()),
        }
    }
    blobs::put(dirs, &manifest.config.digest, config_bytes)?;
    blobs::put(dirs, manifest_digest, manifest_bytes)?;
    Ok(Image {
        id: manifest.config.digest.clone(),
        manifest_digest: manifest_digest.clone(),
        media_type: manifest.media_type.clone(),
        layers: parsed.diff_ids,
        platform: parsed.platform,
        created: parsed.created,
        size,
        config: FromImage::new(parsed.config),
        made: false,
        names: Vec::new(),
        store: None,
    })
}
