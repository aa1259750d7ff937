//! `rbox network rm`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::networks;
use crate::engine::stop::Limit;
use crate::network::record;

/// Remove networks
///
/// The exit status is 1 if a network does not exist, and 2 if a container uses one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network rm lan
  rbox network rm -f -t 0 lan        with the containers that use it, killed at once")]
pub struct Args {
    /// Stop and remove the containers that use them too, and pass over what does not exist
    #[arg(short, long)]
    force: bool,

    /// With --force: seconds in which those that run may end by themselves, or -1 [default: 10]
    #[arg(short, long, value_name = "SECONDS", requires = "force", allow_negative_numbers = true,
        value_parser = Limit::parse)]
    time: Option<Limit>,

    /// Names, or ids
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

const WAIT: Limit = Limit::Seconds(10);

pub fn run(engine: &Engine, args: &Args) -> u8 {
    output::each_removed(&args.networks, args.force, |given| {
        remove(engine, args, given)
    })
}

fn remove(engine: &Engine, args: &Args, given: &str) -> anyhow::Result<()> {
    let name = match record::find(&engine.dirs, given) {
        Err(_) if args.force && record::is_taken(&engine.dirs, given) => {
            networks::remove_unreadable(engine, given)?;
            given.to_owned()
        }
        found => {
            let network = found?;
            networks::remove(engine, &network, args.force, args.time.unwrap_or(WAIT))?;
            network.name
        }
    };
    output::print_line(&name)
}
