//! `rbox manifest rm`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;
use crate::engine::images::Removal;
use crate::error;
use crate::error::Kind;
use crate::image::lists;

/// Remove lists; their images stay
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox manifest rm app")]
pub struct Args {
    /// Pass over what does not exist
    #[arg(short, long)]
    ignore: bool,

    /// Lists
    #[arg(required = true, value_name = "LIST")]
    lists: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    output::each(&args.lists, |name| {
        let list = match lists::find(&engine.dirs, name) {
            Err(err) if args.ignore && error::kind(&err) == Some(Kind::NotFound) => return Ok(()),
            list => list?,
        };
        let name = list.reference.to_string();
        let outcome = images::remove(engine, &[name], Removal::default());
        for name in &outcome.untagged {
            output::print_line(&format!("Untagged: {name}"))?;
        }
        for id in &outcome.deleted {
            output::print_line(&format!("Deleted: {}", id.hex()))?;
        }
        outcome.into_result()
    })
}
