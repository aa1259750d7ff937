//! `rbox oci`: containers from bundles, step by step, as callers of an OCI runtime drive it.
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;

/// As a plain user with sub-ids and, where the tests may, as root.
fn worlds() -> impl Iterator<Item = Rbox> {
    [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten()
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["sh", "-c", "echo runs; exec sleep 1000"]);
        bundle.config["annotations"] = json!({"org.example.key": "value"});
        bundle.create("one");
        let created = bundle.state("one");
        let pid = created["pid"].as_i64().unwrap();
        let expected = |pid: i64, status: &str| {
            json!({
                "ociVersion": "1.0.2", "id": "one", "pid": pid, "status": status, "bundle": bundle.dir,
                "rootfs": bundle.rootfs(), "created": created["created"], "owner": "",
                "annotations": {"org.example.key": "value"}
            })
        };
        assert_eq!(created, expected(pid, "created"));
        assert_eq!(bundle.wrote(), "");
        bundle.start("one");
        assert_eq!(bundle.state("one"), expected(pid, "running"));
        bundle.oci(["kill", "one", "KILL"]).run();
        bundle.wait_status("one", "stopped");
        assert_eq!(bundle.state("one"), expected(0, "stopped"));
        assert_eq!(bundle.wrote(), "runs\n");
        bundle.oci(["delete", "one"]).run();
        assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
    }
}

#[test]
fn verbs_want_a_container_in_the_right_state() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    let fails = |args: &[&str], said: &str| {
        let status = if args[0] == "exec" { 255 } else { 1 };
        bundle
            .oci(args)
            .stderr(format!("{said}\n"))
            .status(status)
            .run();
    };
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        fails(&[verb, "one"], "container \"one\" does not exist");
    }
    fails(&["exec", "one", "true"], "container \"one\" does not exist");
    bundle.oci(["delete", "--force", "one"]).run();
    bundle.create("one");
    bundle.start("one");
    fails(
        &["start", "one"],
        "cannot start an already running container",
    );
    fails(
        &["delete", "one"],
        "cannot delete container one that is not stopped: running\nHint: `rbox oci delete --force ID` kills it first",
    );
    fails(
        &["resume", "one"],
        "cannot resume a container that is running",
    );
    bundle.oci(["kill", "one", "9"]).run();
    bundle.wait_status("one", "stopped");
    fails(
        &["start", "one"],
        "cannot start a container that has stopped",
    );
    fails(&["kill", "one"], "container not running");
    fails(&["exec", "one", "true"], "container not running");
    fails(&["pause", "one"], "container not running");
    fails(&["ps", "one"], "container not running");
    bundle.oci(["delete", "one"]).run();
}

#[test]
fn an_id_is_a_name_and_nobody_elses() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    bundle.write();
    for id in ["../one", "..", "a/b", "", ":1-2", "a b"] {
        for verb in ["create", "state", "delete"] {
            bundle
                .oci([verb, id])
                .stderr(format!(
                    "invalid container ID format: \"{id}\": expected up to 255 of A-Z a-z 0-9 _ + - .\n"
                ))
                .status(1)
                .run();
        }
    }
    bundle.create("one");
    bundle
        .oci(["create", "-b"])
        .arg(&bundle.dir)
        .arg("one")
        .stderr("container with given ID already exists\n")
        .status(1)
        .run();
    // The one that was there is as it was.
    bundle.start("one");
    assert_eq!(bundle.state("one")["status"], "running");
    bundle.delete("one");
}

#[test]
fn of_two_creators_of_one_id_one_wins() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    bundle.write();
    for round in 0..5 {
        let create = || {
            bundle
                .leaving(["create", "-b"])
                .arg(&bundle.dir)
                .arg("one")
                .status_any()
                .spawn()
        };
        let all = [create(), create(), create()];
        let won = all
            .into_iter()
            .filter(|_| true)
            .map(|one| one.wait().status.success());
        assert_eq!(
            won.filter(|won| *won).count(),
            1,
            "round {round}: {}",
            bundle.said()
        );
        assert_eq!(bundle.state("one")["status"], "created");
        bundle.delete("one");
    }
    let expected = "container with given ID already exists\n".repeat(10);
    assert_eq!(bundle.said(), expected);
}

