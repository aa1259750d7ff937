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
//! Clients that read slowly make the container wait, like a full pipe does; nothing is dropped.

mod client;
pub mod emulation;
mod end;
pub mod group;
pub mod protocol;
mod remains;
mod streams;

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::addresses::Addresses;
use crate::config::hooks::Stage;
use crate::container::config;
use crate::container::events;
use crate::container::log;
use crate::container::log::Stream;
use crate::container::record::Container;
use crate::container::record::NetworkState;
use crate::container::record::RunLock;
use crate::container::record::State;
use crate::error::Kind;
use crate::error::Told;
use crate::network;
use crate::network::Network;
use crate::runtime;
use crate::runtime::Bundle;
use crate::runtime::Hooked;
use crate::runtime::Placement;
use crate::runtime::Rootfs;
use crate::runtime::Running;
use crate::runtime::Stdio;
use crate::runtime::notify;
use crate::runtime::notify::Handler;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::record;
use crate::supervisor::client::Client;
use crate::supervisor::client::Hears;
use crate::supervisor::end::record_end;
use crate::supervisor::end::record_of;
use crate::supervisor::end::remove_files;
use crate::supervisor::end::retire_volumes;
use crate::supervisor::end::write_pid;
use crate::supervisor::group::Maker;
use crate::supervisor::group::Plan;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::supervisor::remains::Remains;
use crate::supervisor::streams::Output;
use crate::supervisor::streams::Streams;
use crate::sys::limits;
use crate::sys::notify::Listener;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::signal;
use crate::sys::socket;
use crate::sys::terminal;

/// How long connections of a container that has ended may take to say what its programs have said already.
const LAST_WORDS: Duration = Duration::from_secs(3);

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
    let mut supervisor = match start(
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
}

/// Detaches from the command that forked us, and makes the container.
fn start<'a>(
    dirs: &'a Dirs,
    container: &'a Container,
    bundle: &Bundle<'_>,
    lock: &RunLock,
    starter: &Client,
    started: Timestamp,
    served: Served<'_>,
) -> anyhow::Result<Supervisor<'a>> {
    let Served {
        addresses,
        mut handler,
        group,
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
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let mut kept: Vec<u32> = kept
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            process::close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    process::close_range(first, u32::MAX)?;
    // SIGTERM and SIGINT go on to the container; SIGHUP and SIGPIPE mean nothing here.
    Ok(signal::signal_fd(&[
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGPIPE,
    ])?)
}

