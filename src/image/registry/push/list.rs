//! Pushing a list: its images, then the index. Images that the store has not are copied from the registry
//! that has them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::error;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::Format;
use crate::image::lists::Entry;
use crate::image::lists::Index;
use crate::image::lists::List;
use crate::image::manifest;
use crate::image::manifest::DOCKER_INDEX;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::OCI_INDEX;
use crate::image::progress::Progress;
use crate::image::progress::Silent;
use crate::image::record;
use crate::image::record::Image;
use crate::image::registry::blob as source_blob;
use crate::image::registry::client::Client;
use crate::image::registry::client::upload::Put;
use crate::image::registry::push::Kind;
use crate::image::registry::push::PushOptions;
use crate::image::registry::push::Pushed;
use crate::image::registry::push::Session;
use crate::image::registry::push::Wish;
use crate::image::registry::push::blob;
use crate::image::registry::push::blob::Parcel;
use crate::image::registry::push::layer::At;
use crate::image::registry::push::name_of;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

/// Which images of a list are pushed, and in which forms besides their own.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// All of them, and not the index with those for this machine alone.
    pub all: bool,
    /// Each image once more with its layers in these forms.
    pub more: Vec<Format>,
}

pub fn push_list(
    dirs: &Dirs,
    list: &List,
    to: &Reference,
    options: &PushOptions,
    extent: &Extent,
    progress: &dyn Progress,
) -> Result<Pushed> {
    let cannot = || format!("cannot push list \"{}\" to \"{to}\"", list.reference);
    let _lock = Lock::shared(&dirs.lock_file())?;
    let images = record::all(dirs, drop)?;
    let pushing = Pushing {
        list,
        images: &images,
        session: Session::open(dirs, to, options, progress).with_context(cannot)?,
    };
    pushing.run(to, extent).with_context(cannot)
}

struct Pushing<'a> {
    list: &'a List,
    images: &'a [Image],
    session: Session<'a>,
}

/// The index of a list as it is once its images are where they are to be: `write` sees to one of them, in a form.
pub fn assembled(
    list: &List,
    wish: &Wish,
    extent: &Extent,
    write: &mut dyn FnMut(&Entry, &Wish) -> Result<Pushed>,
) -> Result<Index> {
    let host = Platform::host();
    let fits = |entry: &&Entry| {
        let platform = entry.platform.as_ref();
        extent.all || platform.is_none_or(|platform| host.rank(&platform.short()).is_some())
    };
    let mut index = list.index.clone();
    let mut more = Vec::new();
    for entry in list.index.manifests.iter().filter(fits) {
        let pushed = write(entry, wish)?;
        for format in &extent.more {
            let wish = Wish {
                compression: Some(*format),
                force: true,
                ..wish.clone()
            };
            let other = write(entry, &wish)?;
            if other.digest != pushed.digest {
                more.push(marked(written(entry, &other), *format));
            }
        }
        for own in &mut index.manifests {
            if own.digest == entry.digest {
                *own = written(entry, &pushed);
            }
        }
    }
    index.manifests.extend(more);
    OCI_INDEX.clone_into(&mut index.media_type);
    if wish.kind == Some(Kind::Docker) {
        DOCKER_INDEX.clone_into(&mut index.media_type);
        // Docker's lists have no annotations.
        index.annotations = BTreeMap::new();
        index.subject = None;
        for entry in &mut index.manifests {
            entry.annotations = BTreeMap::new();
        }
    }
    Ok(index)
}

/// What a list lacks: an image that is neither in the store nor known to be elsewhere.
pub fn source<'a>(list: &'a List, entry: &Entry) -> Result<&'a str> {
    let source = list.sources.get(&entry.digest).map(String::as_str);
    source.ok_or_else(|| {
        let text = format!("the image {} of the list is not in the store", entry.digest);
        fail(error::Kind::NotFound, text)
            .hint("pull or load it, or take it from the list with `rbox manifest remove`")
    })
}

