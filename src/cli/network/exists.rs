//! `rbox network exists`.

use crate::engine::Engine;
use crate::network::record;

/// Tell by the exit status whether there is a network: 0 if so, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network exists lan || rbox network create lan")]
pub struct Args {
    /// The name, or the id
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub fn run(engine: &Engine, args: &Args) -> u8 {
    u8::from(!record::exists(&engine.dirs, &args.network))
}
