//! Waiting for one of a few descriptors to become readable or writable.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;

use crate::sys::Call;
use crate::sys::Result;

/// Which of the descriptors can be read (or have hung up), after at most `limit`; a signal ends the
/// waiting early, with none of them.
pub fn readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    limit: Option<Duration>,
) -> Result<[bool; N]> {
    ready(fds.map(|fd| fd.map(|fd| (fd, PollFlags::IN))), limit)
}

/// The same, with the events to wait for beside each descriptor.
pub fn ready<const N: usize>(
    fds: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    limit: Option<Duration>,
) -> Result<[bool; N]> {
    Ok(events(fds, limit)?.map(|events| !events.is_empty()))
}

/// The same, telling what happened to each.
pub fn events<const N: usize>(
    fds: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    limit: Option<Duration>,
) -> Result<[PollFlags; N]> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let mut set: Vec<PollFd<'_>> = fds
        .iter()
        .flatten()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    match rustix::event::poll(&mut set, limit.as_ref()) {
        Err(Errno::INTR) => return Ok([PollFlags::empty(); N]),
        result => result.call(|| "poll".into())?,
    };
    let mut events = set.iter().map(PollFd::revents);
    Ok(fds.map(|fd| fd.and_then(|_| events.next()).unwrap_or(PollFlags::empty())))
}
