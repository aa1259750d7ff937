//! Records that cannot be read, in every way there is: each makes one line and a hint where things are
//! listed, tells why where it is asked for, keeps nothing else from working, and goes by force.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::Rbox;
use crate::support::processes;

/// What may be in the place of a record, and what is said of it.
const DAMAGES: [(&str, &str); 9] = [
    ("empty", "it is empty"),
    ("garbage", "expected value at line 1 column 1"),
    ("cut", "EOF while parsing"),
    (
        "of the future",
        "it has version 99, and this rbox knows version",
    ),
    ("directory", "it is no regular file"),
    ("pipe", "it is no regular file"),
    ("link", "it is no regular file"),
    ("closed", "Permission denied"),
    ("large", "it has 1073741824 bytes, which no record has"),
];

fn damage(rbox: &Rbox, record: &Path, how: &str) {
    let whole = std::fs::read(record).unwrap_or_else(|_| b"{\"version\":1,\"status\":0}".into());
    if how != "closed" {
        std::fs::remove_file(record).ok();
    }
    match how {
        "empty" => std::fs::write(record, "").unwrap(),
        "garbage" => std::fs::write(record, "\0\0\0\0\0\0\0\0").unwrap(),
        "cut" => std::fs::write(record, &whole[..whole.len() / 2]).unwrap(),
        "of the future" => std::fs::write(record, "{\"version\":99,\"new\":true}\n").unwrap(),
        "directory" => {
            std::fs::create_dir(record).unwrap();
            std::fs::write(record.join("file"), "").unwrap();
            rbox.own(&record.join("file"));
        }
        "pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, record, 0o600.into()).unwrap(),
        "link" => std::os::unix::fs::symlink("nowhere", record).unwrap(),
        "closed" => {
            let mode = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(record, mode).unwrap();
        }
        "large" => std::fs::File::create(record)
            .unwrap()
            .set_len(1 << 30)
            .unwrap(),
        other => panic!("{other}"),
    }
    rbox.own(record);
}

fn container_record(rbox: &Rbox, id: &str, file: &str) -> PathBuf {
    rbox.data().join("containers").join(id.trim()).join(file)
}

