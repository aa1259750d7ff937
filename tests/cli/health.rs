//! Health checks: when they run, what they are, what follows from them, and that no check and no image
//! holds up or outlives its container.
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::hostile::Image;
use crate::support::processes;

/// Starts a container that sleeps, with these flags of the health check.
fn run(rbox: &Rbox, name: &str, flags: &[&str]) {
    rbox.args(["run", "-d", "--name", name, "--stop-timeout", "0"])
        .args(flags)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
}

fn inspect(rbox: &Rbox, name: &str, field: &str) -> Value {
    let format = format!("{{{{json {field}}}}}");
    let found = rbox
        .args(["inspect", "--format", &format, name])
        .stdout_any()
        .run();
    serde_json::from_str(&found.stdout).unwrap()
}

fn health(rbox: &Rbox, name: &str) -> Value {
    inspect(rbox, name, ".State.Health")
}

/// Looks until it holds, for some seconds.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait(rbox: &Rbox, name: &str, condition: &str) {
    rbox.args(["wait", "-i", "50", "--condition", condition, name])
        .stdout("-1\n")
        .run();
}

#[test]
fn a_container_is_starting_then_healthy_then_not() {
    let rbox = Rbox::with_busybox();
    let flags = ["--health-cmd", "echo seen; test -f /ok"];
    let often = ["--health-interval", "200ms", "--health-retries", "2"];
    let slow = [
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "100ms",
    ];
    run(&rbox, "c", &[&flags[..], &often, &slow].concat());
    let ps = |filter: &str, stdout: &str| {
        rbox.args(["ps", "--filter", filter, "--format", "{{.Names}}"])
            .stdout(stdout)
            .run();
    };
    let log = || health(&rbox, "c")["Log"].as_array().unwrap().len();
    until("three checks", || log() >= 3);
    // However often it fails: nothing counts in the start period.
    assert_eq!(health(&rbox, "c")["Status"], "starting");
    assert_eq!(health(&rbox, "c")["FailingStreak"], 0);
    ps("health=starting", "c\n");
    rbox.args(["exec", "c", "touch", "/ok"]).run();
    wait(&rbox, "c", "healthy");
    ps("health=healthy", "c\n");
    ps("health=starting", "");
    ps("health=none", "");
    rbox.args(["ps", "--format", "{{.Names}} {{.Status}}"])
        .stdout_has(" (healthy)\n")
        .run();
    rbox.args(["exec", "c", "rm", "/ok"]).run();
    wait(&rbox, "c", "unhealthy,stopped");
    let found = health(&rbox, "c");
    assert!(found["FailingStreak"].as_u64().unwrap() >= 2, "{found}");
    assert_eq!(found, inspect(&rbox, "c", ".State.Healthcheck"));
    let last = &found["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["ExitCode"], &last["Output"]),
        (&json!(1), &json!("seen\n"))
    );
    assert!(last["Start"].as_str().unwrap() < last["End"].as_str().unwrap());
    let events = [
        "events",
        "--stream=false",
        "--filter",
        "event=health_status",
    ];
    rbox.args(events)
        .args(["--format", "{{.Action}}, {{.Attributes.health_status}}"])
        .stdout("health_status: healthy, healthy\nhealth_status: unhealthy, unhealthy\n")
        .run();
    rbox.args([
        "events",
        "--stream=false",
        "--format",
        "{{.health_failing_streak}}",
    ])
    .args(["--filter", "event=health_status: unhealthy"])
    .stdout("2\n")
    .run();
    // As docker has it: who is not checked any more is not healthy.
    rbox.args(["stop", "c"]).stdout("c\n").run();
    assert_eq!(health(&rbox, "c")["Status"], "unhealthy");
    rbox.remove(&["c"]);
}

