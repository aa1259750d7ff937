//! `rbox network prune`.

use crate::cli::network::filter;
use crate::cli::network::filter::Filters;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::networks;

/// Remove all networks that no container uses
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network prune --force
  rbox network prune --filter until=24h --filter label!=keep")]
pub struct Args {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Only those that fit: label=, label!=, until=
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let filters = Filters::parse(engine, &args.filter, filter::OF_PRUNE)?;
    let warning = "WARNING! This will remove all networks not used by at least one container.\n";
    if !args.force && !args.dry_run && !output::confirmed(warning)? {
        return Ok(0);
    }
    for name in networks::prune(engine, |network| filters.fit(network), args.dry_run)? {
        output::print_line(&name)?;
    }
    Ok(0)
}
