//! Learning what a container needs: it runs under the default filter, every call that this lets by is noted, and at
//! the end the least profile that allows them is written.
//!
//! * Nothing is allowed that the default filter refuses: of two filters Linux obeys the stricter answer, so that refused
//!   calls are refused and never heard of. Rules on arguments are taken over for the calls that were made.
//! * What rbox itself does between the filter and the command is noted too; a container with the profile does it again.
//! * A call that the default filter answers with ENOSYS does so in the profile, for the sake of programs that try
//!   another way then; everything else that was not seen answers EPERM.
//! * The names of calls of both architectures are in one list, since the OCI's form has no rules for one architecture.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::LinuxSyscall;

use crate::runtime::notify::Handler;
use crate::runtime::seccomp::default;
use crate::runtime::seccomp::rules::Abi;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::sys::notify::Answer;
use crate::sys::notify::Listener;
use crate::sys::notify::Notification;

/// Calls that a program makes only when something happens to it, which need not happen while it is watched:
/// the end of a signal handler, a call that goes on after a stop, the end.
const AT_ANY_TIME: [&str; 4] = ["exit", "exit_group", "restart_syscall", "rt_sigreturn"];

/// What rbox does before the command to watch, and not before one with a profile: it installs the default
/// filter after that which asks, and waits for the thread that hands the listener over.
const OF_WATCHING: [&str; 2] = ["futex", "seccomp"];

/// Notes calls, and lets somebody else answer them.
pub struct Learner {
    file: PathBuf,
    capabilities: HashSet<Capability>,
    calls: BTreeSet<(u32, u32)>,
    /// The thread that becomes the container's command, until it does.
    preparing: Option<i32>,
    inner: Option<Box<dyn Handler>>,
}

impl Learner {
    /// A profile for `file`, of a container that is left these capabilities.
    pub fn new(
        file: &Path,
        capabilities: HashSet<Capability>,
        inner: Option<Box<dyn Handler>>,
    ) -> Learner {
        Learner {
            file: file.to_owned(),
            capabilities,
            calls: BTreeSet::new(),
            preparing: None,
            inner,
        }
    }

    fn note(&mut self, call: &Notification) {
        if self.calls.contains(&(call.arch, call.number)) {
            return;
        }
        let first = self.calls.is_empty() && self.preparing.is_none();
        if first {
            self.preparing = Some(call.tid);
        }
        if self.preparing == Some(call.tid) {
            match name(call.arch, call.number) {
                Some("execve" | "execveat") => self.preparing = Some(0),
                Some(name) if OF_WATCHING.contains(&name) => return,
                _ => {}
            }
        }
        self.calls.insert((call.arch, call.number));
    }

    fn profile(&self) -> LinuxSeccomp {
        let calls = self.calls.iter();
        let seen = calls.filter_map(|(arch, number)| name(*arch, *number));
        let seen: BTreeSet<&str> = seen.chain(AT_ANY_TIME).collect();
        let usual = default::conditional(&self.capabilities);
        let of_arguments: Vec<LinuxSyscall> = usual
            .syscalls()
            .iter()
            .flatten()
            .filter(|rule| {
                let unknown = rule.errno_ret() == Some(libc::ENOSYS.cast_unsigned())
                    && rule.names().iter().any(|name| self.is_known(name));
                unknown || rule.names().iter().any(|name| seen.contains(name.as_str()))
            })
            .cloned()
            .collect();
        let by_arguments = |name: &&str| {
            let mut names = of_arguments.iter().flat_map(LinuxSyscall::names);
            names.any(|listed| listed == name)
        };
        let mut always = LinuxSyscall::default();
        let names = seen.iter().filter(|name| !by_arguments(name));
        always.set_names(names.map(ToString::to_string).collect());
        always.set_action(LinuxSeccompAction::ScmpActAllow);

        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(usual.default_action());
        profile.set_default_errno_ret(usual.default_errno_ret());
        profile.set_architectures(Some(self.abis().map(Abi::arch).collect()));
        let rules = std::iter::once(always).chain(of_arguments);
        profile.set_syscalls(Some(rules.collect()));
        profile
    }

    /// Whether an architecture that was used has the call.
    fn is_known(&self, name: &str) -> bool {
        let mut used = self.abis();
        used.any(|abi| abi.find(name).is_some())
    }

