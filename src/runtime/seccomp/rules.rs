//! What a profile says about each system call number: names resolved, rules of one call
//! brought together, numbers of equal outcome merged into ranges. Pure data.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use oci_spec::runtime::Arch;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompOperator;
use oci_spec::runtime::LinuxSyscall;

use crate::runtime::seccomp::numbers;
use crate::runtime::seccomp::numbers::Calls;
use crate::runtime::seccomp::numbers::Table;

/// The largest errno that a filter may answer (MAX_ERRNO).
const LARGEST_ERRNO: u32 = 4095;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// A set of system call numbers with the names of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    #[cfg(target_arch = "x86_64")]
    X86_64,
    #[cfg(target_arch = "x86_64")]
    X32,
    #[cfg(target_arch = "x86_64")]
    X86,
    #[cfg(target_arch = "aarch64")]
    Aarch64,
}

impl Abi {
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Abi = Abi::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Abi = Abi::Aarch64;

    /// Those of rbox's own profile.
    #[cfg(target_arch = "x86_64")]
    pub const OF_THE_DEFAULT: [Abi; 2] = [Abi::X86_64, Abi::X86];
    #[cfg(target_arch = "aarch64")]
    pub const OF_THE_DEFAULT: [Abi; 1] = [Abi::Aarch64];

    /// `None` for architectures whose programs this kernel cannot run, and for 32-bit ARM.
    fn of(arch: Arch) -> Option<Abi> {
        match arch {
            Arch::ScmpArchNative => Some(Abi::NATIVE),
            #[cfg(target_arch = "x86_64")]
            Arch::ScmpArchX86_64 => Some(Abi::X86_64),
            #[cfg(target_arch = "x86_64")]
            Arch::ScmpArchX32 => Some(Abi::X32),
            #[cfg(target_arch = "x86_64")]
            Arch::ScmpArchX86 => Some(Abi::X86),
            #[cfg(target_arch = "aarch64")]
            Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
            _ => None,
        }
    }