#[test]
fn a_check_by_hand_tells_by_its_status() {
    let rbox = Rbox::with_busybox();
    let check = |name: &str, stdout: &str, status: i32| {
        rbox.args(["healthcheck", "run", name])
            .stdout(stdout)
            .status(status)
            .run();
    };
    let never = [
        "--health-interval",
        "disable",
        "--health-retries",
        "2",
        "--health-cmd",
    ];
    run(&rbox, "good", &[&never[..], &["true"]].concat());
    run(&rbox, "bad", &[&never[..], &["false"]].concat());
    let probe = [
        "--health-startup-cmd",
        "test -f /up",
        "--health-startup-interval",
        "disable",
    ];
    run(&rbox, "new", &[&never[..], &["true"], &probe].concat());
    check("good", "", 0);
    check("bad", "unhealthy\n", 1);
    assert_eq!(health(&rbox, "bad")["Status"], "starting");
    check("bad", "unhealthy\n", 1);
    assert_eq!(health(&rbox, "bad")["Status"], "unhealthy");
    rbox.args(["healthcheck", "run", "--ignore-result", "bad"])
        .stdout("unhealthy\n")
        .run();
    check("new", "starting\n", 1);
    rbox.args(["exec", "new", "touch", "/up"]).run();
    check("new", "", 0);
    // The time for the check itself has come.
    rbox.args(["wait", "--condition", "healthy", "new"])
        .stdout("-1\n")
        .run();
    rbox.args(["rm", "-f", "good", "bad", "new"])
        .stdout_any()
        .run();
    rbox.sleeper("none");
    let fails = |name: &str, stderr: &str| {
        rbox.args(["healthcheck", "run", name])
            .stderr(stderr)
            .status(125)
            .run();
    };
    fails(
        "none",
        "Error: cannot check container \"none\": container \"none\" has no health check\nHint: give it one: `rbox update --health-cmd COMMAND none`\n",
    );
    rbox.args(["wait", "--condition", "healthy", "none"])
        .stderr("Error: container \"none\" has no health check\nHint: give it one: `rbox update --health-cmd COMMAND none`\n")
        .status(125)
        .run();
    rbox.args(["kill", "none"]).stdout("none\n").run();
    rbox.args(["wait", "none"]).stdout("137\n").run();
    fails(
        "none",
        "Error: cannot check container \"none\": container \"none\" is not running (exited)\n",
    );
    fails(
        "x",
        "Error: no container with name or id \"x\"\nHint: `rbox ps -a` lists the containers there are\n",
    );
    rbox.remove(&["none"]);
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_started_anew() {
    let rbox = Rbox::with_busybox();
    let of = |action| {
        let flags = ["--health-cmd", "exit 3", "--health-interval", "100ms"];
        let often = ["--health-retries", "2", "--health-on-failure", action];
        [flags, often].concat()
    };
    run(&rbox, "kill", &of("kill"));
    rbox.args(["wait", "kill"]).stdout("137\n").run();
    // What a restart policy says of an end counts, unless a stop is wanted.
    run(
        &rbox,
        "again",
        &[of("kill"), vec!["--restart", "on-failure:1"]].concat(),
    );
    let restarts = || inspect(&rbox, "again", ".RestartCount");
    until("a restart and the end", || {
        restarts() == 1 && inspect(&rbox, "again", ".State.Status") == "exited"
    });
    run(
        &rbox,
        "stop",
        &[of("stop"), vec!["--restart", "always"]].concat(),
    );
    until("the end", || {
        inspect(&rbox, "stop", ".State.Status") == "exited"
    });
    assert_eq!(inspect(&rbox, "stop", ".RestartCount"), 0);
    run(&rbox, "restart", &of("restart"));
    until("two restarts", || {
        inspect(&rbox, "restart", ".RestartCount").as_u64() >= Some(2)
    });
    // The log tells why; the streak is that of this run.
    let found = health(&rbox, "restart");
    assert!(found["Log"].as_array().unwrap().len() >= 4, "{found}");
    assert!(found["FailingStreak"].as_u64().unwrap() <= 2, "{found}");
    let startup = [
        "--health-startup-cmd",
        "false",
        "--health-startup-retries",
        "2",
    ];
    let often = ["--health-startup-interval", "100ms", "--health-cmd", "true"];
    run(&rbox, "startup", &[startup, often].concat());
    until("a restart by the startup probe", || {
        inspect(&rbox, "startup", ".RestartCount").as_u64() >= Some(1)
    });
    rbox.remove(&["kill", "again", "stop", "restart", "startup"]);
}

#[test]
fn the_check_of_an_image_is_taken_over_changed_or_left_out() {
    let rbox = Rbox::new();
    let second = 1_000_000_000_u64;
    let check = json!({
        "Test": ["CMD-SHELL", "echo $0; exit 0"], "Interval": 7 * second, "Timeout": 8 * second,
        "StartPeriod": 9 * second, "StartInterval": 2 * second, "Retries": 4,
    });
    Image::busybox()
        .with(json!({ "Healthcheck": check, "Shell": ["/bin/sh", "-ec"], "Env": ["PATH=/bin"] }))
        .load(&rbox);
    let create = |name: &str, flags: &[&str]| {
        rbox.args(["run", "-d", "--stop-timeout", "0", "--name", name])
            .args(flags)
            .args(["odd", "sleep", "1000"])
            .stdout("[ID]\n")
            .run();
    };
    create("same", &[]);
    assert_eq!(inspect(&rbox, "same", ".Config.Healthcheck"), check);
    wait(&rbox, "same", "healthy");
    create(
        "other",
        &["--health-retries", "1", "--health-cmd", r#"["true", "x"]"#],
    );
    let mut other = check.clone();
    other["Test"] = json!(["CMD", "true", "x"]);
    other["Retries"] = json!(1);
    assert_eq!(inspect(&rbox, "other", ".Config.Healthcheck"), other);
    for (name, flags) in [
        ("none", &["--no-healthcheck"][..]),
        ("word", &["--health-cmd", "none"]),
    ] {
        create(name, flags);
        let found = rbox.args(["inspect", name]).stdout_any().run().stdout;
        assert!(!found.contains("Healthcheck"), "{found}");
    }
    rbox.args([
        "ps",
        "-q",
        "--filter",
        "health=none",
        "--format",
        "{{.Names}}",
    ])
    .stdout("word\nnone\n")
    .run();
    rbox.remove(&["same", "other", "none", "word"]);
}

#[test]
fn hostile_checks_of_images_are_bounded_or_no_checks() {
    for (check, expected) in [
        (json!({"Test": ["NONE"]}), None),
        (json!({"Test": []}), None),
        (json!({"Test": ["CMD"]}), None),
        (json!({"Test": ["CMD", "a\0b"]}), None),
        (json!({"Test": "CMD true"}), None),
        (json!([{"Test": ["CMD", "true"]}]), None),
        (
            json!({
                "Test": ["CMD", "true"], "Interval": 1, "Timeout": 1, "StartInterval": 1,
                "StartPeriod": u64::MAX, "Retries": 1_u64 << 63,
            }),
            Some((1_000_000_000_u64, 1_000_000_000_u64, u64::from(u32::MAX))),
        ),
        (
            json!({"Test": ["CMD", "true"], "Interval": -1, "Timeout": 1e300, "Retries": "x"}),
            Some((30_000_000_000, 30_000_000_000, 3)),
        ),
    ] {
        let rbox = Rbox::new();
        Image::busybox()
            .with(json!({ "Healthcheck": check, "Env": ["PATH=/bin"] }))
            .load(&rbox);
        rbox.args(["run", "--name", "c", "odd", "true"]).run();
        let found = inspect(&rbox, "c", ".Config");
        let found = found.get("Healthcheck");
        let number = |key: &str| found.unwrap()[key].as_u64().unwrap();
        match expected {
            None => assert_eq!(found, None, "{check}"),
            Some(expected) => assert_eq!(
                (number("Interval"), number("Timeout"), number("Retries")),
                expected,
                "{check}"
            ),
        }
        rbox.remove(&["c"]);
    }
}

/// The sleepers that live in the container besides its first process.
fn others(rbox: &Rbox, name: &str) -> String {
    let all = rbox
        .args(["exec", name, "sh", "-c", "cat /proc/[0-9]*/stat"])
        .stdout_any()
        .stderr_any()
        .status_any()
        .run();
    let lines = all.stdout.lines();
    let living = lines.filter(|line| line.contains(" (sleep) ") && !line.contains(") Z "));
    living.filter(|line| !line.starts_with("1 ")).collect()
}

#[test]
fn what_a_check_has_started_ends_with_it() {
    let rbox = Rbox::with_busybox();
    let limits = ["--health-timeout", "500ms", "--health-interval", "disable"];
    let hangs = "setsid sleep 1000 & sleep 1000 & echo waits; sleep 1000";
    run(
        &rbox,
        "c",
        &[&limits[..], &["--health-cmd", hangs]].concat(),
    );
    let begun = Instant::now();
    rbox.args(["healthcheck", "run", "c"])
        .stdout("unhealthy\n")
        .status(1)
        .run();
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(others(&rbox, "c"), "");
    let log = health(&rbox, "c")["Log"][0].clone();
    assert_eq!(log["ExitCode"], -1);
    assert_eq!(
        log["Output"],
        "Health check exceeded timeout (500ms): waits\n"
    );
    // What it leaves behind neither keeps its output open nor goes on.
    run(
        &rbox,
        "d",
        &[&limits[..], &["--health-cmd", "sleep 1000 & echo quick"]].concat(),
    );
    rbox.args(["healthcheck", "run", "d"]).run();
    assert_eq!(health(&rbox, "d")["Log"][0]["Output"], "quick\n");
    assert_eq!(others(&rbox, "d"), "");
    rbox.remove(&["c", "d"]);
}

#[test]
fn a_check_that_never_stops_writing_holds_up_nobody() {
    let rbox = Rbox::with_busybox();
    let limits = ["--health-timeout", "2s", "--health-interval", "disable"];
    let size = [
        "--health-max-log-size",
        "0",
        "--health-cmd",
        "yes 0123456789",
    ];
    run(&rbox, "c", &[limits, size].concat());
    let check = rbox
        .args(["healthcheck", "run", "c"])
        .stdout("unhealthy\n")
        .status(1)
        .spawn();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    rbox.args(["exec", "c", "true"]).run();
    rbox.args(["kill", "-s", "CONT", "c"]).stdout("c\n").run();
    assert!(begun.elapsed() < Duration::from_millis(1500));
    check.wait();
    let output = health(&rbox, "c")["Log"][0]["Output"].clone();
    let length = output.as_str().unwrap().len();
    assert!((64 * 1024..65 * 1024).contains(&length), "{length}");
    rbox.remove(&["c"]);
}

#[test]
fn the_log_is_as_long_as_it_may_be() {
    let rbox = Rbox::with_busybox();
    let dir = rbox.work("log");
    std::fs::create_dir(&dir).unwrap();
    rbox.own(&dir);
    let place = dir.to_str().unwrap();
    let sizes = ["--health-max-log-count", "2", "--health-max-log-size", "5"];
    let never = [
        "--health-interval",
        "disable",
        "--health-cmd",
        "echo 0123456789",
    ];
    let of = |place| [&sizes[..], &never, &["--health-log-destination", place]].concat();
    run(&rbox, "there", &of(place));
    run(&rbox, "events", &of("events_logger"));
    for name in ["there", "events"] {
        for _ in 0..3 {
            rbox.args(["healthcheck", "run", name]).run();
        }
        let log = health(&rbox, name)["Log"].clone();
        assert_eq!(log.as_array().unwrap().len(), 2, "{log}");
        assert_eq!(log[1]["Output"], "01234");
    }
    let id = inspect(&rbox, "there", ".Id");
    let file = dir.join(format!("{}-healthcheck.log", id.as_str().unwrap()));
    let text = std::fs::read_to_string(&file).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["Status"], "healthy");
    assert_eq!(found["Log"][1]["Output"], "01234");
    let events = [
        "events",
        "--stream=false",
        "--filter",
        "event=health_status",
    ];
    rbox.args(events)
        .args([
            "--filter",
            "container=events",
            "--format",
            "{{.health_log}}",
        ])
        .stdout("01234\n01234\n01234\n")
        .run();
    rbox.args(events)
        .args([
            "--filter",
            "container=there",
            "--format",
            "{{.health_status}}",
        ])
        .stdout("healthy\n")
        .run();
    rbox.remove(&["there", "events"]);
}

#[test]
fn a_check_is_who_and_where_the_container_is() {
    let rbox = Rbox::with_busybox();
    let identity = [
        "--user",
        "12:34",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "--cap-drop",
        "all",
    ];
    let shown = "id -u; id -g; pwd; echo $A; grep -E 'CapEff|Seccomp:' /proc/self/status";
    let never = ["--health-interval", "disable", "--health-cmd", shown];
    run(&rbox, "c", &[&identity[..], &never].concat());
    rbox.args(["healthcheck", "run", "c"]).run();
    let output = health(&rbox, "c")["Log"][0]["Output"].clone();
    let same = rbox
        .args(["exec", "c", "sh", "-c", shown])
        .stdout_any()
        .run();
    assert_eq!(output, same.stdout);
    assert!(
        same.stdout.starts_with("12\n34\n/tmp\nb\n"),
        "{}",
        same.stdout
    );
    let missing = [
        "--health-interval",
        "disable",
        "--health-cmd",
        "CMD /missing x",
    ];
    run(&rbox, "d", &missing);
    rbox.args(["healthcheck", "run", "d"])
        .stdout("unhealthy\n")
        .status(1)
        .run();
    let log = health(&rbox, "d")["Log"][0].clone();
    assert_eq!(log["ExitCode"], 127);
    let text = log["Output"].as_str().unwrap();
    assert!(text.contains("/missing"), "{text}");
    // Who reads the journal hears of no command that nobody has given.
    rbox.args(["events", "--stream=false", "--filter", "event=exec"])
        .args(["--filter", "container=d"])
        .run();
    rbox.remove(&["c", "d"]);
}

#[test]
fn other_checks_hold_at_once() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let update = |flags: &[&str]| {
        rbox.args(["update"])
            .args(flags)
            .arg("c")
            .stdout("c\n")
            .run();
    };
    update(&["--health-cmd", "true", "--health-interval", "100ms"]);
    wait(&rbox, "c", "healthy");
    update(&["--health-cmd", "false", "--health-retries", "1"]);
    wait(&rbox, "c", "unhealthy");
    assert_eq!(
        inspect(&rbox, "c", ".Config.Healthcheck.Interval"),
        100_000_000
    );
    update(&["--no-healthcheck"]);
    rbox.args(["ps", "-q", "--filter", "health=none"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["healthcheck", "run", "c"])
        .stderr_any()
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn a_checker_that_is_killed_is_a_failure_and_a_supervisor_takes_it_along() {
    let rbox = Rbox::with_busybox();
    let check = ["--health-cmd", "sleep 1000", "--health-interval", "disable"];
    run(&rbox, "c", &check);
    let by_hand = rbox
        .args(["healthcheck", "run", "c"])
        .stdout("unhealthy\n")
        .status(1)
        .spawn();
    let pid = inspect(&rbox, "c", ".State.Pid").to_string();
    let parent = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let mut fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        fields.nth(1).unwrap().to_owned()
    };
    let supervisor = parent();
    let children = || {
        let file = format!("/proc/{supervisor}/task/{supervisor}/children");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let is_network = |child: &str| {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm"));
            name.is_ok_and(|name| name.starts_with("rbox-net: "))
        };
        let others = text.split_whitespace();
        let others = others.filter(|child| **child != *pid && !is_network(child));
        others.map(str::to_owned).collect::<Vec<_>>()
    };
    let kill = |pid: &str| {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    until("the checker", || children().len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    kill(&children()[0]);
    by_hand.wait();
    assert_eq!(others(&rbox, "c"), "");
    let log = health(&rbox, "c")["Log"][0].clone();
    assert_eq!(log["Output"], "the process of the health check was killed");
    let by_hand = rbox
        .args(["healthcheck", "run", "c"])
        .stdout("stopped\n")
        .status(1)
        .spawn();
    until("the checker", || children().len() == 1);
    kill(&supervisor);
    by_hand.wait();
    until("no process", || processes::of(rbox.dir()).is_empty());
    rbox.remove(&["c"]);
}

#[test]
fn a_paused_container_is_not_checked() {
    let Some(rbox) = Rbox::as_root() else { return };
    rbox.load("busybox");
    // It is paused in the midst of a check, whose time is over then.
    let check = ["--health-cmd", "sleep 0.5", "--health-timeout", "800ms"];
    let often = ["--health-interval", "1ms", "--health-retries", "1"];
    run(&rbox, "c", &[check, often].concat());
    wait(&rbox, "c", "healthy");
    if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        rbox.args(["pause", "c"]).stdout("c\n").run();
        let last = || {
            health(&rbox, "c")["Log"]
                .as_array()
                .unwrap()
                .last()
                .unwrap()
                .clone()
        };
        std::thread::sleep(Duration::from_millis(1500));
        let before = last();
        assert_eq!(before["ExitCode"], 0);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(last(), before);
        assert_eq!(health(&rbox, "c")["Status"], "healthy");
        rbox.args(["healthcheck", "run", "c"])
            .stderr("Error: cannot check container \"c\": it is paused\nHint: let it go on with `rbox unpause c`\n")
            .status(125)
            .run();
        rbox.args(["unpause", "c"]).stdout("c\n").run();
        until("checks again", || last() != before);
        assert_eq!(health(&rbox, "c")["Status"], "healthy");
    }
    rbox.remove(&["c"]);
}

#[test]
fn what_is_wrong_is_said_before_anything_starts() {
    let rbox = Rbox::with_busybox();
    let help = "Hint: `rbox run --help` tells what there is\n";
    for (flags, message, hint) in [
        (
            &["--health-interval=1ns"][..],
            "--health-interval=\"1ns\": expected a duration of at least 1ms, or disable",
            help,
        ),
        (
            &["--health-timeout=x"],
            "--health-timeout=\"x\": expected a duration as 30s or 1m30s",
            help,
        ),
        (
            &["--health-retries=0"],
            "--health-retries=\"0\": expected a whole number, at least 1",
            help,
        ),
        (
            &["--health-on-failure=cry"],
            "--health-on-failure=\"cry\": expected none, kill, restart or stop",
            help,
        ),
        (
            &["--health-cmd=[]"],
            "--health-cmd=\"[]\": expected a command: it is empty",
            "",
        ),
        (
            &["--no-healthcheck", "--health-cmd=x"],
            "--no-healthcheck: expected no other --health flag beside it",
            "",
        ),
        (
            &["--health-cmd=x", "--health-log-destination=/missing"],
            "cannot create container: --health-log-destination=\"/missing\": there is no such directory",
            "",
        ),
        (
            &["--health-interval=1s"],
            "cannot create container: --health-interval: there is no health check",
            "Hint: give one: `--health-cmd COMMAND`\n",
        ),
        (
            &["--health-cmd=x", "--health-startup-retries=1"],
            "cannot create container: --health-startup-retries: there is no startup probe",
            "Hint: give one: `--health-startup-cmd COMMAND`\n",
        ),
    ] {
        rbox.args(["run"])
            .args(flags)
            .args(["busybox", "true"])
            .stderr(format!("Error: {message}\n{hint}"))
            .status(125)
            .run();
    }
    rbox.args(["ps", "-aq"]).run();
}
