//! `rbox image exists`.

use crate::engine::Engine;
use crate::error;
use crate::error::Kind;
use crate::image;

/// Tell by the exit status whether there is an image: 0 if so, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox image exists debian || rbox pull debian")]
pub struct Args {
    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    match image::find(&engine.dirs, &args.image) {
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => Ok(1),
        Err(err) => Err(err),
        Ok(_) => Ok(0),
    }
}
