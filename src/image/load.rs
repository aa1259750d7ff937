//! Images from files: docker-archive (`docker save`, skopeo), oci-archive and OCI layout
//! directories. Every byte is verified against the digest that names it.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;

use crate::config::ids::Ids;
use crate::image::archive::Archive;
use crate::image::archive::Part;
use crate::image::config;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::ingest::Source;
use crate::image::layers;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::manifest::Manifest;
use crate::image::names;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

const COPY_BUFFER: usize = 256 << 10;
/// Indexes may point to indexes; nobody needs more than this.
const INDEX_DEPTH_MAX: usize = 4;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd and Docker put the full name here, and only the tag into `REF_NAME`.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What to load from.
pub enum Input<'a> {
    /// An archive or a layout directory.
    Path(&'a Path),
    Stream(Box<dyn Read + Send>),
}

/// Loads all images of an archive, with the names it gives them.
pub fn load(dirs: &Dirs, input: Input<'_>, progress: &dyn Progress) -> Result<Vec<Image>> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let (archive, what) = match input {
        Input::Path(path) => (Archive::open(dirs, path), path.display().to_string()),
        Input::Stream(stream) => (Archive::read(dirs, stream), "standard input".to_owned()),
    };
    archive
        .and_then(|archive| load_archive(dirs, &archive, progress))
        .with_context(|| format!("cannot load {what}"))
}

fn load_archive(dirs: &Dirs, archive: &Archive, progress: &dyn Progress) -> Result<Vec<Image>> {
    // Docker writes both forms into one archive; the names are whole in its own.
    if archive.has("manifest.json")? {
        return load_docker(dirs, archive, progress);
    }
    if archive.has("index.json")? {
        return load_oci(dirs, archive, progress);
    }
    bail!("it is no image archive: it has neither manifest.json nor index.json");
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn load_docker(dirs: &Dirs, archive: &Archive, progress: &dyn Progress) -> Result<Vec<Image>> {
    let bytes = archive.small("manifest.json", MANIFEST_MAX)?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).context("cannot read \"manifest.json\" of the archive")?;
    if images.is_empty() {
        bail!("the archive holds no image");
    }
    let mut loaded = Vec::new();
    for image in images {
        loaded.push(load_docker_image(dirs, archive, &image, progress)?);
    }
    Ok(loaded)
}

fn load_docker_image(
    dirs: &Dirs,
    archive: &Archive,
    image: &DockerImage,
    progress: &dyn Progress,
) -> Result<Image> {
    let references = image
        .repo_tags
        .iter()
        .flatten()
        .map(|name| name.parse())
        .collect::<Result<Vec<Reference>>>()?;
    let config_bytes = archive.small(&image.config, CONFIG_MAX)?;
    let parsed = config::parse(&config_bytes)?;
    if parsed.diff_ids.len() != image.layers.len() {
        bail!(
            "the archive has {} layers of an image with {}",
            image.layers.len(),
            parsed.diff_ids.len()
        );
    }
    let source = DockerLayers {
        archive,
        names: &image.layers,
    };
    ingest::layers(dirs, &parsed.diff_ids, &source, progress)?;

    let ids_tag = Ids::detect()?.maps.tag();
    let mut descriptors = Vec::new();
    for diff_id in &parsed.diff_ids {
        let layer = layers::find(dirs, diff_id, &ids_tag)?;
        descriptors.push(Descriptor {
            media_type: manifest::OCI_LAYER.to_owned(),
            digest: diff_id.clone(),
            size: layer.map_or(0, |layer| layer.tar_size),
            platform: None,
            annotations: None,
        });
    }
    let config = Descriptor {
        media_type: manifest::OCI_CONFIG.to_owned(),
        digest: Digest::sha256_of(&config_bytes),
        size: config_bytes.len() as u64,
        platform: None,
        annotations: None,
    };
    let manifest = Manifest {
        media_type: manifest::OCI_MANIFEST.to_owned(),
        config,
        layers: descriptors,
    };
    let loaded = ingest::made(dirs, &config_bytes, &manifest)?;
    name_image(dirs, loaded, references)
}

fn name_image(dirs: &Dirs, mut image: Image, references: Vec<Reference>) -> Result<Image> {
    for reference in &references {
        names::save(dirs, reference, &image)?;
    }
    image.names = references;
    Ok(image)
}

/// Layers of a docker-archive: plain tars without digests of their own. What they unpack to is
/// verified against the config, and that is the image's ID.
struct DockerLayers<'a> {
    archive: &'a Archive,
    names: &'a [String],
}

