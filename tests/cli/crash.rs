//! rbox killed with SIGKILL at many moments of pull, load, create, start, stop and rm:
//! the next commands work, and `ps` and `images` tell the truth.
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::images;
use crate::support::processes;
use crate::support::registry;

/// Moments for each verb. They are spread over the time that the verb takes.
const MOMENTS: u32 = 25;

/// Kills `args` at each moment, and calls `then` after each.
fn kill_at_each_moment(rbox: &Rbox, args: &[&str], before: impl Fn(), then: impl Fn(u32)) {
    rbox.allow_orphans();
    before();
    let start = Instant::now();
    call(rbox, args).wait();
    let took = start.elapsed();
    then(MOMENTS);
    for moment in 0..MOMENTS {
        before();
        let killed = call(rbox, args);
        std::thread::sleep(took * moment / MOMENTS);
        killed.signal(Signal::KILL);
        killed.wait();
        then(moment);
    }
}

fn call<'a>(rbox: &'a Rbox, args: &[&str]) -> crate::support::call::Running<'a> {
    rbox.args(args)
        .stdout_any()
        .stderr_any()
        .status_any()
        .spawn()
}

/// What `ps -a` says must be so: a running container answers, others do not run.
fn assert_truth(rbox: &Rbox) {
    let text = rbox
        .args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .stdout_any()
        .run()
        .stdout;
    for line in text.lines() {
        let (name, state) = line.split_once(' ').expect("a name and a state");
        match state {
            "running" => {
                rbox.args(["exec", name, "echo", "here"])
                    .stdout("here\n")
                    .run();
            }
            "created" | "exited" => {
                rbox.args(["exec", name, "true"])
                    .stderr_has("not running")
                    .status(125)
                    .run();
            }
            other => panic!("{name} is {other}"),
        }
    }
    rbox.args(["ps", "-a"]).stdout_any().run();
    rbox.args(["images"]).stdout_any().run();
}

/// An image may have lost its name, or not have it yet; what is listed is whole.
fn assert_listed_images_work(rbox: &Rbox) {
    let listed = rbox.args(["images", "-q"]).stdout_any().run().stdout;
    for id in listed.lines() {
        rbox.args(["run", "--rm", "--pull=never", id, "echo", "hi"])
            .stdout("hi\n")
            .run();
    }
}

/// Who makes a container sweeps what killed commands left of others.
fn leftovers_go_with_the_next_container(rbox: &Rbox) {
    rbox.args(["run", "--rm", "busybox", "true"]).run();
}

fn remove_all(rbox: &Rbox) {
    let names = rbox.args(["ps", "-aq"]).stdout_any().run().stdout;
    let names: Vec<&str> = names.lines().collect();
    if !names.is_empty() {
        rbox.remove(&names);
    }
}

#[test]
fn pull_killed() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    let pull = ["pull", "-q", "--tls-verify=false", &image];
    kill_at_each_moment(
        &rbox,
        &pull,
        || {
            rbox.args(["rmi", "-f", &image])
                .stdout_any()
                .stderr_any()
                .status_any()
                .run();
        },
        |_| {
            assert_listed_images_work(&rbox);
            rbox.args(pull).stdout_any().run();
            rbox.args(["run", "--rm", "--pull=never", &image, "echo", "hi"])
                .stdout("hi\n")
                .run();
        },
    );
    leftovers_go_with_the_next_rmi(&rbox, &image);
}

#[test]
fn load_killed() {
    let rbox = Rbox::new();
    let archive = images::get("busybox").docker_archive;
    let load = ["load", "-q", "-i", archive.to_str().unwrap()];
    kill_at_each_moment(
        &rbox,
        &load,
        || {
            rbox.args(["rmi", "-f", "busybox"])
                .stdout_any()
                .stderr_any()
                .status_any()
                .run();
        },
        |_| {
            assert_listed_images_work(&rbox);
            rbox.args(load).stdout_any().run();
            rbox.args(["run", "--rm", "busybox", "echo", "hi"])
                .stdout("hi\n")
                .run();
        },
    );
    leftovers_go_with_the_next_rmi(&rbox, "busybox");
}

