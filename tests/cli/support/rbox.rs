//! One test's world: a user, a directory with its own XDG directories, and the check at
//! the end that nothing was left in it.
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::account;
use super::account::Account;
use super::call::Call;
use super::images;
use super::leaks;
use super::place;
use super::processes;
use super::skip::skip;

pub struct Rbox {
    account: Account,
    dir: PathBuf,
    program: PathBuf,
    orphans_allowed: AtomicBool,
}

impl Rbox {
    /// A plain user with sub-ids: the case that matters most.
    pub fn new() -> Self {
        Self::of(account::plain())
    }

    /// `new`, with the busybox image loaded.
    pub fn with_busybox() -> Self {
        let rbox = Self::new();
        rbox.load("busybox");
        rbox
    }

    /// `new`, with the image of `tests/fixtures/init.rs` loaded.
    pub fn with_testinit() -> Self {
        let rbox = Self::new();
        rbox.load("testinit");
        rbox
    }

    /// `None` (and a SKIP line) where the tests do not run as root.
    pub fn as_root() -> Option<Self> {
        Self::or_skip(account::root())
    }

    /// As `as_root`.
    pub fn without_subids() -> Option<Self> {
        Self::or_skip(account::without_subids())
    }

    fn or_skip(account: Option<Account>) -> Option<Self> {
        if account.is_none() {
            skip("only root can run tests as other users");
        }
        account.map(Self::of)
    }

    fn of(account: Account) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short, because the path of a socket below it may have 107 bytes.
        let dir = std::env::temp_dir().join(format!("rb.{}.{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let rbox = Self {
            account,
            dir,
            program: place::binary().to_owned(),
            orphans_allowed: AtomicBool::new(false),
        };
        rbox.own(&rbox.dir);
        for name in ["home", "run", "data", "tmp", "work"] {
            let path = rbox.dir.join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            rbox.own(&path);
        }
        rbox
    }

    /// Layers and blobs without an image are no leak in this test: it kills rbox where
    /// only a later command can sweep.
    pub fn allow_orphans(&self) {
        self.orphans_allowed.store(true, Ordering::Relaxed);
    }

    pub fn account(&self) -> Account {
        self.account
    }

    /// The directory of this test; `work` in it is for the test's own files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn work(&self, name: &str) -> PathBuf {
        self.dir.join("work").join(name)
    }

    /// Where the store is.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data/rbox")
    }

    /// Gives a file that the test wrote to the user of the test.
    pub fn own(&self, path: &Path) {
        if account::is_root() {
            let Account { uid, gid, .. } = self.account;
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Writes a file that belongs to the user of the test into `work`.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work(name);
        std::fs::write(&path, content).unwrap();
        self.own(&path);
        path
    }

    /// A call of rbox with these arguments.
    pub fn args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'_> {
        self.program(&self.program).args(args)
    }

    /// A call of any program as the user of the test.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Call<'_> {
        Call::new(self, program.as_ref())
    }

    /// A command with the user and the environment of this test.
    pub fn command(&self, program: &OsStr) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = with_plain_signals(program);
        command.env_clear().envs(self.environment());
        command.current_dir(self.dir.join("work"));
        if account::is_root() && self.account.uid != 0 {
            // Drops the supplementary groups too.
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }

    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("HOME", self.dir.join("home").into()),
            (
                "PATH",
                "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into(),
            ),
            ("TMPDIR", self.dir.join("tmp").into()),
            ("XDG_DATA_HOME", self.dir.join("data").into()),
            ("XDG_RUNTIME_DIR", self.dir.join("run").into()),
            ("TERM", "xterm".into()),
        ]
    }

    pub fn program_path(&self) -> &Path {
        &self.program
    }

    /// Loads a fixture image.
    pub fn load(&self, name: &str) {
        let archive = images::get(name).docker_archive;
        let mut call = self.args(["load", "-q", "-i"]).arg(archive).stdout_any();
        if Some(self.account) == account::without_subids() {
            // The first command says what one id means.
            call = call.stderr_any();
        }
        call.run();
    }

    /// Starts a container that sleeps until it is removed.
    pub fn sleeper(&self, name: &str) -> String {
        let id = self
            .args(["run", "-d", "--name", name, "busybox", "sleep", "1000"])
            .stdout("[ID]\n")
            .run();
        id.stdout.trim().to_owned()
    }

    /// What podman prints, with a store of this test. Only root's tests have one.
    pub fn podman(&self, args: &[&str]) -> String {
        let path = |name: &str| self.work(name).display().to_string();
        let storage = [
            format!("--root={}", path("podman")),
            format!("--runroot={}", path("podman-run")),
            format!("--tmpdir={}", path("podman-tmp")),
            "--storage-driver=vfs".to_owned(),
            "--events-backend=none".to_owned(),
        ];
        // What root's podman knows of compressions from other tests changes what it pushes.
        let alone = "mkdir -p /var/lib/containers/cache; mount -t tmpfs none /var/lib/containers/cache; exec podman \"$@\"";
        let call = self.program("unshare");
        let call = call.args(["--mount", "sh", "-ec", alone, "podman"]);
        let call = call.args(storage).args(args);
        call.stdout_any().stderr_any().run().stdout
    }

    /// Containers, and the volumes that go with them.
    pub fn remove(&self, names: &[&str]) {
        self.args(["rm", "-f", "-v"]).args(names).stdout_any().run();
    }

    /// The leak check, for tests that want it before their end.
    pub fn assert_no_leaks(&self) {
        let found = leaks::find(&self.dir, self.orphans_allowed.load(Ordering::Relaxed));
        assert!(found.is_empty(), "left behind:\n{found}");
    }

    /// Nothing of this test runs any more.
    #[track_caller]
    pub fn assert_no_processes(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            let found = processes::of(&self.dir);
            if found.is_empty() {
                return;
            }
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "left behind:\n{}", processes::describe(&found));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// What a stuck test looks like from outside.
    pub fn diagnostics(&self) -> String {
        let mut out = format!("processes of {}:\n", self.dir.display());
        out.push_str(&processes::describe(&processes::of(&self.dir)));
        let files = Command::new("find")
            .arg(&self.dir)
            .args(["-maxdepth", "5", "-not", "-path", "*/layers/*/*"])
            .output();
        if let Ok(files) = files {
            out.push_str(&String::from_utf8_lossy(&files.stdout));
        }
        out
    }
}

impl Drop for Rbox {
    fn drop(&mut self) {
        let found = if std::thread::panicking() {
            String::new()
        } else {
            leaks::find(&self.dir, self.orphans_allowed.load(Ordering::Relaxed))
        };
        processes::kill_all(&self.dir);
        remove_tree(&self.dir);
        assert!(found.is_empty(), "left behind:\n{found}");
    }
}

/// POSIX, 2.11 of the shell's language: without job control what runs in the background ignores SIGINT and SIGQUIT, and
/// so would all that these tests start there.
fn with_plain_signals(program: &OsStr) -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap();
    let is_ignored = |signal: Signal| ignored >> (signal.as_raw() - 1) & 1 == 1;
    if !is_ignored(Signal::INT) && !is_ignored(Signal::QUIT) {
        return Command::new(program);
    }
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=INT,QUIT").arg(program);
    command
}

/// Files of sub-ids can be removed by root, or by the root of a namespace that maps them.
fn remove_tree(dir: &Path) {
    let mut command = if account::is_root() {
        Command::new("rm")
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--map-auto", "rm"]);
        unshare
    };
    // A directory in use is seen by the leak check; here it only stays in /tmp.
    command.arg("-rf").arg(dir).status().ok();
}
