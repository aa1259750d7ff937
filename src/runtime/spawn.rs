//! The parent's side of making a container: clone, id maps, and waiting until the command runs.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Process;
use oci_spec::runtime::Spec;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::config::hooks::Stage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Bundle;
use crate::runtime::Placement;
use crate::runtime::Userns;
use crate::runtime::devices;
use crate::runtime::idmapped;
use crate::runtime::init;
use crate::runtime::join;
use crate::runtime::lsm;
use crate::runtime::net_devices;
use crate::runtime::notify;
use crate::runtime::notify::Handler;
use crate::runtime::report;
use crate::runtime::report::Received;
use crate::runtime::resctrl;
use crate::runtime::schedule;
use crate::runtime::sysctl;
use crate::runtime::timens;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::Writer;
use crate::sys::limits;
use crate::sys::notify::Listener;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::socket;

/// Linux: /dev/null is character device 1:3 (devices.txt).
const NULL_DEVICE: u64 = 0x103;

/// The three standard streams of a command.
pub struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Stdio {
    pub fn of_terminal(slave: &OwnedFd) -> anyhow::Result<Stdio> {
        Ok(Stdio {
            stdin: slave.try_clone()?,
            stdout: slave.try_clone()?,
            stderr: slave.try_clone()?,
        })
    }

    /// The same streams, with a read-only mount's /dev/null in place of the host's, whose mode and
    /// owner the container's root could change through its descriptor if it has the ids for it.
    ///
    /// Must: run in a mount namespace of our own that still has the host's files.
    pub fn guarded(self) -> anyhow::Result<Stdio> {
        Ok(Stdio {
            stdin: guard_null(self.stdin)?,
            stdout: guard_null(self.stdout)?,
            stderr: guard_null(self.stderr)?,
        })
    }

    /// Lets everybody who has these pipes open them again, as /dev/stdout does.
    ///
    /// Linux: a pipe belongs to who made it. Where that user has no id in the container, nobody there may
    /// give it to the container's user; it is to be found through its descriptors only.
    pub fn open_to_all(&self) -> anyhow::Result<()> {
        for stream in [&self.stdin, &self.stdout, &self.stderr] {
            let stat = rustix::fs::fstat(stream)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                rustix::fs::fchmod(stream, Mode::from(0o666))?;
            }
        }
        Ok(())
    }

    /// Makes them descriptors 0, 1 and 2 of this process.
    pub fn install(self) -> anyhow::Result<()> {
        rustix::stdio::dup2_stdin(&self.stdin)?;
        rustix::stdio::dup2_stdout(&self.stdout)?;
        rustix::stdio::dup2_stderr(&self.stderr)?;
        Ok(())
    }
}

fn guard_null(stream: OwnedFd) -> anyhow::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&stream)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || stat.st_rdev != NULL_DEVICE
    {
        return Ok(stream);
    }
    let null = devices::clone_device(Path::new("/dev/null"))?;
    let access = rustix::fs::fcntl_getfl(&stream)? & OFlags::RWMODE;
    let link = format!("/proc/self/fd/{}", null.as_raw_fd());
    rustix::fs::open(link, access | OFlags::CLOEXEC, Mode::empty()).context("cannot open /dev/null")
}

/// A container whose command runs, or waits at a gate.
pub struct Running {
    pub init: Child,
    /// Its user namespace, where it is its own and root of it is who called: all files of the container
    /// can be removed there.
    pub userns: Option<OwnedFd>,
    /// The master of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// Where its filter asks for answers, if it does.
    pub listener: Option<OwnedFd>,
    /// Its mount namespace, if it has no process namespace of its own.
    pub mounts: Option<OwnedFd>,
    /// The other end of its network interface, if it has one.
    pub tap: Option<OwnedFd>,
    /// For one that is to be started by another: the socket of `gate::release`.
    pub waiting: Option<OwnedFd>,
}

impl Running {
    /// Ends one whose creation failed after all.
    pub fn kill(&self) {
        crate::sys::signal::send(self.init.pidfd.as_fd(), libc::SIGKILL).ok();
        process::wait(self.init.pidfd.as_fd()).ok();
    }
}

