//! Joining a container's streams: several clients, the keys to leave by, signals, ends of input, and clients
//! that stop or die.
use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::tmux::Tmux;

fn state(rbox: &Rbox, name: &str) -> String {
    let call = rbox.args(["inspect", "--format", "{{.State.Status}}", name]);
    call.stdout_any().run().stdout.trim().to_owned()
}

#[track_caller]
fn until(awaited: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {awaited}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn host_prompt(tmux: &Tmux<'_>) {
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
}

#[test]
fn keys_to_leave_by_are_chosen_and_others_pass() {
    let rbox = Rbox::with_busybox();
    let tmux = Tmux::start(&rbox);
    tmux.line("rbox run -it --name c --detach-keys 'z,ctrl-]' -e PS1='box> ' busybox sh");
    tmux.wait_line("box>");
    tmux.keys(&["C-p", "C-q"]);
    // One of the keys alone is typed like any other.
    tmux.line("echo z$((1+1))z");
    tmux.wait_line("z2z");
    tmux.keys(&["z", "C-]"]);
    host_prompt(&tmux);
    tmux.line("clear; echo left $?");
    tmux.wait_line("left 0");
    assert_eq!(state(&rbox, "c"), "running");
    tmux.line("clear; rbox attach --detach-keys q c");
    // The shell draws its prompt again for the newcomer.
    tmux.wait("box>");
    tmux.keys(&["q"]);
    host_prompt(&tmux);
    std::fs::create_dir(rbox.dir().join("home/.docker")).unwrap();
    let config = rbox.dir().join("home/.docker/config.json");
    std::fs::write(config, r#"{"auths": {}, "detachKeys": "ctrl-x"}"#).unwrap();
    tmux.line("clear; rbox attach c");
    tmux.wait("box>");
    tmux.keys(&["C-x"]);
    host_prompt(&tmux);
    std::fs::remove_dir_all(rbox.dir().join("home/.docker")).unwrap();
    rbox.args(["attach", "--detach-keys=ctrl-", "c"])
        .stderr_has("Error: --detach-keys=\"ctrl-\": expected keys as ctrl-p,ctrl-q: single characters, or ctrl- with a letter or one of @ [ \\ ] ^ _\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn without_keys_nobody_leaves() {
    let rbox = Rbox::with_busybox();
    let tmux = Tmux::start(&rbox);
    let script = "stty -ixon -icanon -echo; echo ready; dd bs=1 count=2 2>/dev/null | od -An -tx1";
    tmux.line(&format!(
        "rbox run --rm -it --detach-keys '' busybox sh -c '{script}'"
    ));
    tmux.wait_line("ready");
    tmux.keys(&["C-p", "C-q"]);
    tmux.wait_line(" 10 11");
    host_prompt(&tmux);
}

#[test]
fn every_client_sees_all_and_one_that_dies_is_not_missed() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "-i", "--name", "c", "busybox", "cat"])
        .stdout("[ID]\n")
        .run();
    let listening = rbox
        .args(["attach", "--no-stdin", "c"])
        .stdout("one\ntwo\n")
        .spawn();
    let dying = rbox.args(["attach", "c"]).stdout("one\n").status(137);
    let dying = dying.spawn();
    let mut typing = rbox.args(["attach", "-l"]).stdout("one\ntwo\n").spawn();
    let attached = |count| {
        let events = ["events", "--stream=false", "--filter", "event=attach"];
        until("attached clients", || {
            let found = rbox.args(events).stdout_any().run().stdout;
            found.lines().count() == count
        });
    };
    attached(3);
    typing.send("one\n");
    dying.wait_for("one\n");
    dying.signal(Signal::KILL);
    dying.wait();
    typing.send("two\n");
    listening.wait_for("two\n");
    // The end of a client's input is that of the container.
    typing.wait();
    listening.wait();
    rbox.args(["wait", "c"]).stdout("0\n").run();
    rbox.remove(&["c"]);
}

#[test]
fn a_client_that_stops_is_left_behind() {
    let rbox = Rbox::with_busybox();
    let script = "read go; seq 1 400000; echo written; read end; exit 4";
    rbox.args([
        "run", "-d", "-i", "--name", "c", "busybox", "sh", "-c", script,
    ])
    .stdout("[ID]\n")
    .run();
    let stopped = rbox
        .args(["attach", "--no-stdin", "c"])
        .stdout_any()
        .stderr("Error: container \"c\" goes on without this command, which did not take its output for 10 s\n")
        .status(125)
        .spawn();
    let mut other = rbox
        .args(["attach", "c"])
        .stdout_has("\n400000\nwritten\n")
        .status(4)
        .spawn();
    until("attached clients", || {
        let events = ["events", "--stream=false", "--filter", "event=attach"];
        let found = rbox.args(events).stdout_any().run().stdout;
        found.lines().count() == 2
    });
    stopped.signal(Signal::STOP);
    other.send("go\n");
    other.wait_for("written");
    stopped.signal(Signal::CONT);
    stopped.wait();
    other.send("end\n");
    let output = other.wait().stdout;
    let mut expected = String::new();
    for number in 1..=400_000 {
        writeln!(expected, "{number}").unwrap();
    }
    expected.push_str("written\n");
    assert!(output == expected, "{} bytes", output.len());
    rbox.remove(&["c"]);
}

