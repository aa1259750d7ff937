//! `rbox run`.

use std::os::fd::OwnedFd;

use anyhow::Context;

use crate::cli::create;
use crate::cli::flags;
use crate::cli::flags::Attached;
use crate::cli::flags::ContainerFlags;
use crate::cli::flags::DetachFlags;
use crate::cli::flags::PreserveFlags;
use crate::cli::flags::ProxyFlags;
use crate::cli::output;
use crate::cli::session;
use crate::cli::session::End;
use crate::cli::session::Wishes;
use crate::container::log::Stream;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::activation::Activation;
use crate::engine::connect::Connection;
use crate::engine::images;
use crate::engine::images::Removal;
use crate::engine::start;
use crate::engine::start::Options;
use crate::error;
use crate::error::Kind;
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

    /// Stay with these streams alone: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = flags::attached, value_delimiter = ',',
        conflicts_with = "detach")]
    attach: Vec<Attached>,

    /// Remove the container when its command ends, and its image if no other container uses it
    #[arg(long, conflicts_with = "detach")]
    rmi: bool,

    #[command(flatten)]
    keys: DetachFlags,

    #[command(flatten)]
    proxy: ProxyFlags,

    #[command(flatten)]
    preserve: PreserveFlags,

    #[command(flatten)]
    container: ContainerFlags,
}

pub fn run(engine: &Engine, mut args: Args) -> anyhow::Result<u8> {
    if args.rmi {
        args.container.remove_at_end();
    }
    let detach = args.detach;
    let activation = Activation::of_caller();
    let preserved = activation.preserve(args.preserve.open()?)?;
    let keys = args.keys.keys()?;
    let container = create::create(engine, args.container)?;
    if detach {
        let options = Options {
            foreground: false,
            size: None,
            preserved: &preserved,
            activation: &activation,
        };
        start::start(engine, &container, options)?;
        output::print_line(&container.config.id)?;
        return Ok(0);
    }
    let interactive = container.config.process.interactive;
    let mut wishes = Wishes::all(interactive, args.proxy.or(true), keys);
    if !args.attach.is_empty() {
        wishes.stdin &= args.attach.contains(&Attached::Stdin);
        wishes.stdout = args.attach.contains(&Attached::Of(Stream::Stdout));
        wishes.stderr = args.attach.contains(&Attached::Of(Stream::Stderr));
    }
    if !wishes.stdout && !wishes.stderr {
        // As docker: who hears nothing of it has at least its id.
        output::print_line(&container.config.id)?;
    }
    let status = foreground(engine, &container, wishes, &preserved, &activation)?;
    if args.rmi {
        remove_image(engine, &container.config.image);
    }
    Ok(status)
}

/// One that others use, or that has gone meanwhile, is left as it is.
fn remove_image(engine: &Engine, name: &str) {
    let removed = images::remove(engine, &[name.to_owned()], Removal::default());
    if let Err(err) = removed.into_result()
        && !matches!(error::kind(&err), Some(Kind::Conflict | Kind::NotFound))
    {
        output::print_warning(&error::message(&err));
    }
}

/// Starts a container and stays with it; the exit status is the container's.
pub fn foreground(
    engine: &Engine,
    container: &Container,
    mut wishes: Wishes,
    preserved: &[Preserved],
    activation: &Activation,
) -> anyhow::Result<u8> {
    let signals = session::catch_signals(wishes.proxy_signals)?;
    let options = Options {
        foreground: true,
        size: session::size(),
        preserved,
        activation,
    };
    let connection = start::start(engine, container, options)?
        .context("a foreground start gives a connection")?;
    // With the driver passthrough our input is the container's own.
    wishes.stdin &= !container.config.log.driver.passes_through();
    attached(container, &connection, &signals, wishes)
}

/// Stays with a running container until it ends.
pub fn attached(
    container: &Container,
    connection: &Connection,
    signals: &OwnedFd,
    wishes: Wishes,
) -> anyhow::Result<u8> {
    let terminal = container.config.process.terminal;
    let status = match session::serve(connection, signals, terminal, wishes)? {
        End::Exited(exit) => exit.status,
        End::Detached => 0,
        End::Signalled(number) => 128 + number,
        End::LeftBehind => anyhow::bail!(
            "container \"{}\" goes on without this command, which did not take its output for {} s",
            container.name,
            crate::supervisor::client::PATIENCE.as_secs()
        ),
        End::Lost => match container.status()? {
            Status::Exited(exit) => exit.status,
            _ => anyhow::bail!("lost the supervisor of container \"{}\"", container.name),
        },
    };
    Ok(u8::try_from(status).unwrap_or(255))
}
