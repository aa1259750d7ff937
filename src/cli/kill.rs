//! `rbox kill`.

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::stop;
use crate::text::signal;

/// Send a signal to running containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_parser = signal::parse)]
    signal: i32,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.containers, |name| {
        let container = Container::find(&engine.dirs, name)?;
        stop::kill(&container, args.signal)?;
        output::print_line(name)
    })
}