    pub fn arch(self) -> Arch {
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X86_64 => Arch::ScmpArchX86_64,
            #[cfg(target_arch = "x86_64")]
            Abi::X32 => Arch::ScmpArchX32,
            #[cfg(target_arch = "x86_64")]
            Abi::X86 => Arch::ScmpArchX86,
            #[cfg(target_arch = "aarch64")]
            Abi::Aarch64 => Arch::ScmpArchAarch64,
        }
    }

    /// The name of a call; none for x32.
    pub fn name(self, number: u32) -> Option<&'static str> {
        let number = usize::try_from(number).ok()?;
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X86_64 => Some(syscalls::x86_64::Sysno::new(number)?.name()),
            #[cfg(target_arch = "x86_64")]
            Abi::X86 => Some(syscalls::x86::Sysno::new(number)?.name()),
            #[cfg(target_arch = "x86_64")]
            Abi::X32 => None,
            #[cfg(target_arch = "aarch64")]
            Abi::Aarch64 => Some(syscalls::aarch64::Sysno::new(number)?.name()),
        }
    }

    /// AUDIT_ARCH_* of linux/audit.h: the ELF machine, with bits for 64 bits and little-endian.
    pub fn audit_arch(self) -> u32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            #[cfg(target_arch = "x86_64")]
            Abi::X86 => 0x4000_0003,
            #[cfg(target_arch = "aarch64")]
            Abi::Aarch64 => 0xc000_00b7,
        }
    }

    pub fn find(self, name: &str) -> Option<u32> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X86_64 => numbers::x86_64::find(name.as_bytes()),
            #[cfg(target_arch = "x86_64")]
            Abi::X32 => numbers::find_x32(name),
            #[cfg(target_arch = "x86_64")]
            Abi::X86 => numbers::x86::find(name.as_bytes()),
            #[cfg(target_arch = "aarch64")]
            Abi::Aarch64 => numbers::aarch64::find(name.as_bytes()),
        }
    }

    /// The calls of a table; rbox's own profile does not list x32.
    fn of_table(self, table: &Table) -> Option<&Calls> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X86_64 => Some(&table.x86_64),
            #[cfg(target_arch = "x86_64")]
            Abi::X86 => Some(&table.x86),
            #[cfg(target_arch = "x86_64")]
            Abi::X32 => None,
            #[cfg(target_arch = "aarch64")]
            Abi::Aarch64 => Some(&table.aarch64),
        }
    }

    /// Where the numbers begin.
    fn first(self) -> u32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Abi::X32 => numbers::X32_BIT,
            _ => 0,
        }
    }

    /// The old multiplexer of 32-bit x86 that reaches the call too, and the value of its first argument.
    fn multiplexed(self, name: &str, number: Option<u32>) -> Option<(u32, u64)> {
        match self {
            // The multiplexed calls have late numbers of their own or none: few names need the longer search.
            #[cfg(target_arch = "x86_64")]
            Abi::X86 if number.is_none_or(|number| number >= numbers::FIRST_DIRECT) => {
                let (multiplexer, value) = numbers::multiplexed(name)?;
                Some((self.find(multiplexer)?, value))
            }
            _ => None,
        }
    }

    /// A condition as it is tested with this architecture.
    fn fit(self, condition: &Condition) -> Condition {
        let mut fitted = *condition;
        #[cfg(target_arch = "x86_64")]
        if self == Abi::X86 {
            // Linux: `int 0x80` in a 64-bit process leaves the upper halves of the registers as they are, which
            // the filter sees and the call does not.
            fitted.low_half = true;
        }
        fitted
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & mask == value`; the value has no bits outside the mask.
    MaskedEqual {
        mask: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub argument: u32,
    pub comparison: Comparison,
    pub value: u64,
    /// Whether the lower 32 bits alone are compared, of both sides.
    pub low_half: bool,
}

impl Condition {
    fn always_holds(&self) -> bool {
        let anything = [
            Comparison::GreaterOrEqual,
            Comparison::MaskedEqual { mask: 0 },
        ];
        self.value == 0 && anything.contains(&self.comparison)
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The filter's return value.
    Return(u32),
    /// That of the first case whose conditions all hold.
    Choose {
        cases: Vec<(Vec<Condition>, u32)>,
        otherwise: u32,
    },
}

/// The numbers from `start` to the start of the next range.
#[derive(Debug)]
pub struct Range {
    pub start: u32,
    pub outcome: Outcome,
}

enum Names<'a> {
    Listed(&'a [String]),
    /// Found by the compiler.
    Known(&'a Table),
}

struct Rule<'a> {
    names: Names<'a>,
    action: u32,
    /// Sets of conditions, each of them enough; none at all where the rule always holds.
    alternatives: Vec<Vec<Condition>>,
}

/// A profile's rules, understood and checked.
pub struct Rules<'a> {
    listed: Vec<Rule<'a>>,
    default: u32,
    /// What calls answer that are newer than the profile.
    newer: u32,
    abis: Vec<Abi>,
}

impl<'a> Rules<'a> {
    pub fn new(profile: &'a LinuxSeccomp) -> Result<Self> {
        let action = profile.default_action();
        if action == LinuxSeccompAction::ScmpActNotify {
            bail!("SCMP_ACT_NOTIFY cannot be the default action of a seccomp profile");
        }
        let default = return_value(action, profile.default_errno_ret())?;
        let calls = profile.syscalls().as_deref().unwrap_or_default();
        let listed = profile.architectures().as_deref().unwrap_or_default();
        let mut abis = vec![Abi::NATIVE];
        for abi in listed.iter().filter_map(|arch| Abi::of(*arch)) {
            if !abis.contains(&abi) {
                abis.push(abi);
            }
        }
        Ok(Rules {
            listed: calls.iter().map(Rule::new).collect::<Result<_>>()?,
            default,
            newer: if lets_pass(default) { default } else { ENOSYS },
            abis,
        })
    }

    /// Adds calls that are allowed in any case.
    pub fn allow(&mut self, table: &'a Table) {
        self.listed.push(Rule {
            names: Names::Known(table),
            action: libc::SECCOMP_RET_ALLOW,
            alternatives: Vec::new(),
        });
    }

    /// The listed ones, those that the kernel gives the same name (x86_64 and x32) together; the native one first.
    pub fn architectures(&self) -> Vec<Vec<Abi>> {
        let mut groups: Vec<Vec<Abi>> = Vec::new();
        for abi in &self.abis {
            let same = groups
                .iter_mut()
                .find(|group| group[0].audit_arch() == abi.audit_arch());
            match same {
                Some(group) => group.push(*abi),
                None => groups.push(vec![*abi]),
            }
        }
        groups
    }

    /// What happens to each number, from 0 up to the largest, in the architecture of these.
    pub fn ranges(&self, abis: &[Abi]) -> Vec<Range> {
        let mut ranges = Vec::new();
        for abi in abis {
            self.add_abi(&mut ranges, *abi);
        }
        #[cfg(target_arch = "x86_64")]
        if abis == [Abi::X86_64] {
            add(&mut ranges, numbers::X32_BIT, Outcome::Return(ENOSYS));
        }
        ranges
    }

    fn add_abi(&self, ranges: &mut Vec<Range>, abi: Abi) {
        let (entries, last) = self.entries(abi);
        let mut next = abi.first();
        for call in entries.chunk_by(|a, b| a.number == b.number) {
            let number = call[0].number;
            if number > next {
                add(ranges, next, Outcome::Return(self.default));
            }
            add(ranges, number, self.outcome(abi, call));
            next = number + 1;
        }
        // Rules that say nothing name calls all the same.
        if last.is_some_and(|last| last >= next) {
            add(ranges, next, Outcome::Return(self.default));
            next = last.map_or(next, |last| last + 1);
        }
        let newer = last.map_or(self.default, |_| self.newer);
        add(ranges, next, Outcome::Return(newer));
    }

    /// All rules by number, in the profile's order within one number; and the largest number named.
    fn entries(&self, abi: Abi) -> (Vec<Entry<'_>>, Option<u32>) {
        let mut entries = Vec::with_capacity(512);
        let mut last = None;
        for rule in &self.listed {
            let always = rule.alternatives.is_empty();
            let says_nothing = always && rule.action == self.default;
            let names = match rule.names {
                Names::Listed(names) => names,
                Names::Known(table) => {
                    let calls = abi.of_table(table).into_iter().flat_map(Calls::iter);
                    for number in calls {
                        last = last.max(Some(number));
                        entries.push(Entry {
                            number,
                            rule,
                            through: None,
                        });
                    }
                    continue;
                }
            };
            for name in names {
                let number = abi.find(name);
                if let Some(number) = number {
                    last = last.max(Some(number));
                    if !says_nothing {
                        entries.push(Entry {
                            number,
                            rule,
                            through: None,
                        });
                    }
                }
                // A multiplexer's other arguments are in memory, which a filter cannot read:
                // a rule with conditions denies there what it denies in part, and allows nothing.
                if let Some((number, value)) = abi.multiplexed(name, number)
                    && !says_nothing
                    && (always || !lets_pass(rule.action))
                {
                    entries.push(Entry {
                        number,
                        rule,
                        through: Some(value),
                    });
                }
            }
        }
        entries.sort_by_key(|entry| entry.number);
        (entries, last)
    }

    fn outcome(&self, abi: Abi, call: &[Entry<'_>]) -> Outcome {
        let always = call
            .iter()
            .find(|entry| entry.through.is_none() && entry.rule.alternatives.is_empty());
        if let Some(entry) = always {
            return Outcome::Return(entry.rule.action);
        }
        let mut cases: Vec<(Vec<Condition>, u32)> = Vec::new();
        for entry in call {
            let action = entry.rule.action;
            if let Some(value) = entry.through {
                let condition = Condition {
                    argument: 0,
                    comparison: Comparison::Equal,
                    value,
                    low_half: true,
                };
                cases.push((vec![condition], action));
                continue;
            }
            for conditions in &entry.rule.alternatives {
                if conditions.iter().all(Condition::always_holds) {
                    return Outcome::Choose {
                        cases,
                        otherwise: action,
                    };
                }
                let conditions = conditions.iter().map(|one| abi.fit(one)).collect();
                cases.push((conditions, action));
            }
        }
        Outcome::Choose {
            cases,
            otherwise: self.default,
        }
    }
}

/// One rule for one number; `through` where the number is that of a multiplexer.
struct Entry<'a> {
    number: u32,
    rule: &'a Rule<'a>,
    through: Option<u64>,
}

fn add(ranges: &mut Vec<Range>, start: u32, outcome: Outcome) {
    if ranges.last().is_none_or(|last| last.outcome != outcome) {
        ranges.push(Range { start, outcome });
    }
}

impl<'a> Rule<'a> {
    fn new(call: &'a LinuxSyscall) -> Result<Self> {
        let describe = || format!("the seccomp rule for {}", call.names().join(", "));
        let notify = call.action() == LinuxSeccompAction::ScmpActNotify;
        if notify && call.names().iter().any(|name| name == "write") {
            // The process that hands over the listener's descriptor has to write.
            bail!("{}: SCMP_ACT_NOTIFY cannot be used for write", describe());
        }
        let args = call.args().as_deref().unwrap_or_default();
        let conditions = args
            .iter()
            .map(condition)
            .collect::<Result<Vec<_>>>()
            .with_context(describe)?;
        let twice = conditions.iter().enumerate().any(|(at, one)| {
            let earlier = &conditions[..at];
            earlier.iter().any(|other| other.argument == one.argument)
        });
        let alternatives = if conditions.is_empty() {
            Vec::new()
        } else if twice {
            conditions.into_iter().map(|one| vec![one]).collect()
        } else {
            vec![conditions]
        };
        Ok(Rule {
            names: Names::Listed(call.names()),
            action: return_value(call.action(), call.errno_ret()).with_context(describe)?,
            alternatives,
        })
    }
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition> {
    let Ok(argument @ 0..6) = u32::try_from(arg.index()) else {
        bail!(
            "argument {}: system calls have arguments 0 to 5",
            arg.index()
        );
    };
    let comparison = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less,
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal,
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual,
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            return Ok(Condition {
                argument,
                comparison: Comparison::MaskedEqual { mask: arg.value() },
                value: arg.value_two().unwrap_or(0) & arg.value(),
                low_half: false,
            });
        }
    };
    Ok(Condition {
        argument,
        comparison,
        value: arg.value(),
        low_half: false,
    })
}

fn return_value(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno if errno > LARGEST_ERRNO => {
            bail!("errnoRet {errno}: an errno is at most {LARGEST_ERRNO}")
        }
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => {
            libc::SECCOMP_RET_TRACE | (errno & libc::SECCOMP_RET_DATA)
        }
        LinuxSeccompAction::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    })
}

/// Whether a call with this outcome may reach the kernel. A tracer is expected to know new calls by itself.
fn lets_pass(value: u32) -> bool {
    let action = value & libc::SECCOMP_RET_ACTION_FULL;
    [
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_TRACE,
    ]
    .contains(&action)
}
