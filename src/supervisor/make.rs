//! Making the container: away from the command that forked us, with streams, log, network and group.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::container::config;
use crate::container::config::Restart;
use crate::container::log;
use crate::container::record::Container;
use crate::container::status::NetworkState;
use crate::container::status::RunLock;
use crate::container::status::State;
use crate::error::Kind;
use crate::network::place;
use crate::network::place::Way;
use crate::network::stack::Listeners;
use crate::runtime;
use crate::runtime::Bundle;
use crate::runtime::Placement;
use crate::runtime::Rootfs;
use crate::runtime::Running;
use crate::runtime::Stdio;
use crate::runtime::notify::Handler;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::supervisor::Ready;
use crate::supervisor::Run;
use crate::supervisor::Served;
use crate::supervisor::Supervisor;
use crate::supervisor::checker::Execute;
use crate::supervisor::checks::Checks;
use crate::supervisor::client::Client;
use crate::supervisor::door::Door;
use crate::supervisor::end::write_pid;
use crate::supervisor::group::Maker;
use crate::supervisor::protocol;
use crate::supervisor::relay::Relay;
use crate::supervisor::remains::Remains;
use crate::supervisor::restart::Kept;
use crate::supervisor::restart::Left;
use crate::supervisor::restart::Next;
use crate::supervisor::restart::Restarts;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Streams;
use crate::sys::limits;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::socket;

/// How many descriptors a process may have.
const DESCRIPTORS: &str = "RLIMIT_NOFILE";

/// Detaches from the command that forked us, and opens what lives as long as the supervisor.
pub fn detached<'a>(
    dirs: &'a Dirs,
    container: &Container,
    lock: &RunLock,
    starter: &Client,
    first: &mut Ready<'_>,
    execute: &'a Execute<'a>,
) -> anyhow::Result<Supervisor<'a>> {
    let passed = passed_streams(container)?;
    let mut kept = first.bundle.given();
    kept.extend([lock.as_fd(), starter.socket.as_fd()]);
    kept.extend(&first.served.held);
    kept.extend(first.served.given.iter().map(|one| one.socket.as_fd()));
    if let Some(passed) = &passed {
        kept.extend([
            passed.stdin.as_fd(),
            passed.stdout.as_fd(),
            passed.stderr.as_fd(),
        ]);
    }
    let signals = detach(&kept)?;
    process::set_title(&format!("rbox: {}", container.name));
    let run = rustix::fs::open(
        &container.run,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("cannot open {}", container.run.display()))?;
    let sdnotify = first.served.sdnotify.take();
    let sdnotify = sdnotify.map(|order| Notifier::new(order, run.as_fd()));
    Ok(Supervisor {
        dirs,
        sdnotify: sdnotify.transpose()?,
        listener: socket::listen(run.as_fd(), protocol::SOCKET)?,
        log: log::Writer::open(container)?,
        container: container.clone(),
        signals,
        clients: vec![],
        rests: None,
        passed,
        run: None,
        execute,
        checks: None,
        small: false,
        next: Next::default(),
        restarts: Restarts::new(),
        kept: Kept {
            descriptors: limits::own(DESCRIPTORS)?,
            group: None,
            listeners: None,
            left: Left::default(),
        },
    })
}

impl Supervisor<'_> {
    /// Makes the container.
    pub fn make(
        &mut self,
        started: Timestamp,
        bundle: &Bundle<'_>,
        served: Served<'_>,
    ) -> anyhow::Result<()> {
        let mut handler = served.handler;
        let alone = !bundle.has_pid_namespace();
        if alone {
            process::set_child_subreaper()?;
        }
        if self.container.config.restart != Restart::No {
            self.container.set_wanted(true)?;
        }
        let (soft, hard) = self.kept.descriptors;
        limits::set(DESCRIPTORS, soft, hard)?;
        // Before anything runs: a port may be taken.
        if served.way.is_some() && self.kept.listeners.is_none() {
            let publish = &self.container.config.process.publish;
            self.kept.listeners = Some(Listeners::new(publish, served.given)?);
        }
        let group = Maker::new(served.group, self.kept.group.as_deref())?;
        let passed = self.passed.as_ref().map(copy_of).transpose()?;
        let made = create_in(
            &group,
            self.dirs,
            &self.container,
            bundle,
            &mut handler,
            passed,
        );
        let (streams, mut running) = made?;
        if self.restarts.count == 0 {
            // The container has its own; ours would keep pipes and namespaces of others open. Those of a later
            // run are closed with what was prepared for it, but for the caller's, which every run gets.
            let mut given = bundle.given();
            if self.container.config.restart != Restart::No {
                given.truncate(given.len() - bundle.preserved.len());
            }
            for fd in given {
                let number = fd.as_raw_fd().cast_unsigned();
                process::close_range(number, number)?;
            }
        }
        let group = group.finish();
        self.kept.group = group.as_ref().map(|group| group.path().to_owned());
        let calls = running.listener.take().into_iter().collect();
        let run = Run {
            deadline: None,
            remains: None,
            started,
            running,
            streams,
            handler,
            calls,
            relay: None,
            group,
        };
        let run = self.run.insert(run);
        let begun = begin(
            run,
            &self.container,
            served.way.zip(self.kept.listeners.as_ref()),
            self.restarts.count,
        );
        self.checks = Checks::of(&self.container);
        if begun.is_err()
            && let Some(run) = self.run.take()
        {
            run.running.kill();
            if let Some(group) = run.group {
                group.remove();
            }
        }
        begun
    }
}

