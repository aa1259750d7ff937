//! The floor: the system calls that starting and ending a container takes, and nothing else. No records, no image, no
//! supervisor, no options. As a plain user: all namespaces with full sub-id mapping, an overlay root, /proc, /sys, /dev,
//! devpts, mqueue, shm, masked and read-only paths, pivot_root, capabilities cut to Docker's set, a filter of 317 system
//! calls, exec of `true`, wait, removal of the work directory.
//!
//! Runs in a process of its own (the bench executes itself), so that its exec counts as rbox's does.
#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::cast_possible_truncation,
    reason = "the floor is made of bare system calls, one after the other, with the kernel's small numbers"
)]

use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::io;
use std::ptr;

use libc::c_int;
use libc::c_ulong;

/// What the floor program is told, so that it need not find anything out.
pub struct Floor {
    pub lower: String,
    /// A directory of its own, made and removed at each start.
    pub work: String,
    pub uid: u32,
    pub gid: u32,
    /// First sub-id and count, of users and of groups.
    pub subuid: (u32, u32),
    pub subgid: (u32, u32),
}

/// Docker's default set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const KEPT: u64 = 0xa804_25fb;

/// All at once: user and pid first and the others beside the helpers was not faster on two cores.
const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWNET;

const MASKED: [&CStr; 10] = [
    c"proc/asound",
    c"proc/acpi",
    c"proc/kcore",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
    c"proc/scsi",
    c"sys/firmware",
];

const READ_ONLY: [&CStr; 5] = [
    c"proc/bus",
    c"proc/fs",
    c"proc/irq",
    c"proc/sys",
    c"proc/sysrq-trigger",
];

const DEVICES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"dev/null"),
    (c"/dev/zero", c"dev/zero"),
    (c"/dev/full", c"dev/full"),
    (c"/dev/random", c"dev/random"),
    (c"/dev/urandom", c"dev/urandom"),
    (c"/dev/tty", c"dev/tty"),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

/// Starts, waits, cleans up; the status of `true`.
pub fn run(floor: &Floor) -> io::Result<i32> {
    for part in ["", "/upper", "/work", "/merged"] {
        fs::create_dir(format!("{}{part}", floor.work))?;
    }
    let mut go = [0; 2];
    // SAFETY: the kernel fills the two descriptors of `go`.
    check("pipe2", unsafe {
        libc::pipe2(go.as_mut_ptr(), libc::O_CLOEXEC)
    })?;
    let pid = clone_all()?;
    if pid == 0 {
        let status = match child(floor, go) {
            Ok(()) => 0,
            Err(err) => {
                let text = format!("floor: {err}\n");
                // SAFETY: writes a live buffer to standard error.
                unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
                1
            }
        };
        // SAFETY: ends the cloned child without running this program's exit handlers.
        unsafe { libc::_exit(status) }
    }
    let helpers = [
        helper(c"/usr/bin/newuidmap", pid, floor.uid, floor.subuid)?,
        helper(c"/usr/bin/newgidmap", pid, floor.gid, floor.subgid)?,
    ];
    for helper in helpers {
        if wait(helper)? != 0 {
            return Err(io::Error::other("newuidmap or newgidmap failed"));
        }
    }
    // SAFETY: one byte of a static string.
    check("write", unsafe {
        libc::write(go[1], c"g".as_ptr().cast(), 1) as c_int
    })?;
    let status = wait(pid)?;
    fs::remove_dir(format!("{}/work/work", floor.work))?;
    for part in ["/upper", "/work", "/merged", ""] {
        fs::remove_dir(format!("{}{part}", floor.work))?;
    }
    Ok(status)
}

