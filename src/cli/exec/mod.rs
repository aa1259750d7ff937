//! `rbox exec`.

mod session;

use std::os::fd::OwnedFd;

use crate::cli::choose;
use crate::cli::flags;
use crate::cli::output;
use crate::cli::session::catch_signals;
use crate::container;
use crate::container::execs;
use crate::container::record::Container;
use crate::engine;
use crate::engine::Engine;
use crate::engine::exec::Request;
use crate::engine::exec::keeper;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

pub use session::Session;
pub use session::Streams;

/// Run a command in a running container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox exec web cat /etc/hostname
  rbox exec -it web sh")]
pub struct Args {
    /// Take the container whose id stands in this file
    #[arg(long, value_name = "FILE", conflicts_with = "latest")]
    cidfile: Option<String>,

    /// Leave the command in the background, without streams, and print its id
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    keys: flags::DetachFlags,

    #[command(flatten)]
    environment: flags::OwnVariables,

    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,

    /// Take the container that was created last
    #[arg(short, long)]
    latest: bool,

    /// Accepted for podman, and always so: rbox records no sessions
    #[arg(long, hide = true)]
    no_session: bool,

    #[command(flatten)]
    preserve: flags::PreserveFlags,

    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Run as this user: name or uid, and :group
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = flags::checked_user)]
    user: Option<String>,

    /// Set the working directory
    #[arg(short, long, value_name = "DIR", value_parser = flags::workdir)]
    workdir: Option<String>,

    /// The container, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true,
        value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let preserved = args.preserve.open()?;
    let mut words = args.container_and_command.into_iter();
    flags::refuse_flag(words.as_slice(), "exec")?;
    let container = match args.cidfile {
        None if args.latest => choose::latest(engine)?,
        None => Container::find(&engine.dirs, &words.next().unwrap_or_default())?,
        Some(path) => {
            let id = std::fs::read_to_string(&path)
                .map_err(|err| fail(Kind::Usage, format!("--cidfile=\"{path}\": {err}")))?;
            Container::find(&engine.dirs, id.trim())?
        }
    };
    if words.as_slice().is_empty() {
        return Err(fail(Kind::Usage, "missing COMMAND")
            .hint("`rbox exec CONTAINER COMMAND` runs a command in a container"));
    }
    let keys = args.keys.keys()?;
    let request = Request {
        id: container::name::random_id()?,
        command: words.collect(),
        env: args.environment.read()?,
        workdir: flags::given(args.workdir),
        user: args.user,
        privileged: args.privileged,
        preserved,
        terminal: args.tty,
        size: crate::cli::session::size(),
    };
    if args.detach {
        keeper::keep(engine, &container, &request)?;
        output::print_line(&request.id)?;
        return Ok(0);
    }
    let signals = catch_signals(true)?;
    let status = if args.tty {
        let kept = keeper::keep(engine, &container, &request)?;
        let session = Session::of_kept(kept, args.interactive, keys)?;
        session.run(&signals)?
    } else {
        joined(engine, &container, &request, args.interactive, &signals)?
    };
    Ok(u8::try_from(status).unwrap_or(255))
}

/// A command that has our own streams. It is our child: what it writes when we are gone it writes to a pipe
/// that nobody reads, as any program in a pipeline does.
fn joined(
    engine: &Engine,
    container: &Container,
    request: &Request,
    interactive: bool,
    signals: &OwnedFd,
) -> anyhow::Result<i32> {
    let (streams, theirs) = Streams::new(interactive, false)?;
    let joined = engine::exec::exec(engine, container, request, theirs)?;
    let _entry = execs::enter(container, &request.id);
    let status = Session::new(joined, streams, interactive)?.run(signals)?;
    engine::exec::ended(engine, container, request, status);
    Ok(status)
}
