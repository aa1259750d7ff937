//! `rbox tag`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;

/// Give an image further names
#[derive(Debug, clap::Args)]
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
