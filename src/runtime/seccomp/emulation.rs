//! The filter of containers with a single id: the calls of package managers and daemons that need other ids than
//! that one wait for an answer (`supervisor::emulation`); everything else passes.
//!
//! Those that read ids are among them, since what was pretended must be told again, and so is exit_group(2), the last
//! moment in which the children of a process are known to be its own. Calls on files are not, but for chown(2).

use oci_spec::runtime::Arch;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSeccompArgBuilder;
use oci_spec::runtime::LinuxSeccompOperator;
use oci_spec::runtime::LinuxSyscall;

use crate::runtime::seccomp::Filter;
use crate::runtime::seccomp::Notify;
use crate::runtime::seccomp::numbers;

/// Users and groups have the same calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    User,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The first argument that is an id.
    Chown(usize),
    Set(Of),
    SetRealEffective(Of),
    SetRealEffectiveSaved(Of),
    SetFileSystem(Of),
    SetGroups,
    GetReal(Of),
    GetEffective(Of),
    GetRealEffectiveSaved(Of),
    GetGroups,
    /// The argument that is the mode; `MakeNode(2)` has a directory before its path.
    MakeNode(usize),
    KeepCapabilities,
    /// landlock_restrict_self(2)
    Confine,
    Exit,
}

const CALLS: [(&str, Call); 25] = [
    ("chown", Call::Chown(1)),
    ("lchown", Call::Chown(1)),
    ("fchown", Call::Chown(1)),
    ("fchownat", Call::Chown(2)),
    ("setuid", Call::Set(Of::User)),
    ("setgid", Call::Set(Of::Group)),
    ("setreuid", Call::SetRealEffective(Of::User)),
    ("setregid", Call::SetRealEffective(Of::Group)),
    ("setresuid", Call::SetRealEffectiveSaved(Of::User)),
    ("setresgid", Call::SetRealEffectiveSaved(Of::Group)),
    ("setfsuid", Call::SetFileSystem(Of::User)),
    ("setfsgid", Call::SetFileSystem(Of::Group)),
    ("setgroups", Call::SetGroups),
    ("getuid", Call::GetReal(Of::User)),
    ("getgid", Call::GetReal(Of::Group)),
    ("geteuid", Call::GetEffective(Of::User)),
    ("getegid", Call::GetEffective(Of::Group)),
    ("getresuid", Call::GetRealEffectiveSaved(Of::User)),
    ("getresgid", Call::GetRealEffectiveSaved(Of::Group)),
    ("getgroups", Call::GetGroups),
    ("mknod", Call::MakeNode(1)),
    ("mknodat", Call::MakeNode(2)),
    ("prctl", Call::KeepCapabilities),
    ("landlock_restrict_self", Call::Confine),
    ("exit_group", Call::Exit),
];

/// Linux: AUDIT_ARCH_I386 (linux/audit.h).
const I386: u32 = 0x4000_0003;
/// The number has this bit where a program of x32 makes the call; those here have no other numbers there.
const X32_BIT: u32 = 0x4000_0000;

/// A call as one entry of the kernel numbers it.
struct Known {
    i386: bool,
    number: u32,
    call: Call,
    /// 32-bit x86 has each of the older calls twice, first with ids of 16 bits.
    narrow: bool,
}

/// What the numbers of notified calls mean.
pub struct Meanings(Vec<Known>);

impl Meanings {
    pub fn new() -> Meanings {
        let mut known = Vec::new();
        for (name, call) in CALLS {
            if let Some(number) = native(name) {
                known.push(Known {
                    i386: false,
                    number,
                    call,
                    narrow: false,
                });
            }
            known.extend(on_i386(name, call));
        }
        Meanings(known)
    }

    /// The call, and whether its ids have 16 bits.
    pub fn of(&self, arch: u32, number: u32) -> Option<(Call, bool)> {
        let i386 = arch == I386;
        let number = if i386 { number } else { number & !X32_BIT };
        let mut all = self.0.iter();
        let known = all.find(|known| known.i386 == i386 && known.number == number)?;
        Some((known.call, known.narrow))
    }
}

