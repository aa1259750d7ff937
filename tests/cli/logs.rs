//! Where the output of a container is kept, and how it is read again.
use std::fmt::Write as _;
use std::time::Duration;

use crate::support::Rbox;

/// The files of a container's log, by name.
fn files(rbox: &Rbox, name: &str) -> Vec<String> {
    let path = inspect(rbox, name, "{{.LogPath}}");
    let path = std::path::Path::new(&path);
    let mut files: Vec<String> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

fn inspect(rbox: &Rbox, name: &str, format: &str) -> String {
    let call = rbox
        .args(["inspect", "--format", format, name])
        .stdout_any();
    call.run().stdout.trim().to_owned()
}

#[test]
fn a_json_file_has_dockers_records_with_tag_and_attributes() {
    let rbox = Rbox::with_busybox();
    let script = "printf 'out\\n\"quoted\"\\n'; echo err >&2; sleep 0.1; printf end";
    rbox.args(["run", "--name", "c", "--log-driver", "json-file"])
        .args([
            "--log-opt",
            "tag={{.Name}}/{{.ImageName}}",
            "--log-opt",
            "labels=a,none",
        ])
        .args([
            "--log-opt",
            "env-regex=^RBOX_",
            "-e",
            "RBOX_X=1",
            "-l",
            "a=b",
            "-l",
            "c=d",
        ])
        .args(["busybox", "sh", "-c", script])
        .stdout("out\n\"quoted\"\nend")
        .stderr("err\n")
        .run();
    let log = std::fs::read_to_string(inspect(&rbox, "c", "{{.LogPath}}")).unwrap();
    let records: Vec<String> = log
        .lines()
        .map(|line| line.split("\"time\":\"20").next().unwrap().to_owned())
        .collect();
    let attributes =
        "\"attrs\":{\"RBOX_X\":\"1\",\"a\":\"b\",\"tag\":\"c/docker.io/library/busybox:latest\"}";
    let record = |text: &str, stream: &str| {
        format!("{{\"log\":{text},\"stream\":\"{stream}\",{attributes},")
    };
    assert_eq!(records.len(), 4);
    for (text, stream) in [
        ("\"out\\n\"", "stdout"),
        ("\"\\\"quoted\\\"\\n\"", "stdout"),
        ("\"err\\n\"", "stderr"),
        ("\"end\"", "stdout"),
    ] {
        assert!(records.contains(&record(text, stream)), "{records:?}");
    }
    assert!(log.lines().all(|line| line.ends_with("Z\"}")), "{log}");
    rbox.args(["logs", "c"])
        .stdout("out\n\"quoted\"\nend")
        .stderr("err\n")
        .run();
    rbox.args(["logs", "--details", "--tail", "1", "c"])
        .stdout("RBOX_X=1,a=b,tag=c/docker.io/library/busybox:latest end")
        .run();
    assert_eq!(
        inspect(&rbox, "c", "{{.HostConfig.LogConfig.Type}}"),
        "json-file"
    );
    rbox.remove(&["c"]);
}

#[test]
fn a_million_lines_come_through_rotation_each_once_and_in_order() {
    const LINES: usize = 1_000_000;
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c"])
        .args(["--log-opt", "max-size=300k", "--log-opt", "max-file=1000"])
        .args([
            "--log-opt",
            "compress=true",
            "busybox",
            "seq",
            "1",
            "1000000",
        ])
        .stdout("[ID]\n")
        .run();
    let mut expected = String::new();
    for number in 1..=LINES {
        writeln!(expected, "{number}").unwrap();
    }
    let limit = Duration::from_mins(5);
    for args in [
        &["logs", "--follow", "c"][..],
        &["logs", "c"],
        &["logs", "--tail", "900000", "c"],
    ] {
        let found = rbox.args(args).stdout_any().limit(limit).run().stdout;
        let expected = if args.len() == 4 {
            &expected[expected.find("100001\n").unwrap()..]
        } else {
            &expected
        };
        // Not assert_eq, which would print them all.
        assert!(found == expected, "{args:?}: {} bytes", found.len());
    }
    let files = files(&rbox, "c");
    assert!(files.len() > 20, "{files:?}");
    assert!(files.iter().any(|name| name.contains(".gz")), "{files:?}");
    rbox.remove(&["c"]);
}

#[test]
fn old_files_are_removed_and_the_next_run_goes_on() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create",
        "--name",
        "c",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
    ])
    .args(["busybox", "sh", "-c", "seq 1 5000; sleep 0.1"])
    .stdout("[ID]\n")
    .run();
    for _ in 0..2 {
        rbox.args(["start", "c"]).stdout("c\n").run();
        rbox.args(["wait", "c"]).stdout("0\n").run();
    }
    let files = files(&rbox, "c");
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files[0], "ctr.log");
    rbox.args(["logs", "--tail", "3", "c"])
        .stdout("4998\n4999\n5000\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn a_supervisor_that_is_killed_while_it_rotates_leaves_a_log_without_gaps() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create",
        "--name",
        "c",
        "--log-opt",
        "max-size=2k",
        "--log-opt",
        "max-file=100000",
    ])
    .args([
        "--log-opt",
        "compress=true",
        "busybox",
        "seq",
        "1",
        "1000000",
    ])
    .stdout("[ID]\n")
    .run();
    for round in 0..5_u64 {
        rbox.args(["start", "c"]).stdout("c\n").run();
        std::thread::sleep(Duration::from_millis(20 + 37 * round));
        let id = inspect(&rbox, "c", "{{.Id}}");
        let state = rbox
            .dir()
            .join("run/rbox/containers")
            .join(id)
            .join("state.json");
        let state = std::fs::read(state).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
        let pid = state["supervisor"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        rbox.args(["wait", "c"]).stdout_any().run();
        let log = rbox.args(["logs", "c"]).stdout_any().run().stdout;
        let mut last = 0_u64;
        let mut runs = 0;
        for line in log.lines() {
            let number = line.parse().unwrap();
            runs += u64::from(number == 1);
            assert!(number == last + 1 || number == 1, "{last} before {number}");
            last = number;
        }
        assert_eq!(runs, round + 1);
    }
    rbox.remove(&["c"]);
}

