//! Pushing to a registry: layers side by side, then the config, then the manifest. What was pulled goes back
//! byte for byte; what was made here is compressed, to the same bytes each time.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::error;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::Format;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Manifest;
use crate::image::names;
use crate::image::packed;
use crate::image::progress::Progress;
use crate::image::progress::Silent;
use crate::image::record::Image;
use crate::image::registry::Access;
use crate::image::registry::client::Client;
use crate::image::registry::client::upload::Put;
use crate::image::registry::push::blob::Parcel;
use crate::image::registry::push::layer::Plan;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

mod blob;
pub mod form;
mod layer;
pub mod list;

pub use form::Kind;
pub use form::Wish;
pub use list::Extent;
pub use list::push_list;

/// Layers that are sent at the same time.
const PARALLEL: usize = 4;

#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    pub access: Access,
    pub wish: Wish,
}

/// What is in the registry now.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
}

/// Pushes one image. Starts threads, which have ended when it returns.
pub fn push(
    dirs: &Dirs,
    image: &Image,
    to: &Reference,
    options: &PushOptions,
    progress: &dyn Progress,
) -> Result<Pushed> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    let session = Session::open(dirs, to, options, progress);
    session
        .and_then(|session| session.image(image, Some(to)))
        .with_context(|| format!("cannot push to \"{to}\""))
}

/// What all pushes to one repository share.
struct Session<'a> {
    dirs: &'a Dirs,
    client: Arc<Client>,
    options: &'a PushOptions,
    progress: &'a dyn Progress,
    /// Other repositories of the registry, with the layers that they probably have.
    others: Arc<Vec<(String, HashSet<Digest>)>>,
    /// Compressing takes all processors: one layer at a time.
    compressor: Arc<Mutex<()>>,
}

impl<'a> Session<'a> {
    fn open(
        dirs: &'a Dirs,
        to: &Reference,
        options: &'a PushOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        Ok(Self {
            dirs,
            client: Arc::new(Client::connect(to, &options.access)?),
            options,
            progress,
            others: Arc::new(others(dirs, to)?),
            compressor: Arc::new(Mutex::new(())),
        })
    }

    /// The same with other options.
    fn with<'b>(&'b self, options: &'b PushOptions) -> Session<'b> {
        Session {
            dirs: self.dirs,
            client: Arc::clone(&self.client),
            options,
            progress: self.progress,
            others: Arc::clone(&self.others),
            compressor: Arc::clone(&self.compressor),
        }
    }

    /// Pushes an image under a name, or by its digest alone.
    fn image(&self, image: &Image, to: Option<&Reference>) -> Result<Pushed> {
        let image = &own_manifest(self.dirs, image)?;
        let bytes = blobs::get(self.dirs, &image.manifest_digest)?;
        let Document::Manifest(manifest) = manifest::parse(&bytes, Some(&image.media_type))? else {
            bail!("the manifest of the image is an index");
        };
        if manifest.layers.len() != image.layers.len() {
            bail!("the manifest and the record of the image have not the same layers");
        }
        let plans = self.plans(image, &manifest)?;
        let layers = self.layers(image, &manifest, &plans)?;
        self.config(&manifest.config)?;
        let source = Kind::of(&manifest.media_type);
        let formats = layers.iter().filter_map(|(_, format)| *format);
        let wish = &self.options.wish;
        let kind = wish.kind(source.unwrap_or(Kind::Oci), formats)?;
        self.manifest(&Outgoing {
            bytes: &bytes,
            manifest: &manifest,
            layers: &layers,
            source,
            kind,
            to,
        })
    }

    fn plans(&self, image: &Image, manifest: &Manifest) -> Result<Vec<Plan>> {
        let kind = self
            .options
            .wish
            .kind
            .or_else(|| Kind::of(&manifest.media_type));
        let pairs = manifest.layers.iter().zip(&image.layers);
        pairs
            .map(|(descriptor, diff_id)| self.plan(image, descriptor, diff_id, kind))
            .collect()
    }

    /// Sends all layers, each once; returns their descriptors as they are now.
    fn layers(
        &self,
        image: &Image,
        manifest: &Manifest,
        plans: &[Plan],
    ) -> Result<Vec<(Descriptor, Option<Format>)>> {
        let mut seen = HashSet::new();
        let unique = (0..plans.len()).filter(|at| seen.insert(&manifest.layers[*at].digest));
        let queue: Mutex<VecDeque<usize>> = Mutex::new(unique.collect());
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        let job = || -> Result<Vec<(usize, Descriptor, Option<Format>)>> {
            let mut done = Vec::new();
            while let Some(at) = next() {
                let sent = self.layer(&image.layers[at], &plans[at]);
                let (descriptor, format) = sent.inspect_err(|_| {
                    // The others end with the layer that they have begun.
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.clear();
                })?;
                done.push((at, descriptor, format));
            }
            Ok(done)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let workers = PARALLEL.min(plans.len());
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(job)).collect();
            let joined = handles.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.expect("a panic ends the program"))
                .collect()
        });
        let mut sent = HashMap::new();
        for result in results {
            for (at, descriptor, format) in result? {
                sent.insert(&manifest.layers[at].digest, (descriptor, format));
            }
        }
        let all = manifest.layers.iter();
        Ok(all.map(|layer| sent[&layer.digest].clone()).collect())
    }

    fn config(&self, config: &Descriptor) -> Result<()> {
        let bytes = blobs::get(self.dirs, &config.digest)?;
        self.small(&config.digest, bytes)
    }

    /// Sends a blob that is in memory.
    fn small(&self, digest: &Digest, bytes: Vec<u8>) -> Result<()> {
        let parcel = Parcel {
            digest,
            size: bytes.len() as u64,
            layer: digest,
            open: &|offset| {
                let mut cursor = Cursor::new(bytes.clone());
                cursor.seek(std::io::SeekFrom::Start(offset))?;
                Ok(Box::new(cursor) as Box<dyn Read>)
            },
        };
        // It is no layer, and small.
        blob::send(&self.client, &parcel, &[], &Silent)
    }

    fn manifest(&self, outgoing: &Outgoing<'_>) -> Result<Pushed> {
        let first = self.put(outgoing, outgoing.kind)?;
        let refusal = match first {
            Ok(pushed) => return Ok(pushed),
            Err(refusal) => refusal,
        };
        // Some registries know one type alone; which one is seen by trying.
        if self.options.wish.kind.is_none()
            && outgoing.source.is_some()
            && let Ok(Ok(pushed)) = self.put(outgoing, outgoing.kind.other())
        {
            return Ok(pushed);
        }
        Err(refusal)
    }

    /// The inner error is the registry's refusal of this type.
    fn put(&self, outgoing: &Outgoing<'_>, kind: Kind) -> Result<Result<Pushed>> {
        let bytes = outgoing.written(kind)?;
        let digest = match outgoing.to.and_then(Reference::digest) {
            Some(wanted) if !wanted.matches(&bytes) => {
                let text = format!(
                    "the manifest has the digest {}, and not the one that the name has",
                    Digest::sha256_of(&bytes)
                );
                return Err(fail(error::Kind::Usage, text))
                    .hint("leave the digest out, and give a tag");
            }
            Some(wanted) => wanted.clone(),
            None => Digest::sha256_of(&bytes),
        };
        let media_type = match outgoing.source {
            Some(_) => kind.media_type(),
            None => &outgoing.manifest.media_type,
        };
        let name = name_of(outgoing.to, &digest);
        Ok(match self.client.put_manifest(&name, media_type, &bytes)? {
            Put::Accepted => Ok(Pushed {
                digest,
                media_type: media_type.to_owned(),
                size: bytes.len() as u64,
            }),
            Put::Refused(err) => Err(err),
        })
    }
}

