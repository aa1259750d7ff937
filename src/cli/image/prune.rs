//! `rbox image prune`.

use crate::cli::images::filter::Filters;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;
use crate::error::Kind;
use crate::error::fail;

/// Remove the images that have no name and that no container uses
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a switch")]
#[command(after_help = "Examples:
  rbox image prune --force
  rbox image prune --all --filter until=240h")]
pub struct Args {
    /// Those with a name too
    #[arg(short, long)]
    all: bool,

    /// Refused: rbox keeps no build cache
    #[arg(long, hide = true)]
    build_cache: bool,

    /// Also those that containers of other tools use, of which rbox has none
    #[arg(long, hide = true)]
    external: bool,

    /// Only those that fit, such as until=24h or label=KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    if args.build_cache {
        let text = "--build-cache: rbox keeps no build cache";
        return Err(fail(Kind::Unsupported, text));
    }
    let filters = Filters::parse(engine, &args.filter)?;
    if !args.force {
        let which = if args.all {
            "images without at least one container associated with them"
        } else {
            "dangling images"
        };
        if !output::confirmed(&format!("WARNING! This command removes all {which}.\n"))? {
            return Ok(0);
        }
    }
    let outcome = images::prune(engine, args.all, |images| filters.choose(engine, images))?;
    for id in &outcome.deleted {
        output::print_line(id.hex())?;
    }
    outcome.into_result()?;
    Ok(0)
}
