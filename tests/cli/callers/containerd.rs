//! `ctr run --runc-binary`: containerd's runc shim.

use super::Mounts;
use crate::callers::Daemon;
use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::images;
use crate::support::tmux::Tmux;

/// containerd with directories of its own.
pub struct Containerd<'a> {
    rbox: &'a Rbox,
    _daemon: Daemon<'a>,
    mounts: Mounts<'a>,
}

impl<'a> Containerd<'a> {
    pub fn start(rbox: &'a Rbox) -> Self {
        Self::with_path(rbox, "/usr/bin:/bin:/usr/sbin:/sbin")
    }

    /// Where it looks for programs.
    fn with_path(rbox: &'a Rbox, path: &str) -> Self {
        let dir = rbox.work("containerd");
        std::fs::create_dir(&dir).unwrap();
        let dir = dir.display();
        let config = rbox.write(
            "containerd.toml",
            format!(
                "version = 2\nroot = '{dir}/root'\nstate = '{dir}/state'\n\
                 disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.internal.v1.opt']\n\
                 [grpc]\naddress = '{dir}/sock'\n[ttrpc]\naddress = '{dir}/ttrpc'\n"
            ),
        );
        let mounts = Mounts::new(rbox);
        let daemon = mounts.program("containerd").env("PATH", path);
        let daemon = daemon.arg("-c").arg(config);
        let daemon = daemon.stderr_any().spawn();
        let containerd = Self {
            rbox,
            _daemon: Daemon(Some(daemon)),
            mounts,
        };
        super::eventually("containerd", rbox, || {
            let version = containerd.call(["version"]).stdout_any().stderr_any();
            version.status_any().run().status.success()
        });
        containerd
    }

    pub fn socket(&self) -> String {
        let socket = self.rbox.work("containerd/sock");
        socket.to_string_lossy().into_owned()
    }

    /// A program where containerd's mounts are.
    pub fn program(&self, name: &str) -> Call<'a> {
        self.mounts.program(name)
    }

    fn with_busybox(rbox: &'a Rbox) -> Self {
        let containerd = Self::start(rbox);
        containerd.import();
        containerd
    }

    fn import(&self) {
        let archive = images::get("busybox").oci_archive;
        let import = self.call(["image", "import"]).arg(archive);
        import.stdout_any().run();
    }

    fn call<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        let ctr = self.program("ctr").args(["--address", &self.socket()]);
        ctr.args(args)
    }

    /// The flags of `ctr run` that name the runtime.
    fn runtime(&self) -> [String; 2] {
        [
            format!("--runc-binary={}", self.rbox.runc().display()),
            format!("--runc-root={}", self.rbox.work("state").display()),
        ]
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Call<'a> {
        self.call(["run"]).args(self.runtime()).args(args)
    }
}

#[test]
fn containerd_runs() {
    let Some(rbox) = Rbox::as_root() else { return };
    let containerd = Containerd::with_busybox(&rbox);
    containerd
        .run(["--rm", "busybox:latest", "runs"])
        .args(["sh", "-c", "echo out; echo error >&2; exit 3"])
        .stdout("out\n")
        .stderr("error\n")
        .status(3)
        .run();
    let mount = format!(
        "--mount=type=bind,src={},dst=/work,options=rbind:ro",
        super::volume(&rbox).display()
    );
    let script = "cat /work/given; touch /work/new /new; echo $?; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; hostname; ulimit -n";
    containerd
        .run(["--rm", "--read-only", "--seccomp", &mount])
        .args(["busybox:latest", "runs", "sh", "-c", script])
        .stdout(
            "given\n1\nNoNewPrivs:\t1\nSeccomp:\t2\nHOSTNAME\n1024\n"
                .replace("HOSTNAME", &host_name()),
        )
        .stderr("touch: /work/new: Read-only file system\ntouch: /new: Read-only file system\n")
        .run();
    let both = ["1", "2"].map(|n| {
        let call = containerd.run(["--rm", "busybox:latest", n]);
        let call = call.args(["sh", "-c", "sleep 0.3; echo $0", n]);
        call.stdout(format!("{n}\n")).spawn()
    });
    for running in both {
        running.wait();
    }
    containerd.call(["container", "ls", "-q"]).run();
}

