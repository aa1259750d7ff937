//! Networks that are joined, left and removed by commands that fail or are killed halfway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Rbox;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::remove_network;

fn inner(rbox: &Rbox, name: &str, subnet: &str) {
    make_network(rbox, name, &["--internal", "--subnet", subnet]);
}

fn outer(rbox: &Rbox, name: &str, subnet: &str) {
    make_network(rbox, name, &["--subnet", subnet]);
}

fn start(rbox: &Rbox, name: &str, networks: &[&str]) {
    let networks = networks
        .iter()
        .map(|network| format!("--network={network}"));
    rbox.args(["run", "-d", "--name", name])
        .args(networks)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
}

fn assert_reaches(rbox: &Rbox, name: &str, to: &str) {
    let script = format!("ping -c 1 -W 2 {to} >/dev/null && echo yes || echo no");
    inside(rbox, name, &script).stdout("yes\n").run();
}

fn id(rbox: &Rbox, name: &str) -> String {
    let call = rbox.args(["inspect", "--format", "{{.Id}}", name]);
    call.stdout_any().run().stdout.trim().to_owned()
}

fn networks(rbox: &Rbox) -> PathBuf {
    rbox.dir().join("run/rbox/networks")
}

/// The directory of those who are on a network.
fn members(rbox: &Rbox, network: &str) -> PathBuf {
    let call = rbox.args(["network", "inspect", network]);
    let shown = call.stdout_any().run().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    networks(rbox).join(shown[0]["id"].as_str().unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn end(rbox: &Rbox, containers: &[&str], networks: &[&str]) {
    rbox.remove(containers);
    for network in networks {
        remove_network(rbox, network);
    }
}

/// What of it cannot be written is said, and everything else is done.
#[test]
fn a_container_whose_files_cannot_be_written_is_where_it_is_said_to_be() {
    let rbox = Rbox::with_busybox();
    inner(&rbox, "in", "10.123.33.0/24");
    outer(&rbox, "out", "10.123.34.0/24");
    start(&rbox, "a", &["in"]);
    start(&rbox, "b", &["in", "out"]);
    for (verb, name, gateway) in [
        ("connect", "a", "10.123.34.1"),
        ("disconnect", "b", "10.123.33.1"),
    ] {
        let data = rbox.data().join("containers");
        set_mode(&data.join(id(&rbox, name)).join("hosts"), 0o444);
        rbox.args(["network", verb, "out", name])
            .stderr_has("/hosts: Permission denied (os error 13)")
            .status(125)
            .run();
        // Its supervisor knows by which network it answers.
        assert_reaches(&rbox, name, gateway);
    }
    end(&rbox, &["a", "b"], &["in", "out"]);
}

/// What is to be known of it at its next start can be said again.
#[test]
fn a_container_whose_record_cannot_be_written_has_left_all_the_same() {
    let rbox = Rbox::with_busybox();
    inner(&rbox, "in", "10.123.43.0/24");
    outer(&rbox, "out", "10.123.44.0/24");
    start(&rbox, "a", &["in", "out"]);
    let mut data = rbox.data().join("names");
    data.push(data.join("a").read_link().unwrap());
    set_mode(&data, 0o500);
    rbox.args(["network", "disconnect", "out", "a"])
        .stderr_has("Permission denied (os error 13)")
        .status(125)
        .run();
    set_mode(&data, 0o700);
    assert_reaches(&rbox, "a", "10.123.43.1");
    rbox.args(["network", "disconnect", "out", "a"]).run();
    end(&rbox, &["a"], &["in", "out"]);
}

#[test]
fn who_cannot_be_connected_is_where_he_was() {
    let rbox = Rbox::with_busybox();
    inner(&rbox, "one", "10.123.35.0/24");
    inner(&rbox, "two", "10.123.36.0/24");
    outer(&rbox, "three", "10.123.37.0/24");
    start(&rbox, "a", &["one", "two"]);
    let container = id(&rbox, "a");
    let records = || {
        let read = |network| fs::read_to_string(members(&rbox, network).join(&container)).unwrap();
        ["one", "two"].map(read)
    };
    let before = records();
    let two = members(&rbox, "two");
    set_mode(&two, 0o500);
    rbox.args(["network", "connect", "three", "a"])
        .stderr_has("Permission denied (os error 13)")
        .status(125)
        .run();
    set_mode(&two, 0o700);
    assert_eq!(records(), before);
    assert_reaches(&rbox, "a", "10.123.35.1");
    end(&rbox, &["a"], &["one", "two", "three"]);
}

/// By a signal in the midst of it: a file that is to be written is larger than the command may write.
#[test]
fn what_a_killed_connection_has_moved_goes_back_with_it() {
    let rbox = Rbox::with_busybox();
    inner(&rbox, "in", "10.123.38.0/24");
    outer(&rbox, "out", "10.123.39.0/24");
    start(&rbox, "a", &["in"]);
    let members = members(&rbox, "in");
    let record = members.join(id(&rbox, "a"));
    let mut member: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let aliases = (0..2000).map(|number| format!("one-of-its-many-names-{number}"));
    member["aliases"] = aliases.collect();
    fs::write(&record, member.to_string()).unwrap();
    rbox.program("/usr/bin/prlimit")
        .arg("--fsize=16384:16384")
        .arg(rbox.program_path())
        .args(["network", "connect", "out", "a"])
        .status(128 + Signal::XFSZ.as_raw())
        .run();
    rbox.args(["network", "disconnect", "out", "a"]).run();
    assert_reaches(&rbox, "a", "10.123.38.1");
    // What it was writing goes with the next start.
    let hub = networks(&rbox).join("hub/.tmp-left");
    fs::write(&hub, "").unwrap();
    rbox.own(&hub);
    let unfinished = || {
        let names = fs::read_dir(&members).unwrap().flatten();
        let is_left = |name: &fs::DirEntry| name.file_name().to_string_lossy().starts_with(".tmp-");
        names.filter(is_left).count()
    };
    assert_eq!(unfinished(), 1);
    start(&rbox, "b", &["in"]);
    assert!(unfinished() == 0 && !hub.exists());
    end(&rbox, &["a", "b"], &["in", "out"]);
}

#[test]
fn a_network_that_is_removed_leaves_no_bridge() {
    let rbox = Rbox::with_busybox();
    for (number, name) in ["one", "two", "three"].iter().enumerate() {
        outer(&rbox, name, &format!("10.123.{}.0/24", 40 + number));
        start(&rbox, &format!("on-{name}"), &[name]);
    }
    rbox.remove(&["on-one", "on-two"]);
    let assert_bridges = |count: &str| {
        let list = "ip -o link show type bridge | wc -l";
        rbox.args(["network", "shell", "--hub", "sh", "-c", list])
            .stdout(count)
            .run();
    };
    assert_bridges("3\n");
    remove_network(&rbox, "one");
    assert_bridges("2\n");
    rbox.args(["network", "prune", "-f"]).stdout("two\n").run();
    assert_bridges("1\n");
    assert_reaches(&rbox, "on-three", "10.123.42.1");
    end(&rbox, &["on-three"], &["three"]);
}
