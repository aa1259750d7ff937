//! A command's own streams joined with those of a container: terminal in raw mode, signals passed
//! on, window size followed, detach keys.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::container::log::Stream;
use crate::engine::connect::Connection;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::PAYLOAD;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::signal;
use crate::sys::socket;
use crate::sys::terminal;
use crate::sys::terminal::Raw;

/// Signals that go on to the container: all that a person or a service manager sends.
const PROXIED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// Bytes read from standard input at once. A ctrl-p held back from the read before may go in front.
const INPUT: usize = PAYLOAD - 1;

/// What a session joins.
#[derive(Clone, Copy)]
pub struct Wishes {
    /// Our standard input goes to the container.
    pub stdin: bool,
    /// The container has a terminal.
    pub terminal: bool,
    pub proxy_signals: bool,
}

/// How a session ended.
pub enum End {
    Exited(Exit),
    Detached,
    /// The supervisor is gone without a word.
    Lost,
}

/// Blocks the signals that will be passed on; before the container is started, so that none is lost.
pub fn catch_signals() -> anyhow::Result<OwnedFd> {
    Ok(signal::signal_fd(&PROXIED)?)
}

/// Rows and columns of the terminal that we were started from.
pub fn size() -> Option<(u16, u16)> {
    terminal::size(std::io::stdin().as_fd()).or_else(|| terminal::size(std::io::stdout().as_fd()))
}

/// The detach sequence of Docker and Podman: ctrl-p, ctrl-q.
#[derive(Default)]
struct DetachKeys {
    after_first: bool,
}

impl DetachKeys {
    const FIRST: u8 = 0x10;
    const SECOND: u8 = 0x11;

    /// What of the input goes on, and whether the sequence was typed.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len() + 1);
        for byte in input {
            match (self.after_first, *byte) {
                (true, Self::SECOND) => return (passed, true),
                (true, Self::FIRST) => passed.push(Self::FIRST),
                (true, byte) => {
                    self.after_first = false;
                    passed.extend([Self::FIRST, byte]);
                }
                (false, Self::FIRST) => self.after_first = true,
                (false, byte) => passed.push(byte),
            }
        }
        (passed, false)
    }
}

/// Serves until the container ends, or the person detaches.
pub fn serve(connection: &Connection, signals: &OwnedFd, wishes: Wishes) -> anyhow::Result<End> {
    let stdin = std::io::stdin();
    let stdin = stdin.as_fd();
    let raw = if wishes.terminal && wishes.stdin && std::io::stdin().is_terminal() {
        Some(Raw::enter(stdin).context("cannot set the terminal to raw mode")?)
    } else {
        None
    };
    let mut session = Session {
        connection,
        signals,
        wishes,
        stdin_open: wishes.stdin,
        input_sent: false,
        detach: raw.is_some().then(DetachKeys::default),
        buffer: vec![0; PACKET],
    };
    session.resize();
    session.run(stdin)
}

struct Session<'a> {
    connection: &'a Connection,
    signals: &'a OwnedFd,
    wishes: Wishes,
    stdin_open: bool,
    /// The supervisor has not yet said that it took our last input.
    input_sent: bool,
    detach: Option<DetachKeys>,
    buffer: Vec<u8>,
}

impl Session<'_> {
    fn run(&mut self, stdin: BorrowedFd<'_>) -> anyhow::Result<End> {
        loop {
            let [heard, signal, input] = poll::readable(
                [
                    Some(self.connection.socket.as_fd()),
                    Some(self.signals.as_fd()),
                    (self.stdin_open && !self.input_sent).then_some(stdin),
                ],
                None,
            )?;
            if signal {
                self.pass_signal();
            }
            if input && self.read_input(stdin) {
                return Ok(End::Detached);
            }
            if heard && let Some(end) = self.hear()? {
                return Ok(end);
            }
        }
    }

    fn hear(&mut self) -> anyhow::Result<Option<End>> {
        let packet = socket::receive(self.connection.socket.as_fd(), &mut self.buffer);
        let length = packet.map_or(0, |packet| packet.length);
        if length == 0 {
            return Ok(Some(End::Lost));
        }
        match Reply::decode(&self.buffer[..length]) {
            Some(Reply::Stdout(bytes)) => {
                let written = write_all(std::io::stdout().as_fd(), bytes);
                self.written(Stream::Stdout, written)?;
            }
            Some(Reply::Stderr(bytes)) => {
                let written = write_all(std::io::stderr().as_fd(), bytes);
                self.written(Stream::Stderr, written)?;
            }
            Some(Reply::Taken) => self.input_sent = false,
            Some(Reply::Exit(exit)) => return Ok(Some(End::Exited(exit))),
            _ => {}
        }
        Ok(None)
    }

    /// A reader that has gone away is the container's affair: it finds its own pipe closed.
    fn written(&self, stream: Stream, result: rustix::io::Result<()>) -> anyhow::Result<()> {
        match result {
            Err(Errno::PIPE) => {
                // It may have ended just now; its exit is on the way.
                self.connection.send(&Request::OutputClosed(stream)).ok();
                Ok(())
            }
            result => result.context("cannot write the container's output"),
        }
    }

    fn pass_signal(&mut self) {
        match signal::read_signal(self.signals.as_fd()) {
            Ok(Some(libc::SIGWINCH)) => self.resize(),
            Ok(Some(number)) if self.wishes.proxy_signals => {
                self.connection.send(&Request::Signal(number)).ok();
            }
            _ => {}
        }
    }

    fn resize(&self) {
        if let (true, Some((rows, columns))) = (self.wishes.terminal, size()) {
            self.connection
                .send(&Request::Resize { rows, columns })
                .ok();
        }
    }

    /// Whether the person detached.
    fn read_input(&mut self, stdin: BorrowedFd<'_>) -> bool {
        let length = match rustix::io::read(stdin, &mut self.buffer[..INPUT]) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return false,
            // EIO: a background process group's terminal, or one that hung up.
            Err(_) => 0,
        };
        if length == 0 {
            self.stdin_open = false;
            self.connection.send(&Request::StdinClosed).ok();
            return false;
        }
        let input = &self.buffer[..length];
        let (passed, detached) = match &mut self.detach {
            Some(keys) => keys.filter(input),
            None => (input.to_vec(), false),
        };
        if !passed.is_empty() {
            self.input_sent = true;
            // It may have ended just now; its exit is on the way.
            self.connection.send(&Request::Stdin(&passed)).ok();
        }
        detached
    }
}

/// Writes all of it.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                process::retry(|| rustix::event::poll(&mut fds, None))?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_sequence_may_come_in_pieces_and_other_keys_pass() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.filter(b"y"), (b"\x10y".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11z"), (b"".to_vec(), true));
    }
}
