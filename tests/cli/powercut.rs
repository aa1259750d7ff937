//! The power fails: the store is on an ext4 of its own, which is told to forget all that it has not been
//! asked to keep (FS_IOC_SHUTDOWN without a flush of its journal, as file systems test themselves).
//!
//! It is the least careful ext4 there is: no commit by time (`commit=300`), file contents in no order
//! (`data=writeback`), and none of the help for programs that rename without fsync (`noauto_da_alloc`).
//!
//! RBOX_TEST_CUTS says how many cuts at random moments (25), RBOX_TEST_SEED repeats them.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::account;
use crate::support::processes;
use crate::support::random;
use crate::support::random::Random;
use crate::support::skip::skip;

/// An ext4 that is the store of a test.
pub struct Disk {
    image: PathBuf,
    place: PathBuf,
}

fn succeed(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

impl Disk {
    /// A new one, which belongs to the user of the test.
    pub fn new(rbox: &Rbox) -> Option<Disk> {
        if !account::is_root() {
            skip("only root can mount a disk");
            return None;
        }
        let disk = Disk {
            image: rbox.work("disk"),
            place: rbox.dir().join("data"),
        };
        std::fs::File::create(&disk.image)
            .unwrap()
            .set_len(128 << 20)
            .unwrap();
        let image = disk.image.to_str().unwrap();
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        succeed("mkfs.ext4", &["-q", "-m", "0", "-E", eager, image]);
        disk.mount();
        rbox.own(&disk.place);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&disk.place, mode).unwrap();
        succeed("sync", &["-f", disk.place.to_str().unwrap()]);
        Some(disk)
    }

    fn mount(&self) {
        let options = "loop,commit=300,data=writeback,noauto_da_alloc";
        let (image, place) = (&self.image, &self.place);
        let paths = [image.to_str().unwrap(), place.to_str().unwrap()];
        succeed("mount", &["-t", "ext4", "-o", options, paths[0], paths[1]]);
    }

    /// As after an error of the disk: what is there can be read, and nothing can be written.
    pub fn abort(&self) {
        succeed(
            "mount",
            &["-o", "remount,abort", self.place.to_str().unwrap()],
        );
    }

    /// Writes on nearly all that is free, and leaves the journal alone: direct writes wait for none.
    pub fn overwrite_free(&self) {
        let free = rustix::fs::statvfs(&self.place).unwrap();
        let mebibytes = free.f_bavail * free.f_frsize / (1 << 20) - 1;
        let (to, count) = (self.place.join("fill"), format!("count={mebibytes}"));
        let to = format!("of={}", to.display());
        let flags = ["bs=1M", "oflag=direct", "status=none"];
        succeed("dd", &[&["if=/dev/zero", &to, &count], &flags[..]].concat());
    }

    /// The power fails, and the machine starts again.
    pub fn cut(&self, rbox: &Rbox) {
        // Linux: _IOR('X', 125, __u32), and 2 is EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h).
        let script = "my $f = pack('L', 2); open F, '<', $ARGV[0] or die; ioctl(F, 0x8004587d, $f) or die $!";
        succeed("perl", &["-e", script, self.place.to_str().unwrap()]);
        processes::kill_all(rbox.dir());
        self.mount_again(rbox);
        std::fs::remove_dir_all(rbox.dir().join("run/rbox")).ok();
    }

    pub fn mount_again(&self, rbox: &Rbox) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_mounted = || {
            let output = Command::new("umount").arg(&self.place).output().unwrap();
            !output.status.success()
        };
        // Namespaces end a moment after the processes in them. Until then the old state of the disk is there.
        let is_used = || {
            let output = Command::new("losetup").arg("-j").arg(&self.image).output();
            !output.unwrap().stdout.is_empty()
        };
        while is_mounted() {
            assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
            std::thread::sleep(Duration::from_millis(10));
        }
        while is_used() {
            assert!(Instant::now() < deadline, "the disk is in use");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(&self.place)
            .output()
            .ok();
    }
}

fn quiet(rbox: &Rbox, line: &str) -> String {
    rbox.args(line.split(' ')).stdout_any().run().stdout
}

