//! System call filters: the default one and those of profiles, judged by a program that makes the calls.
use std::fmt::Write as _;
use std::process::Command;

use crate::support::Rbox;

const CALLS: &str = include_str!("../fixtures/calls.rs");

/// busybox, and `-v` with `tests/fixtures/calls.rs` as `/calls`.
fn with_calls() -> (Rbox, String) {
    let rbox = Rbox::with_busybox();
    let source = rbox.write("calls.rs", CALLS);
    let program = rbox.work("calls");
    let flags = [
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
    ];
    let status = Command::new("rustc")
        .args(flags)
        .arg("-o")
        .args([&program, &source])
        .status();
    assert!(status.unwrap().success());
    rbox.own(&program);
    let volume = format!("--volume={}:/calls:ro", program.display());
    (rbox, volume)
}

/// What the default filter answers to `namespaces`.
const NAMESPACES: &str =
    "clone 0\nclone of a user namespace 1\nclone3 38\nunshare 1\nsetns 1\nmount 1\nfsopen 1\n";

/// Code of the kernel that only root reaches is not reached through a namespace (CVE-2026-53264).
#[test]
fn the_default_filter_refuses_namespaces() {
    let (rbox, calls) = with_calls();
    for user in ["--user=0", "--user=1000:1000"] {
        rbox.args([
            "run",
            "--rm",
            &calls,
            user,
            "busybox",
            "/calls",
            "namespaces",
        ])
        .stdout(NAMESPACES)
        .run();
    }
    rbox.args(["run", "--rm", &calls, "busybox", "/calls", "namespaces-32"])
        .stdout("unshare by int 0x80 1\nclone by int 0x80 1\n")
        .run();
    rbox.args(["run", "--rm", "busybox", "unshare", "-U", "true"])
        .status(1)
        .stderr("unshare: unshare(0x10000000): Operation not permitted\n")
        .run();
    rbox.args(["run", "--rm", "--security-opt", "seccomp=unconfined"])
        .args(["busybox", "unshare", "-U", "true"])
        .run();
}

/// A rule on socket(2) holds by every way into the kernel (CVE-2026-123876, CVE-2026-31431).
#[test]
fn the_default_filter_refuses_families_by_every_entry() {
    let (rbox, calls) = with_calls();
    let mut answer = String::new();
    for (family, direct) in [("AF_UNIX", 0), ("AF_ALG", 1), ("AF_VSOCK", 1)] {
        for (entry, errno) in [
            ("", direct),
            (" with high bits", direct),
            (" by x32", 38),
            (" by int 0x80", direct),
            (" by int 0x80 with high bits", direct),
            (" by socketcall", 38),
            (" by socketcall with high bits", 38),
        ] {
            writeln!(answer, "{family}{entry} {errno}").unwrap();
        }
    }
    rbox.args(["run", "--rm", &calls, "busybox", "/calls", "sockets"])
        .stdout(answer)
        .run();
}

impl Rbox {
    /// Runs a command and learns, and runs it again with what was learned; then makes a directory, which needs more.
    fn learns(&self, flags: &[&str], command: &[&str], output: &str) -> serde_json::Value {
        let file = self.work("learned.json");
        let learn = format!("seccomp=learn:{}", file.display());
        let learned = format!("seccomp={}", file.display());
        for option in [&learn, &learned, &learned] {
            self.args(["run", "--rm", "--security-opt", option])
                .args(flags)
                .arg("busybox")
                .args(command)
                .stdout(output)
                .run();
        }
        self.args(["run", "--rm", "--security-opt", &learned])
            .args(["busybox", "mkdir", "/x"])
            .status(1)
            .stderr("mkdir: can't create directory '/x': Operation not permitted\n")
            .run();
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }
}

