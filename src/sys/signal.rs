//! Signals: blocked and read from a descriptor, or given back to their defaults before exec.
#![expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper")]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::SyscallError;
use crate::sys::process::check;

/// Linux: `_NSIG`; real-time signals end at 64.
pub const LAST: i32 = 64;

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is a plain array of integers, for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is a live, initialised sigset_t; a bad number is an error and changes nothing.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// Blocks these signals in this thread and makes a descriptor that tells of them.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    check(result.into(), || {
        format!("sigprocmask(SIG_BLOCK, {signals:?})")
    })?;
    // SAFETY: `set` is initialised.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd.into(), || format!("signalfd({signals:?})"))?;
    // SAFETY: signalfd succeeded and returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends SIGABRT to the first thread of a process.
#[cfg(test)]
pub fn abort_first_thread(pid: i32) {
    // SAFETY: tgkill(2) reads and writes no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGABRT) };
}

/// Lets these signals through again in this thread.
pub fn unblock(signals: &[i32]) -> Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    check(result.into(), || {
        format!("sigprocmask(SIG_UNBLOCK, {signals:?})")
    })?;
    Ok(())
}

/// Whether whoever started this program wants a signal to be ignored.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which all zeroes is a value.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no new disposition is given; `old` is a live sigaction to be written.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) };
    result == 0 && old.sa_sigaction == libc::SIG_IGN
}

/// The next signal of a descriptor of `signal_fd`, if there is one.
pub fn read_signal(fd: BorrowedFd<'_>) -> Result<Option<i32>> {
    // Linux: one signalfd_siginfo is 128 bytes and begins with the signal number (signalfd(2)).
    let mut info = [0u8; 128];
    match rustix::io::read(fd, &mut info) {
        Ok(128) => {
            let number = [info[0], info[1], info[2], info[3]];
            Ok(Some(i32::from_ne_bytes(number)))
        }
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(SyscallError {
            call: format!("read(signalfd {})", fd.as_raw_fd()),
            errno,
        }),
    }
}

/// Blocks every signal in this thread, to be taken by `wait_any`.
pub fn block_all() -> Result<()> {
    // SAFETY: sigset_t is a plain array of integers, for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is initialised; the old mask is not asked for.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    check(result.into(), || "sigprocmask(SIG_SETMASK)".into())
}

/// Waits for a signal that is blocked, and takes it.
pub fn wait_any() -> Result<i32> {
    // SAFETY: sigset_t is a plain array of integers, for which all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is initialised; what else there is to tell of the signal is not asked for.
    let number = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
    check(number.into(), || "sigwaitinfo".into())?;
    Ok(number)
}

/// Every signal to its default, none blocked: what a program that is executed must find.
/// Rust ignores SIGPIPE, the supervisor blocks what it reads, and exec keeps both.
pub fn reset_all() {
    for signal in 1..=LAST {
        // SAFETY: SIG_DFL is a valid disposition; SIGKILL, SIGSTOP and libc's own signals are refused
        // with EINVAL, which leaves them as they are.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let empty = set_of(&[]);
    // SAFETY: `empty` is initialised.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Sends a signal by pid (kill(2)).
pub fn send_pid(pid: rustix::process::Pid, signal: i32) -> Result<()> {
    // SAFETY: plain integers.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    check(result.into(), || {
        format!("kill({}, {signal})", pid.as_raw_nonzero())
    })
}

/// Sends a signal to the process behind a pidfd (Linux 5.1).
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) would.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result, || {
        format!("pidfd_send_signal({}, {signal})", pidfd.as_raw_fd())
    })
}