impl Pushing<'_> {
    fn run(&self, to: &Reference, extent: &Extent) -> Result<Pushed> {
        let wish = &self.session.options.wish;
        let index = assembled(self.list, wish, extent, &mut |entry, wish| {
            self.entry(entry, wish)
        })?;
        self.index(&index, to)
    }

    fn entry(&self, entry: &Entry, wish: &Wish) -> Result<Pushed> {
        let mut images = self.images.iter();
        if let Some(image) = images.find(|image| image.manifest_digest == entry.digest) {
            let options = PushOptions {
                wish: wish.clone(),
                ..self.session.options.clone()
            };
            return self.session.with(&options).image(image, None);
        }
        let source = source(self.list, entry)?;
        self.copy(entry, source)
            .with_context(|| format!("cannot copy {} from \"{source}\"", entry.digest))
    }

    /// From one registry to the other, byte for byte.
    fn copy(&self, entry: &Entry, source: &str) -> Result<Pushed> {
        let from: Reference = format!("{source}@{}", entry.digest).parse()?;
        let bytes = blobs::get(self.session.dirs, &entry.digest)?;
        let Document::Manifest(manifest) = manifest::parse(&bytes, Some(&entry.media_type))? else {
            bail!("it is an index");
        };
        let client = Client::connect(&from, &self.session.options.access.of_others())?;
        for layer in &manifest.layers {
            self.copy_blob(&client, &from, layer, self.session.progress)?;
        }
        self.copy_blob(&client, &from, &manifest.config, &Silent)?;
        let pushed = Pushed {
            digest: entry.digest.clone(),
            media_type: manifest.media_type,
            size: bytes.len() as u64,
        };
        self.put(&entry.digest.to_string(), &pushed.media_type, &bytes)?;
        Ok(pushed)
    }

    fn copy_blob(
        &self,
        client: &Client,
        from: &Reference,
        descriptor: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<()> {
        let target = &self.session.client;
        let fetched: std::cell::OnceCell<Arc<File>> = std::cell::OnceCell::new();
        // Fetched when the registry turns out not to have it.
        let open = |offset| {
            if fetched.get().is_none() {
                let file = source_blob::fetch(client, self.session.dirs, descriptor)?;
                fetched.set(Arc::new(file)).ok();
            }
            let file = fetched.get().cloned().context("it has been fetched")?;
            Ok(Box::new(At { file, offset }) as Box<dyn Read>)
        };
        let parcel = Parcel {
            digest: &descriptor.digest,
            size: descriptor.size,
            layer: &descriptor.digest,
            open: &open,
        };
        let same = target.is_same_registry(client);
        let mounts: Vec<String> = same
            .then(|| from.repository().to_owned())
            .into_iter()
            .collect();
        blob::send(target, &parcel, &mounts, progress)
    }

    /// The index itself: byte for byte that of the list where nothing has changed.
    fn index(&self, index: &Index, to: &Reference) -> Result<Pushed> {
        let bytes = index.written()?;
        let digest = Digest::sha256_of(&bytes);
        if let Some(wanted) = to.digest()
            && *wanted != digest
        {
            let text =
                format!("the list has the digest {digest}, and not the one that the name has");
            return Err(fail(error::Kind::Usage, text))
                .hint("leave the digest out, and give a tag");
        }
        self.put(&name_of(Some(to), &digest), &index.media_type, &bytes)?;
        Ok(Pushed {
            digest,
            media_type: index.media_type.clone(),
            size: bytes.len() as u64,
        })
    }

    fn put(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        match self.session.client.put_manifest(name, media_type, bytes)? {
            Put::Accepted => Ok(()),
            Put::Refused(err) => Err(err),
        }
    }
}

fn written(entry: &Entry, pushed: &Pushed) -> Entry {
    Entry {
        media_type: pushed.media_type.clone(),
        digest: pushed.digest.clone(),
        size: pushed.size,
        ..entry.clone()
    }
}

/// By this annotation clients find the form that they like best.
fn marked(mut entry: Entry, format: Format) -> Entry {
    let key = format!("io.github.containers.compression.{}", format.name());
    entry.annotations.insert(key, "true".to_owned());
    entry
}
