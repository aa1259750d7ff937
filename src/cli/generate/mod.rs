//! `rbox generate …`.

mod systemd;
mod words;

use crate::engine::Engine;

/// Write what other programs need to know of containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox generate systemd --new --files --name web")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Systemd(systemd::Args),
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Systemd(args) => systemd::run(engine, args),
    }
}
