//! Tests of the compiler against libseccomp: for the same profile both programs give the same answers.
//!
//! What is left out, because rbox answers otherwise on purpose:
//! * calls newer than the newest that the profile names: ENOSYS here; libseccomp has the default action, which is
//!   what made runc patch its programs
//! * architectures that are not listed: the process is killed here, the thread there; x32 that is not listed: ENOSYS
//!   here, killed there
//! * socketcall and ipc where a rule with conditions names one of their calls: refused in part is refused here, allowed
//!   in part there
//! * rules with conditions and the default action: they count in their place here, runc drops them
//! * conditions for one call that may hold at once: the first counts here; libseccomp's tree of tests loses some
//!   (of `a < 0` and `a < 2^32` the second), even where the action is the same
//! * in generated profiles: the calls of 32-bit x86 that socketcall and ipc reach, and masks of nothing, of which
//!   libseccomp 2.5.4 makes wrong programs (the number is not loaded again after the architecture)
//! * x32 calls with more than 32 bits in an argument or a rule: the kernel looks at them, libseccomp does not
//! * calls that this libseccomp is too old to know

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use oci_spec::runtime::Arch;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction as Action;
use oci_spec::runtime::LinuxSeccompArg;
use oci_spec::runtime::LinuxSeccompOperator;
use oci_spec::runtime::LinuxSyscall;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::oci::seccomp::Profile;
use crate::oci::seccomp::Surroundings;
use crate::runtime::seccomp::compile;
use crate::runtime::seccomp::default::default_profile;
use crate::runtime::seccomp::default_program;
use crate::runtime::seccomp::numbers;
use crate::runtime::seccomp::tests::I386;
use crate::runtime::seccomp::tests::X32_BIT;
use crate::runtime::seccomp::tests::X86_64;
use crate::runtime::seccomp::tests::any_rule;
use crate::runtime::seccomp::tests::any_value;
use crate::runtime::seccomp::tests::profile;
use crate::runtime::seccomp::tests::rule;
use crate::runtime::seccomp::tests::run;
use crate::sys::seccomp::Instruction;

const SOURCE: &str = include_str!("../../../tests/fixtures/libseccomp.c");
/// Docker's default profile; it lies beside the package where the engine is developed.
const DOCKER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../shared/reference/seccomp-default.json"
);
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// socketcall and ipc.
const MULTIPLEXERS: [u32; 2] = [102, 117];

/// The fixture program, compiled and without a name; `None` where libseccomp or a compiler is missing.
fn program() -> Option<&'static File> {
    static PROGRAM: OnceLock<Option<File>> = OnceLock::new();
    let compiled = PROGRAM.get_or_init(|| {
        let directory =
            std::env::temp_dir().join(format!("rbox-libseccomp-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let source = directory.join("libseccomp.c");
        let program = directory.join("libseccomp");
        std::fs::write(&source, SOURCE).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &source])
            .arg("-lseccomp");
        let done = cc.status().is_ok_and(|status| status.success());
        let file = done.then(|| File::open(&program).unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
        file
    });
    if compiled.is_none() {
        assert!(
            std::env::var_os("RBOX_TEST_STRICT").is_none_or(|value| value != "1"),
            "libseccomp is missing, which RBOX_TEST_STRICT=1 forbids"
        );
        skip("libseccomp", "no cc, or no libseccomp-dev");
    }
    compiled.as_ref()
}

/// libseccomp's program for a profile, and the names that it does not know.
struct Reference {
    program: Vec<Instruction>,
    unknown: HashSet<String>,
}

impl Reference {
    fn of(program: &File, profile: &LinuxSeccomp) -> Reference {
        let path = format!("/proc/{}/fd/{}", std::process::id(), program.as_raw_fd());
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(profile);
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{lines}");
        let mut reference = Reference {
            program: Vec::new(),
            unknown: HashSet::new(),
        };
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some(name) = line.strip_prefix("unknown ") {
                reference.unknown.insert(name.to_owned());
                continue;
            }
            let fields: Vec<u32> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            reference.program.push(Instruction {
                code: fields[0].try_into().unwrap(),
                jt: fields[1].try_into().unwrap(),
                jf: fields[2].try_into().unwrap(),
                k: fields[3],
            });
        }
        reference
    }
}

