//! `rbox exec`.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cli::flags;
use crate::cli::session;
use crate::cli::session::write_all;
use crate::container;
use crate::container::record::Container;
use crate::engine;
use crate::engine::Engine;
use crate::engine::exec::Request;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Stdio;
use crate::runtime::exec::Joined;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;
use crate::sys::terminal;
use crate::sys::terminal::Raw;

/// Run a command in a running container
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox exec web cat /etc/hostname
  rbox exec -it web sh")]
pub struct Args {
    /// Take the container whose id stands in this file
    #[arg(long, value_name = "FILE", conflicts_with = "latest")]
    cidfile: Option<String>,

    /// Leave the command in the background
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    environment: flags::OwnVariables,

    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,

    /// Take the container that was created last
    #[arg(short, long)]
    latest: bool,

    /// Accepted for podman, and always so: rbox records no sessions
    #[arg(long, hide = true)]
    no_session: bool,

    #[command(flatten)]
    preserve: flags::PreserveFlags,

    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Run as this user: name or uid, and :group
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = flags::checked_user)]
    user: Option<String>,

    /// Set the working directory
    #[arg(short, long, value_name = "DIR", value_parser = flags::workdir)]
    workdir: Option<String>,

    /// The container, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true,
        value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let preserved = args.preserve.open()?;
    let mut words = args.container_and_command.into_iter();
    flags::refuse_flag(words.as_slice())?;
    let container = match args.cidfile {
        None if args.latest => latest(engine)?,
        None => Container::find(&engine.dirs, &words.next().unwrap_or_default())?,
        Some(path) => {
            let id = std::fs::read_to_string(&path)
                .map_err(|err| fail(Kind::Usage, format!("--cidfile=\"{path}\": {err}")))?;
            Container::find(&engine.dirs, id.trim())?
        }
    };
    if words.as_slice().is_empty() {
        return Err(fail(Kind::Usage, "missing COMMAND")
            .hint("`rbox exec CONTAINER COMMAND` runs a command in a container"));
    }
    let request = Request {
        id: container::name::random_id()?,
        command: words.collect(),
        env: args.environment.read()?,
        workdir: flags::given(args.workdir),
        user: args.user,
        privileged: args.privileged,
        preserved,
        terminal: args.tty,
        size: session::size(),
    };
    if args.detach {
        return detached(engine, &container, &request);
    }
    let signals = session::catch_signals(true)?;
    let (streams, theirs) = Streams::new(args.interactive, args.tty)?;
    let joined = engine::exec::exec(engine, &container, &request, theirs)?;
    let status = Session::new(joined, streams, args.interactive)?.run(&signals)?;
    engine::exec::ended(engine, &container, &request, status);
    Ok(u8::try_from(status).unwrap_or(255))
}

fn latest(engine: &Engine) -> anyhow::Result<Container> {
    let all = Container::list(&engine.dirs, |_| {})?;
    let latest = all
        .into_iter()
        .max_by_key(|container| container.config.created);
    latest.ok_or_else(|| fail(Kind::NotFound, "there is no container"))
}

/// Starts the command in a process of its own, which waits for it and is its parent.
fn detached(engine: &Engine, container: &Container, request: &Request) -> anyhow::Result<u8> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    let stdio = (!request.terminal)
        .then(|| Stdio::of_terminal(&null))
        .transpose()?;
    let joined = engine::exec::exec(engine, container, request, stdio)?;
    // Its parent is this process; when that ends, the command is left to the next reaper. With
    // a terminal somebody has to hold the master, or the command is hung up.
    if let Some(master) = joined.terminal {
        keep_terminal(&master)?;
    }
    Ok(0)
}

/// Leaves a process behind that holds a terminal and throws away what is written to it.
fn keep_terminal(master: &OwnedFd) -> anyhow::Result<()> {
    if let process::Side::Child = process::fork()? {
        rustix::process::setsid().ok();
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR,
            rustix::fs::Mode::empty(),
        )?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        let mut buffer = vec![0; 4096];
        while matches!(
            rustix::io::read(master, &mut buffer),
            Ok(1..) | Err(Errno::INTR)
        ) {}
        process::exit_now(0)
    }
    Ok(())
}

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

/// Our streams joined with those of the command.
pub struct Session {
    command: process::Child,
    streams: Streams,
    terminal: bool,
    reads_stdin: bool,
    /// Input that the command has not taken yet; no more is read until it has.
    pending: Vec<u8>,
    buffer: Vec<u8>,
}

impl Session {
    pub fn new(joined: Joined, mut streams: Streams, interactive: bool) -> anyhow::Result<Session> {
        let terminal = joined.terminal.is_some();
        if let Some(master) = joined.terminal {
            rustix::io::ioctl_fionbio(&master, true)?;
            streams.stdin = Some(master.try_clone()?);
            streams.stdout = Some(master);
        }
        Ok(Session {
            command: joined.command,
            streams,
            terminal,
            reads_stdin: interactive,
            pending: vec![],
            buffer: vec![0; 64 * 1024],
        })
    }

    pub fn run(mut self, signals: &OwnedFd) -> anyhow::Result<i32> {
        let stdin = std::io::stdin();
        let raw = (self.terminal && self.reads_stdin && std::io::stdin().is_terminal())
            .then(|| Raw::enter(stdin.as_fd()))
            .transpose()?;
        let status = self.serve(stdin.as_fd(), signals);
        drop(raw);
        status
    }

    /// Serves until the command has ended and what it wrote has been read.
    fn serve(&mut self, stdin: BorrowedFd<'_>, signals: &OwnedFd) -> anyhow::Result<i32> {
        loop {
            let [signal, input, room, stdout, stderr, ended] = self.wait(stdin, signals)?;
            if signal {
                self.pass_signal(signals);
            }
            if input {
                self.read_input(stdin);
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
                let exit = process::wait(self.command.pidfd.as_fd())?;
                self.drain()?;
                return Ok(exit.status);
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
            Some(read(self.command.pidfd.as_fd())),
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
                signal::send(self.command.pidfd.as_fd(), number).ok();
            }
            _ => {}
        }
    }

    fn read_input(&mut self, stdin: BorrowedFd<'_>) {
        let length = match rustix::io::read(stdin, &mut self.buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return,
            result => result.unwrap_or(0),
        };
        if length == 0 {
            self.reads_stdin = false;
            if !self.terminal {
                self.streams.stdin = None;
            }
            return;
        }
        self.pending.extend_from_slice(&self.buffer[..length]);
        self.write_pending();
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
