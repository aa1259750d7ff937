//! `rbox manifest remove`.

use crate::cli::output;
use crate::engine::Engine;
use crate::image::lists;

/// Take images from a list
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox manifest remove app app:arm64")]
pub struct Args {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,

    /// Images of it, by digest or name
    #[arg(required = true, value_name = "DIGEST")]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let list = lists::change(&engine.dirs, &args.list, |list| {
        for image in &args.images {
            let digest = list.entry(&engine.dirs, image)?.digest.clone();
            list.index.manifests.retain(|entry| entry.digest != digest);
        }
        Ok(())
    })?;
    output::print_line(list.digest.hex())?;
    Ok(0)
}
