//! `rbox wait`.

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::connect;

/// Wait until containers have ended, and print their exit statuses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    output::each(&args.containers, |name| {
        let container = Container::find(&engine.dirs, name)?;
        let status = connect::wait(&container)?;
        output::print_line(&status.to_string())
    })
}
