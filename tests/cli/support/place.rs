//! Where the tests keep things between runs: one directory for each user who runs them,
//! readable by the users that tests drop to. It holds the fixture images (minutes to
//! make), and a copy of the binary, since a target directory may lie in a closed home.
use std::fs::DirBuilder;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;

/// `/var/tmp/rbox-tests-UID`, or RBOX_TEST_CACHE.
pub fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let uid = rustix::process::geteuid().as_raw();
        let dir = std::env::var_os("RBOX_TEST_CACHE").map_or_else(
            || format!("/var/tmp/rbox-tests-{uid}").into(),
            PathBuf::from,
        );
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .unwrap();
        let owner = dir.symlink_metadata().unwrap();
        assert!(
            owner.is_dir() && owner.uid() == uid,
            "{} belongs to somebody else",
            dir.display()
        );
        dir
    })
}

/// Holds an exclusive lock on a file of the cache until dropped; across processes too,
/// so that two test runs never make the same thing at once.
pub fn lock(name: &str) -> File {
    let file = File::create(cache().join(name)).unwrap();
    file.lock().unwrap();
    file
}

/// A directory of the cache that a script fills, the first time that it is wanted.
pub fn made_once(name: &str, script: &str) -> PathBuf {
    let dir = cache().join(name);
    let _lock = lock(&format!("{name}.lock"));
    if !dir.join("done").exists() {
        std::fs::create_dir_all(&dir).unwrap();
        let script = format!("exec 2>script.log\n{script}\ntouch done");
        let mut shell = Command::new("sh");
        let status = shell.args(["-ec", &script]).current_dir(&dir).status();
        let log = dir.join("script.log");
        assert!(status.unwrap().success(), "see {}", log.display());
    }
    dir
}

/// The program under test, where every user can execute it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_rbox"));
        let meta = built.metadata().unwrap();
        let all = cache().join("bin");
        let _lock = lock("bin.lock");
        std::fs::create_dir_all(&all).unwrap();
        remove_old(&all);
        let identity = format!("{}-{}-{}", meta.ino(), meta.size(), meta.mtime_nsec());
        let dir = all.join(identity);
        let copy = dir.join("rbox");
        if !copy.exists() {
            std::fs::create_dir_all(&dir).unwrap();
            let temporary = dir.join("new");
            std::fs::copy(built, &temporary).unwrap();
            std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::rename(&temporary, &copy).unwrap();
        }
        copy
    })
}

/// Copies of yesterday's binaries are nobody's any more.
fn remove_old(all: &Path) {
    let yesterday = SystemTime::now() - Duration::from_hours(24);
    for entry in std::fs::read_dir(all).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().modified().unwrap() < yesterday {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}
