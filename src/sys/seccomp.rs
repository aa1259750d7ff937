//! seccomp(2): loading a filter program into the calling thread.
#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper in rustix")]

#[cfg(test)]
use std::io;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::SyscallError;
use crate::sys::process::last_errno;

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    /// How many instructions to skip when the test holds, and when it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Puts a filter on the calling thread and all that it will execute.
/// Must: be called with no_new_privs set, or with CAP_SYS_ADMIN in the thread's user namespace (EACCES otherwise).
pub fn install(program: &[Instruction], flags: u32) -> Result<()> {
    // Linux: EINVAL without a listener, whose calls it is about.
    let listening = u32::try_from(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    let flags = flags & !listening.expect("the flags are small");
    match load(program, flags)? {
        0 => Ok(()),
        // With TSYNC the kernel answers with the id of a thread that could not follow.
        _ => Err(failed(program, flags, Errno::SRCH)),
    }
}

/// The same for a filter whose notified calls wait for answers through the descriptor that is returned; it is
/// close-on-exec. Linux: EBUSY if the thread has such a filter already.
pub fn install_with_listener(program: &[Instruction], flags: u32) -> Result<OwnedFd> {
    let bits = |flag: libc::c_ulong| u32::try_from(flag).expect("the flags are small");
    let listening = flags | bits(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // Linux: without it (5.19) a signal that a handler takes interrupts a call that is being answered already, and
    // the call is made once more.
    let patient = listening | bits(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    let fd = match load(program, patient) {
        Err(err) if err.errno == Errno::INVAL => load(program, listening)?,
        result => result?,
    };
    let fd = RawFd::try_from(fd).map_err(|_| failed(program, listening, Errno::BADF))?;
    // SAFETY: with NEW_LISTENER the kernel answers with a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel knows these flags.
pub fn knows(flags: libc::c_ulong) -> bool {
    // SAFETY: without a program nothing is installed: the kernel looks at the flags first, then at the address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    result < 0 && last_errno() == Errno::FAULT
}

fn failed(program: &[Instruction], flags: u32, errno: Errno) -> SyscallError {
    SyscallError {
        call: format!(
            "seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, [{} instructions])",
            program.len()
        ),
        errno,
    }
}

fn load(program: &[Instruction], flags: u32) -> Result<libc::c_long> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(failed(program, flags, Errno::INVAL));
    };
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: `fprog` and the `len` instructions it points to live until the call returns; the kernel
    // only reads them. `Instruction` has the layout of `sock_filter` (both repr(C) with equal fields).
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    };
    if done < 0 {
        return Err(failed(program, flags, last_errno()));
    }
    Ok(done)
}

/// A system call by number, for tests of filters: 0, or the errno.
#[cfg(test)]
pub fn probe(number: libc::c_long, args: [u64; 3]) -> i32 {
    // SAFETY: callers pass numbers and arguments that the kernel refuses or that only read the caller's own state;
    // no argument is a pointer to memory of this program.
    let done = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    if done >= 0 {
        return 0;
    }
    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

/// A system call through the 32-bit entry, for tests of filters: the result as the kernel gives it, errno negated.
#[cfg(all(test, target_arch = "x86_64"))]
pub fn probe_32(number: u32, args: [u64; 3]) -> i32 {
    let result: i64;
    // SAFETY: callers pass numbers of calls with arguments that are no pointers, or null ones. `int 0x80` changes rax
    // alone and, on old kernels, r8 to r11, which are declared as clobbered; rbx, which the compiler keeps for
    // itself, has its value again afterwards; the stack is not touched.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) args[0] => _,
            inlateout("rax") i64::from(number) => result,
            in("rcx") args[1],
            in("rdx") args[2],
            in("rsi") 0_u64,
            in("rdi") 0_u64,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    i32::try_from(result).unwrap_or(i32::MIN)
}
