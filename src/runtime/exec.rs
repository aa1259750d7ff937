//! A process that joins a running container. Run by the command-line process.
//!
//! ```text
//!  caller            joiner (child of the caller)           command (its sibling)
//!  clone ----------> user namespace, own mounts: trampoline
//!                    the container's other namespaces
//!                    clone(CLONE_PARENT) ------------------> pid namespace, credentials, jump
//!        <- pidfd -- ends
//!        <----------------------------------------- end of file: it runs, or {"failed"}
//! ```

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::anyhow;
use anyhow::ensure;
use oci_spec::runtime::Process;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::WithHint;
use crate::runtime::Program;
use crate::runtime::Stdio;
use crate::runtime::lsm;
use crate::runtime::process::Held;
use crate::runtime::process::become_program;
use crate::runtime::process::open_terminal as open_pty;
use crate::runtime::process::take_terminal;
use crate::runtime::procfs::Procfs;
use crate::runtime::report;
use crate::runtime::report::Received;
use crate::runtime::schedule;
use crate::runtime::schedule::Moment;
use crate::runtime::spawn::inherit;
use crate::runtime::trampoline;
use crate::sys::SyscallError;
use crate::sys::idmap::Root;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::signal;
use crate::sys::socket;
use crate::sys::userns;

/// A command that runs in a container.
pub struct Joined {
    pub command: Child,
    pub terminal: Option<OwnedFd>,
}

/// The container to join, and how.
pub struct Join<'a> {
    /// Its init.
    pub pidfd: BorrowedFd<'a>,
    /// The namespaces it has of its own, without the user namespace (`CLONE_NEW*`).
    pub namespaces: i32,
    /// Whether it has a user namespace that is not ours.
    pub userns: bool,
    /// Root of the container is, outside, who joins it.
    pub root_is_caller: bool,
    /// Who sets things up there.
    pub root: Root,
    /// The control group that the command goes to.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// See `Bundle`.
    pub shares_keyring: bool,
    pub program: Program<'a>,
}

/// Executes a program in a running container. Without `stdio` it gets a terminal. `pass_on` gets the listener of its
/// filter, if that has one, and the pid of the process.
///
/// Must: be called by a single-threaded process.
pub fn exec(
    join: &Join<'_>,
    stdio: Option<Stdio>,
    pass_on: &dyn Fn(OwnedFd, Option<Pid>) -> anyhow::Result<()>,
) -> anyhow::Result<Joined> {
    let (ours, theirs) = socket::pair()?;
    let wants_terminal = stdio.is_none();
    lsm::check(join.program.process, None)?;
    // Linux: a child has the CPUs of its parent, and what its group does not allow of them is left out later.
    let before = schedule::take_cpus(join.program.process, Moment::Initial)?;
    let joiner = match process::clone_into(0, join.cgroup).map_err(no_process)? {
        Side::Child => {
            drop(ours);
            let (socket, err) = run(join, stdio, theirs);
            report::send_error(socket.as_fd(), &err);
            process::exit_now(125)
        }
        Side::Parent(child) => child,
    };
    schedule::return_cpus(before)?;
    drop(theirs);
    drop(stdio);
    let joined = collect(&ours, join.program.process, wants_terminal, pass_on);
    process::wait(joiner.pidfd.as_fd())?;
    joined
}