/// What a finished command has said is so after a power cut.
#[test]
fn what_was_done_stays_done() {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    rbox.load("busybox");
    disk.cut(&rbox);
    // An image, with all its files.
    rbox.args(["run", "--rm", "--pull=never", "busybox", "echo", "whole"])
        .stdout("whole\n")
        .run();
    quiet(&rbox, "tag busybox other");
    disk.cut(&rbox);
    quiet(
        &rbox,
        "create --name made -v vol:/v -v /anonymous other sleep 1000",
    );
    disk.cut(&rbox);
    assert_eq!(
        quiet(&rbox, "ps -a --format {{.Names}}:{{.State}}"),
        "made:created\n"
    );
    quiet(&rbox, "rename made renamed");
    disk.cut(&rbox);
    assert_eq!(quiet(&rbox, "ps -a --format {{.Names}}"), "renamed\n");
    quiet(&rbox, "update --env CHANGED=yes renamed");
    disk.cut(&rbox);
    quiet(&rbox, "start renamed");
    rbox.args(["exec", "renamed", "sh", "-c", "echo $CHANGED"])
        .stdout("yes\n")
        .run();
    disk.cut(&rbox);
    // Nothing of the run was to be kept: it is as if it had not been.
    assert_eq!(
        quiet(&rbox, "ps -a --format {{.Names}}:{{.State}}"),
        "renamed:created\n"
    );
    quiet(&rbox, "start renamed");
    succeed("sync", &["-f", disk.place.to_str().unwrap()]);
    disk.cut(&rbox);
    // It was running: nobody saw its end.
    assert_eq!(
        quiet(&rbox, "ps -a --format {{.Names}}:{{.State}}:{{.ExitCode}}"),
        "renamed:exited:137\n"
    );
    quiet(&rbox, "start renamed");
    quiet(&rbox, "stop -t 0 renamed");
    rbox.args([
        "run",
        "--name",
        "seven",
        "busybox",
        "sh",
        "-c",
        "echo said; exit 7",
    ])
    .stdout("said\n")
    .status(7)
    .run();
    disk.cut(&rbox);
    assert_eq!(
        quiet(
            &rbox,
            "ps -a --sort names --format {{.Names}}:{{.State}}:{{.ExitCode}}"
        ),
        "renamed:exited:137\nseven:exited:7\n"
    );
    // What was never asked to be kept may be gone, and is in nobody's way.
    quiet(&rbox, "logs seven");
    quiet(&rbox, "events --stream=false --since 1h");
    quiet(&rbox, "volume create named");
    disk.cut(&rbox);
    assert!(quiet(&rbox, "volume ls -q").contains("named\n"));
    quiet(&rbox, "commit seven committed");
    disk.cut(&rbox);
    rbox.args(["run", "--rm", "--pull=never", "committed", "echo", "whole"])
        .stdout("whole\n")
        .run();
    assert_eq!(
        quiet(&rbox, "ps -a --sort names --format {{.Names}}"),
        "renamed\nseven\n"
    );
    assert_whole(&rbox);
    disk.cut(&rbox);
    clean(&rbox);
    drop(disk);
}

