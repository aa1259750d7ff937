//! System call filters: the default one and those of profiles, judged by a program that makes the calls.
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

/// Code of the kernel that only root reaches is not reached through a namespace (CVE-2026-53264).
#[test]
fn the_default_filter_refuses_namespaces() {
    let (rbox, calls) = with_calls();
    let answer = "clone 0\nclone of a user namespace 1\nclone3 38\nunshare 1\nsetns 1\nmount 1\nfsopen 1\n\
                  unshare by int 0x80 1\nclone by int 0x80 1\n";
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
        .stdout(answer)
        .run();
    }
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
            answer += &format!("{family}{entry} {errno}\n");
        }
    }
    rbox.args(["run", "--rm", &calls, "busybox", "/calls", "sockets"])
        .stdout(answer)
        .run();
}
