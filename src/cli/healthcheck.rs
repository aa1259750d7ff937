//! `rbox healthcheck …`.

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::health;
use crate::engine::health::Result;

/// Check whether containers are healthy
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Run(Run),
}

/// Run the health check of a container now: the exit status is 0 if it succeeds, 1 if not
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox run -d --name web --health-cmd 'wget -qO- http://localhost/' nginx
  rbox healthcheck run web")]
struct Run {
    /// Exit with 0 whatever the check says
    #[arg(long)]
    ignore_result: bool,

    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let Verb::Run(args) = &args.verb;
    let container = Container::find(&engine.dirs, &args.container)?;
    let result = health::check(&container)?;
    if result == Result::Passed {
        return Ok(0);
    }
    output::print_line(result.name())?;
    Ok(u8::from(!args.ignore_result))
}