/// The image with the manifest that came under the name it was found by: the record has the one that came
/// last, under whatever name.
pub fn own_manifest(dirs: &Dirs, image: &Image) -> Result<Image> {
    let mut image = image.clone();
    let Some(name) = image.names.first() else {
        return Ok(image);
    };
    let Some(name) = names::by_name(dirs, &name.to_string())? else {
        return Ok(image);
    };
    let digest = name.manifest_digest;
    let Ok(bytes) = blobs::get(dirs, &digest) else {
        return Ok(image);
    };
    let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, None) else {
        return Ok(image);
    };
    let is_whole = manifest.config.digest == image.id
        && manifest.layers.len() == image.layers.len()
        && manifest
            .layers
            .iter()
            .zip(&image.layers)
            // One that was made here names the tars: the manifest that came is the better one.
            .all(|(layer, diff_id)| layer.digest != *diff_id && packed::has(dirs, layer, diff_id));
    if is_whole && digest != image.manifest_digest {
        image.manifest_digest = digest;
        image.media_type = manifest.media_type;
        image.made = false;
    }
    Ok(image)
}

/// What a registry calls a manifest that is pushed: its tag where there is one.
fn name_of(to: Option<&Reference>, digest: &Digest) -> String {
    let tag = to.and_then(Reference::tag).map(ToOwned::to_owned);
    tag.unwrap_or_else(|| digest.to_string())
}

/// A manifest on its way.
struct Outgoing<'a> {
    bytes: &'a [u8],
    manifest: &'a Manifest,
    layers: &'a [(Descriptor, Option<Format>)],
    /// `None` for a type that rbox cannot convert.
    source: Option<Kind>,
    kind: Kind,
    to: Option<&'a Reference>,
}

impl Outgoing<'_> {
    /// Its bytes in this type: those that came, unless something has changed.
    fn written(&self, kind: Kind) -> Result<Vec<u8>> {
        let old = &self.manifest.layers;
        let pairs = || old.iter().zip(self.layers);
        let same = pairs().all(|(old, (new, _))| old.digest == new.digest);
        let Some(source) = self.source.filter(|source| !same || *source != kind) else {
            return Ok(self.bytes.to_vec());
        };
        let mut layers = Vec::new();
        for (old, (new, format)) in pairs() {
            layers.push(match format {
                Some(format) => form::layer(old, new, *format, kind)?,
                None if kind == source => new.clone(),
                None => bail!(
                    "a layer of the type {:?} cannot be converted",
                    old.media_type
                ),
            });
        }
        form::rewrite(self.bytes, &layers, source, kind)
    }
}

/// The other repositories of the registry that images of the store have names in.
fn others(dirs: &Dirs, to: &Reference) -> Result<Vec<(String, HashSet<Digest>)>> {
    let mut others: Vec<(String, HashSet<Digest>)> = Vec::new();
    for image in names::list(dirs, drop)? {
        for name in &image.names {
            if name.registry() == to.registry() && name.repository() != to.repository() {
                others.push((
                    name.repository().to_owned(),
                    image.layers.iter().cloned().collect(),
                ));
            }
        }
    }
    Ok(others)
}
