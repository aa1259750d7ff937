//! Images into files: docker-archive, oci-archive, OCI layouts and directories. Manifests, configs and
//! layers go as they are kept, byte for byte, where the form has a place for them; and the same images
//! give the same bytes each time.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;

use crate::error::Kind;
use crate::error::fail;
use crate::image::compress;
use crate::image::compress::Format;
use crate::image::compress::Recipe;
use crate::image::layout::Layout;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Manifest;
use crate::image::packed;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::image::registry::push::own_manifest;
use crate::image::save::output::Folder;
use crate::image::save::output::Out;
use crate::image::save::output::TarFile;
use crate::image::transport::Files;
use crate::image::transport::Form;
use crate::image::transport::Part;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::store::temp;

mod docker;
mod oci;
mod output;

/// An image, and the names that it has in what is written.
pub struct Saved {
    pub image: Image,
    pub names: Vec<String>,
}

/// What layers are written as, where the form leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    AsKept,
    Uncompressed,
    /// Those that are not compressed become so.
    Compressed,
}

/// Where to.
pub enum Target<'a> {
    Path(&'a Path),
    Stream(File),
}

/// One layer that is to be written.
struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
    /// A form of it that is not in the store.
    made: Option<File>,
}

/// An image as it is to be written.
struct Content {
    config: Vec<u8>,
    manifest: Vec<u8>,
    /// Of the manifest.
    digest: Digest,
    media_type: String,
    config_digest: Digest,
    layers: Vec<Layer>,
}

struct Save<'a> {
    dirs: &'a Dirs,
    layers: Layers,
    progress: &'a dyn Progress,
}

/// Writes images into an archive or a directory.
pub fn save(
    dirs: &Dirs,
    images: &[Saved],
    form: Form,
    target: Target<'_>,
    layers: Layers,
    progress: &dyn Progress,
) -> Result<()> {
    // Nothing that is written is collected meanwhile.
    let _lock = Lock::shared(&dirs.lock_file())?;
    let save = Save {
        dirs,
        layers,
        progress,
    };
    match (form, target) {
        (Form::DockerArchive | Form::OciArchive, Target::Path(path)) => {
            output::whole_file(path, |file| save.archive(images, form, file))
                .with_context(|| format!("cannot write {}", path.display()))
        }
        (Form::DockerArchive | Form::OciArchive, Target::Stream(file)) => save
            .archive(images, form, &file)
            .context("cannot write to standard output"),
        (Form::Oci, Target::Path(path)) => {
            output::layout(path, |dir| oci::write(&save, images, &mut Folder::new(dir)))
                .with_context(|| format!("cannot write {}", path.display()))
        }
        (Form::Dir, Target::Path(path)) => output::whole_dir(path, |dir| match images {
            [one] => save.flat(&one.image, &mut Folder::new(dir)),
            _ => bail!("a directory of this form holds one image"),
        })
        .with_context(|| format!("cannot write {}", path.display())),
        (Form::Oci | Form::Dir, Target::Stream(_)) => Err(fail(
            Kind::Usage,
            "a directory cannot be written to a stream",
        )),
    }
}

/// Writes an image where a transport says: `push`. Returns the digest of its manifest there.
pub fn push(dirs: &Dirs, image: &Image, to: &Files, progress: &dyn Progress) -> Result<Digest> {
    let names = match &to.part {
        Some(Part::Name(name)) if to.form == Form::DockerArchive => {
            let name: Reference = name.parse()?;
            vec![name.to_string()]
        }
        Some(Part::Name(name)) => vec![name.clone()],
        Some(Part::Index(_)) => {
            let text = format!("\"{to}\": an image is written by a name, not at a place in a list");
            return Err(fail(Kind::Usage, text));
        }
        None => vec![],
    };
    let images = [Saved {
        image: image.clone(),
        names,
    }];
    let target = Target::Path(&to.path);
    save(dirs, &images, to.form, target, Layers::AsKept, progress)?;
    Ok(own_manifest(dirs, image)?.manifest_digest)
}

