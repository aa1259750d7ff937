//! Whether images are as they were brought here: records, manifests, configs and blobs by their digests, and the
//! files of layers against the same layer unpacked anew from what is kept of it.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::error;
use crate::image::additional;
use crate::image::config;
use crate::image::config::FromImage;
use crate::image::layers;
use crate::image::layers::Finished;
use crate::image::layers::NewPacked;
use crate::image::layers::Packed;
use crate::image::layers::Unfinished;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::packed;
use crate::image::record;
use crate::image::record::Image;
use crate::image::unpack;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::store::atomic;
use crate::store::blobs;
use crate::store::compare;
use crate::store::dirs::Dirs;
use crate::store::partial;

const BUFFER: usize = 256 << 10;

/// An id, and why its record cannot be read.
pub type Unreadable = (String, anyhow::Error);

/// All images, and those whose record cannot be read.
pub fn records(dirs: &Dirs) -> Result<(Vec<Image>, Vec<Unreadable>)> {
    let (mut images, mut bad) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dirs.image_ids())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(hex) = name
            .strip_suffix(".json")
            .filter(|hex| !hex.starts_with('.'))
        else {
            continue;
        };
        match record::load_from(dirs, &path) {
            Ok(image) if image.id.hex() == hex => images.push(image),
            Ok(_) => bad.push((hex.to_owned(), anyhow::anyhow!("it is of another image"))),
            Err(_) if !path.exists() => {}
            Err(err) => bad.push((hex.to_owned(), err)),
        }
    }
    Ok((images, bad))
}

/// Looks at the manifest and the config of an image. Where its record says something else of it than these, the
/// record that it should have.
pub fn documents(dirs: &Dirs, image: &Image) -> Result<Option<Image>> {
    let parsed = config::parse(&blobs::get(dirs, &image.id)?)?;
    if parsed.diff_ids != image.layers {
        bail!("its record names other layers than its config");
    }
    let bytes = blobs::get(dirs, &image.manifest_digest)?;
    let Document::Manifest(manifest) = manifest::parse(&bytes, None)? else {
        bail!("its manifest is an index");
    };
    if manifest.config.digest != image.id {
        bail!("its manifest is of another image");
    }
    if manifest.layers.len() != image.layers.len() {
        bail!("its manifest has another number of layers than its config");
    }
    let told = Image {
        media_type: manifest.media_type,
        platform: parsed.platform,
        created: parsed.created,
        config: FromImage::new(parsed.config),
        ..image.clone()
    };
    Ok((told != *image).then_some(told))
}

/// A file that may have the bytes of a layer, and as which packed form of it; `None` in an additional store.
type Bytes = (PathBuf, Option<Packed>);

fn sources(dirs: &Dirs, diff_id: &Digest, images: &[Image]) -> Vec<Bytes> {
    let mut found: Vec<Bytes> = Vec::new();
    let mut add = |path: PathBuf, packed: Option<Packed>| {
        if path.exists() && found.iter().all(|(other, _)| *other != path) {
            found.push((path, packed));
        }
    };
    if let Ok(Some(layer)) = layers::load(dirs, diff_id)
        && let (Some(path), Some(packed)) = (packed::path(dirs, &layer), &layer.packed)
    {
        add(path, Some(packed.clone()));
    }
    add(
        layers::dir(dirs, diff_id).join(layers::ZSTD),
        Some(Packed::Zstd),
    );
    for image in images {
        let Some(index) = image.layers.iter().position(|layer| layer == diff_id) else {
            continue;
        };
        let bytes = blobs::get(dirs, &image.manifest_digest).unwrap_or_default();
        if let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, None)
            && let Some(descriptor) = manifest.layers.into_iter().nth(index)
        {
            let path = blobs::path(dirs, &descriptor.digest);
            add(path, Some(Packed::Blob(descriptor.digest)));
        }
    }
    if let Some((_, _, path)) = additional::find(dirs, diff_id) {
        add(path, None);
    }
    found
}

/// What was found of a layer.
pub enum State {
    Whole,
    /// Its bytes are not kept: nothing tells what its files should be.
    Unknown,
    /// What it refers to is not in the store that it should be in, which is not ours to repair.
    Elsewhere(String),
    /// And what is to be put in its place, where that could be made.
    Damaged(String, Option<Box<Finished>>),
}

