//! `rbox oci delete`.

use crate::bundle::end;
use crate::bundle::state::Container;
use crate::cli::oci::Context;
use crate::cli::output;
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

    /// All whose names fit this regular expression
    #[arg(short, long)]
    regex: bool,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if args.force {
        context.root.sweep()?;
    }
    let delete =
        |container: &Container| end::delete(container, args.force, &mut |err| context.warn(&err));
    if args.regex {
        let fitting = context.fitting(&args.id)?;
        return output::each(&fitting, delete);
    }
    let deleted = context
        .find(&args.id)
        .and_then(|container| delete(&container));
    match deleted {
        Err(err) if args.force && error::kind(&err) == Some(Kind::NotFound) => Ok(0),
        deleted => deleted.map(|()| 0),
    }
}
