//! dockerd with rbox as its runtime: the default one by `rbox oci`, another by the name runc.
use serde_json::json;

use super::containerd::Containerd;
use crate::callers::Daemon;
use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::images;
use crate::support::tmux::Tmux;

/// dockerd without networks, on a containerd of its own, with `busybox`; and the client of the same package.
struct Docker<'a> {
    rbox: &'a Rbox,
    _daemon: Daemon<'a>,
    _containerd: Containerd<'a>,
}

impl<'a> Docker<'a> {
    fn start(rbox: &'a Rbox) -> Self {
        let containerd = Containerd::start(rbox);
        let at = |name: &str| rbox.work(name).to_string_lossy().into_owned();
        let config = json!({
            "containerd": containerd.socket(),
            "data-root": at("docker"),
            "exec-root": at("docker-run"),
            "pidfile": at("docker.pid"),
            "hosts": [format!("unix://{}", at("docker.sock"))],
            "storage-driver": "overlay2",
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "default-runtime": "rbox",
            "runtimes": {
                "rbox": {"path": rbox.program_path(), "runtimeArgs": ["oci"]},
                "by-name": {"path": rbox.runc()},
            },
        });
        let config = rbox.write("daemon.json", config.to_string());
        let daemon = containerd
            .program("dockerd")
            .arg("--config-file")
            .arg(config);
        let daemon = daemon.stderr_any().spawn();
        let docker = Self {
            rbox,
            _daemon: Daemon(Some(daemon)),
            _containerd: containerd,
        };
        super::eventually("dockerd", rbox, || {
            let version = docker.call(["version"]).stdout_any().stderr_any();
            version.status_any().run().status.success()
        });
        let archive = images::get("busybox").docker_archive;
        let load = docker.call(["load", "-q", "-i"]).arg(archive);
        load.stdout("Loaded image: busybox:latest\n").run();
        docker
    }

    fn call<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        let mut call = self.rbox.program("/usr/bin/docker").args(args);
        for (name, value) in self.environment() {
            call = call.env(name, value);
        }
        call
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let at = |name: &str| self.rbox.work(name).display().to_string();
        [
            ("DOCKER_HOST", format!("unix://{}", at("docker.sock"))),
            ("DOCKER_CONFIG", at("docker-config")),
        ]
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        self.call(["run", "--rm", "--network=none"]).args(args)
    }
}

#[test]
fn docker_runs() {
    let Some(rbox) = Rbox::as_root() else { return };
    let docker = Docker::start(&rbox);
    for runtime in ["--runtime=rbox", "--runtime=by-name"] {
        docker
            .run([runtime, "-i", "busybox", "sh", "-c"])
            .arg("cat; echo error >&2; exit 3")
            .stdin("in")
            .stdout("in")
            .stderr("error\n")
            .status(3)
            .run();
    }
    let volume = format!("-v={}:/work:ro", super::volume(&rbox).display());
    let script = "id; cat /work/given; touch /work/new /new /tmp/new; echo $?; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ls /dev/fuse; ulimit -n";
    docker
        .run(["--user=alice", "--read-only", "--tmpfs=/tmp", &volume])
        .args(["--security-opt=no-new-privileges", "--device=/dev/fuse"])
        .args(["--init", "--ulimit=nofile=100", "busybox", "sh", "-c", script])
        .stdout("uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)\ngiven\n1\nNoNewPrivs:\t1\nSeccomp:\t2\n/dev/fuse\n100\n")
        .stderr("touch: /work/new: Read-only file system\ntouch: /new: Read-only file system\n")
        .run();
    docker
        .run([
            "--pid=host",
            "--ipc=host",
            "--uts=host",
            "--cgroupns=private",
        ])
        .args(["--oom-score-adj=5", "busybox", "sh", "-c"])
        .arg("sleep 1000 & cat /proc/self/oom_score_adj; readlink /proc/1/exe >/dev/null; echo $?")
        .stdout("5\n1\n")
        .run();
    let both = ["1", "2"].map(|n| {
        let call = docker.run(["busybox", "sh", "-c", "sleep 0.3; echo $0", n]);
        call.stdout(format!("{n}\n")).spawn()
    });
    for running in both {
        running.wait();
    }
}

