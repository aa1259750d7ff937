//! The point between "created" and "running" for a container that is made by one process and started by another.
//!
//! ```text
//!  creator                      init                                starter
//!  -------                      ----                                -------
//!         <--------- "waiting"  all is set up
//!  notes the container down
//!  "noted" ------------------>  lives on without the creator
//!  ends                         waits at its mailbox <-------------  one end of a new socket
//!                               startContainer hooks, the command
//!                                          ready, or {"failed"} -->
//! ```
//!
//! * The mailbox is a datagram socket in the container's directory. Somebody has it exactly as long as the container is
//!   created and not started: it is closed by the execution of the command, and with its process.
//! * A socket that comes too late for init, since another was first, is closed with the mailbox; its sender hears the end.
//! * Without "noted" init ends: it is known to nobody.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;

use crate::error::Kind;
use crate::error::fail;
use crate::runtime::report;
use crate::runtime::report::Received;
use crate::sys::process;
use crate::sys::socket;

/// The name of the mailbox in the container's directory.
const NAME: &str = "start.sock";

/// Where init waits for its start.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Gate {
    /// Makes it in the directory of the container.
    pub fn make(dir: BorrowedFd<'_>) -> anyhow::Result<Gate> {
        Ok(Gate(socket::mailbox(dir, NAME)?))
    }

    /// In init: waits for the start, and returns the socket that takes the place of `report`.
    pub fn wait(&self, report: &OwnedFd) -> anyhow::Result<OwnedFd> {
        // Must: before the creator may end. From here on the end of its socket tells of its death.
        process::set_parent_death_signal(0)?;
        report::send_waiting(report.as_fd())?;
        let mut byte = [0];
        let noted = socket::receive(report.as_fd(), &mut byte)?;
        ensure!(noted.length == 1, "who made it has ended");
        let started = socket::receive(self.0.as_fd(), &mut byte)?;
        started.fd.context("a start came without its socket")
    }
}

/// In the creator: init may go on without it.
pub fn release(report: &OwnedFd) -> anyhow::Result<()> {
    Ok(socket::send(report.as_fd(), b"n", None)?)
}

/// Whether a container waits for its start.
pub fn is_waiting(dir: BorrowedFd<'_>) -> anyhow::Result<bool> {
    Ok(socket::open_mailbox(dir, NAME)?.is_some())
}

/// Starts a container that waits for it. `pass_on` gets the listener of its filter, if that has one and was not
/// installed before.
pub fn start(
    dir: BorrowedFd<'_>,
    pass_on: &dyn Fn(OwnedFd) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let not_waiting = || fail(Kind::WrongStatus, "it does not wait for its start");
    let Some(mailbox) = socket::open_mailbox(dir, NAME)? else {
        return Err(not_waiting());
    };
    let (ours, theirs) = socket::pair()?;
    socket::send(mailbox.as_fd(), b"s", Some(theirs.as_fd())).map_err(|_| not_waiting())?;
    drop((mailbox, theirs));
    let mut ready = false;
    let mut heard = false;
    loop {
        match report::receive(&ours)? {
            Received::Listener(fd) if !ready => pass_on(fd)?,
            Received::Ready => ready = true,
            Received::End if ready => return Ok(()),
            Received::End if !heard => return Err(not_waiting()),
            Received::End => bail!("its init died before the command was executed"),
            Received::Waiting | Received::Created => heard = true,
            // The trampoline, which other processes of the container can get hold of, has only errors to tell.
            Received::Descriptor(..) | Received::Listener(_) => {}
        }
    }
}