/// ctr gives containers a UTS namespace and no name: it is the host's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().to_owned()
}

#[test]
fn containerd_controls() {
    let Some(rbox) = Rbox::as_root() else { return };
    let containerd = Containerd::with_busybox(&rbox);
    let state = || {
        let list = containerd.call(["task", "ls"]).stdout_any().run().stdout;
        let line = list.lines().nth(1).unwrap_or("").to_owned();
        line.split_whitespace().nth(2).unwrap_or("").to_owned()
    };
    containerd
        .run(["-d", "busybox:latest", "controls", "sleep", "1000"])
        .run();
    assert_eq!(state(), "RUNNING");
    let exec = [
        "task",
        "exec",
        "--exec-id",
        "e",
        "--user",
        "alice",
        "controls",
    ];
    containerd
        .call(exec)
        .args(["sh", "-c", "id -un; echo error >&2; exit 5"])
        .stdout("alice\n")
        .stderr("error\n")
        .status(5)
        .run();
    containerd.call(["task", "pause", "controls"]).run();
    assert_eq!(state(), "PAUSED");
    containerd.call(["task", "resume", "controls"]).run();
    assert_eq!(state(), "RUNNING");
    super::eventually("a list of one process", &rbox, || {
        let list = containerd
            .call(["task", "ps", "controls"])
            .stdout_any()
            .run();
        list.stdout.lines().count() == 2
    });
    containerd
        .call(["task", "kill", "-a", "-s", "KILL", "controls"])
        .run();
    super::eventually("the end", &rbox, || state() == "STOPPED");
    containerd
        .call(["task", "rm", "controls"])
        .stderr_has("task controls exit with non-zero exit code 137")
        .run();
    containerd.call(["container", "rm", "controls"]).run();
    assert!(
        rbox.work("state/default")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn containerd_maps_users() {
    let Some(rbox) = Rbox::as_root() else { return };
    // The mapped root searches its way to the root file system.
    for dir in ["", "work"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(rbox.dir().join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
    // ctr 1.6 forgets the runtime's path where it has ids to map: containerd finds runc in its own PATH.
    rbox.runc();
    let path = format!("{}:/usr/bin:/bin", rbox.work("").display());
    let containerd = Containerd::with_path(&rbox, &path);
    containerd.import();
    containerd
        .run(["--rm", "--uidmap=0:700000:65536", "--gidmap=0:800000:65536"])
        .args(["busybox:latest", "maps", "sh", "-c"])
        .arg("cat /proc/self/uid_map /proc/self/gid_map; stat -c '%u %g' / /bin/busybox")
        .stdout("         0     700000      65536\n         0     800000      65536\n0 0\n0 0\n")
        .run();
}

#[test]
fn containerd_tells_what_is_wrong() {
    let Some(rbox) = Rbox::as_root() else { return };
    let containerd = Containerd::with_busybox(&rbox);
    for (command, said, _) in super::WRONG {
        containerd
            .run(["--rm", "busybox:latest", "wrong", command])
            .stderr(format!(
                "ctr: failed to create shim task: OCI runtime create failed: {said}: unknown\n"
            ))
            .status(1)
            .run();
    }
    containerd.call(["container", "ls", "-q"]).run();
}

#[test]
fn containerd_has_a_terminal() {
    let Some(rbox) = Rbox::as_root() else { return };
    let containerd = Containerd::with_busybox(&rbox);
    let tmux = Tmux::start(&rbox);
    let ctr = format!("ctr --address {}", containerd.socket());
    let flags = containerd.runtime().join(" ");
    tmux.line(&format!("alias ctr='{ctr}' run='{ctr} run {flags}'; clear"));
    tmux.wait_line("host>");
    tmux.line("run --rm -t busybox:latest tty sh; echo status $?");
    tmux.wait_line("/ #");
    tmux.line("tty; stty size");
    tmux.wait_line("/dev/pts/0");
    tmux.wait_line("24 80");
    tmux.resize(100, 30);
    tmux.line("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo resized");
    tmux.wait_line("resized");
    tmux.line("exit 7");
    tmux.wait_line("status 7");
}
