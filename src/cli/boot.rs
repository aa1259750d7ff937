//! `rbox boot …`.

use serde_json::json;

use crate::cli::format;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::boot;
use crate::engine::boot::Enabled;

/// Bring containers with a restart policy back after a reboot
#[derive(Debug, clap::Args)]
#[command(
    after_help = "After a reboot come back: with the policy always, all that were ever started; with
unless-stopped and on-failure, those that ran when the machine went down.

Examples:
  rbox boot enable
  rbox boot status"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Disable(Disable),
    Enable(Enable),
    Run(Run),
    Status(Status),
}

/// Have them stay down after the next reboot
#[derive(Debug, clap::Args)]
struct Disable {}

/// Have systemd start them, where it runs; else print the line that does it
#[derive(Debug, clap::Args)]
struct Enable {}

/// Start them now, as a boot does
#[derive(Debug, clap::Args)]
struct Run {}

/// Show whether they come back, and which
#[derive(Debug, clap::Args)]
#[command(after_long_help = "The exit status is 0 when they come back, and 1 when they do not.")]
struct Status {
    /// Print as json or by a Go template
    #[arg(short, long, value_name = "json|TEMPLATE")]
    format: Option<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Disable(Disable {}) => disable(),
        Verb::Enable(Enable {}) => enable(engine),
        Verb::Run(Run {}) => start(engine),
        Verb::Status(args) => status(engine, &args),
    }
}

fn enable(engine: &Engine) -> anyhow::Result<u8> {
    match boot::enable(&engine.dirs)? {
        Enabled::Unit(path, lingers) => {
            if let Some(user) = lingers {
                output::print_note(&format!("user {user} lingers from now on"));
            }
            output::print_line(&path.display().to_string())?;
        }
        Enabled::Line(line, place) => {
            output::print_line(&line)?;
            output::print_hint(&format!("no systemd runs here: {place}"));
        }
    }
    Ok(0)
}

fn disable() -> anyhow::Result<u8> {
    match boot::disable()? {
        Some(path) => output::print_line(&path.display().to_string())?,
        None => output::print_note("it was not enabled"),
    }
    Ok(0)
}

/// Each is started, whatever becomes of the others.
fn start(engine: &Engine) -> anyhow::Result<u8> {
    let containers = containers(engine)?;
    output::each(&containers, |container| {
        if boot::start(engine, container)? {
            output::print_line(&container.name)?;
        }
        Ok(())
    })
}

fn containers(engine: &Engine) -> anyhow::Result<Vec<Container>> {
    let mut damaged = Vec::new();
    let containers = boot::containers(engine, |err| damaged.push(err))?;
    output::print_damaged(&damaged);
    Ok(containers)
}

fn status(engine: &Engine, args: &Status) -> anyhow::Result<u8> {
    let survival = boot::survival();
    let containers = containers(engine)?;
    let names: Vec<&str> = containers.iter().map(|one| one.name.as_str()).collect();
    if let Some(format) = &args.format {
        let mut value = serde_json::to_value(&survival)?;
        value["containers"] = json!(names);
        output::print(&format::one(&value, format)?)?;
        return Ok(u8::from(!survival.in_force));
    }
    match (&survival.unit, &survival.missing) {
        (Some(unit), _) => output::print_line(&format!("in force, by {}", unit.display()))?,
        (None, missing) => {
            let why = missing.as_deref().unwrap_or_default();
            output::print_line(&format!("not in force: {why}"))?;
        }
    }
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    };
    output::print_line(&format!("containers that a boot starts: {names}"))?;
    if let Some(fix) = &survival.fix {
        output::print_hint(&format!("`{fix}`"));
    }
    Ok(u8::from(!survival.in_force))
}
