//! `rbox manifest …`: lists of images for several platforms.

mod add;
mod annotate;
mod create;
mod exists;
mod inspect;
mod push;
mod remove;
mod rm;

use crate::engine::Engine;

/// Make and push lists of images for several platforms
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox manifest create app registry.lan:5000/app:amd64 registry.lan:5000/app:arm64
  rbox manifest push app registry.lan:5000/app:1.2")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Add(add::Args),
    Annotate(annotate::Args),
    Create(create::Args),
    Exists(exists::Args),
    Inspect(inspect::Args),
    Push(push::Args),
    Remove(remove::Args),
    Rm(rm::Args),
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Add(args) => add::run(engine, args),
        Verb::Annotate(args) => annotate::run(engine, &args),
        Verb::Create(args) => create::run(engine, &args),
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, &args),
        Verb::Push(args) => push::run(engine, &args),
        Verb::Remove(args) => remove::run(engine, &args),
        Verb::Rm(args) => rm::run(engine, &args),
    }
}

/// `key=value`
fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no annotation: expected KEY=VALUE")),
    }
}
