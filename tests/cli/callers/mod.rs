//! rbox as the OCI runtime of others: Debian's podman, containerd and Docker, each with its
//! storage, sockets and daemons in the directory of the test. What needs control groups with
//! controllers, or systemd, is in tests/vm.
mod containerd;
mod docker;
mod podman;

use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::call::Running;

impl Rbox {
    /// The program by the name `runc`, which makes it an OCI runtime.
    fn runc(&self) -> PathBuf {
        let link = self.work("runc");
        if !link.exists() {
            std::os::unix::fs::symlink(self.program_path(), &link).unwrap();
        }
        link
    }
}

/// A directory for containers' users, with a file `given`.
fn volume(rbox: &Rbox) -> PathBuf {
    let dir = rbox.work("volume");
    std::fs::create_dir(&dir).unwrap();
    rbox.own(&dir);
    rbox.write("volume/given", "given\n");
    dir
}

/// A mount namespace for callers that mount as root: in the host's, their mounts would be
/// copied to whatever other tests start meanwhile, and would have to be undone one by one.
struct Mounts<'a> {
    rbox: &'a Rbox,
    holder: Option<Running<'a>>,
}

impl<'a> Mounts<'a> {
    fn new(rbox: &'a Rbox) -> Self {
        let script = "mount --make-rshared /; echo ready; exec cat";
        let holder = rbox
            .program("unshare")
            .args(["--mount", "sh", "-c", script])
            .stdout("ready\n")
            .limit(Duration::from_mins(5))
            .spawn();
        holder.wait_for("ready");
        Self {
            rbox,
            holder: Some(holder),
        }
    }

    /// What stands before a command that belongs in there.
    fn enter(&self) -> [String; 4] {
        let holder = self.holder.as_ref().expect("it runs until the end");
        let pid = holder.pid().to_string();
        ["nsenter".into(), "-t".into(), pid, "-m".into()]
    }

    fn program(&self, name: &str) -> Call<'a> {
        let [nsenter, flags @ ..] = self.enter();
        self.rbox.program(nsenter).args(flags).arg(name)
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take()
            && !std::thread::panicking()
        {
            holder.wait();
        }
    }
}

/// Commands that cannot be executed, what is said of them, and the status by which Docker and podman tell
/// one from the other.
const WRONG: [(&str, &str, i32); 2] = [
    (
        "nosuch",
        "exec: \"nosuch\": executable file not found in $PATH: cannot execute \"nosuch\": no such command in PATH \
         /usr/bin:/bin:/usr/sbin:/sbin",
        127,
    ),
    (
        "/etc",
        "exec: \"/etc\": permission denied: cannot execute \"/etc\": Permission denied (os error 13)",
        126,
    ),
];

/// Tries until it holds.
#[track_caller]
fn eventually(what: &str, rbox: &Rbox, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited for {what}\n{}",
            rbox.diagnostics()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A daemon that is told to end when its test does.
struct Daemon<'a>(Option<Running<'a>>);

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let daemon = self.0.take().expect("it runs until here");
        daemon.signal(Signal::TERM);
        if !std::thread::panicking() {
            daemon.wait();
        }
    }
}