fn child(floor: &Floor, go: [c_int; 2]) -> io::Result<()> {
    let root = format!("{}/merged", floor.work);
    let mut byte = 0_u8;
    // SAFETY: the write end is closed in this process; one byte is read into a live variable.
    unsafe {
        libc::close(go[1]);
        if libc::read(go[0], (&raw mut byte).cast(), 1) != 1 {
            return Err(io::Error::other("the parent ended"));
        }
    }
    // SAFETY: no pointers, or none that is followed with a count of 0.
    unsafe {
        check("setgroups", libc::setgroups(0, ptr::null()))?;
        check("setresgid", libc::setresgid(0, 0, 0))?;
        check("setresuid", libc::setresuid(0, 0, 0))?;
    }
    mount_root(floor, &root)?;
    mount_kernel()?;
    loopback()?;
    devices()?;
    restrict()?;
    // SAFETY: strings with a NUL at the end; the old root is covered and then detached.
    unsafe {
        let here = c".".as_ptr();
        check(
            "pivot_root",
            libc::syscall(libc::SYS_pivot_root, here, here) as c_int,
        )?;
        check("umount2", libc::umount2(here, libc::MNT_DETACH))?;
        check("chdir", libc::chdir(c"/".as_ptr()))?;
        check("sethostname", libc::sethostname(c"floor".as_ptr(), 5))?;
    }
    drop_privileges()?;
    filter()?;
    let argv = [c"true".as_ptr(), ptr::null()];
    let envp = [c"PATH=/bin".as_ptr(), ptr::null()];
    // SAFETY: both arrays end in a null pointer and live until the call.
    check("execve", unsafe {
        libc::execve(c"/bin/true".as_ptr(), argv.as_ptr(), envp.as_ptr())
    })
}

fn mount_root(floor: &Floor, root: &str) -> io::Result<()> {
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_SLAVE, "")?;
    let options = format!(
        "lowerdir={},upperdir={w}/upper,workdir={w}/work,userxattr",
        floor.lower,
        w = floor.work
    );
    let root = CString::new(root)?;
    mount(c"overlay", &root, Some(c"overlay"), 0, &options)?;
    // SAFETY: a string with a NUL at the end.
    check("chdir", unsafe { libc::chdir(root.as_ptr()) })
}

fn mount_kernel() -> io::Result<()> {
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(c"proc", c"proc", Some(c"proc"), quiet, "")?;
    mount(
        c"sysfs",
        c"sys",
        Some(c"sysfs"),
        quiet | libc::MS_RDONLY,
        "",
    )
}

fn devices() -> io::Result<()> {
    let quiet = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(
        c"tmpfs",
        c"dev",
        Some(c"tmpfs"),
        libc::MS_NOSUID,
        "mode=755,size=65536k",
    )?;
    for (from, to) in DEVICES {
        // SAFETY: strings with a NUL at the end; the descriptor is closed at once.
        unsafe {
            let fd = libc::open(to.as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o666);
            check("open", fd)?;
            libc::close(fd);
        }
        mount(from, to, None, libc::MS_BIND, "")?;
    }
    for (to, link) in LINKS {
        // SAFETY: strings with a NUL at the end.
        check("symlink", unsafe {
            libc::symlink(to.as_ptr(), link.as_ptr())
        })?;
    }
    for dir in [c"dev/pts", c"dev/mqueue", c"dev/shm"] {
        // SAFETY: a string with a NUL at the end.
        check("mkdir", unsafe { libc::mkdir(dir.as_ptr(), 0o755) })?;
    }
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount(c"devpts", c"dev/pts", Some(c"devpts"), quiet, pts)?;
    mount(
        c"mqueue",
        c"dev/mqueue",
        Some(c"mqueue"),
        quiet | libc::MS_NODEV,
        "",
    )?;
    let shm = "mode=1777,size=65536k";
    mount(
        c"shm",
        c"dev/shm",
        Some(c"tmpfs"),
        quiet | libc::MS_NODEV,
        shm,
    )
}

fn restrict() -> io::Result<()> {
    for path in MASKED {
        // A file is covered by /dev/null, a directory (ENOTDIR) by an empty file system; others are not there.
        let done = mount(c"/dev/null", path, None, libc::MS_BIND, "");
        if done.is_err_and(|err| err.raw_os_error() == Some(libc::ENOTDIR)) {
            mount(c"tmpfs", path, Some(c"tmpfs"), libc::MS_RDONLY, "size=0k")?;
        }
    }
    for path in READ_ONLY {
        if mount(path, path, None, libc::MS_BIND | libc::MS_REC, "").is_ok() {
            let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
            let kept = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            mount(path, path, None, flags | kept, "")?;
        }
    }
    Ok(())
}

