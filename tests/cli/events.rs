//! `events`: what is in the journal, how it is chosen and shown, that it is followed, and that damage to it is
//! passed over.
use std::io::Write;

use serde_json::Value;

use crate::support::Rbox;

fn names(rbox: &Rbox, args: &[&str]) -> String {
    let format = ["--stream=false", "--format", "{{.Type}} {{.Status}}"];
    let all = [&["events"], &format[..], args].concat();
    let text = rbox.args(all).stdout_any().run().stdout;
    text.trim_end().replace('\n', ", ")
}

#[test]
fn what_happens_is_told_in_order() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run", "--rm", "--name", "c", "busybox", "sh", "-c", "exit 3",
    ])
    .status(3)
    .run();
    let run = "container create, container init, container start, container died, container remove";
    assert_eq!(names(&rbox, &["--filter", "container=c"]), run);
    rbox.sleeper("d");
    rbox.args(["exec", "d", "sh", "-c", "exit 4"])
        .status(4)
        .run();
    rbox.args(["rename", "d", "e"]).run();
    rbox.args(["kill", "-s", "CONT", "e"]).stdout("e\n").run();
    rbox.args(["restart", "-t", "0", "e"]).stdout("e\n").run();
    rbox.args(["rm", "-f", "e"]).stdout("e\n").run();
    let id = rbox
        .args([
            "events",
            "--stream=false",
            "--filter",
            "event=rename",
            "--format",
            "{{.ID}}",
        ])
        .stdout("[ID]\n")
        .run()
        .stdout;
    let of_id = format!("container={}", &id[..12]);
    let all = "create, init, start, exec, exec_died, rename, kill, died, stop, init, start, restart, died, stop, remove";
    let expected: Vec<String> = all
        .split(", ")
        .map(|name| format!("container {name}"))
        .collect();
    assert_eq!(names(&rbox, &["--filter", &of_id]), expected.join(", "));
    rbox.args(["tag", "busybox", "other"]).run();
    rbox.args(["rmi", "other"]).stdout_any().run();
    rbox.args(["volume", "create", "v"]).stdout("v\n").run();
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
    let rest = "image loadfromarchive, image tag, image untag, volume create, volume remove";
    assert_eq!(
        names(
            &rbox,
            &["--filter", "type=image", "--filter", "type=volume"]
        ),
        rest
    );
}

#[test]
fn clients_of_docker_and_podman_find_their_fields() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run", "--rm", "--name", "c", "--label", "a=b", "busybox", "sh", "-c", "exit 3",
    ])
    .status(3)
    .run();
    let died = [
        "events",
        "--stream=false",
        "--filter",
        "event=die",
        "--format",
    ];
    let text = rbox
        .args([&died[..], &["json"]].concat())
        .stdout_any()
        .run()
        .stdout;
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["Status"], "died");
    assert_eq!(event["ContainerExitCode"], 3);
    assert_eq!(event["Attributes"]["a"], "b");
    assert_eq!(
        (&event["Action"], &event["Type"]),
        (&"die".into(), &"container".into())
    );
    assert_eq!(event["Actor"]["Attributes"]["exitCode"], "3");
    assert_eq!(event["Actor"]["ID"], event["ID"]);
    assert!(event["timeNano"].as_i64().unwrap() / 1_000_000_000 == event["time"].as_i64().unwrap());
    rbox.args(["events", "--stream=false", "--filter", "event=died"])
        .stdout("[TIME] +0000 UTC container died [ID] (image=docker.io/library/busybox:latest, name=c, exitCode=3, a=b)\n")
        .run();
    rbox.args([
        "events",
        "--stream=false",
        "--no-trunc=false",
        "--filter",
        "label=a=c",
    ])
    .run();
    rbox.args(["events", "--filter", "colour=red"])
        .stderr("Error: --filter=\"colour=red\": expected KEY=VALUE with one of container, event, image, label, network, status, type, volume\n")
        .status(125)
        .run();
    rbox.args(["events", "--since", "soon"])
        .stderr("Error: time \"soon\": expected [TIME], 2006-01-02, seconds since 1970, or an age as 10m\n")
        .status(125)
        .run();
}

#[test]
fn followers_hear_at_once_and_until_ends() {
    let rbox = Rbox::with_busybox();
    let format = [
        "events",
        "--filter",
        "container=c",
        "--format",
        "{{.Status}}",
    ];
    let follower = rbox
        .args(format)
        .stdout("create\ninit\nstart\ndied\nremove\n")
        .status_any()
        .spawn();
    let limited = rbox
        .args([&format[..], &["--since", "1h", "--until", "5s"]].concat())
        .stdout("create\ninit\nstart\ndied\nremove\n")
        .spawn();
    // It watches once it waits.
    std::thread::sleep(std::time::Duration::from_millis(300));
    rbox.args(["run", "--rm", "--name", "c", "busybox", "true"])
        .run();
    follower.wait_for("remove\n");
    follower.signal(rustix::process::Signal::KILL);
    follower.wait();
    limited.wait();
}

#[test]
fn damage_to_the_journal_is_passed_over() {
    let rbox = Rbox::with_busybox();
    let journal = rbox.data().join("events/journal");
    let mut file = std::fs::File::options()
        .append(true)
        .open(&journal)
        .unwrap();
    file.write_all(b"{\"half\n\0\xff\n[]\n").unwrap();
    drop(file);
    rbox.args(["run", "--rm", "busybox", "true"]).run();
    assert_eq!(
        names(&rbox, &[]),
        "image loadfromarchive, container create, container init, container start, container died, container remove"
    );
    // Where nothing can be written, containers run all the same.
    std::fs::remove_dir_all(journal.parent().unwrap()).unwrap();
    rbox.write("in-the-way", "");
    std::fs::rename(rbox.work("in-the-way"), journal.parent().unwrap()).unwrap();
    rbox.args(["run", "--rm", "busybox", "true"]).run();
}
