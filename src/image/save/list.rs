//! A list for several platforms into files: its images, and the index of them. Images that the store has not are
//! fetched from the registry that has them, and go into the files alone.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::layout::Layout;
use crate::image::lists::Entry;
use crate::image::lists::List;
use crate::image::manifest;
use crate::image::manifest::CONFIG_MAX;
use crate::image::manifest::Document;
use crate::image::progress::Progress;
use crate::image::record;
use crate::image::record::Image;
use crate::image::registry::blob;
use crate::image::registry::client::Client;
use crate::image::registry::push::Extent;
use crate::image::registry::push::PushOptions;
use crate::image::registry::push::Pushed;
use crate::image::registry::push::list::assembled;
use crate::image::registry::push::list::source;
use crate::image::save::Content;
use crate::image::save::FLAT_VERSION;
use crate::image::save::Layer;
use crate::image::save::Save;
use crate::image::save::names_in;
use crate::image::save::oci;
use crate::image::save::output;
use crate::image::save::output::Folder;
use crate::image::save::output::Out;
use crate::image::save::output::TarFile;
use crate::image::transport::Files;
use crate::image::transport::Form;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

/// Writes a list where a transport says. Returns the digest of the index there.
pub fn push_list(
    dirs: &Dirs,
    list: &List,
    to: &Files,
    options: &PushOptions,
    extent: &Extent,
    progress: &dyn Progress,
) -> Result<Digest> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    let names = names_in(to)?;
    let listing = Listing {
        dirs,
        list,
        images: record::all(dirs, drop)?,
        options,
        extent,
        progress,
    };
    let path = &to.path;
    let written = match to.form {
        Form::DockerArchive => {
            let text = format!("\"{to}\": such an archive holds no list for several platforms");
            return Err(fail(Kind::Usage, text)).hint("oci-archive:FILE holds one");
        }
        Form::OciArchive => output::whole_file(path, |file| {
            let mut out = TarFile::new(file);
            let digest = listing.layout(&names, &mut out)?;
            out.finish()?;
            Ok(digest)
        }),
        Form::Oci => output::layout(path, |dir| listing.layout(&names, &mut Folder::new(dir))),
        Form::Dir => output::whole_dir(path, |dir| listing.flat(&mut Folder::new(dir))),
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}

struct Listing<'a> {
    dirs: &'a Dirs,
    list: &'a List,
    images: Vec<Image>,
    options: &'a PushOptions,
    extent: &'a Extent,
    progress: &'a dyn Progress,
}

impl Listing<'_> {
    fn layout(&self, names: &[String], out: &mut dyn Out) -> Result<Digest> {
        let mut manifests: Vec<Value> = oci::start(out)?;
        let (digest, media_type, index) =
            self.images(&mut |save, content| oci::image(save, content, out).map(drop))?;
        let descriptor = oci::blob(&digest, &media_type, &index, out)?;
        oci::list(&mut manifests, names, &descriptor);
        oci::finish(&manifests, out)?;
        Ok(digest)
    }

    fn flat(&self, out: &mut dyn Out) -> Result<Digest> {
        out.small("version", FLAT_VERSION)?;
        let (digest, _, index) = self.images(&mut |save, content| {
            save.blobs(content, Layout::Flat, out)?;
            let name = format!("{}.manifest.json", content.digest.hex());
            if out.has(&name) {
                return Ok(());
            }
            out.small(&name, &content.manifest)
        })?;
        out.small("manifest.json", &index)?;
        Ok(digest)
    }

    /// Writes the images; the index of them, its digest and its type.
    fn images(
        &self,
        write: &mut dyn FnMut(&Save<'_>, &mut Content) -> Result<()>,
    ) -> Result<(Digest, String, Vec<u8>)> {
        let wish = &self.options.wish;
        let index = assembled(self.list, wish, self.extent, &mut |entry, wish| {
            let save = Save {
                dirs: self.dirs,
                wish,
                progress: self.progress,
            };
            let mut images = self.images.iter();
            let mut content = match images.find(|image| image.manifest_digest == entry.digest) {
                Some(image) => save.content(image)?,
                None => self.fetched(entry)?,
            };
            write(&save, &mut content)?;
            Ok(Pushed {
                digest: content.digest,
                media_type: content.media_type,
                size: content.manifest.len() as u64,
            })
        })?;
        let bytes = index.written()?;
        Ok((Digest::sha256_of(&bytes), index.media_type, bytes))
    }

    /// An image of a registry, byte for byte.
    fn fetched(&self, entry: &Entry) -> Result<Content> {
        let source = source(self.list, entry)?;
        let cannot = || format!("cannot fetch {} from \"{source}\"", entry.digest);
        let from: Reference = format!("{source}@{}", entry.digest).parse()?;
        let bytes = blobs::get(self.dirs, &entry.digest)?;
        let Document::Manifest(manifest) = manifest::parse(&bytes, Some(&entry.media_type))? else {
            bail!("{} is an index", entry.digest);
        };
        let client =
            Client::connect(&from, &self.options.access.of_others()).with_context(cannot)?;
        let config = blob::small(&client, &manifest.config, CONFIG_MAX).with_context(cannot)?;
        let mut layers = Vec::new();
        for descriptor in manifest.layers {
            let file = blob::fetch(&client, self.dirs, &descriptor).with_context(cannot)?;
            layers.push(Layer {
                diff_id: descriptor.digest.clone(),
                descriptor,
                made: Some(file),
            });
        }
        Ok(Content {
            config,
            manifest: bytes,
            digest: entry.digest.clone(),
            media_type: manifest.media_type,
            config_digest: manifest.config.digest,
            layers,
        })
    }
}
