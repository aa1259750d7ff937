//! `rbox oci pause`.

use crate::bundle::end;
use crate::cli::oci::Context;

/// Freeze all processes of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    end::pause(&context.find(&args.id)?)?;
    Ok(0)
}
