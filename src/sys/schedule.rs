//! How the kernel schedules a process: sched_setattr(2), sched_setaffinity(2), ioprio_set(2), set_mempolicy(2).
#![expect(unsafe_code, reason = "none of these calls has a safe wrapper")]

use rustix::process::Pid;

use crate::sys::Result;
use crate::sys::process::check;

/// Bits of a word of a CPU or node mask.
const WORD: usize = u64::BITS as usize;

/// Linux: `sched_attr` of sched_setattr(2), version 1 (5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// Sets policy and parameters of a process.
pub fn set(pid: Pid, attributes: Attributes) -> Result<()> {
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).expect("a few bytes"),
        ..attributes
    };
    // SAFETY: the structure is live and has the size that it tells.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            pid.as_raw_pid(),
            &raw const attributes,
            0,
        )
    };
    check(result, || format!("sched_setattr({attributes:?})"))
}

/// Linux: `IOPRIO_WHO_PROCESS`, and where the class lies in the value (linux/ioprio.h).
const WHO_PROCESS: i32 = 1;
const CLASS_SHIFT: u32 = 13;

/// Sets class and level of the priority with which a process reads and writes.
pub fn set_io_priority(pid: Pid, class: u32, level: u32) -> Result<()> {
    let value = class << CLASS_SHIFT | level;
    // SAFETY: plain integers.
    let result =
        unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, pid.as_raw_pid(), value) };
    check(result, || format!("ioprio_set({class}, {level})"))
}

/// The CPUs that this process may run on, as a mask.
pub fn affinity() -> Result<Vec<u64>> {
    // Linux: EINVAL where the mask is smaller than that of the kernel, which has 8192 CPUs at most.
    let mut mask = vec![0_u64; 8192 / WORD];
    // SAFETY: the pointer and the length in bytes describe the mask.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(mask.as_slice()),
            mask.as_mut_ptr(),
        )
    };
    check(result, || "sched_getaffinity".into())?;
    Ok(mask)
}

pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: the pointer and the length in bytes describe the mask.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    };
    check(result, || "sched_setaffinity".into())
}

/// The policy by which memory for this process is taken from the nodes of the machine.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // Linux: the count is one more than there are bits (set_mempolicy(2), BUGS).
    let count = if nodes.is_empty() {
        0
    } else {
        nodes.len() * WORD + 1
    };
    // SAFETY: the kernel reads `count` - 1 bits of the mask, and none of an empty one.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), count) };
    check(result, || format!("set_mempolicy({mode:#x})"))
}

/// The mask of a list such as `0-3,7`; nothing for what is no such list.
pub fn mask(list: &str) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        for bit in usize::from(first)..=usize::from(last) {
            if mask.len() <= bit / WORD {
                mask.resize(bit / WORD + 1, 0);
            }
            mask[bit / WORD] |= 1 << (bit % WORD);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_masks() {
        assert_eq!(mask("0-3,7"), Some(vec![0b1000_1111]));
        assert_eq!(mask("64"), Some(vec![0, 1]));
        assert_eq!(mask("3-1"), Some(vec![]));
        assert_eq!(mask("x"), None);
    }

    #[test]
    fn our_own_affinity_can_be_set_again() {
        let now = affinity().unwrap();
        assert!(now.iter().any(|word| *word != 0));
        set_affinity(&now).unwrap();
    }
}