fn names(profile: &serde_json::Value) -> Vec<&str> {
    let names = profile["syscalls"][0]["names"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn learned_profiles_let_a_pipeline_run() {
    let rbox = Rbox::with_busybox();
    let script =
        "(echo b; echo a; cat /nowhere 2>/dev/null) | sort | sed s/a/c/ && exec env -i echo done";
    let profile = rbox.learns(&[], &["sh", "-c", script], "c\nb\ndone\n");
    assert_eq!(
        profile["architectures"],
        serde_json::json!(["SCMP_ARCH_X86_64"])
    );
    let names = names(&profile);
    assert!(names.is_sorted(), "{names:?}");
    for needed in ["execve", "pipe2", "wait4", "write"] {
        assert!(names.contains(&needed), "{needed} of {names:?}");
    }
    for other in [
        "futex", "mount", "mkdir", "seccomp", "socket", "clone", "unshare",
    ] {
        assert!(!names.contains(&other), "{other} of {names:?}");
    }
    // By its flags only, as in the default filter.
    let of_clone = profile["syscalls"].as_array().unwrap();
    assert!(
        of_clone
            .iter()
            .any(|rule| rule["names"][0] == "clone" && rule["args"][0]["value"] == 0x7e02_0000_u32)
    );
}

#[test]
fn learned_profiles_let_threads_run() {
    let (rbox, calls) = with_calls();
    let profile = rbox.learns(&[&calls], &["/calls", "threads"], "done\n");
    assert!(names(&profile).contains(&"futex"));
}

#[test]
fn calls_of_32_bits_are_learned() {
    let (rbox, calls) = with_calls();
    let profile = rbox.learns(&[&calls], &["/calls", "thirty-two"], "done\n");
    let archs = serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    assert_eq!(profile["architectures"], archs);
    assert!(names(&profile).contains(&"uname"));
}

/// What the default filter refuses is refused while it watches, and not learned.
#[test]
fn learning_is_no_hole() {
    let (rbox, calls) = with_calls();
    rbox.learns(&[&calls], &["/calls", "namespaces"], NAMESPACES);
}

/// Commands that join the container are watched too, and what was seen is written when it is killed.
#[test]
fn executed_commands_are_learned() {
    let rbox = Rbox::with_busybox();
    let file = rbox.work("learned.json");
    let learn = format!("seccomp=learn:{}", file.display());
    let learned = format!("seccomp={}", file.display());
    for option in [learn, learned] {
        rbox.args(["run", "-d", "--name", "c", "--security-opt", &option])
            .args(["busybox", "sleep", "1000"])
            .stdout_any()
            .run();
        rbox.args(["exec", "c", "mkdir", "/made"]).run();
        rbox.args(["kill", "c"]).stdout("c\n").run();
        rbox.args(["wait", "c"]).stdout("137\n").run();
        rbox.args(["rm", "c"]).stdout("c\n").run();
    }
    let profile = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(names(&profile).contains(&"mkdir"));
}

/// A rule of Docker's own profile counts with its capability alone, and what cannot be used is told before there is a
/// container.
#[test]
fn profiles_are_read_as_docker_reads_them() {
    let rbox = Rbox::with_busybox();
    let docker = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    let file = rbox.write("docker.json", docker);
    let option = format!("--security-opt=seccomp={}", file.display());
    rbox.args(["run", "--rm", &option, "busybox", "unshare", "-U", "true"])
        .status(1)
        .stderr("unshare: unshare(0x10000000): Operation not permitted\n")
        .run();
    rbox.args(["run", "--rm", "--cap-add=SYS_ADMIN", &option])
        .args(["busybox", "unshare", "-U", "true"])
        .run();
    rbox.args(["run", "--rm", "--cap-add=SYS_ADMIN"])
        .args(["busybox", "unshare", "-U", "true"])
        .run();

    let profile = |name: &str, rule: &str| {
        let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
        format!("seccomp={}", rbox.write(name, profile).display())
    };
    let errno = r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#;
    let notify = r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#;
    for (option, message) in [
        (
            profile("errno.json", errno),
            "Error: cannot create container: cannot compile the seccomp profile: the seccomp rule for read: errnoRet 4096: \
             an errno is at most 4095\n",
        ),
        (
            profile("notify.json", notify),
            "Error: cannot create container: cannot use the seccomp profile: SCMP_ACT_NOTIFY leaves calls to an agent at \
             listenerPath, and rbox speaks to none\n",
        ),
    ] {
        rbox.args(["run", "--rm", "--security-opt", &option, "busybox", "true"])
            .status(125)
            .stderr(message)
            .run();
    }
}
