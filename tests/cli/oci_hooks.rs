//! Hooks of bundles: when they run, what they are told, what their failure does.
use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;

/// A hook that adds its name and the state that it reads to a file.
fn noting(name: &str, file: &str) -> Value {
    let script = format!("printf '{name} ' >>{file}; cat >>{file}; echo >>{file}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

#[test]
fn hooks_run_in_their_order_with_the_state() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    let file = rbox.work("log");
    let outside = file.to_str().unwrap();
    let all = |names: &[&str], file: &str| {
        names
            .iter()
            .map(|name| (name.to_owned().to_owned(), json!([noting(name, file)])))
            .collect::<Vec<_>>()
    };
    let mut hooks = serde_json::Map::new();
    hooks.extend(all(
        &[
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ],
        outside,
    ));
    hooks.extend(all(&["startContainer"], "/tmp/log"));
    bundle.config["hooks"] = Value::Object(hooks);
    bundle.create("one");
    let pid = bundle.state("one")["pid"].clone();
    let state = |status: &str, pid: Option<&Value>| {
        let mut state =
            json!({"ociVersion": "1.0.2", "id": "one", "status": status, "bundle": bundle.dir});
        if let Some(pid) = pid {
            state["pid"] = pid.clone();
        }
        state
    };
    let seen = |file: &std::path::Path| -> Vec<(String, Value)> {
        let text = std::fs::read_to_string(file).unwrap();
        let line = |line: &str| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_owned(), serde_json::from_str(state).unwrap())
        };
        text.lines().map(line).collect()
    };
    let mut expected = vec![
        ("prestart".to_owned(), state("creating", Some(&pid))),
        ("createRuntime".to_owned(), state("creating", Some(&pid))),
        (
            "createContainer".to_owned(),
            state("creating", Some(&json!(1))),
        ),
    ];
    assert_eq!(seen(&file), expected);
    bundle.start("one");
    expected.push(("poststart".to_owned(), state("running", Some(&pid))));
    assert_eq!(seen(&file), expected);
    let inside = bundle.rootfs().join("tmp/log");
    assert_eq!(
        seen(&inside),
        [(
            "startContainer".to_owned(),
            state("created", Some(&json!(1)))
        )]
    );
    bundle.delete("one");
    expected.push(("poststop".to_owned(), state("stopped", None)));
    assert_eq!(seen(&file), expected);
}

#[test]
fn a_hook_that_fails_or_hangs_undoes_the_creation() {
    let rbox = Rbox::new();
    let file = rbox.work("log");
    let mut said = String::new();
    for stage in ["prestart", "createRuntime", "createContainer"] {
        for (script, timeout, why) in [
            ("echo no >&2; exit 3", 100, "it ended with status 3: no"),
            ("sleep 1000", 1, "it did not end within 1 s"),
        ] {
            let mut bundle = Bundle::new(&rbox);
            bundle.config["hooks"] = json!({
                stage: [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout}],
                "poststop": [noting("poststop", file.to_str().unwrap())]
            });
            bundle.write();
            bundle
                .leaving(["create", "-b"])
                .arg(&bundle.dir)
                .arg("one")
                .status(1)
                .run();
            said.clear();
            writeln!(said, "cannot run {stage} hook /bin/sh: {why}").unwrap();
            assert_eq!(bundle.said(), said);
            assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
            let log = std::fs::read_to_string(&file).unwrap();
            assert!(log.starts_with("poststop {"), "{log}");
            std::fs::remove_file(&file).unwrap();
            std::fs::remove_dir_all(&bundle.dir).unwrap();
        }
    }
}

#[test]
fn a_hook_that_fails_at_the_start_stops_the_container() {
    let rbox = Rbox::new();
    for (stage, said) in [("startContainer", "/bin/sh"), ("poststart", "/bin/sh")] {
        let mut bundle = Bundle::new(&rbox);
        bundle.config["hooks"] = json!({
            stage: [{"path": said, "args": ["sh", "-c", "exit 5"], "env": ["PATH=/bin"]}]
        });
        bundle.create("one");
        bundle
            .oci(["start", "one"])
            .stderr(format!(
                "cannot run {stage} hook {said}: it ended with status 5\n"
            ))
            .status(1)
            .run();
        bundle.wait_status("one", "stopped");
        bundle.oci(["delete", "one"]).run();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}
