//! The kernel: file descriptors, mounts, namespaces, processes, signals. One thin
//! wrapper a system call, no policy. The only place of the program with `unsafe`.

pub mod schedule;
pub mod seccomp;

use std::fmt;
use std::io;

pub mod assembler;
pub mod bpf;
pub mod calls;
pub mod datagram;
pub mod fd;
pub mod idmap;
pub mod inet;
pub mod limits;
pub mod link;
pub mod lock;
pub mod loopback;
pub mod mount;
mod name_service;
pub mod namespace;
pub mod netlink;
pub mod notify;
pub mod pages;
pub mod parallel;
pub mod path;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod tap;
pub mod terminal;
pub mod userns;
pub mod writeback;

/// A system call that failed, printed as strace would print it:
/// `openat2("etc/passwd"): No such file or directory (os error 2)`.
#[derive(Debug)]
pub struct SyscallError {
    pub call: String,
    pub errno: rustix::io::Errno,
}

impl fmt::Display for SyscallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, io::Error::from(self.errno))
    }
}

impl std::error::Error for SyscallError {}

pub type Result<T> = std::result::Result<T, SyscallError>;

/// Names the call of a failed rustix or libc result.
pub trait Call<T> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Call<T> for rustix::io::Result<T> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| SyscallError {
            call: call(),
            errno,
        })
    }
}
