//! `rbox system reset`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::reset;

/// Remove everything: all containers, images and volumes, and the store itself
#[derive(Debug, clap::Args)]
#[command(after_help = "Containers that run are stopped first.

Examples:
  rbox system reset")]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let dirs = &engine.dirs;
    let warning = format!(
        "WARNING! This will remove:\n        - all containers\n        - all images\n        - all volumes\n        - the data directory: \"{}\"\n        - the run directory: \"{}\"\n",
        dirs.data.display(),
        dirs.run.display(),
    );
    if !args.force && !output::confirmed(&warning)? {
        return Ok(0);
    }
    reset::reset(engine)?;
    Ok(0)
}
