//! `rbox system …`.

mod check;
mod df;
mod prune;
mod reset;
mod share;

use crate::cli::events;
use crate::cli::info;
use crate::cli::output;
use crate::engine::Engine;

/// Manage the store as a whole
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox system df
  rbox system prune
  rbox system check --repair")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Check(check::Args),
    Df(df::Args),
    Events(events::Args),
    Info(info::Info),
    Prune(prune::Args),
    Reset(reset::Args),
    Share(share::Args),
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Check(args) => check::run(engine, &args),
        Verb::Df(args) => df::run(engine, &args),
        Verb::Events(args) => events::run(engine, args),
        Verb::Info(args) => info::run(engine, &args, &mut output::Stdout).map(|()| 0),
        Verb::Prune(args) => prune::run(engine, &args),
        Verb::Reset(args) => reset::run(engine, &args),
        Verb::Share(args) => share::run(&args),
    }
}