impl Supervisor<'_> {
    /// It may be on other networks than before.
    pub fn change_way(&mut self) {
        let config = &self.container.config;
        if config.process.network != config::process::Network::Bridge {
            return;
        }
        let way = place::way(&place::of_container(self.dirs, &config.id));
        let Some(relay) = self.run.as_mut().and_then(|run| run.relay.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut relay.way, way) == way {
            return;
        }
        let path = self.container.state_file();
        if let Ok(mut state) = record::load::<State>(&path) {
            if let Some(network) = &mut state.network {
                network.addresses = way.addresses;
            }
            record::save(&path, &state, Durability::Volatile).ok();
        }
    }
}

/// The container is there: what serves it begins, and its records say so.
fn begin(
    run: &mut Run,
    container: &Container,
    network: Option<(Way, &Listeners)>,
    restarts: u32,
) -> anyhow::Result<()> {
    let running = &mut run.running;
    if let Some((way, _)) = network {
        let tap = running.tap.take().context("its interface did not arrive")?;
        let door = Door::new(running.init.pidfd.try_clone()?);
        run.relay = Some(Relay::new(tap, door, way));
    }
    run.remains = running.mounts.take().map(Remains::of).transpose()?;
    let pid = running.init.pid.as_raw_pid();
    let state = State {
        pid,
        start_ticks: process::start_ticks(running.init.pid).unwrap_or(0),
        network: network.map(|(way, listeners)| NetworkState {
            addresses: way.addresses,
            published: listeners.published(),
        }),
        cgroup: run.group.as_ref().map(|group| group.path().to_owned()),
        restarts,
        ..State::of(run.started)
    };
    // The runtime directory is gone after a power cut, and so is what the record tells of.
    record::save(&container.state_file(), &state, Durability::Volatile)?;
    let files = &container.config.process.files;
    for (path, pid) in [(&files.init, pid), (&files.supervisor, state.supervisor)] {
        if let Some(path) = path {
            write_pid(path, pid)?;
        }
    }
    let timeout = container.config.process.timeout;
    run.deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    Ok(())
}

/// Makes the container in its group.
fn create_in(
    group: &Maker<'_>,
    dirs: &Dirs,
    container: &Container,
    bundle: &Bundle<'_>,
    handler: &mut Option<Box<dyn Handler>>,
    passed: Option<Stdio>,
) -> anyhow::Result<(Streams, Running)> {
    let made = group.descriptor()?;
    let place = |pid| group.place(pid);
    let cgroup = match &made {
        Some(made) => Some(Placement::Into(made.as_fd())),
        None => group.is_scope().then_some(Placement::By(&place)),
    };
    let bundle = Bundle { cgroup, ..*bundle };
    create(dirs, container, &bundle, handler, passed)
}

/// Makes the container; where the store's file system takes no overlay, on a copy of the image.
fn create(
    dirs: &Dirs,
    container: &Container,
    bundle: &Bundle<'_>,
    handler: &mut Option<Box<dyn Handler>>,
    passed: Option<Stdio>,
) -> anyhow::Result<(Streams, Running)> {
    let again = passed.as_ref().map(copy_of).transpose()?;
    match (attempt(container, bundle, handler, passed), bundle.rootfs) {
        (Err(err), Rootfs::Overlay(overlay))
            if crate::error::kind(&err) == Some(Kind::Unsupported) =>
        {
            let copy = Bundle {
                rootfs: &Rootfs::Copy(overlay.clone()),
                ..*bundle
            };
            // Where that does not help either, the first error is the better one.
            let made = attempt(container, &copy, handler, again).map_err(|_| err)?;
            std::fs::write(dirs.no_overlay(), "").ok();
            Ok(made)
        }
        (made, _) => made,
    }
}

fn attempt(
    container: &Container,
    bundle: &Bundle<'_>,
    handler: &mut Option<Box<dyn Handler>>,
    passed: Option<Stdio>,
) -> anyhow::Result<(Streams, Running)> {
    let answers = handler.as_deref_mut();
    if passed.is_some() {
        return Ok((Streams::none(), runtime::create(bundle, passed, answers)?));
    }
    if container.config.process.terminal {
        let mut running = runtime::create(bundle, None, answers)?;
        let master = running
            .terminal
            .take()
            .context("the terminal did not arrive")?;
        return Ok((Streams::terminal(master)?, running));
    }
    let (streams, theirs) = Streams::pipes(container.config.process.interactive)?;
    let running = runtime::create(bundle, Some(theirs), answers)?;
    Ok((streams, running))
}

fn copy_of(streams: &Stdio) -> anyhow::Result<Stdio> {
    let copy = |fd: &OwnedFd| fd.try_clone().context("cannot pass on a stream");
    Ok(Stdio {
        stdin: copy(&streams.stdin)?,
        stdout: copy(&streams.stdout)?,
        stderr: copy(&streams.stderr)?,
    })
}

/// The streams of the command that starts the container, where they are to be its own.
fn passed_streams(container: &Container) -> anyhow::Result<Option<Stdio>> {
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().context("cannot pass on a stream");
    if !container.config.log.driver.passes_through() {
        return Ok(None);
    }
    Ok(Some(Stdio {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    }))
}

/// Leaves the session of the command, its directory, its standard streams and whatever other
/// descriptors it was given: a pipe that a shell waits for must not stay open here.
fn detach(kept: &[BorrowedFd<'_>]) -> anyhow::Result<OwnedFd> {
    rustix::process::setsid().context("cannot start a session")?;
    rustix::process::chdir("/").context("cannot enter /")?;
    process::leave_all_but(kept)?;
    // SIGTERM and SIGINT go on to the container; SIGHUP and SIGPIPE mean nothing here.
    Ok(signal::signal_fd(&[
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGPIPE,
    ])?)
}
