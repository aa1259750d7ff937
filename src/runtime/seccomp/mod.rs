//! From an OCI seccomp profile to the program that the kernel runs before each system call.
//!
//! What a profile means, where the specification leaves it open (as runc and libseccomp have it):
//! * Several conditions of one rule hold together, unless two of them look at the same
//!   argument: then each of them alone is enough.
//! * A rule without conditions wins over rules with conditions, the first of its kind wins;
//!   of rules with conditions the first in the profile's order that holds decides.
//! * A rule without conditions whose action is the default one says nothing.
//! * Names that the architecture does not have are skipped.
//! * Calls newer than the newest that the profile names answer ENOSYS, not the default errno:
//!   C libraries fall back to older calls on ENOSYS alone. Not where the default action lets calls pass.
//! * 32-bit calls have arguments of 32 bits: the upper halves, of the register and in the profile, are not looked at.
//! * The architecture of rbox itself always counts as listed. A call of one that is not listed kills the process;
//!   a call of x32 that is not listed answers ENOSYS, as kernels without x32 do.
//!
//! The program is a binary search over ranges of numbers with equal outcome, built anew at each
//! start: for the default profile that takes less time than finding and reading a cached one.

mod assembler;
mod default;
pub mod emulation;
mod numbers;
mod rules;

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use anyhow::Result;
use anyhow::bail;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompFilterFlag;

#[cfg(test)]
use crate::runtime::seccomp::default::default_profile;

use crate::runtime::seccomp::assembler::Assembler;
use crate::runtime::seccomp::assembler::Label;
use crate::runtime::seccomp::assembler::Test;
use crate::runtime::seccomp::rules::Comparison;
use crate::runtime::seccomp::rules::Condition;
use crate::runtime::seccomp::rules::Outcome;
use crate::runtime::seccomp::rules::Range;
use crate::runtime::seccomp::rules::Rules;
use crate::sys::seccomp::Instruction;

/// The kernel takes no longer program (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// Offsets in `struct seccomp_data`. Arguments are 64 bits wide, little-endian here.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A program of classic BPF, ready to be installed.
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
    pub notify: Notify,
}

/// Which calls of a filter wait for an answer of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    Nothing,
    /// Some, and none that the process makes between the filter and its command. The filter is left out where the
    /// kernel says that somebody answers calls already.
    Harmless,
    /// Perhaps all.
    Anything,
}

impl Filter {
    pub fn of_profile(profile: &LinuxSeccomp) -> Result<Filter> {
        Ok(Filter {
            program: compile(profile)?,
            flags: flags(profile),
            notify: Notify::Nothing,
        })
    }

    /// The default for a container that is left these capabilities.
    pub fn standard(capabilities: &HashSet<Capability>) -> Filter {
        Filter {
            program: default_program(capabilities),
            flags: 0,
            notify: Notify::Nothing,
        }
    }

    /// Every call of every architecture waits for an answer.
    pub fn asking() -> Filter {
        let mut asm = Assembler::default();
        let entry = asm.ret(libc::SECCOMP_RET_USER_NOTIF);
        Filter {
            program: asm.finish(entry),
            flags: 0,
            notify: Notify::Anything,
        }
    }

    /// Installs it for this process and what it executes.
    pub fn install(&self) -> crate::sys::Result<()> {
        crate::sys::seccomp::install(&self.program, self.flags)
    }

    /// The same, for one whose notified calls are answered through the descriptor.
    pub fn install_with_listener(&self) -> crate::sys::Result<OwnedFd> {
        crate::sys::seccomp::install_with_listener(&self.program, self.flags)
    }
}

/// Turns a profile into a program for `sys::seccomp::install`.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<Instruction>> {
    let program = assemble(&Rules::new(profile)?);
    if program.len() > LONGEST {
        bail!(
            "the seccomp profile needs {} instructions, the kernel takes {LONGEST}",
            program.len()
        );
    }
    Ok(program)
}

/// The program of `default_profile`, several times as fast: its names became numbers when rbox was compiled.
pub fn default_program(capabilities: &HashSet<Capability>) -> Vec<Instruction> {
    let conditional = default::conditional(capabilities);
    let mut rules = Rules::new(&conditional).expect("the default profile is sound");
    for table in default::tables(capabilities) {
        rules.allow(table);
    }
    assemble(&rules)
}

fn assemble(rules: &Rules) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let mut entry = asm.ret(libc::SECCOMP_RET_KILL_PROCESS);
    // The architecture tested first is written last.
    for abis in rules.architectures().iter().rev() {
        let ranges = rules.ranges(abis);
        let tree = search(&mut asm, &ranges);
        let section = asm.load(NUMBER, tree);
        entry = asm.branch(Test::Equal, abis[0].audit_arch(), section, entry);
    }
    let entry = asm.load(ARCHITECTURE, entry);
    asm.finish(entry)
}

