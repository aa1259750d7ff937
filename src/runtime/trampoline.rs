//! The program between rbox and the container's command: it executes the command, and reports when
//! that fails. It runs from a read-only clone of our own executable.
//!
//! Root of a container may be the user who owns the rbox binary, and could write to it through
//! /proc/PID/exe of a process that runs it (CVE-2019-5736): of the one that is about to execute the
//! command, and of the command itself where an image says `ENTRYPOINT /proc/self/exe`.
//! A detached mount of the binary, made read-only, forbids both: opening it for writing is
//! EROFS, and since the mount is in no mount namespace once its descriptor is closed by exec, nobody
//! can change its attributes or clone it again (mount_setattr(2) and open_tree(2) give EINVAL).

use std::convert::Infallible;
use std::ffi::CString;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::Context;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::io::FdFlags;

use crate::error;
use crate::error::Kind;
use crate::runtime::Preserved;
use crate::runtime::reaper;
use crate::runtime::report;
use crate::sys::fd;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::process;
use crate::sys::signal;

/// The name by which `main` knows this role.
pub const NAME: &str = "rbox-exec";

const INIT: &str = "init";

/// A variable that becomes the pid of the process that executes the command (sd_listen_fds(3)).
pub const OWN_LISTEN_PID: &str = "LISTEN_PID=";

/// A descriptor of our own executable that cannot be written through.
///
/// Must: be called in a mount namespace of our own that still has the host's files.
pub fn open_own_executable() -> anyhow::Result<OwnedFd> {
    match clone_own_executable() {
        Ok(fd) => Ok(fd),
        // The file was replaced or removed while we run, or lies where no mount can be cloned.
        Err(_) => copy_own_executable().context("cannot copy the rbox executable into memory"),
    }
}

fn clone_own_executable() -> anyhow::Result<OwnedFd> {
    let ours = rustix::fs::stat("/proc/self/exe")?;
    // Linux: the magic link leads into the mount namespace that the program was started in; a
    // mount can be cloned only where it is in our own, so the file is looked up again by its path.
    let path = std::fs::read_link("/proc/self/exe")?;
    let file = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    anyhow::ensure!(
        (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino),
        "{} is not this program any more",
        path.display()
    );
    let tree = mount::clone_tree(file.as_fd(), c"", false)?;
    let attributes = Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOSUID;
    mount::set_attributes(tree.as_fd(), attributes, false)?;
    Ok(tree)
}

fn copy_own_executable() -> anyhow::Result<OwnedFd> {
    let mut bytes = Vec::new();
    std::fs::File::open("/proc/self/exe")?.read_to_end(&mut bytes)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux: MFD_EXEC (6.3) is needed where vm.memfd_noexec is 1, and unknown to older kernels.
    let file = match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags)?,
        result => result?,
    };
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, &bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// What the trampoline is told.
pub struct Next<'a> {
    pub command: &'a Path,
    pub args: &'a [String],
    pub env: &'a [String],
    /// It stays, as an init with the command for its child.
    pub init: bool,
    pub preserved: &'a [Preserved],
}

/// Executes the trampoline; returns only when that fails, with the socket to report it.
pub fn jump(executable: &OwnedFd, report: OwnedFd, next: &Next<'_>) -> (OwnedFd, anyhow::Error) {
    // Must: be out of the way of the numbers that are taken next.
    let above = next
        .preserved
        .iter()
        .map(|kept| kept.number)
        .max()
        .unwrap_or(2)
        + 1;
    let (executable, report) = match (fd::above(executable, above), fd::above(&report, above)) {
        (Ok(executable), Ok(report)) => (executable, report),
        (Err(err), _) | (_, Err(err)) => return (report, err.into()),
    };
    let jumped = || -> anyhow::Result<Infallible> {
        let argv = arguments(&report, next)?;
        let env = strings(next.env)?;
        let sources = next.preserved.iter().map(|kept| fd::above(&kept.fd, above));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        for (kept, source) in next.preserved.iter().zip(&sources) {
            // From here on descriptors of this process are no longer what they were: it must only
            // execute, or report and exit.
            fd::place(source.as_fd(), kept.number)?;
        }
        report::send_ready(report.as_fd())?;
        rustix::io::fcntl_setfd(&report, FdFlags::empty())?;
        process::exec_fd(executable.as_fd(), &argv, &env).context("cannot execute rbox itself")
    };
    let Err(err) = jumped();
    (report, err)
}

fn arguments(report: &OwnedFd, next: &Next<'_>) -> anyhow::Result<Vec<CString>> {
    use std::os::fd::AsRawFd;
    let mut argv = vec![
        CString::new(NAME)?,
        CString::new(report.as_raw_fd().to_string())?,
        CString::new(if next.init { INIT } else { "exec" })?,
        CString::new(next.command.as_os_str().as_bytes())?,
    ];
    argv.extend(strings(next.args)?);
    Ok(argv)
}

fn strings(texts: &[String]) -> anyhow::Result<Vec<CString>> {
    texts
        .iter()
        .map(|text| CString::new(text.as_str()).with_context(|| format!("{text:?} has a NUL byte")))
        .collect()
}

/// The role itself: `rbox-exec FD exec|init COMMAND ARG0 ARG…`.
pub fn main(arguments: Vec<OsString>) -> ! {
    // Other processes of the container have no business in this one, nor with its socket.
    process::set_dumpable(false).ok();
    let mut arguments = arguments.into_iter().map(OsString::into_vec).skip(1);
    let report = arguments
        .next()
        .and_then(|number| String::from_utf8(number).ok()?.parse::<i32>().ok())
        .and_then(fd::inherited);
    let (Some(report), Some(mode), Some(command)) = (report, arguments.next(), arguments.next())
    else {
        process::exit_now(125);
    };
    let argv: Vec<CString> = arguments.map_while(|arg| CString::new(arg).ok()).collect();
    let mut env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let Ok(command) = CString::new(command) else {
        process::exit_now(125);
    };
    signal::reset_all();
    let report = if mode == INIT.as_bytes() {
        reaper::fork(report, &argv)
    } else {
        report
    };
    for variable in &mut env {
        if variable.as_bytes() == OWN_LISTEN_PID.as_bytes()
            && let Ok(own) = CString::new(format!("{OWN_LISTEN_PID}{}", std::process::id()))
        {
            *variable = own;
        }
    }
    let Err(err) = process::exec(&command, &argv, &env);
    let name = command.to_string_lossy();
    report::send_error(report.as_fd(), &explain(&name, err.errno));
    process::exit_now(126)
}

/// The error for a command that the kernel did not execute, with Docker's exit status.
pub fn explain(command: &str, errno: Errno) -> anyhow::Error {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => Kind::CommandNotFound,
        _ => Kind::CannotExecute,
    };
    let cause = std::io::Error::from(errno);
    let why = match errno {
        Errno::NOENT => {
            format!("{cause}: the file or the interpreter that it names does not exist")
        }
        Errno::NOEXEC => format!("{cause}: no program for this machine, or a script without #!"),
        _ => cause.to_string(),
    };
    error::fail(kind, format!("cannot execute \"{command}\": {why}"))
}
