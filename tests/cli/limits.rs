//! Limits, and what shows and changes them: values that make no sense, hosts that cannot limit, pause,
//! update, stats. Limits that hold are seen in the virtual machine (tests/vm/limits).
use std::path::Path;

use serde_json::Value;

use crate::support::Rbox;
use crate::support::skip::skip;

const USAGE: &str = "Hint: `rbox run --help` tells what there is\n";

#[track_caller]
fn refused(rbox: &Rbox, flags: &[&str], stderr: &str) {
    let args = [&["run", "--rm"], flags, &["busybox", "true"]].concat();
    rbox.args(args).stderr(stderr).status(125).run();
}

#[test]
fn values_that_cannot_be_are_told_in_one_line() {
    let rbox = Rbox::with_busybox();
    for (flag, value, expected) in [
        ("--memory", "5m", "expected at least 6m"),
        (
            "--memory",
            "much",
            "expected a number with one of b, k, m, g, t, p, as 512m",
        ),
        (
            "--memory-swap",
            "-2",
            "expected a number with one of b, k, m, g, t, p, as 1g, or -1",
        ),
        (
            "--cpus",
            "0.001",
            "expected a number of CPUs from 0.01 on, such as 1.5",
        ),
        ("--cpu-shares", "1", "expected a number from 2 to 262144"),
        (
            "--cpu-quota",
            "999",
            "expected microseconds from 1000 on, or -1",
        ),
        (
            "--cpu-period",
            "2000000",
            "expected microseconds from 1000 to 1000000",
        ),
        (
            "--cpuset-cpus",
            "1-0",
            "expected numbers and ranges, such as 0-2,4",
        ),
        (
            "--pids-limit",
            "-2",
            "expected a number of processes, or -1",
        ),
        ("--blkio-weight", "5", "expected a number from 10 to 1000"),
        (
            "--blkio-weight-device",
            "/dev/sda",
            "expected DEVICE:WEIGHT, as /dev/sda:500, with a weight from 10 to 1000",
        ),
        (
            "--device-read-bps",
            "/dev/sda:0",
            "expected DEVICE:BYTES, as /dev/sda:1mb",
        ),
        (
            "--device-write-iops",
            "/dev/sda:1k",
            "expected DEVICE:NUMBER, as /dev/sda:1000",
        ),
        (
            "--cgroups",
            "some",
            "expected enabled, disabled, no-conmon or split",
        ),
        (
            "--cgroup-conf",
            "cgroup.procs=1",
            "expected a file of a controller, not of the group itself",
        ),
        (
            "--cgroup-parent",
            "../x",
            "expected a slice such as user-web.slice, or a path with no `.` and `..` in it",
        ),
        (
            "--device-cgroup-rule",
            "c 1 r",
            "expected a kind (a, b or c), numbers and rights, as c 10:* rwm",
        ),
    ] {
        refused(
            &rbox,
            &[flag, value],
            &format!("Error: {flag}=\"{value}\": {expected}\n{USAGE}"),
        );
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let rbox = Rbox::with_busybox();
    let cannot = "Error: cannot create container: ";
    for (flags, expected) in [
        (
            &["--memory-swap", "64m"][..],
            "--memory-swap needs --memory beside it",
        ),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            "--memory-swap is less than --memory, which it includes",
        ),
        (
            &["-m", "64m", "--memory-reservation", "65m"],
            "--memory-reservation is more than --memory",
        ),
        (
            &["--device-read-bps", "/dev/null:1mb"],
            "\"/dev/null\": expected a block device",
        ),
    ] {
        refused(&rbox, flags, &format!("{cannot}{expected}\n"));
    }
    refused(
        &rbox,
        &["--cpus", "1", "--cpu-quota", "1000"],
        "Error: flag --cpus cannot be used with --cpu-quota\nHint: --cpus sets both; give one form\n",
    );
    refused(
        &rbox,
        &["--cgroups", "disabled", "--pids-limit", "9"],
        &format!(
            "{cannot}flag --pids-limit cannot be used with --cgroups disabled\nHint: a limit holds for a control group\n"
        ),
    );
}

#[test]
fn what_version_2_does_not_have_is_refused_with_the_reason() {
    let rbox = Rbox::with_busybox();
    for (flag, value, reason) in [
        (
            "--memory-swappiness",
            "50",
            "cgroup v2 has no swappiness; --memory-swap limits the swap",
        ),
        (
            "--kernel-memory",
            "1g",
            "Linux counts it as memory, and --memory limits it",
        ),
        (
            "--cpu-rt-runtime",
            "1000",
            "cgroup v2 gives no real-time time to groups",
        ),
        (
            "--cpu-rt-period",
            "1000",
            "cgroup v2 gives no real-time time to groups",
        ),
    ] {
        refused(
            &rbox,
            &[flag, value],
            &format!("Error: {flag}=\"{value}\": {reason}\n"),
        );
    }
    refused(
        &rbox,
        &["--oom-kill-disable"],
        "Error: --oom-kill-disable is not possible: cgroup v2 always kills where memory is out; --oom-score-adj makes other processes go first\n",
    );
}

