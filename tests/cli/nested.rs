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

#[test]
fn a_container_in_a_container() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm"])
        .args(rbox.nested_flags())
        .args(["busybox", "rbox", "run", "--rm", "hello"])
        .stdout_has("rbox")
        .run();
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
        rbox run -d --name inner busybox sleep 1000 >/dev/null && \
        rbox exec inner echo inner && rbox rm -f inner && \
        rbox run --rm -u alice busybox id -un";
    rbox.args(["run", "--rm"])
        .args(rbox.nested_flags())
        .args(["-v", &format!("{}:/busybox.tar:ro", archive.display())])
        .args(["busybox", "sh", "-c", script])
        .stdout("inner\ninner\nalice\n")
        .run();
}
