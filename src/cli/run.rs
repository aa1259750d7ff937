//! `rbox run`.

use anyhow::Context;

use crate::cli::create;
use crate::cli::flags::ContainerFlags;
use crate::cli::flags::PreserveFlags;
use crate::cli::output;
use crate::cli::session;
use crate::cli::session::End;
use crate::cli::session::Wishes;
use crate::container::record::Container;
use crate::container::record::Status;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::start;
use crate::engine::start::Options;
use crate::runtime::Preserved;

/// Run a command in a new container
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  rbox run --rm hello                       a container of the image that rbox brings along
  rbox run -it --rm debian bash             a shell
  rbox run -d --name web nginx              in the background
  rbox run --rm -v .:/src -w /src rust cargo test"
)]
pub struct Args {
    /// Leave the container in the background and print its id
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    preserve: PreserveFlags,

    #[command(flatten)]
    container: ContainerFlags,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let detach = args.detach;
    let preserved = args.preserve.open()?;
    let container = create::create(engine, args.container)?;
    if detach {
        let options = Options {
            foreground: false,
            size: None,
            preserved: &preserved,
        };
        start::start(engine, &container, options)?;
        output::print_line(&container.config.id)?;
        return Ok(0);
    }
    foreground(
        engine,
        &container,
        container.config.process.interactive,
        &preserved,
    )
}

/// Starts a container and stays with it; the exit status is the container's.
pub fn foreground(
    engine: &Engine,
    container: &Container,
    stdin: bool,
    preserved: &[Preserved],
) -> anyhow::Result<u8> {
    let signals = session::catch_signals()?;
    let options = Options {
        foreground: true,
        size: session::size(),
        preserved,
    };
    let connection = start::start(engine, container, options)?
        .context("a foreground start gives a connection")?;
    // With the driver passthrough our input is the container's own.
    let stdin = stdin && !container.config.log.driver.passes_through();
    attached(container, &connection, &signals, stdin)
}

/// Stays with a running container until it ends.
pub fn attached(
    container: &Container,
    connection: &Connection,
    signals: &std::os::fd::OwnedFd,
    stdin: bool,
) -> anyhow::Result<u8> {
    let wishes = Wishes {
        stdin,
        terminal: container.config.process.terminal,
        proxy_signals: true,
    };
    let status = match session::serve(connection, signals, wishes)? {
        End::Exited(exit) => exit.status,
        End::Detached => 0,
        End::Lost => match container.status()? {
            Status::Exited(exit) => exit.status,
            _ => anyhow::bail!("lost the supervisor of container \"{}\"", container.name),
        },
    };
    Ok(u8::try_from(status).unwrap_or(255))
}