fn lines(profile: &LinuxSeccomp) -> String {
    let action = |action: Action, errno: Option<u32>| format!("{action} {}", errno.unwrap_or(1));
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut lines = format!("default {default}\n");
    for arch in profile.architectures().iter().flatten() {
        match arch {
            Arch::ScmpArchX86 => lines += "arch x86\n",
            Arch::ScmpArchX32 => lines += "arch x32\n",
            _ => {}
        }
    }
    for rule in profile.syscalls().iter().flatten() {
        let names = rule.names().join(",");
        let action = action(rule.action(), rule.errno_ret());
        write!(lines, "rule {action} {names}").unwrap();
        for arg in rule.args().iter().flatten() {
            let second = arg.value_two().unwrap_or(0);
            write!(
                lines,
                " {} {} {} {second}",
                arg.index(),
                arg.op(),
                arg.value()
            )
            .unwrap();
        }
        lines += "\n";
    }
    lines
}

/// The numbers that a name has: on x86_64, x32 and 32-bit x86.
fn find(name: &str) -> [Option<u32>; 3] {
    [
        numbers::x86_64::find(name.as_bytes()),
        numbers::find_x32(name),
        numbers::x86::find(name.as_bytes()),
    ]
}

/// What both programs are asked about, and where their answers must be the same.
struct Comparison {
    listed: [bool; 3],
    /// The newest call named, of each set of numbers.
    newest: [Option<u32>; 3],
    unknown: HashSet<[Option<u32>; 3]>,
    lets_pass: bool,
    multiplexes_in_part: bool,
    /// Rules with values of more than 32 bits.
    wide: bool,
}

impl Comparison {
    fn new(profile: &LinuxSeccomp, reference: &Reference) -> Self {
        let archs = profile.architectures().clone().unwrap_or_default();
        let rules = || profile.syscalls().iter().flatten();
        let names = || rules().flat_map(LinuxSyscall::names);
        let newest = |at: usize| names().filter_map(|name| find(name)[at]).max();
        let pass = [
            Action::ScmpActAllow,
            Action::ScmpActLog,
            Action::ScmpActTrace,
        ];
        Comparison {
            listed: [
                true,
                archs.contains(&Arch::ScmpArchX32),
                archs.contains(&Arch::ScmpArchX86),
            ],
            newest: [newest(0), newest(1), newest(2)],
            unknown: reference.unknown.iter().map(|name| find(name)).collect(),
            lets_pass: pass.contains(&profile.default_action()),
            wide: rules().any(|rule| {
                let wide = |value| value > u64::from(u32::MAX);
                let mut args = rule.args().iter().flatten();
                args.any(|arg| wide(arg.value()) || arg.value_two().is_some_and(wide))
            }),
            multiplexes_in_part: rules().any(|rule| {
                let conditional = !rule.args().as_deref().unwrap_or_default().is_empty();
                let multiplexed = |name: &String| numbers::multiplexed(name).is_some();
                conditional && rule.names().iter().any(multiplexed)
            }),
        }
    }

    /// Whether the answers to a call must be the same.
    fn covers(&self, arch: u32, number: u32, args: [u64; 6]) -> bool {
        let at = match (arch, number & X32_BIT) {
            (X86_64, 0) => 0,
            (X86_64, _) => 1,
            _ => 2,
        };
        let newer = !self.lets_pass && self.newest[at].is_some_and(|newest| number > newest);
        self.listed[at]
            && !newer
            && number != u32::MAX
            && !self.unknown.iter().any(|one| one[at] == Some(number))
            && !(at == 1 && self.wide)
            && !(at == 1 && args.iter().any(|arg| *arg > u64::from(u32::MAX)))
            && !(at == 2 && MULTIPLEXERS.contains(&number) && self.multiplexes_in_part)
    }
}

/// Leaves no call with conditions that may hold at once, and nothing that the library gets wrong.
fn comparable(default: Action, rules: Vec<LinuxSyscall>) -> Vec<LinuxSyscall> {
    let mut seen = HashSet::new();
    let apart = |mut rule: LinuxSyscall| {
        let mut args = rule.args().clone().unwrap_or_default();
        if args.iter().any(|arg| {
            arg.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && arg.value().trailing_zeros() >= 32
        }) {
            return None;
        }
        let always = args.is_empty();
        let values: HashSet<_> = args.iter().map(|arg| (arg.index(), arg.value())).collect();
        let equal = args
            .iter()
            .all(|arg| arg.op() == LinuxSeccompOperator::ScmpCmpEq);
        let indexes: HashSet<_> = args.iter().map(LinuxSeccompArg::index).collect();
        let choice_of_values = indexes.len() == 1 && equal && values.len() == args.len();
        if !choice_of_values {
            let mut tested = HashSet::new();
            args.retain(|arg| tested.insert(arg.index()));
        }
        rule.set_args(Some(args));
        let mut names = rule.names().clone();
        names.retain(|name| {
            numbers::multiplexed(name).is_none() && seen.insert((name.clone(), always))
        });
        let counts = !names.is_empty() && (always || rule.action() != default);
        rule.set_names(names);
        counts.then_some(rule)
    };
    rules.into_iter().filter_map(apart).collect()
}

