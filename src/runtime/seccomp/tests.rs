//! Tests of the compiler: against the meaning of a profile read naively, and against the kernel.

use std::thread;
use std::time::Instant;

use oci_spec::runtime::Arch;
use oci_spec::runtime::LinuxSeccompAction as Action;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompArgBuilder;
use oci_spec::runtime::LinuxSeccompOperator as Op;
use oci_spec::runtime::LinuxSyscall;
use proptest::prelude::*;
use syscalls::x86;
use syscalls::x86_64;

use super::*;
use crate::runtime::seccomp::default::default_profile;
use crate::sys::seccomp;

pub const X86_64: u32 = 0xc000_003e;
pub const I386: u32 = 0x4000_0003;
pub const X32_BIT: u32 = 0x4000_0000;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const EINVAL: u32 = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;

/// What the kernel would make of a program.
pub fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        offset => {
            assert!((16..64).contains(&offset) && offset.is_multiple_of(4));
            let arg = args[(offset as usize - 16) / 8];
            let (low, high) = words(arg);
            if offset.is_multiple_of(8) { low } else { high }
        }
    };
    let (mut at, mut a) = (0, 0);
    loop {
        let one = program[at];
        at += 1;
        let branch = |holds| usize::from(if holds { one.jt } else { one.jf });
        match one.code {
            0x20 => a = word(one.k),
            0x54 => a &= one.k,
            0x05 => at += one.k as usize,
            0x15 => at += branch(a == one.k),
            0x25 => at += branch(a > one.k),
            0x35 => at += branch(a >= one.k),
            0x06 => return one.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn holds(arch: u32, arg: &LinuxSeccompArg, args: [u64; 6]) -> bool {
    let fit = |value: u64| {
        if arch == I386 {
            value & 0xffff_ffff
        } else {
            value
        }
    };
    let have = fit(args[arg.index()]);
    if arg.op() == Op::ScmpCmpMaskedEq {
        return have & fit(arg.value()) == fit(arg.value_two().unwrap_or(0) & arg.value());
    }
    let value = fit(arg.value());
    match arg.op() {
        Op::ScmpCmpNe => have != value,
        Op::ScmpCmpLt => have < value,
        Op::ScmpCmpLe => have <= value,
        Op::ScmpCmpEq => have == value,
        Op::ScmpCmpGe => have >= value,
        Op::ScmpCmpGt => have > value,
        Op::ScmpCmpMaskedEq => unreachable!("is answered above"),
    }
}

type Name = fn(u32) -> Option<&'static str>;

/// The profile read naively, for calls that no multiplexer reaches.
fn evaluate(profile: &LinuxSeccomp, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let listed = profile.architectures().clone().unwrap_or_default();
    let (name, last): (Name, u32) = match arch {
        X86_64 if number & X32_BIT != 0 => return ENOSYS,
        X86_64 => (
            |n| x86_64::Sysno::new(n as usize).map(|call| call.name()),
            500,
        ),
        I386 if listed.contains(&Arch::ScmpArchX86) => {
            (|n| x86::Sysno::new(n as usize).map(|call| call.name()), 500)
        }
        _ => return libc::SECCOMP_RET_KILL_PROCESS,
    };
    let default = value(profile.default_action(), profile.default_errno_ret());
    let rules = profile.syscalls().clone().unwrap_or_default();
    let named =
        |n| name(n).is_some_and(|name| rules.iter().any(|r| r.names().iter().any(|x| x == name)));
    let newest = (0..last).rev().find(|n| named(*n));
    let passes = [
        Action::ScmpActAllow,
        Action::ScmpActLog,
        Action::ScmpActTrace,
    ]
    .contains(&profile.default_action());
    if !passes && newest.is_some_and(|newest| number > newest) {
        return ENOSYS;
    }
    let of_call: Vec<&LinuxSyscall> = rules
        .iter()
        .filter(|r| name(number).is_some_and(|name| r.names().iter().any(|x| x == name)))
        .collect();
    let conditions = |r: &LinuxSyscall| r.args().clone().unwrap_or_default();
    let action = |r: &LinuxSyscall| value(r.action(), r.errno_ret());
    for rule in &of_call {
        if conditions(rule).is_empty() && action(rule) != default {
            return action(rule);
        }
    }
    for rule in &of_call {
        let all = conditions(rule);
        if all.is_empty() {
            continue;
        }
        let indexes: HashSet<usize> = all.iter().map(LinuxSeccompArg::index).collect();
        let matched = if indexes.len() < all.len() {
            all.iter().any(|one| holds(arch, one, args))
        } else {
            all.iter().all(|one| holds(arch, one, args))
        };
        if matched {
            return action(rule);
        }
    }
    default
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    action.as_u32(errno)
}

pub fn rule(names: &[&str], action: Action, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(ToString::to_string).collect());
    rule.set_action(action);
    rule.set_args(Some(args));
    rule
}

pub fn arg(index: usize, op: Op, value: u64, two: u64) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default();
    let builder = builder.index(index).op(op).value(value).value_two(two);
    builder.build().unwrap()
}

