//! The process beside one container: it makes the container, holds its streams, log and control
//! socket, waits for its end and records it.
//!
//! # Theory of operation
//!
//! A fork of the command that starts the container, detached from its session; one thread, one
//! poll loop. It holds the run lock from before the fork until the end is recorded, so that
//! "is it running" is a test of that lock. If it is killed, the kernel releases the lock and, by the
//! parent-death signal, kills the container; the records then say what was last known.
//!
//! At the end, in this order: what the streams still hold is read; `exit.json` is written, or with
//! `--rm` the name is freed, which is when the container is gone; the lock is released, or with `--rm`
//! kept to the end; clients hear the exit status; files of a removed container are deleted. A client
//! that has heard the status finds records that agree with it.
//!
//! Clients that read slowly make the container wait, within limits (client.rs).

mod checker;
mod checks;
pub mod client;
mod descendants;
pub mod emulation;
mod end;
pub mod group;
mod make;
mod poll;
pub mod protocol;
mod remains;
pub mod sdnotify;
mod serve;
mod streams;

use std::os::fd::OwnedFd;
use std::time::Instant;

use jiff::Timestamp;

use crate::config::addresses::Addresses;
use crate::config::hooks::Stage;
use crate::container::events;
use crate::container::log;
use crate::container::log::Stream;
use crate::container::record::Container;
use crate::container::record::RunLock;
use crate::error::Told;
use crate::network::Network;
use crate::runtime::Bundle;
use crate::runtime::Hooked;
use crate::runtime::Running;
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
use crate::supervisor::remains::Remains;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Streams;
use crate::sys::process;
use crate::sys::process::Exit;

/// What a supervisor is given.
pub struct Order<'a> {
    pub dirs: &'a Dirs,
    pub container: &'a Container,
    pub bundle: Bundle<'a>,
    pub lock: RunLock,
    pub served: Served<'a>,
    /// To the command that starts the container.
    pub starter: OwnedFd,
    /// Whether that command stays to hear the streams.
    pub foreground: bool,
}

/// What a container gets from its supervisor while it runs.
pub struct Served<'a> {
    /// Of a network in user mode.
    pub addresses: Option<Addresses>,
    /// Answers the calls that the filters leave to us.
    pub handler: Option<Box<dyn Handler>>,
    pub group: &'a Plan,
    pub sdnotify: Option<sdnotify::Order>,
    /// For its health checks.
    pub execute: &'a Execute<'a>,
}

/// Runs in a forked process; never returns.
pub fn main(order: Order<'_>) -> ! {
    let status = match supervise(order) {
        Ok(()) => 0,
        // Everything that a person must hear has been sent to the starter or is in a record.
        Err(_) => 1,
    };
    process::exit_now(status)
}

fn supervise(order: Order<'_>) -> anyhow::Result<()> {
    let mut starter = Client::new(order.starter, Hears::Nothing, order.foreground);
    let started = Timestamp::now();
    let hooked = order.bundle.hooked();
    let mut supervisor = match make::start(
        order.dirs,
        order.container,
        &order.bundle,
        &order.lock,
        &starter,
        started,
        order.served,
    ) {
        Ok(supervisor) => supervisor,
        Err(err) => {
            let exit = record_of(started, &failed_exit(&err), Some(&err));
            record_end(order.dirs, order.container, &exit, false).ok();
            order.lock.release().ok();
            starter.tell(&Reply::Failed(Told::of(&err)));
            starter.flush();
            return Ok(());
        }
    };
    if order.foreground {
        starter.hears = Hears::Streams;
    }
    supervisor.run_hooks(hooked, Stage::Poststart);
    let happened = ["init", "start"].map(|action| events::of(order.container, action));
    journal::add_all(order.dirs, &happened);
    if let Some(notifier) = &supervisor.sdnotify {
        notifier.started();
    }
    starter.tell(&Reply::Started);
    starter.flush();
    if order.foreground {
        supervisor.clients.push(starter);
    } else {
        drop(starter);
    }
    process::trim_memory();
    let exit = supervisor.run()?;
    supervisor.run_hooks(hooked, Stage::Poststop);
    supervisor.finish(&order.lock, exit)
}

fn failed_exit(err: &anyhow::Error) -> Exit {
    Exit {
        status: crate::error::status(err).into(),
        signal: None,
    }
}

struct Supervisor<'a> {
    dirs: &'a Dirs,
    container: &'a Container,
    started: Timestamp,
    running: Running,
    streams: Streams,
    log: log::Writer,
    listener: OwnedFd,
    signals: OwnedFd,
    clients: Vec<Client>,
    /// When the container is killed.
    deadline: Option<Instant>,
    /// Of a container without a process namespace of its own.
    remains: Option<Remains>,
    handler: Option<Box<dyn Handler>>,
    /// Of init's filter, and of those of commands that joined.
    calls: Vec<OwnedFd>,
    network: Option<Network>,
    group: Option<Watched>,
    sdnotify: Option<Notifier>,
    execute: &'a Execute<'a>,
    checks: Option<Box<Checks>>,
}

impl Supervisor<'_> {
    /// Runs hooks that change nothing any more; of a failure the container's log tells.
    fn run_hooks(&mut self, hooked: Hooked<'_>, stage: Stage) {
        let pid = (stage != Stage::Poststop).then_some(self.running.init.pid);
        for err in hooked.run_all(stage, pid) {
            let line = format!("rbox: {}\n", crate::error::message(&err));
            self.log.write(Stream::Stderr, line.as_bytes());
        }
    }
}
