//! The packed form of layers, read: the exact bytes that a manifest's descriptors name, and the exact
//! tars that diff-ids name. Everything is verified while it is read: an error comes in place of the end.

use std::io;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::layers;
use crate::image::layers::Layer;
use crate::image::layers::Packed;
use crate::image::manifest::Descriptor;
use crate::image::unpack::stream;
use crate::image::unpack::stream::Memory;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::store::blobs;
use crate::store::dirs::Dirs;

/// Bytes that are compared with a digest as they are read.
pub struct Verified {
    inner: Box<dyn Read + Send>,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    done: u64,
}

impl Verified {
    fn new(inner: Box<dyn Read + Send>, digest: &Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::new(digest.algorithm())),
            digest: digest.clone(),
            size,
            done: 0,
        }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn damaged(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the bytes of {} have changed on disk; pull or load the image again",
                self.digest
            ),
        )
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.done > self.size {
            return Err(self.damaged());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        // Who knows how many bytes there are does not read on to their end.
        let is_end = self.done == self.size || count == 0 && !buffer.is_empty();
        if is_end
            && let Some(hasher) = self.hasher.take()
            && (self.done != self.size || hasher.finish() != self.digest)
        {
            return Err(self.damaged());
        }
        Ok(count)
    }
}

/// The bytes that a layer descriptor of an image's manifest names.
pub fn blob(dirs: &Dirs, descriptor: &Descriptor, diff_id: &Digest) -> Result<Verified> {
    let digest = &descriptor.digest;
    match blobs::open(dirs, digest) {
        Ok(file) => Ok(Verified::new(Box::new(file), digest, descriptor.size)),
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot read blob {digest}"))
        }
        // A layer that is not compressed is its own tar.
        Err(_) if digest == diff_id => tar(dirs, diff_id),
        Err(_) => Err(not_kept(diff_id)),
    }
}

/// The uncompressed tar of a layer.
pub fn tar(dirs: &Dirs, diff_id: &Digest) -> Result<Verified> {
    let cannot = || format!("cannot read layer {}", diff_id.short());
    let (layer, path) = find_tar(dirs, diff_id)?.ok_or_else(|| not_kept(diff_id))?;
    let file = match blobs::open_file(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Err(not_kept(diff_id)),
        other => other.with_context(cannot)?,
    };
    let inner = stream::decompressed(file, Memory::LAYER).with_context(cannot)?;
    Ok(Verified::new(inner, diff_id, layer.tar_size))
}

/// Whether [`blob`] would find it.
pub fn has(dirs: &Dirs, descriptor: &Descriptor, diff_id: &Digest) -> bool {
    blobs::find(dirs, &descriptor.digest).is_some()
        || descriptor.digest == *diff_id && has_tar(dirs, diff_id)
}

/// Whether [`tar`] would find it.
pub fn has_tar(dirs: &Dirs, diff_id: &Digest) -> bool {
    matches!(find_tar(dirs, diff_id), Ok(Some(_)))
}

/// The first store that has a packed form of the layer.
fn find_tar(dirs: &Dirs, diff_id: &Digest) -> Result<Option<(Layer, PathBuf)>> {
    for store in dirs.all() {
        if let Some(layer) = layers::load(store, diff_id)?
            && let Some(path) = path(store, &layer).filter(|path| path.exists())
        {
            return Ok(Some((layer, path)));
        }
    }
    Ok(None)
}

/// The file that has the tar of a layer of this store.
pub fn path(dirs: &Dirs, layer: &Layer) -> Option<PathBuf> {
    match layer.packed.as_ref()? {
        Packed::Blob(digest) => Some(blobs::path(dirs, digest)),
        Packed::Zstd => Some(layers::dir(dirs, &layer.diff_id).join(layers::ZSTD)),
    }
}

fn not_kept(diff_id: &Digest) -> anyhow::Error {
    fail(
        Kind::NotFound,
        format!(
            "the packed form of layer {} is not in the store",
            diff_id.short()
        ),
    )
    .hint("pull or load the image again, which keeps it")
}
