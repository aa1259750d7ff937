//! bpf(2): loading a program that decides about devices, and attaching it to a control group.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper in rustix")]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::sys::Result;
use crate::sys::SyscallError;
use crate::sys::process::last_errno;

/// One instruction of eBPF, laid out as the kernel's `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    /// The destination register in the lower four bits, the source above.
    pub registers: u8,
    /// How many instructions a jump skips, or where in memory a load is from.
    pub offset: i16,
    pub immediate: i32,
}

// linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Beside programs that others attach; all must allow.
const ALLOW_MULTI: u32 = 2;

/// As long as the kernel's OBJ_NAME_LEN, its end with it.
type Name = [u8; 16];

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: Name,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    fd: u32,
    length: u32,
    place: u64,
}

/// The beginning of the kernel's `struct bpf_prog_info`; it fills as much as there is room for.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    places: [u64; 2],
    load_time: u64,
    owner: u32,
    map_count: u32,
    map_ids: u64,
    name: Name,
}

/// Must: `attr` is the structure of that command, and what it points to lives and may be written as the command
/// says.
unsafe fn bpf<T>(command: libc::c_int, name: &str, attr: &mut T) -> Result<u32> {
    // SAFETY: the kernel reads and writes at most the size that is given, of a structure that is ours; for what
    // that points to the caller answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    u32::try_from(result).map_err(|_| SyscallError {
        call: format!("bpf({name})"),
        errno: last_errno(),
    })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// Must: `number` is a new descriptor that nobody else owns.
unsafe fn own(number: u32) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(number).unwrap_or(RawFd::MAX)) }
}

/// A program of the kind that decides about devices.
pub struct DeviceProgram(OwnedFd);

impl DeviceProgram {
    /// Must: be called by who has CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace (EPERM).
    pub fn load(instructions: &[Instruction], name: &str) -> Result<DeviceProgram> {
        let mut attr = Load {
            kind: PROG_TYPE_CGROUP_DEVICE,
            count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
            instructions: instructions.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            name: fixed(name),
            ..Load::default()
        };
        // SAFETY: the instructions and the licence live on, and are only read.
        let fd = unsafe { bpf(PROG_LOAD, "BPF_PROG_LOAD", &mut attr) }?;
        // SAFETY: this command answers with a new descriptor; Linux makes it close-on-exec.
        Ok(DeviceProgram(unsafe { own(fd) }))
    }

    /// Attaches the program to a group, beside what is there.
    pub fn attach(&self, group: BorrowedFd<'_>) -> Result<()> {
        self.change(PROG_ATTACH, "BPF_PROG_ATTACH", group, ALLOW_MULTI)
    }

    pub fn detach(&self, group: BorrowedFd<'_>) -> Result<()> {
        self.change(PROG_DETACH, "BPF_PROG_DETACH", group, 0)
    }

    fn change(
        &self,
        command: libc::c_int,
        name: &str,
        group: BorrowedFd<'_>,
        flags: u32,
    ) -> Result<()> {
        let mut attr = Attach {
            target: number(group),
            program: number(std::os::fd::AsFd::as_fd(&self.0)),
            kind: ATTACH_CGROUP_DEVICE,
            flags,
        };
        // SAFETY: the structure has numbers only.
        unsafe { bpf(command, name, &mut attr) }.map(|_| ())
    }

    /// The programs of this name that are attached to the group itself.
    pub fn attached(group: BorrowedFd<'_>, name: &str) -> Result<Vec<DeviceProgram>> {
        // Linux: at most 64 for one group (BPF_CGROUP_MAX_PROGS).
        let mut ids = [0u32; 64];
        let mut attr = Query {
            target: number(group),
            kind: ATTACH_CGROUP_DEVICE,
            ids: ids.as_mut_ptr() as u64,
            count: 64,
            ..Query::default()
        };
        // SAFETY: the kernel writes at most `count` numbers to `ids`, which has room for them.
        unsafe { bpf(PROG_QUERY, "BPF_PROG_QUERY", &mut attr) }?;
        let mut programs = Vec::new();
        for id in ids.iter().take(attr.count as usize) {
            match DeviceProgram::of_id(*id) {
                // Detached meanwhile.
                Err(err) if err.errno == Errno::NOENT => {}
                program => {
                    let program = program?;
                    if program.name()? == fixed(name) {
                        programs.push(program);
                    }
                }
            }
        }
        Ok(programs)
    }

    fn of_id(id: u32) -> Result<DeviceProgram> {
        let mut attr = ById {
            id,
            ..ById::default()
        };
        // SAFETY: the structure has numbers only.
        let fd = unsafe { bpf(PROG_GET_FD_BY_ID, "BPF_PROG_GET_FD_BY_ID", &mut attr) }?;
        // SAFETY: this command answers with a new descriptor.
        Ok(DeviceProgram(unsafe { own(fd) }))
    }

    fn name(&self) -> Result<Name> {
        let mut info = ProgramInfo::default();
        let mut attr = Info {
            fd: number(std::os::fd::AsFd::as_fd(&self.0)),
            length: u32::try_from(size_of::<ProgramInfo>()).unwrap_or(0),
            place: (&raw mut info) as u64,
        };
        // SAFETY: the kernel writes at most `length` bytes to `info`, all of which are numbers.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, "BPF_OBJ_GET_INFO_BY_FD", &mut attr) }?;
        Ok(info.name)
    }
}

fn fixed(name: &str) -> Name {
    let mut fixed = Name::default();
    for (to, from) in fixed.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    fixed
}
