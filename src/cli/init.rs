//! `rbox init`.

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::start;

/// Prepare containers for their start, and tell what would hinder it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The container's layer, its files of /etc and its OCI runtime specification (OCIConfigPath of `rbox inspect`) \
are made. It has no process before `rbox start`, and its namespaces come with that.

Examples:
  rbox init web && rbox mount web"
)]
pub struct Args {
    /// All that do not run
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Names or ids
    #[arg(required_unless_present_any = ["all", "latest"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |status| !status.is_running())?;
    output::each(&chosen, |one| {
        start::prepare(engine, &one.container(engine)?)?;
        output::print_line(one.label())
    })
}
