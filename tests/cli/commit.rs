//! `diff`, `export` and `commit`: what a container has changed, all its files, and an image of it.
use serde_json::Value;

use crate::support::Rbox;

fn everybody() -> Vec<Rbox> {
    let all = [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()];
    let all: Vec<Rbox> = all.into_iter().flatten().collect();
    for rbox in &all {
        rbox.load("busybox");
    }
    all
}

impl Rbox {
    /// A container of busybox in which this script has run.
    fn changed(&self, name: &str, script: &str) {
        self.args(["run", "--name", name, "busybox", "sh", "-ec", script])
            .run();
    }

    fn said(&self, args: &[&str]) -> String {
        self.args(args).stdout_any().run().stdout
    }
}

const SCRIPT: &str = "echo x >/new; chmod 4751 /new; rm /etc/passwd; echo q >>/etc/group
    rm -rf /home; mkdir /home; echo z >/home/z; mkdir -p /d/e; ln -s /x /d/l; mkfifo /d/p; ln /new /d/hard";

const CHANGES: &str = "A /d\nA /d/e\nA /d/hard\nA /d/l\nA /d/p\nC /etc\nC /etc/group\nD /etc/passwd\n\
    C /home\nD /home/alice\nA /home/z\nA /new\n";

#[test]
fn diff_tells_what_was_added_changed_and_deleted() {
    for rbox in everybody() {
        rbox.args(["create", "--name", "new", "busybox", "true"])
            .stdout("[ID]\n")
            .run();
        rbox.args(["diff", "new"]).run();
        rbox.changed("c", SCRIPT);
        rbox.args(["diff", "c"]).stdout(CHANGES).run();
        let json: Value =
            serde_json::from_str(&rbox.said(&["diff", "--format", "json", "-l"])).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "added": ["/d", "/d/e", "/d/hard", "/d/l", "/d/p", "/home/z", "/new"],
                "changed": ["/etc", "/etc/group", "/home"],
                "deleted": ["/etc/passwd", "/home/alice"],
            })
        );
        rbox.changed("odd", "touch '/a\nb'; : >/etc/hosts.new");
        rbox.args(["diff", "odd"])
            .stdout("A /a\\nb\nC /etc\nA /etc/hosts.new\n")
            .run();
        rbox.args(["diff", "none"])
            .stderr_has("Error: no container, image or layer with name or id \"none\"\n")
            .status(125)
            .run();
        rbox.remove(&["c", "new", "odd"]);
    }
}

#[test]
fn a_committed_image_has_the_files_and_their_owners() {
    for rbox in everybody() {
        rbox.changed("c", SCRIPT);
        rbox.args(["commit", "c", "made"]).stdout("[ID]\n").run();
        rbox.args(["diff", "made"]).stdout(CHANGES).run();
        let script = "stat -c '%a %u:%g %h' /new; readlink /d/l; ls -A /home /d; tail -n 1 /etc/group; ls /etc/passwd 2>&1";
        let expected = "4751 0:0 2\n/x\n/d:\ne\nhard\nl\np\n\n/home:\nz\nq\nls: /etc/passwd: No such file or directory\n";
        rbox.args(["run", "--rm", "made", "sh", "-c", script])
            .stdout(expected)
            .status(1)
            .run();
        // On top of it, and all in one layer.
        rbox.args([
            "run",
            "--name",
            "d",
            "made",
            "sh",
            "-c",
            "rm -rf /d; echo 2 >/second",
        ])
        .run();
        rbox.args(["commit", "-q", "d", "twice"]).run();
        rbox.args(["commit", "-q", "--squash", "d", "one"]).run();
        for (image, layers) in [("twice", 3), ("one", 1)] {
            rbox.args(["inspect", "--format", "{{len .RootFS.Layers}}", image])
                .stdout(format!("{layers}\n"))
                .run();
            rbox.args([
                "run",
                "--rm",
                image,
                "sh",
                "-c",
                "cat /second /home/z; ls -d /d /etc/passwd 2>/dev/null",
            ])
            .stdout("2\nz\n")
            .status(1)
            .run();
        }
        rbox.remove(&["c", "d"]);
        rbox.args(["rmi", "one", "twice", "made"])
            .stdout_any()
            .run();
    }
}

