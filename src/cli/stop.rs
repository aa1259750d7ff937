//! `rbox stop`.

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::stop;

/// Stop containers: the stop signal, and SIGKILL when the time is over
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds to wait before the kill [default: the container's, 10]
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.containers, |name| {
        let container = Container::find(&engine.dirs, name)?;
        stop::stop(&container, args.time)?;
        output::print_line(name)
    })
}