pub fn profile(default: Action, archs: Vec<Arch>, rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(default);
    profile.set_architectures(Some(archs));
    profile.set_syscalls(Some(rules));
    profile
}

pub fn any_value() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        2,
        7,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        u64::MAX,
    ];
    prop_oneof![4 => prop::sample::select(edges.to_vec()).boxed(), 1 => any::<u64>().boxed()]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::ScmpActAllow,
        Action::ScmpActErrno,
        Action::ScmpActKill,
        Action::ScmpActKillProcess,
        Action::ScmpActKillThread,
        Action::ScmpActTrap,
        Action::ScmpActTrace,
        Action::ScmpActLog,
    ])
}

pub fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
    let op = prop::sample::select(vec![
        Op::ScmpCmpNe,
        Op::ScmpCmpLt,
        Op::ScmpCmpLe,
        Op::ScmpCmpEq,
        Op::ScmpCmpGe,
        Op::ScmpCmpGt,
        Op::ScmpCmpMaskedEq,
    ]);
    let one = (0_usize..6, op, any_value(), any_value());
    let args = prop::collection::vec(one.prop_map(|(i, op, a, b)| arg(i, op, a, b)), 0..4);
    let name = (0_usize..470)
        .prop_map(|n| x86_64::Sysno::new(n).map_or("no_such_call", |call| call.name()));
    // Some calls appear in many rules.
    let name = prop_oneof![name, prop::sample::select(vec!["read", "write", "clone"])];
    let names = prop::collection::vec(name, 1..12);
    let errno = prop::option::of(0_u32..200);
    let action = prop_oneof![6 => any_action(), 1 => Just(Action::ScmpActNotify)];
    (names, action, errno, args).prop_map(|(mut names, action, errno, args)| {
        if action == Action::ScmpActNotify {
            names.retain(|name| *name != "write");
        }
        let mut rule = rule(&names, action, args);
        rule.set_errno_ret(errno);
        rule
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_program_does_what_the_profile_says(
        default in any_action(),
        x86 in any::<bool>(),
        rules in prop::collection::vec(any_rule(), 0..40),
        calls in prop::collection::vec((0_u32..480, prop::array::uniform6(any_value())), 200),
    ) {
        let archs = if x86 { vec![Arch::ScmpArchX86] } else { vec![] };
        let profile = profile(default, archs, rules);
        let program = compile(&profile).unwrap();
        for (number, args) in calls {
            for number in [number, number % 2, number | X32_BIT, u32::MAX - number] {
                for arch in [X86_64, I386, 0xc000_00b7] {
                    // socketcall and ipc, which have a test of their own.
                    if arch == I386 && [102, 117].contains(&number) {
                        continue;
                    }
                    let got = run(&program, arch, number, args);
                    let want = evaluate(&profile, arch, number, args);
                    prop_assert_eq!(got, want, "{:#x} {} {:x?}", arch, number, args);
                }
            }
        }
    }
}

fn default_program(capabilities: &[Capability]) -> Vec<Instruction> {
    super::default_program(&capabilities.iter().copied().collect())
}

#[test]
fn the_default_program_is_that_of_the_default_profile() {
    use Capability as C;
    let some = [
        C::AuditWrite,
        C::Bpf,
        C::SysAdmin,
        C::SysChroot,
        C::SysNice,
        C::Syslog,
        C::Kill,
    ];
    for count in 0..=some.len() {
        let profile = default_profile(&some[..count].iter().copied().collect());
        assert!(default_program(&some[..count]) == compile(&profile).unwrap());
    }
}

#[test]
fn default_profile_answers_as_documented() {
    use x86_64::Sysno as S;
    let program = default_program(&[]);
    let call = |call: S, args: &[u64]| {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(&program, X86_64, call as u32, all)
    };
    let allowed = [S::read, S::ptrace, S::landlock_create_ruleset];
    for number in allowed {
        assert_eq!(call(number, &[u64::MAX]), ALLOW, "{number}");
    }
    let refused = [
        S::chroot,
        S::keyctl,
        S::add_key,
        S::request_key,
        S::bpf,
        S::reboot,
    ];
    let spaces = [S::unshare, S::setns, S::mount, S::umount2, S::pivot_root];
    for number in refused
        .into_iter()
        .chain([S::io_uring_setup, S::kexec_load, S::swapon])
        .chain(spaces)
    {
        assert_eq!(call(number, &[]), EPERM, "{number}");
    }
    let fork = u64::from((libc::CLONE_VM | libc::SIGCHLD).cast_unsigned());
    assert_eq!(call(S::clone, &[fork]), ALLOW);
    for bit in 0..32 {
        let namespace = [17, 25, 26, 27, 28, 29, 30].contains(&bit);
        let want = if namespace { EPERM } else { ALLOW };
        assert_eq!(call(S::clone, &[fork | 1 << bit]), want, "{bit}");
    }
    assert_eq!(call(S::clone3, &[]), ENOSYS);
    let admin = default_program(&[Capability::SysAdmin]);
    for number in spaces.into_iter().chain([S::clone, S::clone3]) {
        assert_eq!(run(&admin, X86_64, number as u32, [u64::MAX; 6]), ALLOW);
    }
    assert_eq!(run(&program, X86_64, 468, [0; 6]), ENOSYS);
    assert_eq!(run(&program, X86_64, X32_BIT, [0; 6]), ENOSYS);
    assert_eq!(run(&program, I386, 20, [0; 6]), ALLOW);
    assert_eq!(
        run(&program, 0xc000_00b7, 0, [0; 6]),
        libc::SECCOMP_RET_KILL_PROCESS
    );
    assert_eq!(call(S::personality, &[0xffff_ffff]), ALLOW);
    assert_eq!(call(S::personality, &[0x40_0000]), EPERM);
    assert_eq!(call(S::socket, &[2, 1]), ALLOW);
    assert_eq!(call(S::socket, &[38, 5]), EPERM);
    assert_eq!(call(S::socket, &[40, 1]), EPERM);
    assert_eq!(call(S::socket, &[16, 3, 0]), ALLOW);
    assert_eq!(call(S::socket, &[16, 3, 9]), EINVAL);
    // The kernel looks at the lower half alone.
    assert_eq!(call(S::socket, &[(1 << 32) + 38, 5]), EPERM);
    assert_eq!(call(S::socket, &[(1 << 32) + 16, 3, (1 << 32) + 9]), EINVAL);
    // socketcall, by 32-bit code and by 64-bit code that leaves something in the upper half.
    for (call, want) in [(1, ENOSYS), ((1 << 32) + 1, ENOSYS), (3, ALLOW), (8, ALLOW)] {
        let args = [call, 0, 0, 0, 0, 0];
        assert_eq!(run(&program, I386, 102, args), want, "{call:#x}");
    }
    for high in [0, 1 << 32] {
        assert_eq!(run(&program, I386, 359, [high + 38, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(run(&program, I386, 359, [high + 2, 0, 0, 0, 0, 0]), ALLOW);
    }
    let able = default_program(&[Capability::SysChroot, Capability::AuditWrite]);
    assert_eq!(run(&able, X86_64, S::chroot as u32, [0; 6]), ALLOW);
    assert_eq!(
        run(&able, X86_64, S::socket as u32, [16, 3, 9, 0, 0, 0]),
        ALLOW
    );
}

#[test]
fn a_rule_for_socket_holds_through_socketcall() {
    let deny = |args| vec![rule(&["socket", "shmget"], Action::ScmpActErrno, args)];
    let archs = || vec![Arch::ScmpArchX86];
    for args in [vec![], vec![arg(0, Op::ScmpCmpEq, 38, 0)]] {
        let program = compile(&profile(Action::ScmpActAllow, archs(), deny(args))).unwrap();
        assert_eq!(run(&program, I386, 102, [1, 0, 0, 0, 0, 0]), EPERM);
        assert_eq!(run(&program, I386, 102, [3, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&program, I386, 117, [23, 0, 0, 0, 0, 0]), EPERM);
    }
    let allow = vec![rule(
        &["socket"],
        Action::ScmpActAllow,
        vec![arg(0, Op::ScmpCmpEq, 2, 0)],
    )];
    let program = compile(&profile(Action::ScmpActErrno, archs(), allow)).unwrap();
    assert_eq!(run(&program, I386, 102, [1, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn x32_counts_when_listed() {
    let rules = vec![rule(&["read", "execve"], Action::ScmpActAllow, vec![])];
    let program = compile(&profile(
        Action::ScmpActErrno,
        vec![Arch::ScmpArchX32],
        rules,
    ))
    .unwrap();
    assert_eq!(run(&program, X86_64, X32_BIT, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, X32_BIT + 1, [0; 6]), EPERM);
    assert_eq!(run(&program, X86_64, X32_BIT + 520, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, X32_BIT + 521, [0; 6]), ENOSYS);
    assert_eq!(run(&program, X86_64, u32::MAX, [0; 6]), ENOSYS);
}

#[test]
fn calls_of_32_bits_have_lower_halves_alone() {
    let is = vec![arg(0, Op::ScmpCmpEq, u64::MAX, 0)];
    let rules = vec![rule(&["close"], Action::ScmpActErrno, is)];
    let archs = vec![Arch::ScmpArchX86];
    let program = compile(&profile(Action::ScmpActAllow, archs, rules)).unwrap();
    let call = |arch, number, first| run(&program, arch, number, [first, 0, 0, 0, 0, 0]);
    assert_eq!(call(I386, 6, 0xffff_ffff), EPERM);
    assert_eq!(call(I386, 6, 0x1_ffff_ffff), EPERM);
    assert_eq!(call(I386, 6, 0xffff_fffe), ALLOW);
    assert_eq!(call(X86_64, 3, 0xffff_ffff), ALLOW);
    assert_eq!(call(X86_64, 3, u64::MAX), EPERM);
}

#[test]
fn nonsense_is_refused_with_the_rule_that_has_it() {
    let errno = |number| {
        let mut rule = rule(&["read"], Action::ScmpActErrno, vec![]);
        rule.set_errno_ret(Some(number));
        rule
    };
    let message = |rule| {
        let err = compile(&profile(Action::ScmpActAllow, vec![], vec![rule])).unwrap_err();
        crate::error::message(&err)
    };
    assert_eq!(
        message(errno(4096)),
        "the seccomp rule for read: errnoRet 4096: an errno is at most 4095"
    );
    let sixth = vec![arg(6, Op::ScmpCmpEq, 0, 0)];
    assert_eq!(
        message(rule(&["read"], Action::ScmpActAllow, sixth)),
        "the seccomp rule for read: argument 6: system calls have arguments 0 to 5"
    );
}

/// A filter without TSYNC, like no_new_privs, holds for the calling thread alone.
#[test]
fn the_kernel_takes_the_default_program_and_obeys() {
    let program = default_program(&[Capability::NetRaw]);
    let observed = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        seccomp::install(&program, 0).unwrap();
        [
            seccomp::probe(libc::SYS_getpid, [0; 3]),
            seccomp::probe(libc::SYS_keyctl, [0; 3]),
            seccomp::probe(libc::SYS_socket, [38, 5, 0]),
            seccomp::probe(libc::SYS_socket, [(1 << 32) + 38, 5, 0]),
            seccomp::probe(libc::SYS_socket, [16, 3, 9]),
            seccomp::probe(libc::SYS_socket, [2, 999, 0]),
            seccomp::probe(libc::SYS_personality, [0x40_0000, 0, 0]),
            seccomp::probe(libc::SYS_personality, [0xffff_ffff, 0, 0]),
            seccomp::probe(libc::SYS_umount2, [0; 3]),
            seccomp::probe(1000, [0; 3]),
            seccomp::probe(i64::from(X32_BIT) + 39, [0; 3]),
            // add_key, socketcall for a socket, socket of AF_ALG, and getpid, by the 32-bit entry.
            -seccomp::probe_32(286, [0; 3]),
            -seccomp::probe_32(102, [1, 0, 0]),
            -seccomp::probe_32(102, [(1 << 32) + 1, 0, 0]),
            -seccomp::probe_32(359, [38, 5, 0]),
            -seccomp::probe_32(359, [(1 << 32) + 38, 5, 0]),
            i32::from(seccomp::probe_32(20, [0; 3]) <= 0),
        ]
    });
    let observed = observed.join().unwrap();
    assert_eq!(
        observed[..8],
        [
            0,
            libc::EPERM,
            libc::EPERM,
            libc::EPERM,
            libc::EINVAL,
            libc::EINVAL,
            libc::EPERM,
            0
        ]
    );
    assert_eq!(
        observed[8..],
        [
            libc::EPERM,
            libc::ENOSYS,
            libc::ENOSYS,
            libc::EPERM,
            libc::ENOSYS,
            libc::ENOSYS,
            libc::EPERM,
            libc::EPERM,
            0
        ]
    );
}

#[test]
fn the_default_program_is_small_and_quickly_made() {
    let start = Instant::now();
    let program = default_program(&[]);
    let took = start.elapsed();
    assert!(program.len() < 600, "{} instructions", program.len());
    // Some 20 µs optimised; without optimisation, on a busy machine, much more.
    assert!(took.as_millis() < 200, "{took:?}");
}
