//! Control groups of the OCI runtime, as far as this machine's kernel goes; limits that hold are seen in the virtual
//! machine (tests/vm/groups).
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;
use crate::support::skip::skip;

/// A bundle of root's whose container has a group.
fn grouped(rbox: &Rbox) -> Option<(Bundle<'_>, PathBuf)> {
    let mut bundle = Bundle::new(rbox);
    let Some(group) = bundle.group() else {
        skip("there is no tree of control groups of version 2");
        return None;
    };
    Some((bundle, group))
}

/// Whether a controller is in the tree of version 2.
fn has(group: &Path, controller: &str) -> bool {
    let above = group.parent().unwrap().join("cgroup.controllers");
    let names = std::fs::read_to_string(above).unwrap();
    names.split_whitespace().any(|name| name == controller)
}

fn number(group: &Path, file: &str) -> String {
    std::fs::read_to_string(group.join(file))
        .unwrap()
        .trim()
        .to_owned()
}

#[track_caller]
fn update(bundle: &Bundle<'_>, resources: &Value, stderr: &str) {
    let status = i32::from(!stderr.is_empty());
    let call = bundle.oci(["update", "--resources", "-", "one"]);
    let call = call.stdin(resources.to_string()).status(status);
    call.stderr(stderr).run();
}

#[test]
fn devices_are_what_the_rules_say() {
    let Some(rbox) = Rbox::as_root() else { return };
    let Some((mut bundle, _)) = grouped(&rbox) else {
        return;
    };
    // Not of the list that each container may use.
    let device = rustix::fs::makedev(10, 229);
    let kind = FileType::CharacterDevice;
    let node = bundle.rootfs().join("fuse");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        kind,
        Mode::from_raw_mode(0o666),
        device,
    )
    .unwrap();
    bundle.config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    bundle.create("one");
    bundle.start("one");
    let opens = "sh -c (:</fuse)&&echo~read;(:>/fuse)&&echo~written;(:<>/fuse)&&echo~both;true";
    let opens = || {
        let words = opens.split(' ').map(|word| word.replace('~', " "));
        let call = bundle.oci(["exec", "one"]).args(words);
        call.stdout_any().stderr_any().run()
    };
    let refused = |way: &str| format!("sh: can't {way} /fuse: Operation not permitted\n");
    let all = [refused("open"), refused("create"), refused("create")].concat();
    let said = opens();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("", all.as_str())
    );

    let rule = |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": 229, "access": access});
    let deny = json!({"allow": false, "access": "rwm"});
    update(
        &bundle,
        &json!({"devices": [deny, rule(true, "rw"), rule(false, "w")]}),
        "",
    );
    assert_eq!(opens().stdout, "read\n");
    update(
        &bundle,
        &json!({"devices": [{"allow": true, "access": "rwm"}]}),
        "",
    );
    assert_eq!(opens().stdout, "read\nwritten\nboth\n");
    update(
        &bundle,
        &json!({"devices": [rule(true, "")]}),
        "linux.resources.devices[0].access: expected some of r, w and m\n",
    );
    bundle.delete("one");
}

#[test]
fn a_limit_that_cannot_be_met_is_refused_and_what_is_no_limit_is_not() {
    let Some(rbox) = Rbox::as_root() else { return };
    let Some((mut bundle, group)) = grouped(&rbox) else {
        return;
    };
    // As dockerd and others send it.
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}, "pids": {"limit": 0},
        "blockIO": {"weight": 0}, "devices": [{"allow": false, "access": "rwm"}]
    });
    bundle.create("one");
    bundle.start("one");
    if !has(&group, "memory") {
        let stderr = "cannot set memory.max: the controller \"memory\" belongs to version 1 of control groups on this machine\n";
        let limit = bundle.oci(["update", "--memory", "64m", "one"]);
        limit.stderr(stderr).status(1).run();
        bundle.config["linux"]["resources"] = json!({"memory": {"limit": 1 << 26}});
        bundle.write();
        let second = bundle.oci(["create", "-b"]).arg(&bundle.dir).arg("two");
        second.stderr(stderr).status(1).run();
    }
    if has(&group, "hugetlb") {
        let limit = |bytes: u64| json!({"hugepageLimits": [{"pageSize": "2MB", "limit": bytes}]});
        update(&bundle, &limit(4 << 20), "");
        assert_eq!(number(&group, "hugetlb.2MB.max"), "4194304");
        assert_eq!(number(&group, "hugetlb.2MB.rsvd.max"), "4194304");
        // What was said before is not forgotten.
        update(&bundle, &json!({"unified": {"cgroup.max.depth": "3"}}), "");
        assert_eq!(number(&group, "hugetlb.2MB.max"), "4194304");
        assert_eq!(number(&group, "cgroup.max.depth"), "3");
        let config = std::fs::read_to_string(bundle.root().join("one/config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(
            config["linux"]["resources"]["hugepageLimits"],
            limit(4 << 20)["hugepageLimits"]
        );
    }
    update(
        &bundle,
        &json!({"unified": {"cgroup.max.depth": "deep"}}),
        &format!(
            "cannot write \"deep\" to cgroup.max.depth of control group {group:?}: Invalid argument (os error 22)\n"
        ),
    );
    update(
        &bundle,
        &json!({"memory": {"swappiness": 60}}),
        "cannot set memory.swappiness: control groups of version 2 do not have it\n",
    );
    bundle.delete("one");
    assert!(!group.exists());
    let stopped = bundle.oci(["update", "--pids-limit", "5", "one"]);
    stopped
        .stderr("container \"one\" does not exist\n")
        .status(1)
        .run();
}

