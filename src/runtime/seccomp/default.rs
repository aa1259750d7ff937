//! The profile of containers that name none, after Docker's default profile.
//!
//! What makes namespaces and mounts (clone with CLONE_NEW* flags, unshare, setns, mount…) is allowed to containers with
//! CAP_SYS_ADMIN alone: a namespace of its own would give a process every capability over kernel code that only root
//! reaches otherwise. clone3, whose flags are in memory, answers ENOSYS, upon which C libraries use clone.
//!
//! Where it is not Docker's:
//! * The family of socket(2) is compared as the int that it is. AF_ALG and AF_VSOCK with a bit set above the lower
//!   32, which Linux ignores, are refused too.
//! * socketcall(2) of 32-bit x86 makes no sockets: the family is in memory, where a filter cannot see it
//!   (CVE-2026-31431). It answers ENOSYS for SYS_SOCKET and is allowed for all else; socket(2) has a number of its own
//!   there since Linux 4.3.
//! * A netlink socket for audit answers EINVAL to those without CAP_AUDIT_WRITE, as with Podman.
//! * pivot_root and open_tree_attr go with CAP_SYS_ADMIN, which they need and without which containers
//!   cannot be made in a container.
//! * x32 is not listed: its calls answer ENOSYS.
//!
//! Refused to everybody, among others: keyctl, add_key, request_key (keys are not namespaced), io_uring (a long
//! history of holes), userfaultfd, kexec and swapon.

use std::collections::HashSet;

use oci_spec::runtime::Arch;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompArgBuilder;
use oci_spec::runtime::LinuxSeccompOperator;
use oci_spec::runtime::LinuxSyscall;

use crate::runtime::seccomp::numbers::Table;
use crate::runtime::seccomp::rules::Abi;

/// Allowed to everybody. Names of all architectures; those that one does not have are skipped.
const ALWAYS: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset
    chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait
    epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr
    fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue
    futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
    mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr
    removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl
    semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
    setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid
    waitpid write writev";

const CAPABILITIES: usize = 14;

/// Allowed to those who have the capability.
const BY_CAPABILITY: [(Capability, &str); CAPABILITIES] = [
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr
         perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname setns syslog umount
         umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (
        Capability::SysModule,
        "delete_module finit_module init_module",
    ),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (
        Capability::SysTime,
        "clock_settime clock_settime64 settimeofday stime",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// The execution domains that programs use: Linux, UNAME26, ADDR_NO_RANDOMIZE, both, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

static ALWAYS_TABLE: Table = Table::new(ALWAYS);
static CAPABILITY_TABLES: [Table; CAPABILITIES] = {
    let mut tables = [const { Table::new("") }; CAPABILITIES];
    let mut at = 0;
    while at < CAPABILITIES {
        tables[at] = Table::new(BY_CAPABILITY[at].1);
        at += 1;
    }
    tables
};

/// The profile for a container that keeps these capabilities.
#[cfg(test)]
pub fn default_profile(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let mut names = words(ALWAYS);
    for (capability, calls) in BY_CAPABILITY {
        if capabilities.contains(&capability) {
            names.extend(words(calls));
        }
    }
    let mut profile = conditional(capabilities);
    let mut rules = profile.syscalls().clone().unwrap_or_default();
    rules.push(rule(names, LinuxSeccompAction::ScmpActAllow, None, vec![]));
    profile.set_syscalls(Some(rules));
    profile
}

/// The calls of that profile that are allowed whatever their arguments are.
pub fn tables(capabilities: &HashSet<Capability>) -> impl Iterator<Item = &'static Table> {
    let by_capability = BY_CAPABILITY.iter().zip(&CAPABILITY_TABLES);
    let granted = by_capability.filter(|((capability, _), _)| capabilities.contains(capability));
    std::iter::once(&ALWAYS_TABLE).chain(granted.map(|(_, table)| table))
}

/// That profile without the calls of `tables`.
pub fn conditional(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let mut rules = Vec::new();
    for persona in PERSONALITIES {
        let is = condition(0, LinuxSeccompOperator::ScmpCmpEq, persona, None);
        rules.push(allow("personality", vec![is]));
    }
    // Before the rules for socket, which would answer for it with their errno.
    rules.extend(socketcall());
    rules.extend(socket(capabilities.contains(&Capability::AuditWrite)));
    if !capabilities.contains(&Capability::SysAdmin) {
        rules.extend(clone());
    }

    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(libc::EPERM.cast_unsigned()));
    profile.set_architectures(Some(architectures()));
    profile.set_syscalls(Some(rules));
    profile
}

