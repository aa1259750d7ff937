//! `podman --runtime`, as root and as a plain user.
use std::path::Path;

use rustix::process::Pid;
use rustix::process::Signal;

use super::Mounts;
use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::images;
use crate::support::tmux::Tmux;

/// Root of this machine may not be allowed to raise limits; Docker's and podman's own defaults do.
const CONFIG: &str = r#"
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=10000:10000"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
"#;

/// podman with a storage of its own that holds `busybox`.
struct Podman<'a> {
    rbox: &'a Rbox,
    /// A plain user's podman makes a namespace itself.
    mounts: Option<Mounts<'a>>,
}

impl<'a> Podman<'a> {
    fn new(rbox: &'a Rbox) -> Self {
        for dir in ["podman", "podman/home", "podman/run"] {
            let dir = rbox.work(dir);
            std::fs::create_dir(&dir).unwrap();
            rbox.own(&dir);
        }
        rbox.write("podman/containers.conf", CONFIG);
        let is_root = rbox.account().uid == 0;
        let mounts = is_root.then(|| Mounts::new(rbox));
        let podman = Self { rbox, mounts };
        let archive = images::get("busybox").docker_archive;
        podman
            .call(["load", "-q", "-i"])
            .arg(archive)
            .stdout("Loaded image: docker.io/library/busybox:latest\n")
            .run();
        podman
    }

    /// A command line of podman for a shell, without its arguments.
    fn words(&self) -> Vec<String> {
        let podman = self.rbox.work("podman");
        let at = |name: &str| podman.join(name).to_string_lossy().into_owned();
        let enter = self.mounts.as_ref().map(Mounts::enter);
        let mut words: Vec<String> = enter.into_iter().flatten().collect();
        words.extend([
            "env".to_owned(),
            format!("CONTAINERS_CONF={}.conf", at("containers")),
            format!("HOME={}", at("home")),
            format!("XDG_RUNTIME_DIR={}", at("run")),
            "podman".to_owned(),
            "--log-level=error".to_owned(),
            format!("--root={}", at("root")),
            format!("--runroot={}", at("runroot")),
            format!("--tmpdir={}", at("tmp")),
            "--storage-driver=overlay".to_owned(),
            format!("--runtime={}", self.rbox.runc().display()),
        ]);
        words
    }

    fn call<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        let words = self.words();
        let call = self.rbox.program(&words[0]).args(&words[1..]);
        call.args(args)
    }

    /// `podman run --rm --network none` and more.
    fn run<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        self.call(["run", "--rm", "--network=none"]).args(args)
    }
}

