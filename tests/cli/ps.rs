//! `ps`: which containers, in which order, by which fields.
use crate::support::Rbox;

fn names(rbox: &Rbox, args: &[&str]) -> String {
    let call = rbox.args(["ps", "--format", "{{.Names}}"]).args(args);
    let text = call.stdout_any().run().stdout;
    text.lines().collect::<Vec<_>>().join(" ")
}

/// `made` was never started, `done` exited with 3, `up` runs.
fn three() -> Rbox {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create", "--name", "made", "-l", "app=web", "-l", "env=x", "-v", "/data",
    ])
    .args(["--annotation", "a=b", "busybox", "true"])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "run",
        "--name",
        "done",
        "-l",
        "app=db",
        "--network=host",
        "busybox",
    ])
    .args(["sh", "-c", "exit 3"])
    .status(3)
    .run();
    rbox.args([
        "run", "-d", "--name", "up", "-l", "app=web", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox
}

#[test]
fn filters_of_one_key_are_alternatives_and_keys_must_all_fit() {
    let rbox = three();
    let found = |filters: &[&str]| {
        let args = filters.iter().flat_map(|filter| ["--filter", filter]);
        names(&rbox, &["-a"].into_iter().chain(args).collect::<Vec<_>>())
    };
    let id = rbox
        .args(["ps", "-aq", "--no-trunc", "-f", "name=made"])
        .stdout_any()
        .run()
        .stdout;
    for (filters, expected) in [
        (&["name=ma", "name=^up$"][..], "up made"),
        (&["name=.", "status=exited"], "done"),
        (&["status=created", "status=exited"], "done made"),
        (&["status=stopped"], "done"),
        (&["exited=3"], "done"),
        (&["exited=0"], ""),
        (&["label=app=web"], "up made"),
        (&["label=app=web", "label=env"], "made"),
        (&["label!=app=web"], "done"),
        (&["annotation=a"], "made"),
        (&["annotation!=a=b"], "up done"),
        (&["before=up"], "done made"),
        (&["since=made"], "up done"),
        (&["since=made", "before=up"], "done"),
        (&["network=host"], "done"),
        (&["volume=/data"], "made"),
        (&["ancestor=busybox"], "up done made"),
        (&["ancestor=alpine"], ""),
        (&["command=sleep"], "up"),
        (&["until=1h"], ""),
        (&["until=2100-01-01"], "up done made"),
        (&[&format!("id={}", &id[..10])], "made"),
    ] {
        assert_eq!(found(filters), expected, "{filters:?}");
    }
    // Who asks for a status means all.
    assert_eq!(names(&rbox, &["--filter", "status=created"]), "made");
    assert_eq!(names(&rbox, &["--filter", "name=made"]), "");
    for (filter, message) in [
        ("nothing", "--filter=\"nothing\": expected KEY=VALUE"),
        (
            "color=red",
            "--filter=\"color=red\": expected one of the keys ancestor,",
        ),
        (
            "status=tired",
            "--filter=\"status=tired\": expected one of created,",
        ),
        ("exited=x", "--filter=\"exited=x\": expected an exit status"),
        ("pod=x", "--filter=\"pod=x\": rbox has no pods"),
    ] {
        rbox.args(["ps", "--filter", filter])
            .stderr_has(format!("Error: {message}"))
            .status(125)
            .run();
    }
    rbox.remove(&["made", "done", "up"]);
}

#[test]
fn order_and_number_and_forms() {
    let rbox = three();
    assert_eq!(names(&rbox, &[]), "up");
    assert_eq!(names(&rbox, &["-a"]), "up done made");
    assert_eq!(names(&rbox, &["--latest"]), "up");
    assert_eq!(names(&rbox, &["--last", "2"]), "up done");
    assert_eq!(names(&rbox, &["-n", "-1"]), "up");
    assert_eq!(names(&rbox, &["-a", "--sort", "names"]), "done made up");
    assert_eq!(names(&rbox, &["-a", "--sort", "created"]), "made done up");
    assert_eq!(names(&rbox, &["-a", "--sort", "status"]), "made done up");
    assert_eq!(names(&rbox, &["-a", "--sort", "command"]), "done up made");
    let format = "{{.Label \"app\"}}|{{.Labels.app}}|{{.State}}|{{.Exited}}|{{.ExitCode}}|{{.AutoRemove}}|{{.Networks}}|{{.Mounts}}|{{.Command}}|{{.Pod}}{{.PodName}}|{{.IsInfra}}|{{.Restarts}}";
    rbox.args(["ps", "-a", "--sort=names", "--format", format])
        .stdout(
            "db|db|exited|true|3|false|host||sh -c exit 3||false|0\n\
             web|web|created|false|0|false|private|/data|true||false|0\n\
             web|web|running|false|0|false|private||sleep 1000||false|0\n",
        )
        .run();
    let json = rbox
        .args(["container", "ls", "-a", "--format=json"])
        .stdout_any()
        .run()
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["Names"], serde_json::json!(["done"]));
    assert_eq!(
        json[1]["Command"],
        serde_json::json!(["sh", "-c", "exit 3"])
    );
    assert_eq!(json[1]["ExitCode"], 3);
    assert!(json[0]["StartedAt"].as_i64().unwrap() > 1_700_000_000);
    rbox.args([
        "ps",
        "--noheading",
        "--format",
        "table {{.Names}}\t{{.State}}",
    ])
    .stdout("up          running\n")
    .run();
    let table = rbox.args(["ps", "--namespace"]).stdout_any().run().stdout;
    let (heading, row) = table.split_once('\n').unwrap();
    assert_eq!(
        heading.split_whitespace().collect::<Vec<_>>(),
        [
            "CONTAINER",
            "ID",
            "NAMES",
            "PID",
            "CGROUPNS",
            "IPC",
            "MNT",
            "NET",
            "PIDNS",
            "USERNS",
            "UTS"
        ]
    );
    assert_eq!(
        row.split_whitespace()
            .filter(|word| word.starts_with("402653"))
            .count(),
        7
    );
    for (args, message) in [
        (&["--pod"][..], "--pod: rbox has no pods"),
        (
            &["--external"],
            "--external: rbox has no containers of other tools in its store",
        ),
        (&["-q", "-s"], "--quiet and --size: expected one of them"),
        (
            &["-l", "-a"],
            "--latest, --last and --all: expected one of them",
        ),
    ] {
        rbox.args(["ps"])
            .args(args)
            .stderr(format!("Error: {message}\n"))
            .status(125)
            .run();
    }
    rbox.remove(&["made", "done", "up"]);
}