#[cfg(target_arch = "x86_64")]
fn native(name: &str) -> Option<u32> {
    numbers::x86_64::find(name.as_bytes())
}

#[cfg(target_arch = "aarch64")]
fn native(name: &str) -> Option<u32> {
    numbers::aarch64::find(name.as_bytes())
}

#[cfg(target_arch = "x86_64")]
fn on_i386(name: &str, call: Call) -> impl Iterator<Item = Known> {
    let known = move |number, narrow| Known {
        i386: true,
        number,
        call,
        narrow,
    };
    let wide = numbers::x86::find(format!("{name}32").as_bytes());
    let plain = numbers::x86::find(name.as_bytes());
    let plain = plain.map(|number| known(number, wide.is_some()));
    plain
        .into_iter()
        .chain(wide.map(|number| known(number, false)))
}

#[cfg(target_arch = "aarch64")]
fn on_i386(_: &str, _: Call) -> impl Iterator<Item = Known> {
    std::iter::empty()
}

/// The filter.
pub fn filter() -> anyhow::Result<Filter> {
    let mut rules = Vec::new();
    let mut names = Vec::new();
    for (name, call) in CALLS {
        match call {
            Call::MakeNode(mode) => {
                // FIFOs, sockets and files need no other rights than a directory to be in.
                for kind in [libc::S_IFCHR, libc::S_IFBLK] {
                    rules.push(ask_if(name, mode, libc::S_IFMT, kind)?);
                }
            }
            Call::KeepCapabilities => {
                // Linux: the option is an int.
                let option = libc::PR_SET_KEEPCAPS.cast_unsigned();
                rules.push(ask_if(name, 0, u32::MAX, option)?);
            }
            _ => names.extend([name.to_owned(), format!("{name}32")]),
        }
    }
    rules.push(ask(names));
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActAllow);
    profile.set_architectures(Some(vec![
        Arch::ScmpArchNative,
        Arch::ScmpArchX86,
        Arch::ScmpArchX32,
    ]));
    profile.set_syscalls(Some(rules));
    let mut filter = Filter::of_profile(&profile)?;
    filter.notify = Notify::Harmless;
    Ok(filter)
}

fn ask(names: Vec<String>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names);
    rule.set_action(LinuxSeccompAction::ScmpActNotify);
    rule
}

/// Where these bits of an argument have this value.
fn ask_if(name: &str, argument: usize, mask: u32, value: u32) -> anyhow::Result<LinuxSyscall> {
    let is = LinuxSeccompArgBuilder::default()
        .index(argument)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .value(u64::from(mask))
        .value_two(u64::from(value))
        .build()?;
    let mut rule = ask(vec![name.to_owned()]);
    rule.set_args(Some(vec![is]));
    Ok(rule)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    const X86_64: u32 = 0xc000_003e;

    #[test]
    fn numbers_mean_what_they_do_at_each_entry() {
        let meanings = Meanings::new();
        assert_eq!(meanings.of(X86_64, 105), Some((Call::Set(Of::User), false)));
        let x32 = meanings.of(X86_64, X32_BIT + 105);
        assert_eq!(x32, Some((Call::Set(Of::User), false)));
        // setuid, setuid32, fchownat, mknod of 32-bit x86.
        assert_eq!(meanings.of(I386, 23), Some((Call::Set(Of::User), true)));
        assert_eq!(meanings.of(I386, 213), Some((Call::Set(Of::User), false)));
        assert_eq!(meanings.of(I386, 298), Some((Call::Chown(2), false)));
        assert_eq!(meanings.of(I386, 14), Some((Call::MakeNode(1), false)));
        assert_eq!(meanings.of(I386, 105), None);
        assert_eq!(meanings.of(X86_64, 0), None);
    }
}
