//! `healthcheck run`: a check of a running container now, which its supervisor makes as it makes its own.

use std::os::fd::AsFd;

use anyhow::Context;

use crate::container::record::Container;
use crate::engine::connect::Connection;
use crate::engine::connect::not_running;
use crate::engine::pause;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::sys::socket;

/// How a check went, as Podman calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    Passed,
    Unhealthy,
    /// It was the startup probe that failed.
    Starting,
    /// The container ended meanwhile.
    Stopped,
}

impl Result {
    pub fn name(self) -> &'static str {
        match self {
            Result::Passed => "healthy",
            Result::Unhealthy => "unhealthy",
            Result::Starting => "starting",
            Result::Stopped => "stopped",
        }
    }
}

/// The error for a container that nobody can call healthy.
pub fn unchecked(container: &Container) -> anyhow::Error {
    let text = format!("container \"{}\" has no health check", container.name);
    fail(Kind::WrongStatus, text).hint(format!(
        "give it one: `rbox update --health-cmd COMMAND {}`",
        container.name
    ))
}

/// Runs the check of a container, and waits for its result.
pub fn check(container: &Container) -> anyhow::Result<Result> {
    let cannot = || format!("cannot check container \"{}\"", container.name);
    let status = container.status()?;
    if !status.is_running() || status.is_restarting() {
        return Err(not_running(container)).with_context(cannot);
    }
    if container.config.health.check.is_none() {
        return Err(unchecked(container)).with_context(cannot);
    }
    if status.is_paused() {
        return Err(pause::paused(container)).with_context(cannot);
    }
    let connection = Connection::open_running(container).with_context(cannot)?;
    connection.send(&Request::Check).with_context(cannot)?;
    let mut buffer = vec![0; PACKET];
    loop {
        let packet = socket::receive(connection.socket.as_fd(), &mut buffer);
        let length = packet.map_or(0, |packet| packet.length);
        if length == 0 {
            return Ok(Result::Stopped);
        }
        match Reply::decode(&buffer[..length]) {
            Some(Reply::Checked { passed, startup }) => {
                return Ok(match (passed, startup) {
                    (true, _) => Result::Passed,
                    (false, true) => Result::Starting,
                    (false, false) => Result::Unhealthy,
                });
            }
            Some(Reply::Exit(_)) => return Ok(Result::Stopped),
            Some(Reply::Failed(told)) => return Err(told.into_error()).with_context(cannot),
            _ => {}
        }
    }
}
