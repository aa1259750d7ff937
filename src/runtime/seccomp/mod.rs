//! From an OCI seccomp profile to the program that the kernel runs before each system call.
//!
//! What a profile means, where the specification leaves it open (as runc and libseccomp have it):
//! * Several conditions of one rule hold together, unless two of them look at the same
//!   argument: then each of them alone is enough.
//! * A rule without conditions wins over rules with conditions, the first of its kind wins;
//!   of rules with conditions the first in the profile's order that holds decides.
//! * Of the value that a masked argument is compared with, bits outside the mask do not count.
//! * A rule without conditions whose action is the default one says nothing.
//! * Names that the architecture does not have are skipped.
//! * Calls newer than the newest that the profile names answer ENOSYS, not the default errno:
//!   C libraries fall back to older calls on ENOSYS alone. Not where the default action lets calls pass.
//! * 32-bit calls have arguments of 32 bits: the upper halves, of the register and in the profile, are not looked at.
//! * The architecture of rbox itself always counts as listed. A call of one that is not listed kills the process;
//!   a call of x32 that is not listed answers ENOSYS, as kernels without x32 do.
//!
//! The program is a binary search over ranges of numbers with equal outcome. That of the default profile is
//! built anew at each start, which takes no more time than finding and reading a kept one; those of other profiles
//! are kept (`engine::seccomp`).

mod default;
pub mod emulation;
pub mod learn;
mod numbers;
#[cfg(all(test, target_arch = "x86_64"))]
mod reference;
mod rules;
mod stored;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use anyhow::Result;
use anyhow::bail;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompFilterFlag;

use crate::runtime::seccomp::rules::Comparison;
use crate::runtime::seccomp::rules::Condition;
use crate::runtime::seccomp::rules::Outcome;
use crate::runtime::seccomp::rules::Range;
use crate::runtime::seccomp::rules::Rules;
use crate::sys::assembler::ARCHITECTURE;
use crate::sys::assembler::Assembler;
use crate::sys::assembler::LONGEST;
use crate::sys::assembler::Label;
use crate::sys::assembler::NUMBER;
use crate::sys::assembler::Test;
use crate::sys::assembler::halves;
use crate::sys::assembler::words;
use crate::sys::seccomp::Instruction;

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

/// Whether the kernel has the flag of this name of the specification.
pub fn has_flag(name: &str) -> bool {
    let flags = match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => libc::SECCOMP_FILTER_FLAG_TSYNC,
        "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        }
        _ => return false,
    };
    crate::sys::seccomp::knows(flags)
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
    let equal = |asm: &mut Assembler, mask, ways| {
        let value = (mask, condition.value);
        asm.masked_equal(condition.argument, value, condition.low_half, ways)
    };
    match condition.comparison {
        Comparison::Greater => order(asm, Test::Greater, yes, no),
        Comparison::GreaterOrEqual => order(asm, Test::GreaterOrEqual, yes, no),
        Comparison::Less => order(asm, Test::GreaterOrEqual, no, yes),
        Comparison::LessOrEqual => order(asm, Test::Greater, no, yes),
        Comparison::Equal => equal(asm, u64::MAX, (yes, no)),
        Comparison::NotEqual => equal(asm, u64::MAX, (no, yes)),
        Comparison::MaskedEqual { mask } => equal(asm, mask, (yes, no)),
    }
}
