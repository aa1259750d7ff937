//! The power fails in the middle of pull, load, rmi and prune, on the disk of `powercut`: what was reported as pulled is
//! there, with every byte, and `system check` finds nothing to repair.
//!
//! RBOX_TEST_IMAGE_CUTS says how many cuts (8), RBOX_TEST_SEED repeats them.
use std::collections::BTreeSet;
use std::time::Duration;

use crate::powercut::Disk;
use crate::support::Rbox;
use crate::support::images;
use crate::support::random;
use crate::support::random::Random;
use crate::support::registry;

/// A command, and the names of images that it brings or takes away.
struct Command {
    words: Vec<String>,
    brings: Option<String>,
    takes: Vec<String>,
}

/// In the longest, a pull by a debug build is over.
const LONGEST: Duration = Duration::from_millis(500);

fn commands() -> Vec<Command> {
    let registry = registry::http();
    let pulled = |name: &str| format!("{}:latest", registry.reference(name));
    let loaded = |name: &str| format!("docker.io/library/{name}:latest");
    let bringing = |words: Vec<&str>, name: String| Command {
        words: words.into_iter().map(str::to_owned).collect(),
        brings: Some(name),
        takes: vec![],
    };
    let taking = |line: String, takes: Vec<String>| Command {
        words: line.split(' ').map(str::to_owned).collect(),
        brings: None,
        takes,
    };
    let pull = |name: &str| {
        let image = pulled(name);
        bringing(
            vec!["pull", "-q", "--tls-verify=false", &image],
            image.clone(),
        )
    };
    let load = |name: &str| {
        let path = images::get(name).docker_archive;
        bringing(
            vec!["load", "-q", "-i", path.to_str().unwrap()],
            loaded(name),
        )
    };
    let all = || {
        let mut all = ["busybox", "zstd/busybox", "testinit"].map(pulled).to_vec();
        all.push(loaded("busybox"));
        all
    };
    vec![
        pull("busybox"),
        pull("zstd/busybox"),
        pull("testinit"),
        load("busybox"),
        taking(
            format!("rmi {}", pulled("busybox")),
            vec![pulled("busybox")],
        ),
        // In full: the short name would also take the only other image of that name.
        taking(
            format!("rmi {}", loaded("busybox")),
            vec![loaded("busybox")],
        ),
        taking("rmi -a -f".into(), all()),
        taking("image prune -a -f".into(), all()),
    ]
}

#[test]
fn what_was_pulled_is_there() {
    random::repeatable(cut_and_look);
}

fn cut_and_look(random: &mut Random) {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    let mut there: BTreeSet<String> = BTreeSet::new();
    for _ in 0..random::count("RBOX_TEST_IMAGE_CUTS", 8) {
        loop {
            let mut all = commands();
            let command = all.swap_remove(random.below(all.len()));
            let line = command.words.join(" ");
            let call = rbox.args(&command.words).stdout_any().stderr_any();
            let running = call.status_any().spawn();
            for name in &command.takes {
                there.remove(name);
            }
            if random.below(3) == 0 {
                let moment = random.time(LONGEST);
                random.tell(format!("{line} for {moment:?}"));
                std::thread::sleep(moment);
                disk.cut(&rbox);
                running.wait();
                break;
            }
            let status = running.wait().status;
            random.tell(format!("{line}: {status}"));
            if status.success() {
                there.extend(command.brings);
            }
        }
        assert_right(&rbox, &there);
    }
    rbox.args(["image", "prune", "-f"]).stdout_any().run();
    rbox.args(["system", "check"]).run();
    rbox.assert_no_leaks();
    rbox.args(["rmi", "-a", "-f"]).stdout_any().run();
    drop(disk);
}

/// Linux: ext4_free_blocks (fs/ext4/mballoc.c): with `data=writeback` the blocks of a removed file are for others at
/// once, also where the removal is not on the disk yet.
#[test]
fn what_was_removed_does_not_come_back_with_the_bytes_of_others() {
    let rbox = Rbox::new();
    let Some(disk) = Disk::new(&rbox) else {
        return;
    };
    for name in ["busybox", "testinit"] {
        rbox.load(name);
    }
    rbox.args(["rmi", "testinit"]).stdout_any().run();
    rbox.args(["image", "prune", "-a", "-f"]).stdout_any().run();
    disk.overwrite_free();
    disk.cut(&rbox);
    assert_right(&rbox, &BTreeSet::new());
    rbox.load("busybox");
    rbox.args(["run", "--rm", "busybox", "echo", "whole"])
        .stdout("whole\n")
        .run();
    rbox.args(["image", "prune", "-f"]).stdout_any().run();
    rbox.args(["system", "check"]).run();
    rbox.args(["rmi", "-a", "-f"]).stdout_any().run();
    drop(disk);
}

fn assert_right(rbox: &Rbox, there: &BTreeSet<String>) {
    let check = rbox.args(["system", "check"]).stdout_any().run().stdout;
    let is_left_over = |line: &str| line.starts_with("Unreferenced ");
    assert!(check.lines().all(is_left_over), "{check}");
    let format = "--format={{.Repository}}:{{.Tag}}";
    let shown = rbox.args(["images", format]).stdout_any().run().stdout;
    for name in there {
        assert!(
            shown.lines().any(|line| line == name),
            "{name} was lost: {shown}"
        );
    }
    for name in shown.lines().filter(|name| name.contains("busybox")) {
        rbox.args(["run", "--rm", "--pull=never", name, "echo", "whole"])
            .stdout("whole\n")
            .run();
    }
}
