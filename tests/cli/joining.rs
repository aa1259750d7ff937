//! What a container finds of rbox itself while others are started, join or stay: descriptors, programs,
//! sockets.
use crate::support::Rbox;
use crate::support::processes;

/// CVE-2016-9962: a joining process could be traced, and its descriptors of the host taken.
#[test]
fn cve_2016_9962_a_joining_process_shows_nothing() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "-d", "--name", "c", "--cap-add", "ALL"])
        .args(["--security-opt", "seccomp=unconfined", "testinit", "watch"])
        .stdout("[ID]\n")
        .run();
    for _ in 0..100 {
        rbox.args(["exec", "c", "/init", "exit", "0"]).run();
    }
    rbox.args(["exec", "c", "/init", "echo", "x"])
        .stdout("x\n")
        .run();
    rbox.args(["logs", "c"]).stdout("watching\n").run();
    rbox.remove(&["c"]);
}

/// CVE-2019-5736, with the init of rbox, which stays: root of a container that shares its process
/// namespace keeps the program, and writes to it when nobody runs it any more.
#[test]
fn cve_2019_5736_the_init_cannot_be_overwritten() {
    let rbox = Rbox::with_busybox();
    // One that belongs to the user, who is root of the container.
    let program = rbox.work("rbox");
    std::fs::copy(rbox.program_path(), &program).unwrap();
    rbox.own(&program);
    let before = std::fs::read(&program).unwrap();
    let script = "
        until p=$(grep -lx 'Name:.rbox-init.*' /proc/[0-9]*/status); do :; done
        p=${p%/status}; exec 9<$p/exe && echo opened
        (: >>$p/exe) 2>&1 | sed 's/.*: //'
        while test -e $p/comm && ! grep -q '^State:.Z' $p/status 2>/dev/null; do :; done; sleep 1
        (echo x >>/proc/self/fd/9) 2>&1 | sed 's/.*: //'
        (echo x >/proc/self/fd/9) 2>&1 | sed 's/.*: //'";
    let trap = rbox
        .args([
            "run",
            "--rm",
            "--name",
            "c",
            "--cap-add",
            "SYS_PTRACE",
            "busybox",
        ])
        .args(["sh", "-c", &format!("echo ready; {script}")])
        .stdout("ready\nopened\nText file busy\nRead-only file system\nRead-only file system\n")
        .spawn();
    trap.wait_for("ready\n");
    let run = rbox.program(&program);
    run.args([
        "run",
        "--rm",
        "--init",
        "--pid",
        "container:c",
        "busybox",
        "sleep",
        "1",
    ])
    .run();
    trap.wait();
    assert!(std::fs::read(&program).unwrap() == before);
}

/// CVE-2020-15257: sockets without a file are reachable with the host's network.
#[test]
fn cve_2020_15257_no_socket_of_rbox_is_in_the_network_namespace() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "host",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let seen = rbox
        .args(["exec", "c", "cat", "/proc/net/unix"])
        .stdout_any()
        .run()
        .stdout;
    let mut sockets = 0;
    for process in processes::of(rbox.dir()) {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)) else {
            continue;
        };
        for fd in fds.flatten() {
            let Ok(link) = std::fs::read_link(fd.path()) else {
                continue;
            };
            let link = link.to_string_lossy().into_owned();
            let Some(inode) = link
                .strip_prefix("socket:[")
                .and_then(|link| link.strip_suffix(']'))
            else {
                continue;
            };
            let line = seen
                .lines()
                .find(|line| line.split_whitespace().nth(6) == Some(inode))
                .unwrap_or_default();
            sockets += usize::from(!line.is_empty());
            assert!(!line.contains('@'), "{line}");
        }
    }
    assert!(sockets > 0, "the control socket at least:\n{seen}");
    rbox.remove(&["c"]);
}
