//! Our streams joined with those of a command: pipes, or a terminal that it has.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cli::session;
use crate::cli::session::write_all;
use crate::engine::exec::keeper::Kept;
use crate::runtime::Stdio;
use crate::runtime::exec::Joined;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::terminal;
use crate::sys::terminal::Raw;
use crate::text::keys::Keys;
use crate::text::keys::Watch;

/// Our ends of the pipes of a command without a terminal.
pub struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    /// Pipes, never our own streams: those may be the caller's terminal or files, which a
    /// container could open again through /proc/self/fd with other rights.
    pub fn new(interactive: bool, terminal: bool) -> anyhow::Result<(Streams, Option<Stdio>)> {
        let none = Streams {
            stdin: None,
            stdout: None,
            stderr: None,
        };
        if terminal {
            return Ok((none, None));
        }
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe");
        let (stdout, their_stdout) = pipe()?;
        let (stderr, their_stderr) = pipe()?;
        let (their_stdin, stdin) = if interactive {
            let (theirs, ours) = pipe()?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            (theirs, Some(ours))
        } else {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            (
                rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?,
                None,
            )
        };
        let theirs = Stdio {
            stdin: their_stdin,
            stdout: their_stdout,
            stderr: their_stderr,
        };
        let ours = Streams {
            stdin,
            stdout: Some(stdout),
            stderr: Some(stderr),
        };
        Ok((ours, Some(theirs)))
    }
}

/// Whose end we wait for.
enum Command {
    Child(process::Child),
    Kept(Kept),
}

impl Command {
    fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Command::Child(child) => child.pidfd.as_fd(),
            Command::Kept(kept) => kept.pidfd.as_fd(),
        }
    }

    /// To be read when it has ended.
    fn end(&self) -> BorrowedFd<'_> {
        match self {
            Command::Child(child) => child.pidfd.as_fd(),
            Command::Kept(kept) => kept.keeper().as_fd(),
        }
    }

    fn status(&self) -> anyhow::Result<i32> {
        let exit = match self {
            Command::Child(child) => process::wait(child.pidfd.as_fd())?,
            Command::Kept(kept) => kept.exit()?,
        };
        Ok(exit.status)
    }
}

/// Our streams joined with those of the command.
pub struct Session {
    command: Command,
    streams: Streams,
    /// To leave by.
    keys: Keys,
    terminal: bool,
    reads_stdin: bool,
    /// Input that the command has not taken yet; no more is read until it has.
    pending: Vec<u8>,
    buffer: Vec<u8>,
}

impl Session {
    pub fn new(joined: Joined, streams: Streams, interactive: bool) -> anyhow::Result<Session> {
        let command = Command::Child(joined.command);
        Session::of(command, joined.terminal, streams, interactive)
    }

    /// With a command that goes on when the person leaves.
    pub fn of_kept(mut kept: Kept, interactive: bool, keys: Keys) -> anyhow::Result<Session> {
        let (streams, _) = Streams::new(interactive, true)?;
        let terminal = kept.terminal.take();
        let session = Session::of(Command::Kept(kept), terminal, streams, interactive)?;
        Ok(Session { keys, ..session })
    }

    fn of(
        command: Command,
        terminal: Option<OwnedFd>,
        mut streams: Streams,
        interactive: bool,
    ) -> anyhow::Result<Session> {
        let has_terminal = terminal.is_some();
        if let Some(master) = terminal {
            rustix::io::ioctl_fionbio(&master, true)?;
            streams.stdin = Some(master.try_clone()?);
            streams.stdout = Some(master);
        }
        Ok(Session {
            command,
            streams,
            keys: Keys::default(),
            terminal: has_terminal,
            reads_stdin: interactive,
            pending: vec![],
            buffer: vec![0; 64 * 1024],
        })
    }

    /// The status of the command, or 0 when the person left.
    pub fn run(mut self, signals: &OwnedFd) -> anyhow::Result<i32> {
        let stdin = std::io::stdin();
        let raw = (self.terminal && self.reads_stdin && std::io::stdin().is_terminal())
            .then(|| Raw::enter(stdin.as_fd()))
            .transpose()?;
        let keys = std::mem::take(&mut self.keys);
        let watch = raw.is_some().then(|| Watch::for_keys(keys));
        let status = self.serve(stdin.as_fd(), signals, watch);
        drop(raw);
        status
    }