#[test]
fn logs_of_several_containers_have_names_and_follow_to_the_end_of_all() {
    let rbox = Rbox::with_busybox();
    for (name, text) in [("one", "first"), ("two", "second")] {
        let script = format!("echo {text}; sleep 0.3; echo {text} again");
        rbox.args(["run", "-d", "--name", name, "busybox", "sh", "-c", &script])
            .stdout("[ID]\n")
            .run();
    }
    let text = rbox
        .args(["logs", "-f", "--names", "one", "two"])
        .stdout_any()
        .run()
        .stdout;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "one first",
            "one first again",
            "two second",
            "two second again"
        ]
    );
    let text = rbox.args(["logs", "one", "two"]).stdout_any().run().stdout;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable_by_key(|line| line.split_once(' ').map(|(_, text)| text));
    let [one, two] = ["one", "two"].map(|name| inspect(&rbox, name, "{{.Id}}")[..12].to_owned());
    assert_eq!(
        lines,
        [
            format!("{one} first"),
            format!("{one} first again"),
            format!("{two} second"),
            format!("{two} second again")
        ]
    );
    rbox.args(["logs", "--latest", "--color", "--names", "--tail=1"])
        .stdout("\u{1b}[31mtwo second again\u{1b}[0m\n")
        .run();
    rbox.args(["logs", "one", "missing"])
        .stderr("Error: no container with name or id \"missing\"\nHint: `rbox ps -a` lists the containers there are\n")
        .status(125)
        .run();
    rbox.remove(&["one", "two"]);
}

