//! `rbox image mount` and `rbox image unmount`.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::image_mounts;
use crate::image;
use crate::image::Image;
use crate::text::table::Table;

/// Show the files of images by a path of the host, read-only
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The path leads into a mount namespace, for you and for root: use it as it is, since it reads as / where \
links are resolved. Without an image those that are mounted are listed.

Examples:
  ls $(rbox image mount debian)/etc
  rbox image mount && rbox image unmount debian"
)]
pub struct Mount {
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// Print in another form: json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,

    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Take back what `image mount` has done
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What was mounted twice is unmounted with the second time, unless by force.

Examples:
  rbox image unmount debian
  rbox image unmount --all --force"
)]
pub struct Unmount {
    /// All that are mounted
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// Unmount at once, however often it was mounted
    #[arg(short, long)]
    force: bool,

    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn mount(engine: &Engine, args: &Mount) -> anyhow::Result<u8> {
    if !args.all && args.images.is_empty() {
        return list(engine, args);
    }
    let names = if args.all {
        all(engine)?
    } else {
        args.images.clone()
    };
    let mut rows = Vec::new();
    let status = output::each(&names, |name| {
        let image = image::find(&engine.dirs, name)?;
        let path = image_mounts::mount(engine, &image)?;
        if args.format.is_some() {
            rows.push(row(engine, &image, &path)?);
            return Ok(());
        }
        if names.len() == 1 {
            return output::print_line(&path.display().to_string());
        }
        output::print_line(&format!("{name} {}", path.display()))
    });
    if args.format.is_some() {
        output::print_line(&serde_json::to_string_pretty(&rows)?)?;
    }
    status
}

/// Of each image a name, or its id.
fn all(engine: &Engine) -> anyhow::Result<Vec<String>> {
    let images = image::list(&engine.dirs, |err| output::print_damaged(&[err]))?;
    Ok(images.iter().map(label).collect())
}

fn label(image: &Image) -> String {
    match image.names.first() {
        Some(name) => name.to_string(),
        None => image.id.short().to_owned(),
    }
}

fn list(engine: &Engine, args: &Mount) -> anyhow::Result<u8> {
    let mut table = Table::default();
    let mut rows = Vec::new();
    for image in image::list(&engine.dirs, |err| output::print_damaged(&[err]))? {
        let Some(path) = image_mounts::path(engine, &image.id)? else {
            continue;
        };
        table.row([label(&image), path.display().to_string()]);
        rows.push(row(engine, &image, &path)?);
    }
    if args.format.is_some() {
        output::print_line(&serde_json::to_string_pretty(&rows)?)?;
    } else {
        output::print(&table.render())?;
    }
    Ok(0)
}

/// Podman's names.
fn row(engine: &Engine, image: &Image, path: &Path) -> anyhow::Result<Value> {
    let names = image::names::of(&engine.dirs, &image.id)?;
    Ok(json!({
        "id": image.id.hex(),
        "Names": [image.manifest_digest],
        "Repositories": names,
        "mountpoint": path,
    }))
}

pub fn unmount(engine: &Engine, args: &Unmount) -> anyhow::Result<u8> {
    let names = if args.all {
        all(engine)?
    } else {
        args.images.clone()
    };
    output::each(&names, |name| {
        let image = image::find(&engine.dirs, name)?;
        if args.all && image_mounts::path(engine, &image.id)?.is_none() {
            return Ok(());
        }
        image_mounts::unmount(engine, &image.id, args.force)?;
        output::print_line(image.id.hex())
    })
}
