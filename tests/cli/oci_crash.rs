//! Kill -9 of `rbox oci` at any moment: what is left, delete takes away.
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;
use crate::support::call::Call;

/// Numbers of a seed that is printed when the test fails.
struct Dice(u64);

#[expect(clippy::print_stdout, reason = "shown with a test that fails")]
fn print_seed(seed: u64) {
    println!("RBOX_TEST_SEED={seed}");
}

impl Dice {
    fn new() -> Dice {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let seed = std::env::var("RBOX_TEST_SEED")
            .map_or(now.subsec_nanos().into(), |seed| seed.parse().unwrap());
        print_seed(seed);
        Dice(seed)
    }

    fn microseconds(&mut self, most: u64) -> Duration {
        // Numerical Recipes' generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.0 >> 33) % most)
    }
}

fn killed_after(call: Call<'_>, delay: Duration) {
    let running = call.status_any().stderr_any().spawn();
    std::thread::sleep(delay);
    running.signal(Signal::KILL);
    running.wait();
}

fn worlds() -> impl Iterator<Item = Rbox> {
    [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten()
}

#[track_caller]
fn assert_nothing_is_left(bundle: &Bundle<'_>, group: Option<&Path>) {
    bundle.delete("one");
    assert!(!group.is_some_and(Path::exists), "{group:?}");
    let left: Vec<_> = std::fs::read_dir(bundle.root())
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_creator_that_is_killed_leaves_what_delete_takes_away() {
    let mut dice = Dice::new();
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        let group = bundle.group();
        bundle.write();
        for _ in 0..30 {
            let create = bundle.leaving(["create", "-b"]).arg(&bundle.dir).arg("one");
            killed_after(create, dice.microseconds(25_000));
            assert_nothing_is_left(&bundle, group.as_deref());
        }
        rbox.assert_no_leaks();
        // And nothing stands in the way of the next.
        bundle.create("one");
        bundle.delete("one");
    }
}

#[test]
fn a_starter_that_is_killed_leaves_what_delete_takes_away() {
    let mut dice = Dice::new();
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        let group = bundle.group();
        for _ in 0..15 {
            bundle.create("one");
            killed_after(bundle.oci(["start", "one"]), dice.microseconds(10_000));
            assert_nothing_is_left(&bundle, group.as_deref());
        }
    }
}

#[test]
fn a_deleter_that_is_killed_leaves_what_the_next_takes_away() {
    let mut dice = Dice::new();
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        let group = bundle.group();
        for _ in 0..15 {
            bundle.create("one");
            killed_after(
                bundle.oci(["delete", "--force", "one"]),
                dice.microseconds(8_000),
            );
            assert_nothing_is_left(&bundle, group.as_deref());
        }
    }
}

#[test]
fn what_a_killed_creator_has_left_is_understood() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    let mark = rbox.work("mark");
    let script = format!("touch {}; exec sleep 1000", mark.display());
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]});
    bundle.write();
    let create = || bundle.leaving(["create", "-b"]).arg(&bundle.dir).arg("one");
    let running = create().status_any().spawn();
    for _ in 0..1000 {
        if mark.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bundle.state("one")["status"], "creating");
    bundle
        .oci(["delete", "one"])
        .stderr(
            "cannot delete container one that is not stopped: creating\n\
             Hint: `rbox oci delete --force ID` kills it first\n",
        )
        .status(1)
        .run();
    running.signal(Signal::KILL);
    running.wait();
    assert_eq!(bundle.state("one")["status"], "stopped");
    create().status(1).run();
    assert_eq!(
        bundle.said(),
        "container with given ID already exists: it was left behind by a process that was killed\n\
         Hint: `rbox oci delete --force one` removes it\n"
    );
    // The hook has ended with the creator, and init with it.
    rbox.assert_no_processes();
    assert_nothing_is_left(&bundle, None);
}

#[test]
fn a_creator_that_hangs_is_ended_by_delete() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    let mark = rbox.work("mark");
    let script = format!("touch {}; exec sleep 1000", mark.display());
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]});
    bundle.write();
    let running = bundle
        .leaving(["create", "-b"])
        .arg(&bundle.dir)
        .arg("one")
        .status_any()
        .spawn();
    for _ in 0..1000 {
        if mark.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_nothing_is_left(&bundle, None);
    running.wait();
    rbox.assert_no_processes();
}
