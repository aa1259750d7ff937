//! The process beside one container: it makes the container, holds its streams, log and control
//! socket, waits for its end, records it, and starts it again where that is asked for.
//!
//! # Theory of operation
//!
//! A fork of the command that starts the container, detached from its session; one thread, one
//! poll loop. It holds the run lock from before the fork until the end is recorded, so that
//! "is it running" is a test of that lock. If it is killed, the kernel releases the lock and, by the
//! parent-death signal, kills the container; the records then say what was last known.
//!
//! Socket, log, clients, counters and the sockets of published ports live as long as the supervisor;
//! all else belongs to one run of the container, and a run after a rest is prepared anew (`restart`).
//!
//! At the end, in this order: what the streams still hold is read; `exit.json` is written, or with
//! `--rm` the name is freed, which is when the container is gone; the lock is released, or with `--rm`
//! kept to the end; clients hear the exit status; files of a removed container are deleted. A client
//! that has heard the status finds records that agree with it.
//!
//! The way to the world, where the container has one, is served by a fork of this process that can do nothing else
//! (relay.rs, confine.rs). Should that die, another takes its place.
//!
//! Clients that read slowly make the container wait, within limits (client.rs).

mod checker;
mod checks;
pub mod client;
mod confine;
mod descendants;
mod door;
pub mod emulation;
pub mod end;
pub mod group;
mod make;
mod poll;
pub mod protocol;
mod relay;
mod remains;
mod restart;
pub mod sdnotify;
mod serve;
mod streams;

use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Instant;

use jiff::Timestamp;

use crate::config::hooks::Stage;
use crate::container::events;
use crate::container::log;
use crate::container::log::Stream;
use crate::container::record::Container;
use crate::container::status;
use crate::container::status::RunLock;
use crate::error::Told;
use crate::network::place::Way;
use crate::network::stack::Given;
use crate::runtime::Bundle;
use crate::runtime::Hooked;
use crate::runtime::Running;
use crate::runtime::Stdio;
use crate::runtime::notify::Handler;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::supervisor::checker::Execute;
use crate::supervisor::checks::Checks;
use crate::supervisor::client::Client;
use crate::supervisor::client::Hears;
use crate::supervisor::end::record_end;
use crate::supervisor::end::record_of;
use crate::supervisor::group::Plan;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::Reply;
use crate::supervisor::relay::Relay;
use crate::supervisor::remains::Remains;
use crate::supervisor::restart::Kept;
use crate::supervisor::restart::Next;
use crate::supervisor::restart::Restarts;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Streams;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::process::Fork;

/// What a supervisor is given.
pub struct Order<'a> {
    pub dirs: &'a Dirs,
    pub container: &'a Container,
    pub first: Ready<'a>,
    pub again: &'a mut Again<'a>,
    /// For its health checks.
    pub execute: &'a Execute<'a>,
    pub lock: RunLock,
    /// To the command that starts the container.
    pub starter: OwnedFd,
    /// Whether that command stays to hear the streams.
    pub foreground: bool,
}

/// A run that can be made.
pub struct Ready<'a> {
    pub bundle: Bundle<'a>,
    pub served: Served<'a>,
}

/// What a container gets from its supervisor while it runs.
pub struct Served<'a> {
    /// To the world, by the stack in user mode.
    pub way: Option<Way>,
    /// Answers the calls that the filters leave to us.
    pub handler: Option<Box<dyn Handler>>,
    pub group: &'a Plan,
    pub sdnotify: Option<sdnotify::Order>,
    /// Kept open while the container runs: locks on contents that it reads, and the hub of its networks.
    pub held: Vec<BorrowedFd<'a>>,
    /// Sockets of published ports that listen already.
    pub given: Vec<Given>,
}

/// Prepares another run of the container, as its record is now, for who makes it.
pub type Again<'a> = dyn FnMut(&Container, &mut dyn FnMut(Ready<'_>) -> anyhow::Result<Ran>) -> anyhow::Result<Ran>
    + 'a;

/// What became of a run.
pub enum Ran {
    Until(status::Exit),
    /// It could not be made.
    Never(anyhow::Error),
}

/// Runs in a forked process; never returns.
pub fn main(order: Order<'_>) -> ! {
    let sdnotify = order.first.served.sdnotify.as_ref();
    if sdnotify.is_some_and(|order| order.main) {
        // systemd: a main process that is not its child is killed by a stop, not waited for. Without us the
        // child is that of the nearest reaper, which is systemd.
        match process::plain_fork() {
            Ok(Fork::Child) => {}
            Ok(Fork::Parent(_)) => process::exit_now(0),
            Err(_) => process::exit_now(1),
        }
    }
    // What a person must hear of an error has been sent to the starter or is in a record.
    process::exit_now(supervise(order).unwrap_or(1))
}