#[test]
fn times_choose_lines_and_a_torn_end_is_passed_over() {
    let rbox = Rbox::with_busybox();
    let log = rbox.write(
        "foreign.log",
        "2026-01-01T00:00:00.000000000+00:00 stdout F one\n\
         2026-01-01T00:00:01.000000000+00:00 stdout P tw\n\
         2026-01-01T00:00:02.000000000+00:00 stderr F err\n\
         2026-01-01T00:00:03.000000000+00:00 stdout F o\n\
         \0\0\0\0\n\
         2026-01-01T00:00:04.000000000+00:00 stdout F three\n\
         2026-01-01T00:00:05.000000000+00:00 std",
    );
    let path = format!("path={}", log.display());
    rbox.args([
        "create",
        "--name",
        "c",
        "--log-opt",
        &path,
        "busybox",
        "true",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["logs", "c"])
        .stdout("one\ntwo\nthree\n")
        .stderr("err\n")
        .run();
    rbox.args(["logs", "--since", "2026-01-01T00:00:04Z", "c"])
        .stdout("three\n")
        .run();
    rbox.args(["logs", "--until", "1767225600", "-t", "c"])
        .stdout("[TIME] one\n")
        .run();
    rbox.args(["logs", "--tail", "2", "c"])
        .stdout("o\nthree\n")
        .run();
    rbox.args(["start", "-a", "c"]).run();
    rbox.args(["rm", "c"]).stdout("c\n").run();
    assert!(log.exists(), "what the user named stays");
}

#[test]
fn lines_of_several_containers_come_in_the_order_of_their_times() {
    let rbox = Rbox::with_busybox();
    for (name, driver, log) in [
        (
            "one",
            "k8s-file",
            "2026-01-01T02:00:01.000000000+02:00 stdout F a\n\
             2026-01-01T02:00:03.000000000+02:00 stdout P c\n\
             2026-01-01T02:00:05.000000000+02:00 stdout F c\n",
        ),
        (
            "two",
            "json-file",
            "{\"log\":\"b\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:02Z\"}\n\
             {\"log\":\"d\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:06Z\"}\n",
        ),
    ] {
        let path = rbox.write(&format!("{name}.log"), log);
        let path = format!("path={}", path.display());
        rbox.args(["create", "--name", name, "--log-driver", driver])
            .args(["--log-opt", &path, "busybox", "true"])
            .stdout("[ID]\n")
            .run();
    }
    rbox.args(["logs", "-n", "two", "one"])
        .stdout("one a\ntwo b\none cc\ntwo d\n")
        .run();
    rbox.remove(&["one", "two"]);
}

#[test]
fn a_long_line_is_one_line_with_one_time() {
    let rbox = Rbox::with_busybox();
    let script = "head -c 2500000 /dev/zero | tr '\\0' x; echo; echo next";
    rbox.args(["run", "-d", "--name", "c", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    rbox.args(["wait", "c"]).stdout("0\n").run();
    let found = rbox.args(["logs", "-n", "c"]).stdout_any().run().stdout;
    let expected = format!("c {}\nc next\n", "x".repeat(2_500_000));
    assert!(found == expected, "{} bytes", found.len());
    rbox.remove(&["c"]);
}

#[test]
fn a_log_is_followed_across_the_runs_of_its_container() {
    let rbox = Rbox::with_busybox();
    let script = "echo begin; sleep 0.3; echo end; exit 1";
    rbox.args(["run", "-d", "--name", "c", "--restart", "on-failure:2"])
        .args(["busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    rbox.args(["logs", "-f", "c"])
        .stdout("begin\nend\n".repeat(3))
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn none_keeps_nothing_and_passthrough_gives_the_streams_themselves() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "--name",
        "n",
        "--log-driver=none",
        "busybox",
        "echo",
        "hi",
    ])
    .stdout("hi\n")
    .run();
    rbox.args(["logs", "n"])
        .stderr(
            "Error: cannot read the log of \"n\": its log driver is none, which keeps nothing\n",
        )
        .status(125)
        .run();
    let script = "read line; echo got $line; echo err >&2; readlink /proc/self/fd/0; sleep 0.2";
    rbox.args([
        "run",
        "--name",
        "p",
        "--log-driver=passthrough",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .stdin("input\n")
    .stdout_has("got input\n")
    .stderr("err\n")
    .run();
    rbox.args(["logs", "p"])
        .stderr("Error: cannot read the log of \"p\": its log driver is passthrough, which keeps nothing\n")
        .status(125)
        .run();
    rbox.args(["start", "p"])
        .stdin("x\n")
        .stdout_any()
        .stderr_any()
        .run();
    rbox.args(["attach", "p"])
        .stderr("Error: cannot attach to container \"p\": with --log-driver passthrough its streams are those of the command that started it\n")
        .status(125)
        .run();
    rbox.args(["wait", "p"]).stdout("0\n").run();
    rbox.remove(&["n", "p"]);
}

#[test]
fn a_journal_that_is_not_there_is_told_before_anything_runs() {
    let rbox = Rbox::with_busybox();
    if std::path::Path::new("/run/systemd/journal").exists() {
        crate::support::skip::skip("this machine has a journal");
        return;
    }
    rbox.args([
        "create",
        "--name",
        "j",
        "--log-driver=journald",
        "busybox",
        "echo",
        "hi",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["start", "j"])
        .stderr("Error: cannot start container \"j\": cannot log to the journal: /run/systemd/journal/socket: No such file or directory (os error 2)\nHint: `--log-driver k8s-file` keeps the log in a file\n")
        .status(125)
        .run();
    rbox.args(["logs", "j"])
        .stderr("Error: cannot read the log of \"j\": there is no journal in /run/log/journal or /var/log/journal\nHint: ask systemd, as one who may: `sudo journalctl -o cat CONTAINER_ID_FULL=[ID]`\n")
        .status(125)
        .run();
    rbox.remove(&["j"]);
}

#[test]
fn options_that_a_driver_has_not_are_refused() {
    let rbox = Rbox::with_busybox();
    for (options, message) in [
        (
            &["--log-driver=syslog"][..],
            "--log-driver=\"syslog\": expected one of k8s-file, json-file, journald, none, passthrough, passthrough-tty",
        ),
        (
            &["--log-opt=max-buffer-size=1m"],
            "--log-opt=\"max-buffer-size=1m\": expected one of the keys compress, max-file, max-size, mode, path, env, env-regex, label, labels, labels-regex, tag",
        ),
        (
            &["--log-opt=max-size=0"],
            "--log-opt=\"max-size=0\": expected a size as 10m, or -1 for no limit",
        ),
        (
            &["--log-opt=tag=x"],
            "--log-opt=\"tag=x\": the log driver k8s-file takes compress, max-file, max-size, mode, path",
        ),
        (
            &["--log-driver=none", "--log-opt=path=x"],
            "--log-opt=\"path=",
        ),
        (
            &["--log-opt=max-file=3"],
            "--log-opt max-file and compress need max-size: without it a log is one file",
        ),
        (
            &["--log-opt=max-size=1m", "--log-opt=compress=true"],
            "--log-opt compress needs max-file of 2 or more: the file that is written is never compressed",
        ),
        (
            &["--log-opt=mode=non-blocking"],
            "--log-opt=\"mode=non-blocking\": expected blocking: a file is written at once",
        ),
        (
            &["--log-driver=passthrough", "-t"],
            "--log-driver=passthrough with --tty: the container has our streams, not a terminal of its own",
        ),
    ] {
        rbox.args(["create"])
            .args(options)
            .args(["busybox", "true"])
            .stderr_has(format!("Error: {message}"))
            .status(125)
            .run();
    }
    rbox.args(["ps", "-aq"]).run();
}
