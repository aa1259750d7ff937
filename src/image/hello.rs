//! The image that rbox carries in itself: one layer with rbox's own executable as `/rbox`, which
//! greets. It goes through the same unpacker as every other, and is made again when the
//! executable is another one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use anyhow::Result;

use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Manifest;
use crate::image::names;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

/// The reference of the image, and what a user types for it.
pub const REFERENCE: &str = "localhost/hello:latest";
/// The hidden command that prints the greeting.
pub const COMMAND: &str = "hello-from-rbox";
/// Tells which executable the image was made from: its size and time.
const LABEL: &str = "rbox.executable";
const BUFFER: usize = 256 << 10;
const BLOCK: u64 = 512;

/// The image, made now if it is not in the store or is of another executable.
pub fn ensure(dirs: &Dirs, progress: &dyn Progress) -> Result<Image> {
    make_if_needed(dirs, progress).context("cannot make the built-in image \"hello\"")
}

fn make_if_needed(dirs: &Dirs, progress: &dyn Progress) -> Result<Image> {
    let file = File::open("/proc/self/exe").context("cannot open /proc/self/exe")?;
    let metadata = file.metadata()?;
    let stamp = format!(
        "{}:{}.{:09}",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    if let Ok(image) = names::find(dirs, REFERENCE)
        && image.config.untrusted().labels.get(LABEL) == Some(&stamp)
    {
        return Ok(image);
    }
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let source = Executable {
        file,
        size: metadata.len(),
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    source.copy(0, 0, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    let diff_id = hasher.finish();
    ingest::layers(dirs, std::slice::from_ref(&diff_id), &source, progress)?;
    record(dirs, diff_id, &stamp, source.tar_size(), metadata.mtime())
}

fn record(dirs: &Dirs, diff_id: Digest, stamp: &str, tar_size: u64, mtime: i64) -> Result<Image> {
    let platform = Platform::host();
    let config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": jiff::Timestamp::from_second(mtime)?.to_string(),
        "config": {
            "Entrypoint": ["/rbox", COMMAND],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": { LABEL: stamp },
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config_bytes = serde_json::to_vec(&config)?;
    let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: None,
    };
    let config = descriptor(
        manifest::OCI_CONFIG,
        Digest::sha256_of(&config_bytes),
        config_bytes.len() as u64,
    );
    let layers = vec![descriptor(manifest::OCI_LAYER, diff_id, tar_size)];
    let manifest = Manifest {
        media_type: manifest::OCI_MANIFEST.to_owned(),
        config,
        layers,
    };
    let mut image = ingest::made(dirs, &config_bytes, &manifest)?;
    let reference: Reference = REFERENCE.parse()?;
    names::save(dirs, &reference, &image)?;
    image.names = vec![reference];
    Ok(image)
}

/// The layer: a tar of one file.
struct Executable {
    file: File,
    size: u64,
}

impl Executable {
    fn padding(&self) -> u64 {
        self.size.next_multiple_of(BLOCK) - self.size
    }

    /// A header, the file, and two empty blocks.
    fn tar_size(&self) -> u64 {
        BLOCK + self.size + self.padding() + 2 * BLOCK
    }
}

impl Source for Executable {
    fn size(&self, _: usize) -> Option<u64> {
        Some(self.tar_size())
    }

    fn digest(&self, _: usize) -> Option<&Digest> {
        None
    }

    fn copy(&self, _: usize, _: u64, sink: &mut Sink<'_>) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path("rbox")?;
        header.set_size(self.size);
        header.set_mode(0o755);
        header.set_cksum();
        sink(header.as_bytes())?;
        let mut buffer = vec![0; BUFFER];
        let mut offset = 0;
        while offset < self.size {
            let most = usize::try_from(self.size - offset)?.min(BUFFER);
            let count = self.file.read_at(&mut buffer[..most], offset)?;
            anyhow::ensure!(count > 0, "the executable has become shorter");
            sink(&buffer[..count])?;
            offset += count as u64;
        }
        let zeros = self.padding() + 2 * BLOCK;
        sink(&vec![0; usize::try_from(zeros)?])
    }
}
