//! Rules for devices as a program of eBPF.
//!
//! What an access wants is a set of bits, and each has to be allowed: the last rule for the device that speaks of
//! a bit decides about it, and a bit of which none speaks is denied. The program goes from the last rule to the
//! first, takes away the bits that a rule allows, and says no where a rule denies one that is left:
//!
//! ```text
//! r2 = kind, r3 = wanted bits, r4 = major, r5 = minor
//! r3 == 0 ──► allow
//! for each rule, the last one first:
//!     r2 != kind, r4 != major, r5 != minor ──► next rule
//!     allows:  r3 &= ~access;  r3 == 0 ──► allow
//!     denies:  r3 & access     ──► deny
//! deny
//! ```

use super::Rule;
use crate::sys::bpf::Instruction;

// linux/bpf.h and linux/bpf_common.h: class, operation and operand in one byte.
pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const AND: u8 = 0x54;
pub(super) const SHIFT_RIGHT: u8 = 0x74;
pub(super) const COPY: u8 = 0xbf;
pub(super) const SET: u8 = 0xb7;
pub(super) const EXIT: u8 = 0x95;
/// Jumps that compare 32 bits (Linux 5.1).
pub(super) const JUMP_IF_NOT_EQUAL: u8 = 0x56;
pub(super) const JUMP_IF_BITS: u8 = 0x46;
pub(super) const JUMP: u8 = 0x05;

const ANSWER: u8 = 0;
/// At the start: where the kernel's `struct bpf_cgroup_dev_ctx` is.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, 0),
        Instruction {
            registers: WANTED | KIND << 4,
            ..on(COPY, 0, 0)
        },
        on(SHIFT_RIGHT, WANTED, 16),
        on(AND, KIND, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
        jump(JUMP_IF_NOT_EQUAL, WANTED, 0, 2),
    ];
    program.extend(answer(true));
    for rule in rules.iter().rev() {
        if rule.is_for_everything() {
            // What is before it does not matter, and Linux refuses instructions that are never reached.
            program.extend(answer(rule.allow));
            return program;
        }
        program.extend(compile_one(rule));
    }
    program.extend(answer(false));
    program
}

fn compile_one(rule: &Rule) -> Vec<Instruction> {
    let access = rule.access.cast_signed();
    let mut rest = if rule.allow {
        vec![
            on(AND, WANTED, !access),
            jump(JUMP_IF_NOT_EQUAL, WANTED, 0, 2),
        ]
    } else {
        vec![jump(JUMP_IF_BITS, WANTED, access, 1), jump(JUMP, 0, 0, 2)]
    };
    rest.extend(answer(rule.allow));
    for (register, value) in [(MINOR, rule.minor), (MAJOR, rule.major), (KIND, rule.kind)] {
        if let Some(value) = value {
            let skip = i16::try_from(rest.len()).unwrap_or(i16::MAX);
            rest.insert(
                0,
                jump(JUMP_IF_NOT_EQUAL, register, value.cast_signed(), skip),
            );
        }
    }
    rest
}

fn on(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        immediate,
    }
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        registers: register | CONTEXT << 4,
        offset,
        ..on(LOAD_WORD, 0, 0)
    }
}

fn jump(code: u8, register: u8, value: i32, skip: i16) -> Instruction {
    Instruction {
        offset: skip,
        ..on(code, register, value)
    }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [on(SET, ANSWER, i32::from(allow)), on(EXIT, 0, 0)]
}
