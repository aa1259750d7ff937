//! `rbox manifest add`.

use crate::cli::flags::RegistryFlags;
use crate::cli::manifest::annotation;
use crate::cli::output;
use crate::cli::progress::Bars;
use crate::engine::Engine;
use crate::engine::images;
use crate::error;
use crate::error::Kind;
use crate::image;
use crate::image::lists;
use crate::image::lists::Entry;
use crate::image::lists::EntryPlatform;
use crate::image::lists::List;
use crate::image::load;
use crate::image::registry::Access;
use crate::image::registry::remote;
use crate::image::transport;
use crate::image::transport::Files;
use crate::image::transport::Transport;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;

/// Put images into a list
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Of an image in a registry its manifest alone is fetched; one in files is loaded.

Examples:
  rbox manifest add app app:arm64
  rbox manifest add app oci-archive:app-riscv64.tar
  rbox manifest add --all app docker://registry.lan:5000/base"
)]
pub struct Args {
    /// Of an image that is a list itself, take all images
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    words: Words,

    #[command(flatten)]
    registry: RegistryFlags,

    /// The list
    #[arg(value_name = "LIST")]
    list: String,

    /// Images of the store, of a registry, or in files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// What a list says of an image.
#[derive(Clone, Debug, clap::Args)]
pub struct Words {
    /// Annotate the image in the list
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,

    /// The architecture that it is for, instead of what it says itself
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// What it needs of the processor
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    features: Vec<String>,

    /// The operating system that it is for
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// What it needs of the operating system
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    os_features: Vec<String>,

    /// The version of the operating system that it is for
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,

    /// The variant of the architecture that it is for
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl Words {
    pub fn apply(&self, entry: &mut Entry) {
        self.annotate(&mut entry.annotations);
        let mut platform = entry.platform.take().unwrap_or_default();
        if let Some(arch) = &self.arch {
            platform.architecture.clone_from(arch);
        }
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if self.os_version.is_some() {
            platform.os_version.clone_from(&self.os_version);
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        if !self.features.is_empty() {
            platform.features.clone_from(&self.features);
        }
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
        entry.platform = Some(platform).filter(|some| *some != EntryPlatform::default());
    }

    pub fn annotate(&self, annotations: &mut std::collections::BTreeMap<String, String>) {
        annotations.extend(self.annotation.iter().cloned());
    }

    /// Whether there is something that an image can have, and a list not.
    pub fn has_platform(&self) -> bool {
        let words = [&self.arch, &self.os, &self.os_version, &self.variant];
        words.iter().any(|word| word.is_some())
            || !self.features.is_empty()
            || !self.os_features.is_empty()
    }
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let access = args.registry.access()?;
    lists::find(&engine.dirs, &args.list)?;
    let mut found = find_all(engine, &args.images, &access, args.all)?;
    for one in &mut found {
        args.words.apply(&mut one.entry);
    }
    let list = lists::change(&engine.dirs, &args.list, |list| {
        for one in found {
            one.put(&engine.dirs, list)?;
        }
        Ok(())
    })?;
    output::print_line(list.digest.hex())?;
    Ok(0)
}

/// An image on its way into a list.
pub struct Found {
    entry: Entry,
    /// Its manifest, and the repository that has the image, where the store has neither.
    remote: Option<(Vec<u8>, String)>,
}

impl Found {
    pub fn put(self, dirs: &Dirs, list: &mut List) -> anyhow::Result<()> {
        if let Some((bytes, source)) = self.remote {
            blobs::put(dirs, &self.entry.digest, &bytes)?;
            list.sources.insert(self.entry.digest.clone(), source);
        }
        list.put(self.entry);
        Ok(())
    }
}

pub fn find_all(
    engine: &Engine,
    images: &[String],
    access: &Access,
    all: bool,
) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for image in images {
        found.extend(find(engine, image, access, all)?);
    }
    Ok(found)
}

/// What has no transport is looked for in the store first.
fn find(engine: &Engine, text: &str, access: &Access, all: bool) -> anyhow::Result<Vec<Found>> {
    match transport::parse(text)? {
        Some(Transport::Registry(name)) => in_registry(&name.parse()?, access, all),
        Some(Transport::Store(name)) => in_store(engine, &name, all),
        Some(Transport::Files(files)) => in_files(engine, &files, all),
        None => match in_store(engine, text, all) {
            Err(err) if error::kind(&err) == Some(Kind::NotFound) => {
                in_registry(&text.parse()?, access, all)
            }
            found => found,
        },
    }
}

fn in_store(engine: &Engine, text: &str, all: bool) -> anyhow::Result<Vec<Found>> {
    if let Some(name) = lists::name_of(&engine.dirs, text)?.filter(|_| all) {
        let list = lists::find(&engine.dirs, &name.reference.to_string())?;
        let entries = list.index.manifests.into_iter();
        return entries
            .map(|entry| {
                let source = list.sources.get(&entry.digest);
                let bytes = source.map(|source| {
                    let bytes = blobs::get(&engine.dirs, &entry.digest)?;
                    Ok::<_, anyhow::Error>((bytes, source.clone()))
                });
                let remote = bytes.transpose()?;
                Ok(Found { entry, remote })
            })
            .collect();
    }
    let image = image::find(&engine.dirs, text)?;
    let entry = lists::entry_of(&engine.dirs, &image)?;
    Ok(vec![Found {
        entry,
        remote: None,
    }])
}

/// They are loaded, and have no name: the list keeps them.
fn in_files(engine: &Engine, files: &Files, all: bool) -> anyhow::Result<Vec<Found>> {
    let bars = Bars::new(false);
    let images = load::for_list(&engine.dirs, files, all, &bars);
    bars.clear();
    let found = images?.into_iter().map(|image| {
        images::record(engine, "loadfromarchive", &image.id, &files.to_string());
        let entry = lists::entry_of(&engine.dirs, &image)?;
        let remote = None;
        Ok(Found { entry, remote })
    });
    found.collect()
}

fn in_registry(reference: &Reference, access: &Access, all: bool) -> anyhow::Result<Vec<Found>> {
    let entries = remote::entries(reference, access, all, &Platform::host())?;
    let found = entries.into_iter().map(|(entry, bytes)| Found {
        entry,
        remote: Some((bytes, reference.name())),
    });
    Ok(found.collect())
}
