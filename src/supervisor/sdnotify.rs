//! What a service manager hears of the container, in the protocol of sd_notify(3): from us, and from the
//! container's own programs over a socket that we have put into it.
//!
//! The container is not believed more than it may say of itself. A message of its own goes on as the
//! assignments that are allowed, and all that is more stays here: MAINPID and NOTIFYACCESS would put
//! another process in our place, FDSTORE keeps descriptors in the manager, and what the manager waits for
//! (BARRIER) is answered here, by closing the descriptor that came along.

use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::net::SocketAddrUnix;
use rustix::time::ClockId;

use crate::container::config::sdnotify::SdNotify;
use crate::sys::datagram;

/// The socket file in the runtime directory of a container.
pub const SOCKET: &str = "notify";

/// systemd: longer messages are not read (NOTIFY_BUFFER_MAX).
const LONGEST: usize = 4096;

/// Characters of a status; a line for people.
const STATUS: usize = 256;

/// What a supervisor is to tell, and to whom.
#[derive(Clone, Debug)]
pub struct Order {
    pub address: SocketAddrUnix,
    pub who: SdNotify,
    /// The process that the manager started ends when the container runs: we are the service then.
    pub main: bool,
}

/// The two ends.
pub struct Notifier {
    order: Order,
    socket: OwnedFd,
    /// Where the container's programs speak.
    inside: Option<OwnedFd>,
    ready: bool,
    unhealthy: bool,
}

impl Notifier {
    /// `run` is the runtime directory of the container.
    pub fn new(order: Order, run: BorrowedFd<'_>) -> anyhow::Result<Notifier> {
        let inside = match order.who {
            SdNotify::Container => Some(datagram::bind(run, SOCKET)?),
            _ => None,
        };
        Ok(Notifier {
            order,
            socket: datagram::new()?,
            inside,
            ready: false,
            unhealthy: false,
        })
    }

    /// The container runs.
    pub fn started(&self) {
        let mut message = String::new();
        if self.order.main {
            let _ = writeln!(message, "MAINPID={}", std::process::id());
        }
        if self.order.who == SdNotify::Conmon {
            message.push_str("READY=1\n");
        }
        self.send(&message);
    }

    /// Its health check has succeeded. The first time it is ready.
    pub fn healthy(&mut self) {
        if self.order.who == SdNotify::Healthy && !self.ready {
            self.ready = true;
            self.send("READY=1\n");
        }
    }

    /// It is stopped for its health check: a failure, although we have asked for it.
    pub fn unhealthy(&mut self) {
        self.unhealthy = true;
    }

    /// How we end, whom the manager takes for the service: as the container did. One that was asked to end
    /// and ended by a signal, or as if by one, has done what it was asked for.
    pub fn status(&self, status: i32, asked: bool) -> i32 {
        if !self.order.main || asked && !self.unhealthy && status > 128 {
            0
        } else {
            status
        }
    }

    /// To be waited for.
    pub fn inside(&self) -> Option<BorrowedFd<'_>> {
        self.inside.as_ref().map(AsFd::as_fd)
    }

    /// Passes on one message of the container; whether there was one.
    pub fn pass_on(&self) -> bool {
        let mut buffer = [0; LONGEST];
        let message = self
            .inside
            .as_ref()
            .and_then(|inside| datagram::receive(inside, &mut buffer));
        if let Some(message) = message {
            self.send(&allowed(message, microseconds));
        }
        message.is_some()
    }

    /// A manager that does not listen is its own affair.
    fn send(&self, message: &str) {
        if !message.is_empty() {
            datagram::send(&self.socket, message.as_bytes(), &self.order.address).ok();
        }
    }
}

/// What of a message goes on; `now` is a time of CLOCK_MONOTONIC in microseconds.
fn allowed(message: &[u8], now: impl Fn() -> u64) -> String {
    let mut passed = String::new();
    let Ok(message) = str::from_utf8(message) else {
        return passed;
    };
    for line in message.lines() {
        match line.split_once('=') {
            Some(("READY" | "STOPPING" | "WATCHDOG", "1")) => {
                passed.push_str(line);
                passed.push('\n');
            }
            Some(("RELOADING", "1")) => {
                // The container's clock may be another one (time_namespaces(7)).
                let _ = write!(passed, "RELOADING=1\nMONOTONIC_USEC={}\n", now());
            }
            Some(("STATUS", text)) => {
                // It is shown on terminals.
                let text = text.chars().filter(|letter| !letter.is_control());
                passed.push_str("STATUS=");
                passed.extend(text.take(STATUS));
                passed.push('\n');
            }
            Some(("ERRNO", number)) if number.parse::<u16>().is_ok() => {
                passed.push_str(line);
                passed.push('\n');
            }
            _ => {}
        }
    }
    passed
}

fn microseconds() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_speaks_for_itself_alone() {
        for (said, passed) in [
            (&b"READY=1"[..], "READY=1\n"),
            (b"READY=1\nMAINPID=1\nSTATUS=up\n", "READY=1\nSTATUS=up\n"),
            (b"FDSTORE=1\nFDNAME=x", ""),
            (b"BARRIER=1", ""),
            (b"NOTIFYACCESS=all\nMAINPIDFDID=1\nMAINPID=1", ""),
            (b"READY=0\nREADY=\nREADY", ""),
            (
                b"WATCHDOG=trigger\nWATCHDOG_USEC=1\nWATCHDOG=1",
                "WATCHDOG=1\n",
            ),
            (b"EXTEND_TIMEOUT_USEC=99999999999", ""),
            (
                b"RELOADING=1\nMONOTONIC_USEC=99999999999999",
                "RELOADING=1\nMONOTONIC_USEC=7\n",
            ),
            (b"STOPPING=1\nERRNO=2\nERRNO=x", "STOPPING=1\nERRNO=2\n"),
            (b"STATUS=a\x1b[2Jb\x07", "STATUS=a[2Jb\n"),
            (b"STATUS=a\rMAINPID=1", "STATUS=aMAINPID=1\n"),
            (b"READY=1\xff", ""),
            (b"", ""),
        ] {
            assert_eq!(allowed(said, || 7), passed, "{said:?}");
        }
        let long = [&b"STATUS="[..], &[b'x'; 4000]].concat();
        assert_eq!(allowed(&long, || 7).len(), "STATUS=\n".len() + STATUS);
    }
}
