//! Processes: clone3, exec, exit without destructors, prctl, waiting by pidfd.
#![expect(
    unsafe_code,
    reason = "clone3, prctl and close_range have no safe wrapper"
)]

use std::convert::Infallible;
use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::SyscallError;

/// The new process, seen from its parent.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Which side of a `clone` this is.
pub enum Side {
    Parent(Child),
    Child,
}

/// Linux: `clone_args` of clone3(2), version 2 (5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Linux: the size of version 0 of the structure (5.3), without the fields since `set_tid`.
const CLONE_ARGS_0: usize = 64;

/// Linux: linux/sched.h; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces (`libc::CLONE_NEW*`), or an ordinary fork with 0.
/// With `CLONE_PARENT` the child becomes a sibling and has no exit signal of its own.
///
/// Must: be called by a single-threaded process, so that the child may allocate
/// and no lock is held by a thread that does not exist there.
pub fn clone(flags: i32) -> Result<Side> {
    clone_into(flags, None)
}

/// The same, with the child in a control group of version 2 from its beginning (Linux 5.7).
///
/// Must: as `clone`.
pub fn clone_into(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    assert_single_threaded();
    let mut pidfd: i32 = -1;
    let flags = u64::from(flags.cast_unsigned());
    let (place, size) = match cgroup {
        Some(_) => (CLONE_INTO_CGROUP, size_of::<CloneArgs>()),
        None => (0, CLONE_ARGS_0),
    };
    let args = CloneArgs {
        flags: flags | place | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child gets its own copy of this memory, and the process has one
    // thread, so the child is as consistent as after fork(2); `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) };
    if pid < 0 {
        return Err(SyscallError {
            call: format!("clone3({:#x})", args.flags),
            errno: last_errno(),
        });
    }
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(Side::Parent(Child {
        pid: pid.expect("the kernel returns a positive pid_t"),
        // SAFETY: CLONE_PIDFD succeeded, so the kernel stored a new descriptor that nobody else owns.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    }))
}

/// An ordinary fork.
pub fn fork() -> Result<Side> {
    clone(0)
}

/// Which side of a `plain_fork` this is.
pub enum Fork {
    Parent(Pid),
    Child,
}

/// A fork by the oldest call for it, which no filter forbids that lets programs start others.
///
/// Must: be called by a single-threaded process.
pub fn plain_fork() -> Result<Fork> {
    // SAFETY: with one thread the child is as consistent as its parent, and may do what that may.
    let pid = unsafe { libc::fork() };
    check(pid.into(), || "fork".into())?;
    Ok(match Pid::from_raw(pid) {
        Some(pid) => Fork::Parent(pid),
        None => Fork::Child,
    })
}

/// Ends this process at once: no destructors, no atexit handlers. What a forked
/// child that does not exec must use, since those belong to its parent.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

fn assert_single_threaded() {
    debug_assert_eq!(
        std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count),
        1,
        "clone in a threaded process"
    );
}

pub(super) fn last_errno() -> Errno {
    // The errno of a failed call is always set and positive.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// How a process ended, as a shell counts it: the code, or 128 + the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub status: i32,
    pub signal: Option<i32>,
}

/// Waits for a child by its pidfd.
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    let found = retry(|| rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))
        .call(|| format!("waitid(P_PIDFD, {})", pidfd.as_raw_fd()))?
        .ok_or(SyscallError {
            call: "waitid".into(),
            errno: Errno::CHILD,
        })?;
    let signal = found.terminating_signal();
    Ok(Exit {
        status: found
            .exit_status()
            .or(signal.map(|signal| 128 + signal))
            .unwrap_or(255),
        signal,
    })
}

/// When a process was started, in clock ticks since boot: with the pid, it names one process for
/// ever. Field 22 of /proc/PID/stat (proc(5)).
pub fn start_ticks(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// Whether the process that was started at this time runs: one that has ended, and was not waited for, does not.
pub fn runs(pid: i32, ticks: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let mut fields = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ');
    let has_ended = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    let started = fields.nth(18).and_then(|field| field.parse().ok());
    !has_ended && started == Some(ticks)
}

/// When a thread was started, and where the arguments of its program begin (field 48): each execution of a program
/// has another place for them, unless it turns that off (personality(2)). 0 for those that we may not look at.
pub fn start_and_arguments(tid: Pid) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", tid.as_raw_pid())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(19);
    let start = fields.next()?.parse().ok()?;
    Some((start, fields.nth(25)?.parse().ok()?))
}

/// A pidfd of the process that was started at this time, if it is still there.
pub fn open_started(pid: i32, ticks: u64) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    // Read after the pidfd was opened: what is there now was there then.
    (start_ticks(pid) == Some(ticks)).then_some(pidfd)
}

