//! `rbox pause` and `rbox unpause`.

use std::path::PathBuf;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::pause;

/// Stop all processes of containers where they are, until `unpause`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox pause web
  rbox pause --all")]
pub struct Pause {
    #[command(flatten)]
    which: Which,
}

/// Let the processes of paused containers go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox unpause web
  rbox unpause --all")]
pub struct Unpause {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// All that there are to do it to
    #[arg(short, long, conflicts_with_all = ["latest", "containers", "cidfile"])]
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

    /// Names or ids
    #[arg(
        required_unless_present_any = ["all", "latest", "cidfile", "filter"],
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

impl Which {
    fn each(
        &self,
        engine: &Engine,
        fits: impl Fn(&Status) -> bool,
        verb: impl Fn(&Engine, &Container) -> anyhow::Result<()>,
    ) -> anyhow::Result<u8> {
        let wanted = Wanted {
            names: &self.containers,
            id_files: &self.cidfile,
            filters: &self.filter,
            all: self.all,
            latest: self.latest,
            ignore: false,
            ..Wanted::default()
        };
        let chosen = choose::choose(engine, wanted, fits)?;
        output::each(&chosen, |one| {
            verb(engine, &one.container(engine)?)?;
            output::print_line(one.label())
        })
    }
}

pub fn pause(engine: &Engine, args: &Pause) -> anyhow::Result<u8> {
    let fits = |status: &Status| status.is_running() && !status.is_paused();
    args.which.each(engine, fits, pause::pause)
}

pub fn unpause(engine: &Engine, args: &Unpause) -> anyhow::Result<u8> {
    args.which.each(engine, Status::is_paused, pause::unpause)
}
