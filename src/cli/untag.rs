//! `rbox untag`.

use crate::engine::Engine;
use crate::engine::images;

/// Take names from an image, which stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox untag busybox
  rbox untag 2979eb863b66 mine:1 mine:2")]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The names to be taken; without any all that it has
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    images::untag(engine, &args.image, &args.names)?;
    Ok(0)
}
