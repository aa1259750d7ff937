//! In which form a layer is pushed, and how it comes into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::image::compress;
use crate::image::compress::Format;
use crate::image::compress::Recipe;
use crate::image::layers;
use crate::image::layers::Packed;
use crate::image::manifest::Descriptor;
use crate::image::packed;
use crate::image::record::Image;
use crate::image::registry::push::Session;
use crate::image::registry::push::blob;
use crate::image::registry::push::blob::Parcel;
use crate::image::registry::push::form;
use crate::image::registry::push::form::Kind;
use crate::oci::digest::Digest;
use crate::store::atomic::Durability;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp;

/// What becomes of a layer.
pub enum Plan {
    /// These bytes, which the store has.
    Keep(Descriptor, Option<Format>),
    Pack(Recipe),
}

impl Session<'_> {
    pub(super) fn plan(
        &self,
        image: &Image,
        descriptor: &Descriptor,
        diff_id: &Digest,
        kind: Option<Kind>,
    ) -> Result<Plan> {
        let Some(named) = form::format_of(descriptor) else {
            return Ok(Plan::Keep(descriptor.clone(), None));
        };
        let made = image.made && named == Format::None;
        let came = if made {
            compressed(self.dirs, diff_id)?
        } else {
            None
        };
        let (kept, format) = came.unwrap_or((descriptor.clone(), named));
        let wish = &self.options.wish;
        let usual = match format {
            Format::None if made => Some(Format::Gzip),
            format => form::usual(format, kind),
        };
        let Some(recipe) = wish.other(format, usual) else {
            return Ok(Plan::Keep(kept, Some(format)));
        };
        // What is there already need not be made in another form, unless that is asked for.
        if !wish.force && usual.is_none() && self.client.has_blob(&kept.digest)? {
            return Ok(Plan::Keep(kept, Some(format)));
        }
        Ok(Plan::Pack(recipe))
    }

    /// Sees to it that the registry has a layer; returns its descriptor.
    pub(super) fn layer(
        &self,
        diff_id: &Digest,
        plan: &Plan,
    ) -> Result<(Descriptor, Option<Format>)> {
        match plan {
            Plan::Keep(descriptor, format) => {
                let open = |offset| {
                    let mut reader = packed::blob(self.dirs, descriptor, diff_id)?;
                    // Read, and not skipped: it is verified as a whole.
                    io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
                    Ok(Box::new(reader) as Box<dyn Read>)
                };
                self.send(diff_id, &descriptor.digest, descriptor.size, &open)?;
                Ok((descriptor.clone(), *format))
            }
            Plan::Pack(recipe) => {
                let known = self.pack(diff_id, *recipe)?;
                let annotations = Some(known.annotations).filter(|some| !some.is_empty());
                let descriptor = Descriptor {
                    media_type: String::new(),
                    digest: known.digest,
                    size: known.size,
                    platform: None,
                    annotations,
                };
                Ok((descriptor, Some(recipe.format)))
            }
        }
    }

    fn send(
        &self,
        diff_id: &Digest,
        digest: &Digest,
        size: u64,
        open: &blob::Open<'_>,
    ) -> Result<()> {
        let parcel = Parcel {
            digest,
            size,
            layer: diff_id,
            open,
        };
        let have = self
            .others
            .iter()
            .filter(|(_, layers)| layers.contains(diff_id));
        let from: Vec<String> = have.map(|(repository, _)| repository.clone()).collect();
        blob::send(&self.client, &parcel, &from, self.progress)
    }

    /// Compresses a layer and sends it, unless the registry has what came out the last time.
    fn pack(&self, diff_id: &Digest, recipe: Recipe) -> Result<Known> {
        let place = place(self.dirs, diff_id, recipe);
        let known: Option<Known> = record::load_if_present(&place).ok().flatten();
        if let Some(known) = known
            && self.client.has_blob(&known.digest)?
        {
            self.progress.present(diff_id);
            return Ok(known);
        }
        let file = temp::nameless_file(&self.dirs.tmp())?;
        let made = {
            let _turn = self
                .compressor
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut tar = packed::tar(self.dirs, diff_id)?;
            compress::pack(&mut tar, &file, recipe)
                .with_context(|| format!("cannot pack layer {}", diff_id.short()))?
        };
        let file = Arc::new(file);
        let open = |offset| {
            let file = Arc::clone(&file);
            Ok(Box::new(At { file, offset }) as Box<dyn Read>)
        };
        self.send(diff_id, &made.digest, made.size, &open)?;
        let known = Known {
            digest: made.digest,
            size: made.size,
            annotations: made.annotations,
        };
        // It saves time alone: without it the layer is compressed again.
        remember(&place, &known).ok();
        Ok(known)
    }
}

/// The compressed form in which a layer came, where the manifest of an image that was made from it names
/// the tar.
fn compressed(dirs: &Dirs, diff_id: &Digest) -> Result<Option<(Descriptor, Format)>> {
    let Some(layer) = layers::load(dirs, diff_id)? else {
        return Ok(None);
    };
    let Some(Packed::Blob(digest)) = layer.packed else {
        return Ok(None);
    };
    let Ok(mut file) = File::open(blobs::path(dirs, &digest)) else {
        return Ok(None);
    };
    let mut start = [0; 4];
    file.read_exact(&mut start)?;
    let format = match start {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Format::Zstd,
        _ => return Ok(None),
    };
    let descriptor = Descriptor {
        media_type: String::new(),
        digest,
        size: file.seek(SeekFrom::End(0))?,
        platform: None,
        annotations: None,
    };
    Ok(Some((descriptor, format)))
}

/// What a layer was compressed to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    digest: Digest,
    size: u64,
    annotations: BTreeMap<String, String>,
}

impl Record for Known {
    const NOUN: &'static str = "packed layer";
    const VERSION: u32 = 1;
}

fn place(dirs: &Dirs, diff_id: &Digest, recipe: Recipe) -> PathBuf {
    let level = recipe.level.unwrap_or(0);
    let name = format!("{}.{}.{level}", diff_id.hex(), recipe.format.name());
    dirs.packed_cache().join(name)
}

fn remember(place: &std::path::Path, known: &Known) -> Result<()> {
    if let Some(dir) = place.parent() {
        std::fs::create_dir_all(dir)?;
    }
    record::save(place, known, Durability::Volatile)
}

/// A file from an offset on; others read it at the same time.
pub struct At {
    pub file: Arc<File>,
    pub offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