#[test]
fn owners_are_those_that_the_container_sees() {
    let rbox = Rbox::with_busybox();
    rbox.changed(
        "c",
        "echo x >/f; chown 12:34 /f; mkdir /dir; chown 5:6 /dir",
    );
    rbox.args(["commit", "-q", "c", "owned"]).run();
    rbox.args(["run", "--rm", "owned", "stat", "-c", "%u:%g", "/f", "/dir"])
        .stdout("12:34\n5:6\n")
        .run();
    // Of other ids than the layers have on disk.
    rbox.args(["run", "--name", "d", "--userns=auto:size=1000", "owned"])
        .args(["sh", "-c", "echo y >/g; chown 7:8 /g; stat -c %u:%g /f"])
        .stdout("12:34\n")
        .run();
    rbox.args(["commit", "-q", "d", "again"]).run();
    rbox.args(["run", "--rm", "again", "stat", "-c", "%u:%g", "/f", "/g"])
        .stdout("12:34\n7:8\n")
        .run();
    rbox.remove(&["c", "d"]);
    rbox.args(["rmi", "again", "owned"]).stdout_any().run();
}

#[test]
fn settings_come_from_the_container_and_from_changes() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create", "--name", "c", "-e", "A=1", "-l", "k=v", "-w", "/tmp", "-u", "3:4",
    ])
    .args(["-v", "/data", "busybox", "echo", "hi"])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "commit",
        "-a",
        "Ann",
        "-m",
        "a comment",
        "--include-volumes",
    ])
    .args([
        "-c",
        "ENV B=2 A=3",
        "-c",
        "EXPOSE 80",
        "-c",
        "LABEL=x=y",
        "--iidfile",
        "iid",
    ])
    .args(["c", "set:1"])
    .stdout("[ID]\n")
    .run();
    let inspected: Value = serde_json::from_str(&rbox.said(&["inspect", "set:1"])).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(inspected[0]["RepoTags"][0], "localhost/set:1");
    assert_eq!(config["Cmd"], serde_json::json!(["echo", "hi"]));
    assert_eq!(config["User"], "3:4");
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(config["Labels"]["k"], "v");
    assert_eq!(config["Labels"]["x"], "y");
    let env = config["Env"].as_array().unwrap();
    assert!(
        env.contains(&"A=3".into()) && env.contains(&"B=2".into()),
        "{env:?}"
    );
    let id = std::fs::read_to_string(rbox.work("iid")).unwrap();
    assert_eq!(
        id,
        format!("sha256:{}", inspected[0]["Id"].as_str().unwrap())
    );
    let blob = rbox.data().join("blobs/sha256").join(&id[7..]);
    let raw: Value = serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap();
    assert_eq!(raw["author"], "Ann");
    let last = raw["history"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["comment"], &last["created_by"]),
        (&"a comment".into(), &"echo hi".into())
    );
    rbox.args(["commit", "-c", "RUN x", "c"])
        .stderr_has("Error: cannot commit container \"c\": --change=\"RUN x\": expected one of the instructions CMD, ")
        .status(125)
        .run();
    rbox.remove(&["c"]);
    rbox.args(["rmi", "set:1"]).stdout_any().run();
}

#[test]
fn an_export_is_the_root_without_what_is_mounted() {
    for rbox in everybody() {
        rbox.args(["run", "-d", "--name", "c", "-v", "vol:/vol", "busybox"])
            .args(["sh", "-c", "echo v >/vol/v; echo n >/new; sleep 1000"])
            .stdout("[ID]\n")
            .run();
        while rbox
            .said(&["exec", "c", "ls", "/"])
            .lines()
            .all(|line| line != "new")
        {}
        rbox.args(["export", "-o", "running.tar", "c"]).run();
        rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
        rbox.args(["export", "--output=stopped.tar", "c"]).run();
        for archive in ["running.tar", "stopped.tar"] {
            let names = rbox
                .program("tar")
                .args(["tf", archive])
                .stdout_any()
                .run()
                .stdout;
            let has = |name: &str| names.lines().any(|line| line == name);
            assert!(has("new") && has("bin/busybox") && has("vol/"), "{names}");
            assert!(!has("vol/v"), "{names}");
            let below = |dir: &str| {
                names
                    .lines()
                    .any(|line| line.starts_with(dir) && line != dir)
            };
            assert!(
                !below("proc/") && !below("sys/") && !below("dev/"),
                "{names}"
            );
        }
        rbox.args(["export", "-o", "none.tar", "none"])
            .stderr_has("no container with name or id \"none\"")
            .status(125)
            .run();
        assert!(!rbox.work("none.tar").exists());
        rbox.remove(&["c"]);
        rbox.args(["volume", "rm", "vol"]).stdout("vol\n").run();
    }
}

#[test]
fn a_name_that_hides_others_in_a_layer_is_refused() {
    let rbox = Rbox::with_busybox();
    rbox.changed("c", "touch /.wh.bin");
    rbox.args(["commit", "c"])
        .stderr_has("a file with such a name cannot be in a layer, where it hides another")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}