/// Looks at a layer: its record alone where `quick`, else its files too.
pub fn layer(
    dirs: &Dirs,
    diff_id: &Digest,
    ids_tag: &str,
    images: &[Image],
    quick: bool,
) -> Result<State> {
    let loaded = layers::load(dirs, diff_id);
    if let Ok(Some(found)) = &loaded
        && let Some(place) = found.contents.as_ref().filter(|_| !found.has_contents())
    {
        let text = format!("its contents are not in {}", place.display());
        return Ok(State::Elsewhere(text));
    }
    let wrong = match &loaded {
        Err(err) => Some(error::message(err)),
        Ok(None) if layers::dir(dirs, diff_id).exists() => Some("its record is missing".into()),
        Ok(None) => Some("it is missing".into()),
        Ok(Some(layer)) if layer.diff_id != *diff_id => Some("its record is of another".into()),
        Ok(Some(layer)) if layer.ids != ids_tag => {
            Some("it was unpacked for another range of ids".into())
        }
        Ok(Some(_)) if !layers::files(dirs, diff_id).is_dir() => Some("it has no files".into()),
        // Containers need no more than the files.
        Ok(Some(_)) if images.iter().all(|image| !image.layers.contains(diff_id)) => None,
        Ok(Some(layer)) => missing_form(dirs, layer),
    };
    if quick && wrong.is_none() {
        return Ok(State::Whole);
    }
    let sources = sources(dirs, diff_id, images);
    let renewed = match renew(dirs, diff_id, ids_tag, &sources) {
        // What its user can mend, such as a full disk, is no damage of the store.
        Err(err) if are_whole(dirs, diff_id, &sources)? => {
            return Err(err).with_context(|| format!("cannot check layer {}", diff_id.short()));
        }
        renewed => renewed,
    };
    Ok(match (wrong, renewed) {
        (Some(wrong), renewed) => State::Damaged(wrong, renewed.ok().flatten().map(Box::new)),
        (None, Ok(None)) => State::Unknown,
        // Said apart from what is damaged: the bytes that are kept are.
        (None, Err(err)) => State::Damaged(
            format!(
                "what is kept of it cannot be unpacked: {}",
                error::message(&err)
            ),
            None,
        ),
        (None, Ok(Some(renewed))) => match difference(dirs, diff_id, &renewed)? {
            Some(difference) => State::Damaged(difference, Some(Box::new(renewed))),
            None if !renewed.is_told_by(loaded.ok().flatten().as_ref()) => {
                let why = "its record says something else than its files";
                State::Damaged(why.to_owned(), Some(Box::new(renewed)))
            }
            None => State::Whole,
        },
    })
}

fn are_whole(dirs: &Dirs, diff_id: &Digest, sources: &[Bytes]) -> Result<bool> {
    for (path, packed) in sources {
        let is_whole = match packed {
            Some(Packed::Blob(digest)) => is_whole(path, digest)?,
            Some(Packed::Zstd) => packed::tar(dirs, diff_id)
                .is_ok_and(|mut tar| io::copy(&mut tar, &mut io::sink()).is_ok()),
            // Of another store: named by its digest, or what an unpacker of its own has read.
            None => true,
        };
        if !is_whole {
            return Ok(false);
        }
    }
    Ok(true)
}

fn missing_form(dirs: &Dirs, layer: &layers::Layer) -> Option<String> {
    let path = packed::path(dirs, layer)?;
    (!path.exists()).then(|| "its packed form is missing".to_owned())
}

fn difference(dirs: &Dirs, diff_id: &Digest, renewed: &Finished) -> Result<Option<String>> {
    let Some(temp) = renewed.temporary() else {
        return Ok(None);
    };
    let old = format!("{temp}/{}", unpack::DIFF);
    let new = format!("{}/{}", diff_id.hex(), unpack::DIFF);
    compare::trees(&dirs.layers(), &old, &new)
}

/// Unpacks a layer anew, from the first that gives it; `None` where nothing is kept.
fn renew(
    dirs: &Dirs,
    diff_id: &Digest,
    ids_tag: &str,
    sources: &[Bytes],
) -> Result<Option<Finished>> {
    let mut failed = None;
    for (path, packed) in sources {
        match unpack_anew(dirs, diff_id, ids_tag, path, packed.as_ref()) {
            Ok(finished) => return Ok(Some(finished)),
            Err(err) => failed = failed.or(Some(err)),
        }
    }
    failed.map_or(Ok(None), Err)
}

fn unpack_anew(
    dirs: &Dirs,
    diff_id: &Digest,
    ids_tag: &str,
    path: &Path,
    packed: Option<&Packed>,
) -> Result<Finished> {
    let mut file =
        blobs::open_file(path).with_context(|| format!("cannot open {}", path.display()))?;
    // In the form that it has.
    let contents = layers::load(dirs, diff_id)
        .ok()
        .flatten()
        .and_then(|layer| layer.contents);
    let mut layer = Unfinished::start(dirs, diff_id, ids_tag, contents.as_deref())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        layer.write(&buffer[..count])?;
    }
    layer.finish(packed.map_or(NewPacked::Elsewhere, |packed| {
        NewPacked::Old(packed.clone())
    }))
}

/// The blobs that are there, by their digests; and those among them whose bytes are others, unless `quick`.
pub fn blobs(dirs: &Dirs, quick: bool) -> Result<(Vec<Digest>, Vec<Digest>)> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for algorithm in ["sha256", "sha512"] {
        for entry in std::fs::read_dir(dirs.blobs().join(algorithm))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(atomic::TEMP_PREFIX) || partial::is_partial(&name) {
                continue;
            }
            let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else {
                continue;
            };
            if !quick && !is_whole(&entry.path(), &digest)? {
                damaged.push(digest.clone());
            }
            found.push(digest);
        }
    }
    Ok((found, damaged))
}

/// One that was removed meanwhile is no damage.
fn is_whole(path: &Path, digest: &Digest) -> Result<bool> {
    let mut file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish() == *digest);
        }
        hasher.update(&buffer[..count]);
    }
}