    fn abis(&self) -> impl Iterator<Item = Abi> {
        let used = |abi: &Abi| {
            let mut calls = self.calls.iter();
            *abi == Abi::NATIVE || calls.any(|(arch, _)| *arch == abi.audit_arch())
        };
        Abi::OF_THE_DEFAULT.into_iter().filter(used)
    }
}

impl Handler for Learner {
    fn answer(&mut self, call: &Notification, listener: Listener<'_>) -> Answer {
        self.note(call);
        match &mut self.inner {
            Some(inner) => inner.answer(call, listener),
            None => Answer::Continue,
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let written = serde_json::to_string_pretty(&self.profile())
            .map_err(Into::into)
            .and_then(|text| {
                let text = text + "\n";
                atomic::write(&self.file, text.as_bytes(), Durability::Volatile)
            })
            .context("cannot keep what was learned of the container's system calls");
        match &mut self.inner {
            Some(inner) => written.and(inner.end()),
            None => written,
        }
    }
}

fn name(arch: u32, number: u32) -> Option<&'static str> {
    let mut abis = Abi::OF_THE_DEFAULT.into_iter();
    abis.find(|abi| abi.audit_arch() == arch)?.name(number)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use oci_spec::runtime::Arch;

    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;

    fn learned(calls: &[(i32, u32, u32)], capabilities: &[Capability]) -> LinuxSeccomp {
        let held = capabilities.iter().copied().collect();
        let mut learner = Learner::new(Path::new("/nowhere"), held, None);
        for (tid, arch, number) in calls {
            learner.note(&Notification {
                id: 1,
                tid: *tid,
                arch: *arch,
                number: *number,
                args: [0; 6],
            });
        }
        learner.profile()
    }

    fn names(profile: &LinuxSeccomp, rule: usize) -> String {
        profile.syscalls().as_ref().unwrap()[rule].names().join(" ")
    }

    #[test]
    fn names_are_sorted_and_architectures_are_those_used() {
        // capset, execveat; getpid and futex of the command
        let calls = [
            (7, X86_64, 126),
            (7, X86_64, 322),
            (7, X86_64, 39),
            (7, X86_64, 202),
        ];
        let profile = learned(&calls, &[]);
        assert_eq!(
            names(&profile, 0),
            "capset execveat exit exit_group futex getpid restart_syscall rt_sigreturn"
        );
        assert_eq!(profile.architectures(), &Some(vec![Arch::ScmpArchX86_64]));
        let both = learned(&[(7, X86_64, 322), (7, I386, 20)], &[]);
        let archs = Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]);
        assert_eq!(both.architectures(), &archs);
        assert!(names(&both, 0).contains("getpid"));
    }

    #[test]
    fn what_only_watching_needs_is_left_out() {
        let own = [(7, X86_64, 202), (7, X86_64, 317)];
        let profile = learned(&own, &[]);
        assert_eq!(names(&profile, 0), AT_ANY_TIME.join(" "));
        let others = [
            (7, X86_64, 126),
            (8, X86_64, 202),
            (7, X86_64, 322),
            (7, X86_64, 317),
        ];
        let profile = learned(&others, &[]);
        assert!(names(&profile, 0).contains("futex"));
        assert!(names(&profile, 0).contains("seccomp"));
    }

    #[test]
    fn rules_on_arguments_are_taken_over() {
        let rules = |calls: &[u32], capabilities| {
            let calls: Vec<_> = calls.iter().map(|number| (7, X86_64, *number)).collect();
            let profile = learned(&calls, capabilities);
            let count = profile.syscalls().as_ref().unwrap().len();
            (1..count).map(|at| names(&profile, at)).collect::<Vec<_>>()
        };
        // clone3 answers ENOSYS in any case.
        assert_eq!(rules(&[39], &[]), ["clone3"]);
        assert_eq!(rules(&[56], &[]), ["clone", "clone3"]);
        // With CAP_SYS_ADMIN there are no rules on their arguments to take over.
        assert!(rules(&[56, 435], &[Capability::SysAdmin]).is_empty());
        // personality has one rule for each value.
        assert_eq!(rules(&[135], &[]).len(), 6);
    }
}