proptest! {
    // The same profiles at each run: one in some thousand meets a fault of libseccomp.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 200,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]
    #[test]
    fn generated_profiles_mean_what_libseccomp_takes_them_for(
        default in prop::sample::select(vec![Action::ScmpActAllow, Action::ScmpActErrno, Action::ScmpActKillProcess, Action::ScmpActLog]),
        archs in prop::sample::subsequence(vec![Arch::ScmpArchX86, Arch::ScmpArchX32], 0..3),
        rules in prop::collection::vec(any_rule(), 1..40),
        calls in prop::collection::vec((0_u32..480, prop::array::uniform6(any_value())), 100),
    ) {
        let Some(program) = program() else { return Ok(()) };
        let profile = profile(default, archs, comparable(default, rules));
        let ours = compile(&profile).unwrap();
        let reference = Reference::of(program, &profile);
        let comparison = Comparison::new(&profile, &reference);
        for (number, args) in calls {
            for number in [number, number % 2, number | X32_BIT] {
                for arch in [X86_64, I386] {
                    if comparison.covers(arch, number, args) {
                        let got = run(&ours, arch, number, args);
                        let want = run(&reference.program, arch, number, args);
                        prop_assert_eq!(got, want, "{:#x} {} {:x?}\n{}", arch, number, args, lines(&profile));
                    }
                }
            }
        }
    }
}

fn docker(capabilities: &[Capability]) -> Option<LinuxSeccomp> {
    let capabilities = capabilities.iter().copied().collect();
    let surroundings = Surroundings {
        capabilities: &capabilities,
        kernel: (6, 0),
    };
    let text = std::fs::read_to_string(DOCKER).ok()?;
    let profile = Profile::parse(&text).unwrap();
    Some(profile.resolve(&surroundings).unwrap())
}

/// Whether Docker's profile is there to be compared with. It is no fault of a machine that it is not.
fn has_docker() -> bool {
    let there = std::path::Path::new(DOCKER).exists();
    if !there {
        skip(
            "Docker's profile",
            "../shared/reference/seccomp-default.json is not there",
        );
    }
    there
}

/// Tells of a skipped test.
#[expect(clippy::print_stderr, reason = "the line that tells of a skipped test")]
fn skip(name: &str, reason: &str) {
    eprintln!("SKIP {name}: {reason}");
}

const CAPABILITIES: [&[Capability]; 4] = [
    &[],
    &[
        Capability::SysChroot,
        Capability::AuditWrite,
        Capability::SysNice,
    ],
    &[Capability::SysAdmin],
    &[
        Capability::SysAdmin,
        Capability::AuditWrite,
        Capability::Bpf,
        Capability::DacReadSearch,
        Capability::Perfmon,
        Capability::SysBoot,
        Capability::SysChroot,
        Capability::SysModule,
        Capability::SysNice,
        Capability::SysPacct,
        Capability::SysPtrace,
        Capability::SysRawio,
        Capability::SysTime,
        Capability::SysTtyConfig,
        Capability::Syslog,
    ],
];

/// Arguments that the rules of Docker's profile tell apart, and some that they do not.
fn arguments() -> Vec<[u64; 6]> {
    let mut all = vec![[u64::MAX; 6]];
    let values = [
        0,
        1,
        2,
        8,
        16,
        38,
        39,
        40,
        41,
        0x2_0000,
        0x2_0008,
        0xffff_ffff,
        0x1_0000_0026,
    ];
    for first in values.into_iter().chain((0..33).map(|bit| 1 << bit)) {
        for third in [0, 9] {
            all.push([first, 1, third, 0, 0, 0]);
        }
    }
    all
}

