//! `rbox rm`.

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::remove;
use crate::error;
use crate::error::Kind;

/// Remove containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill those that run, and pass over those that do not exist
    #[arg(short, long)]
    force: bool,

    /// Remove their anonymous volumes too
    #[arg(short, long)]
    volumes: bool,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.containers, |name| {
        let container = match Container::find(&engine.dirs, name) {
            Err(_) if args.force && remove::remove_unreadable(engine, name)? => {
                return output::print_line(name);
            }
            Err(err) if args.force && error::kind(&err) == Some(Kind::NotFound) => return Ok(()),
            result => result?,
        };
        remove::remove(engine, &container, args.force, args.volumes)?;
        output::print_line(name)
    })
}
