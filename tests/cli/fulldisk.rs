//! A disk that is full: a small tmpfs is the store. One error, nothing half-made is left,
//! and with room again everything works.
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::powercut::Disk;
use crate::support::Rbox;
use crate::support::account;
use crate::support::archive::Tar;
use crate::support::hostile::Image;
use crate::support::images;
use crate::support::registry;
use crate::support::skip::skip;

/// A tmpfs over the data directory of a test; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(rbox: &Rbox, size: &str) -> Option<Self> {
        if !account::is_root() {
            skip("only root can mount a small disk");
            return None;
        }
        let dir = rbox.dir().join("data");
        let account = rbox.account();
        let options = format!(
            "size={size},mode=700,uid={},gid={}",
            account.uid, account.gid
        );
        let disk = Self(dir);
        disk.run(&["mount", "-t", "tmpfs", "-o", &options, "rbox-test"]);
        Some(disk)
    }

    fn resize(&self, size: &str) {
        self.run(&["mount", "-o", &format!("remount,size={size}")]);
    }

    fn run(&self, command: &[&str]) {
        let status = Command::new(command[0])
            .args(&command[1..])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success(), "{command:?}: {status}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is busy now is a leak that the test's own check reports.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn load_on_a_full_disk() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "1m") else {
        return;
    };
    let archive = images::get("busybox").docker_archive;
    let load = || rbox.args(["load", "-q", "-i"]).arg(&archive);
    load()
        .stderr_has("Error: ")
        .stderr_has("No space left on device")
        .status(125)
        .run();
    rbox.args(["images", "-q"]).run();
    rbox.assert_no_leaks();
    disk.resize("50m");
    load().stdout_any().run();
    rbox.args(["run", "--rm", "busybox", "echo", "room"])
        .stdout("room\n")
        .run();
    drop(disk);
}

/// A disk that is full is no damage, and what cannot be unpacked anew for it is not removed.
#[test]
fn a_check_on_a_full_disk_removes_nothing() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "10m") else {
        return;
    };
    rbox.load("busybox");
    let filler = rbox.dir().join("data/filler");
    let dd = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filler.display()))
        .output();
    assert!(!dd.unwrap().status.success());
    for options in [&["--repair"][..], &["--repair", "--force"], &[]] {
        rbox.args(["system", "check"])
            .args(options)
            .stderr_has("Error: ")
            .stderr_has("No space left on device")
            .stderr_has("Hint: make room")
            .status(125)
            .run();
    }
    std::fs::remove_file(&filler).unwrap();
    rbox.args(["system", "check"]).run();
    rbox.args(["run", "--rm", "busybox", "echo", "here"])
        .stdout("here\n")
        .run();
    drop(disk);
}

/// What is only zeros takes no room on the way, however it is packed.
#[test]
fn zeros_need_no_room() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "10m") else {
        return;
    };
    let mut tar = Tar::default();
    let tar = tar.file("zeros", 0o644, &vec![0; 100 << 20]).finish();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).unwrap();
    let packed = rbox.write("zeros.tar.gz", packed.finish().unwrap());
    rbox.args(["import", "-q"])
        .arg(&packed)
        .arg("zeros")
        .stdout_any()
        .run();
    rbox.args(["rmi", "zeros"]).stdout_any().run();
    let archive = Image::of(vec![tar]).oci_archive();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive).unwrap();
    let packed = rbox.write("odd.tar.gz", packed.finish().unwrap());
    rbox.args(["load", "-q", "-i"])
        .arg(&packed)
        .stdout_any()
        .run();
    rbox.args(["rmi", "odd"]).stdout_any().run();
    drop(disk);
}

/// What had come is given up: it would only fill the disk.
#[test]
fn pull_on_a_full_disk() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "1500k") else {
        return;
    };
    let image = registry::http().reference("busybox");
    let pull = || rbox.args(["pull", "-q", "--tls-verify=false", &image]);
    pull()
        .stderr_has("Error: ")
        .stderr_has("No space left on device")
        .stderr_has("Hint: make room")
        .status(125)
        .run();
    rbox.args(["images", "-q"]).run();
    rbox.assert_no_leaks();
    disk.resize("50m");
    pull().stdout("[ID]\n").run();
    rbox.args(["run", "--rm", &image, "echo", "room"])
        .stdout("room\n")
        .run();
    drop(disk);
}

