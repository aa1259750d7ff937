//! `rbox oci start`.

use crate::bundle::start;
use crate::cli::oci::Context;

/// Start the process of a created container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    start::start(&context.find(&args.id)?)?;
    Ok(0)
}
