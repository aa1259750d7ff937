//! The parent's side of making a container: clone, id maps, and waiting until the command runs.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Bundle;
use crate::runtime::Userns;
use crate::runtime::hooks::Stage;
use crate::runtime::idmapped;
use crate::runtime::init;
use crate::runtime::notify;
use crate::runtime::notify::Handler;
use crate::runtime::report;
use crate::runtime::report::Received;
use crate::runtime::rootfs;
use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
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
    let null = rootfs::clone_device("null")?;
    let access = rustix::fs::fcntl_getfl(&stream)? & OFlags::RWMODE;
    let link = format!("/proc/self/fd/{}", null.as_raw_fd());
    rustix::fs::open(link, access | OFlags::CLOEXEC, Mode::empty()).context("cannot open /dev/null")
}

/// A container whose command runs.
pub struct Running {
    pub init: Child,
    /// Its user namespace, where it is its own and root of it is who called: all files of the container
    /// can be removed there.
    pub userns: Option<OwnedFd>,
    /// The master of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// Where its filter asks for answers, if it does.
    pub listener: Option<OwnedFd>,
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
    let (ours, theirs) = socket::pair()?;
    let flags = namespace_flags(bundle)?;
    let idmapped = idmapped::prepare(bundle.spec, bundle.ids)?;
    let made = match bundle.userns {
        Userns::New => process::clone(flags | libc::CLONE_NEWUSER),
        Userns::Host => process::clone(flags),
        Userns::Join(userns) => {
            let given = Given {
                stdio,
                idmapped,
                socket: theirs,
            };
            let init = join(bundle, userns, flags, given)?;
            return watch(bundle, init, &ours, answers);
        }
    };
    match made {
        Ok(Side::Child) => {
            drop(ours);
            init::main(bundle, stdio, idmapped, theirs)
        }
        Ok(Side::Parent(init)) => {
            drop(theirs);
            drop(stdio);
            drop(idmapped);
            watch(bundle, init, &ours, answers)
        }
        Err(err) => Err(explain_clone(err)),
    }
}

/// Makes init in a user namespace that exists. Who joins one cannot come back, and the other namespaces
/// must belong to it: a child joins it, and makes init as a child of ours.
fn join(bundle: &Bundle<'_>, userns: &OwnedFd, flags: i32, given: Given) -> anyhow::Result<Child> {
    let (hears, tells) = socket::pair()?;
    let joiner = match process::fork()? {
        Side::Child => {
            drop(hears);
            join_here(bundle, userns, flags, given, &tells)
        }
        Side::Parent(joiner) => joiner,
    };
    drop((given, tells));
    let init = report::receive(&hears);
    process::wait(joiner.pidfd.as_fd())?;
    match init? {
        Received::Descriptor(pidfd, pid) => {
            let pid = Pid::from_raw(pid).context("a container has no pid 0")?;
            Ok(Child { pid, pidfd })
        }
        _ => bail!("the process that joined the user namespace died"),
    }
}

fn join_here(
    bundle: &Bundle<'_>,
    userns: &OwnedFd,
    flags: i32,
    given: Given,
    tells: &OwnedFd,
) -> ! {
    // Must: before others of that namespace could ptrace this process.
    let joined = process::set_dumpable(false)
        .and_then(|()| process::setns(userns.as_fd(), libc::CLONE_NEWUSER))
        .and_then(|()| process::clone(flags | libc::CLONE_PARENT));
    match joined {
        Ok(Side::Child) => init::main(bundle, given.stdio, given.idmapped, given.socket),
        Ok(Side::Parent(init)) => {
            let pid = init.pid.as_raw_pid();
            report::send_descriptor(tells.as_fd(), init.pidfd.as_fd(), pid).ok();
        }
        Err(err) => {
            let err = anyhow::Error::new(err).context("cannot join the user namespace");
            report::send_error(tells.as_fd(), &err);
        }
    }
    process::exit_now(0)
}

/// What init gets from who makes it.
struct Given {
    stdio: Option<Stdio>,
    idmapped: Vec<Option<OwnedFd>>,
    socket: OwnedFd,
}

fn watch(
    bundle: &Bundle<'_>,
    init: Child,
    socket: &OwnedFd,
    answers: Answers<'_>,
) -> anyhow::Result<Running> {
    let started = map_and_wait(bundle, &init, socket, answers);
    match started {
        Ok((userns, arrived)) => Ok(Running {
            init,
            userns,
            terminal: arrived.terminal,
            listener: arrived.listener,
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
    if matches!(bundle.userns, Userns::New) {
        let made = open_userns(init)?;
        bundle
            .ids
            .write(init.pid.as_raw_pid().cast_unsigned())
            .context("cannot map ids")?;
        userns = is_ours(bundle.ids).then_some(made);
    }
    socket::send(socket.as_fd(), b"m", None).ok();
    let mut arrived = Arrived::default();
    let mut ready = false;
    loop {
        if let Some(handler) = answers.as_deref_mut() {
            notify::serve_until(socket, arrived.listener.as_ref(), handler)?;
        }
        match report::receive(socket)? {
            Received::Descriptor(fd, _) if !ready => arrived.terminal = Some(fd),
            Received::Listener(fd) if !ready => {
                Listener::new(fd.as_fd()).take_turns();
                arrived.listener = Some(fd);
            }
            Received::Created if !ready => {
                let hooked = bundle.hooked();
                hooked.run(Stage::Prestart, Some(init.pid))?;
                hooked.run(Stage::CreateRuntime, Some(init.pid))?;
                socket::send(socket.as_fd(), b"h", None)?;
            }
            // The trampoline, which other processes of the container can get hold of, has only errors to tell.
            Received::Descriptor(..) | Received::Listener(_) | Received::Created => {}
            Received::Ready => ready = true,
            Received::End if ready => return Ok((userns, arrived)),
            Received::End => bail!("its init died before the command was executed"),
        }
    }
}

fn is_ours(ids: &IdMaps) -> bool {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    idmap::outside(&ids.uids, 0) == Some(uid.as_raw())
        && idmap::outside(&ids.gids, 0) == Some(gid.as_raw())
}

fn open_userns(init: &Child) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/user", init.pid.as_raw_pid());
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

fn namespace_flags(bundle: &Bundle<'_>) -> anyhow::Result<i32> {
    let mut flags = 0;
    let namespaces = bundle
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    for namespace in namespaces.into_iter().flatten() {
        if namespace.typ() == LinuxNamespaceType::User {
            // It is the bundle's that counts.
            continue;
        }
        if let Some(path) = namespace.path() {
            bail!("cannot join namespace {}: not supported", path.display());
        }
        flags |= match namespace.typ() {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::User => 0,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Time => bail!("cannot make a time namespace: not supported"),
        };
    }
    Ok(flags)
}
