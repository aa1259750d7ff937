//! `rbox system check`.

use std::time::Duration;

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::check;
use crate::engine::check::Wish;
use crate::error::WithHint;
use crate::text::duration;

/// Look for damage in the store
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every record is read, every manifest, config and layer is compared with its digest, and the files of each \
layer with the same layer unpacked anew. What nothing refers to is named, and is no damage: `rbox system prune` removes it.

Examples:
  rbox system check
  rbox system check --quick
  rbox system check --repair"
)]
pub struct Args {
    /// With --repair: remove containers too, where they depend on what is beyond repair
    #[arg(short, long)]
    force: bool,

    /// With --repair: remove what nothing refers to once it is as old as this
    #[arg(short, long, value_name = "DURATION", default_value = "24h", value_parser = age)]
    max: Duration,

    /// Do not read layers and blobs
    #[arg(short, long)]
    quick: bool,

    /// Unpack damaged layers anew from what is kept of them, and remove what is beyond repair
    #[arg(short, long)]
    repair: bool,
}

fn age(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|_| "expected a duration, as 90m or 24h".into())
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let wish = Wish {
        repair: args.repair,
        force: args.force,
        quick: args.quick,
        max: args.max,
    };
    let report = check::check(engine, wish)?;
    for damage in &report.damage {
        let done = match &damage.done {
            Some(done) => format!(" ({done})"),
            None => String::new(),
        };
        output::print_line(&format!("Damaged {}: {}{done}", damage.what, damage.why))?;
    }
    for layer in &report.unknown {
        output::print_line(&format!(
            "Unchecked layer {layer}: its bytes are not kept, `rbox pull` or `rbox load` keeps them"
        ))?;
    }
    for what in &report.unreferenced {
        let done = if report.collected { " (removed)" } else { "" };
        output::print_line(&format!("Unreferenced {what}{done}"))?;
    }
    if report.damage.iter().all(|damage| damage.done.is_some()) {
        return Ok(0);
    }
    let err = anyhow::anyhow!("the store is damaged");
    Err(if args.repair {
        err.hint("`rbox system check --repair --force` removes containers that depend on what is damaged")
    } else {
        err.hint("`rbox system check --repair` repairs what can be repaired, and removes the rest")
    })
}