/// What a descriptor of the poll set is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Init,
    Output(Output),
    Input,
    Client(usize),
    Calls(usize),
    Memory,
    Network,
    /// A process that works for the log has ended.
    Log,
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

    /// Serves until the container's init has ended.
    fn run(&mut self) -> anyhow::Result<Exit> {
        let mut buffer = vec![0u8; PACKET];
        // Ascending, as the poll set is.
        let mut unused = vec![];
        loop {
            self.keep_deadline();
            for (source, events) in self.wait()? {
                match source {
                    Source::Signals => self.forward_signal(),
                    Source::Listener => self.accept(),
                    Source::Init => {
                        let exit = process::wait(self.running.init.pidfd.as_fd())?;
                        if let Some(remains) = &self.remains {
                            if let Some(group) = &self.group {
                                group.end();
                            }
                            remains.end();
                        }
                        self.drain(&mut buffer);
                        return Ok(exit);
                    }
                    Source::Output(output) => {
                        self.read(output, &mut buffer);
                    }
                    Source::Log => self.log.reap(),
                    Source::Input => self.streams.write_pending(),
                    Source::Client(index) => self.serve(index, events, &mut buffer),
                    Source::Network => {
                        if let Some(network) = &mut self.network {
                            network.serve();
                        }
                    }
                    Source::Memory => self.tell_kills(),
                    Source::Calls(index) => {
                        if !self.answer(index, events) {
                            unused.push(index);
                        }
                    }
                }
            }
            while let Some(index) = unused.pop() {
                self.calls.remove(index);
            }
            self.grant_input();
            self.clients.retain(|client| !client.gone);
        }
    }

    /// Kills the container when its time is over.
    fn keep_deadline(&mut self) {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.deadline = None;
            signal::send(self.running.init.pidfd.as_fd(), libc::SIGKILL).ok();
        }
    }

    /// Processes of the container were killed for want of memory, or memory is short.
    fn tell_kills(&mut self) {
        let new = self.group.as_mut().map_or(0, Watched::new_kills);
        if new > 0 {
            events::add(self.dirs, self.container, "oom");
        }
    }

    /// Tells the clients whose input was taken that there is room for more.
    fn grant_input(&mut self) {
        if !self.streams.takes_input() {
            return;
        }
        for client in self.clients.iter_mut().filter(|client| client.awaits_taken) {
            client.awaits_taken = false;
            client.tell(&Reply::Taken);
            client.flush();
        }
    }

    /// Waits for something to do.
    fn wait(&self) -> anyhow::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals, Source::Listener, Source::Init];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.running.init.pidfd, PollFlags::IN),
        ];
        if !self.clients.iter().any(Client::is_full) {
            for output in [Output::Stdout, Output::Stderr] {
                if let Some(fd) = self.streams.output(output) {
                    sources.push(Source::Output(output));
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
        }
        if let Some(fd) = self.streams.input_to_write() {
            sources.push(Source::Input);
            fds.push(PollFd::new(fd, PollFlags::OUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, client.has_queue());
            sources.push(Source::Client(index));
            fds.push(PollFd::new(&client.socket, events));
        }
        for (index, listener) in self.calls.iter().enumerate() {
            sources.push(Source::Calls(index));
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(helper) = self.log.helper() {
            sources.push(Source::Log);
            fds.push(PollFd::from_borrowed_fd(helper, PollFlags::IN));
        }
        if let Some(events) = self.group.as_ref().and_then(Watched::events) {
            sources.push(Source::Memory);
            fds.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
        }
        let busy = self.network.as_ref().is_some_and(Network::has_more);
        if let Some(network) = &self.network {
            sources.push(Source::Network);
            fds.push(PollFd::new(network, PollFlags::IN));
        }
        let left = if busy {
            Some(Duration::ZERO)
        } else {
            self.deadline
                .map(|at| at.saturating_duration_since(Instant::now()))
        };
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        process::retry(|| rustix::event::poll(&mut fds, left.as_ref())).context("poll")?;
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        let is_ready = |source: &Source, events: &PollFlags| {
            !events.is_empty() || (busy && matches!(source, Source::Network))
        };
        Ok(ready
            .filter(|(source, events)| is_ready(source, events))
            .collect())
    }

    fn forward_signal(&self) {
        if let Ok(Some(number @ (libc::SIGTERM | libc::SIGINT))) =
            signal::read_signal(self.signals.as_fd())
        {
            // It may have ended just now; its exit is in the poll set.
            signal::send(self.running.init.pidfd.as_fd(), number).ok();
        }
    }

    /// Answers one call; `false` when no more will come.
    fn answer(&mut self, index: usize, events: PollFlags) -> bool {
        let (Some(handler), Some(listener)) = (&mut self.handler, self.calls.get(index)) else {
            return false;
        };
        notify::serve(listener, events, handler.as_mut())
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        if let Ok(connection) = rustix::net::accept_with(&self.listener, flags)
            && socket::peer_is_us(&connection)
        {
            self.clients
                .push(Client::new(connection, Hears::Nothing, false));
        }
    }

    /// Reads from the container once; whether there was something.
    fn read(&mut self, output: Output, buffer: &mut [u8]) -> bool {
        let Some((stream, bytes)) = self.streams.read(output, buffer) else {
            return false;
        };
        self.log.write(stream, bytes);
        let reply = match stream {
            Stream::Stdout => Reply::Stdout(bytes),
            Stream::Stderr => Reply::Stderr(bytes),
        };
        for client in &mut self.clients {
            client.tell(&reply);
        }
        for client in &mut self.clients {
            client.flush();
        }
        true
    }

    /// Takes what the streams still hold. All processes of the container are dead: with its
    /// init the kernel has killed its pid namespace, or we what was left, so that this ends.
    fn drain(&mut self, buffer: &mut [u8]) {
        for output in [Output::Stdout, Output::Stderr] {
            while self.read(output, buffer) {}
        }
        self.log.finish();
    }

    fn serve(&mut self, index: usize, events: PollFlags, buffer: &mut [u8]) {
        if events.contains(PollFlags::OUT) {
            self.clients[index].flush();
        }
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let client = &mut self.clients[index];
        let received = socket::receive(client.socket.as_fd(), buffer);
        let (length, descriptor) = received.map_or((0, None), |packet| (packet.length, packet.fd));
        if length == 0 {
            if client.foreground && self.streams.as_terminal().is_none() {
                self.streams.end_input();
            }
            self.clients[index].gone = true;
            return;
        }
        match Request::decode(&buffer[..length]) {
            Some(Request::Attach) => {
                client.hears = Hears::Streams;
                events::add(self.dirs, self.container, "attach");
            }
            Some(Request::Wait) => client.hears = Hears::Exit,
            Some(Request::Stdin(bytes)) => {
                client.awaits_taken = true;
                self.streams.feed(bytes);
            }
            Some(Request::StdinClosed) => self.streams.end_input(),
            Some(Request::Resize { rows, columns }) => {
                if let Some(master) = self.streams.as_terminal() {
                    terminal::set_size(master.as_fd(), rows, columns).ok();
                }
            }
            Some(Request::Signal(number)) => {
                signal::send(self.running.init.pidfd.as_fd(), number).ok();
            }
            // The container finds its pipe closed, and ends as a program in a pipeline does.
            Some(Request::OutputClosed(stream)) if client.foreground => {
                self.streams.close_output(stream);
            }
            Some(Request::Listener) if self.handler.is_some() => {
                if let Some(listener) = descriptor {
                    Listener::new(listener.as_fd()).take_turns().ok();
                    self.calls.push(listener);
                }
            }
            Some(Request::OutputClosed(_) | Request::Listener) | None => {}
        }
    }

    /// Records the end, tells it, and lets go of everything.
    fn finish(mut self, lock: &RunLock, exit: Exit) -> anyhow::Result<()> {
        if let Some(handler) = &mut self.handler
            && let Err(err) = handler.end()
        {
            let line = format!("rbox: {}\n", crate::error::message(&err));
            self.log.write(Stream::Stderr, line.as_bytes());
        }
        let mut network = self.network.take();
        if let Some(network) = &mut network {
            // Who hears of the end may want the ports.
            network.stop_listening();
        }
        self.log.close();
        self.tell_kills();
        let mut record = record_of(self.started, &exit, None);
        if let Some(group) = &self.group {
            record.limited = group.counts();
        }
        journal::add(self.dirs, &events::died(self.container, &record));
        let recorded = record_end(self.dirs, self.container, &record, true);
        let volumes = if self.container.config.remove {
            // What is not taken away now is left for `volume prune`.
            retire_volumes(self.dirs, self.container).unwrap_or_default()
        } else {
            // Who starts the container again makes the same group.
            if let Some(group) = self.group.take() {
                group.remove();
            }
            lock.release()?;
            vec![]
        };
        for client in &mut self.clients {
            client.tell(&Reply::Exit(exit));
        }
        drop(self.listener);
        while !self.clients.is_empty() {
            self.clients
                .retain_mut(|client| client.flush() && client.has_queue());
            let mut fds: Vec<PollFd<'_>> = self
                .clients
                .iter()
                .map(|client| PollFd::new(&client.socket, PollFlags::OUT))
                .collect();
            if !fds.is_empty() {
                process::retry(|| rustix::event::poll(&mut fds, None))?;
            }
        }
        if let Some(network) = network {
            network.drain(LAST_WORDS)?;
        }
        if let Some(group) = self.group.take() {
            group.remove();
        }
        if self.container.config.remove {
            remove_files(self.container, &volumes, self.running.userns.as_ref());
        }
        recorded
    }
}
