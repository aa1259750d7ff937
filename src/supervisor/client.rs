//! One connection to a supervisor: what it wants to hear, and what it has not taken yet.
//!
//! A client that reads slowly makes the container wait, as a full pipe does, and nothing of what it hears is
//! dropped. Only the command that started the container may do so without end, since a pipe or a terminal
//! behind it could be the container's own; of the others one that takes nothing for `PATIENCE` is left behind.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::supervisor::protocol::Reply;

/// Bytes queued for one client from which on the container has to wait for it, as a
/// program waits that writes to a full pipe.
const FULL: usize = 1024 * 1024;

/// How long a client that did not start the container may keep it waiting.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    Nothing,
    Exit,
    Streams,
    /// The result of the first health check with at least this number.
    Check(u64),
}

pub struct Client {
    pub socket: OwnedFd,
    pub hears: Hears,
    /// The command that started the container: its end of input is the container's.
    pub foreground: bool,
    /// It has closed the connection, and everything it sent was read.
    pub gone: bool,
    /// It has sent input, and sends more when it hears that this was taken.
    pub awaits_taken: bool,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// When it took something last, or had nothing to take.
    took: Instant,
    left_behind: bool,
}

impl Client {
    pub fn new(socket: OwnedFd, hears: Hears, foreground: bool) -> Client {
        Client {
            socket,
            hears,
            foreground,
            gone: false,
            awaits_taken: false,
            queue: VecDeque::new(),
            queued: 0,
            took: Instant::now(),
            left_behind: false,
        }
    }

    pub fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    /// The moment from which on the container waits no longer for it; of one that it waits for.
    pub fn patience_ends(&self) -> Option<Instant> {
        (self.is_full() && !self.foreground).then(|| self.took + PATIENCE)
    }

    /// The same for the last that it is told, after which nobody waits for it.
    pub fn farewell_ends(&self) -> Option<Instant> {
        (self.has_queue() && !self.foreground).then(|| self.took + PATIENCE)
    }

    /// Leaves it behind if its time is over: it hears that, and nothing else any more.
    pub fn keep_patience(&mut self) {
        if self.patience_ends().is_some_and(|at| at <= Instant::now()) {
            self.queue.clear();
            self.queued = 0;
            self.tell(&Reply::LeftBehind);
            self.left_behind = true;
            self.hears = Hears::Nothing;
        }
    }

    /// Whether there is no more to say to it.
    pub fn is_done(&self) -> bool {
        self.left_behind && self.queue.is_empty()
    }

    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Queues a reply that this client wants to hear.
    pub fn tell(&mut self, reply: &Reply<'_>) {
        let wanted = match reply {
            Reply::Stdout(_) | Reply::Stderr(_) => self.hears == Hears::Streams,
            Reply::Exit(_) => self.hears != Hears::Nothing,
            Reply::Started
            | Reply::Failed(_)
            | Reply::Taken
            | Reply::LeftBehind
            | Reply::Checked { .. } => true,
        };
        if wanted && !self.left_behind {
            let packet = reply.encode();
            if self.queue.is_empty() {
                self.took = Instant::now();
            }
            self.queued += packet.len();
            self.queue.push_back(packet);
        }
    }

    /// Sends what can be sent now; `false` when the client is gone.
    pub fn flush(&mut self) -> bool {
        while let Some(packet) = self.queue.front() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(self.socket.as_fd(), packet, flags) {
                Ok(_) => {
                    self.took = Instant::now();
                    self.queued -= packet.len();
                    self.queue.pop_front();
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    fn full(foreground: bool) -> (OwnedFd, Client) {
        let (ours, theirs) = socket::pair().unwrap();
        let mut client = Client::new(ours, Hears::Streams, foreground);
        while !client.is_full() {
            client.tell(&Reply::Stdout(&[b'x'; 1000]));
            assert!(client.flush());
        }
        (theirs, client)
    }

    #[test]
    fn who_takes_nothing_is_left_behind_and_hears_it() {
        let (theirs, mut client) = full(false);
        client.keep_patience();
        assert!(client.is_full(), "its time is not over");
        client.took = client.took.checked_sub(PATIENCE).unwrap();
        client.keep_patience();
        assert!(!client.is_full() && !client.is_done());
        client.tell(&Reply::Stdout(b"more"));
        let mut last = vec![];
        let mut buffer = [0; 2000];
        while !client.is_done() {
            assert!(client.flush());
            let length = socket::receive(theirs.as_fd(), &mut buffer).unwrap().length;
            last = buffer[..length].to_vec();
        }
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        while let Ok(packet) = socket::receive(theirs.as_fd(), &mut buffer) {
            last = buffer[..packet.length].to_vec();
        }
        assert_eq!(last, Reply::LeftBehind.encode());
    }

    #[test]
    fn the_command_that_started_the_container_is_waited_for() {
        let (_theirs, mut client) = full(true);
        client.took = client.took.checked_sub(PATIENCE).unwrap();
        client.keep_patience();
        assert!(client.is_full());
    }
}
