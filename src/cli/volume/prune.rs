//! `rbox volume prune`.

use std::io::BufRead;

use crate::cli::output;
use crate::cli::volume::filter::Filters;
use crate::engine::Engine;
use crate::engine::volumes;
use crate::volume::Volume;

/// Remove the anonymous volumes that no container uses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those with a name too
    #[arg(short, long)]
    all: bool,

    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Only those that fit: label=, label!=, until=, anonymous=, all=true
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let filters = Filters::parse(engine, &args.filter)?;
    let all = args.all || filters.wants_all();
    let wanted = |volume: &Volume| {
        (all || volume.anonymous || filters.says_anonymous()) && filters.fit(volume)
    };
    if !args.force && !args.dry_run {
        let found = volumes::prune(engine, wanted, true)?;
        if found.is_empty() {
            return Ok(0);
        }
        let kind = if all { "" } else { "anonymous " };
        output::print(&format!(
            "WARNING! This will remove all {kind}volumes not used by at least one container. The following volumes will be removed:\n{}\nAre you sure you want to continue? [y/N] ",
            found.join("\n")
        ))?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Ok(0);
        }
    }
    for name in volumes::prune(engine, wanted, args.dry_run)? {
        output::print_line(&name)?;
    }
    Ok(0)
}
