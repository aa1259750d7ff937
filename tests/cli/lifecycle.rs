//! From create to rm: what each verb does, prints and refuses, and that `ps` tells the truth.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;

impl Rbox {
    /// `NAME STATUS` of all containers, statuses without their times.
    fn statuses(&self) -> String {
        let text = self
            .args(["ps", "-a", "--format", "{{.Names}} {{.Status}}"])
            .stdout_any()
            .run()
            .stdout;
        let mut lines: Vec<&str> = text
            .lines()
            .map(|line| {
                let end = line
                    .find(") ")
                    .map(|at| at + 1)
                    .or_else(|| line.find(" Up ").map(|at| at + 3));
                &line[..end.unwrap_or(line.len())]
            })
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

#[test]
fn create_start_stop_rm() {
    let rbox = Rbox::with_busybox();
    let script = "trap 'echo bye; exit 4' TERM; echo started; while :; do sleep 0.05; done";
    rbox.args(["create", "--name", "web", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    assert_eq!(rbox.statuses(), "web Created");
    rbox.args(["ps", "-q"]).run();
    rbox.args(["start", "web"]).stdout("web\n").run();
    assert_eq!(rbox.statuses(), "web Up");
    rbox.args(["ps", "-q"]).stdout("[ID]\n").run();
    wait_for_log(&rbox, "web", "started");
    rbox.args(["stop", "web"]).stdout("web\n").run();
    assert_eq!(rbox.statuses(), "web Exited (4)");
    rbox.args(["logs", "web"]).stdout("started\nbye\n").run();
    rbox.args(["start", "web"]).stdout("web\n").run();
    assert_eq!(rbox.statuses(), "web Up");
    rbox.args(["kill", "web"]).stdout("web\n").run();
    rbox.args(["wait", "web"]).stdout("137\n").run();
    assert_eq!(rbox.statuses(), "web Exited (137)");
    rbox.args(["rm", "web"]).stdout("web\n").run();
    assert_eq!(rbox.statuses(), "");
}

fn wait_for_log(rbox: &Rbox, name: &str, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let log = rbox.args(["logs", name]).stdout_any().stderr_any().run();
        if log.stdout.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "log of {name}: {:?}", log.stdout);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn run_d_prints_the_id_and_returns() {
    let rbox = Rbox::with_busybox();
    let id = rbox.sleeper("bg");
    assert_eq!(id.len(), 64);
    assert_eq!(rbox.statuses(), "bg Up");
    rbox.args(["inspect", "--format", "{{.Id}} {{.State.Status}}", "bg"])
        .stdout("[ID] running\n")
        .run();
    rbox.args(["rm", "-f", &id[..12]])
        .stdout(format!("{}\n", "[ID]"))
        .run();
}

#[test]
fn ps_is_a_table() {
    let rbox = Rbox::with_busybox();
    rbox.args(["ps"]).stdout_has("CONTAINER ID").run();
    rbox.sleeper("tabled");
    let table = rbox.args(["ps"]).stdout_any().run().stdout;
    let header: Vec<&str> = table.lines().next().unwrap().split("  ").collect();
    let columns: Vec<&str> = header
        .iter()
        .map(|c| c.trim())
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(
        columns,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.contains("busybox") && row.contains("sleep 1000"),
        "{table}"
    );
    assert!(row.ends_with("tabled"), "{table}");
    rbox.remove(&["tabled"]);
}

#[test]
fn ids_may_be_shortened_as_long_as_they_are_unique() {
    let rbox = Rbox::with_busybox();
    let id = rbox.sleeper("long");
    rbox.args(["inspect", "--format", "{{.Name}}", &id[..5]])
        .stdout("long\n")
        .run();
    rbox.remove(&[&id]);
}

#[test]
fn a_stopped_container_keeps_what_it_wrote() {
    let rbox = Rbox::with_busybox();
    let script = "echo x >>/file; wc -l </file";
    rbox.args(["run", "--name", "kept", "busybox", "sh", "-c", script])
        .stdout("1\n")
        .run();
    rbox.args(["start", "-a", "kept"]).stdout("2\n").run();
    rbox.args(["start", "kept"]).stdout("kept\n").run();
    rbox.args(["wait", "kept"]).stdout("0\n").run();
    rbox.args(["logs", "kept"]).stdout("1\n2\n3\n").run();
    rbox.args(["rm", "kept"]).stdout("kept\n").run();
}

#[test]
fn logs_keep_the_streams_apart_and_follow() {
    let rbox = Rbox::with_busybox();
    let script =
        "echo one; echo two >&2; printf part; sleep 0.3; printf ial; sleep 0.3; echo; echo end";
    rbox.args([
        "run", "-d", "--name", "talker", "busybox", "sh", "-c", script,
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["logs", "-f", "talker"])
        .stdout("one\npartial\nend\n")
        .stderr("two\n")
        .run();
    rbox.args(["logs", "--tail", "1", "talker"])
        .stdout("end\n")
        .run();
    rbox.args(["logs", "-t", "--tail", "1", "talker"])
        .stdout("[TIME] end\n")
        .run();
    rbox.remove(&["talker"]);
}

#[test]
fn logs_of_binary_and_huge_lines_are_whole() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "--name", "big", "testinit", "output", "2"])
        .stdout_any()
        .run();
    let log = rbox.args(["logs", "big"]).stdout_any().run().stdout;
    assert_eq!(log.len(), 2 << 20);
    rbox.remove(&["big"]);
    let long = "y".repeat(200_000);
    rbox.args(["run", "-i", "--name", "line", "testinit", "cat"])
        .stdin(long.clone())
        .stdout(long.clone())
        .run();
    rbox.args(["logs", "line"]).stdout(long).run();
    rbox.remove(&["line"]);
}

#[test]
fn stop_kills_what_does_not_listen() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.1; done",
    ])
    .stdout("[ID]\n")
    .run();
    let start = Instant::now();
    rbox.args(["stop", "-t", "1", "deaf"])
        .stdout("deaf\n")
        .stderr_any()
        .run();
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert_eq!(rbox.statuses(), "deaf Exited (137)");
    rbox.args(["stop", "deaf"]).stdout("deaf\n").run();
    rbox.remove(&["deaf"]);
}

