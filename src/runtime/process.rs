//! The last steps before a command runs, the same for a container's first process and for those
//! that join it: user, working directory, credentials, capabilities, seccomp, and the jump.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use anyhow::ensure;
use oci_spec::runtime::LinuxPersonalityDomain;
use oci_spec::runtime::PosixRlimit;
use oci_spec::runtime::Process;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::config::hooks::Stage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Bundle;
use crate::runtime::Program;
use crate::runtime::Stdio;
use crate::runtime::caps;
use crate::runtime::caps::Sets;
use crate::runtime::lsm;
use crate::runtime::notify;
use crate::runtime::procfs::Procfs;
use crate::runtime::report;
use crate::runtime::schedule;
use crate::runtime::trampoline;
use crate::runtime::user;
use crate::runtime::user::User;
use crate::runtime::user::Wanted;
use crate::sys;
use crate::sys::idmap::Root;
use crate::sys::namespace;
use crate::sys::path;
use crate::sys::process;
use crate::sys::terminal;
use crate::sys::terminal::Pty;

/// Where a command is looked for when its environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Linux: linux/personality.h.
const PER_LINUX: u32 = 0;
const PER_LINUX32: u32 = 8;

/// A terminal of the devpts of the root file system, of the size that the specification asks for.
pub fn open_terminal(
    root: BorrowedFd<'_>,
    size: Option<&oci_spec::runtime::Box>,
) -> anyhow::Result<Pty> {
    let pty = terminal::open_pty(root).context("cannot open a terminal")?;
    if let Some(size) = size {
        let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let (rows, columns) = (cells(size.height()), cells(size.width()));
        terminal::set_size(pty.master.as_fd(), rows, columns)?;
    }
    Ok(pty)
}

/// Makes it this process's terminal, and gives its other end to who made this process.
pub fn take_terminal(pty: &Pty, socket: &OwnedFd) -> anyhow::Result<()> {
    report::send_descriptor(socket.as_fd(), pty.master.as_fd(), 0)?;
    terminal::set_controlling(pty.slave.as_fd())?;
    Stdio::of_terminal(&pty.slave)?.install()
}

/// What was opened while the host's files could be seen.
pub struct Held {
    pub executable: OwnedFd,
    pub procfs: Option<Procfs>,
}

/// Becomes the program; returns only the error when that fails.
///
/// Must: run as root of the container's user namespace (`root`), with the container's root file system as
/// `/` and its standard streams in place. Must not: come back to do anything but report and exit.
pub fn become_program(
    program: &Program<'_>,
    root: Root,
    held: &Held,
    report: OwnedFd,
) -> (OwnedFd, anyhow::Error) {
    let prepared = prepare(program, root, held, &report).and_then(|prepared| {
        let gate = program.gate.map(|gate| gate.wait(&report));
        Ok((prepared, gate.transpose()?))
    });
    match prepared {
        Ok(((command, env), started)) => {
            let report = started.unwrap_or(report);
            if let Err(err) = begin(program, &report) {
                return (report, err);
            }
            let next = trampoline::Next {
                command: &command,
                args: program.process.args().as_deref().unwrap_or_default(),
                env: &env,
                init: program.init,
                preserved: program.preserved,
            };
            trampoline::jump(&held.executable, report, &next)
        }
        Err(err) => (report, err),
    }
}

fn prepare(
    program: &Program<'_>,
    set_up: Root,
    held: &Held,
    report: &OwnedFd,
) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let root = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context("cannot open the root directory")?;
    let process = program.process;
    let user = identify(program, root.as_fd())?;
    let mut env = process.env().clone().unwrap_or_default();
    if program.set_home && !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    let linux = program.linux;
    if let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) {
        namespace::set_personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => PER_LINUX,
            LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
        })?;
    }
    if let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
        schedule::take_memory_policy(policy)?;
    }
    for limit in process.rlimits().iter().flatten() {
        set_limit(limit)?;
    }
    own_streams(&user);
    enter_directory(root.as_fd(), process.cwd(), program.make_workdir)?;
    keep_only([held.executable.as_fd(), report.as_fd()])?;

    let sets = Sets::of(process.capabilities().as_ref());
    sets.bound()?;
    take_ids(&user, set_up)?;
    if program.dies_with_parent {
        tie_to_parent(report)?;
    }
    rustix::process::umask(Mode::from_bits_truncate(
        process.user().umask().unwrap_or(0o022),
    ));
    let name = process
        .args()
        .as_ref()
        .and_then(|args| args.first())
        .ok_or_else(|| fail(Kind::Usage, "no command to execute"))?;
    let command = find_command(name, &env)?;

    if let Some(procfs) = &held.procfs {
        lsm::label_next_exec(procfs, process)?;
    }
    // Linux: a filter may be installed with CAP_SYS_ADMIN or no_new_privs (seccomp(2)). Without the
    // latter it has to come before the capabilities go; the filter must let capset and execveat by.
    let no_new_privs = process.no_new_privileges().unwrap_or(false);
    if no_new_privs {
        process::set_no_new_privs()?;
    } else {
        install_filters(program, report)?;
    }
    sets.apply()?;
    Ok((command, env))
}

/// What comes after the start, for a program that waits for it.
fn begin(program: &Program<'_>, report: &OwnedFd) -> anyhow::Result<()> {
    if program.process.no_new_privileges().unwrap_or(false) {
        install_filters(program, report)?;
    }
    // With the container's own rights: these are programs of its image.
    if let Some(hooked) = &program.hooked {
        hooked.run(Stage::StartContainer, Some(rustix::process::getpid()))?;
    }
    Ok(())
}

