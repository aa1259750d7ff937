//! `rbox oci kill`.

use crate::bundle::end;
use crate::cli::oci::Context;
use crate::cli::output;
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

    /// All whose names fit this regular expression
    #[arg(short, long)]
    regex: bool,

    /// Its name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = signal_or_probe)]
    signal: i32,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    if !args.regex {
        end::kill(&context.find(&args.id)?, args.signal, args.all)?;
        return Ok(0);
    }
    let fitting = context.fitting(&args.id)?;
    output::each(&fitting, |one| end::kill(one, args.signal, args.all))
}

/// 0 only asks whether it could be sent (kill(2)).
fn signal_or_probe(text: &str) -> Result<i32, String> {
    if text == "0" {
        return Ok(0);
    }
    let expected = |_| "expected a name as TERM, or a number from 0 to 64".to_owned();
    signal::parse(text).map_err(expected)
}
