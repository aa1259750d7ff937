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

/// Look-ups that say that there is no such entry, and why.
macro_rules! find_nothing {
    ($($function:ident($key:ty) -> $entry:ty,)*) => {$(
        // SAFETY: as declared by libc; `result` is null or points to a pointer that the caller owns.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(
            _key: $key,
            _entry: *mut $entry,
            _buffer: *mut c_char,
            _length: libc::size_t,
            result: *mut *mut $entry,
        ) -> c_int {
            // SAFETY: the manual page of each demands a valid `result` of its caller.
            if let Some(result) = unsafe { result.as_mut() } {
                *result = std::ptr::null_mut();
            }
            libc::ENOSYS
        }
    )*};
}

find_nothing! {
    // std::env::home_dir asks it where HOME is not set.
    getpwuid_r(libc::uid_t) -> libc::passwd,
    getpwnam_r(*const c_char) -> libc::passwd,
    getgrgid_r(libc::gid_t) -> libc::group,
    getgrnam_r(*const c_char) -> libc::group,
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
