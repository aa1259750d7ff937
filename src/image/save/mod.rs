//! Images into files: docker-archive, oci-archive, OCI layouts and directories. Manifests, configs and
//! layers go as they are kept, byte for byte, where the form has a place for them; and the same images
//! give the same bytes each time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress;
use crate::image::compress::Format;
use crate::image::compress::Made;
use crate::image::compress::Recipe;
use crate::image::layout::Layout;
use crate::image::manifest;
use crate::image::manifest::Descriptor;
use crate::image::manifest::Document;
use crate::image::manifest::Manifest;
use crate::image::packed;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::image::registry::push;
use crate::image::registry::push::Wish;
use crate::image::registry::push::form;
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
mod list;
mod oci;
mod output;

pub use list::push_list;

const FLAT_VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// An image, and the names that it has in what is written.
pub struct Saved {
    pub image: Image,
    pub names: Vec<String>,
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

impl Layer {
    /// `None` where it is no layer of an image.
    fn format(&self) -> Option<Format> {
        if self.descriptor.digest == self.diff_id {
            return Some(Format::None);
        }
        form::format_of(&self.descriptor)
    }
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
    wish: &'a Wish,
    progress: &'a dyn Progress,
}

/// Writes images into an archive or a directory. Returns the digests of their manifests there.
pub fn save(
    dirs: &Dirs,
    images: &[Saved],
    form: Form,
    target: Target<'_>,
    wish: &Wish,
    progress: &dyn Progress,
) -> Result<Vec<Digest>> {
    // Nothing that is written is collected meanwhile.
    let _lock = Lock::shared(&dirs.lock_file())?;
    let save = Save {
        dirs,
        wish,
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
            [one] => Ok(vec![save.flat(&one.image, &mut Folder::new(dir))?]),
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
pub fn push(
    dirs: &Dirs,
    image: &Image,
    to: &Files,
    wish: &Wish,
    progress: &dyn Progress,
) -> Result<Digest> {
    check_form(to, wish)?;
    let images = [Saved {
        image: image.clone(),
        names: names_in(to)?,
    }];
    let digests = save(
        dirs,
        &images,
        to.form,
        Target::Path(&to.path),
        wish,
        progress,
    )?;
    digests.into_iter().next().context("the image was written")
}

/// The names that an image or a list gets there.
fn names_in(to: &Files) -> Result<Vec<String>> {
    Ok(match &to.part {
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
    })
}

/// What `docker save` writes leaves no choice.
fn check_form(to: &Files, wish: &Wish) -> Result<()> {
    if to.form != Form::DockerArchive {
        return Ok(());
    }
    let text = if wish.kind == Some(push::Kind::Oci) {
        "such an archive has no OCI manifest"
    } else if !matches!(wish.compression, None | Some(Format::None)) {
        "the layers of such an archive are not compressed"
    } else {
        return Ok(());
    };
    Err(fail(Kind::Usage, format!("\"{to}\": {text}")))
        .hint("oci-archive:FILE is an archive of OCI's")
}

impl Save<'_> {
    fn archive(&self, images: &[Saved], form: Form, file: &File) -> Result<Vec<Digest>> {
        let mut out = TarFile::new(file);
        let digests = match form {
            Form::DockerArchive => docker::write(self, images, &mut out)?,
            _ => oci::write(self, images, &mut out)?,
        };
        out.finish()?;
        Ok(digests)
    }

    /// The `dir` transport: everything beside each other.
    fn flat(&self, image: &Image, out: &mut dyn Out) -> Result<Digest> {
        let mut content = self.content(image)?;
        out.small("version", FLAT_VERSION)?;
        self.blobs(&mut content, Layout::Flat, out)?;
        out.small("manifest.json", &content.manifest)?;
        Ok(content.digest)
    }

    /// Layers and config.
    fn blobs(&self, content: &mut Content, layout: Layout, out: &mut dyn Out) -> Result<()> {
        for layer in &mut content.layers {
            self.layer(layer, &layout.name(&layer.descriptor.digest), out)?;
        }
        let config = layout.name(&content.config_digest);
        if !out.has(&config) {
            out.small(&config, &content.config)?;
        }
        Ok(())
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
        self.change(&manifest, &mut content)?;
        Ok(content)
    }

    /// Brings layers and manifest into the form that is wanted.
    fn change(&self, manifest: &Manifest, content: &mut Content) -> Result<()> {
        let Some(source) = push::Kind::of(&manifest.media_type) else {
            return Ok(());
        };
        let formats: Vec<Option<Format>> = content.layers.iter().map(Layer::format).collect();
        let asked = Some(self.wish.kind.unwrap_or(source));
        let recipes: Vec<Option<Recipe>> = formats
            .iter()
            .map(|format| {
                let format = (*format)?;
                let usual = form::usual(format, asked);
                let recipe = self.wish.other(format, usual)?;
                // What is compressed already stays so, unless that is asked for.
                let free = format == Format::None || usual.is_some();
                (self.wish.force || free).then_some(recipe)
            })
            .collect();
        let pairs = formats.iter().zip(&recipes);
        let written = pairs.filter_map(|(format, recipe)| match recipe {
            Some(recipe) => Some(recipe.format),
            None => *format,
        });
        let kind = self.wish.kind(source, written)?;
        if kind == source && recipes.iter().all(Option::is_none) {
            return Ok(());
        }
        for (layer, (format, recipe)) in content.layers.iter_mut().zip(formats.iter().zip(recipes))
        {
            let old = layer.descriptor.clone();
            let (new, format) = match (recipe, format) {
                (Some(recipe), _) => (self.pack(layer, recipe)?, recipe.format),
                (None, Some(format)) => (old.clone(), *format),
                (None, None) if kind == source => continue,
                (None, None) => bail!(
                    "a layer of the type {:?} cannot be converted",
                    old.media_type
                ),
            };
            layer.descriptor = form::layer(&old, &new, format, kind)?;
        }
        let layers: Vec<Descriptor> = content
            .layers
            .iter()
            .map(|one| one.descriptor.clone())
            .collect();
        content.manifest = form::rewrite(&content.manifest, &layers, source, kind)?;
        content.digest = Digest::sha256_of(&content.manifest);
        kind.media_type().clone_into(&mut content.media_type);
        Ok(())
    }

    /// A layer in another form: its digest, its size and what is to be said of it.
    fn pack(&self, layer: &mut Layer, recipe: Recipe) -> Result<Descriptor> {
        let mut tar = packed::tar(self.dirs, &layer.diff_id)?;
        let made = if recipe.format == Format::None {
            Made {
                digest: layer.diff_id.clone(),
                size: tar.size(),
                annotations: BTreeMap::new(),
            }
        } else {
            let file = temp::nameless_file(&self.dirs.tmp())?;
            let made = compress::pack(&mut tar, &file, recipe)?;
            layer.made = Some(file);
            made
        };
        Ok(Descriptor {
            media_type: String::new(),
            digest: made.digest,
            size: made.size,
            platform: None,
            annotations: Some(made.annotations).filter(|some| !some.is_empty()),
        })
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