/// Repeats a call that a signal interrupted.
pub fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// execve(2); returns only when it fails.
pub fn exec(path: &CStr, argv: &[CString], envp: &[CString]) -> Result<Infallible> {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: path and every element of the two arrays are NUL-terminated strings that outlive the
    // call, and both arrays end in a null pointer.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Err(SyscallError {
        call: format!("execve({path:?})"),
        errno: last_errno(),
    })
}

/// Executes an open file; returns only when it fails.
pub fn exec_fd(fd: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Result<Infallible> {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: as in `exec`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(SyscallError {
        call: format!("execveat({})", fd.as_raw_fd()),
        errno: last_errno(),
    })
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11 with CLOEXEC).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed here, only flagged.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(SyscallError {
        call: format!("close_range({first}, ~0, CLOEXEC)"),
        errno: last_errno(),
    })
}

/// Closes descriptors that a forked process inherited and does not use, `first..=last`.
///
/// Must not: include a descriptor that some `OwnedFd` of this process still owns and will use.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: the caller gives up every descriptor of the range; a later close by an owner that was
    // copied by fork and is never dropped (the process ends by _exit) does not happen.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(SyscallError {
        call: format!("close_range({first}, {last}, 0)"),
        errno: last_errno(),
    })
}

/// Leaves what a process that goes on alone has of its parent: its standard streams become /dev/null, and
/// all other descriptors but these are closed. A pipe that a shell waits for must not stay open in it.
///
/// Must not: be called while some other `OwnedFd` of this process will still be used.
pub fn leave_all_but(kept: &[BorrowedFd<'_>]) -> Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\"/dev/null\")".into())?;
    rustix::stdio::dup2_stdin(&null).call(|| "dup2(0)".into())?;
    rustix::stdio::dup2_stdout(&null).call(|| "dup2(1)".into())?;
    rustix::stdio::dup2_stderr(&null).call(|| "dup2(2)".into())?;
    drop(null);
    let mut kept: Vec<u32> = kept
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

/// Makes this process small, for a long wait: gives memory back to the kernel that a fork copied from its
/// parent and does not need. These are free pages of the heap, those of the stack that deeper calls have left
/// behind, and the mapped pages of the program itself; what runs next is mapped again from the page cache.
pub fn trim_memory() {
    // SAFETY: malloc_trim only releases pages that hold nothing.
    unsafe { libc::malloc_trim(0) };
    // glibc: larger blocks are mappings of their own from now on. Of those only what was written to counts, and
    // all of it goes back when they are freed.
    // SAFETY: mallopt only sets a threshold.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    trim_stack();
    trim_program();
}

/// glibc: the memory of a thread's arena is made usable with mprotect(2), page by page as it is asked for, except for
/// what `M_TOP_PAD` gives it in the beginning (malloc/arena.c). What is not touched costs nothing.
pub fn expect_much_memory() {
    const MUCH: i32 = 16 << 20;
    // SAFETY: mallopt only sets a size.
    unsafe { libc::mallopt(libc::M_TOP_PAD, MUCH) };
}

/// Bytes of a block that is a mapping of its own in a small process.
const LARGE: i32 = 32 * 1024;

unsafe extern "C" {
    /// The first byte of the program and the first one after its code (ld(1)): constants and code, which
    /// nothing writes to.
    static __executable_start: u8;
    static etext: u8;
}

fn trim_program() {
    let start = &raw const __executable_start as usize;
    let end = (&raw const etext as usize) & !4095;
    // SAFETY: the range is mapped from the file and never written to, so that a page that is needed again
    // comes back as it was.
    let _kept =
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

/// What the frames below this one may take while the kernel is asked: far more than they do.
const FRAMES: usize = 16 * 1024;

fn trim_stack() {
    let here = 0_u8;
    let end = (&raw const here as usize).saturating_sub(FRAMES) & !4095;
    let Some(start) = stack_start().filter(|start| *start < end) else {
        return;
    };
    // SAFETY: the range is the unused lower part of this thread's stack, which grows downwards: no live
    // frame is in it, and what comes to be there later is written before it is read.
    let _kept =
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

/// Where the mapping of the first thread's stack begins (proc(5), maps).
fn stack_start() -> Option<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[stack]"))?;
    usize::from_str_radix(line.split('-').next()?, 16).ok()
}

fn prctl(name: &str, option: i32, argument: u64) -> Result<()> {
    // SAFETY: every option used in this file takes one integer argument and no pointer.
    let result = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    if result >= 0 {
        return Ok(());
    }
    Err(SyscallError {
        call: format!("prctl({name}, {argument})"),
        errno: last_errno(),
    })
}

/// The signal that this process gets when its parent thread ends. The kernel clears it
/// on credential changes and on exec of a set-id or capability-bearing file (prctl(2)).
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(
        "PR_SET_PDEATHSIG",
        libc::PR_SET_PDEATHSIG,
        signal.cast_unsigned().into(),
    )
}

/// A program that is killed when we end before it.
pub fn die_with_us(command: &mut Command) {
    let us = rustix::process::getpid();
    let tie = move || {
        set_parent_death_signal(libc::SIGKILL).map_err(|err| std::io::Error::from(err.errno))?;
        // Linux: no signal comes for a parent that is dead already.
        match rustix::process::getppid() {
            Some(parent) if parent == us => Ok(()),
            _ => Err(std::io::Error::from(Errno::SRCH)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls; it allocates only where the first fails, in the child of
    // a process with one thread, whose allocator nobody has locked.
    unsafe { command.pre_exec(tie) };
}

/// Non-dumpable: no other process may ptrace this one or open its /proc files
/// without CAP_SYS_PTRACE in the user namespace its memory belongs to.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, dumpable.into())
}

/// Processes below this one whose parent dies become its children (prctl(2)).
pub fn set_child_subreaper() -> Result<()> {
    prctl("PR_SET_CHILD_SUBREAPER", libc::PR_SET_CHILD_SUBREAPER, 1)
}

pub fn set_no_new_privs() -> Result<()> {
    prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Keeps the permitted capabilities over the next change of uid from 0 to another.
pub fn set_keep_caps(keep: bool) -> Result<()> {
    prctl("PR_SET_KEEPCAPS", libc::PR_SET_KEEPCAPS, keep.into())
}

/// Sets all three uids and gids and the supplementary groups of this (single-threaded) process.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    groups.map_or(Ok(()), set_groups)?;
    // SAFETY: plain integers.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    check(result, || format!("setresgid({gid})"))?;
    // SAFETY: plain integers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    check(result, || format!("setresuid({uid})"))
}

/// Sets the supplementary groups of this (single-threaded) process.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the length describe one live slice of gid_t.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check(result, || format!("setgroups({})", groups.len()))
}

/// A session keyring of its own, so that the container does not see the user's keys.
pub fn new_session_keyring() -> Result<()> {
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    check(result, || "keyctl(KEYCTL_JOIN_SESSION_KEYRING)".into())
}

/// unshare(2) of namespaces, for a single-threaded process.
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: CLONE_NEW* flags change the namespaces of this process, not its memory.
    let result = unsafe { libc::unshare(flags) };
    check(result.into(), || format!("unshare({flags:#x})"))
}

/// Joins namespaces of the process behind a pidfd, several at once (Linux 5.8), or the one
/// namespace behind a namespace descriptor.
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: plain integers.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags) };
    check(result.into(), || {
        format!("setns({}, {flags:#x})", fd.as_raw_fd())
    })
}

