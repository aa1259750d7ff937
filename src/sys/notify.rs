//! seccomp user notification (seccomp_unotify(2)): the listener of a filter, the calls it hears of, the answers.
//!
//! The numbers of these ioctls contain the sizes of their structures, so a kernel with larger ones refuses the call
//! and never writes beyond ours.
#![expect(unsafe_code, reason = "ioctls of a listener have no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::SyscallError;
use crate::sys::process::last_errno;

/// Linux: SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (6.6), the caller and the listener take turns on one processor.
const SYNC_WAKE_UP: u64 = 1;

/// A system call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    pub id: u64,
    /// The thread that makes it, as our own pid namespace numbers it; 0 where that does not see it.
    pub tid: i32,
    /// AUDIT_ARCH_* of the entry that was used.
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

/// What a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel carries it out, with what its pointers point to by then.
    Continue,
    Return(i64),
    Errno(Errno),
    /// Another process that has the listener gives it.
    Later,
}

/// A listener on which one process at a time waits.
#[derive(Clone, Copy)]
pub struct Listener<'a>(BorrowedFd<'a>);

impl<'a> Listener<'a> {
    pub fn new(fd: BorrowedFd<'a>) -> Listener<'a> {
        Listener(fd)
    }

    /// Makes turns cheaper, where the kernel knows how; EINVAL before 6.6.
    pub fn take_turns(self) -> Result<()> {
        // SAFETY: the argument of this request is the flags themselves.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as libc::Ioctl,
                SYNC_WAKE_UP,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(self.failed("SET_FLAGS", last_errno())),
        }
    }

    /// The next call. `None`: its caller was killed or interrupted in the meantime.
    ///
    /// Must: be called after poll(2) has said that there is one, or it blocks.
    pub fn receive(self) -> Result<Option<Notification>> {
        // SAFETY: all fields are integers, for which zero is a value; the kernel wants zeros here (EINVAL).
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: `call` is what this request writes, and outlives it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV as libc::Ioctl,
                &raw mut call,
            )
        };
        if result == 0 {
            return Ok(Some(Notification {
                id: call.id,
                tid: call.pid.cast_signed(),
                arch: call.data.arch,
                number: call.data.nr.cast_unsigned(),
                args: call.data.args,
            }));
        }
        match last_errno() {
            Errno::NOENT | Errno::INTR => Ok(None),
            errno => Err(self.failed("RECV", errno)),
        }
    }

    /// Answers a call; one that nobody waits for any more is passed over.
    pub fn answer(self, id: u64, answer: Answer) -> Result<()> {
        let (value, error, flags) = match answer {
            Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            Answer::Return(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -errno.raw_os_error(), 0),
            Answer::Later => return Ok(()),
        };
        let response = libc::seccomp_notif_resp {
            id,
            val: value,
            error,
            flags: u32::try_from(flags).expect("the flag is small"),
        };
        // SAFETY: `response` is what this request reads, and outlives it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND as libc::Ioctl,
                &raw const response,
            )
        };
        match result {
            0 => Ok(()),
            _ => match last_errno() {
                Errno::NOENT => Ok(()),
                errno => Err(self.failed("SEND", errno)),
            },
        }
    }

    /// Whether the caller still waits, which says that its pid is still its own.
    fn is_valid(self, id: u64) -> bool {
        // SAFETY: the request reads one u64 that outlives it.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID as libc::Ioctl,
                &raw const id,
            )
        };
        result == 0
    }

    /// The memory of the caller. `None`: it is gone, or may not be looked at.
    pub fn memory(self, call: &Notification) -> Option<File> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", call.tid))
            .ok()?;
        // After the file was opened: what is open now belongs to the caller and to no later process of its pid.
        self.is_valid(call.id).then_some(file)
    }

    fn failed(self, request: &str, errno: Errno) -> SyscallError {
        SyscallError {
            call: format!(
                "ioctl({}, SECCOMP_IOCTL_NOTIF_{request})",
                self.0.as_raw_fd()
            ),
            errno,
        }
    }
}