#[test]
fn create_on_a_full_disk() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "10m") else {
        return;
    };
    rbox.load("busybox");
    let filler = rbox.dir().join("data/filler");
    // Fills the disk to the last block.
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filler.display()))
        .output()
        .unwrap();
    assert!(!status.status.success());
    rbox.args(["create", "--name", "c", "busybox"])
        .stderr_has("Error: ")
        .stderr_has("No space left on device")
        .status(125)
        .run();
    std::fs::remove_file(&filler).unwrap();
    rbox.args(["ps", "-aq"]).run();
    rbox.assert_no_leaks();
    rbox.args(["run", "--rm", "--name", "c", "busybox", "echo", "room"])
        .stdout("room\n")
        .run();
    drop(disk);
}

/// The program keeps running when its log cannot be written.
#[test]
fn a_container_that_fills_the_disk_with_its_log() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "5m") else {
        return;
    };
    rbox.load("testinit");
    rbox.args(["run", "-d", "--name", "c", "testinit", "output", "20"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["wait", "c"]).stdout("0\n").run();
    rbox.args(["logs", "c"])
        .stdout_any()
        .stderr_any()
        .status_any()
        .run();
    rbox.args(["rm", "c"]).stdout("c\n").run();
    drop(disk);
}

/// With rotation, too, it neither waits nor loses its exit status, and its log tells what is lost.
#[test]
fn a_log_that_rotates_on_a_full_disk() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "10m") else {
        return;
    };
    rbox.load("busybox");
    let script = "trap go=1 USR1; trap end=1 USR2; echo ready
        while [ -z $go ]; do sleep 0.05; done; seq 1 100000; echo full >&2
        while [ -z $end ]; do sleep 0.05; done; echo room; exit 7";
    rbox.args(["run", "-d", "--name", "c", "--log-opt", "max-size=100k"])
        .args(["--log-opt", "max-file=10", "--log-opt", "compress=true"])
        .args(["busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    let filler = rbox.dir().join("data/filler");
    let fill = || {
        let dd = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", "status=none"])
            .arg(format!("of={}", filler.display()))
            .output();
        assert!(!dd.unwrap().status.success());
    };
    let wait_for = |text: &str| loop {
        let log = rbox.args(["logs", "c"]).stdout_any().stderr_any().run();
        if log.stdout.contains(text) {
            break log.stderr;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let signal = |name: &str| {
        rbox.args(["kill", "-s", name, "c"]).stdout("c\n").run();
    };
    wait_for("ready");
    fill();
    signal("USR1");
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::fs::remove_file(&filler).unwrap();
    signal("USR2");
    rbox.args(["wait", "c"]).stdout("7\n").run();
    let told = wait_for("room");
    assert!(
        told.contains(" records of this log were lost: No space left on device"),
        "{told}"
    );
    // And to the end.
    rbox.args(["start", "c"]).stdout("c\n").run();
    wait_for("room\nready");
    fill();
    signal("USR1");
    signal("USR2");
    rbox.args(["wait", "c"]).stdout("7\n").run();
    rbox.args(["ps", "-a", "--format", "{{.State}} {{.ExitCode}}"])
        .stdout("exited 7\n")
        .run();
    std::fs::remove_file(&filler).unwrap();
    rbox.remove(&["c"]);
    drop(disk);
}

/// Every command that writes says what is wrong and changes nothing, or does without; what runs goes on.
#[test]
fn every_command_on_a_full_disk() {
    let rbox = Rbox::new();
    let Some(disk) = SmallDisk::mount(&rbox, "20m") else {
        return;
    };
    rbox.load("busybox");
    rbox.sleeper("runs");
    rbox.args(["create", "--name", "waits", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["volume", "create", "vol"]).stdout("vol\n").run();
    rbox.write("large", vec![b'x'; 1 << 20]);
    rbox.write("small", "");
    let filler = rbox.dir().join("data/filler");
    let status = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filler.display()))
        .output()
        .unwrap();
    assert!(!status.status.success());
    for line in [
        "create --name new busybox",
        "run -d --name new busybox sleep 1000",
        "run --name new busybox true",
        "update --env A=B waits",
        "commit waits new",
        "cp large waits:/tmp/large",
        "cp large runs:/tmp/large",
        "volume create new",
        "run --rm -v new:/v busybox true",
        "tag busybox new",
    ] {
        let told = rbox
            .args(line.split(' '))
            .stdout_any()
            .stderr_has("No space left on device")
            .status(125)
            .run();
        assert!(
            told.stderr.starts_with("Error: "),
            "{line}: {}",
            told.stderr
        );
        assert!(told.stderr.lines().count() <= 2, "{line}: {}", told.stderr);
    }
    // What needs no room works.
    rbox.args(["rename", "waits", "other"]).run();
    rbox.args(["rename", "other", "waits"]).run();
    rbox.args(["exec", "runs", "true"]).run();
    rbox.args(["exec", "-d", "runs", "true"]).stdout_any().run();
    rbox.args(["logs", "runs"]).run();
    rbox.args(["cp", "runs:/etc/passwd", "-"])
        .stdout_any()
        .run();
    rbox.args(["stop", "-t", "0", "runs"])
        .stdout("runs\n")
        .run();
    rbox.args(["wait", "runs"]).stdout("137\n").run();
    rbox.args([
        "ps",
        "-a",
        "--sort",
        "names",
        "--format",
        "{{.Names}} {{.State}} {{.ExitCode}}",
    ])
    .stdout("runs exited 137\nwaits created 0\n")
    .run();
    rbox.args(["volume", "rm", "vol"]).stdout("vol\n").run();
    std::fs::remove_file(&filler).unwrap();
    // Nothing half-made.
    rbox.args(["volume", "ls", "-q"]).run();
    rbox.args(["images", "--format", "{{.Repository}}"])
        .stdout("docker.io/library/busybox\n")
        .run();
    for name in ["runs", "waits"] {
        rbox.args(["start", name]).stdout(format!("{name}\n")).run();
        rbox.args(["exec", name, "sh", "-c", "ls /tmp; echo $A"])
            .stdout("\n")
            .run();
    }
    rbox.remove(&["runs", "waits"]);
    rbox.assert_no_leaks();
    drop(disk);
}

/// The disk had an error, and the kernel lets nobody write to it any more.
#[test]
fn a_disk_that_became_read_only() {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    rbox.load("busybox");
    rbox.sleeper("runs");
    rbox.args(["create", "--name", "waits", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    disk.abort();
    for line in [
        "create --name new busybox",
        "run --rm busybox true",
        "start waits",
        "update --env A=B waits",
        "rename waits other",
        "commit waits new",
        "cp small waits:/tmp/small",
        "volume create new",
        "tag busybox new",
        "rm waits",
        "rm -f waits",
    ] {
        rbox.write("small", "");
        let told = rbox
            .args(line.split(' '))
            .stdout_any()
            .stderr_has("Read-only file system")
            .status(125)
            .run();
        assert!(
            told.stderr.starts_with("Error: "),
            "{line}: {}",
            told.stderr
        );
        assert!(told.stderr.lines().count() <= 2, "{line}: {}", told.stderr);
    }
    rbox.args(["images", "-q"]).stdout_any().run();
    rbox.args(["inspect", "waits"]).stdout_any().run();
    rbox.args(["exec", "runs", "echo", "here"])
        .stdout("here\n")
        .run();
    rbox.args(["logs", "runs"]).run();
    rbox.args(["stop", "-t", "0", "runs"])
        .stdout("runs\n")
        .run();
    rbox.args([
        "ps",
        "-a",
        "--sort",
        "names",
        "--format",
        "{{.Names}} {{.State}} {{.ExitCode}}",
    ])
    .stdout("runs exited 137\nwaits created 0\n")
    .run();
    disk.mount_again(&rbox);
    for name in ["runs", "waits"] {
        rbox.args(["start", name]).stdout(format!("{name}\n")).run();
    }
    rbox.remove(&["runs", "waits"]);
    rbox.args(["run", "--rm", "busybox", "echo", "hi"])
        .stdout("hi\n")
        .run();
    rbox.assert_no_leaks();
    drop(disk);
}
