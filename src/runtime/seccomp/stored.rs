//! Filters as bytes, for a cache: the flags, then the program, 8 bytes an instruction, little-endian.

use crate::runtime::seccomp::Filter;
use crate::runtime::seccomp::Notify;
use crate::sys::assembler;
use crate::sys::seccomp::Instruction;

impl Filter {
    /// Must: be a filter whose calls wait for nobody's answer.
    pub fn encode(&self) -> Vec<u8> {
        debug_assert_eq!(self.notify, Notify::Nothing);
        let mut bytes = self.flags.to_le_bytes().to_vec();
        for one in &self.program {
            bytes.extend(one.code.to_le_bytes());
            bytes.extend([one.jt, one.jf]);
            bytes.extend(one.k.to_le_bytes());
        }
        bytes
    }

    /// `None` unless it is a whole program of instructions that the compiler makes.
    pub fn decode(bytes: &[u8]) -> Option<Filter> {
        let (flags, rest) = bytes.split_first_chunk::<4>()?;
        let (chunks, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let program: Vec<_> = chunks.iter().copied().map(instruction).collect();
        assembler::is_sound(&program).then_some(Filter {
            program,
            flags: u32::from_le_bytes(*flags),
            notify: Notify::Nothing,
        })
    }
}

fn instruction([code, code_high, jt, jf, k @ ..]: [u8; 8]) -> Instruction {
    Instruction {
        code: u16::from_le_bytes([code, code_high]),
        jt,
        jf,
        k: u32::from_le_bytes(k),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::sys::assembler::LONGEST;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let filter = Filter::standard(&HashSet::new());
        let read = Filter::decode(&filter.encode()).unwrap();
        assert!(read.program == filter.program);
        assert_eq!(read.flags, filter.flags);
    }

    #[test]
    fn programs_that_the_compiler_does_not_make_are_refused() {
        let one = |code, jt, jf, k| Instruction { code, jt, jf, k };
        let end = one(0x06, 0, 0, 0);
        let decoded = |program: &[Instruction]| {
            let filter = Filter {
                program: program.to_vec(),
                flags: 0,
                notify: Notify::Nothing,
            };
            Filter::decode(&filter.encode()).is_some()
        };
        assert!(decoded(&[one(0x20, 0, 0, 4), one(0x15, 1, 0, 7), end, end]));
        assert!(!decoded(&[]));
        // Beyond its end: by falling, by a test, by a jump.
        assert!(!decoded(&[one(0x20, 0, 0, 4)]));
        assert!(!decoded(&[one(0x15, 1, 0, 7), end]));
        assert!(!decoded(&[one(0x15, 0, 1, 7), end]));
        assert!(!decoded(&[one(0x05, 0, 0, 1), end]));
        assert!(!decoded(&[one(0x05, 0, 0, u32::MAX), end]));
        // No such word, no such instruction.
        assert!(!decoded(&[one(0x20, 0, 0, 64), end]));
        assert!(!decoded(&[one(0x20, 0, 0, 2), end]));
        assert!(!decoded(&[one(0x80, 0, 0, 0), end]));
        assert!(!decoded(&vec![end; LONGEST + 1]));
        assert!(Filter::decode(&[0; 11]).is_none());
    }
}
