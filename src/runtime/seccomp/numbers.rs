//! System call numbers by name, per architecture.
//!
//! The names come from the `syscalls` crate, whose own look-up compares one name after
//! the other. The hash tables here are built by the compiler: a profile has hundreds of
//! names and is looked up at every start of a container.

/// Slots of a hash table; four times as many as there are names keeps the probes short.
const SLOTS: usize = 2048;
const FREE: u16 = u16::MAX;

/// A set of system call numbers.
pub struct Calls([u64; 8]);

impl Calls {
    const fn with(mut self, number: Option<u32>) -> Self {
        if let Some(number) = number {
            self.0[number as usize / 64] |= 1 << (number % 64);
        }
        self
    }

    /// The numbers, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).zip(self.0).flat_map(|(word, bits)| {
            let set = move |bit: &u32| bits >> bit & 1 == 1;
            (0..64).filter(set).map(move |bit| word * 64 + bit)
        })
    }
}

/// FNV-1a, folded to a slot.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash ^ (hash >> 15)) as usize) % SLOTS
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! architecture {
    ($arch:ident) => {
        pub mod $arch {
            use super::*;
            use syscalls::$arch::Sysno;

            static NUMBERS: [u16; SLOTS] = {
                let mut slots = [FREE; SLOTS];
                let mut number: u16 = 0;
                while number as i32 <= Sysno::last().id() {
                    if let Some(call) = Sysno::new(number as usize) {
                        let mut slot = hash(call.name().as_bytes());
                        while slots[slot] != FREE {
                            slot = (slot + 1) % SLOTS;
                        }
                        slots[slot] = number;
                    }
                    number += 1;
                }
                slots
            };

            /// The number that a name has on this architecture.
            pub const fn find(name: &[u8]) -> Option<u32> {
                let mut slot = hash(name);
                loop {
                    let number = NUMBERS[slot];
                    if number == FREE {
                        return None;
                    }
                    if let Some(call) = Sysno::new(number as usize)
                        && equal(call.name().as_bytes(), name)
                    {
                        return Some(number as u32);
                    }
                    slot = (slot + 1) % SLOTS;
                }
            }

            /// The numbers of the names in a text.
            pub const fn calls(names: &str) -> Calls {
                let mut calls = Calls([0; 8]);
                let mut rest = names.as_bytes().trim_ascii();
                while !rest.is_empty() {
                    let mut end = 0;
                    while end < rest.len() && !rest[end].is_ascii_whitespace() {
                        end += 1;
                    }
                    let (name, tail) = rest.split_at(end);
                    calls = calls.with(find(name));
                    rest = tail.trim_ascii();
                }
                calls
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
architecture!(x86_64);
#[cfg(target_arch = "x86_64")]
architecture!(x86);
#[cfg(target_arch = "aarch64")]
architecture!(aarch64);

/// The numbers of a list of names, found by the compiler, for each architecture that rbox's own profile lists.
pub struct Table {
    #[cfg(target_arch = "x86_64")]
    pub x86_64: Calls,
    #[cfg(target_arch = "x86_64")]
    pub x86: Calls,
    #[cfg(target_arch = "aarch64")]
    pub aarch64: Calls,
}

impl Table {
    pub const fn new(names: &str) -> Self {
        Table {
            #[cfg(target_arch = "x86_64")]
            x86_64: x86_64::calls(names),
            #[cfg(target_arch = "x86_64")]
            x86: x86::calls(names),
            #[cfg(target_arch = "aarch64")]
            aarch64: aarch64::calls(names),
        }
    }
}

/// x32 calls carry this bit in their number; seccomp sees them as AUDIT_ARCH_X86_64.
pub const X32_BIT: u32 = 0x4000_0000;

/// The calls that have a number of their own on x32, from 512 upwards
/// (arch/x86/entry/syscalls/syscall_64.tbl); all others have that of x86_64.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The calls of x86_64 that x32 does not have.
const X32_LACKS: [&str; 13] = [
    "map_shadow_stack",
    "uretprobe",
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
];

/// The number of a call of x32, with the bit.
#[cfg(target_arch = "x86_64")]
pub fn find_x32(name: &str) -> Option<u32> {
    if X32_LACKS.contains(&name) {
        return None;
    }
    let own = X32_OWN.iter().zip(512..).find(|(own, _)| **own == name);
    let number = own
        .map(|(_, number)| number)
        .or_else(|| x86_64::find(name.as_bytes()))?;
    Some(number | X32_BIT)
}

/// The smallest number of its own that a multiplexed call got later, recvmmsg's.
pub const FIRST_DIRECT: u32 = 337;

/// What the old multiplexers of 32-bit x86 call a call: socketcall(2) and ipc(2) take this
/// number as their first argument, so a rule for `socket` must see socketcall(1, …) too.
pub fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = SOCKETCALL.iter().zip(1..).find(|(call, _)| **call == name);
    if let Some((_, number)) = socket {
        return Some(("socketcall", number));
    }
    let ipc = IPC.iter().find(|(call, _)| *call == name)?;
    Some(("ipc", ipc.1))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_tables_is_found_and_no_other() {
        for call in syscalls::x86_64::Sysno::iter() {
            assert_eq!(x86_64::find(call.name().as_bytes()), Some(call as u32));
        }
        for call in syscalls::x86::Sysno::iter() {
            assert_eq!(x86::find(call.name().as_bytes()), Some(call as u32));
        }
        assert_eq!(x86_64::find(b"socketcall"), None);
        assert_eq!(x86_64::find(b""), None);
        assert_eq!(x86_64::find(b"no_such_call"), None);
    }

    #[test]
    fn multiplexed_calls_have_late_numbers() {
        let multiplexed =
            syscalls::x86::Sysno::iter().filter(|call| multiplexed(call.name()).is_some());
        assert_eq!(
            multiplexed.map(|call| call as u32).min(),
            Some(FIRST_DIRECT)
        );
    }

    #[test]
    fn x32_has_its_own_numbers() {
        assert_eq!(find_x32("read"), Some(X32_BIT));
        assert_eq!(find_x32("execve"), Some(X32_BIT + 520));
        assert_eq!(find_x32("pwritev2"), Some(X32_BIT + 547));
        assert_eq!(find_x32("set_thread_area"), None);
    }
}