fn create(rbox: &Rbox, name: &str) -> String {
    rbox.args(["create", "--name", name, "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run()
        .stdout
}

/// What must go on with a container "bad" about which nobody knows anything, and "good" beside it.
fn assert_others_work(rbox: &Rbox, why: &str) {
    for args in [&["ps", "-a"][..], &["ps"], &["ps", "-a", "--size"]] {
        let listed = rbox
            .args(args)
            .args(["--format", "{{.Names}} {{.Status}}"])
            .stdout_has("bad Unreadable\n")
            .stderr_has("Warning: cannot ")
            .stderr_has(why)
            .stderr_has("\nHint: the record is damaged, or of another version of rbox; ")
            .stderr_has("`rbox rm -f bad` removes the container\n")
            .run();
        assert_eq!(listed.stderr.lines().count(), 2, "{}", listed.stderr);
        assert_eq!(args.contains(&"-a"), listed.stdout.contains("good"));
    }
    rbox.args([
        "ps",
        "-a",
        "--filter",
        "status=unreadable",
        "--format",
        "json",
    ])
    .stdout_has("\"State\": \"unreadable\"")
    .stderr_any()
    .run();
    rbox.args(["start", "good"]).stdout("good\n").run();
    rbox.args(["exec", "good", "true"]).run();
    rbox.args(["stop", "-t", "0", "-a"])
        .stdout("[ID]\n")
        .stderr_any()
        .run();
    rbox.args(["run", "--rm", "busybox", "echo", "hi"])
        .stdout("hi\n")
        .run();
    rbox.args(["create", "--name", "other", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["rm", "other"]).stdout("other\n").run();
}

#[test]
fn configuration() {
    let rbox = Rbox::with_busybox();
    create(&rbox, "good");
    for (how, why) in DAMAGES {
        let id = create(&rbox, "bad");
        damage(&rbox, &container_record(&rbox, &id, "config.json"), how);
        assert_others_work(&rbox, why);
        for verb in ["inspect", "start", "rm"] {
            for name in ["bad", &id[..12]] {
                let told = rbox
                    .args([verb, name])
                    .stdout_any()
                    .stderr_has("cannot read container record ")
                    .stderr_has(why)
                    .stderr_has("`rbox rm -f bad` removes the container\n")
                    .status(125)
                    .run();
                assert_eq!(told.stderr.lines().count(), 2, "{}", told.stderr);
            }
        }
        let name = if how == "cut" { &id[..12] } else { "bad" };
        rbox.args(["rm", "-f", name])
            .stdout(if name == "bad" { "bad\n" } else { "[ID]\n" })
            .run();
        rbox.args(["ps", "-a", "--format", "{{.Names}}"])
            .stdout("good\n")
            .run();
    }
    // All of them.
    for how in ["empty", "directory"] {
        let id = create(&rbox, how);
        damage(&rbox, &container_record(&rbox, &id, "config.json"), how);
    }
    rbox.args(["rm", "-f", "-a"])
        .stdout_has("directory\n")
        .stdout_has("empty\n")
        .run();
    rbox.assert_no_leaks();
}

/// A container that runs goes on, is stopped and removed without its record.
/// What is loaded again is right again.
#[test]
fn documents_of_an_image_are_written_anew() {
    let rbox = Rbox::with_busybox();
    let blobs = std::fs::read_dir(rbox.data().join("blobs/sha256")).unwrap();
    for blob in blobs {
        std::fs::write(blob.unwrap().path(), "damaged").unwrap();
    }
    let saved = rbox.work("saved.tar").display().to_string();
    rbox.args(["save", "-q", "-o", &saved, "busybox"])
        .stderr_any()
        .status(125)
        .run();
    rbox.load("busybox");
    rbox.args(["save", "-q", "-o", &saved, "busybox"]).run();
}

#[test]
fn configuration_of_one_that_runs() {
    let rbox = Rbox::with_busybox();
    for (how, _) in DAMAGES {
        let id = rbox.sleeper("bad");
        damage(&rbox, &container_record(&rbox, &id, "config.json"), how);
        rbox.args(["rm", "-f", "bad"]).stdout("bad\n").run();
        rbox.assert_no_leaks();
    }
}

/// The clock was ahead when it ran, and was put right.
#[test]
fn a_last_run_in_the_future() {
    let rbox = Rbox::with_busybox();
    let id = create(&rbox, "c");
    rbox.args(["start", "c"]).stdout("c\n").run();
    rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
    let file = container_record(&rbox, &id, "exit.json");
    let mut exit: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for field in ["started", "finished"] {
        exit[field] = "2099-01-01T00:00:00Z".into();
    }
    std::fs::write(&file, exit.to_string()).unwrap();
    rbox.args(["start", "c"]).stdout("c\n").run();
    rbox.args(["ps", "--format", "{{.State}}"])
        .stdout("running\n")
        .run();
    rbox.args(["exec", "c", "true"]).run();
    rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
    rbox.args(["ps", "-a", "--format", "{{.State}}"])
        .stdout("exited\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn the_end_of_the_last_run() {
    let rbox = Rbox::with_busybox();
    create(&rbox, "good");
    let id = create(&rbox, "bad");
    let record = container_record(&rbox, &id, "exit.json");
    for (how, why) in DAMAGES {
        rbox.args(["start", "bad"]).stdout("bad\n").run();
        // What it does is known without it.
        rbox.args(["stop", "-t", "0", "bad"]).stdout("bad\n").run();
        damage(&rbox, &record, how);
        // Of the run directory nothing is left, as after a reboot.
        std::fs::remove_dir_all(rbox.dir().join("run/rbox/containers").join(id.trim())).unwrap();
        assert_others_work(&rbox, why);
        rbox.args([
            "inspect",
            "bad",
            "--format",
            "{{.State.Status}}: {{.State.Error}}",
        ])
        .stdout_has("unreadable: cannot read container exit record")
        .stdout_has(why)
        .run();
        // A start needs no end, and writes a new one.
        rbox.args(["start", "bad"]).stdout("bad\n").run();
        rbox.args(["exec", "bad", "true"]).run();
        rbox.args(["ps", "-a", "--filter", "name=bad", "--format", "{{.State}}"])
            .stdout("running\n")
            .run();
        rbox.args(["stop", "-t", "0", "bad"]).stdout("bad\n").run();
        rbox.args([
            "ps",
            "-a",
            "--filter",
            "name=bad",
            "--format",
            "{{.State}} {{.ExitCode}}",
        ])
        .stdout("exited 137\n")
        .run();
    }
    damage(&rbox, &record, "pipe");
    rbox.args(["rm", "bad", "good"]).stdout("bad\ngood\n").run();
}

#[test]
fn the_state_of_one_that_runs() {
    let rbox = Rbox::with_busybox();
    create(&rbox, "good");
    for (how, why) in DAMAGES {
        let id = rbox.sleeper("bad");
        let record = rbox
            .dir()
            .join("run/rbox/containers")
            .join(&id)
            .join("state.json");
        damage(&rbox, &record, how);
        rbox.args([
            "inspect",
            "bad",
            "--format",
            "{{.State.Status}}: {{.State.Error}}",
        ])
        .stdout_has("unreadable: cannot read container state record")
        .stdout_has(why)
        .run();
        rbox.args(["rm", "bad"])
            .stderr_has("it is running")
            .status(125)
            .run();
        match how {
            // It can be stopped all the same, and that is the end of the matter.
            "empty" => {
                rbox.args(["stop", "-t", "0", "bad"]).stdout("bad\n").run();
                rbox.args(["start", "bad"]).stdout("bad\n").run();
                rbox.args(["exec", "bad", "true"]).run();
            }
            // Its supervisor is killed: what it left must not keep it from a new start.
            "garbage" | "directory" | "pipe" => {
                processes::kill_all(rbox.dir());
                rbox.args(["start", "bad"]).stdout("bad\n").run();
                rbox.args(["exec", "bad", "true"]).run();
            }
            _ => {
                rbox.args(["ps", "--format", "{{.Names}} {{.State}}"])
                    .stdout("bad unreadable\n")
                    .stderr_has(why)
                    .run();
            }
        }
        rbox.args(["rm", "-f", "bad"]).stdout("bad\n").run();
    }
    rbox.args(["rm", "good"]).stdout("good\n").run();
}

/// What happens is not written down then, and happens all the same.
#[test]
fn the_journal_of_events() {
    let rbox = Rbox::with_busybox();
    let journal = rbox.data().join("events/journal");
    for how in [
        "empty",
        "garbage",
        "cut",
        "directory",
        "pipe",
        "link",
        "closed",
    ] {
        rbox.args(["run", "--rm", "busybox", "true"]).run();
        damage(&rbox, &journal, how);
        rbox.args(["run", "--rm", "busybox", "echo", "hi"])
            .stdout("hi\n")
            .run();
        rbox.args(["events", "--stream=false", "--since", "1h"])
            .stdout_any()
            .run();
        if journal.is_dir() {
            std::fs::remove_dir_all(&journal).unwrap();
        } else {
            std::fs::remove_file(&journal).unwrap();
        }
    }
}

/// In the directory of names, too.
#[test]
fn names() {
    let rbox = Rbox::with_busybox();
    create(&rbox, "good");
    let names = rbox.data().join("names");
    let name = names.join("bad");
    std::fs::write(&name, "").unwrap();
    rbox.own(&name);
    assert_others_work(&rbox, "its name leads to no files");
    rbox.args(["rm", "-f", "bad"]).stdout("bad\n").run();
    std::fs::create_dir(&name).unwrap();
    rbox.own(&name);
    assert_others_work(&rbox, "its name leads to no files");
    rbox.args(["rm", "-f", "bad"]).stdout("bad\n").run();
    // What a name leads to that is not there was lost: the name is free.
    std::os::unix::fs::symlink("../containers/0123", &name).unwrap();
    rbox.own(&name);
    rbox.args(["ps", "-a", "--format", "{{.Names}}"])
        .stdout("good\n")
        .run();
    create(&rbox, "bad");
    rbox.remove(&["bad", "good"]);
}

#[test]
fn volumes() {
    let rbox = Rbox::with_busybox();
    rbox.args(["volume", "create", "good"])
        .stdout("good\n")
        .run();
    for (how, why) in DAMAGES {
        rbox.args(["volume", "create", "bad"]).stdout("bad\n").run();
        damage(&rbox, &rbox.data().join("volumes/bad/volume.json"), how);
        rbox.args(["volume", "ls", "-q"])
            .stdout("good\n")
            .stderr_has("Warning: cannot read volume record ")
            .stderr_has(why)
            .stderr_has("\nHint: ")
            .stderr_has("`rbox volume rm -f bad` removes the volume with its files\n")
            .run();
        rbox.args(["volume", "inspect", "bad"])
            .stdout_any()
            .stderr_has(why)
            .status(125)
            .run();
        rbox.args(["run", "--rm", "-v", "bad:/v", "busybox", "true"])
            .stderr_has(why)
            .status(125)
            .run();
        rbox.args([
            "run",
            "--rm",
            "-v",
            "good:/v",
            "-v",
            "/anonymous",
            "busybox",
            "true",
        ])
        .run();
        rbox.args(["volume", "prune", "-f"]).run();
        rbox.args(["volume", "rm", "-f", "bad"])
            .stdout("bad\n")
            .run();
    }
    rbox.args(["volume", "rm", "good"]).stdout("good\n").run();
}

#[test]
fn images() {
    let rbox = Rbox::with_testinit();
    for (how, why) in DAMAGES {
        rbox.load("busybox");
        let id = rbox
            .args(["inspect", "busybox", "--format", "{{.Id}}"])
            .stdout_any()
            .run()
            .stdout;
        let record = rbox.data().join(format!("images/ids/{}.json", id.trim()));
        damage(&rbox, &record, how);
        rbox.args(["images", "-q"])
            .stdout_any()
            .stderr_has("Warning: cannot read image record ")
            .stderr_has(why)
            .stderr_has("\nHint: ")
            .stderr_has("`rbox rmi -f [ID]` removes the image\n")
            .run();
        rbox.args(["run", "--rm", "--pull=never", "busybox", "true"])
            .stderr_has(why)
            .status(125)
            .run();
        // Of an image that is removed meanwhile, nothing goes that may be the other's.
        rbox.args(["tag", "testinit", "again"]).stdout_any().run();
        rbox.args(["run", "--rm", "testinit", "exit", "3"])
            .status(3)
            .run();
        let name = if how == "cut" { &id[..12] } else { "busybox" };
        rbox.args(["rmi", "-f", name])
            .stdout_has("Untagged: docker.io/library/busybox:latest\nDeleted: ")
            .run();
        rbox.args(["images", "-q"]).stdout_any().run();
    }
}

/// A newer rbox has been here: its image keeps its layers, whatever this one removes.
#[test]
fn layers_of_an_image_that_cannot_be_read() {
    let rbox = Rbox::with_testinit();
    rbox.load("busybox");
    let id = rbox
        .args(["inspect", "busybox", "--format", "{{.Id}}"])
        .stdout_any()
        .run()
        .stdout;
    let record = rbox.data().join(format!("images/ids/{}.json", id.trim()));
    let whole = std::fs::read(&record).unwrap();
    damage(&rbox, &record, "of the future");
    rbox.args(["rmi", "testinit"]).stdout_any().run();
    std::fs::write(&record, whole).unwrap();
    rbox.args(["run", "--rm", "--pull=never", "busybox", "echo", "whole"])
        .stdout("whole\n")
        .run();
    rbox.load("testinit");
    rbox.args(["rmi", "testinit"]).stdout_any().run();
}
