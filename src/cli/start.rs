//! `rbox start`.

use crate::cli::output;
use crate::cli::run;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::start;
use crate::engine::start::Options;

/// Start containers that exist
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay with the container: its output, signals, exit status
    #[arg(short, long)]
    attach: bool,

    /// Pass standard input to the container
    #[arg(short, long)]
    interactive: bool,

    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            return Err(crate::error::fail(
                crate::error::Kind::Usage,
                "only one container can be attached to",
            ));
        };
        let container = Container::find(&engine.dirs, name)?;
        return run::foreground(engine, &container, args.interactive, &[]);
    }
    output::each(&args.containers, |name| {
        let container = Container::find(&engine.dirs, name)?;
        let running = container.status()?.is_running();
        if !running {
            let options = Options {
                foreground: false,
                size: None,
                preserved: &[],
            };
            start::start(engine, &container, options)?;
        }
        output::print_line(name)
    })
}
