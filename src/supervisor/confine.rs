//! What a network process gives up before it reads the first frame: every capability, new privileges, all files but
//! those of its container and such as tell of networks, and all system calls but those that frames, sockets and reading
//! of files take. It cannot write a file, start or signal a process, or get into a namespace; a call that is not here
//! ends it, and its supervisor says so in the log.
//!
//! What it needs and may not do itself (a socket of another namespace, say) is its supervisor's to make, which
//! hands descriptors over by the socket between them.

use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use caps::CapSet;
use caps::Capability;
use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::CompatLevel;
use landlock::Compatible;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreatedAttr;
use landlock::RulesetError;
use landlock::path_beneath_rules;

use crate::network::stack::route::RESOLV_CONF;
use crate::sys::calls::Allowed;
use crate::sys::calls::Otherwise;
use crate::sys::process;

/// Frames and flows.
const SOCKETS: [libc::c_long; 33] = [
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
    libc::SYS_writev,
    // Names of the host's interfaces, and who is on the container's networks.
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_statx,
];

/// Files that it reads, and what the memory allocator and the end of a program need.
const PROGRAM: [libc::c_long; 26] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_uname,
];

/// Of x86_64 alone, which has older forms of calls beside the newer ones.
#[cfg(target_arch = "x86_64")]
const OLD: [libc::c_long; 3] = [libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_readlink];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [libc::c_long; 0] = [];

/// Linux: the upper half of an argument of 32 bits says nothing.
const INT: u64 = u32::MAX as u64;

/// What socket(2) is told of kinds, beside flags.
const KIND: u64 = INT & !bits(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);

/// What open(2) is told of files that are written or made. Linux: O_TMPFILE has the bit of O_DIRECTORY too.
const WRITING: u64 = bits(
    libc::O_ACCMODE
        | libc::O_CREAT
        | libc::O_TRUNC
        | libc::O_APPEND
        | libc::O_TMPFILE & !libc::O_DIRECTORY,
);

const REQUESTS: [u64; 5] = [
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TIOCOUTQ,
    libc::TUNGETIFF,
    libc::TUNSETOFFLOAD,
];

/// No F_SETOWN, with which the kernel sends signals.
const COMMANDS: [i32; 7] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_GETPIPE_SZ,
    libc::F_SETFD,
    libc::F_SETFL,
    libc::F_SETPIPE_SZ,
];

const fn bits(flags: i32) -> u64 {
    flags.cast_unsigned() as u64
}

/// Where it is told of resolvers, addresses and interfaces. Links lead from /etc/resolv.conf to where services keep it;
/// another file in its place is had from the supervisor.
const TELLING: [&str; 7] = [
    "/proc",
    "/sys",
    "/run/NetworkManager",
    "/run/connman",
    "/run/resolvconf",
    "/run/systemd/resolve",
    RESOLV_CONF,
];

/// `own` are what it reads of rbox.
///
/// Must: be called by a process with one thread.
pub fn confine(own: &[PathBuf]) -> Result<()> {
    process::set_no_new_privs()?;
    drop_capabilities().context("cannot drop capabilities")?;
    let target = std::fs::canonicalize(RESOLV_CONF).ok();
    let telling = TELLING.iter().map(PathBuf::from);
    shut_in(telling.chain(target).chain(own.iter().cloned()))
        .context("cannot leave the files of its user")?;
    allowed().install(Otherwise::Death)
}

/// Linux: who is confined so may not look into processes that are not (landlock(7), ptrace restrictions): of /proc their
/// environment, memory and descriptors are closed to it. A kernel without Landlock leaves it all files to read.
fn shut_in(readable: impl Iterator<Item = PathBuf>) -> Result<(), RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .create()?
        // What is not there is left out.
        .add_rules(path_beneath_rules(readable, reading))?
        .restrict_self()?;
    Ok(())
}

fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    // Only who has this one can take capabilities from what is executed later, which is nothing here anyhow.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Inheritable,
        CapSet::Permitted,
    ] {
        caps::clear(None, set)?;
    }
    Ok(())
}