/// Removing an image sweeps what killed processes had begun.
fn leftovers_go_with_the_next_rmi(rbox: &Rbox, image: &str) {
    rbox.args(["rmi", image]).stdout_any().run();
    let layers = rbox.data().join("layers");
    let left: Vec<_> = std::fs::read_dir(layers).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn create_killed() {
    let rbox = Rbox::with_busybox();
    let create = ["create", "--name", "c", "busybox", "sleep", "1000"];
    kill_at_each_moment(
        &rbox,
        &create,
        || {},
        |_| {
            assert_truth(&rbox);
            let names = rbox
                .args(["ps", "-a", "--format", "{{.Names}}"])
                .stdout_any()
                .run()
                .stdout;
            if names.is_empty() {
                // The name is not taken by what was not created.
                rbox.args(create).stdout("[ID]\n").run();
            }
            rbox.args(["start", "c"]).stdout("c\n").run();
            assert_truth(&rbox);
            remove_all(&rbox);
        },
    );
    leftovers_go_with_the_next_container(&rbox);
}

#[test]
fn start_killed() {
    let rbox = Rbox::with_busybox();
    kill_at_each_moment(
        &rbox,
        &["start", "c"],
        || {
            rbox.args(["create", "--name", "c", "busybox", "sleep", "1000"])
                .stdout("[ID]\n")
                .run();
        },
        |_| {
            settle(&rbox);
            assert_truth(&rbox);
            let state = state(&rbox, "c");
            if state != "running" {
                rbox.args(["start", "c"]).stdout("c\n").run();
            }
            assert_eq!(self::state(&rbox, "c"), "running");
            remove_all(&rbox);
        },
    );
    leftovers_go_with_the_next_container(&rbox);
}

fn state(rbox: &Rbox, name: &str) -> String {
    rbox.args(["inspect", "--format", "{{.State.Status}}", name])
        .stdout_any()
        .run()
        .stdout
        .trim()
        .to_owned()
}

/// A supervisor whose starter was killed goes on for a moment; then its state stands.
fn settle(rbox: &Rbox) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = String::new();
    let mut same = 0;
    while same < 3 {
        assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
        let now = rbox
            .args(["ps", "-a", "--format", "{{.State}}"])
            .stdout_any()
            .run()
            .stdout;
        // Either it runs, or nobody is left who could start it.
        let stands = now.contains("running") || processes::of(rbox.dir()).is_empty();
        same = if stands && now == last { same + 1 } else { 0 };
        last = now;
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn run_killed() {
    let rbox = Rbox::with_busybox();
    kill_at_each_moment(
        &rbox,
        &["run", "--rm", "--name", "c", "busybox", "echo", "hi"],
        || {},
        |_| {
            settle(&rbox);
            assert_truth(&rbox);
            remove_all(&rbox);
        },
    );
    leftovers_go_with_the_next_container(&rbox);
}

#[test]
fn stop_and_rm_killed() {
    let rbox = Rbox::with_busybox();
    for args in [&["stop", "-t", "0", "c"][..], &["rm", "-f", "c"]] {
        kill_at_each_moment(
            &rbox,
            args,
            || {
                rbox.sleeper("c");
            },
            |_| {
                settle(&rbox);
                assert_truth(&rbox);
                remove_all(&rbox);
            },
        );
    }
    leftovers_go_with_the_next_container(&rbox);
}

#[test]
fn rmi_killed() {
    let rbox = Rbox::new();
    kill_at_each_moment(
        &rbox,
        &["rmi", "busybox"],
        || rbox.load("busybox"),
        |_| {
            assert_listed_images_work(&rbox);
        },
    );
}

/// With its supervisor a container ends; it is not left running unseen.
#[test]
fn supervisor_killed() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    processes::kill_all(rbox.dir());
    settle(&rbox);
    assert_truth(&rbox);
    assert_eq!(state(&rbox, "c"), "exited");
    rbox.args(["start", "c"]).stdout("c\n").run();
    assert_eq!(state(&rbox, "c"), "running");
    // Only the supervisor this time.
    let own = processes::called(rbox.dir(), "rbox: ");
    assert_eq!(own.len(), 1, "{}", processes::describe(&own));
    let pid = rustix::process::Pid::from_raw(own[0].pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    settle(&rbox);
    assert_truth(&rbox);
    assert_eq!(state(&rbox, "c"), "exited");
    rbox.args(["rm", "c"]).stdout("c\n").run();
}

/// After a reboot the run directory is empty.
#[test]
fn the_machine_rebooted() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    processes::kill_all(rbox.dir());
    let run = rbox.dir().join("run/rbox");
    std::fs::remove_dir_all(run).unwrap();
    assert_truth(&rbox);
    assert_eq!(state(&rbox, "c"), "exited");
    rbox.args(["start", "c"]).stdout("c\n").run();
    rbox.remove(&["c"]);
}
