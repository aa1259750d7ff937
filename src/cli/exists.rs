//! `rbox exists`.

use crate::container::record::Container;
use crate::engine::Engine;
use crate::error;
use crate::error::Kind;

/// Tell by the exit status whether there is a container: 0 if so, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox exists web || rbox run -d --name web nginx")]
pub struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    match Container::find(&engine.dirs, &args.container) {
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => Ok(1),
        Err(err) => Err(err),
        Ok(_) => Ok(0),
    }
}