impl Save<'_> {
    fn archive(&self, images: &[Saved], form: Form, file: &File) -> Result<()> {
        let mut out = TarFile::new(file);
        match form {
            Form::DockerArchive => docker::write(self, images, &mut out)?,
            _ => oci::write(self, images, &mut out)?,
        }
        out.finish()
    }

    /// The `dir` transport: everything beside each other.
    fn flat(&self, image: &Image, out: &mut dyn Out) -> Result<()> {
        let mut content = self.content(image)?;
        out.small("version", b"Directory Transport Version: 1.1\n")?;
        for layer in &mut content.layers {
            self.layer(layer, &Layout::Flat.name(&layer.descriptor.digest), out)?;
        }
        out.small(&Layout::Flat.name(&content.config_digest), &content.config)?;
        out.small("manifest.json", &content.manifest)
    }

    /// An image as the store has it, or with its layers in another form.
    fn content(&self, image: &Image) -> Result<Content> {
        let image = &own_manifest(self.dirs, image)?;
        let bytes = blobs::get(self.dirs, &image.manifest_digest)?;
        let Document::Manifest(manifest) = manifest::parse(&bytes, None)? else {
            bail!("the manifest of image {} is an index", image.id.short());
        };
        if manifest.layers.len() != image.layers.len() {
            bail!(
                "the manifest of image {} has other layers",
                image.id.short()
            );
        }
        let layers = manifest.layers.iter().zip(&image.layers);
        let mut content = Content {
            config: blobs::get(self.dirs, &manifest.config.digest)?,
            media_type: manifest.media_type.clone(),
            config_digest: manifest.config.digest.clone(),
            layers: layers
                .map(|(descriptor, diff_id)| Layer {
                    descriptor: descriptor.clone(),
                    diff_id: diff_id.clone(),
                    made: None,
                })
                .collect(),
            manifest: bytes,
            digest: image.manifest_digest.clone(),
        };
        self.change_layers(&manifest, &mut content)?;
        Ok(content)
    }

    fn change_layers(&self, manifest: &Manifest, content: &mut Content) -> Result<()> {
        let is_docker = manifest.media_type == manifest::DOCKER_MANIFEST;
        let (plain, ending) = if is_docker {
            (manifest::DOCKER_LAYER, ".gzip")
        } else {
            (manifest::OCI_LAYER, "+gzip")
        };
        let mut changed = false;
        for layer in &mut content.layers {
            let is_plain = layer.descriptor.digest == layer.diff_id;
            let (media_type, digest, size) = match self.layers {
                Layers::Uncompressed if !is_plain => {
                    let size = packed::tar(self.dirs, &layer.diff_id)?.size();
                    (plain.to_owned(), layer.diff_id.clone(), size)
                }
                Layers::Compressed if is_plain => {
                    let made = self.compress(layer)?;
                    (format!("{plain}{ending}"), made.digest, made.size)
                }
                _ => continue,
            };
            changed = true;
            layer.descriptor = Descriptor {
                media_type,
                digest,
                size,
                platform: None,
                annotations: None,
            };
        }
        if changed {
            // What else the manifest says stays.
            let mut value: Value = serde_json::from_slice(&content.manifest)?;
            let descriptors = content.layers.iter().map(|layer| json!(layer.descriptor));
            value["layers"] = Value::Array(descriptors.collect());
            content.manifest = serde_json::to_vec(&value)?;
            content.digest = Digest::sha256_of(&content.manifest);
        }
        Ok(())
    }

    fn compress(&self, layer: &mut Layer) -> Result<compress::Made> {
        let file = temp::nameless_file(&self.dirs.tmp())?;
        let mut tar = packed::tar(self.dirs, &layer.diff_id)?;
        let recipe = Recipe {
            format: Format::Gzip,
            level: None,
        };
        let made = compress::pack(&mut tar, &file, recipe)?;
        layer.made = Some(file);
        Ok(made)
    }

    /// Writes a layer in the form that its descriptor names.
    fn layer(&self, layer: &mut Layer, name: &str, out: &mut dyn Out) -> Result<()> {
        if out.has(name) {
            return Ok(());
        }
        let size = layer.descriptor.size;
        let mut input: Box<dyn Read> = match &mut layer.made {
            Some(file) => {
                file.seek(SeekFrom::Start(0))?;
                Box::new(&*file)
            }
            None => Box::new(packed::blob(self.dirs, &layer.descriptor, &layer.diff_id)?),
        };
        self.stream(&layer.diff_id, name, size, &mut input, out)
    }

    /// The same as a plain tar, whatever the manifest has.
    fn plain_layer(&self, diff_id: &Digest, name: &str, out: &mut dyn Out) -> Result<()> {
        if out.has(name) {
            return Ok(());
        }
        let mut tar = packed::tar(self.dirs, diff_id)?;
        let size = tar.size();
        self.stream(diff_id, name, size, &mut tar, out)
    }

    fn stream(
        &self,
        diff_id: &Digest,
        name: &str,
        size: u64,
        input: &mut dyn Read,
        out: &mut dyn Out,
    ) -> Result<()> {
        self.progress.started(diff_id, Some(size));
        let mut input = Counted {
            input,
            advanced: &|count| self.progress.advanced(diff_id, count),
        };
        out.put(name, size, &mut input)
            .with_context(|| format!("cannot write layer {}", diff_id.short()))?;
        self.progress.finished(diff_id);
        Ok(())
    }
}

/// Tells how many bytes are read.
struct Counted<'a> {
    input: &'a mut dyn Read,
    advanced: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        (self.advanced)(count as u64);
        Ok(count)
    }
}