/// The exit status of this process.
fn supervise(order: Order<'_>) -> anyhow::Result<i32> {
    let Order {
        dirs,
        container,
        mut first,
        again,
        execute,
        lock,
        starter,
        foreground,
    } = order;
    let mut starter = Client::new(starter, Hears::Nothing, foreground);
    let mut supervisor = match make::detached(dirs, container, &lock, &starter, &mut first, execute)
    {
        Ok(supervisor) => supervisor,
        Err(err) => return Ok(not_started(dirs, container, &lock, &mut starter, &err)),
    };
    let mut exit = match supervisor.run_once(first, Some(starter))? {
        Ran::Until(exit) => exit,
        Ran::Never(err) => {
            let mut starter = supervisor.clients.remove(0);
            return Ok(not_started(dirs, container, &lock, &mut starter, &err));
        }
    };
    while supervisor.rest(&exit)? {
        exit = supervisor.run_again(again)?;
    }
    supervisor.finish(&lock, exit)
}

/// Nothing has run.
fn not_started(
    dirs: &Dirs,
    container: &Container,
    lock: &RunLock,
    starter: &mut Client,
    err: &anyhow::Error,
) -> i32 {
    let exit = record_of(Timestamp::now(), &failed_exit(err), Some(err));
    record_end(dirs, container, &exit, false).ok();
    lock.release().ok();
    starter.tell(&Reply::Failed(Told::of(err)));
    starter.flush();
    0
}

fn failed_exit(err: &anyhow::Error) -> Exit {
    Exit {
        status: crate::error::status(err).into(),
        signal: None,
    }
}

struct Supervisor<'a> {
    dirs: &'a Dirs,
    /// As its record was at the last look.
    container: Container,
    log: log::Writer,
    listener: OwnedFd,
    signals: OwnedFd,
    clients: Vec<Client>,
    /// For want of descriptors no clients are taken until then.
    rests: Option<Instant>,
    /// With the driver passthrough: what every run gets as its own.
    passed: Option<Stdio>,
    /// While the container runs.
    run: Option<Run>,
    next: Next,
    restarts: Restarts,
    kept: Kept,
    sdnotify: Option<Notifier>,
    execute: &'a Execute<'a>,
    /// Of the run.
    checks: Option<Box<Checks>>,
    /// It has given back what it can, and done nothing since.
    small: bool,
}

/// What belongs to one run of the container.
struct Run {
    started: Timestamp,
    running: Running,
    streams: Streams,
    /// When the container is killed.
    deadline: Option<Instant>,
    /// Of a container without a process namespace of its own.
    remains: Option<Remains>,
    handler: Option<Box<dyn Handler>>,
    /// Of init's filter, and of those of commands that joined.
    calls: Vec<OwnedFd>,
    relay: Option<Relay>,
    group: Option<Watched>,
}

impl Supervisor<'_> {
    /// Makes the container and serves it to its end; `starter` waits for the first run to begin.
    fn run_once(&mut self, ready: Ready<'_>, starter: Option<Client>) -> anyhow::Result<Ran> {
        let hooked = ready.bundle.hooked();
        let started = self.container.next_start();
        let made = self.make(started, &ready.bundle, ready.served);
        if let Err(err) = made {
            self.clients.splice(0..0, starter);
            return Ok(Ran::Never(err));
        }
        self.run_hooks(hooked, Stage::Poststart);
        let happened = ["init", "start"].map(|action| events::of(&self.container, action));
        journal::add_all(self.dirs, &happened);
        if let Some(starter) = starter {
            if let Some(notifier) = &self.sdnotify {
                notifier.started();
            }
            self.tell_started(starter);
        }
        process::trim_memory();
        let exit = self.serve_run()?;
        self.run_hooks(hooked, Stage::Poststop);
        Ok(Ran::Until(self.end_run(&exit)))
    }

    fn tell_started(&mut self, mut starter: Client) {
        if starter.foreground {
            starter.hears = Hears::Streams;
        }
        starter.tell(&Reply::Started);
        starter.flush();
        if starter.foreground {
            self.clients.push(starter);
        }
    }

    /// Runs hooks that change nothing any more; of a failure the container's log tells.
    fn run_hooks(&mut self, hooked: Hooked<'_>, stage: Stage) {
        let init = self.run.as_ref().map(|run| run.running.init.pid);
        let pid = init.filter(|_| stage != Stage::Poststop);
        for err in hooked.run_all(stage, pid) {
            self.log_error(&err);
        }
    }

    fn log_error(&mut self, err: &anyhow::Error) {
        let line = format!("rbox: {}\n", crate::error::message(err));
        self.log.write(Stream::Stderr, line.as_bytes());
    }
}