/// With the machine a container goes that was made with --rm, also where only its name came to the disk.
#[test]
fn what_was_not_to_be_kept() {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    rbox.load("busybox");
    for name in ["passing", "other"] {
        rbox.args([
            "run",
            "-d",
            "--rm",
            "--name",
            name,
            "-v",
            "/anonymous",
            "busybox",
        ])
        .args(["sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    }
    // It brings the names of all files to the disk, and of these no more.
    quiet(&rbox, "volume create more");
    disk.cut(&rbox);
    let left = rbox.data().join("names/passing").read_link().unwrap();
    let record = rbox.data().join("names").join(left).join("config.json");
    assert_eq!(record.metadata().unwrap().len(), 0);
    // Their names are free.
    quiet(&rbox, "create --name other busybox");
    quiet(&rbox, "rm other");
    quiet(&rbox, "ps -a");
    assert_eq!(quiet(&rbox, "ps -a -q"), "");
    // Their volumes were not to be kept either.
    quiet(&rbox, "volume prune -f");
    clean(&rbox);
    drop(disk);
}

/// Everything that is listed works, and nothing is listed that cannot be read.
fn assert_whole(rbox: &Rbox) {
    for image in quiet(rbox, "images -q").lines() {
        rbox.args(["run", "--rm", "--pull=never", image, "echo", "whole"])
            .stdout("whole\n")
            .run();
    }
    for name in quiet(rbox, "ps -a --format {{.Names}}").lines() {
        quiet(rbox, &format!("inspect {name}"));
        if quiet(
            rbox,
            &format!("inspect {name} --format {{{{.State.Status}}}}"),
        ) != "running\n"
        {
            quiet(rbox, &format!("start {name}"));
        }
        quiet(rbox, &format!("logs {name}"));
        quiet(rbox, &format!("stop -t 0 {name}"));
    }
    quiet(rbox, "volume ls");
    quiet(rbox, "events --stream=false --since 1h");
}

fn clean(rbox: &Rbox) {
    quiet(rbox, "rm -a -f -v");
    quiet(rbox, "volume prune -a -f");
    for image in quiet(rbox, "images -q").lines() {
        quiet(rbox, &format!("rmi -f {image}"));
    }
    rbox.load("busybox");
    quiet(rbox, "run --rm busybox true");
    rbox.allow_orphans();
    rbox.assert_no_leaks();
}

/// In the middle of anything.
#[test]
fn at_any_moment() {
    random::repeatable(cut_at_any_moment);
}

fn cut_at_any_moment(random: &mut Random) {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    rbox.load("busybox");
    let cuts = random::count("RBOX_TEST_CUTS", 25);
    let mut made: BTreeSet<String> = BTreeSet::new();
    for _ in 0..cuts {
        loop {
            let line = command(random);
            let words: Vec<&str> = line.split_whitespace().collect();
            let running = rbox
                .args(&words)
                .stdout_any()
                .stderr_any()
                .status_any()
                .spawn();
            if random.below(4) == 0 {
                let moment = random.time(Duration::from_millis(120));
                std::thread::sleep(moment);
                random.tell(format!("{line} for {moment:?}"));
                disk.cut(&rbox);
                running.wait();
                if matches!(words[0], "rm" | "rename" | "prune") {
                    made.clear();
                }
                break;
            }
            let status = running.wait().status;
            random.tell(format!("{line}: {status}"));
            let done = status.success();
            match (words[0], words.last().unwrap()) {
                // What goes with the machine, or may come back, is not looked for.
                ("rm" | "rename" | "prune", _) => made.clear(),
                ("create", _) if done => {
                    made.insert(words[2].to_owned());
                }
                _ => {}
            }
        }
        let shown = quiet(&rbox, "ps -a --format {{.Names}}");
        for name in &made {
            assert!(shown.lines().any(|line| line == name), "{name} was lost");
        }
        assert_whole(&rbox);
    }
    clean(&rbox);
    drop(disk);
}

fn command(random: &mut Random) -> String {
    let name = random.one_of(&["one", "two", "six"]);
    let other = random.one_of(&["one", "two", "six"]);
    let option = random.one_of(&["", "-v vol:/v", "-v /anonymous", "--log-opt max-size=1k"]);
    match random.below(20) {
        0..=3 => format!("create --name {name} {option} busybox sleep 1000"),
        4 => format!("run -d --rm --name {name} {option} busybox sleep 1000"),
        5 => format!("run -d --name {name} {option} busybox sleep 1000"),
        6 => format!("run --name {name} {option} busybox seq 100"),
        7 | 8 => format!("start {name}"),
        9 => format!("stop -t 0 {name}"),
        10 => format!("rename {name} {other}"),
        11 => format!("update --env A=B {name}"),
        12 => format!("commit {name} committed"),
        13 => format!("rm -f -v {name}"),
        14 => "volume create vol".to_owned(),
        15 => "volume rm vol".to_owned(),
        16 => "rmi -f committed".to_owned(),
        17 => "tag busybox tagged".to_owned(),
        18 => "prune -f".to_owned(),
        _ => format!("restart -t 0 {name}"),
    }
}
