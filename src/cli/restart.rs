//! `rbox restart`.

use std::path::PathBuf;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::flags::StopFlags;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::restart;

/// Stop containers that run, and start them again
#[derive(Debug, clap::Args)]
#[command(after_help = "One that does not run is started.

Examples:
  rbox restart web
  rbox restart --time 2 --running")]
pub struct Args {
    /// All containers, those that do not run too
    #[arg(short, long, conflicts_with_all = ["latest", "containers", "cidfile", "running"])]
    all: bool,

    /// Those whose ids are in these files
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,

    /// Those that fit, such as name=web or label=KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// The container that was created last
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile", "filter"])]
    latest: bool,

    /// All that run
    #[arg(long, conflicts_with_all = ["latest", "containers", "cidfile"])]
    running: bool,

    #[command(flatten)]
    how: StopFlags,

    /// Names or ids
    #[arg(
        required_unless_present_any = ["all", "running", "latest", "cidfile", "filter"],
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        id_files: &args.cidfile,
        filters: &args.filter,
        all: args.all || args.running,
        latest: args.latest,
        ignore: false,
        ..Wanted::default()
    };
    let mut chosen = choose::choose(engine, wanted, |status| args.all || status.is_running())?;
    // The oldest first: others may use it.
    wanted.order(&mut chosen);
    let options = args.how.options();
    let begun = choose::begin(engine, &chosen, |container| {
        restart::begin(engine, container, options)
    });
    output::each_of(begun, |begun| {
        let (one, container, stopping) = begun?;
        restart::finish(engine, &container, stopping)?;
        output::print_line(one.label())
    })
}
