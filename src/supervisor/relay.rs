//! The network in user mode: a process beside the supervisor that carries frames to sockets and back, and can do
//! nothing else (`confine`). What the container sends is parsed there alone, by who has no capability, no file
//! to write, and no other descriptor of the supervisor's.
//!
//! ```text
//! supervisor                               network process, a fork of it
//!   keeps device and ports      --u-->       settings have changed: it reads the record
//!                               --e-->       the container has ended
//!                               <--c--       its ports are let go of
//!                               <--4 6--     it wants sockets in the container's namespace
//!                               --4 6-->     those, or none
//!                               <--r--       the host has another resolv.conf
//!                               --r-->       that, opened
//!                               <--text--    why it cannot go on; then it ends
//! ```
//!
//! It dies with its supervisor. Should it die before, it is started anew: the container goes on, its connections do
//! not, and the container's log tells of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::bail;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::container::config;
use crate::container::record::Container;
use crate::error;
use crate::network;
use crate::network::names::Names;
use crate::network::place;
use crate::network::place::Way;
use crate::network::stack;
use crate::network::stack::Listeners;
use crate::network::stack::Network;
use crate::network::stack::route::RESOLV_CONF;
use crate::store::dirs::Dirs;
use crate::supervisor::confine;
use crate::supervisor::door::Door;
use crate::supervisor::end::LAST_WORDS;
use crate::sys::limits;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::signal;
use crate::sys::socket;

/// How long it takes at least until one that has died is followed by another.
const REST: Duration = Duration::from_secs(1);

/// How long a network process may take to let go of ports, which is a matter of microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Without a frame for so long, it makes itself small.
const IDLE: Duration = Duration::from_secs(1);

/// The longest of its messages.
const LONGEST: usize = 4096;

const UPDATE: &[u8] = b"u";
const END: &[u8] = b"e";
const CLOSED: &[u8] = b"c";
const SOCKETS4: &[u8] = b"4";
const SOCKETS6: &[u8] = b"6";
const RESOLVERS: &[u8] = b"r";

/// The way to the world of one run of a container.
pub struct Relay {
    tap: OwnedFd,
    door: Door,
    pub way: Way,
    worker: Option<Worker>,
    /// When the next one is started.
    due: Option<Instant>,
}

struct Worker {
    process: Child,
    /// Nobody else has the other end.
    socket: OwnedFd,
}

/// What a network process is made of.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub dirs: &'a Dirs,
    pub container: &'a Container,
    pub listeners: &'a Listeners,
}

impl Relay {
    /// Its process is started by the next `mend`.
    pub fn new(tap: OwnedFd, door: Door, way: Way) -> Relay {
        Relay {
            tap,
            door,
            way,
            worker: None,
            due: Some(Instant::now()),
        }
    }

