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

use crate::config::addresses::Addresses;
use crate::container::config;
use crate::container::log;
use crate::container::record::Container;
use crate::container::record::NetworkState;
use crate::container::record::RunLock;
use crate::container::record::State;
use crate::error::Kind;
use crate::network;
use crate::network::Network;
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
use crate::supervisor::Served;
use crate::supervisor::Supervisor;
use crate::supervisor::checks::Checks;
use crate::supervisor::client::Client;
use crate::supervisor::end::write_pid;
use crate::supervisor::group::Maker;
use crate::supervisor::protocol;
use crate::supervisor::remains::Remains;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Streams;
use crate::sys::limits;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::socket;

/// Detaches from the command that forked us, and makes the container.
pub fn start<'a>(
    dirs: &'a Dirs,
    container: &'a Container,
    bundle: &Bundle<'_>,
    lock: &RunLock,
    starter: &Client,
    started: Timestamp,
    served: Served<'a>,
) -> anyhow::Result<Supervisor<'a>> {
    let Served {
        addresses,
        mut handler,
        group,
        sdnotify,
        execute,
    } = served;
    let given = bundle.given();
    let passed = passed_streams(container)?;
    let mut kept = given.clone();
    kept.extend([lock.as_fd(), starter.socket.as_fd()]);
    if let Some(passed) = &passed {
        kept.extend([
            passed.stdin.as_fd(),
            passed.stdout.as_fd(),
            passed.stderr.as_fd(),
        ]);
    }
    let signals = detach(&kept)?;
    let alone = !bundle.has_pid_namespace();
    if alone {
        process::set_child_subreaper()?;
    }
    process::set_title(&format!("rbox: {}", container.name));
    let run = rustix::fs::open(
        &container.run,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("cannot open {}", container.run.display()))?;
    let listener = socket::listen(run.as_fd(), protocol::SOCKET)?;
    let sdnotify = sdnotify
        .map(|order| Notifier::new(order, run.as_fd()))
        .transpose()?;
    let log = log::Writer::open(container)?;
    // Before anything runs: a port may be taken.
    let mut network = addresses
        .map(|addresses| listen(container, addresses))
        .transpose()?;
    let group = Maker::new(group)?;
    let (streams, mut running) = create_in(&group, dirs, container, bundle, &mut handler, passed)?;
    let group = group.finish();
    let calls = running.listener.take().into_iter().collect();
    for fd in given {
        // The container has its own; ours would keep pipes and namespaces of others open.
        let number = fd.as_raw_fd().cast_unsigned();
        process::close_range(number, number)?;
    }
    if let Some(network) = &mut network {
        network.attach(running.tap.take().context("its interface did not arrive")?)?;
        // A connection takes a descriptor; what the container itself may open was settled before.
        let most = limits::hard("RLIMIT_NOFILE")?;
        limits::set("RLIMIT_NOFILE", most, most)?;
    }
    let remains = running.mounts.take().map(Remains::of).transpose()?;
    let pid = running.init.pid.as_raw_pid();
    let state = State {
        started,
        pid,
        supervisor: rustix::process::getpid().as_raw_pid(),
        start_ticks: process::start_ticks(running.init.pid).unwrap_or(0),
        network: addresses
            .zip(network.as_ref())
            .map(|(addresses, network)| NetworkState {
                addresses,
                published: network.published(),
            }),
        cgroup: group.as_ref().map(|group| group.path().to_owned()),
        paused: false,
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
    Ok(Supervisor {
        deadline: timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into())),
        remains,
        dirs,
        container,
        started,
        running,
        streams,
        log,
        listener,
        signals,
        clients: vec![],
        handler,
        calls,
        network,
        group,
        sdnotify,
        execute,
        checks: Checks::of(container),
    })
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

/// The network of a container, whose published ports are listened on from now.
fn listen(container: &Container, addresses: Addresses) -> anyhow::Result<Network> {
    let process = &container.config.process;
    let host_loopback = matches!(
        process.network,
        config::process::Network::Private {
            host_loopback: true
        }
    );
    Network::new(&network::Settings {
        addresses,
        host_loopback,
        publish: &process.publish,
    })
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
