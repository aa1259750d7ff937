//! `rbox exec`: another program in a running container.
use crate::support::Rbox;

#[test]
fn exec_sees_the_container_and_returns_the_status() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "-e",
        "A=container",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["exec", "c", "sh", "-c", "echo out; echo err >&2; exit 5"])
        .stdout("out\n")
        .stderr("err\n")
        .status(5)
        .run();
    rbox.args(["exec", "-e", "B=exec", "c", "sh", "-c", "echo $A $B"])
        .stdout("container exec\n")
        .run();
    rbox.args(["exec", "-w", "/tmp", "c", "pwd"])
        .stdout("/tmp\n")
        .run();
    rbox.args(["exec", "-u", "alice", "c", "id", "-un"])
        .stdout("alice\n")
        .run();
    rbox.args(["exec", "c", "cat"]).stdin("not read").run();
    rbox.args(["exec", "-i", "c", "cat"])
        .stdin("through")
        .stdout("through")
        .run();
    rbox.args(["exec", "c", "cat", "/proc/1/cmdline"])
        .stdout("sleep\x001000\0")
        .run();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let link = format!("/proc/self/ns/{name}");
        let first = format!("/proc/1/ns/{name}");
        let script = format!("test $(readlink {link}) = $(readlink {first})");
        rbox.args(["exec", "c", "sh", "-c", &script]).run();
    }
    rbox.remove(&["c"]);
}

#[test]
fn exec_refuses_what_it_cannot_do() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    rbox.args(["exec", "c", "nosuch"])
        .stderr_has("Error: ")
        .stderr_has("nosuch")
        .status(127)
        .run();
    rbox.args(["exec", "c", "/etc/passwd"])
        .stderr_has("Error: ")
        .stderr_has("Permission denied")
        .status(126)
        .run();
    rbox.args(["exec", "-w", "/nosuch", "c", "true"])
        .stderr_has("Error: ")
        .stderr_has("/nosuch")
        .status_any()
        .run();
    rbox.args(["kill", "c"]).stdout("c\n").run();
    rbox.args(["wait", "c"]).stdout("137\n").run();
    rbox.args(["exec", "c", "true"])
        .stderr_has("Error: ")
        .stderr_has("not running")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn exec_ends_when_the_container_ends() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let call = rbox
        .args(["exec", "c", "sh", "-c", "echo in; sleep 1000"])
        .stdout("in\n")
        .status(137)
        .spawn();
    call.wait_for("in");
    rbox.args(["rm", "-f", "c"]).stdout("c\n").run();
    call.wait();
}

#[test]
fn a_program_that_exec_leaves_behind_ends_with_the_container() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    rbox.args([
        "exec",
        "c",
        "sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 & echo left",
    ])
    .stdout("left\n")
    .run();
    rbox.args(["exec", "c", "pidof", "sleep"])
        .stdout_has(" ")
        .run();
    rbox.args(["exec", "-d", "c", "sleep", "77"])
        .stdout("[ID]\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn many_execs_at_once() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let calls: Vec<_> = (0..20)
        .map(|n| {
            rbox.args(["exec", "c", "echo", &n.to_string()])
                .stdout(format!("{n}\n"))
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
    rbox.remove(&["c"]);
}

#[test]
fn a_limit_of_processes_is_told() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    // Its own process is one already.
    rbox.program("/usr/bin/prlimit")
        .arg("--nproc=1:1")
        .arg(rbox.program_path())
        .args(["exec", "c", "true"])
        .stderr(
            "Error: cannot execute in container \"c\": cannot make another process: clone3(0x1000): Resource temporarily \
             unavailable (os error 11)\nHint: it has as many as it may: `rbox update --pids-limit N CONTAINER`, and \
             `ulimit -u` for your own\n",
        )
        .status(125)
        .run();
    rbox.remove(&["c"]);
}
