//! `rbox manifest exists`.

use crate::engine::Engine;
use crate::image::lists;

/// Tell by the exit status whether there is such a list: 0 if so, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox manifest exists app || rbox manifest create app")]
pub struct Args {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let found = lists::name_of(&engine.dirs, &args.list)?;
    Ok(u8::from(found.is_none()))
}
