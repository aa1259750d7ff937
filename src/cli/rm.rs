//! `rbox rm`.

use std::path::PathBuf;

use crate::cli::choose;
use crate::cli::choose::Chosen;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::remove;
use crate::engine::stop;
use crate::engine::stop::Limit;
use crate::engine::stop::Stopping;
use crate::engine::users;
use crate::error;
use crate::error::Kind;

/// Remove containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox rm web
  rbox rm -f --time 5 web            stop it first, and kill it after 5 seconds
  rbox rm --filter status=exited")]
pub struct Args {
    /// All containers
    #[arg(short, long, conflicts_with_all = ["latest", "containers", "cidfile"])]
    all: bool,

    /// Those whose ids are in these files
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,

    /// Those that share namespaces of these too, before them
    #[arg(long)]
    depend: bool,

    /// Those that fit, such as status=exited or label=KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Kill those that run, and pass over those that do not exist
    #[arg(short, long)]
    force: bool,

    /// Pass over those that do not exist
    #[arg(short, long)]
    ignore: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile", "filter"])]
    latest: bool,

    /// With --force: seconds in which those that run may end by themselves [default: 0]
    #[arg(short, long, value_name = "SECONDS", requires = "force", allow_negative_numbers = true,
        value_parser = Limit::parse)]
    time: Option<Limit>,

    /// Remove their anonymous volumes too
    #[arg(short, long)]
    volumes: bool,

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
        ignore: args.ignore || args.force,
        unreadable: true,
    };
    let chosen = choose::choose(engine, wanted, |_| true)?;
    // All of them are asked to end before the first is waited for.
    let begun: Vec<_> = chosen
        .iter()
        .map(|one| (one, begin(engine, &args, one)))
        .collect();
    output::each_of(begun, |(one, stopping)| {
        remove_one(engine, &args, one, stopping)
    })
}

fn gives_time(args: &Args) -> bool {
    args.force && args.time.is_some_and(|time| time != Limit::Seconds(0))
}

/// What is wrong with it shows again when it is to be removed.
fn begin(engine: &Engine, args: &Args, chosen: &Chosen) -> Option<Stopping> {
    if !gives_time(args) || args.depend {
        return None;
    }
    let container = chosen.container(engine).ok()?;
    stop::begin(engine, &container, stop::Options::within(args.time)).ok()
}

fn remove_one(
    engine: &Engine,
    args: &Args,
    chosen: &Chosen,
    stopping: Option<Stopping>,
) -> anyhow::Result<()> {
    let container = match chosen.container(engine) {
        Err(err) if (args.force || args.ignore) && error::kind(&err) == Some(Kind::NotFound) => {
            return Ok(());
        }
        Err(_) if args.force => {
            let container = Container::find_unreadable(&engine.dirs, chosen.label())?;
            remove::remove_unreadable(engine, &container)?;
            return output::print_line(chosen.label());
        }
        result => result?,
    };
    if args.depend {
        for user in users::of(engine, &container)? {
            end(engine, args, &user, None)?;
            output::print_line(&user.config.id)?;
        }
    }
    end(engine, args, &container, stopping)?;
    output::print_line(chosen.label())
}

fn end(
    engine: &Engine,
    args: &Args,
    container: &Container,
    stopping: Option<Stopping>,
) -> anyhow::Result<()> {
    if gives_time(args) {
        match stopping {
            Some(stopping) => stopping.wait(engine, container)?,
            None => stop::stop(engine, container, stop::Options::within(args.time))?,
        }
        if container.is_gone(&engine.dirs) {
            // With --rm its own supervisor has removed it.
            return Ok(());
        }
    }
    remove::remove(engine, container, args.force, args.volumes)
}
