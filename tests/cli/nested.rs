//! rbox inside an rbox container without privileges, whose filter lets it make namespaces.
use crate::support::Rbox;

impl Rbox {
    /// `--security-opt` and `-v` flags: no filter, the program itself, and a directory of the host for its store.
    fn nested_flags(&self) -> Vec<String> {
        let store = self.work("store");
        std::fs::create_dir_all(&store).unwrap();
        self.own(&store);
        vec![
            "--security-opt=seccomp=unconfined".into(),
            "-v".into(),
            format!("{}:/bin/rbox:ro", self.program_path().display()),
            "-v".into(),
            format!("{}:/store", store.display()),
            "-e".into(),
            "XDG_DATA_HOME=/store".into(),
            "-e".into(),
            "XDG_RUNTIME_DIR=/tmp".into(),
        ]
    }
}

/// There is no /dev/net/tun, which is no reason not to start.
#[test]
fn a_container_in_a_container() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm"])
        .args(rbox.nested_flags())
        .args(["busybox", "rbox", "run", "--rm", "--name", "in", "hello"])
        .stdout_has("rbox")
        .stderr(
            "Warning: container \"in\" has no network but loopback: open(\"/dev/net/tun\"): No such file or directory (os error 2)\n\
             Hint: `rbox doctor` says what is missing; with `--network none` nothing is\n",
        )
        .run();
    for asked in [
        "--network=private",
        "-p=127.0.0.1::80",
        "--add-host=up:host-gateway",
    ] {
        rbox.args(["run", "--rm"])
            .args(rbox.nested_flags())
            .args(["busybox", "rbox", "run", "--rm", asked, "hello"])
            .stderr_has("cannot make a network interface: open(\"/dev/net/tun\"): No such file or directory")
            .status(125)
            .run();
    }
}

#[test]
fn a_user_in_a_container() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm", "-u", "alice"])
        .arg("--security-opt=seccomp=unconfined")
        .args([
            "-v",
            &format!("{}:/bin/rbox:ro", rbox.program_path().display()),
        ])
        .args(["--entrypoint", "sh", "busybox", "-c"])
        .arg("rbox run --rm hello")
        .stdout_has("rbox")
        .stderr_any()
        .run();
}

/// With images of its own, in a store on a directory of the host. (A third level has no procfs
/// of its own: Linux mounts a new one only where nothing of the old one is masked.)
#[test]
fn images_load_and_run_in_a_container() {
    let rbox = Rbox::with_busybox();
    let archive = crate::support::images::get("busybox").docker_archive;
    let script = "rbox load -q -i /busybox.tar >/dev/null && \
        rbox run -d --network none --name inner busybox sleep 1000 >/dev/null && \
        rbox exec inner echo inner && rbox rm -f inner && \
        rbox run --rm --network none -u alice busybox id -un";
    rbox.args(["run", "--rm"])
        .args(rbox.nested_flags())
        .args(["-v", &format!("{}:/busybox.tar:ro", archive.display())])
        .args(["busybox", "sh", "-c", script])
        .stdout("inner\ninner\nalice\n")
        .run();
}

/// Linux: /proc/sys of a container is read-only, and a network takes settings there.
#[test]
fn networks_in_a_container() {
    let rbox = Rbox::with_busybox();
    let archive = crate::support::images::get("busybox").docker_archive;
    let load = "rbox load -q -i /busybox.tar >/dev/null && ";
    let call = |flags: &[&str], script: &str| {
        rbox.args(["run", "--rm"])
            .args(rbox.nested_flags())
            .args(["-v", &format!("{}:/busybox.tar:ro", archive.display())])
            .args(flags)
            .args(["busybox", "sh", "-c", &format!("{load}{script}")])
    };
    let tun = "--device=/dev/net/tun";
    let script = "rbox network create lan >/dev/null && \
        rbox run -d --name s --network lan -p 8080:80 busybox nc -ll -p 80 -e echo hello >/dev/null && \
        rbox run --rm --network lan busybox sh -c 'ping -c 1 -W 1 s >/dev/null && nc s 80' && \
        nc 127.0.0.1 8080 && rbox rm -f -t 0 s && \
        rbox run --rm busybox hostname -i";
    call(&[tun, "--security-opt=unmask=/proc/sys"], script)
        .stdout("hello\nhello\ns\n10.0.3.100\n")
        .run();
    let script = "rbox run --rm --network lan busybox true";
    call(&[], script)
        .stderr_has("in a container `--device /dev/net/tun`")
        .status(125)
        .run();
    call(&[tun], script)
        .stderr_has("in a container networks with names need `--security-opt unmask=/proc/sys`")
        .status(125)
        .run();
}
