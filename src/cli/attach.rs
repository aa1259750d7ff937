//! `rbox attach`.

use anyhow::Context;

use crate::cli::choose;
use crate::cli::flags::DetachFlags;
use crate::cli::flags::ProxyFlags;
use crate::cli::run;
use crate::cli::session;
use crate::cli::session::Wishes;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::connect;
use crate::engine::connect::Connection;
use crate::engine::pause;
use crate::error::Kind;
use crate::error::fail;
use crate::supervisor::protocol::Request;
use crate::text::keys::Keys;

/// Stay with a running container: its output, signals, exit status
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Leave a container with a terminal by ctrl-p ctrl-q; it goes on without you. Signals go on to a
container without a terminal; one with a terminal gets keys alone, and signals with --sig-proxy."
)]
pub struct Args {
    /// Do not pass standard input to the container
    #[arg(long)]
    no_stdin: bool,

    #[command(flatten)]
    keys: DetachFlags,

    #[command(flatten)]
    proxy: ProxyFlags,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,

    /// Name or id
    #[arg(required_unless_present = "latest", value_name = "CONTAINER")]
    container: Option<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let container = match &args.container {
        Some(name) => Container::find(&engine.dirs, name)?,
        None => choose::latest(engine)?,
    };
    attach(&container, !args.no_stdin, args.keys.keys()?, args.proxy)
}

/// Stays with a container that runs.
pub fn attach(
    container: &Container,
    stdin: bool,
    keys: Keys,
    proxy: ProxyFlags,
) -> anyhow::Result<u8> {
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
        return Err(pause::paused(container))
            .with_context(|| format!("cannot attach to container \"{}\"", container.name));
    }
    if container.status()?.is_restarting() {
        return Err(connect::restarting(container)).context("cannot attach");
    }
    let process = &container.config.process;
    let proxy = proxy.or(!process.terminal);
    let signals = session::catch_signals(proxy)?;
    let connection = Connection::open_running(container)?;
    connection.send(&Request::Attach)?;
    if let (true, Some((rows, columns))) = (process.terminal, session::size()) {
        // Programs draw again what was on the screen when its size changes.
        let (rows, columns) = (rows.saturating_add(1), columns.saturating_add(1));
        connection.send(&Request::Resize { rows, columns })?;
    }
    let wishes = Wishes::all(stdin && process.interactive, proxy, keys);
    run::attached(container, &connection, &signals, wishes)
}
