//! `rbox rmi`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;
use crate::error;
use crate::error::Kind;

/// Remove images: their names, and with the last name the image
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all names, and the containers of the image; pass over what does not exist
    #[arg(short, long)]
    force: bool,

    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.images, |name| {
        let removed = match images::remove(engine, name, args.force) {
            Err(err) if args.force && error::kind(&err) == Some(Kind::NotFound) => return Ok(()),
            result => result?,
        };
        for name in &removed.untagged {
            output::print_line(&format!("Untagged: {name}"))?;
        }
        if let Some(id) = &removed.deleted {
            output::print_line(&format!("Deleted: {}", id.hex()))?;
        }
        Ok(())
    })
}