/// Must: take nothing but an error once the trampoline may run, which other processes of the container
/// can get hold of: the pidfd comes first, then the terminal, if there is to be one, and each once.
fn collect(
    socket: &OwnedFd,
    wanted: &Process,
    wants_terminal: bool,
    pass_on: &dyn Fn(OwnedFd, Option<Pid>) -> anyhow::Result<()>,
) -> anyhow::Result<Joined> {
    let mut command: Option<Child> = None;
    let mut terminal = None;
    let mut ready = false;
    loop {
        match report::receive(socket) {
            Ok(Received::Listener(fd)) if !ready => {
                let pid = command.as_ref().map(|command| command.pid);
                // If it fails, nobody will answer: the command may wait in any call, for ever.
                pass_on(fd, pid).inspect_err(|_| command.as_ref().map_or((), end))?;
            }
            Ok(Received::Listener(_) | Received::Created | Received::Waiting) => {}
            Ok(Received::Ready) => ready = true,
            Ok(Received::Descriptor(pidfd, pid)) => match Pid::from_raw(pid) {
                Some(pid) if command.is_none() => {
                    let child = Child { pid, pidfd };
                    if schedule::is_asked(wanted) {
                        schedule::apply(wanted, pid).inspect_err(|_| end(&child))?;
                        socket::send(socket.as_fd(), b"s", None).ok();
                    }
                    command = Some(child);
                }
                None if wants_terminal && terminal.is_none() => terminal = Some(pidfd),
                _ => {}
            },
            Ok(Received::End) if ready => break,
            ended => {
                let err = ended
                    .err()
                    .unwrap_or_else(|| anyhow!("it died before the command was executed"));
                if let Some(command) = command {
                    process::wait(command.pidfd.as_fd()).ok();
                }
                return Err(err);
            }
        }
    }
    let command = command.context("the process that joined the container died")?;
    Ok(Joined { command, terminal })
}

fn end(command: &Child) {
    signal::send(command.pidfd.as_fd(), libc::SIGKILL).ok();
    process::wait(command.pidfd.as_fd()).ok();
}

/// Linux: EAGAIN is a limit of processes, of the control group or of the user (fork(2)).
fn no_process(err: SyscallError) -> anyhow::Error {
    let at_limit = err.errno == Errno::AGAIN;
    let err = anyhow::Error::new(err).context("cannot make another process");
    if at_limit {
        return err.hint("it has as many as it may: `rbox update --pids-limit N CONTAINER`, and `ulimit -u` for your own");
    }
    err
}

/// In the joiner, and after the second clone in the command.
fn run(join: &Join<'_>, stdio: Option<Stdio>, socket: OwnedFd) -> (OwnedFd, anyhow::Error) {
    match set_up(join, stdio, &socket) {
        Ok(held) => become_program(&join.program, join.root, &held, socket),
        Err(err) => (socket, err),
    }
}

fn set_up(join: &Join<'_>, stdio: Option<Stdio>, socket: &OwnedFd) -> anyhow::Result<Held> {
    inherit(join.program.process)?;
    if let (Some(streams), false) = (&stdio, join.root_is_caller) {
        streams.open_to_all()?;
    }
    // Must: before any namespace is joined, see runtime/mod.rs.
    process::set_dumpable(false)?;
    if join.userns {
        process::setns(join.pidfd, libc::CLONE_NEWUSER)
            .context("cannot join the user namespace")?;
    }
    // The clone of our own executable is made where the host's files are still to be seen, in a
    // mount namespace that belongs to the container's user namespace.
    process::unshare(libc::CLONE_NEWNS)?;
    let held = Held {
        executable: trampoline::open_own_executable()?,
        procfs: lsm::is_labelled(join.program.process)
            .then(Procfs::open)
            .transpose()?,
    };
    let stdio = stdio.map(Stdio::guarded).transpose()?;
    process::setns(join.pidfd, join.namespaces).context("cannot join the container")?;
    // Linux: a pid namespace that is joined counts for children only (setns(2)).
    match process::clone(libc::CLONE_PARENT).map_err(no_process)? {
        Side::Parent(command) => {
            let pid = command.pid.as_raw_pid();
            report::send_descriptor(socket.as_fd(), command.pidfd.as_fd(), pid)?;
            process::exit_now(0)
        }
        Side::Child => {}
    }
    if schedule::is_asked(join.program.process) {
        let packet = socket::receive(socket.as_fd(), &mut [0])?;
        ensure!(packet.length == 1, "it cannot be scheduled so");
    }
    schedule::take_cpus(join.program.process, Moment::Final)?;
    rustix::process::setsid().context("cannot start a session")?;
    userns::become_root(join.root)?;
    if !join.shares_keyring {
        process::new_session_keyring().ok();
    }
    match stdio {
        Some(streams) => streams.install()?,
        None => open_terminal(join, socket)?,
    }
    Ok(held)
}

fn open_terminal(join: &Join<'_>, socket: &OwnedFd) -> anyhow::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let size = join.program.process.console_size();
    let pty = open_pty(root.as_fd(), size.as_ref())?;
    take_terminal(&pty, socket)
}
