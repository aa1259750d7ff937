//! `rbox kill`.

use std::path::PathBuf;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::stop;
use crate::text::signal;

/// Send a signal to running containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox kill web
  rbox kill --signal HUP --all")]
pub struct Args {
    /// All that run
    #[arg(short, long, conflicts_with_all = ["latest", "containers", "cidfile"])]
    all: bool,

    /// Those whose ids are in these files
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,

    /// The container that was created last
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile"])]
    latest: bool,

    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_parser = signal::parse)]
    signal: i32,

    /// Names or ids
    #[arg(
        required_unless_present_any = ["all", "latest", "cidfile"],
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        id_files: &args.cidfile,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, Status::is_running)?;
    output::each(&chosen, |one| {
        stop::kill(engine, &one.container(engine)?, args.signal)?;
        output::print_line(one.label())
    })
}
