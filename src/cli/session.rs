//! A command's own streams joined with those of a container: terminal in raw mode, signals passed
//! on, window size followed, keys to leave by.

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
use crate::text::keys::Keys;
use crate::text::keys::Watch;

/// Signals that are none of the container's: of our own children, pipes and sockets, and those by which
/// a shell stops and continues a job, which is the command. 32 and 33 are the C library's.
const OURS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    32,
    33,
];

/// Those that end the command, where it does not pass them on.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Bytes read from standard input at once. Keys held back from the reads before may go in front.
const INPUT: usize = PAYLOAD / 2;

/// What a session joins.
pub struct Wishes {
    /// Our standard input goes to the container.
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub proxy_signals: bool,
    /// To leave by, at a terminal.
    pub keys: Keys,
}

impl Wishes {
    /// All streams.
    pub fn all(stdin: bool, proxy_signals: bool, keys: Keys) -> Wishes {
        Wishes {
            stdin,
            stdout: true,
            stderr: true,
            proxy_signals,
            keys,
        }
    }
}

/// How a session ended.
pub enum End {
    Exited(Exit),
    Detached,
    /// By a signal to the command, which was not to be passed on.
    Signalled(i32),
    /// The container went on without us: we did not take what it wrote.
    LeftBehind,
    /// The supervisor is gone without a word.
    Lost,
}

/// Blocks the signals that will be passed on, and those that must not end us before the terminal is as
/// it was; before the container is started, so that none is lost.
pub fn catch_signals(proxy: bool) -> anyhow::Result<OwnedFd> {
    let all = (1..=signal::LAST).filter(|number| !OURS.contains(number));
    let own = ENDING.into_iter().chain([libc::SIGWINCH]);
    let caught: Vec<i32> = if proxy { all.collect() } else { own.collect() };
    Ok(signal::signal_fd(&caught)?)
}

/// Rows and columns of the terminal that we were started from, if it has a size.
pub fn size() -> Option<(u16, u16)> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let mut sizes = [stdin.as_fd(), stdout.as_fd()].into_iter();
    sizes.find_map(|fd| terminal::size(fd).filter(|size| *size != (0, 0)))
}

/// Serves until the container ends, or the person leaves. `terminal`: the container has one.
pub fn serve(
    connection: &Connection,
    signals: &OwnedFd,
    terminal: bool,
    wishes: Wishes,
) -> anyhow::Result<End> {
    let stdin = std::io::stdin();
    let stdin = stdin.as_fd();
    let raw = if terminal && wishes.stdin && std::io::stdin().is_terminal() {
        Some(Raw::enter(stdin).context("cannot set the terminal to raw mode")?)
    } else {
        None
    };
    let mut session = Session {
        connection,
        signals,
        terminal,
        stdin_open: wishes.stdin,
        input_sent: false,
        keys: raw.is_some().then(|| Watch::for_keys(wishes.keys.clone())),
        wishes,
        buffer: vec![0; PACKET],
    };
    session.resize();
    session.run(stdin)
}

struct Session<'a> {
    connection: &'a Connection,
    signals: &'a OwnedFd,
    terminal: bool,
    wishes: Wishes,
    stdin_open: bool,
    /// The supervisor has not yet said that it took our last input.
    input_sent: bool,
    keys: Option<Watch>,
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
            if signal && let Some(end) = self.take_signal() {
                return Ok(end);
            }
            if input && let Some(end) = self.read_input(stdin) {
                return Ok(end);
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
            Some(Reply::Stdout(bytes)) if self.wishes.stdout => {
                let written = write_all(std::io::stdout().as_fd(), bytes);
                self.written(Stream::Stdout, written)?;
            }
            Some(Reply::Stderr(bytes)) if self.wishes.stderr => {
                let written = write_all(std::io::stderr().as_fd(), bytes);
                self.written(Stream::Stderr, written)?;
            }
            Some(Reply::Taken) => self.input_sent = false,
            Some(Reply::Exit(exit)) => return Ok(Some(End::Exited(exit))),
            Some(Reply::LeftBehind) => return Ok(Some(End::LeftBehind)),
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

    fn take_signal(&mut self) -> Option<End> {
        match signal::read_signal(self.signals.as_fd()) {
            Ok(Some(libc::SIGWINCH)) if self.terminal => self.resize(),
            Ok(Some(number)) if self.wishes.proxy_signals => {
                self.connection.send(&Request::Signal(number)).ok();
            }
            Ok(Some(number)) if ENDING.contains(&number) => return Some(End::Signalled(number)),
            _ => {}
        }
        None
    }

    fn resize(&self) {
        if let (true, Some((rows, columns))) = (self.terminal, size()) {
            self.connection
                .send(&Request::Resize { rows, columns })
                .ok();
        }
    }

    fn read_input(&mut self, stdin: BorrowedFd<'_>) -> Option<End> {
        let length = match rustix::io::read(stdin, &mut self.buffer[..INPUT]) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return None,
            // EIO: a background process group's terminal, or one that hung up.
            Err(_) => 0,
        };
        if length == 0 && self.keys.is_some() {
            // A raw terminal has no end of input but this: it hung up, and the person is gone.
            if self.wishes.proxy_signals {
                self.connection.send(&Request::Signal(libc::SIGHUP)).ok();
            }
            return Some(End::Signalled(libc::SIGHUP));
        }
        if length == 0 {
            self.stdin_open = false;
            self.connection.send(&Request::StdinClosed).ok();
            return None;
        }
        let input = &self.buffer[..length];
        let (passed, detached) = match &mut self.keys {
            Some(keys) => keys.filter(input),
            None => (input.to_vec(), false),
        };
        if !passed.is_empty() {
            self.input_sent = true;
            // It may have ended just now; its exit is on the way.
            self.connection.send(&Request::Stdin(&passed)).ok();
        }
        detached.then_some(End::Detached)
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
