//! `rbox prune`.

use std::io::BufRead;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::remove;
use crate::error;
use crate::error::Kind;

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox prune
  rbox prune --force --filter until=24h --filter label!=keep")]
pub struct Args {
    /// Only those that fit, such as until=24h or label=KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        filters: &args.filter,
        all: true,
        ..Wanted::default()
    };
    // Must: before anything is asked, since a wrong filter is an error.
    let chosen = choose::choose(engine, wanted, |status| !status.is_running())?;
    if !args.force {
        output::print(
            "WARNING! This will remove all non running containers.\nAre you sure you want to continue? [y/N] ",
        )?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Ok(0);
        }
    }
    output::each(&chosen, |one| {
        match remove::remove(engine, &one.container(engine)?, false, false) {
            // It was started, or removed by somebody else, since the look at it.
            Err(err) if matches!(error::kind(&err), Some(Kind::Conflict | Kind::NotFound)) => {
                Ok(())
            }
            Err(err) => Err(err),
            Ok(()) => output::print_line(one.label()),
        }
    })
}