/// Who answers notified calls: the supervisor's handler, or nobody where no filter asks.
pub type Answers<'a> = Option<&'a mut (dyn Handler + 'static)>;

/// Makes a container and executes its command. Without `stdio` it gets a terminal.
///
/// Must: be called by a single-threaded process.
pub fn create(
    bundle: &Bundle<'_>,
    stdio: Option<Stdio>,
    answers: Answers<'_>,
) -> anyhow::Result<Running> {
    check(bundle.spec)?;
    let (ours, theirs) = socket::pair()?;
    let flags = namespace_flags(bundle);
    let mut premade = idmapped::prepare(bundle)?;
    add_shm(bundle, &mut premade)?;
    let made = match bundle.userns {
        _ if bundle.joins_first() => {
            let init = create_joining(bundle, flags, stdio, theirs, premade)?;
            return watch(bundle, init, ours, answers);
        }
        Userns::New => process::clone_into(flags | libc::CLONE_NEWUSER, group_of(bundle)),
        Userns::Join(_) | Userns::Within(_) | Userns::Host => {
            process::clone_into(flags, group_of(bundle))
        }
    };
    match made {
        Ok(Side::Child) => {
            drop(ours);
            init::main(bundle, stdio, premade, theirs)
        }
        Ok(Side::Parent(init)) => {
            drop(theirs);
            drop(stdio);
            drop(premade);
            watch(bundle, init, ours, answers)
        }
        Err(err) => Err(explain_clone(err)),
    }
}

/// What the host must have, or must not share.
fn check(spec: &Spec) -> anyhow::Result<()> {
    if let Some(process) = spec.process() {
        let linux = spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_ref());
        lsm::check(process, label)?;
    }
    sysctl::check(spec)
}

/// The control group that init is made in.
fn group_of<'a>(bundle: &'a Bundle<'_>) -> Option<BorrowedFd<'a>> {
    bundle.cgroup.as_ref().and_then(Placement::fd)
}

/// The mount for /dev/shm that another container gives, if there is one.
fn add_shm(bundle: &Bundle<'_>, premade: &mut Vec<Option<OwnedFd>>) -> anyhow::Result<()> {
    let Some(shm) = bundle.shm else {
        return Ok(());
    };
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let place = Path::new("/dev/shm");
    if let Some(index) = mounts.iter().position(|mount| mount.destination() == place) {
        premade.resize_with(premade.len().max(index + 1), || None);
        premade[index] = Some(shm.try_clone_to_owned()?);
    }
    Ok(())
}

/// By way of a process that joins what is to be joined, and makes init as its sibling.
fn create_joining(
    bundle: &Bundle<'_>,
    flags: i32,
    stdio: Option<Stdio>,
    theirs: OwnedFd,
    premade: Vec<Option<OwnedFd>>,
) -> anyhow::Result<Child> {
    // Not the socket of init, which may have something to say before its pid has arrived.
    let (hears, tells) = socket::pair()?;
    match process::clone_into(0, group_of(bundle))? {
        Side::Child => match join_and_clone(bundle, flags, &tells) {
            Ok(()) => {
                drop((hears, tells));
                init::main(bundle, stdio, premade, theirs)
            }
            Err(err) => {
                report::send_error(tells.as_fd(), &err);
                process::exit_now(125)
            }
        },
        Side::Parent(joiner) => {
            drop((theirs, tells, stdio, premade));
            let received = report::receive(&hears);
            process::wait(joiner.pidfd.as_fd())?;
            match received? {
                Received::Descriptor(pidfd, pid) => Ok(Child {
                    pid: Pid::from_raw(pid).context("the joiner sent no pid")?,
                    pidfd,
                }),
                _ => bail!("the process that joins namespaces died"),
            }
        }
    }
}