fn identify(program: &Program<'_>, root: BorrowedFd<'_>) -> anyhow::Result<User> {
    look_up(program.process, program.user, root)
}

/// The user of a container's first process, whose files some mounts are to become.
pub fn container_user(bundle: &Bundle<'_>, root: BorrowedFd<'_>) -> anyhow::Result<User> {
    let process = bundle.spec.process().as_ref();
    look_up(
        process.context("the specification has no process")?,
        bundle.user,
        root,
    )
}

fn look_up(
    process: &Process,
    wanted: Option<Wanted<'_>>,
    root: BorrowedFd<'_>,
) -> anyhow::Result<User> {
    let given = process.user();
    if let Some(wanted) = wanted {
        let mut user = user::find(root, wanted)?;
        user.groups.extend(given.additional_gids().iter().flatten());
        return Ok(user);
    }
    let known = user::find(root, Wanted::of(&given.uid().to_string()))?;
    Ok(User {
        uid: given.uid(),
        gid: given.gid(),
        groups: given.additional_gids().clone().unwrap_or_default(),
        home: known.home,
    })
}

fn set_limit(limit: &PosixRlimit) -> anyhow::Result<()> {
    sys::limits::set(&limit.typ().to_string(), limit.soft(), limit.hard())
}

/// Gives the standard streams to the container's user, who may open /dev/stdout again: pipes, and
/// the container's terminal. What else is there belongs to somebody, as the host's /dev/null does.
fn own_streams(user: &User) {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(user.uid),
        rustix::fs::Gid::from_raw(user.gid),
    );
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe || rustix::termios::isatty(stream) {
            // Linux: EINVAL where the owner is not mapped; the stream itself works all the same.
            rustix::fs::fchown(stream, Some(uid), Some(gid)).ok();
        }
    }
}

/// Enters the working directory.
fn enter_directory(root: BorrowedFd<'_>, directory: &Path, make: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot enter working directory \"{}\"", directory.display());
    // A magic link such as /proc/self/fd/7 would lead out of the root (CVE-2024-21626), and is refused.
    let fd = if make {
        path::open_or_create(root, directory, path::Target::Directory)
    } else {
        path::open_in_root(root, directory, OFlags::PATH | OFlags::DIRECTORY)
    }
    .with_context(cannot)?;
    rustix::process::fchdir(&fd).with_context(cannot)?;
    Ok(())
}

/// Flags all descriptors close-on-exec but the standard streams; `kept` are so already.
fn keep_only(kept: [BorrowedFd<'_>; 2]) -> anyhow::Result<()> {
    process::close_on_exec_from(3)?;
    debug_assert!(kept.iter().all(|fd| rustix::io::fcntl_getfd(fd).is_ok()));
    Ok(())
}

fn take_ids(user: &User, root: Root) -> anyhow::Result<()> {
    let cannot = || format!("cannot become user {}:{}", user.uid, user.gid);
    process::set_keep_caps(true)?;
    // With a single id setgroups(2) is denied for good (user_namespaces(7)), and in a namespace that
    // somebody else made it may be.
    let denied = root.keeps_groups || sys::userns::setgroups_is_denied();
    let groups = (!denied).then_some(user.groups.as_slice());
    process::set_ids(user.uid, user.gid, groups).map_err(|err| {
        let unmapped = err.errno == Errno::INVAL;
        let err = anyhow::Error::new(err).context(cannot());
        if unmapped {
            return err.hint(missing_id(root));
        }
        err
    })?;
    process::set_keep_caps(false)?;
    caps::raise_permitted()?;
    Ok(())
}

fn missing_id(root: Root) -> String {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    if counts.eq(["1"]) {
        return format!(
            "only id {} is mapped; give your user sub-ids, see `rbox doctor`",
            root.uid
        );
    }
    "the container has no such id; `rbox run --rm IMAGE cat /proc/self/uid_map` lists those it has"
        .into()
}

/// Linux: a change of credentials clears the parent-death signal (prctl(2)), and it is not sent for a
/// parent that is dead already; of that the socket tells.
fn tie_to_parent(report: &OwnedFd) -> anyhow::Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    let [gone] = sys::poll::readable([Some(report.as_fd())], Some(Duration::ZERO))?;
    ensure!(!gone, "the supervisor died");
    Ok(())
}

/// The file to execute. Errors have Docker's exit statuses: 127 for what does not exist, 126 for
/// what exists and is not executable.
fn find_command(name: &str, env: &[String]) -> anyhow::Result<PathBuf> {
    if name.is_empty() {
        return Err(fail(
            Kind::CommandNotFound,
            "cannot execute \"\": the command is empty",
        ));
    }
    if name.contains('/') {
        return match usable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(errno) => Err(trampoline::explain(name, errno)),
        };
    }
    let search = env
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for directory in search.split(':').filter(|directory| !directory.is_empty()) {
        let candidate = Path::new(directory).join(name);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(path) => trampoline::explain(&path.display().to_string(), Errno::ACCESS),
        None => fail(
            Kind::CommandNotFound,
            format!("cannot execute \"{name}\": no such command in PATH {search}"),
        ),
    })
}

fn usable(path: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(
        rustix::fs::CWD,
        path,
        rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    )
}

fn install_filters(program: &Program<'_>, report: &OwnedFd) -> anyhow::Result<()> {
    notify::install(program.filters, report.as_fd()).context("cannot install the seccomp filter")
}
