//! Names of users and hosts are not looked up through glibc: in a static program that loads the
//! NSS modules of whatever libc the machine has, and crashes.
//!
//! The standard library, and nix of rustbus, refer to these functions for what rbox never calls. The linker takes
//! glibc's then, and though it drops them again as unused, what they brought along stays:
//! fork(3), which std::process::Command needs, refers weakly to the tables of NSS modules.
//! With functions of these names in the program itself nothing of it is linked.
#![expect(unsafe_code, reason = "symbols that stand in for those of libc")]

use std::ffi::c_char;
use std::ffi::c_int;

/// Finds no host (getaddrinfo(3)).
// SAFETY: as declared by libc; it may fail without touching its arguments.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _node: *const c_char,
    _service: *const c_char,
    _hints: *const libc::addrinfo,
    _result: *mut *mut libc::addrinfo,
) -> c_int {
    libc::EAI_FAIL
}

/// There is never a result to free.
// SAFETY: as declared by libc; `getaddrinfo` above allocates nothing.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_result: *mut libc::addrinfo) {}

/// Fails (getpwuid_r(3)); std::env::home_dir asks it where HOME is not set.
// SAFETY: as declared by libc; `result` is null or points to a pointer that the caller owns.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpwuid_r(
    _uid: libc::uid_t,
    _entry: *mut libc::passwd,
    _buffer: *mut c_char,
    _length: libc::size_t,
    result: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: getpwuid_r(3) demands a valid `result` of its caller.
    unsafe { no_entry(result) }
}

/// Fails (getpwnam_r(3)).
// SAFETY: as declared by libc; `result` is null or points to a pointer that the caller owns.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpwnam_r(
    _name: *const c_char,
    _entry: *mut libc::passwd,
    _buffer: *mut c_char,
    _length: libc::size_t,
    result: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: getpwnam_r(3) demands a valid `result` of its caller.
    unsafe { no_entry(result) }
}

/// Fails (getgrgid_r(3)).
// SAFETY: as declared by libc; `result` is null or points to a pointer that the caller owns.
#[unsafe(no_mangle)]
unsafe extern "C" fn getgrgid_r(
    _gid: libc::gid_t,
    _entry: *mut libc::group,
    _buffer: *mut c_char,
    _length: libc::size_t,
    result: *mut *mut libc::group,
) -> c_int {
    // SAFETY: getgrgid_r(3) demands a valid `result` of its caller.
    unsafe { no_entry(result) }
}

/// Fails (getgrnam_r(3)).
// SAFETY: as declared by libc; `result` is null or points to a pointer that the caller owns.
#[unsafe(no_mangle)]
unsafe extern "C" fn getgrnam_r(
    _name: *const c_char,
    _entry: *mut libc::group,
    _buffer: *mut c_char,
    _length: libc::size_t,
    result: *mut *mut libc::group,
) -> c_int {
    // SAFETY: getgrnam_r(3) demands a valid `result` of its caller.
    unsafe { no_entry(result) }
}

/// Fails (getgrouplist(3)).
// SAFETY: as declared by libc; it may fail without touching its arguments.
#[unsafe(no_mangle)]
extern "C" fn getgrouplist(
    _user: *const c_char,
    _group: libc::gid_t,
    _groups: *mut libc::gid_t,
    _count: *mut c_int,
) -> c_int {
    -1
}

/// Fails (initgroups(3)).
// SAFETY: as declared by libc; it may fail without touching its argument.
#[unsafe(no_mangle)]
extern "C" fn initgroups(_user: *const c_char, _group: libc::gid_t) -> c_int {
    -1
}

/// Says that there is no such entry, and why.
///
/// # Safety
/// `result` is null or valid for writing.
unsafe fn no_entry<T>(result: *mut *mut T) -> c_int {
    // SAFETY: the caller's promise.
    if let Some(result) = unsafe { result.as_mut() } {
        *result = std::ptr::null_mut();
    }
    libc::ENOSYS
}