/// The flags of seccomp(2) that a profile asks for. Without any, the mitigation of speculative store
/// bypass is left as it is, which is what runc does and what Linux does by itself since 5.16.
pub fn flags(profile: &LinuxSeccomp) -> u32 {
    let flag = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        // One thread calls seccomp(2), in a process that has no other.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        }
    };
    let bits = match profile.flags() {
        Some(flags) => flags.iter().map(flag).fold(0, |all, one| all | one),
        None => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    };
    u32::try_from(bits).expect("the flags are small")
}

/// Finds the range that the number in the accumulator is in, and goes on with its outcome.
fn search(asm: &mut Assembler, ranges: &[Range]) -> Label {
    if let [range] = ranges {
        return outcome(asm, &range.outcome);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let first = high[0].start;
    let high = search(asm, high);
    let low = search(asm, low);
    asm.branch(Test::GreaterOrEqual, first, high, low)
}

fn outcome(asm: &mut Assembler, outcome: &Outcome) -> Label {
    match outcome {
        Outcome::Return(value) => asm.ret(*value),
        Outcome::Choose { cases, otherwise } => {
            let mut next = asm.ret(*otherwise);
            for (conditions, value) in cases.iter().rev() {
                let mut holds = asm.ret(*value);
                for condition in conditions.iter().rev() {
                    holds = test(asm, condition, holds, next);
                }
                next = holds;
            }
            next
        }
    }
}

/// Tests one argument of 64 bits, in halves of 32.
fn test(asm: &mut Assembler, condition: &Condition, yes: Label, no: Label) -> Label {
    let (low_at, high_at) = halves(condition.argument);
    let (low, high) = words(condition.value);
    let order = |asm: &mut Assembler, on_low, yes, no| {
        let low = asm.branch(on_low, low, yes, no);
        let low = asm.load(low_at, low);
        if condition.low_half {
            return low;
        }
        let same = asm.branch(Test::Equal, high, low, no);
        let above = asm.branch(Test::Greater, high, yes, same);
        asm.load(high_at, above)
    };
    match condition.comparison {
        Comparison::Greater => order(asm, Test::Greater, yes, no),
        Comparison::GreaterOrEqual => order(asm, Test::GreaterOrEqual, yes, no),
        Comparison::Less => order(asm, Test::GreaterOrEqual, no, yes),
        Comparison::LessOrEqual => order(asm, Test::Greater, no, yes),
        Comparison::Equal => masked_equal(asm, condition, u64::MAX, yes, no),
        Comparison::NotEqual => masked_equal(asm, condition, u64::MAX, no, yes),
        Comparison::MaskedEqual { mask } => masked_equal(asm, condition, mask, yes, no),
    }
}

fn masked_equal(
    asm: &mut Assembler,
    condition: &Condition,
    mask: u64,
    yes: Label,
    no: Label,
) -> Label {
    let (low_at, high_at) = halves(condition.argument);
    let (low_mask, high_mask) = words(mask);
    let (low_value, high_value) = words(condition.value);
    let mut half = |offset, mask, value, yes| {
        let equal = asm.branch(Test::Equal, value, yes, no);
        let masked = if mask == u32::MAX {
            equal
        } else {
            asm.and(mask, equal)
        };
        asm.load(offset, masked)
    };
    let low = half(low_at, low_mask, low_value, yes);
    if condition.low_half || (high_mask == 0 && high_value == 0) {
        return low;
    }
    half(high_at, high_mask, high_value, low)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each word is half of the value"
)]
fn words(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Where the lower and the upper half of an argument are.
fn halves(argument: u32) -> (u32, u32) {
    let low = ARGUMENTS + 8 * argument;
    (low, low + 4)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
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
    use crate::sys::seccomp;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const X32_BIT: u32 = 0x4000_0000;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const EINVAL: u32 = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;

    /// What the kernel would make of a program.
    fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
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
            return have & fit(arg.value()) == fit(arg.value_two().unwrap_or(0));
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
        let named = |n| {
            name(n).is_some_and(|name| rules.iter().any(|r| r.names().iter().any(|x| x == name)))
        };
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

    fn rule(names: &[&str], action: Action, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
        let mut rule = LinuxSyscall::default();
        rule.set_names(names.iter().map(ToString::to_string).collect());
        rule.set_action(action);
        rule.set_args(Some(args));
        rule
    }

    fn arg(index: usize, op: Op, value: u64, two: u64) -> LinuxSeccompArg {
        let builder = LinuxSeccompArgBuilder::default();
        let builder = builder.index(index).op(op).value(value).value_two(two);
        builder.build().unwrap()
    }

    fn profile(default: Action, archs: Vec<Arch>, rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(default);
        profile.set_architectures(Some(archs));
        profile.set_syscalls(Some(rules));
        profile
    }

    fn any_value() -> impl Strategy<Value = u64> {
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
            Action::ScmpActTrap,
            Action::ScmpActTrace,
            Action::ScmpActLog,
        ])
    }

    fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
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
        (names, any_action(), errno, args).prop_map(|(names, action, errno, args)| {
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
}
