//! The process beside a command that may outlive who started it: one in the background, or at a terminal
//! that a person may leave.
//!
//! ```text
//! client                    keeper (its child)               command (a child of the keeper)
//! fork ------------------>  joins the container ---------->  runs
//!     <-- failed ---------  ends
//!     <-- started ........  with a pidfd of the command
//!     <-- started ........  with the terminal, if it has one
//! serves the terminal       waits for the command
//!     <-- exit -----------  records the end, and ends
//! ```
//!
//! The keeper holds the terminal too, which would hang up otherwise. When the client is gone, however that
//! came, the keeper takes what the command writes, and throws it away.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use anyhow::anyhow;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::container::execs;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::exec;
use crate::engine::exec::Request;
use crate::error::Told;
use crate::runtime::Stdio;
use crate::runtime::exec::Joined;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::process::Side;
use crate::sys::signal;
use crate::sys::socket;

/// A command that has a keeper.
pub struct Kept {
    keeper: OwnedFd,
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
}

impl Kept {
    /// To be read when the command has ended.
    pub fn keeper(&self) -> &OwnedFd {
        &self.keeper
    }

    /// How the command ended.
    pub fn exit(&self) -> anyhow::Result<Exit> {
        match hear(&self.keeper)? {
            (Some(Reply::Exit(exit)), _) => Ok(exit),
            _ => Err(anyhow!(
                "the process that waited for the command was killed"
            )),
        }
    }
}

/// Executes a command that goes on without us. Without a terminal it has no streams.
///
/// Must: be called by a single-threaded process.
pub fn keep(engine: &Engine, container: &Container, request: &Request) -> anyhow::Result<Kept> {
    let (ours, theirs) = socket::pair()?;
    if let Side::Child = process::fork()? {
        drop(ours);
        // Of what fails before the command runs the client hears; of the rest nobody is there to hear.
        let status = i32::from(run(engine, container, request, theirs).is_err());
        process::exit_now(status);
    }
    drop(theirs);
    let started = || match hear(&ours)? {
        (Some(Reply::Started), Some(fd)) => Ok(fd),
        (Some(Reply::Failed(told)), _) => Err(told.into_error()),
        _ => Err(anyhow!("the process that starts the command died")),
    };
    let pidfd = started()?;
    let terminal = request.terminal.then(started).transpose()?;
    Ok(Kept {
        keeper: ours,
        pidfd,
        terminal,
    })
}

fn hear(socket: &OwnedFd) -> anyhow::Result<(Option<Reply<'static>>, Option<OwnedFd>)> {
    let mut buffer = vec![0; PACKET];
    let packet = socket::receive(socket.as_fd(), &mut buffer)?;
    let reply = match Reply::decode(&buffer[..packet.length]) {
        Some(Reply::Started) => Some(Reply::Started),
        Some(Reply::Failed(told)) => Some(Reply::Failed(told)),
        Some(Reply::Exit(exit)) => Some(Reply::Exit(exit)),
        _ => None,
    };
    Ok((reply, packet.fd))
}

fn run(
    engine: &Engine,
    container: &Container,
    request: &Request,
    client: OwnedFd,
) -> anyhow::Result<()> {
    rustix::process::setsid().context("cannot start a session")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/null")?;
    let joined = Stdio::of_terminal(&null)
        .and_then(|stdio| {
            let stdio = (!request.terminal).then_some(stdio);
            exec::exec(engine, container, request, stdio)
        })
        .inspect_err(|err| {
            let failed = Reply::Failed(Told::of(err)).encode();
            socket::send(client.as_fd(), &failed, None).ok();
        })?;
    drop(null);
    let entry = execs::enter(container, &request.id);
    let handed = [Some(&joined.command.pidfd), joined.terminal.as_ref()];
    for fd in handed.into_iter().flatten() {
        // A client that is gone already has nothing to hear.
        socket::send(client.as_fd(), &Reply::Started.encode(), Some(fd.as_fd())).ok();
    }
    let mut kept = vec![client.as_fd()];
    kept.extend(handed.into_iter().flatten().map(AsFd::as_fd));
    kept.extend(entry.fd());
    process::leave_all_but(&kept)?;
    signal::reset_all();
    process::set_title(&format!("rbox: exec in {}", container.name));
    process::trim_memory();
    let exit = wait(&joined, &client)?;
    exec::ended(engine, container, request, exit.status);
    drop(entry);
    socket::send(client.as_fd(), &Reply::Exit(exit).encode(), None).ok();
    Ok(())
}

/// Waits for the end of the command; while nobody else does, it takes what the terminal gives.
fn wait(joined: &Joined, client: &OwnedFd) -> anyhow::Result<Exit> {
    let pidfd = joined.command.pidfd.as_fd();
    let mut client = Some(client.as_fd());
    let terminal = joined.terminal.as_ref();
    let mut buffer = [0; 4096];
    loop {
        let output = terminal.filter(|_| client.is_none()).map(AsFd::as_fd);
        let [ended, gone, output] = poll::readable([Some(pidfd), client, output], None)?;
        if ended {
            return Ok(process::wait(pidfd)?);
        }
        // A client says nothing: it is gone.
        if gone {
            client = None;
        }
        if output && let Some(master) = terminal {
            match rustix::io::read(master, &mut buffer) {
                Ok(1..) | Err(Errno::INTR) => {}
                // Linux: EIO while no process has the slave open (pty(7)); one may open it again.
                _ => drop(poll::readable([Some(pidfd)], Some(PAUSE))?),
            }
        }
    }
}

/// Between looks at a terminal that no process has open.
const PAUSE: Duration = Duration::from_millis(100);
