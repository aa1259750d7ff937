//! Messages from a container's init, or a joining process, to the process that made it: one JSON
//! packet each, over a close-on-exec socket. The end of the stream after `ready` says that the command
//! runs.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Told;
use crate::sys::socket;

const LIMIT: usize = 16 * 1024;

/// In place of a pid: the descriptor is the mount namespace of init.
pub const MOUNTS: i32 = -1;

/// Likewise: it is the other end of init's network interface.
pub const TAP: i32 = -2;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// A descriptor is beside it: the master of the pty, or the pidfd of the joined process.
    Descriptor {
        pid: i32,
    },
    /// The listener of a filter is beside it.
    Listener,
    /// The namespaces are there, and their hooks may run; init waits for one byte.
    Created,
    /// All is set up but what belongs to the start (`gate`).
    Waiting,
    /// All is set up; what follows is the execution of the command.
    Ready,
    Failed(Told),
}

/// What arrived.
pub enum Received {
    Descriptor(OwnedFd, i32),
    Listener(OwnedFd),
    Created,
    Waiting,
    Ready,
    /// The command was executed, if the sender was ready; else it died.
    End,
}

/// Sends an error, so that `receive` at the other end returns it.
pub fn send_error(socket: BorrowedFd<'_>, err: &anyhow::Error) {
    let message = Message::Failed(Told::of(err));
    let bytes = serde_json::to_vec(&message).unwrap_or_default();
    // Nobody is left to tell when the other end is gone.
    socket::send(socket, &bytes, None).ok();
}

pub fn send_created(socket: BorrowedFd<'_>) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Message::Created)?;
    socket::send(socket, &bytes, None)?;
    Ok(())
}

pub fn send_waiting(socket: BorrowedFd<'_>) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Message::Waiting)?;
    socket::send(socket, &bytes, None)?;
    Ok(())
}

pub fn send_ready(socket: BorrowedFd<'_>) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Message::Ready)?;
    socket::send(socket, &bytes, None)?;
    Ok(())
}

pub fn send_descriptor(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>, pid: i32) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Message::Descriptor { pid })?;
    socket::send(socket, &bytes, Some(fd))?;
    Ok(())
}

pub fn send_listener(socket: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(&Message::Listener)?;
    socket::send(socket, &bytes, Some(listener))?;
    Ok(())
}

/// The next message; an error that the other side sent is returned as the error it was.
pub fn receive(socket: &OwnedFd) -> anyhow::Result<Received> {
    let mut buffer = vec![0; LIMIT];
    let packet = socket::receive(socket.as_fd(), &mut buffer)?;
    if packet.length == 0 {
        return Ok(Received::End);
    }
    let descriptor =
        |fd: Option<OwnedFd>| fd.context("a descriptor was announced and did not come");
    match serde_json::from_slice(&buffer[..packet.length])? {
        Message::Descriptor { pid } => Ok(Received::Descriptor(descriptor(packet.fd)?, pid)),
        Message::Listener => Ok(Received::Listener(descriptor(packet.fd)?)),
        Message::Created => Ok(Received::Created),
        Message::Waiting => Ok(Received::Waiting),
        Message::Ready => Ok(Received::Ready),
        Message::Failed(told) => Err(told.into_error()),
    }
}
