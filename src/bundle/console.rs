//! The terminal of a container for whoever holds it: its master goes over the socket of `--console-socket`.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;

use crate::error::Kind;
use crate::error::fail;
use crate::sys::socket;

/// Where the terminal goes, which must be known if and only if there is one that nobody here holds.
pub fn check(terminal: bool, socket: Option<&Path>) -> anyhow::Result<()> {
    match (terminal, socket) {
        (true, None) => Err(fail(
            Kind::Usage,
            "process.terminal is true and nobody here would hold the terminal: expected --console-socket",
        )),
        (false, Some(_)) => Err(fail(
            Kind::Usage,
            "--console-socket is given and process.terminal is not true",
        )),
        _ => Ok(()),
    }
}

/// Connects early: where nobody listens nothing is to be made.
pub fn connect(path: &Path) -> anyhow::Result<OwnedFd> {
    socket::connect_stream(path)
        .with_context(|| format!("cannot connect to socket {}", path.display()))
}

pub fn send(socket: &OwnedFd, master: &OwnedFd) -> anyhow::Result<()> {
    // As runc does: some bytes have to go with a descriptor, and these are the name of what it is.
    socket::send(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd()))
        .context("cannot send the terminal over the console socket")
}

pub fn send_pidfd(socket: &OwnedFd, pidfd: &OwnedFd) -> anyhow::Result<()> {
    socket::send(socket.as_fd(), b"pidfd", Some(pidfd.as_fd()))
        .context("cannot send the pidfd over its socket")
}