#[test]
fn signals_are_passed_on_or_end_the_command() {
    let rbox = Rbox::with_busybox();
    let script = "trap 'echo usr1' USR1; trap 'echo alrm' ALRM; trap 'echo term; exit 3' TERM
        echo ready; while :; do sleep 0.05; done";
    let run = |name: &str, flags: &[&str]| {
        let call = rbox.args(["run", "--name", name]).args(flags);
        call.args(["busybox", "sh", "-c", script])
    };
    let passing = run("p", &[])
        .stdout("ready\nusr1\nalrm\nterm\n")
        .status(3)
        .spawn();
    passing.wait_for("ready");
    for (signal, heard) in [
        (Signal::USR1, "usr1\n"),
        (Signal::ALARM, "alrm\n"),
        // Those of a shell's job control are the command's own affair.
        (Signal::CHILD, ""),
        (Signal::TERM, "term\n"),
    ] {
        passing.signal(signal);
        passing.wait_for(heard);
    }
    passing.wait();
    let alone = run("a", &["--sig-proxy=false"])
        .stdout("ready\n")
        .status(143)
        .spawn();
    alone.wait_for("ready");
    alone.signal(Signal::TERM);
    alone.wait();
    assert_eq!(state(&rbox, "a"), "running");
    let joined = rbox
        .args(["attach", "--sig-proxy", "a"])
        .stdout("term\n")
        .status(3)
        .spawn();
    until("the client", || {
        let events = ["events", "--stream=false", "--filter", "event=attach"];
        !rbox.args(events).stdout_any().run().stdout.is_empty()
    });
    joined.signal(Signal::TERM);
    joined.wait();
    rbox.remove(&["p", "a"]);
}

#[test]
fn streams_are_chosen() {
    let rbox = Rbox::with_busybox();
    let script = "cat; echo out; echo err >&2";
    let call = |flags: &[&str]| {
        let call = rbox.args(["run", "--rm", "-i"]).args(flags);
        call.args(["busybox", "sh", "-c", script])
    };
    call(&["-a", "stdout", "-a", "stdin"])
        .stdin("in\n")
        .stdout("in\nout\n")
        .run();
    call(&["--attach=STDERR,stdin"])
        .stdin("in\n")
        .stderr("err\n")
        .run();
    call(&["-a", "stdin"]).stdin("in\n").stdout("[ID]\n").run();
    call(&["-a", "x"])
        .stderr_has("Error: --attach=\"x\": expected stdin, stdout or stderr\n")
        .status(125)
        .run();
    call(&["-a", "stdin", "-d"])
        .stderr_has("Error: flag --attach cannot be used with --detach\nHint: ")
        .status(125)
        .run();
}

#[test]
fn start_joins_a_container_whether_it_runs_or_not() {
    let rbox = Rbox::with_busybox();
    let script = "read word; echo got $word; exit 6";
    rbox.args(["create", "-i", "--name", "c", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    for _ in 0..2 {
        rbox.args(["start", "-ai", "c"])
            .stdin("this\n")
            .stdout("got this\n")
            .status(6)
            .run();
    }
    rbox.args(["start", "c"]).stdout("c\n").run();
    rbox.args(["start", "-ai", "c"])
        .stdin("that\n")
        .stdout("got that\n")
        .status(6)
        .run();
    rbox.args(["start", "--sig-proxy=false", "c"])
        .stderr("Error: --sig-proxy needs --attach\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn what_cannot_be_joined_says_why() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "c", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    let refused = |state: &str| {
        let state = format!("container \"c\" is not running ({state})\n");
        rbox.args(["attach", "c"])
            .stderr(format!("Error: {state}"))
            .status(125)
            .run();
        rbox.args(["exec", "c", "true"])
            .stderr(format!("Error: cannot execute in container \"c\": {state}"))
            .status(125)
            .run();
    };
    refused("created");
    rbox.args(["start", "-a", "c"]).run();
    refused("exited");
    rbox.remove(&["c"]);
    let looping = ["--restart=always", "busybox", "false"];
    rbox.args(["run", "-d", "--name", "c"])
        .args(looping)
        .stdout("[ID]\n")
        .run();
    // The times between its runs grow to seconds.
    until("a long pause", || {
        let count = ["inspect", "--format", "{{.RestartCount}}", "c"];
        let count = rbox.args(count).stdout_any().run().stdout;
        count.trim().parse::<u32>().unwrap() >= 5
    });
    until("the pause", || state(&rbox, "c") == "restarting");
    rbox.args(["exec", "c", "true"])
        .stderr_has(
            "Error: cannot execute in container \"c\": container \"c\" is restarting\nHint: ",
        )
        .status(125)
        .run();
    rbox.remove(&["c"]);
}
