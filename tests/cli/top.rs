//! `top`: what is told of processes, without asking them anything.
use crate::support::Rbox;

/// Each line in single spaces.
fn columns(text: &str) -> String {
    let lines = text.lines();
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    words.collect::<Vec<_>>().join("\n")
}

fn top(rbox: &Rbox, args: &[&str]) -> String {
    let call = rbox.args(["top"]).args(args);
    columns(&call.stdout_any().run().stdout)
}

fn everybody() -> Vec<Rbox> {
    let all = [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()];
    let all: Vec<Rbox> = all.into_iter().flatten().collect();
    for rbox in &all {
        rbox.load("busybox");
    }
    all
}

#[test]
fn descriptors_tell_of_processes_as_the_container_sees_them() {
    for rbox in everybody() {
        rbox.args(["run", "-d", "--name", "box", "--cap-drop", "all"])
            .args(["--cap-add", "kill,chown", "busybox"])
            .args(["sh", "-c", "sleep 1000 & exec sleep 2000"])
            .stdout("[ID]\n")
            .run();
        while !top(&rbox, &["box", "args"]).contains("\nsleep 2000\nsleep 1000") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let shown = top(
            &rbox,
            &[
                "box",
                "user",
                "pid,ppid",
                "args",
                "capeff,seccomp,state,comm",
            ],
        );
        assert_eq!(
            shown,
            "USER PID PPID COMMAND EFFECTIVE CAPS SECCOMP STATE COMMAND\n\
             root 1 0 sleep 2000 CHOWN,KILL filter S sleep\n\
             root 2 1 sleep 1000 CHOWN,KILL filter S sleep"
        );
        let lines = top(&rbox, &["--latest"]);
        assert_eq!(
            lines.lines().next(),
            Some("USER PID PPID %CPU ELAPSED TTY TIME COMMAND")
        );
        assert_eq!(lines.lines().count(), 3);
        let pid = rbox
            .args(["inspect", "box", "--format", "{{.State.Pid}}"])
            .stdout_any()
            .run();
        let hosts = top(&rbox, &["box", "hpid"]);
        assert_eq!(hosts.lines().nth(1), Some(pid.stdout.trim()));
        // As docker top has it.
        let full = top(&rbox, &["box", "-eo", "pid,cmd=WHAT"]);
        let first = format!("PID WHAT\n{} sleep 2000\n", pid.stdout.trim());
        assert!(full.starts_with(&first), "{full}");
        assert_eq!(
            top(&rbox, &["box", "aux"]).lines().next(),
            Some("USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND")
        );
        rbox.remove(&["box"]);
    }
}

#[test]
fn users_have_the_names_of_the_container() {
    let rbox = Rbox::with_busybox();
    let script = "printf 'root:x:0:0::/:/bin/sh\\nann:x:7:8::/:/bin/sh\\n' >/etc/passwd
        printf 'staff:x:8:\\nmore:x:9:\\n' >/etc/group; sleep 1000";
    rbox.args(["run", "-d", "--name", "box", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    let exec = rbox.args(["exec", "-d", "-u", "7:8", "box", "sleep", "2000"]);
    exec.stdout_any().run();
    let shown = top(&rbox, &["box", "user,group,args"]);
    assert!(shown.ends_with("\nann staff sleep 2000"), "{shown}");
    rbox.remove(&["box"]);
}

/// CVE-2022-1227: a program of the container that is called ps, and names that steer terminals.
#[test]
fn nothing_of_the_container_is_executed_or_believed() {
    let rbox = Rbox::with_busybox();
    let script = "for name in ps nsenter; do printf '#!/bin/sh\\ntouch /ran\\n' >/bin/$name; chmod 755 /bin/$name; done
        ln -sf /etc/shadow /etc/passwd; rm -f /etc/group; mkfifo /etc/group
        name=\"$(printf '/bin/\\033[2Jx')\"; printf '#!/bin/sh\\nsleep 1000\\nexit\\n' >\"$name\"
        chmod 755 \"$name\"; exec \"$name\"";
    rbox.args([
        "run", "-d", "--name", "box", "busybox", "/bin/sh", "-c", script,
    ])
    .stdout("[ID]\n")
    .run();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let shown = top(&rbox, &["box", "user", "group", "comm"]);
    assert!(shown.starts_with("USER GROUP COMMAND\n0 0 "), "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
    top(&rbox, &["box", "-ef"]);
    rbox.args(["exec", "box", "/bin/busybox", "ls", "/ran"])
        .stderr_any()
        .status(1)
        .run();
    rbox.remove(&["box"]);
}

#[test]
fn what_cannot_be_shown_is_told() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("box");
    for (word, message) in [
        (
            "nope",
            "no descriptor is called \"nope\"\nHint: `rbox top --help` lists the descriptors, and which options of ps(1) it knows",
        ),
        (
            "-eZ",
            "no option of ps is called \"-eZ\" here\nHint: there are -e, -f, -F, -j, -l, -u, -o LIST, --format LIST, --no-headers, and a, u, x without a hyphen",
        ),
    ] {
        rbox.args(["top", "box", word])
            .stderr(format!("Error: {message}\n"))
            .status(125)
            .run();
    }
    rbox.args(["stop", "-t0", "box"]).stdout("box\n").run();
    rbox.args(["top", "box"])
        .stderr("Error: container \"box\" is not running (exited)\n")
        .status(125)
        .run();
    rbox.remove(&["box"]);
}
