//! `rbox push`, and the flags that it shares with `manifest push`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::cli::flags::RegistryFlags;
use crate::cli::output;
use crate::cli::progress::Bars;
use crate::engine::Engine;
use crate::engine::images;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::compress::Format;
use crate::image::lists;
use crate::image::lists::List;
use crate::image::names;
use crate::image::names::Name;
use crate::image::registry::push;
use crate::image::registry::push::Extent;
use crate::image::registry::push::PushOptions;
use crate::image::registry::push::Wish;
use crate::image::transport;
use crate::image::transport::Files;
use crate::image::transport::Transport;
use crate::image::variant;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

/// Push an image to a registry
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  rbox push registry.lan:5000/team/app:1.2
  rbox push app registry.lan:5000/team/app:1.2
  rbox push --compression-format zstd app registry.lan:5000/team/app:zstd")]
pub struct Args {
    /// Push all tags of the image
    #[arg(short, long)]
    all_tags: bool,

    #[command(flatten)]
    form: FormFlags,

    /// Of an image that is in the store for several platforms, push the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    #[command(flatten)]
    registry: RegistryFlags,

    /// An image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to, such as registry.lan:5000/app:1.2; without it, where its name says
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// How an image is written into a registry.
#[derive(Clone, Debug, ClapArgs)]
pub struct FormFlags {
    /// Send layers in this form: gzip, zstd, zstd:chunked or none; without it as they came
    #[arg(long, value_name = "FORMAT", value_parser = compression)]
    compression_format: Option<Format>,

    /// Compress that hard: gzip 1 to 9, zstd 1 to 22
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    compression_level: Option<i32>,

    /// Write the digest of what is pushed into this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Send layers in the form asked for also where the registry has them in another;
    /// follows from --compression-format
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set,
        hide_possible_values = true)]
    force_compression: Option<bool>,

    /// Write a manifest of this type: oci or v2s2 (Docker's); without it that of the image
    #[arg(short, long, value_name = "TYPE", value_parser = kind)]
    format: Option<push::Kind>,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,

    /// Push no signatures, of which the store has none
    #[arg(long)]
    remove_signatures: bool,
}

pub fn compression(text: &str) -> Result<Format, String> {
    [
        Format::Gzip,
        Format::Zstd,
        Format::ZstdChunked,
        Format::None,
    ]
    .into_iter()
    .find(|format| format.name() == text)
    .ok_or_else(|| format!("{text:?} is no form: expected gzip, zstd, zstd:chunked or none"))
}

fn kind(text: &str) -> Result<push::Kind, String> {
    match text {
        "oci" => Ok(push::Kind::Oci),
        "v2s2" | "docker" => Ok(push::Kind::Docker),
        "v2s1" => Err("\"v2s1\": registries take such manifests no more".to_owned()),
        _ => Err(format!("{text:?} is no type: expected oci or v2s2")),
    }
}

impl FormFlags {
    pub fn options(&self, registry: &RegistryFlags) -> anyhow::Result<PushOptions> {
        if let Some(level) = self.compression_level {
            let format = self.compression_format.unwrap_or(Format::Gzip);
            let levels = format.levels();
            if !levels.contains(&level) {
                let text = format!(
                    "--compression-level {level}: {} has the levels {} to {}",
                    format.name(),
                    levels.start(),
                    levels.end()
                );
                return Err(fail(Kind::Usage, text));
            }
        }
        let is_zstd = matches!(
            self.compression_format,
            Some(Format::Zstd | Format::ZstdChunked)
        );
        if is_zstd && self.format == Some(push::Kind::Docker) {
            let text = "--format v2s2: Docker's manifests have no layers of zstd";
            return Err(fail(Kind::Usage, text)).hint("use --format oci");
        }
        Ok(PushOptions {
            access: registry.access()?,
            wish: Wish {
                compression: self.compression_format,
                level: self.compression_level,
                force: self
                    .force_compression
                    .unwrap_or(self.compression_format.is_some()),
                kind: self.format,
            },
        })
    }

