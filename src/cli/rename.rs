//! `rbox rename`.

use crate::container::record::Container;
use crate::engine::Engine;

/// Give a container another name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox rename web web-old")]
pub struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    Container::find(&engine.dirs, &args.container)?.rename(&engine.dirs, &args.name)?;
    Ok(0)
}