#[test]
fn dockers_profile_means_what_libseccomp_takes_it_for() {
    let Some(program) = program() else { return };
    if !has_docker() {
        return;
    }
    for capabilities in CAPABILITIES {
        let profile = docker(capabilities).unwrap();
        let ours = compile(&profile).unwrap();
        let reference = Reference::of(program, &profile);
        let comparison = Comparison::new(&profile, &reference);
        let mut compared = 0;
        for args in arguments() {
            for number in (0..500).chain((0..560).map(|number| number | X32_BIT)) {
                for arch in [X86_64, I386] {
                    if comparison.covers(arch, number, args) {
                        let got = run(&ours, arch, number, args);
                        let want = run(&reference.program, arch, number, args);
                        assert_eq!(got, want, "{arch:#x} {number:#x} {args:x?}");
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 100_000, "{compared}");
    }
}

/// But for the calls whose conditions may hold at once: socket and socketcall, of which other tests tell.
#[test]
fn the_default_profile_means_what_libseccomp_takes_it_for() {
    let Some(program) = program() else { return };
    for capabilities in CAPABILITIES {
        let held = capabilities.iter().copied().collect();
        let profile = default_profile(&held);
        let ours = default_program(&held);
        let reference = Reference::of(program, &profile);
        let mut comparison = Comparison::new(&profile, &reference);
        comparison.multiplexes_in_part = true;
        let mut compared = 0;
        for args in arguments() {
            for number in 0..500 {
                for (arch, socket) in [(X86_64, 41), (I386, 359)] {
                    if number != socket && comparison.covers(arch, number, args) {
                        let got = run(&ours, arch, number, args);
                        let want = run(&reference.program, arch, number, args);
                        assert_eq!(got, want, "{arch:#x} {number:#x} {args:x?}");
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 50_000, "{compared}");
    }
}

/// What `libseccomp` does with what is not listed, as told at the top.
#[test]
fn what_is_not_listed_is_refused_by_both() {
    let Some(program) = program() else { return };
    let rules = vec![rule(&["read", "futex_waitv"], Action::ScmpActAllow, vec![])];
    let profile = profile(Action::ScmpActErrno, vec![], rules);
    let ours = compile(&profile).unwrap();
    let reference = Reference::of(program, &profile).program;
    for (arch, number, here, there) in [
        (
            I386,
            3,
            libc::SECCOMP_RET_KILL_PROCESS,
            libc::SECCOMP_RET_KILL_THREAD,
        ),
        (X86_64, X32_BIT, ENOSYS, libc::SECCOMP_RET_KILL_THREAD),
        (X86_64, 450, ENOSYS, EPERM),
        (X86_64, 448, EPERM, EPERM),
    ] {
        assert_eq!(run(&ours, arch, number, [0; 6]), here);
        assert_eq!(run(&reference, arch, number, [0; 6]), there);
    }
}

/// rbox's own profile is Docker's but for what its header names.
#[test]
fn the_default_program_is_dockers_but_for_what_is_documented() {
    if !has_docker() {
        return;
    }
    for capabilities in CAPABILITIES {
        let set: HashSet<_> = capabilities.iter().copied().collect();
        let ours = default_program(&set);
        let theirs = compile(&docker(capabilities).unwrap()).unwrap();
        let admin = set.contains(&Capability::SysAdmin);
        let audit = set.contains(&Capability::AuditWrite);
        for args in arguments() {
            for number in 0..470 {
                for (arch, socket) in [(X86_64, 41), (I386, 359)] {
                    let documented = match number {
                        // x32 aside, these are all: pivot_root, open_tree_attr, socket, socketcall.
                        155 | 467 if arch == X86_64 => admin,
                        217 | 467 if arch == I386 => admin,
                        _ if number == socket => {
                            args[0] > u64::from(u32::MAX)
                                || (args[0] == 16 && args[2] == 9 && !audit)
                        }
                        102 if arch == I386 => true,
                        _ => number > 462,
                    };
                    let answers = [
                        run(&ours, arch, number, args),
                        run(&theirs, arch, number, args),
                    ];
                    assert!(
                        documented || answers[0] == answers[1],
                        "{arch:#x} {number} {args:x?}: {answers:#x?}"
                    );
                }
            }
        }
    }
    // The clones of namespaces are among what was compared.
    let new_user = [0x1000_0011, 0, 0, 0, 0, 0];
    assert_eq!(
        run(&default_program(&HashSet::new()), X86_64, 56, new_user),
        EPERM
    );
}
