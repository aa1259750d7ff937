//! `rbox exec`: another program in a running container.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::tmux::Tmux;

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
fn two_hundred_execs_at_once() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let calls: Vec<_> = (0..200)
        .map(|n| {
            rbox.args(["exec", "c", "echo", &n.to_string()])
                .stdout(format!("{n}\n"))
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
    assert_eq!(running(&rbox), "[]");
    rbox.remove(&["c"]);
}

/// The ids of the commands that have joined the container c.
fn running(rbox: &Rbox) -> String {
    let call = rbox.args(["inspect", "--format", "{{.ExecIDs}}", "c"]);
    call.stdout_any().run().stdout.trim().to_owned()
}

#[track_caller]
fn wait_for_end(rbox: &Rbox) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while running(rbox) != "[]" {
        assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The exit status that the journal has of the command with this id.
fn died(rbox: &Rbox, id: &str) -> String {
    let filters = ["--filter", "event=exec_died"];
    let form = ["--format", "{{.Attributes.execID}} {{.ContainerExitCode}}"];
    let call = rbox.args(["events", "--stream=false"]).args(filters);
    let found = call.args(form).stdout_any().run().stdout;
    let line = found.lines().find_map(|line| line.strip_prefix(id));
    line.unwrap_or(&found).trim().to_owned()
}

#[test]
fn in_the_background_a_command_has_an_id_an_end_and_nobodys_streams() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    for flags in [&["-d"][..], &["-d", "-t"]] {
        let script = "test ! -t 0 && cat >/read; sleep 0.5; echo out; exit 7";
        let started = Instant::now();
        // A pipe that somebody waits for would stay open.
        let output = rbox
            .args(["exec"])
            .args(flags)
            .args(["c", "sh", "-c", script]);
        let id = output.stdout("[ID]\n").run().stdout;
        assert!(started.elapsed() < Duration::from_millis(500));
        let id = id.trim();
        assert_eq!(running(&rbox), format!("[{id}]"));
        wait_for_end(&rbox);
        assert_eq!(died(&rbox, id), "7");
    }
    rbox.args(["exec", "c", "wc", "-c", "/read"])
        .stdout("0 /read\n")
        .run();
    rbox.args(["exec", "-d", "c", "nosuch"])
        .stderr_has("Error: cannot execute in container \"c\": cannot execute \"nosuch\": no such command in PATH ")
        .status(127)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn a_command_at_a_terminal_goes_on_when_its_client_is_killed() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let script = "echo in; sleep 1; seq 1 20000; echo written >/done; exit 5";
    let call = rbox
        .args(["exec", "-t", "c", "sh", "-c", script])
        .stdout_has("in\r\n")
        .status(137)
        .spawn();
    call.wait_for("in");
    let id = running(&rbox).trim_matches(['[', ']']).to_owned();
    call.signal(rustix::process::Signal::KILL);
    call.wait();
    wait_for_end(&rbox);
    assert_eq!(died(&rbox, &id), "5");
    rbox.args(["exec", "c", "cat", "/done"])
        .stdout("written\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn a_person_leaves_a_command_and_the_container_ends_it() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let tmux = Tmux::start(&rbox);
    tmux.line("rbox exec -it -e PS1='box> ' c sh");
    tmux.wait_line("box>");
    tmux.keys(&["C-p", "C-q"]);
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
    tmux.line("clear; echo left $?");
    tmux.wait_line("left 0");
    let id = running(&rbox).trim_matches(['[', ']']).to_owned();
    assert_eq!(id.len(), 64);
    rbox.args(["kill", "c"]).stdout("c\n").run();
    wait_for_end(&rbox);
    assert_eq!(died(&rbox, &id), "137");
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