/// Returns in the clone only.
fn join_and_clone(bundle: &Bundle<'_>, flags: i32, socket: &OwnedFd) -> anyhow::Result<()> {
    if let Some(process) = bundle.spec.process() {
        inherit(process)?;
    }
    let (user, flags) = match bundle.userns {
        Userns::Join(user) => (Some(user), flags),
        Userns::New | Userns::Within(_) => (None, flags | libc::CLONE_NEWUSER),
        Userns::Host => (None, flags),
    };
    let time = user.and_then(|_| timens::prepare(bundle.spec).transpose());
    let time = time.transpose()?;
    if let Userns::Within(outer) = bundle.userns {
        // Nobody lives in it. And what is not dumpable is root's: its maps could not be written from there.
        process::setns(outer.as_fd(), libc::CLONE_NEWUSER)
            .context("cannot join the user namespace of the networks")?;
    } else {
        // Must: before any namespace is joined, see runtime/mod.rs.
        process::set_dumpable(false)?;
        bundle.joins.enter(user, bundle.ids)?;
    }
    time.map_or(Ok(()), timens::Prepared::unshare)?;
    match process::clone(flags | libc::CLONE_PARENT).map_err(explain_clone)? {
        Side::Parent(init) => {
            let pid = init.pid.as_raw_pid();
            if let Userns::Within(_) = bundle.userns {
                // Linux: only from the parent namespace, where we have all capabilities (user_namespaces(7)).
                let maps = IdMaps {
                    writer: Writer::Privileged,
                    ..bundle.ids.clone()
                };
                maps.write(pid.cast_unsigned()).context("cannot map ids")?;
            }
            report::send_descriptor(socket.as_fd(), init.pidfd.as_fd(), pid)?;
            process::exit_now(0)
        }
        Side::Child => Ok(()),
    }
}

/// Gives this process what its children are to inherit and could not give themselves, since they are in
/// a user namespace: higher limits, another OOM score.
pub fn inherit(process: &Process) -> anyhow::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        limits::raise(None, &limit.typ().to_string(), limit.hard())?;
    }
    process
        .oom_score_adj()
        .map_or(Ok(()), |score| limits::set_oom_score(None, score))
}

/// The same for init, and what is the host's to give it.
fn endow(bundle: &Bundle<'_>, init: &Child) -> anyhow::Result<()> {
    let process = bundle.spec.process().as_ref();
    if let Some(process) = process.filter(|_| !bundle.joins_first()) {
        for limit in process.rlimits().iter().flatten() {
            limits::raise(Some(init.pid), &limit.typ().to_string(), limit.hard())?;
        }
        if let Some(score) = process.oom_score_adj() {
            limits::set_oom_score(Some(init.pid), score)?;
        }
    }
    // One that waits gets it then: hooks of init are not scheduled so.
    if bundle.gate.is_none() {
        set_schedule(bundle, init)?;
    }
    if let Some(rdt) = resctrl::of(bundle.spec) {
        resctrl::enter(rdt, bundle.id, init.pid)?;
    }
    net_devices::hand_over(bundle.spec, init.pid)?;
    Ok(())
}

fn set_schedule(bundle: &Bundle<'_>, init: &Child) -> anyhow::Result<()> {
    let process = bundle.spec.process().as_ref();
    process.map_or(Ok(()), |process| schedule::apply(process, init.pid))
}

fn watch(
    bundle: &Bundle<'_>,
    init: Child,
    socket: OwnedFd,
    answers: Answers<'_>,
) -> anyhow::Result<Running> {
    let started = map_and_wait(bundle, &init, &socket, answers);
    match started {
        Ok((userns, arrived)) => Ok(Running {
            init,
            userns,
            terminal: arrived.terminal,
            listener: arrived.listener,
            mounts: arrived.mounts,
            tap: arrived.tap,
            waiting: bundle.gate.map(|_| socket),
        }),
        Err(err) => {
            // It has reported and exits by itself, unless it is the map that could not be written.
            crate::sys::signal::send(init.pidfd.as_fd(), libc::SIGKILL).ok();
            process::wait(init.pidfd.as_fd()).ok();
            Err(err)
        }
    }
}