impl Drop for Podman<'_> {
    /// The process that keeps a user's namespaces.
    fn drop(&mut self) {
        let file = self.rbox.work("podman/tmp/pause.pid");
        if let Some(pid) = read_pid(&file) {
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn read_pid(file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

fn runs(rbox: &Rbox) {
    let podman = Podman::new(rbox);
    podman
        .run(["-i", "busybox", "sh", "-c", "cat; echo error >&2; exit 3"])
        .stdin("in")
        .stdout("in")
        .stderr("error\n")
        .status(3)
        .run();
    let volume = format!("-v={}:/work", super::volume(rbox).display());
    let script =
        "id; cat /work/given; touch /file /tmp/file; echo $?; grep NoNewPrivs /proc/self/status";
    podman
        .run(["--user=alice", "--read-only", "--tmpfs=/tmp", &volume])
        .args(["--security-opt=no-new-privileges", "busybox", "sh", "-c", script])
        .stdout(
            "uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)\ngiven\n1\nNoNewPrivs:\t1\n",
        )
        .stderr("touch: /file: Read-only file system\n")
        .run();
    let both = ["1", "2"].map(|n| {
        let call = podman.run(["busybox", "sh", "-c", "sleep 0.3; echo $0", n]);
        call.stdout(format!("{n}\n")).spawn()
    });
    for running in both {
        running.wait();
    }
}

#[test]
fn podman_runs_as_root() {
    if let Some(rbox) = Rbox::as_root() {
        runs(&rbox);
    }
}

#[test]
fn podman_runs_as_a_plain_user() {
    runs(&Rbox::new());
}

/// The states of a container that is made, started, signalled, stopped, started again, removed.
fn lives(rbox: &Rbox) {
    let podman = Podman::new(rbox);
    let script = "trap 'echo signal' USR1; trap 'echo stopped; exit 4' TERM; echo up; while :; do sleep 0.05; done";
    let state = ["inspect", "--format={{.State.Status}}", "c"];
    podman
        .call(["create", "--network=none", "--name=c", "busybox"])
        .args(["sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    podman.call(["init", "c"]).stdout("c\n").run();
    podman.call(state).stdout("initialized\n").run();
    podman.call(["start", "c"]).stdout("c\n").run();
    super::eventually("the trap", rbox, || {
        let logs = podman.call(["logs", "c"]).stdout_any().run();
        logs.stdout == "up\n"
    });
    podman.call(["kill", "-s", "USR1", "c"]).stdout("c\n").run();
    podman
        .call(["exec", "-i", "-u", "alice", "-w", "/tmp", "-e", "A=b", "c"])
        .args(["sh", "-c", "id -un; pwd; echo $A; cat; exit 5"])
        .stdin("in")
        .stdout("alice\n/tmp\nb\nin")
        .status(5)
        .run();
    podman
        .call(["exec", "-d", "c", "touch", "/detached"])
        .stdout("[ID]\n")
        .run();
    super::eventually("the detached command", rbox, || {
        let test = podman.call(["exec", "c", "test", "-e", "/detached"]);
        test.status_any().run().status.success()
    });
    podman.call(["stop", "-t", "10", "c"]).stdout("c\n").run();
    podman.call(["wait", "c"]).stdout("4\n").run();
    podman
        .call(["logs", "c"])
        .stdout("up\nsignal\nstopped\n")
        .run();
    podman.call(["start", "c"]).stdout("c\n").run();
    podman.call(["kill", "c"]).stdout("c\n").run();
    podman.call(["wait", "c"]).stdout("137\n").run();
    podman.call(["rm", "c"]).stdout("c\n").run();
    podman.call(["ps", "-aq"]).run();
}

#[test]
fn podman_controls_as_root() {
    if let Some(rbox) = Rbox::as_root() {
        lives(&rbox);
    }
}

#[test]
fn podman_controls_as_a_plain_user() {
    lives(&Rbox::new());
}

#[test]
fn podman_pauses_as_root() {
    let Some(rbox) = Rbox::as_root() else { return };
    let podman = Podman::new(&rbox);
    let state = ["inspect", "--format={{.State.Status}}", "c"];
    podman
        .call(["run", "-d", "--network=none", "--name=c", "busybox"])
        .args(["sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    podman.call(["pause", "c"]).stdout("c\n").run();
    podman.call(state).stdout("paused\n").run();
    podman.call(["unpause", "c"]).stdout("c\n").run();
    podman.call(state).stdout("running\n").run();
    podman
        .call(["exec", "c", "echo", "on"])
        .stdout("on\n")
        .run();
    podman
        .call(["rm", "-f", "-t", "0", "c"])
        .stdout("c\n")
        .run();
}

fn says_what_is_wrong(rbox: &Rbox) {
    let podman = Podman::new(rbox);
    let runtime = "[DIR]/work/runc";
    for (command, said, status) in super::WRONG {
        let kind = match status {
            127 => "OCI runtime attempted to invoke a command that was not found",
            _ => "OCI permission denied",
        };
        podman
            .run(["busybox", command])
            .stderr(format!("Error: {runtime}: {said}: {kind}\n"))
            .status(status)
            .run();
    }
    podman.call(["ps", "-aq"]).run();
}

#[test]
fn podman_tells_what_is_wrong_as_root() {
    if let Some(rbox) = Rbox::as_root() {
        says_what_is_wrong(&rbox);
    }
}

#[test]
fn podman_tells_what_is_wrong_as_a_plain_user() {
    says_what_is_wrong(&Rbox::new());
}

fn has_a_terminal(rbox: &Rbox) {
    let podman = Podman::new(rbox);
    let tmux = Tmux::start(rbox);
    tmux.line(&format!(
        "alias podman='{}'; clear",
        podman.words().join(" ")
    ));
    tmux.wait_line("host>");
    tmux.line("podman run -it --name c --network none busybox sh; echo status $?");
    tmux.wait_line("/ #");
    tmux.line("tty; stty size");
    tmux.wait_line("/dev/pts/0");
    tmux.wait_line("24 80");
    tmux.resize(100, 30);
    tmux.line("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo resized");
    tmux.wait_line("resized");
    tmux.line("exit 7");
    tmux.wait_line("status 7");
    tmux.line("podman start c >/dev/null; podman exec -it c sh -c 'tty; stty size; cat'");
    tmux.wait_line("/dev/pts/1");
    tmux.line("typed");
    tmux.wait("typed\ntyped");
    tmux.keys(&["C-c"]);
    tmux.wait("^Chost>");
    tmux.line("podman rm -f -t 0 c");
    tmux.wait("c\nhost>");
}

#[test]
fn podman_has_a_terminal_as_root() {
    if let Some(rbox) = Rbox::as_root() {
        has_a_terminal(&rbox);
    }
}

#[test]
fn podman_has_a_terminal_as_a_plain_user() {
    has_a_terminal(&Rbox::new());
}