#[test]
fn docker_controls() {
    let Some(rbox) = Rbox::as_root() else { return };
    let docker = Docker::start(&rbox);
    let script = "trap 'echo signal' USR1; trap 'echo stopped; exit 4' TERM; echo up; while :; do sleep 0.05; done";
    docker
        .call(["run", "-d", "--network=none", "--name=cc", "busybox"])
        .args(["sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    super::eventually("the trap", &rbox, || {
        docker.call(["logs", "cc"]).stdout_any().run().stdout == "up\n"
    });
    docker
        .call(["kill", "-s", "USR1", "cc"])
        .stdout("cc\n")
        .run();
    docker
        .call(["exec", "-i", "-u", "alice", "-w", "/tmp", "-e", "A=b", "cc"])
        .args(["sh", "-c", "id -un; pwd; echo $A; cat; exit 5"])
        .stdin("in")
        .stdout("alice\n/tmp\nb\nin")
        .status(5)
        .run();
    let state = ["inspect", "--format={{.State.Status}}", "cc"];
    docker.call(["pause", "cc"]).stdout("cc\n").run();
    docker.call(state).stdout("paused\n").run();
    docker.call(["unpause", "cc"]).stdout("cc\n").run();
    docker.call(state).stdout("running\n").run();
    docker
        .call(["top", "cc", "-o", "pid,args"])
        .stdout_has(script)
        .run();
    docker.call(["stop", "-t", "10", "cc"]).stdout("cc\n").run();
    docker.call(["wait", "cc"]).stdout("4\n").run();
    docker
        .call(["logs", "cc"])
        .stdout("up\nsignal\nstopped\n")
        .run();
    docker.call(["start", "cc"]).stdout("cc\n").run();
    docker
        .call(["restart", "-t", "0", "cc"])
        .stdout("cc\n")
        .run();
    docker.call(["kill", "cc"]).stdout("cc\n").run();
    docker.call(["wait", "cc"]).stdout("137\n").run();
    docker.call(["rm", "cc"]).stdout("cc\n").run();
}

#[test]
fn docker_and_rbox_exchange_archives() {
    let Some(rbox) = Rbox::as_root() else { return };
    let docker = Docker::start(&rbox);
    rbox.load("testinit");
    let id = |call: Call<'_>| call.stdout_any().run().stdout.replace("sha256:", "");
    let ours = ["image", "inspect", "--format={{.Id}}"];
    // There, and back under another name.
    let testinit = id(rbox.args(ours).arg("testinit"));
    rbox.args(["save", "-o", "ours.tar", "testinit", "localhost/again:1"])
        .run();
    let names = docker.call(["load", "-q", "-i", "ours.tar"]).stdout_any();
    let names = names.run().stdout;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "Loaded image: localhost/again:1",
            "Loaded image: testinit:latest"
        ]
    );
    assert_eq!(id(docker.call(ours).arg("testinit")), testinit);
    docker
        .call(["save", "-o", "theirs.tar", "busybox", "localhost/again:1"])
        .run();
    rbox.args(["rmi", "testinit"]).stdout_any().run();
    rbox.args(["load", "-i", "theirs.tar"])
        .stdout("Loaded image: docker.io/library/busybox:latest\nLoaded image: localhost/again:1\n")
        .run();
    assert_eq!(id(rbox.args(ours).arg("again:1")), testinit);
    assert_eq!(
        id(rbox.args(ours).arg("busybox")),
        id(docker.call(ours).arg("busybox"))
    );
    rbox.args(["run", "--rm", "busybox", "echo", "from docker"])
        .stdout("from docker\n")
        .run();
}

#[test]
fn docker_tells_what_is_wrong() {
    let Some(rbox) = Rbox::as_root() else { return };
    let docker = Docker::start(&rbox);
    for (command, said, status) in super::WRONG {
        docker
            .run(["busybox", command])
            // Its client may say after that that it waits no more.
            .stderr_has(format!("docker: Error response from daemon: failed to create shim task: OCI runtime create failed: {said}: unknown.\n"))
            .status(status)
            .run();
    }
    docker
        .call(["run", "-d", "--network=none", "--name=cc", "busybox"])
        .args(["sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    docker
        .call(["exec", "cc", "nosuch"])
        .stdout("OCI runtime exec failed: exec: \"nosuch\": executable file not found in $PATH: cannot execute \"nosuch\": no such command in PATH /usr/bin:/bin:/usr/sbin:/sbin: unknown\r\n")
        .status(126)
        .run();
    docker.call(["rm", "-f", "cc"]).stdout("cc\n").run();
}

#[test]
fn docker_has_a_terminal() {
    let Some(rbox) = Rbox::as_root() else { return };
    let docker = Docker::start(&rbox);
    let tmux = Tmux::start(&rbox);
    let [host, config] = docker
        .environment()
        .map(|(name, value)| format!("{name}={value}"));
    tmux.line(&format!("export {host} {config}; clear"));
    tmux.wait_line("host>");
    tmux.line("/usr/bin/docker run -it --name cc --network none busybox sh; echo status $?");
    tmux.wait_line("/ #");
    tmux.line("tty; stty size");
    tmux.wait_line("/dev/pts/0");
    tmux.wait_line("24 80");
    tmux.resize(100, 30);
    tmux.line("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo resized");
    tmux.wait_line("resized");
    tmux.line("exit 7");
    tmux.wait_line("status 7");
    tmux.line("/usr/bin/docker start cc; /usr/bin/docker exec -it cc sh -c 'tty; stty size; cat'");
    tmux.wait_line("/dev/pts/1");
    tmux.line("typed");
    tmux.wait("typed\ntyped");
    tmux.keys(&["C-c"]);
    tmux.wait("^Chost>");
    tmux.line("clear; /usr/bin/docker rm -f cc");
    tmux.wait("cc\nhost>");
}