fn allowed() -> Allowed {
    let no_code = bits(libc::PROT_EXEC);
    let own = bits(rustix::process::getpid().as_raw_nonzero().get());
    let mut allowed = Allowed::default()
        .all(&SOCKETS)
        .all(&PROGRAM)
        .all(&OLD)
        .when(libc::SYS_openat, &[(2, WRITING, 0)])
        .when(libc::SYS_mmap, &[(2, no_code, 0)])
        .when(libc::SYS_mprotect, &[(2, no_code, 0)])
        // A panic ends it, and nobody else.
        .when(
            libc::SYS_tgkill,
            &[(0, INT, own), (2, INT, bits(libc::SIGABRT))],
        )
        // Linux: one of datagrams would reach any other socket of the host by its name (unix(7)).
        .when(
            libc::SYS_socketpair,
            &[
                (0, INT, bits(libc::AF_UNIX)),
                (1, KIND, bits(libc::SOCK_STREAM)),
            ],
        );
    for request in REQUESTS {
        allowed = allowed.when(libc::SYS_ioctl, &[(1, INT, request)]);
    }
    for command in COMMANDS {
        allowed = allowed.when(libc::SYS_fcntl, &[(1, INT, bits(command))]);
    }
    // None that listens for connections: listen(2) is not here.
    for (family, echo) in [
        (libc::AF_INET, libc::IPPROTO_ICMP),
        (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    ] {
        for (type_, protocol) in [
            (libc::SOCK_STREAM, 0),
            (libc::SOCK_DGRAM, 0),
            (libc::SOCK_DGRAM, echo),
        ] {
            let all = [
                (0, INT, bits(family)),
                (1, KIND, bits(type_)),
                (2, INT, bits(protocol)),
            ];
            allowed = allowed.when(libc::SYS_socket, &all);
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::net::UdpSocket;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use landlock::RulesetStatus;
    use rustix::net::AddressFamily;
    use rustix::net::SocketType;

    use super::*;
    use crate::sys::signal;

    const NAME: &str = "RBOX_TEST_FORBIDDEN";
    const SHUT_IN: &str = "RBOX_TEST_SHUT_IN";

    /// Linux: a ruleset binds the thread that takes it (landlock(7)), here one that ends.
    fn has_landlock() -> bool {
        let is_enforced = || {
            let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1));
            let status = ruleset.unwrap().create().unwrap().restrict_self().unwrap();
            status.ruleset != RulesetStatus::NotEnforced
        };
        std::thread::spawn(is_enforced).join().unwrap()
    }

    /// The calls are forbidden on every kernel; only what is about files is left out. In CI nothing is.
    #[expect(clippy::print_stderr, reason = "the line that tells of a skipped test")]
    fn skip_files() {
        let is_strict = std::env::var_os("RBOX_TEST_STRICT").is_some_and(|value| value == "1");
        assert!(
            !is_strict,
            "Landlock is missing, which RBOX_TEST_STRICT=1 forbids"
        );
        eprintln!("SKIP files that are closed: this kernel has no Landlock");
    }

    /// What a test makes a process of its own do: confined, one thing that is forbidden.
    fn act(number: usize) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap();
        confine(&["/usr/bin".into()]).unwrap();
        // It goes on with what it is for.
        std::fs::read("/proc/self/status").unwrap();
        std::fs::read("/etc/resolv.conf").unwrap();
        std::fs::read("/usr/bin/env").unwrap();
        if std::env::var_os(SHUT_IN).is_some() {
            let parent = std::os::unix::process::parent_id();
            let environment = format!("/proc/{parent}/environ");
            for closed in ["/usr/lib/os-release", "/etc/passwd", &environment] {
                let refused = std::fs::read(closed).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{closed}");
            }
        }
        let refused = TcpStream::connect_timeout(&own, Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        socket.send_to(b"x", own).unwrap();
        assert_eq!(socket.recv(&mut [0; 2]).unwrap(), 1);
        FORBIDDEN[number]();
    }

    fn raw(family: AddressFamily) {
        rustix::net::socket(family, SocketType::RAW, None).unwrap();
    }

    const FORBIDDEN: [fn(); 12] = [
        // Linux: there are not so many processes (PID_MAX_LIMIT, 4 million).
        || signal::abort_first_thread(i32::MAX),
        || drop(std::fs::write("/dev/null", "")),
        || drop(std::fs::remove_file("/nonexistent/file")),
        || raw(AddressFamily::INET),
        || raw(AddressFamily::NETLINK),
        || {
            let family = AddressFamily::UNIX;
            rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        },
        || drop(std::os::unix::net::UnixDatagram::pair()),
        || drop(std::net::TcpListener::bind("127.0.0.1:0")),
        || {
            let own = rustix::process::getpid();
            rustix::process::test_kill_process(own).unwrap();
        },
        || drop(process::unshare(0)),
        || drop(std::thread::Builder::new().spawn(|| {})),
        || drop(process::exec(c"/bin/true", &[], &[])),
    ];

    #[test]
    fn a_confined_process_dies_of_what_it_may_not_do() {
        if let Ok(number) = std::env::var(NAME) {
            return act(number.parse().unwrap());
        }
        let shut_in = has_landlock().then_some((SHUT_IN, "yes"));
        if shut_in.is_none() {
            skip_files();
        }
        let run = |number: usize| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "supervisor::confine::tests::a_confined_process_dies_of_what_it_may_not_do",
                ])
                .args(["--test-threads", "1", "--nocapture"])
                .env(NAME, number.to_string())
                .envs(shut_in)
                .output()
                .unwrap()
        };
        for number in 0..FORBIDDEN.len() {
            let done = run(number);
            assert_eq!(
                done.status.signal(),
                Some(libc::SIGSYS),
                "{number}: {done:?}"
            );
        }
    }
}
