//! `rbox volume exists`.

use crate::engine::Engine;
use crate::volume;

/// Tell by the exit status whether there is a volume: 0 if so, 1 if not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name
    #[arg(value_name = "VOLUME")]
    volume: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let found = volume::by_name(&engine.dirs, &args.volume)?;
    Ok(u8::from(found.is_none()))
}
