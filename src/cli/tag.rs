//! `rbox tag`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;

/// Give an image further names
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox tag debian base:1 registry.lan:5000/base:1")]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// New names; without a registry they are of localhost
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.names, |name| images::tag(engine, &args.image, name))
}
