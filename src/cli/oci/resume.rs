//! `rbox oci resume`.

use crate::bundle::end;
use crate::cli::oci::Context;

/// Let the processes of a paused container go on
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    end::resume(&context.find(&args.id)?)?;
    Ok(0)
}