/// Descriptors that init sends.
#[derive(Default)]
struct Arrived {
    mounts: Option<OwnedFd>,
    tap: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

fn map_and_wait(
    bundle: &Bundle<'_>,
    init: &Child,
    socket: &OwnedFd,
    mut answers: Answers<'_>,
) -> anyhow::Result<(Option<OwnedFd>, Arrived)> {
    let mut userns = None;
    // Must: before init goes on. Linux: later on it may execute a file that its user may not read, and
    // /proc/PID/ns of such a process is closed even to us.
    if let Some(Placement::By(place)) = &bundle.cgroup {
        place(init.pid)?;
    }
    endow(bundle, init)?;
    if let Userns::New | Userns::Within(_) = bundle.userns {
        let made = open_namespace(init, "user")?;
        if let Userns::New = bundle.userns {
            bundle
                .ids
                .write(init.pid.as_raw_pid().cast_unsigned())
                .context("cannot map ids")?;
        }
        let root = bundle.ids.root();
        let ours = bundle.root_is_caller && (root.uid, root.gid) == (0, 0);
        userns = ours.then_some(made);
    }
    let wired = bundle
        .wire
        .map(|wire| anyhow::Ok((wire, open_namespace(init, "net")?)));
    let wired = wired.transpose()?;
    socket::send(socket.as_fd(), b"m", None).ok();
    let mut arrived = Arrived::default();
    if let Some((wire, namespace)) = wired {
        // Init makes its mounts meanwhile, and waits for us before anything is executed.
        arrived.tap = Some(wire.connect(namespace.as_fd())?);
    }
    let mut ready = false;
    loop {
        if let Some(handler) = answers.as_deref_mut() {
            notify::serve_until(socket, arrived.listener.as_ref(), handler)?;
        }
        match report::receive(socket)? {
            Received::Descriptor(fd, report::MOUNTS) if !ready => arrived.mounts = Some(fd),
            Received::Descriptor(fd, report::TAP) if !ready => arrived.tap = Some(fd),
            Received::Descriptor(fd, _) if !ready => arrived.terminal = Some(fd),
            Received::Listener(fd) if !ready && bundle.pass_on.is_some() => {
                bundle
                    .pass_on
                    .map_or(Ok(()), |pass_on| pass_on(fd, init.pid))?;
            }
            Received::Listener(fd) if !ready => {
                Listener::new(fd.as_fd()).take_turns().ok();
                arrived.listener = Some(fd);
            }
            Received::Created if !ready => {
                let hooked = bundle.hooked();
                hooked.run(Stage::Prestart, Some(init.pid))?;
                hooked.run(Stage::CreateRuntime, Some(init.pid))?;
                socket::send(socket.as_fd(), b"h", None)?;
            }
            Received::Waiting if bundle.gate.is_some() && !ready => {
                set_schedule(bundle, init)?;
                return Ok((userns, arrived));
            }
            // The trampoline, which other processes of the container can get hold of, has only errors to tell.
            Received::Descriptor(..)
            | Received::Listener(_)
            | Received::Created
            | Received::Waiting => {}
            Received::Ready => ready = true,
            Received::End if ready => return Ok((userns, arrived)),
            Received::End => bail!("its init died before the command was executed"),
        }
    }
}

fn open_namespace(init: &Child, name: &str) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{name}", init.pid.as_raw_pid());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {path}"))
}

/// Linux: clone3(2) gives the same errno for several reasons; these are the ones a person meets.
fn explain_clone(err: crate::sys::SyscallError) -> anyhow::Error {
    use rustix::io::Errno;
    let text = format!("cannot make the namespaces: {err}");
    let hint = match err.errno {
        Errno::PERM | Errno::ACCESS => {
            "this system forbids unprivileged user namespaces; `rbox doctor` names the setting"
        }
        Errno::NOSPC | Errno::USERS => {
            "a limit below /proc/sys/user is reached; see `sysctl user.max_user_namespaces`"
        }
        _ => return fail(Kind::Unsupported, text),
    };
    fail(Kind::Unsupported, text).hint(hint)
}

/// What the clone makes. A time namespace is none of it: `timens`.
fn namespace_flags(bundle: &Bundle<'_>) -> i32 {
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        // The user namespace is the bundle's to name.
        .filter(|one| one.path().is_none() && one.typ() != LinuxNamespaceType::User)
        .map(|namespace| match namespace.typ() {
            LinuxNamespaceType::Time => 0,
            // Init makes it where it has been placed.
            LinuxNamespaceType::Cgroup if bundle.cgroup.is_some() => 0,
            other => join::kind(other).0,
        })
        .fold(0, |all, one| all | one)
}
