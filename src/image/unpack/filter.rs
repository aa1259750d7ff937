//! The system calls that an unpacker needs, and no others: what a hostile layer might talk it into would
//! meet a kernel that knows nothing but files, memory and threads.
//!
//! Linux: seccomp does not see what io_uring does on behalf of a process (io_uring_enter(2) alone is a call), so that it
//! has no place here; nor is it faster at making small files: 20,000 of 8 KiB by open, write and close on a tmpfs take 1.4
//! times as long as by the calls (Linux 6.18), since a file that is created is always created by a worker thread.

use anyhow::Context;
use anyhow::Result;

use crate::sys::calls::Allowed;
use crate::sys::calls::Otherwise;

/// Files below the root directory, by descriptors.
const FILES: [libc::c_long; 40] = [
    libc::SYS_close,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_llistxattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync_file_range,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What the memory allocator, the threads and the end of a program need.
const PROGRAM: [libc::c_long; 23] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_prlimit64,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Linux: _IOW(0x94, 9, int), the clone of a file's data (ioctl_ficlonerange(2)).
const FICLONE: u64 = 0x4004_9409;

/// Puts the filter on this thread and those that it starts. Any other call answers ENOSYS, so that the
/// C library falls back from clone3, whose flags a filter cannot see, to clone.
///
/// Must: be called with no_new_privs set.
pub fn install() -> Result<()> {
    allowed()
        .install(Otherwise::Unknown)
        .context("cannot confine the unpacker")
}

fn allowed() -> Allowed {
    let no_code = u64::from(libc::PROT_EXEC.cast_unsigned());
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let name = u64::from(libc::PR_SET_NAME.cast_unsigned());
    Allowed::default()
        .all(&FILES)
        .all(&PROGRAM)
        .when(libc::SYS_mmap, &[(2, no_code, 0)])
        .when(libc::SYS_mprotect, &[(2, no_code, 0)])
        .when(libc::SYS_clone, &[(0, thread, thread)])
        .when(libc::SYS_prctl, &[(0, u64::MAX, name)])
        .when(libc::SYS_ioctl, &[(1, u64::from(u32::MAX), FICLONE)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: a filter stays for ever.
    #[test]
    fn only_files_memory_and_threads_are_left() {
        let thread = std::thread::spawn(|| {
            crate::sys::process::set_no_new_privs().unwrap();
            install().unwrap();
            let err = |result: rustix::io::Result<()>| result.unwrap_err();
            let no_such_call = rustix::io::Errno::NOSYS;
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            );
            assert_eq!(err(socket.map(drop)), no_such_call);
            assert_eq!(err(rustix::process::chroot(".")), no_such_call);
            let me = rustix::process::getpid();
            let signal = rustix::process::kill_process(me, rustix::process::Signal::WINCH);
            assert_eq!(err(signal), no_such_call);
            std::fs::read("/proc/self/status").unwrap();
            std::thread::spawn(|| vec![1; 1 << 20].len())
                .join()
                .unwrap()
        });
        assert_eq!(thread.join().unwrap(), 1 << 20);
    }
}