impl Source for DockerLayers<'_> {
    fn size(&self, index: usize) -> Option<u64> {
        let part = self.archive.part(&self.names[index]).ok()?;
        Some(part.size())
    }

    fn digest(&self, _: usize) -> Option<&Digest> {
        None
    }

    fn copy(&self, index: usize, _: u64, sink: &mut Sink<'_>) -> Result<()> {
        copy_part(self.archive.part(&self.names[index])?, sink)
    }
}

fn copy_part(mut part: Part, sink: &mut Sink<'_>) -> Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let count = part.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        sink(&buffer[..count])?;
    }
}

fn load_oci(dirs: &Dirs, archive: &Archive, progress: &dyn Progress) -> Result<Vec<Image>> {
    let bytes = archive.small("index.json", MANIFEST_MAX)?;
    let Document::Index(descriptors) = manifest::parse(&bytes, None)? else {
        bail!("\"index.json\" of the archive is no index");
    };
    let host = Platform::host();
    let fits = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|platform| host.rank(platform).is_some())
    };
    let fitting: Vec<&Descriptor> = descriptors.iter().filter(fits).collect();
    if fitting.is_empty() {
        // Says which platforms there are.
        manifest::choose(&descriptors, &host)?;
    }
    let mut loaded = Vec::new();
    for descriptor in fitting {
        let (manifest, digest, bytes) = read_manifest(archive, descriptor, &host)?;
        let image = load_oci_image(dirs, archive, &manifest, &digest, &bytes, progress)?;
        loaded.push(name_image(dirs, image, reference_of(descriptor))?);
    }
    Ok(loaded)
}

fn reference_of(descriptor: &Descriptor) -> Vec<Reference> {
    let annotation = |key: &str| descriptor.annotations.as_ref()?.get(key);
    let name = annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME));
    // What is no reference is a name for something else; the image can be used by its ID.
    name.and_then(|name| Reference::parse_in(name, names::LOCAL).ok())
        .into_iter()
        .collect()
}

/// Follows indexes to the manifest for this machine.
fn read_manifest(
    archive: &Archive,
    descriptor: &Descriptor,
    host: &Platform,
) -> Result<(Manifest, Digest, Vec<u8>)> {
    let mut descriptor = descriptor.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let bytes = read_blob(archive, &descriptor, MANIFEST_MAX)?;
        match manifest::parse(&bytes, Some(&descriptor.media_type))? {
            Document::Manifest(manifest) => return Ok((manifest, descriptor.digest, bytes)),
            Document::Index(index) => descriptor = manifest::choose(&index, host)?.clone(),
        }
    }
    bail!("its indexes are nested more than {INDEX_DEPTH_MAX} deep");
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn read_blob(archive: &Archive, descriptor: &Descriptor, size_max: u64) -> Result<Vec<u8>> {
    let bytes = archive.small(&blob_name(&descriptor.digest), size_max)?;
    if bytes.len() as u64 != descriptor.size || !descriptor.digest.matches(&bytes) {
        bail!(
            "wrong digest: {} bytes of the archive do not match {}",
            bytes.len(),
            descriptor.digest
        );
    }
    Ok(bytes)
}

fn load_oci_image(
    dirs: &Dirs,
    archive: &Archive,
    manifest: &Manifest,
    digest: &Digest,
    manifest_bytes: &[u8],
    progress: &dyn Progress,
) -> Result<Image> {
    let config_bytes = read_blob(archive, &manifest.config, CONFIG_MAX)?;
    let parsed = config::parse(&config_bytes)?;
    if parsed.diff_ids.len() != manifest.layers.len() {
        bail!(
            "the manifest has {} layers, and the image config {}",
            manifest.layers.len(),
            parsed.diff_ids.len()
        );
    }
    let source = OciLayers {
        archive,
        layers: &manifest.layers,
    };
    ingest::layers(dirs, &parsed.diff_ids, &source, progress)?;
    ingest::image(dirs, &config_bytes, manifest, digest, manifest_bytes)
}

struct OciLayers<'a> {
    archive: &'a Archive,
    layers: &'a [Descriptor],
}

impl Source for OciLayers<'_> {
    fn size(&self, index: usize) -> Option<u64> {
        Some(self.layers[index].size)
    }

    fn digest(&self, index: usize) -> Option<&Digest> {
        Some(&self.layers[index].digest)
    }

    fn copy(&self, index: usize, from: u64, sink: &mut Sink<'_>) -> Result<()> {
        let descriptor = &self.layers[index];
        let mut part = self.archive.part(&blob_name(&descriptor.digest))?;
        if part.size() != descriptor.size {
            bail!(
                "wrong size: the archive has {} bytes of {}, and the manifest promises {}",
                part.size(),
                descriptor.digest,
                descriptor.size
            );
        }
        part.pass(from);
        copy_part(part, sink)
    }
}
