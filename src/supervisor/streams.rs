//! The container's standard streams as the supervisor holds them: two pipes and perhaps a third,
//! or the master of a pseudo-terminal.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::container::log::Stream;
use crate::runtime::Stdio;
use crate::supervisor::protocol::PAYLOAD;

/// Input of a client is not read while this much is waiting for the container to take it.
const PENDING: usize = 256 * 1024;

/// Linux: the end of input that a terminal's line discipline turns into an end of file.
const END_OF_TRANSMISSION: u8 = 4;

pub struct Streams {
    terminal: bool,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    pending: Vec<u8>,
    close_stdin: bool,
}

/// One of the descriptors to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
}

impl Streams {
    /// Pipes for a container without a terminal: our ends, and those of the container.
    pub fn pipes(interactive: bool) -> anyhow::Result<(Streams, Stdio)> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe");
        let (stdout, container_stdout) = pipe()?;
        let (stderr, container_stderr) = pipe()?;
        let (container_stdin, stdin) = if interactive {
            let (theirs, ours) = pipe()?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            (theirs, Some(ours))
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty())
                .context("cannot open /dev/null")?;
            (null, None)
        };
        for ours in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        let streams = Streams {
            terminal: false,
            stdin,
            stdout: Some(stdout),
            stderr: Some(stderr),
            pending: vec![],
            close_stdin: false,
        };
        let theirs = Stdio {
            stdin: container_stdin,
            stdout: container_stdout,
            stderr: container_stderr,
        };
        Ok((streams, theirs))
    }

    /// Of a container that has the streams of somebody else.
    pub fn none() -> Streams {
        Streams {
            terminal: false,
            stdin: None,
            stdout: None,
            stderr: None,
            pending: vec![],
            close_stdin: false,
        }
    }

    /// The master of a terminal.
    pub fn terminal(master: OwnedFd) -> anyhow::Result<Streams> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Streams {
            terminal: true,
            stdin: Some(master.try_clone()?),
            stdout: Some(master),
            stderr: None,
            pending: vec![],
            close_stdin: false,
        })
    }

    pub fn output(&self, output: Output) -> Option<&OwnedFd> {
        match output {
            Output::Stdout => self.stdout.as_ref(),
            Output::Stderr => self.stderr.as_ref(),
        }
    }

    /// The input, while something is waiting to be written to it.
    pub fn input_to_write(&self) -> Option<&OwnedFd> {
        self.stdin.as_ref().filter(|_| !self.pending.is_empty())
    }

    pub fn takes_input(&self) -> bool {
        self.pending.len() < PENDING
    }

    /// The terminal, for its size.
    pub fn as_terminal(&self) -> Option<&OwnedFd> {
        self.stdout.as_ref().filter(|_| self.terminal)
    }

    /// Reads what is there, once. `Ok(None)`: nothing now. An end closes the stream.
    pub fn read<'b>(&mut self, output: Output, buffer: &'b mut [u8]) -> Option<(Stream, &'b [u8])> {
        let (slot, stream) = match output {
            Output::Stdout => (&mut self.stdout, Stream::Stdout),
            Output::Stderr => (&mut self.stderr, Stream::Stderr),
        };
        let limit = buffer.len().min(PAYLOAD);
        match rustix::io::read(slot.as_ref()?.as_fd(), &mut buffer[..limit]) {
            Ok(length) if length > 0 => Some((stream, &buffer[..length])),
            Err(Errno::AGAIN | Errno::INTR) => None,
            // Linux: a master gives EIO when the last slave is closed (pty(7)).
            _ => {
                *slot = None;
                None
            }
        }
    }

    /// Closes our end of a pipe; a terminal stays.
    pub fn close_output(&mut self, stream: Stream) {
        match stream {
            _ if self.terminal => {}
            Stream::Stdout => self.stdout = None,
            Stream::Stderr => self.stderr = None,
        }
    }

    /// Takes input of a client; dropped when the container's input is closed.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.close_stdin {
            self.pending.extend_from_slice(bytes);
            self.write_pending();
        }
    }

    /// Ends the input once all that is pending has been taken.
    pub fn end_input(&mut self) {
        if self.terminal {
            self.feed(&[END_OF_TRANSMISSION]);
        } else {
            self.close_stdin = true;
            self.write_pending();
        }
    }

    pub fn write_pending(&mut self) {
        while let (Some(stdin), false) = (&self.stdin, self.pending.is_empty()) {
            match rustix::io::write(stdin, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // EPIPE, EIO: the container has closed its input.
                Err(_) => {
                    self.pending.clear();
                    self.stdin = None;
                }
            }
        }
        if self.close_stdin {
            self.stdin = None;
        }
    }
}
