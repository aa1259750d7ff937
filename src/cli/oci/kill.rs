//! `rbox oci kill`.

use crate::bundle::end;
use crate::cli::oci::Context;
use crate::text::signal;

/// Send a signal to the process of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Send it to all processes of the container
    #[arg(short, long)]
    all: bool,

    /// The container
    #[arg(value_name = "ID")]
    id: String,

    /// Its name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = signal::parse)]
    signal: i32,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    end::kill(&container, args.signal, args.all)?;
    Ok(0)
}
