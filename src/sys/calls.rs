//! Filters for rbox's own processes: the system calls that one may make, and no others.
//!
//! The program is a binary search. Linux (5.11) runs a program for each number there is when it is installed, to know
//! which calls pass whatever their arguments: a list of comparisons takes half a millisecond for that.

use std::collections::BTreeMap;

use anyhow::Context;
use anyhow::Result;

use crate::sys::assembler::ARCHITECTURE;
use crate::sys::assembler::Assembler;
use crate::sys::assembler::Label;
use crate::sys::assembler::NUMBER;
use crate::sys::assembler::Test;
use crate::sys::seccomp;
use crate::sys::seccomp::Instruction;

/// AUDIT_ARCH_* of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// What becomes of any other call.
#[derive(Clone, Copy, Debug)]
pub enum Otherwise {
    /// There is no such call, so that the C library falls back to an older one.
    Unknown,
    /// The process is killed by SIGSYS.
    Death,
}

/// An argument, a mask, and the value that it has under that.
type Condition = (u32, u64, u64);

/// Calls that a process may make: each in one of several ways, or in any.
#[derive(Default)]
pub struct Allowed(BTreeMap<u32, Vec<Vec<Condition>>>);

impl Allowed {
    /// With whatever arguments.
    pub fn all(mut self, calls: &[libc::c_long]) -> Allowed {
        for call in calls {
            self.0.insert(number(*call), vec![]);
        }
        self
    }

    /// Where arguments have such values: all of these must hold. Each call of this for the same system call is one more
    /// way to be allowed.
    pub fn when(mut self, call: libc::c_long, all: &[Condition]) -> Allowed {
        self.0.entry(number(call)).or_default().push(all.to_vec());
        self
    }

    /// Puts the filter on this thread and those that it starts.
    ///
    /// Must: be called with no_new_privs set.
    pub fn install(&self, otherwise: Otherwise) -> Result<()> {
        seccomp::install(&self.compile(otherwise), 0)
            .context("cannot install a filter of system calls")
    }

    fn compile(&self, otherwise: Otherwise) -> Vec<Instruction> {
        let otherwise = match otherwise {
            Otherwise::Unknown => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
            Otherwise::Death => libc::SECCOMP_RET_KILL_PROCESS,
        };
        let mut asm = Assembler::default();
        let foreign = asm.ret(libc::SECCOMP_RET_KILL_PROCESS);
        let tree = search(&mut asm, &self.ranges(), otherwise);
        let native = asm.load(NUMBER, tree);
        let entry = asm.branch(Test::Equal, NATIVE, native, foreign);
        let entry = asm.load(ARCHITECTURE, entry);
        asm.finish(entry)
    }

    /// Where numbers begin that fare alike; `None`: they are not allowed.
    fn ranges(&self) -> Vec<(u32, Option<&[Vec<Condition>]>)> {
        let mut ranges = vec![(0, None)];
        for (number, ways) in &self.0 {
            ranges.push((*number, Some(&ways[..])));
            ranges.push((number + 1, None));
        }
        // The one before ends where it began; and neighbours that pass in any way are one.
        let mut merged: Vec<(u32, Option<&[Vec<Condition>]>)> = vec![];
        for range in ranges {
            merged.pop_if(|last| last.0 == range.0);
            let fares_alike = |last: &(u32, Option<&[Vec<Condition>]>)| match (last.1, range.1) {
                (Some(one), Some(other)) => one.is_empty() && other.is_empty(),
                (None, None) => true,
                _ => false,
            };
            if !merged.last().is_some_and(fares_alike) {
                merged.push(range);
            }
        }
        merged
    }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of system calls are small")
}

/// Finds the range that the number in the accumulator is in.
fn search(
    asm: &mut Assembler,
    ranges: &[(u32, Option<&[Vec<Condition>]>)],
    otherwise: u32,
) -> Label {
    if let [(_, ways)] = ranges {
        let no = asm.ret(otherwise);
        return match ways {
            None => no,
            Some([]) => asm.ret(libc::SECCOMP_RET_ALLOW),
            Some(ways) => one_of(asm, ways, no),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let first = high[0].0;
    let high = search(asm, high, otherwise);
    let low = search(asm, low, otherwise);
    asm.branch(Test::GreaterOrEqual, first, high, low)
}

fn one_of(asm: &mut Assembler, ways: &[Vec<Condition>], otherwise: Label) -> Label {
    let mut next = otherwise;
    for way in ways {
        let mut holds = asm.ret(libc::SECCOMP_RET_ALLOW);
        for (argument, mask, value) in way.iter().rev() {
            holds = asm.masked_equal(*argument, (*mask, *value), false, (holds, next));
        }
        next = holds;
    }
    next
}
