//! An assembler of classic BPF that works from the end of the program to its beginning.
//!
//! BPF jumps only forward and at most 255 instructions when they depend on a test. Written
//! backwards, every target of a jump exists when the jump is made: no second pass, no
//! patching, and a target out of reach gets an unconditional jump (32 bits wide) on the way.

use crate::sys::seccomp::Instruction;

/// The kernel takes no longer program (BPF_MAXINSNS).
pub const LONGEST: usize = 4096;

/// Offsets in `struct seccomp_data`. Arguments are 64 bits wide, little-endian here.
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// What a branch asks of the accumulator: `A == k`, `A > k`, `A >= k`.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// The program, last instruction first.
#[derive(Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    /// The nearest `return` of each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions the next one would skip to get there.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - 1 - to.0
    }

    /// Ends the program with a value; shares an equal ending in reach.
    pub fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some(at) = known {
            let label = self.returns[at].1;
            if self.distance(label) < usize::from(u8::MAX) {
                return label;
            }
            self.returns.swap_remove(at);
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.push((value, label));
        label
    }

    /// Loads a word of `struct seccomp_data` and goes on at `then`.
    pub fn load(&mut self, offset: u32, then: Label) -> Label {
        self.next(then);
        self.push(LOAD_WORD, 0, 0, offset)
    }

    /// Masks the accumulator and goes on at `then`.
    pub fn and(&mut self, mask: u32, then: Label) -> Label {
        self.next(then);
        self.push(AND, 0, 0, mask)
    }

    pub fn branch(&mut self, test: Test, k: u32, yes: Label, no: Label) -> Label {
        // The second detour moves the first one a place further away: hence the two limits.
        let yes = self.within(yes, usize::from(u8::MAX) - 1);
        let no = self.within(no, usize::from(u8::MAX));
        let skip = |label| u8::try_from(self.distance(label)).expect("the target is in reach");
        self.push(test as u16, skip(yes), skip(no), k)
    }

    /// Sees to it that the next instruction falls through to `label`.
    fn next(&mut self, label: Label) {
        self.within(label, 0);
    }

    fn within(&mut self, label: Label, limit: usize) -> Label {
        let distance = self.distance(label);
        if distance <= limit {
            return label;
        }
        let skip = u32::try_from(distance).expect("a program is short");
        self.push(JUMP, 0, 0, skip)
    }

    /// Whether an argument has this value under a mask: 64 bits in halves of 32, of which the lower one may be all that
    /// counts.
    pub fn masked_equal(
        &mut self,
        argument: u32,
        (mask, value): (u64, u64),
        low_half: bool,
        (yes, no): (Label, Label),
    ) -> Label {
        let (low_at, high_at) = halves(argument);
        let (low_mask, high_mask) = words(mask);
        let (low_value, high_value) = words(value);
        let mut half = |offset, mask, value, yes| {
            let equal = self.branch(Test::Equal, value, yes, no);
            let masked = if mask == u32::MAX {
                equal
            } else {
                self.and(mask, equal)
            };
            self.load(offset, masked)
        };
        let low = half(low_at, low_mask, low_value, yes);
        if low_half || (high_mask == 0 && high_value == 0) {
            return low;
        }
        half(high_at, high_mask, high_value, low)
    }

    /// The program, begun at `entry`.
    pub fn finish(mut self, entry: Label) -> Vec<Instruction> {
        self.next(entry);
        self.reversed.reverse();
        self.reversed
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each word is half of the value"
)]
pub fn words(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Where the lower and the upper half of an argument are.
pub fn halves(argument: u32) -> (u32, u32) {
    let low = ARGUMENTS + 8 * argument;
    (low, low + 4)
}

/// Whether a program has only instructions of this assembler, and ends wherever it goes.
pub fn is_sound(program: &[Instruction]) -> bool {
    let known = |(at, one): (usize, &Instruction)| {
        let left = program.len() - 1 - at;
        let within = |skip: u32| usize::try_from(skip).is_ok_and(|skip| skip < left);
        match one.code {
            // struct seccomp_data has 64 bytes.
            LOAD_WORD => within(0) && one.k < 64 && one.k.is_multiple_of(4),
            AND => within(0),
            JUMP => within(one.k),
            0x15 | 0x25 | 0x35 => within(one.jt.into()) && within(one.jf.into()),
            RETURN => true,
            _ => false,
        }
    };
    !program.is_empty() && program.len() <= LONGEST && program.iter().enumerate().all(known)
}
