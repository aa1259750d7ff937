//! `rbox volume …`.

mod create;
mod exists;
pub mod filter;
mod inspect;
mod ls;
mod prune;
mod rm;

use crate::engine::Engine;

/// Manage volumes: directories that outlive containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox volume create data
  rbox run --rm -v data:/srv busybox touch /srv/file
  rbox volume ls
  rbox volume rm data")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Create(create::Args),
    Exists(exists::Args),
    Inspect(inspect::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Prune(prune::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Create(args) => create::run(engine, args),
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, args),
        Verb::Ls(args) => ls::run(engine, args),
        Verb::Prune(args) => prune::run(engine, args),
        Verb::Rm(args) => rm::run(engine, args),
    }
}
