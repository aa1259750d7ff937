//! `rbox image …`. What the top level has too is the same command.

mod exists;
mod mount;
mod prune;
mod tree;

use crate::cli::diff;
use crate::cli::history;
use crate::cli::images;
use crate::cli::import;
use crate::cli::inspect;
use crate::cli::load;
use crate::cli::pull;
use crate::cli::push;
use crate::cli::refused;
use crate::cli::rmi;
use crate::cli::save;
use crate::cli::scp;
use crate::cli::search;
use crate::cli::tag;
use crate::cli::untag;
use crate::engine::Engine;

/// Manage images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox image ls
  rbox image tree debian
  rbox image prune --all")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Diff(diff::ImageArgs),
    Exists(exists::Args),
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::ImageArgs),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Mount(mount::Mount),
    Prune(prune::Args),
    Pull(pull::Args),
    Push(push::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Scp(scp::Args),
    #[command(hide = true, disable_help_flag = true)]
    Sign(refused::Args),
    Search(search::Args),
    Tag(tag::Args),
    Tree(tree::Args),
    #[command(hide = true, disable_help_flag = true)]
    Trust(refused::Args),
    #[command(visible_alias = "umount")]
    Unmount(mount::Unmount),
    Untag(untag::Args),
}

impl Args {
    /// Whether images come into the store.
    pub fn brings_images(&self) -> bool {
        matches!(self.verb, Verb::Import(_) | Verb::Load(_) | Verb::Pull(_))
    }
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Diff(args) => diff::images(engine, &args),
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::History(args) => history::run(engine, args),
        Verb::Import(args) => import::run(engine, &args),
        Verb::Inspect(args) => inspect::images(engine, &args),
        Verb::Load(args) => load::run(engine, args),
        Verb::Ls(args) => images::run(engine, args),
        Verb::Mount(args) => mount::mount(engine, &args),
        Verb::Prune(args) => prune::run(engine, &args),
        Verb::Pull(args) => pull::run(engine, args),
        Verb::Push(args) => push::run(engine, args),
        Verb::Rm(args) => rmi::run(engine, args),
        Verb::Save(args) => save::run(engine, &args),
        Verb::Scp(args) => scp::run(engine, &args),
        Verb::Sign(args) | Verb::Trust(args) => refused::signatures(&args),
        Verb::Search(args) => search::run(args),
        Verb::Tag(args) => tag::run(engine, args),
        Verb::Tree(args) => tree::run(engine, &args),
        Verb::Unmount(args) => mount::unmount(engine, &args),
        Verb::Untag(args) => untag::run(engine, &args),
    }
}
