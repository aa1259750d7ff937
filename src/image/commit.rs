//! A new image: the layers of another, and one more. It goes through the same unpacker and the same records
//! as one that is loaded.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::layers;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Manifest;
use crate::image::names;
use crate::image::progress::Silent;
use crate::image::record::Image;
use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

const BUFFER: usize = 256 << 10;

/// The form of manifest and config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Oci,
    Docker,
}

/// What is new.
pub struct New<'a> {
    /// The image that it is made from, and its layers.
    pub base: Option<&'a Digest>,
    pub base_layers: &'a [Digest],
    /// The uncompressed tar of the new layer.
    pub layer: File,
    /// `config` of the image config is changed by this.
    pub change: &'a dyn Fn(&mut Map<String, Value>) -> Result<()>,
    pub author: Option<&'a str>,
    pub comment: Option<&'a str>,
    pub created_by: &'a str,
    pub format: Format,
    /// Where there is no base: what the files are for.
    pub platform: Option<&'a Platform>,
    pub name: Option<&'a Reference>,
}

pub fn make(dirs: &Dirs, new: New<'_>) -> Result<Image> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let (diff_id, size) = hash(&new.layer)?;
    let mut diff_ids = new.base_layers.to_vec();
    diff_ids.push(diff_id);
    let config = config(dirs, &new, &diff_ids)?;
    let source = Spool {
        file: new.layer,
        size,
        index: new.base_layers.len(),
    };
    ingest::layers(dirs, &diff_ids, &source, &Silent)?;
    let mut image = record(dirs, &config, &diff_ids, new.format)?;
    if let Some(name) = new.name {
        names::save(dirs, name, &image)?;
        image.names = vec![name.clone()];
    }
    Ok(image)
}

/// The image config: that of the base, with what it does not know left as it is.
fn config(dirs: &Dirs, new: &New<'_>, diff_ids: &[Digest]) -> Result<Vec<u8>> {
    let mut config: Map<String, Value> = if let Some(base) = new.base {
        serde_json::from_slice(&blobs::get(dirs, base)?).context("cannot read the image config")?
    } else {
        let platform = new.platform.cloned().unwrap_or_else(Platform::host);
        let mut config = Map::new();
        config.insert("architecture".into(), json!(platform.architecture));
        config.insert("os".into(), json!(platform.os));
        if let Some(variant) = platform.variant {
            config.insert("variant".into(), json!(variant));
        }
        config
    };
    // What Docker's older builders kept of the container that they had made.
    for gone in [
        "container",
        "container_config",
        "docker_version",
        "id",
        "parent",
    ] {
        config.remove(gone);
    }
    let created = jiff::Timestamp::now().to_string();
    config.insert("created".into(), json!(created));
    if let Some(author) = new.author {
        config.insert("author".into(), json!(author));
    }
    let mut inner = match config.remove("config") {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    (new.change)(&mut inner)?;
    config.insert("config".into(), Value::Object(inner));
    config.insert(
        "rootfs".into(),
        json!({ "type": "layers", "diff_ids": diff_ids }),
    );
    let mut history = match config.remove("history") {
        Some(Value::Array(history)) if !new.base_layers.is_empty() => history,
        _ => vec![],
    };
    let mut entry = json!({ "created": created });
    let created_by = Some(new.created_by).filter(|command| !command.is_empty());
    for (key, value) in [
        ("created_by", created_by),
        ("author", new.author),
        ("comment", new.comment),
    ] {
        if let Some(value) = value {
            entry[key] = json!(value);
        }
    }
    history.push(entry);
    config.insert("history".into(), Value::Array(history));
    Ok(serde_json::to_vec(&Value::Object(config))?)
}

fn record(dirs: &Dirs, config: &[u8], diff_ids: &[Digest], format: Format) -> Result<Image> {
    let (manifest_type, config_type, layer_type) = match format {
        Format::Oci => (
            manifest::OCI_MANIFEST,
            manifest::OCI_CONFIG,
            manifest::OCI_LAYER,
        ),
        Format::Docker => (
            manifest::DOCKER_MANIFEST,
            manifest::DOCKER_CONFIG,
            manifest::DOCKER_LAYER,
        ),
    };
    let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: None,
    };
    let ids_tag = layers::ids_tag(dirs)?;
    let mut descriptors = Vec::new();
    for diff_id in diff_ids {
        let Some(layer) = layers::find(dirs, diff_id, &ids_tag)? else {
            bail!("layer {} has gone in the meantime", diff_id.short());
        };
        descriptors.push(descriptor(layer_type, diff_id.clone(), layer.tar_size));
    }
    let manifest = Manifest {
        media_type: manifest_type.to_owned(),
        config: descriptor(config_type, Digest::sha256_of(config), config.len() as u64),
        layers: descriptors,
    };
    ingest::made(dirs, config, &manifest)
}

/// The digest of a file, and its length.
fn hash(file: &File) -> Result<(Digest, u64)> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

/// The new layer; those below it are in the store.
struct Spool {
    file: File,
    size: u64,
    index: usize,
}

impl Source for Spool {
    fn size(&self, _: usize) -> Option<u64> {
        Some(self.size)
    }

    fn digest(&self, _: usize) -> Option<&Digest> {
        None
    }

    fn copy(&self, index: usize, _: u64, sink: &mut Sink<'_>) -> Result<()> {
        if index != self.index {
            bail!("a layer of the container's image is missing or damaged");
        }
        let mut buffer = vec![0; BUFFER];
        let mut offset = 0;
        while offset < self.size {
            let count = self.file.read_at(&mut buffer, offset)?;
            anyhow::ensure!(count > 0, "the new layer has become shorter");
            sink(&buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    }
}
