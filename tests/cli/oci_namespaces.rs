//! Namespaces of bundles: new ones, those of others by their paths, and what cannot be.
use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;

fn worlds() -> impl Iterator<Item = Rbox> {
    [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten()
}

fn namespaces<'a>(bundle: &'a mut Bundle<'_>) -> &'a mut Vec<Value> {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap()
}

fn ids(pid: &str) -> String {
    let id = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let lines =
        ["ipc", "net", "pid", "user", "uts"].map(|name| format!("{}\n", id(name).display()));
    lines.concat()
}

const SHOW: &str = "cd /proc/self/ns; for name in ipc net pid user uts; do readlink $name; done";

#[test]
fn namespaces_of_another_container_are_joined_by_their_paths() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        bundle.create("one");
        bundle.start("one");
        let pid = bundle.state("one")["pid"].to_string();
        let expected = ids(&pid);
        for namespace in namespaces(&mut bundle) {
            let kind = namespace["type"].as_str().unwrap();
            let name = if kind == "network" { "net" } else { kind };
            if kind != "mount" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
            }
        }
        // The host name is that of the other.
        bundle.config.as_object_mut().unwrap().remove("hostname");
        let linux = bundle.config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let mut bundle = bundle.command(&["sh", "-c", SHOW]);
        bundle.run("two").stdout(expected.clone()).run();
        // And a process that joins it is there too.
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        bundle.create("two");
        bundle.start("two");
        bundle
            .oci(["exec", "two", "sh", "-c", SHOW])
            .stdout(expected)
            .run();
        let listed = bundle
            .oci(["ps", "two"])
            .stderr_any()
            .stdout_any()
            .status_any()
            .run();
        assert!(
            listed.stdout.contains("sleep")
                || listed.stderr.contains("its processes are not known")
        );
        bundle.delete("two");
        bundle.delete("one");
    }
}

#[test]
fn mounts_are_never_made_in_a_namespace_of_others() {
    for rbox in worlds() {
        let said = |found: &str| {
            format!(
                "linux.namespaces: expected a new namespace of type \"mount\", found {found}: \
                 its mounts would be those of others\n"
            )
        };
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (path, found) in [
            (None, "none"),
            (Some("/proc/self/ns/mnt"), "one with a path"),
        ] {
            let mut bundle = Bundle::new(&rbox);
            let list = namespaces(&mut bundle);
            list.retain(|namespace| namespace["type"] != "mount");
            list.extend(path.map(|path| json!({"type": "mount", "path": path})));
            // What the specification allows in a new one only.
            let linux = bundle.config["linux"].as_object_mut().unwrap();
            linux.remove("maskedPaths");
            linux.remove("readonlyPaths");
            bundle.run("one").stderr(said(found)).status(1).run();
            std::fs::remove_dir_all(&bundle.dir).unwrap();
        }
        let mine = |text: &str| {
            text.lines()
                .filter(|line| line.contains(rbox.dir().to_str().unwrap()))
                .count()
        };
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mine(&after), mine(&before));
    }
}

#[test]
fn what_is_no_namespace_is_not_joined() {
    let rbox = Rbox::new();
    let file = rbox.write("file", "");
    for (path, said) in [
        (file.to_str().unwrap(), "it is no net namespace"),
        ("/proc/self/ns/uts", "it is no net namespace"),
        (
            "/nowhere",
            "open(\"/nowhere\"): No such file or directory (os error 2)",
        ),
        ("/proc/1/ns/net", "Permission denied"),
    ] {
        let mut bundle = Bundle::new(&rbox);
        for namespace in namespaces(&mut bundle) {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
        let path = path.replace(rbox.dir().to_str().unwrap(), "[DIR]");
        bundle
            .run("one")
            .stderr_has(format!("cannot join net namespace {path}: "))
            .stderr_has(said)
            .status(1)
            .run();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn an_ordinary_user_needs_a_user_namespace() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    namespaces(&mut bundle).retain(|namespace| namespace["type"] != "user");
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    bundle
        .run("one")
        .stderr(
            "linux.namespaces: a container of an ordinary user needs a user namespace\n\
             Hint: `rbox oci spec --rootless` writes a configuration that has one\n",
        )
        .status(1)
        .run();
}

#[test]
fn a_user_without_sub_ids_maps_himself() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    let mut bundle = Bundle::without_user_namespace(&rbox).command(&[
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map",
    ]);
    let account = rbox.account();
    namespaces(&mut bundle).push(json!({"type": "user"}));
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    bundle.config["linux"]["uidMappings"] = map(account.uid);
    bundle.config["linux"]["gidMappings"] = map(account.gid);
    let line = format!("0\n         0 {:>10}          1\n", account.uid);
    bundle.run("one").stdout(line).run();
}

#[test]
fn the_root_directory_is_changed_without_a_pivot_too() {
    for rbox in worlds() {
        let bundle =
            Bundle::new(&rbox).command(&["sh", "-c", "ls /; readlink /proc/self/root; pwd"]);
        bundle.write();
        bundle
            .oci(["run", "--no-pivot", "-b"])
            .arg(&bundle.dir)
            .arg("one")
            .stdout("bin\ndev\netc\ninit\nproc\nroot\nsys\ntmp\n/\n/\n")
            .run();
    }
}

#[test]
fn run_holds_a_terminal() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["sh", "-c", "tty; exit 4"]);
        bundle.config["process"]["terminal"] = json!(true);
        bundle.run("one").stdout("/dev/pts/0\r\n").status(4).run();
    }
}
