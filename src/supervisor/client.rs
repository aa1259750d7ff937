//! One connection to a supervisor: what it wants to hear, and what it has not taken yet.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::supervisor::protocol::Reply;

/// Bytes queued for one client from which on the container has to wait for it, as a
/// program waits that writes to a full pipe.
const FULL: usize = 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    Nothing,
    Exit,
    Streams,
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
        }
    }

    pub fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Queues a reply that this client wants to hear.
    pub fn tell(&mut self, reply: &Reply<'_>) {
        let wanted = match reply {
            Reply::Stdout(_) | Reply::Stderr(_) => self.hears == Hears::Streams,
            Reply::Exit(_) => self.hears != Hears::Nothing,
            Reply::Started | Reply::Failed(_) | Reply::Taken => true,
        };
        if wanted {
            let packet = reply.encode();
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
