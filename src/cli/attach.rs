//! `rbox attach`.

use anyhow::Context;

use crate::cli::run;
use crate::cli::session;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::pause;
use crate::error::Kind;
use crate::error::fail;
use crate::supervisor::protocol::Request;

/// Stay with a running container: its output, signals, exit status
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Leave a container with a terminal by ctrl-p ctrl-q; it goes on without you."
)]
pub struct Args {
    /// Do not pass standard input to the container
    #[arg(long)]
    no_stdin: bool,

    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let container = Container::find(&engine.dirs, &args.container)?;
    let driver = container.config.log.driver;
    if driver.passes_through() {
        let text = format!(
            "cannot attach to container \"{}\": with --log-driver {} its streams are those of the command that started it",
            container.name,
            driver.name()
        );
        return Err(fail(Kind::Unsupported, text));
    }
    if container.status()?.is_paused() {
        return Err(pause::paused(&container))
            .with_context(|| format!("cannot attach to container \"{}\"", container.name));
    }
    let signals = session::catch_signals()?;
    let connection = Connection::open_running(&container)?;
    connection.send(&Request::Attach)?;
    let stdin = container.config.process.interactive && !args.no_stdin;
    run::attached(&container, &connection, &signals, stdin)
}