/// Whether the controllers are in version 1, as where these tests run.
fn is_hybrid() -> bool {
    Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists()
}

#[test]
fn a_hybrid_host_runs_containers_and_refuses_limits() {
    if !is_hybrid() {
        skip("the host has no hybrid control groups");
        return;
    }
    let rbox = Rbox::with_busybox();
    let tells = "needs control groups of version 2, and this host has its controllers in version 1 (hybrid)\nHint: containers run without limits; `rbox doctor` tells more\n";
    for flags in [
        &["-m", "64m"][..],
        &["--cpus", "1"],
        &["--pids-limit", "100"],
        &["--cgroup-conf", "memory.high=1"],
    ] {
        let flag = if flags[0] == "-m" {
            "--memory"
        } else {
            flags[0]
        };
        refused(
            &rbox,
            flags,
            &format!("Error: cannot create container: {flag} {tells}"),
        );
    }
    // Nothing is asked for by these.
    let none = [
        "run",
        "--rm",
        "-m",
        "0",
        "--cpus",
        "0",
        "--pids-limit",
        "-1",
        "--memory-swappiness",
        "-1",
    ];
    rbox.args([&none[..], &["busybox", "echo", "runs"]].concat())
        .stdout("runs\n")
        .run();
    rbox.sleeper("c");
    rbox.args(["update", "-m", "64m", "c"])
        .stderr(format!(
            "Error: cannot update container \"c\": --memory {tells}"
        ))
        .status(125)
        .run();
    rbox.args(["pause", "c"])
        .stderr("Error: cannot pause container \"c\": it has no control group: none could be made when it was started, or --cgroups=disabled was given\nHint: `rbox doctor` tells what control groups need here\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn update_wants_something_to_change() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "c", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["update", "c"])
        .stderr("Error: nothing is to be changed\nHint: `rbox update --help` lists what can be\n")
        .status(125)
        .run();
    rbox.args(["update", "--restart", "often", "c"])
        .stderr("Error: --restart=\"often\": expected no, on-failure[:TIMES], always or unless-stopped\nHint: `rbox update --help` tells what there is\n")
        .status(125)
        .run();
    // To lift what is not there is always possible, and is kept.
    rbox.args(["update", "--pids-limit", "-1", "c"])
        .stdout("c\n")
        .run();
    rbox.args(["inspect", "--format", "{{.HostConfig.PidsLimit}}", "c"])
        .stdout("-1\n")
        .run();
    rbox.remove(&["c"]);
}

fn root_sleeper() -> Option<Rbox> {
    let rbox = Rbox::as_root()?;
    if !is_hybrid() {
        skip("the host has no hybrid control groups");
        return None;
    }
    rbox.load("busybox");
    rbox.sleeper("c");
    Some(rbox)
}

#[test]
fn a_paused_container_stands_still() {
    let Some(rbox) = root_sleeper() else { return };
    rbox.args([
        "exec",
        "-d",
        "c",
        "sh",
        "-c",
        "while :; do echo x >>/ticks; done",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["pause", "c"]).stdout("c\n").run();
    rbox.args(["ps", "--format", "{{.Names}} {{.State}}"])
        .stdout("c paused\n")
        .run();
    let upper = rbox.args([
        "inspect",
        "--format",
        "{{.GraphDriver.Data.UpperDir}} {{.State.Paused}} {{.State.Status}}",
        "c",
    ]);
    let told = upper.stdout_any().run().stdout;
    let (upper, state) = told.split_once(' ').unwrap();
    assert_eq!(state, "true paused\n");
    let ticks = Path::new(upper).join("ticks");
    let length = || ticks.metadata().map_or(0, |found| found.len());
    let before = length();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(length(), before);
    rbox.args(["exec", "c", "true"])
        .stderr("Error: cannot execute in container \"c\": it is paused\nHint: let it go on with `rbox unpause c`\n")
        .status(125)
        .run();
    rbox.args(["attach", "c"])
        .stderr("Error: cannot attach to container \"c\": it is paused\nHint: let it go on with `rbox unpause c`\n")
        .status(125)
        .run();
    rbox.args(["pause", "c"])
        .stderr("Error: cannot pause container \"c\": it is paused already\n")
        .status(125)
        .run();
    rbox.args(["unpause", "--all"]).stdout("[ID]\n").run();
    rbox.args(["unpause", "c"])
        .stderr("Error: cannot unpause container \"c\": it is not paused\n")
        .status(125)
        .run();
    rbox.args(["exec", "c", "true"]).run();
    rbox.remove(&["c"]);
}

#[test]
fn what_is_paused_can_be_stopped_killed_and_removed() {
    let Some(rbox) = root_sleeper() else { return };
    for verb in [&["stop", "-t", "0"][..], &["kill"]] {
        rbox.args(["pause", "c"]).stdout("c\n").run();
        rbox.args([verb, &["c"]].concat()).stdout("c\n").run();
        rbox.args(["wait", "c"]).stdout("137\n").run();
        rbox.args(["start", "c"]).stdout("c\n").run();
    }
    rbox.args(["pause", "c"]).stdout("c\n").run();
    rbox.args(["rm", "-f", "c"]).stdout("c\n").run();
}

#[test]
fn commands_that_join_are_in_the_group_and_it_goes_with_the_container() {
    let Some(rbox) = root_sleeper() else { return };
    let group = rbox
        .args(["inspect", "--format", "{{.Id}}{{.State.CgroupPath}}", "c"])
        .stdout_any()
        .run()
        .stdout;
    let (_, path) = group.trim().split_once('/').unwrap();
    let group = Path::new("/sys/fs/cgroup/unified").join(path);
    let count = || {
        std::fs::read_to_string(group.join("cgroup.procs"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(count(), 1);
    rbox.args(["exec", "-d", "c", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    assert_eq!(count(), 2);
    rbox.args([
        "run",
        "--rm",
        "--cgroups",
        "disabled",
        "busybox",
        "sh",
        "-c",
        "grep 0:: /proc/self/cgroup",
    ])
    .stdout("0::/\n")
    .run();
    rbox.remove(&["c"]);
    assert!(!group.exists());
}

#[test]
fn a_killed_supervisor_leaves_no_process_of_the_host_namespace() {
    let Some(rbox) = root_sleeper() else { return };
    rbox.args([
        "run",
        "-d",
        "--name",
        "k",
        "--pid",
        "host",
        "busybox",
        "sh",
        "-c",
        "sleep 4321 & exec sleep 1234",
    ])
    .stdout("[ID]\n")
    .run();
    let id = rbox.args(["inspect", "--format", "{{.Id}} {{.State.CgroupPath}}", "k"]);
    let told = id.stdout_any().run().stdout;
    let (id, path) = told.trim().split_once(' ').unwrap();
    let group = Path::new("/sys/fs/cgroup/unified").join(path.trim_start_matches('/'));
    let state = rbox
        .dir()
        .join("run/rbox/containers")
        .join(id)
        .join("state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let supervisor = i32::try_from(state["supervisor"].as_i64().unwrap()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    rbox.args(["wait", "k"]).stdout("137\n").run();
    let events = group.join("cgroup.events");
    let empty = || {
        std::fs::read_to_string(&events)
            .unwrap()
            .contains("populated 0")
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !empty() {
        assert!(std::time::Instant::now() < deadline, "processes are left");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rbox.remove(&["k", "c"]);
    assert!(!group.exists());
}

#[test]
fn stats_tell_what_is_used() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "busy",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["create", "--name", "idle", "busybox"])
        .stdout("[ID]\n")
        .run();
    let text = rbox
        .args(["stats", "--no-stream", "--format", "json"])
        .stdout_any()
        .run()
        .stdout;
    let rows: Value = serde_json::from_str(&text).unwrap();
    let row = &rows[0];
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!((&row["name"], &row["pids"]), (&"busy".into(), &"1".into()));
    let percent: f64 = row["cpu_percent"]
        .as_str()
        .unwrap()
        .trim_end_matches('%')
        .parse()
        .unwrap();
    assert!(percent > 1.0 && percent < 150.0, "{row}");
    let memory = row["mem_usage"].as_str().unwrap();
    assert!(memory.contains(" / ") && !memory.starts_with("0B"), "{row}");
    for count in ["oom_kills", "pids_refused", "throttled_periods"] {
        assert_eq!(row[count], 0, "{row}");
    }
    rbox.args([
        "stats",
        "--no-stream",
        "--all",
        "--format",
        "{{.Name}} {{.PIDs}} {{.OOMKills}} {{.NetIO}}",
    ])
    .stdout("busy 1 0 0B / 0B\nidle -- -- --\n")
    .run();
    rbox.args(["stats", "--no-stream", "idle"])
        .stdout_has("ID            NAME        CPU %       MEM USAGE / LIMIT  MEM %       NET IO      BLOCK IO    PIDS        CPU TIME    AVG CPU %\n")
        .run();
    rbox.args(["stats", "--no-stream", "nosuch"])
        .stderr("Error: no container with name or id \"nosuch\"\nHint: `rbox ps -a` lists the containers there are\n")
        .status(125)
        .run();
    rbox.remove(&["busy", "idle"]);
}