pub(super) fn check(result: libc::c_long, call: impl FnOnce() -> String) -> Result<()> {
    if result >= 0 {
        return Ok(());
    }
    Err(SyscallError {
        call: call(),
        errno: last_errno(),
    })
}

/// What `ps` shows for this process: its name (15 bytes) and, as far as the room that
/// exec left for the arguments goes, its command line.
pub fn set_title(title: &str) {
    if let Ok(name) = CString::new(title) {
        // Best effort: a process without a good name works as well.
        rustix::thread::set_name(&name).ok();
    }
    // Linux: the arguments live on the stack between arg_start and arg_end, fields 48 and 49 of
    // /proc/PID/stat (proc(5)); a process may write its own memory through /proc/self/mem.
    overwrite_arguments(title).ok();
}

fn overwrite_arguments(title: &str) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut fields = fields.split(' ').skip(45).map(str::parse::<u64>);
    let (Some(Ok(start)), Some(Ok(end))) = (fields.next(), fields.next()) else {
        return Ok(());
    };
    let room = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    let mut bytes = title.as_bytes()[..title.len().min(room.saturating_sub(1))].to_vec();
    bytes.resize(room, 0);
    std::fs::File::options()
        .write(true)
        .open("/proc/self/mem")?
        .write_all_at(&bytes, start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_process_is_known_by_its_pid_and_its_start() {
        let ours = rustix::process::getpid();
        let ticks = start_ticks(ours).unwrap();
        assert!(open_started(ours.as_raw_pid(), ticks).is_some());
        assert!(open_started(ours.as_raw_pid(), ticks + 1).is_none());
        assert!(open_started(0, ticks).is_none());
    }

    #[test]
    fn an_exit_status_is_the_code_or_128_plus_the_signal() {
        let run = |script: &str| {
            let mut child = Command::new("/bin/sh")
                .args(["-c", script])
                .spawn()
                .unwrap();
            let pid = Pid::from_child(&child);
            let pidfd =
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            let exit = wait(pidfd.as_fd()).unwrap();
            child.wait().ok();
            exit
        };
        assert_eq!(
            run("exit 3"),
            Exit {
                status: 3,
                signal: None
            }
        );
        assert_eq!(
            run("kill -9 $$"),
            Exit {
                status: 137,
                signal: Some(9)
            }
        );
    }
}