    /// Starts a process where there is none, when it is time for that.
    ///
    /// Must: be called by a single-threaded process.
    pub fn mend(&mut self, job: Job<'_>) -> anyhow::Result<()> {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return Ok(());
        }
        self.due = Some(Instant::now() + REST);
        self.worker = Some(self.start(job)?);
        self.due = None;
        Ok(())
    }

    /// When there is something to mend.
    pub fn moment(&self) -> Option<Instant> {
        self.due
    }

    fn start(&self, job: Job<'_>) -> anyhow::Result<Worker> {
        let (ours, theirs) = socket::pair()?;
        // Whatever becomes of the process, its supervisor waits for nothing.
        rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        let supervisor = rustix::process::getpid();
        match process::fork().context("cannot start a process for the network")? {
            Side::Child => {
                if let Err(err) = work(self, job, &theirs, supervisor) {
                    let mut text = error::message(&err);
                    text.truncate(text.floor_char_boundary(LONGEST));
                    socket::send(theirs.as_fd(), text.as_bytes(), None).ok();
                }
                process::exit_now(0)
            }
            Side::Parent(process) => Ok(Worker {
                process,
                socket: ours,
            }),
        }
    }

    /// Readable when the process has something to say, or has ended.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.worker.as_ref().map(|worker| worker.socket.as_fd())
    }

    /// Takes what it says; the error is that it is gone.
    pub fn hear(&mut self) -> anyhow::Result<()> {
        let Some(worker) = &self.worker else {
            return Ok(());
        };
        let mut buffer = [0; LONGEST];
        let length = socket::receive(worker.socket.as_fd(), &mut buffer);
        let length = length.map_or(0, |packet| packet.length);
        match &buffer[..length] {
            CLOSED => return Ok(()),
            family @ (SOCKETS4 | SOCKETS6) => {
                let made = self.door.sockets(family == SOCKETS4).unwrap_or_default();
                let made: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
                let socket = worker.socket.as_fd();
                // Linux: ETOOMANYREFS where the user's processes have too many on their way.
                if socket::send_all(socket, family, &made).is_err() {
                    self.tell(family);
                }
                return Ok(());
            }
            RESOLVERS => {
                self.tell_resolvers(worker.socket.as_fd());
                return Ok(());
            }
            _ => {}
        }
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let signal = worker.end().ok().and_then(|exit| exit.signal);
        self.worker = None;
        self.due = Some(Instant::now() + REST);
        let why = match signal {
            _ if !said.is_empty() => said,
            Some(libc::SIGSYS) => "it made a system call that is forbidden to it".to_owned(),
            Some(signal) => format!("it was killed by signal {signal}"),
            None => "it has ended".to_owned(),
        };
        bail!("the network has lost its connections and begins anew: {why}")
    }

    fn tell_resolvers(&self, socket: BorrowedFd<'_>) {
        // Nobody is waited for who has made it a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(RESOLV_CONF, flags, Mode::empty()).ok();
        let file: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
        if socket::send_all(socket, RESOLVERS, &file).is_err() {
            self.tell(RESOLVERS);
        }
    }

    /// The container's settings have changed, or its networks.
    pub fn update(&self) {
        self.tell(UPDATE);
    }

    /// The container has ended: no more clients are taken, connections say their last words, and there is no
    /// other process.
    pub fn end(&mut self) {
        self.due = None;
        self.tell(END);
    }

    fn tell(&self, order: &[u8]) {
        if let Some(worker) = &self.worker {
            let sent = socket::send(worker.socket.as_fd(), order, None);
            // One that does not listen is followed by another.
            if sent.is_err_and(|err| err.errno == Errno::AGAIN) {
                signal::send(worker.process.pidfd.as_fd(), libc::SIGKILL).ok();
            }
        }
    }

    /// After `end`: waits until nobody but the supervisor has the published ports.
    pub fn wait_for_ports(&mut self) {
        let Some(worker) = &self.worker else {
            return;
        };
        let mut buffer = [0; LONGEST];
        let ends = Instant::now() + PATIENCE;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_readable(self.socket(), left) {
                break;
            }
            match socket::receive(worker.socket.as_fd(), &mut buffer) {
                Ok(packet) if &buffer[..packet.length] == CLOSED => return,
                Ok(packet) if packet.length > 0 => {}
                _ => break,
            }
        }
        self.worker = None;
    }

    /// After `end`: nothing of the container's is left to be sent.
    pub fn is_drained(&self) -> bool {
        self.worker.is_none()
    }

    /// After `end`: takes note of its end, if it has ended.
    pub fn reap(&mut self) {
        self.hear().ok();
        self.due = None;
    }

    /// After `end`: waits until it has ended.
    pub fn drain(mut self) {
        let ends = Instant::now() + LAST_WORDS;
        while !self.is_drained() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_readable(self.socket(), left) {
                break;
            }
            self.reap();
        }
    }

    /// The process, which is a child of ours and none of the container's.
    pub fn pid(&self) -> Option<Pid> {
        self.worker.as_ref().map(|worker| worker.process.pid)
    }
}

fn is_readable(socket: Option<BorrowedFd<'_>>, limit: Duration) -> bool {
    matches!(poll::readable([socket], Some(limit)), Ok([true]))
}

impl Worker {
    /// Ends it, unless it has ended: what it was killed by stays what it was.
    fn end(&self) -> crate::sys::Result<process::Exit> {
        signal::send(self.process.pidfd.as_fd(), libc::SIGKILL).ok();
        process::wait(self.process.pidfd.as_fd())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end().ok();
    }
}