/// socket(2) by its address family.
fn socket(audit: bool) -> Vec<LinuxSyscall> {
    let mut rules = Vec::new();
    if !audit {
        // libaudit takes EINVAL as "this kernel has no audit" and goes on; the EPERM that the kernel would answer
        // later ends programs such as sshd and login. Podman's profile does so too.
        let netlink_audit = vec![int_is(0, libc::AF_NETLINK), int_is(2, libc::NETLINK_AUDIT)];
        rules.push(refuse("socket", libc::EINVAL, netlink_audit));
    }
    // Neither is namespaced: AF_ALG reaches kernel crypto drivers, AF_VSOCK the hypervisor.
    for family in [libc::AF_ALG, libc::AF_VSOCK] {
        rules.push(refuse("socket", libc::EPERM, vec![int_is(0, family)]));
    }
    rules.push(allow("socket", vec![always()]));
    rules
}

/// socketcall(2) by the call that it stands for.
fn socketcall() -> Vec<LinuxSyscall> {
    /// linux/net.h
    const SYS_SOCKET: i32 = 1;
    let makes_one = vec![int_is(0, SYS_SOCKET)];
    vec![
        refuse("socketcall", libc::ENOSYS, makes_one),
        allow("socketcall", vec![always()]),
    ]
}

/// clone(2) without namespaces, and no clone3(2).
fn clone() -> Vec<LinuxSyscall> {
    const NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let mask = u64::from(NAMESPACES.cast_unsigned());
    let masked_equal = LinuxSeccompOperator::ScmpCmpMaskedEq;
    vec![
        allow("clone", vec![condition(0, masked_equal, mask, Some(0))]),
        refuse("clone3", libc::ENOSYS, vec![]),
    ]
}

/// The kernel takes an int, a filter sees the whole register: only the lower half may be compared,
/// or a bit above it would slip through.
fn int_is(argument: usize, value: i32) -> LinuxSeccompArg {
    let op = LinuxSeccompOperator::ScmpCmpMaskedEq;
    let value = u64::from(value.cast_unsigned());
    condition(argument, op, u64::from(u32::MAX), Some(value))
}

/// For the rule that comes last: one without conditions would win over those before it.
fn always() -> LinuxSeccompArg {
    condition(0, LinuxSeccompOperator::ScmpCmpGe, 0, None)
}

fn architectures() -> Vec<Arch> {
    Abi::OF_THE_DEFAULT.into_iter().map(Abi::arch).collect()
}

fn words(names: &str) -> Vec<String> {
    names.split_ascii_whitespace().map(String::from).collect()
}

fn allow(name: &str, conditions: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    rule(
        words(name),
        LinuxSeccompAction::ScmpActAllow,
        None,
        conditions,
    )
}

fn refuse(name: &str, errno: i32, conditions: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    rule(
        words(name),
        LinuxSeccompAction::ScmpActErrno,
        Some(errno.cast_unsigned()),
        conditions,
    )
}

fn rule(
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    conditions: Vec<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names);
    rule.set_action(action);
    rule.set_errno_ret(errno);
    rule.set_args((!conditions.is_empty()).then_some(conditions));
    rule
}

fn condition(
    index: usize,
    op: LinuxSeccompOperator,
    value: u64,
    second: Option<u64>,
) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value);
    let builder = match second {
        Some(second) => builder.value_two(second),
        None => builder,
    };
    builder.build().expect("every field has a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_add_their_calls_and_nothing_else() {
        let names = |capabilities: &[Capability]| -> HashSet<String> {
            let profile = default_profile(&capabilities.iter().copied().collect());
            let rules = profile.syscalls().clone().unwrap();
            rules.iter().flat_map(|rule| rule.names().clone()).collect()
        };
        let none = names(&[]);
        for refused in [
            "chroot",
            "keyctl",
            "add_key",
            "bpf",
            "io_uring_setup",
            "kexec_load",
            "reboot",
        ] {
            assert!(!none.contains(refused), "{refused}");
        }
        let chroot = names(&[Capability::SysChroot, Capability::NetRaw]);
        let added: Vec<_> = chroot.difference(&none).collect();
        assert_eq!(added, ["chroot"]);
    }

    #[test]
    fn no_name_is_listed_twice() {
        let words = words(ALWAYS);
        let mut seen = HashSet::new();
        for word in words {
            assert!(seen.insert(word.clone()), "{word}");
        }
        for (_, calls) in BY_CAPABILITY {
            for call in calls.split_ascii_whitespace() {
                assert!(!seen.contains(call), "{call}");
            }
        }
    }
}
