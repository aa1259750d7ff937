//! `rbox oci delete`.

use crate::bundle::end;
use crate::cli::oci::Context;
use crate::error;
use crate::error::Kind;

/// Remove all that is left of a stopped container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kill the container if it runs, and take it for success if there is none
    #[arg(short, long)]
    force: bool,

    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if args.force {
        context.root.sweep()?;
    }
    let deleted = context
        .find(&args.id)
        .and_then(|container| end::delete(&container, args.force, &mut |err| context.warn(&err)));
    match deleted {
        Err(err) if args.force && error::kind(&err) == Some(Kind::NotFound) => Ok(0),
        deleted => deleted.map(|()| 0),
    }
}