#[test]
fn a_command_that_is_missing_fails_at_create() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox).command(&["nosuch"]);
    bundle.write();
    let log = rbox.work("log");
    let said = "exec: \"nosuch\": executable file not found in $PATH: cannot execute \"nosuch\": no such command in PATH /bin:/";
    for format in ["json", "text"] {
        bundle
            .oci(["--log-format", format, "--log"])
            .arg(&log)
            .args(["create", "-b"])
            .arg(&bundle.dir)
            .arg("one")
            .stderr(format!("{said}\n"))
            .status(1)
            .run();
    }
    let log = std::fs::read_to_string(log).unwrap();
    let (first, second) = log.trim_end().split_once('\n').unwrap();
    let mut entry: serde_json::Value = serde_json::from_str(first).unwrap();
    let time = entry["time"].take();
    assert_eq!(entry, json!({"level": "error", "msg": said, "time": null}));
    assert_eq!(time.as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
    let (time, rest) = second.split_once(' ').unwrap();
    assert!(
        time.starts_with("time=\"20") && time.ends_with("Z\""),
        "{time}"
    );
    assert_eq!(rest, format!("level=error msg={}", json!(said)));
    assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
}

#[test]
fn run_passes_streams_signals_and_the_status() {
    for rbox in worlds() {
        let bundle = Bundle::new(&rbox).command(&["sh", "-c", "cat; echo err >&2; exit 7"]);
        bundle
            .run("one")
            .stdin("in\n")
            .stdout("in\n")
            .stderr("err\n")
            .status(7)
            .run();
        let bundle = bundle.command(&["/init", "trap"]);
        let running = bundle
            .run("two")
            .stdout("ready\nlast signal 15\n")
            .status(7)
            .spawn();
        running.wait_for("ready");
        running.signal(rustix::process::Signal::TERM);
        running.wait();
        assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
    }
}

#[test]
fn a_kept_container_is_listed_until_it_is_deleted() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox).command(&["true"]);
    bundle.write();
    bundle
        .oci(["run", "--keep", "-b"])
        .arg(&bundle.dir)
        .arg("two")
        .run();
    bundle.create("one");
    bundle.oci(["list", "-q"]).stdout("one\ntwo\n").run();
    let list = bundle
        .oci(["list", "--format", "json"])
        .stdout_any()
        .run()
        .stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["status"], "created");
    assert_eq!(
        (&list[1]["status"], &list[1]["pid"]),
        (&json!("stopped"), &json!(0))
    );
    let table = bundle.oci(["list"]).stdout_any().run().stdout;
    let words: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let words: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(
        words[..4],
        ["two", "0", "stopped", bundle.dir.to_str().unwrap()]
    );
    assert_eq!(words[5], rbox.account().name);
    bundle.delete("one");
    bundle.delete("two");
}

#[test]
fn a_read_only_bundle_is_enough() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["sh", "-c", "touch /x; id -u; hostname"]);
        bundle.config["root"]["readonly"] = json!(true);
        bundle.write();
        let modes = |mode| {
            for path in [bundle.rootfs(), bundle.dir.clone()] {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                std::fs::set_permissions(path, mode).unwrap();
            }
        };
        modes(0o555);
        bundle
            .oci(["run", "-b"])
            .arg(&bundle.dir)
            .arg("one")
            .stdout("0\nbundle\n")
            .stderr("touch: /x: Read-only file system\n")
            .run();
        modes(0o755);
    }
}

#[test]
fn the_version_is_in_the_form_of_the_name() {
    let rbox = Rbox::new();
    rbox.args(["oci", "--version"])
        .stdout(format!(
            "rbox version {}\nspec: 1.3.0\n",
            env!("CARGO_PKG_VERSION")
        ))
        .run();
    for (link, name, version) in [
        ("runc", "runc", "1.4.0"),
        ("crun", "crun", "1.24"),
        ("rbox-runc", "runc", "1.4.0"),
    ] {
        let link = rbox.work(link);
        std::os::unix::fs::symlink(rbox.program_path(), &link).unwrap();
        rbox.program(&link)
            .arg("--version")
            .stdout(format!(
                "{name} version {version}\ncommit: rbox-{}\nspec: 1.3.0\n",
                env!("CARGO_PKG_VERSION")
            ))
            .run();
        rbox.program(&link)
            .args(["--root", "/nowhere", "state", "one"])
            .stderr("container \"one\" does not exist\n")
            .status(1)
            .run();
    }
}

#[test]
fn wrong_words_are_one_line() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    bundle.create("one");
    for (args, said) in [
        (
            &["kill", "one", "NOSUCH"][..],
            "SIGNAL=\"NOSUCH\": expected a name as TERM, or a number from 0 to 64",
        ),
        (
            &["checkpoint", "one"],
            "checkpoint and restore are not supported: rbox saves no processes",
        ),
        (
            &["restore", "--bundle", "x", "one"],
            "checkpoint and restore are not supported: rbox saves no processes",
        ),
    ] {
        let said = said.to_owned();
        bundle.oci(args).stderr_has(said).status(1).run();
    }
    bundle.delete("one");
}
