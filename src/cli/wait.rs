//! `rbox wait`.

use std::time::Duration;

use crate::cli::choose;
use crate::cli::choose::Chosen;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::health;
use crate::container::health::Status as Health;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect;
use crate::engine::health::unchecked;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::text::duration;

/// Wait until containers have ended, and print their exit statuses
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Conditions: configured, created, exited, healthy, initialized, paused, removing, running,
stopped, stopping, unhealthy. Of several one must hold; for others than exited and stopped
-1 is printed.

Examples:
  rbox wait --condition healthy web && curl localhost:8080"
)]
pub struct Args {
    /// Wait for this instead of the end
    #[arg(long, value_name = "CONDITION", value_delimiter = ',', value_parser = condition)]
    condition: Vec<Condition>,

    /// Wait for the first of the containers only
    #[arg(long)]
    exit_first_match: bool,

    /// Print -1 for a container that does not exist
    #[arg(long)]
    ignore: bool,

    /// Look so often; the end is heard of at once
    #[arg(short, long, value_name = "DURATION", default_value = "250ms", value_parser = interval)]
    interval: Duration,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Names or ids
    #[arg(required_unless_present = "latest", value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// By the name of a status.
    Is(&'static str),
    Ended,
    Gone,
    Health(Health),
}

fn condition(text: &str) -> Result<Condition, String> {
    Ok(match text {
        "configured" | "created" => Condition::Is("created"),
        "initialized" => Condition::Is("initialized"),
        "paused" => Condition::Is("paused"),
        "running" => Condition::Is("running"),
        "stopping" => Condition::Is("stopping"),
        "exited" | "stopped" => Condition::Ended,
        "removing" => Condition::Gone,
        "healthy" => Condition::Health(Health::Healthy),
        "unhealthy" => Condition::Health(Health::Unhealthy),
        _ => return Err("expected configured, created, exited, healthy, initialized, paused, removing, running, stopped, stopping or unhealthy".into()),
    })
}

/// As podman: a number alone is of milliseconds.
fn interval(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse() {
        Ok(milliseconds) => Some(Duration::from_millis(milliseconds)),
        Err(_) => duration::parse(text).ok(),
    };
    let parsed = parsed.filter(|interval| !interval.is_zero());
    parsed.ok_or("expected a duration as 250ms or 2s".into())
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |_| true)?;
    let only_end = args.condition.iter().all(|one| *one == Condition::Ended);
    if args.exit_first_match {
        let mut watches = watches(engine, &args, &chosen)?;
        loop {
            for watch in &mut watches {
                if let Some(code) = watch.look(engine, &args)? {
                    output::print_line(&code.to_string())?;
                    return Ok(0);
                }
            }
            std::thread::sleep(args.interval);
        }
    }
    output::each(&chosen, |one| {
        let code = match one.container(engine) {
            Err(err) if is_missing(&err) && args.ignore => -1,
            Err(err) => return Err(err),
            Ok(container) if only_end => connect::wait(&container)?,
            Ok(container) => Watch::of(container).wait(engine, &args)?,
        };
        output::print_line(&code.to_string())
    })
}

fn is_missing(err: &anyhow::Error) -> bool {
    error::kind(err) == Some(Kind::NotFound)
}

fn watches(engine: &Engine, args: &Args, chosen: &[Chosen]) -> anyhow::Result<Vec<Watch>> {
    let mut watches = Vec::new();
    for one in chosen {
        match one.container(engine) {
            Err(err) if is_missing(&err) && args.ignore => {}
            found => watches.push(Watch::of(found?)),
        }
    }
    if watches.is_empty() {
        return Err(fail(Kind::NotFound, "there is no container to wait for"));
    }
    Ok(watches)
}

/// A container that is looked at again and again.
struct Watch {
    container: Container,
    has_run: bool,
}

impl Watch {
    fn of(container: Container) -> Watch {
        Watch {
            container,
            has_run: false,
        }
    }

    fn wait(&mut self, engine: &Engine, args: &Args) -> anyhow::Result<i32> {
        loop {
            if let Some(code) = self.look(engine, args)? {
                return Ok(code);
            }
            std::thread::sleep(args.interval);
        }
    }

    /// What is to be printed, if a condition holds now.
    fn look(&mut self, engine: &Engine, args: &Args) -> anyhow::Result<Option<i32>> {
        let waits_for = |one| args.condition.contains(&one);
        let id = self.container.config.id.clone();
        self.container = match Container::find(&engine.dirs, &id) {
            Err(err) if is_missing(&err) && waits_for(Condition::Gone) => return Ok(Some(-1)),
            found => found?,
        };
        let status = self.container.status()?;
        let ended = matches!(status, Status::Exited(_));
        if ended && (args.condition.is_empty() || waits_for(Condition::Ended)) {
            return connect::wait(&self.container).map(Some);
        }
        let health = args
            .condition
            .iter()
            .any(|one| matches!(one, Condition::Health(_)));
        if health {
            let Some(report) = health::of(&self.container, &status) else {
                return Err(unchecked(&self.container));
            };
            if matches!(status, Status::Running(_)) && waits_for(Condition::Health(report.status)) {
                return Ok(Some(-1));
            }
            if ended && self.has_run {
                return Err(connect::not_running(&self.container));
            }
        }
        self.has_run |= status.is_running();
        let holds = args
            .condition
            .iter()
            .any(|one| *one == Condition::Is(status.name()));
        Ok(holds.then_some(-1))
    }
}
