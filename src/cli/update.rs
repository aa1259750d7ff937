//! `rbox update`.

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::flags::ChangedVariables;
use crate::cli::flags::EgressFlags;
use crate::cli::flags::HealthFlags;
use crate::cli::flags::LimitFlags;
use crate::cli::flags::UlimitFlags;
use crate::cli::output;
use crate::container::config::Restart;
use crate::engine::Engine;
use crate::engine::update;
use crate::engine::update::Changes;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Change the limits of containers, also while they run, and what they are started with
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A limit of 0 or -1 is lifted. Variables and --ulimit hold from the next start on.

Examples:
  rbox update --memory 1g --cpus 2 web
  rbox update --pids-limit -1 --latest
  rbox update --restart on-failure:3 web
  rbox update --net-rate 10mbit --network-policy deny:private web
  rbox update --net-rate unlimited --network-policy '' web"
)]
pub struct Args {
    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    health: HealthFlags,

    #[command(flatten)]
    egress: EgressFlags,

    #[command(flatten)]
    ulimits: UlimitFlags,

    #[command(flatten)]
    environment: ChangedVariables,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Start them again when they have ended: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = Restart::parse)]
    restart: Option<Restart>,

    /// Names or ids
    #[arg(required_unless_present = "latest", value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let (rules, rates) = args.egress.into_changes();
    let changes = Changes {
        rules,
        rates,
        limits: args.limits.into_limits()?,
        health: args.health.into_wish()?,
        environment: args.environment.into_changes()?,
        ulimits: args.ulimits.into_ulimits()?,
        restart: args.restart,
    };
    if changes == Changes::default() {
        return Err(fail(Kind::Usage, "nothing is to be changed")
            .hint("`rbox update --help` lists what can be"));
    }
    let wanted = Wanted {
        names: &args.containers,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |_| true)?;
    output::each(&chosen, |one| {
        update::update(engine, &mut one.container(engine)?, changes.clone())?;
        output::print_line(one.label())
    })
}