    pub fn write_digest(&self, digest: &Digest) -> anyhow::Result<()> {
        let Some(path) = &self.digestfile else {
            return Ok(());
        };
        std::fs::write(path, digest.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let options = args.form.options(&args.registry)?;
    if args.all_tags {
        return all_tags(engine, &args, &options);
    }
    if args.platform.is_none()
        && let Some(list) = lists::name_of(&engine.dirs, &args.image)?
    {
        return whole_list(engine, &args, &list, &options);
    }
    let (image, name) = find(engine, &args)?;
    match destination(args.destination.as_deref())? {
        Some(Transport::Store(name)) => {
            images::tag(engine, &args.image, &name)?;
        }
        Some(Transport::Files(files)) => to_files(engine, &args, &image, &files, &options)?,
        Some(Transport::Registry(to)) => one(engine, &args.form, &image, &to.parse()?, &options)?,
        None => {
            let Some(name) = name else {
                let text = format!("\"{}\" is no name of a registry's", args.image);
                return Err(fail(Kind::Usage, text)).hint("give a destination after the image");
            };
            one(engine, &args.form, &image, &name, &options)?;
        }
    }
    Ok(0)
}

/// A list of images for several platforms goes as a whole.
fn whole_list(
    engine: &Engine,
    args: &Args,
    list: &Name,
    options: &PushOptions,
) -> anyhow::Result<u8> {
    let to = destination(args.destination.as_deref())?;
    let list = lists::find(&engine.dirs, &list.reference.to_string())?;
    let extent = Extent {
        all: true,
        more: vec![],
    };
    push_list(engine, &args.form, &list, to, options, &extent)?;
    Ok(0)
}

/// Where that is not said, where its name says.
pub fn push_list(
    engine: &Engine,
    form: &FormFlags,
    list: &List,
    to: Option<Transport>,
    options: &PushOptions,
    extent: &Extent,
) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let to: Reference = match to {
        None => list.reference.clone(),
        Some(Transport::Registry(name)) => name.parse()?,
        Some(Transport::Files(files)) => {
            let bars = Bars::new(form.quiet);
            let digest = image::save::push_list(dirs, list, &files, options, extent, &bars);
            bars.clear();
            form.write_digest(&digest?)?;
            images::record(engine, "push", &list.digest, &files.to_string());
            return Ok(());
        }
        Some(Transport::Store(name)) => {
            return images::tag(engine, &list.reference.to_string(), &name);
        }
    };
    let bars = Bars::of_push(form.quiet, &to.to_string());
    let pushed = push::push_list(dirs, list, &to, options, extent, &bars);
    bars.clear();
    form.write_digest(&pushed?.digest)?;
    images::record(engine, "push", &list.digest, &to.to_string());
    Ok(())
}

/// Into an archive or a directory.
fn to_files(
    engine: &Engine,
    args: &Args,
    image: &Image,
    files: &Files,
    options: &PushOptions,
) -> anyhow::Result<()> {
    let form = &args.form;
    let bars = Bars::new(form.quiet);
    let digest = image::save::push(&engine.dirs, image, files, &options.wish, &bars);
    bars.clear();
    form.write_digest(&digest?)?;
    images::record(engine, "push", &image.id, &files.to_string());
    Ok(())
}

/// What is said without a transport is a registry's.
pub fn destination(text: Option<&str>) -> anyhow::Result<Option<Transport>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let transport = transport::parse(text)?;
    Ok(Some(
        transport.unwrap_or_else(|| Transport::Registry(text.to_owned())),
    ))
}

/// The image, and the name that it was found by.
fn find(engine: &Engine, args: &Args) -> anyhow::Result<(Image, Option<Reference>)> {
    let image = variant::find(&engine.dirs, &args.image, args.platform.as_ref())?;
    let name = image.names.first().cloned();
    Ok((image, name))
}

fn one(
    engine: &Engine,
    form: &FormFlags,
    image: &Image,
    to: &Reference,
    options: &PushOptions,
) -> anyhow::Result<()> {
    let bars = Bars::of_push(form.quiet, &to.to_string());
    let pushed = push::push(&engine.dirs, image, to, options, &bars);
    bars.clear();
    form.write_digest(&pushed?.digest)?;
    images::record(engine, "push", &image.id, &to.to_string());
    Ok(())
}

/// Every tag of a repository that the store has.
fn all_tags(engine: &Engine, args: &Args, options: &PushOptions) -> anyhow::Result<u8> {
    let has_tag = args
        .image
        .rsplit_once(':')
        .is_some_and(|(_, tag)| !tag.contains('/'));
    if has_tag || args.image.contains('@') || args.destination.is_some() {
        let text = format!(
            "--all-tags takes a repository alone, and not \"{}\"",
            args.image
        );
        return Err(fail(Kind::Usage, text));
    }
    let candidates = [
        Reference::parse_in(&args.image, names::LOCAL)?,
        args.image.parse()?,
    ];
    let mut names = Vec::new();
    for candidate in candidates {
        let all = names::all(&engine.dirs)?.into_iter();
        names = all
            .map(|name| name.reference)
            .filter(|name| name.name() == candidate.name() && name.tag().is_some())
            .collect();
        if !names.is_empty() {
            break;
        }
    }
    if names.is_empty() {
        let text = format!(
            "no image of the repository \"{}\" is in the store",
            args.image
        );
        return Err(fail(Kind::NotFound, text));
    }
    output::each(&names, |name| {
        let image = image::find(&engine.dirs, &name.to_string())?;
        one(engine, &args.form, &image, name, options)
    })
}
