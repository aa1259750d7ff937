//! `rbox stop`.

use std::path::PathBuf;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::flags::StopFlags;
use crate::cli::output;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::stop;
use crate::error;
use crate::error::Kind;

/// Stop containers: the stop signal, and SIGKILL when the time is over
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox stop web
  rbox stop --time 2 --all
  rbox stop --filter label=tier=test")]
pub struct Args {
    /// All that run
    #[arg(short, long, conflicts_with_all = ["latest", "containers", "cidfile"])]
    all: bool,

    /// Those whose ids are in these files
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,

    /// Those that fit, such as name=web or label=KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Pass over those that do not exist
    #[arg(short, long)]
    ignore: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile", "filter"])]
    latest: bool,

    #[command(flatten)]
    how: StopFlags,

    /// Names or ids
    #[arg(
        required_unless_present_any = ["all", "latest", "cidfile", "filter"],
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        id_files: &args.cidfile,
        filters: &args.filter,
        all: args.all,
        latest: args.latest,
        ignore: args.ignore,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, Status::is_running)?;
    let options = args.how.options();
    let begun = choose::begin(engine, &chosen, |container| {
        stop::begin(engine, container, options)
    });
    output::each_of(begun, |begun| {
        let (one, container, stopping) = match begun {
            Err(err) if args.ignore && error::kind(&err) == Some(Kind::NotFound) => return Ok(()),
            result => result?,
        };
        stopping.wait(engine, &container)?;
        output::print_line(one.label())
    })
}
