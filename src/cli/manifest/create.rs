//! `rbox manifest create`.

use crate::cli::flags::RegistryFlags;
use crate::cli::manifest::add;
use crate::cli::manifest::annotation;
use crate::cli::output;
use crate::engine::Engine;
use crate::image::lists;

/// Make a list, with these images in it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An image without a transport is looked for in the store, and then in its registry.

Examples:
  rbox manifest create app
  rbox manifest create app app:amd64 docker://registry.lan:5000/app:arm64"
)]
pub struct Args {
    /// Of an image that is a list itself, take all images
    #[arg(long)]
    all: bool,

    /// Go on with a list that is there
    #[arg(short, long)]
    amend: bool,

    /// Annotate the list
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,

    /// Accept http, and any certificate
    #[arg(long)]
    insecure: bool,

    #[command(flatten)]
    registry: RegistryFlags,

    /// The name of the list
    #[arg(value_name = "LIST")]
    list: String,

    /// Images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut access = args.registry.access()?;
    if args.insecure {
        access.tls_verify = Some(false);
    }
    // All that can go wrong goes wrong before there is a list.
    let found = add::find_all(engine, &args.images, &access, args.all)?;
    let list = lists::create(&engine.dirs, &args.list, args.amend)?;
    let list = lists::change(&engine.dirs, &list.reference.to_string(), |list| {
        list.index
            .annotations
            .extend(args.annotation.iter().cloned());
        for one in found {
            one.put(&engine.dirs, list)?;
        }
        Ok(())
    })?;
    output::print_line(list.digest.hex())?;
    Ok(0)
}
