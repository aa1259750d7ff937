//! `rbox oci start`.

use crate::bundle::start;
use crate::cli::oci::Context;

/// Start the process of a created container
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    start::start(&container, &mut |err| context.warn(&err))?;
    Ok(0)
}
