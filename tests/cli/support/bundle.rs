//! Bundles for `rbox oci`: a directory with a config.json and a root file system, and calls of the runtime on it.
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::call::Call;
use super::hostile;
use super::images;
use super::rbox::Rbox;

const APPLETS: [&str; 18] = [
    "sh", "cat", "echo", "env", "id", "ls", "mount", "ps", "readlink", "sleep", "stty", "test",
    "touch", "true", "tty", "umount", "wc", "hostname",
];

pub struct Bundle<'a> {
    rbox: &'a Rbox,
    pub dir: PathBuf,
    pub config: Value,
}

impl<'a> Bundle<'a> {
    /// `/bin` has busybox, `/init` is the program of the tests. With a user namespace where the test is no root's.
    pub fn new(rbox: &'a Rbox) -> Self {
        let mut bundle = Self::without_user_namespace(rbox);
        if rbox.account().uid != 0 {
            bundle.map_ids();
        }
        bundle
    }

    pub fn without_user_namespace(rbox: &'a Rbox) -> Self {
        let dir = rbox.work("bundle");
        let rootfs = dir.join("rootfs");
        for path in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            let path = rootfs.join(path);
            std::fs::create_dir_all(&path).unwrap();
            rbox.own(&path);
        }
        rbox.own(&dir);
        rbox.own(&rootfs);
        std::fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:\n",
        )
        .unwrap();
        let busybox = rootfs.join("bin/busybox");
        std::fs::write(&busybox, hostile::busybox()).unwrap();
        std::fs::set_permissions(&busybox, PermissionsExt::from_mode(0o755)).unwrap();
        for name in APPLETS {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        let init = images::layout("testinit").with_file_name("init");
        std::fs::copy(init, rootfs.join("init")).unwrap();
        // Who may write to them is not what keeps a container from it.
        rbox.own(&busybox);
        rbox.own(&rootfs.join("init"));
        Self {
            rbox,
            dir,
            config: config(),
        }
    }

    fn map_ids(&mut self) {
        let account = self.rbox.account();
        let map = |file: &str, own: u32| {
            let text = std::fs::read_to_string(file).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("{}:", account.name)));
            let start: u32 = line.unwrap().split(':').nth(1).unwrap().parse().unwrap();
            json!([
                {"containerID": 0, "hostID": own, "size": 1},
                {"containerID": 1, "hostID": start, "size": 65535}
            ])
        };
        let linux = &mut self.config["linux"];
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user"}));
        linux["uidMappings"] = map("/etc/subuid", account.uid);
        linux["gidMappings"] = map("/etc/subgid", account.gid);
    }

    /// The command of the container.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.config["process"]["args"] = json!(words);
        self
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.rbox.dir().join("run/rbox/oci")
    }

    /// A call of `rbox oci` with this root directory. Nothing of the engine's store is to be had.
    pub fn oci<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'a> {
        self.rbox
            .args(["oci", "--root"])
            .arg(self.root())
            .args(args)
            .env("XDG_DATA_HOME", "/proc/nowhere")
    }

    /// The same of a verb that leaves a process with its standard streams behind: those are `out` and `err` in the
    /// bundle, and what the verb itself says goes to `err` too.
    pub fn leaving<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'a> {
        let script = format!(
            "exec \"$0\" \"$@\" </dev/null >>{0}/out 2>>{0}/err",
            self.dir.display()
        );
        self.rbox
            .program("sh")
            .args(["-c", &script])
            .arg(self.rbox.program_path())
            .args(["oci", "--root"])
            .arg(self.root())
            .args(args)
            .env("XDG_DATA_HOME", "/proc/nowhere")
    }

    /// Writes config.json.
    pub fn write(&self) {
        let path = self.dir.join("config.json");
        std::fs::write(&path, self.config.to_string()).unwrap();
    }

    #[track_caller]
    pub fn create(&self, id: &str) {
        self.write();
        self.leaving(["create", "-b"]).arg(&self.dir).arg(id).run();
        assert_eq!(self.said(), "");
    }

    #[track_caller]
    pub fn start(&self, id: &str) {
        self.oci(["start", id]).run();
    }

    /// Runs it in the foreground; its output is to be asserted.
    pub fn run(&self, id: &str) -> Call<'a> {
        self.write();
        self.oci(["run", "-b"]).arg(&self.dir).arg(id)
    }

    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        let out = self.oci(["state", id]).stdout_any().run().stdout;
        serde_json::from_str(&out).unwrap()
    }

    #[track_caller]
    pub fn wait_status(&self, id: &str, status: &str) {
        for _ in 0..500 {
            if self.state(id)["status"] == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{id} does not come to be {status}: {}", self.state(id));
    }

    pub fn wrote(&self) -> String {
        std::fs::read_to_string(self.dir.join("out")).unwrap()
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("err")).unwrap()
    }

    #[track_caller]
    pub fn delete(&self, id: &str) {
        self.oci(["delete", "--force", id]).run();
    }

    /// Gives the container a control group, where root can make one; returns its directory.
    pub fn group(&mut self) -> Option<PathBuf> {
        if self.rbox.account().uid != 0 {
            return None;
        }
        let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let tree = trees
            .iter()
            .find(|tree| Path::new(tree).join("cgroup.procs").exists())?;
        let name = self.rbox.dir().file_name().unwrap().to_str().unwrap();
        self.config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        self.config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "cgroup"}));
        Some(Path::new(tree).join(name))
    }
}

fn config() -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000"],
            "env": ["PATH=/bin:/"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            }
        },
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}