#[test]
fn sizes_count_what_was_written_also_by_other_users() {
    let rbox = Rbox::with_busybox();
    let script =
        "mkdir -m 700 /secret && head -c 12345 /dev/zero > /secret/file && chown -R 33:33 /secret";
    rbox.args(["run", "--name", "large", "busybox", "sh", "-c", script])
        .run();
    rbox.args(["create", "--name", "small", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    let sizes = rbox
        .args(["ps", "-a", "--format", "{{.Names}} {{.Size}}"])
        .stdout_any()
        .run()
        .stdout;
    assert!(sizes.starts_with("small 0B (virtual "), "{sizes}");
    assert!(sizes.contains("\nlarge 12.3kB (virtual "), "{sizes}");
    rbox.args(["ps", "-a", "-s"]).stdout_has("SIZE").run();
    assert_eq!(names(&rbox, &["-a", "--sort", "size"]), "small large");
    rbox.remove(&["large", "small"]);
}

#[test]
fn a_record_that_cannot_be_read_is_one_line_and_no_failure() {
    let rbox = three();
    let id = rbox
        .args(["ps", "-aq", "--no-trunc", "-f", "name=done"])
        .stdout_any()
        .run()
        .stdout;
    let dir = rbox.data().join("containers").join(id.trim());
    for file in ["config.json", "exit.json"] {
        let good = std::fs::read(dir.join(file)).unwrap();
        for bad in ["", "{\"version\":99}", "\0\0\0"] {
            std::fs::write(dir.join(file), bad).unwrap();
            let call = rbox.args(["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
            let found = call.stdout_any().stderr_any().run();
            let mut rows: Vec<&str> = found.stdout.lines().collect();
            rows.sort_unstable();
            assert_eq!(rows, ["done unreadable", "made created", "up running"]);
            let lines: Vec<&str> = found.stderr.lines().collect();
            assert_eq!(lines.len(), 2, "{}", found.stderr);
            let said = format!("Warning: cannot read container {}", noun(file));
            assert!(lines[0].starts_with(&said), "{}", lines[0]);
            assert!(lines[1].starts_with("Hint: "), "{}", lines[1]);
        }
        std::fs::write(dir.join(file), good).unwrap();
    }
    rbox.remove(&["made", "done", "up"]);
}

fn noun(file: &str) -> &'static str {
    match file {
        "exit.json" => "exit",
        _ => "record",
    }
}

#[test]
fn watching_prints_again() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("up");
    let watching = rbox
        .args(["ps", "--watch", "1", "--format", "{{.Names}}"])
        .stdout("up\nup\n")
        .status(128 + 15)
        .spawn();
    watching.wait_for("up\nup\n");
    watching.signal(rustix::process::Signal::TERM);
    watching.wait();
    rbox.remove(&["up"]);
}