fn loopback() -> io::Result<()> {
    // SAFETY: `request` is a valid ifreq for both ioctls and outlives them; the socket is closed at once.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check("socket", socket)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        libc::close(socket);
        check("ioctl", done)
    }
}

fn drop_privileges() -> io::Result<()> {
    let last = 40;
    let set = [0x2008_0522_u32, 0];
    let (low, high) = (KEPT as u32, (KEPT >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: capset reads a header of two and a data block of six words, as version 3 has them.
    unsafe {
        for cap in (0..=last).filter(|cap| KEPT >> cap & 1 == 0) {
            check("prctl", libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0))?;
        }
        check("prctl", libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let done = libc::syscall(libc::SYS_capset, set.as_ptr(), data.as_ptr());
        check("capset", done as c_int)
    }
}

/// Loads a binary search over 317 allowed system calls, in 106 ranges as real profiles have them.
fn filter() -> io::Result<()> {
    let op = |code: u16, k: u32, jt: u8, jf: u8| libc::sock_filter { code, jt, jf, k };
    // 52 of the 369 oldest calls are refused, in a pattern that spares those of a start of busybox.
    let mut starts: Vec<(u32, bool)> = Vec::new();
    for number in 0..1024_u32 {
        let refused = (100..308).contains(&number) && number.is_multiple_of(4);
        let allowed = number < 369 && !refused;
        if starts.last().is_none_or(|(_, last)| *last != allowed) {
            starts.push((number, allowed));
        }
    }
    let mut program = vec![
        op(0x20, 4, 0, 0),
        op(0x15, 0xc000_003e, 1, 0),
        op(0x06, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        op(0x20, 0, 0, 0),
    ];
    tree(&starts, &mut program);
    let fprog = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program lives until the call returns and is as long as it says.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const fprog) };
    check("seccomp", done as c_int)
}

/// A binary search for the range that the number is in.
fn tree(ranges: &[(u32, bool)], out: &mut Vec<libc::sock_filter>) {
    if let [(_, allowed)] = ranges {
        let value = if *allowed {
            libc::SECCOMP_RET_ALLOW
        } else {
            libc::SECCOMP_RET_ERRNO | 1
        };
        out.push(libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: value,
        });
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    tree(low, &mut left);
    tree(high, &mut right);
    out.push(libc::sock_filter {
        code: 0x35,
        jt: 0,
        jf: 1,
        k: high[0].0,
    });
    out.push(libc::sock_filter {
        code: 0x05,
        jt: 0,
        jf: 0,
        k: left.len() as u32,
    });
    out.append(&mut left);
    out.append(&mut right);
}

fn clone_all() -> io::Result<c_int> {
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = NAMESPACES as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: `args` is valid for its size; without a stack and CLONE_VM this is a fork, and this process has one thread.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    check("clone3", pid as c_int)?;
    Ok(pid as c_int)
}

fn helper(program: &CStr, pid: c_int, id: u32, range: (u32, u32)) -> io::Result<c_int> {
    let words = [pid.cast_unsigned(), 0, id, 1, 1, range.0, range.1]
        .map(|word| CString::new(word.to_string()));
    let words = words.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut argv = vec![program.as_ptr().cast_mut()];
    argv.extend(words.iter().map(|word| word.as_ptr().cast_mut()));
    argv.push(ptr::null_mut());
    let envp = [ptr::null_mut()];
    let mut child = 0;
    // SAFETY: both arrays end in a null pointer; all strings live until the call returns.
    let errno = unsafe {
        libc::posix_spawn(
            &raw mut child,
            program.as_ptr(),
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    match errno {
        0 => Ok(child),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn wait(pid: c_int) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the status is written to a live variable.
    check("waitpid", unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128
    })
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let data = CString::new(data)?;
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: strings with a NUL at the end, or null where mount(2) takes it.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind,
            flags,
            data.as_ptr().cast(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    let err = io::Error::last_os_error();
    if matches!(err.raw_os_error(), Some(libc::ENOTDIR | libc::ENOENT)) {
        return Err(err);
    }
    Err(io::Error::other(format!(
        "mount {}: {err}",
        target.to_string_lossy()
    )))
}

fn check(call: &str, result: c_int) -> io::Result<()> {
    if result >= 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{call}: {}",
        io::Error::last_os_error()
    )))
}