#[test]
fn the_stop_signal_of_the_image_is_used() {
    let rbox = Rbox::new();
    rbox.load("busybox:full");
    let script = "trap 'exit 22' INT; while :; do sleep 0.05; done";
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--entrypoint",
        "sh",
        "busybox:full",
        "-c",
        script,
    ])
    .stdout("[ID]\n")
    .run();
    std::thread::sleep(Duration::from_millis(300));
    rbox.args(["stop", "c"]).stdout("c\n").run();
    rbox.args(["wait", "c"]).stdout("22\n").run();
    rbox.remove(&["c"]);
}

#[test]
fn kill_sends_any_signal() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "-d", "--name", "t", "testinit", "trap"])
        .stdout("[ID]\n")
        .run();
    wait_for_log(&rbox, "t", "ready");
    for (signal, text) in [
        ("HUP", "signal 1"),
        ("SIGUSR1", "signal 10"),
        ("12", "signal 12"),
    ] {
        rbox.args(["kill", "-s", signal, "t"]).stdout("t\n").run();
        wait_for_log(&rbox, "t", text);
    }
    rbox.args(["kill", "--signal=TERM", "t"])
        .stdout("t\n")
        .run();
    rbox.args(["wait", "t"]).stdout("7\n").run();
    rbox.args(["rm", "t"]).stdout("t\n").run();
}

#[test]
fn wait_waits_for_the_end() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "w",
        "busybox",
        "sh",
        "-c",
        "sleep 0.5; exit 9",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["wait", "w"]).stdout("9\n").run();
    rbox.args(["wait", "w"]).stdout("9\n").run();
    rbox.args(["rm", "w"]).stdout("w\n").run();
}

#[test]
fn a_running_container_is_removed_by_force_only() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("busy");
    rbox.args(["rm", "busy"])
        .stderr_has("Error: ")
        .stderr_has("busy")
        .stderr_has("Hint: ")
        .status(125)
        .run();
    assert_eq!(rbox.statuses(), "busy Up");
    rbox.args(["rm", "-f", "busy"]).stdout("busy\n").run();
    assert_eq!(rbox.statuses(), "");
}

#[test]
fn rm_works_while_detached_and_rm_flag_cleans_up() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "0.3",
    ])
    .stdout("[ID]\n")
    .run();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !rbox.statuses().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_name_can_be_used_again_after_rm() {
    let rbox = Rbox::with_busybox();
    for _ in 0..3 {
        rbox.sleeper("again");
        rbox.args(["rm", "-f", "again"]).stdout("again\n").run();
    }
}

#[test]
fn only_one_of_many_gets_the_name() {
    let rbox = Rbox::with_busybox();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            rbox.args(["create", "--name", "one", "busybox"])
                .stdout_any()
                .stderr_any()
                .status_any()
                .spawn()
        })
        .collect();
    let won = calls
        .into_iter()
        .filter(|_| true)
        .map(crate::support::call::Running::wait)
        .filter(|output| output.status.success())
        .count();
    assert_eq!(won, 1);
    assert_eq!(rbox.statuses(), "one Created");
    rbox.remove(&["one"]);
}

#[test]
fn many_verbs_at_once_leave_the_truth() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "c", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let calls: Vec<_> = (0..24)
        .map(|n| {
            let args: &[&str] = match n % 4 {
                0 => &["start", "c"],
                1 => &["kill", "c"],
                2 => &["stop", "-t", "0", "c"],
                _ => &["ps", "-a"],
            };
            rbox.args(args)
                .stdout_any()
                .stderr_any()
                .status_any()
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
    let status = rbox.statuses();
    assert!(
        status == "c Up" || status.starts_with("c Exited"),
        "{status}"
    );
    rbox.remove(&["c"]);
}

#[test]
fn inspect_tells_what_was_asked_for() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create",
        "--name",
        "looked-at",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "busybox",
        "echo",
        "x",
    ])
    .stdout("[ID]\n")
    .run();
    let json = rbox
        .args(["inspect", "looked-at"])
        .stdout_any()
        .run()
        .stdout;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let container = &value[0];
    assert_eq!(container["Name"], "looked-at");
    assert_eq!(container["State"]["Status"], "created");
    assert_eq!(container["Config"]["WorkingDir"], "/tmp");
    assert!(
        container["Config"]["Env"]
            .as_array()
            .unwrap()
            .contains(&"A=b".into())
    );
    rbox.args(["inspect", "busybox"]).stdout_has("RootFS").run();
    rbox.remove(&["looked-at"]);
}

#[test]
fn version_info_and_doctor_speak() {
    let rbox = Rbox::new();
    rbox.args(["version"])
        .stdout_has(env!("CARGO_PKG_VERSION"))
        .run();
    rbox.args(["--version"])
        .stdout(format!("rbox version {}\n", env!("CARGO_PKG_VERSION")))
        .run();
    rbox.args(["info"]).stdout_has("overlay").run();
    rbox.args(["doctor"]).stdout_any().run();
}

#[test]
fn doctor_says_what_is_missing_and_how_to_mend_it() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    let out = rbox.args(["doctor"]).stdout_any().run().stdout;
    assert!(out.contains("usermod --add-subuids"), "{out}");
}