#[test]
fn events_are_lines_until_the_end() {
    let Some(rbox) = Rbox::as_root() else { return };
    let Some((bundle, _)) = grouped(&rbox) else {
        return;
    };
    bundle.create("one");
    bundle.start("one");
    let once = bundle
        .oci(["events", "--stats", "one"])
        .stdout_any()
        .run()
        .stdout;
    let event: Value = serde_json::from_str(&once).unwrap();
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!("one"))
    );
    assert_eq!(event["data"]["pids"]["current"], 1);
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    let follow = bundle
        .oci(["events", "--interval", "50ms", "one"])
        .stdout_any();
    let follow = follow.spawn();
    follow.wait_for("}\n{");
    bundle.oci(["kill", "one", "KILL"]).run();
    for line in follow.wait().stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats");
    }
    let ended = bundle.oci(["events", "one"]);
    ended.stderr("container not running\n").status(1).run();
    bundle.delete("one");
}

#[test]
fn paths_of_groups_are_checked() {
    let Some(rbox) = Rbox::as_root() else { return };
    let Some((mut bundle, _)) = grouped(&rbox) else {
        return;
    };
    let mut refused = |path: &str, flags: &[&str], stderr: &str| {
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        bundle.write();
        let call = bundle
            .oci(flags)
            .args(["create", "-b"])
            .arg(&bundle.dir)
            .arg("one");
        call.stderr(stderr).status(1).run();
    };
    refused(
        "/..",
        &[],
        "linux.cgroupsPath \"/..\": expected a group below the root\n",
    );
    let form = "expected SLICE:PREFIX:NAME for --systemd-cgroup";
    refused(
        "/a/b",
        &["--systemd-cgroup"],
        &format!("linux.cgroupsPath \"/a/b\": {form}\n"),
    );
    refused(
        "a--b.slice:p:n",
        &["--systemd-cgroup"],
        "\"a--b.slice\" is not the name of a slice: expected NAME.slice, a dash for each step down\n",
    );
    if !Path::new("/run/systemd/system").exists() {
        refused(
            ":p:n",
            &["--systemd-cgroup"],
            "cannot start unit \"p-n.scope\": cannot reach systemd: cannot connect to /run/dbus/system_bus_socket: No such file or directory (os error 2)\n",
        );
    }
}

/// Where a user may write to no group, containers run without one, and limits are refused.
#[test]
fn a_user_has_no_group_and_no_limit() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    let limit = json!({"unified": {"cgroup.max.depth": "3"}});
    bundle.config["linux"]["resources"] = limit;
    let refused = bundle.run("one").status(1).stderr_any().run().stderr;
    let expected = "is not ours to write to\n";
    assert!(
        refused.starts_with("cannot set cgroup.max.depth: ") && refused.ends_with(expected),
        "{refused}"
    );
    bundle.config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    bundle.create("one");
    assert_eq!(bundle.state("one")["status"], "created");
    let paused = bundle.oci(["pause", "one"]);
    paused
        .stderr("it has no control group of version 2, which is what freezes processes\n")
        .status(1)
        .run();
    bundle.delete("one");
}