    /// Serves until the command has ended and what it wrote has been read, or the person leaves.
    fn serve(
        &mut self,
        stdin: BorrowedFd<'_>,
        signals: &OwnedFd,
        mut watch: Option<Watch>,
    ) -> anyhow::Result<i32> {
        loop {
            let [signal, input, room, stdout, stderr, ended] = self.wait(stdin, signals)?;
            if signal {
                self.pass_signal(signals);
            }
            if input && self.read_input(stdin, watch.as_mut()) {
                return Ok(0);
            }
            if room {
                self.write_pending();
            }
            if stdout {
                pass(
                    &mut self.streams.stdout,
                    std::io::stdout().as_fd(),
                    &mut self.buffer,
                )?;
            }
            if stderr {
                pass(
                    &mut self.streams.stderr,
                    std::io::stderr().as_fd(),
                    &mut self.buffer,
                )?;
            }
            if ended {
                let status = self.command.status();
                self.drain()?;
                return status;
            }
        }
    }

    /// Waits for a signal, our input, room in the command's, its two outputs, or its end.
    fn wait(&self, stdin: BorrowedFd<'_>, signals: &OwnedFd) -> anyhow::Result<[bool; 6]> {
        let read = |fd| (fd, PollFlags::IN);
        let streams = &self.streams;
        let idle = self.pending.is_empty();
        let room = streams.stdin.as_ref().filter(|_| !idle);
        let fds = [
            Some(read(signals.as_fd())),
            (self.reads_stdin && idle).then_some(read(stdin)),
            room.map(|fd| (fd.as_fd(), PollFlags::OUT)),
            streams.stdout.as_ref().map(|fd| read(fd.as_fd())),
            streams.stderr.as_ref().map(|fd| read(fd.as_fd())),
            Some(read(self.command.end())),
        ];
        Ok(poll::ready(fds, None)?)
    }

    /// Passes on what the command wrote before it ended. A process that it left behind may hold
    /// the streams open, and nobody waits for that.
    fn drain(&mut self) -> anyhow::Result<()> {
        let streams = &mut self.streams;
        for (from, to) in [
            (&mut streams.stdout, std::io::stdout().as_fd()),
            (&mut streams.stderr, std::io::stderr().as_fd()),
        ] {
            while let [true] =
                poll::readable([from.as_ref().map(AsFd::as_fd)], Some(Duration::ZERO))?
            {
                pass(from, to, &mut self.buffer)?;
            }
        }
        Ok(())
    }

    fn pass_signal(&self, signals: &OwnedFd) {
        match signal::read_signal(signals.as_fd()) {
            Ok(Some(libc::SIGWINCH)) => {
                if let (true, Some(master), Some((rows, columns))) =
                    (self.terminal, &self.streams.stdout, session::size())
                {
                    terminal::set_size(master.as_fd(), rows, columns).ok();
                }
            }
            Ok(Some(number)) => {
                // It may have ended just now.
                signal::send(self.command.pidfd(), number).ok();
            }
            _ => {}
        }
    }

    /// Whether the person leaves. `watch`: at a terminal in raw mode.
    fn read_input(&mut self, stdin: BorrowedFd<'_>, watch: Option<&mut Watch>) -> bool {
        let length = match rustix::io::read(stdin, &mut self.buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return false,
            result => result.unwrap_or(0),
        };
        if length == 0 && watch.is_some() {
            // A raw terminal has no end of input but this: it hung up, and so does the command's.
            signal::send(self.command.pidfd(), libc::SIGHUP).ok();
            return true;
        }
        if length == 0 {
            self.reads_stdin = false;
            if !self.terminal {
                self.streams.stdin = None;
            }
            return false;
        }
        let typed = &self.buffer[..length];
        let (passed, leaves) = match watch {
            Some(watch) => watch.filter(typed),
            None => (typed.to_vec(), false),
        };
        self.pending.extend(passed);
        self.write_pending();
        leaves
    }

    /// Never blocks: the command may be waiting for us to take its output first.
    fn write_pending(&mut self) {
        while let (Some(to), false) = (&self.streams.stdin, self.pending.is_empty()) {
            match rustix::io::write(to, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // EPIPE, EIO: the command has closed its input.
                Err(_) => {
                    self.pending.clear();
                    self.reads_stdin = false;
                    if !self.terminal {
                        self.streams.stdin = None;
                    }
                }
            }
        }
    }
}

/// Passes on what one read gives; an end closes the stream.
fn pass(from: &mut Option<OwnedFd>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> anyhow::Result<()> {
    let Some(fd) = from else {
        return Ok(());
    };
    match rustix::io::read(&*fd, &mut *buffer) {
        Err(Errno::INTR | Errno::AGAIN) => Ok(()),
        Ok(length) if length > 0 => match write_all(to, &buffer[..length]) {
            // The reader has gone away: the command finds its own pipe closed.
            Err(Errno::PIPE) => {
                *from = None;
                Ok(())
            }
            result => result.context("cannot write the command's output"),
        },
        // Linux: a master gives EIO when the last slave is closed (pty(7)).
        _ => {
            *from = None;
            Ok(())
        }
    }
}
