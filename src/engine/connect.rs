//! Connections to the supervisor of a running container.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::container::record::Container;
use crate::container::status::Status;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::supervisor::protocol;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::sys::process::Exit;
use crate::sys::socket;

/// How long a killed supervisor may take to be gone.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

/// A connection to a supervisor.
pub struct Connection {
    pub socket: OwnedFd,
}

impl Connection {
    /// Connects. `None`: the container does not run (any more).
    pub fn open(container: &Container) -> anyhow::Result<Option<Connection>> {
        if !container.runs()? {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let run = match rustix::fs::open(&container.run, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.with_context(|| format!("cannot open {}", container.run.display()))?,
        };
        match protocol::connect(run.as_fd()) {
            Ok(socket) => Ok(Some(Connection { socket })),
            // It ended between the look and the call.
            Err(err) if matches!(err.errno, Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
            Err(err) => Err(err).with_context(|| {
                format!(
                    "cannot reach the supervisor of container \"{}\"",
                    container.name
                )
            }),
        }
    }

    /// The same, where a container that does not run is an error.
    pub fn open_running(container: &Container) -> anyhow::Result<Connection> {
        Connection::open(container)?.ok_or_else(|| not_running(container))
    }

    pub fn send(&self, request: &Request<'_>) -> anyhow::Result<()> {
        socket::send(self.socket.as_fd(), &request.encode(), None)?;
        Ok(())
    }

    /// Gives the supervisor a listener to serve.
    pub fn send_listener(&self, listener: BorrowedFd<'_>) -> anyhow::Result<()> {
        socket::send(
            self.socket.as_fd(),
            &Request::Listener.encode(),
            Some(listener),
        )?;
        Ok(())
    }

    /// Waits until the supervisor has done what it was asked, or is gone.
    pub fn finish(self) {
        let shut = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write);
        let mut buffer = vec![0; PACKET];
        while shut.is_ok()
            && socket::receive(self.socket.as_fd(), &mut buffer)
                .is_ok_and(|packet| packet.length > 0)
        {}
    }

    /// Waits for the exit of the container.
    pub fn wait_exit(&self) -> anyhow::Result<Ended> {
        let mut buffer = vec![0; PACKET];
        loop {
            let packet = socket::receive(self.socket.as_fd(), &mut buffer);
            let length = packet.map_or(0, |packet| packet.length);
            if length == 0 {
                return Ok(Ended::Unseen);
            }
            if let Some(Reply::Exit(exit)) = Reply::decode(&buffer[..length]) {
                return Ok(Ended::With(exit));
            }
        }
    }
}

/// How a container ended, as its supervisor told.
pub enum Ended {
    With(Exit),
    /// The supervisor was killed; the records tell what is known.
    Unseen,
}

pub fn not_running(container: &Container) -> anyhow::Error {
    let status = match container.status_to_show() {
        status if status.is_restarting() => return restarting(container),
        // Its supervisor has not recorded the end yet.
        status if status.is_running() && !status.is_restarting() => "ending",
        status => status.name(),
    };
    fail(
        Kind::WrongStatus,
        format!("container \"{}\" is not running ({status})", container.name),
    )
}

/// What is said of one that rests between two runs.
pub fn restarting(container: &Container) -> anyhow::Error {
    let text = format!("container \"{}\" is restarting", container.name);
    fail(Kind::WrongStatus, text).hint(format!(
        "`rbox wait --condition running {0}` waits until it runs, `rbox stop {0}` ends it",
        container.name
    ))
}

/// Waits until a container has ended, or a run of it, and returns its exit status.
pub fn wait(container: &Container) -> anyhow::Result<i32> {
    if let Some(connection) = Connection::open(container)?
        && connection.send(&Request::Wait).is_ok()
        && let Ended::With(exit) = connection.wait_exit()?
    {
        return Ok(exit.status);
    }
    let end = Instant::now() + LAST_MOMENTS;
    loop {
        match container.status()? {
            Status::Exited(exit) => return Ok(exit.status),
            // Linux: of a process that is killed the descriptors are closed one after the other, the connection
            // to us maybe before the lock that says that it runs.
            status if status.is_running() && Instant::now() < end => std::thread::sleep(PAUSE),
            _ => return Err(not_running(container)),
        }
    }
}