/// In the network process, until it is not needed any more.
fn work(relay: &Relay, job: Job<'_>, socket: &OwnedFd, supervisor: Pid) -> anyhow::Result<()> {
    const DESCRIPTORS: &str = "RLIMIT_NOFILE";
    process::set_title(&format!("rbox-net: {}", job.container.name));
    process::set_parent_death_signal(libc::SIGKILL)?;
    let mut kept: Vec<BorrowedFd<'_>> = job.listeners.sockets().collect();
    kept.extend([socket.as_fd(), relay.tap.as_fd()]);
    process::leave_all_but(&kept)?;
    // Linux: no signal comes for a parent that is dead already.
    if rustix::process::getppid() != Some(supervisor) {
        return Ok(());
    }
    // A connection takes a descriptor; what the container itself may open was settled before.
    let most = limits::hard(DESCRIPTORS)?;
    limits::set(DESCRIPTORS, most, most)?;
    let mut network = make(relay, job)?;
    let mut readable = vec![job.container.data.clone()];
    if is_bridged(job.container) {
        network::record::make_dir(job.dirs)?;
        readable.extend([job.dirs.networks(), job.dirs.run_networks()]);
    }
    confine::confine(&readable)?;
    serve(&mut network, job, socket)
}

fn is_bridged(container: &Container) -> bool {
    container.config.process.network == config::process::Network::Bridge
}

fn make(relay: &Relay, job: Job<'_>) -> anyhow::Result<Network> {
    let config = &job.container.config;
    let process = &config.process;
    let host_loopback = matches!(
        process.network,
        config::process::Network::Private {
            host_loopback: true,
            ..
        }
    );
    let servers = process.etc.resolver.servers.as_deref().unwrap_or_default();
    let settings = stack::Settings {
        addresses: relay.way.addresses,
        mac: relay.way.mac,
        mtu: relay.way.mtu,
        host_loopback,
        is_internal: relay.way.is_internal,
        names: is_bridged(job.container).then(|| Names::new(job.dirs, &config.id, servers)),
        rules: &process.egress,
        servers,
        rates: process.rates,
    };
    let mut network = Network::new(settings, job.listeners.clone())?;
    network.attach(relay.tap.try_clone()?)?;
    network.allow_bypass();
    Ok(network)
}

fn serve(network: &mut Network, job: Job<'_>, socket: &OwnedFd) -> anyhow::Result<()> {
    let mut ends = None;
    let mut is_small = false;
    network.watch_orders(socket)?;
    loop {
        let wait = match ends {
            Some(ends) if Instant::now() >= ends => return Ok(()),
            _ if network.has_more() => Some(Duration::ZERO),
            Some(_) if network.is_drained() => return Ok(()),
            Some(ends) => Some(ends.saturating_duration_since(Instant::now())),
            None if is_small => None,
            None => Some(IDLE),
        };
        let had_more = network.has_more();
        let seen = network.wait(wait);
        if seen.orders {
            let mut order = [0; 1];
            let (length, sockets) = socket::receive_all(socket.as_fd(), &mut order)?;
            match &order[..length] {
                UPDATE => change(network, job),
                END => {
                    network.stop_listening();
                    socket::send(socket.as_fd(), CLOSED, None)?;
                    ends = Some(Instant::now() + LAST_WORDS);
                }
                family @ (SOCKETS4 | SOCKETS6) => {
                    network.take_sockets(family == SOCKETS4, sockets);
                }
                RESOLVERS => {
                    let file = sockets.into_iter().next();
                    network.take_resolvers(file.map(File::from));
                }
                _ => return Ok(()),
            }
        }
        while let Some(is_v4) = network.wants_sockets() {
            let family = if is_v4 { SOCKETS4 } else { SOCKETS6 };
            socket::send(socket.as_fd(), family, None)?;
        }
        if network.wants_resolvers() {
            socket::send(socket.as_fd(), RESOLVERS, None)?;
        }
        is_small = !(seen.anything || had_more);
        if is_small && ends.is_none() {
            network.rest();
            process::trim_memory();
        }
    }
}

/// Takes the settings that there are now.
fn change(network: &mut Network, job: Job<'_>) {
    let Ok(Some(config)) = job.container.config_now(job.dirs) else {
        return;
    };
    let process = &config.process;
    if is_bridged(job.container) {
        let places = place::of_container(job.dirs, &config.id);
        network.set_way(place::way(&places));
    }
    network.set_limits(&process.egress, process.rates);
}
