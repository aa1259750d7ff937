//! Groups of the kernel that runs the tests. They need root and a tree of version 2, also that of a hybrid machine.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::process::Pid;
use serde_json::json;

use super::*;
use crate::error;

/// A group for one test, removed with all in it.
pub(super) struct Place(pub Group);

impl Place {
    /// None, and a line that says so, for who is not root; for root a tree of version 2 is expected.
    #[expect(clippy::print_stderr, reason = "where skipped tests are looked for")]
    pub(super) fn make() -> Option<Place> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIP: groups of the machine are for root");
            return None;
        }
        let mount = Hierarchy::detect().mount.expect("a tree of version 2");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rbox-test-{}-{number}", std::process::id());
        Some(Place(Group::create(&mount.join(name)).unwrap()))
    }

    /// A process in the group.
    pub(super) fn sleeper(group: &Group) -> Child {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
            std::thread::yield_now();
        }
        group.add(pid(&child)).unwrap();
        child
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let group = Group::open(self.0.path()).unwrap().unwrap();
        group.kill().unwrap();
        group.remove().unwrap();
    }
}

/// A group in a group.
pub(super) fn inside(group: &Group, name: &str) -> Group {
    Group::create(&group.path().join(name)).unwrap()
}

pub(super) fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap()).unwrap()
}

/// The letter of `/proc/PID/stat`.
fn state(child: &Child) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn groups_are_made_entered_and_removed() {
    let Some(place) = Place::make() else { return };
    let path = place.0.path().join("a/b");
    assert!(Group::open(&path).unwrap().is_none());
    let group = Group::create(&path).unwrap();
    assert_eq!(group.path(), path);
    // One that exists is taken.
    Group::create(&path).unwrap();
    let (inner, other) = (inside(&group, "inner"), inside(&group, "other"));
    let mut one = Place::sleeper(&other);
    let mut two = Place::sleeper(&inner);
    let mut both = vec![pid(&one), pid(&two)];
    both.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    assert_eq!(group.processes().unwrap(), both);
    assert_eq!(place.0.processes().unwrap(), both);
    let found = Group::of_process(pid(&two)).unwrap().unwrap();
    assert_eq!(found.path(), inner.path());
    assert_eq!(group.stats().unwrap().pids_current, 2);

    place.0.kill().unwrap();
    assert_eq!(one.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(two.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(place.0.processes().unwrap(), []);
    group.remove().unwrap();
    assert!(Group::open(&path).unwrap().is_none());
    // Gone is fine, for those who held it too.
    assert!(inner.stats().is_err());
    assert_eq!(inner.counts(), stats::Counts::default());
    assert!(!inner.is_frozen().unwrap());
    inner.kill().unwrap();
    inner.remove().unwrap();
}

#[test]
fn frozen_processes_stand_still_and_can_be_killed() {
    let Some(place) = Place::make() else { return };
    let child = Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .spawn();
    let mut child = child.unwrap();
    let inner = inside(&place.0, "inner");
    inner.add(pid(&child)).unwrap();
    assert!(!place.0.is_frozen().unwrap());
    place.0.freeze().unwrap();
    assert!(place.0.is_frozen().unwrap());
    assert!(inner.is_frozen().unwrap());
    assert_eq!(state(&child), 'S');
    // The group above is frozen: this one cannot go on by itself.
    inner.write("cgroup.freeze", "0").unwrap();
    assert!(inner.is_frozen().unwrap());
    place.0.thaw().unwrap();
    assert!(!inner.is_frozen().unwrap());
    assert_eq!(state(&child), 'R');
    place.0.freeze().unwrap();
    inner.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn killing_works_without_the_file() {
    let Some(place) = Place::make() else { return };
    let script = "read line; sleep 1000 & sleep 1000 & sh -c 'sleep 1000' & wait";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    place.0.add(pid(&child)).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    while place.0.processes().unwrap().len() < 4 {
        std::thread::yield_now();
    }
    place.0.kill_one_by_one().unwrap();
    assert_eq!(place.0.processes().unwrap(), []);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn only_the_tree_has_groups() {
    if Hierarchy::detect().mount.is_none() {
        return;
    }
    let refused = |path: &str| error::message(&Group::create(Path::new(path)).unwrap_err());
    assert_eq!(
        refused("/tmp/group"),
        "cannot make control group \"/tmp/group\": it is not below a mount of control groups of version 2"
    );
    assert_eq!(
        refused("/sys/fs/cgroup/../x"),
        "cannot make control group \"/sys/fs/cgroup/../x\": expected an absolute path without \"..\""
    );
    assert!(Group::open(Path::new("relative")).is_err());
}

#[test]
fn settings_are_written_and_refusals_explained() {
    let Some(place) = Place::make() else { return };
    let group = inside(&place.0, "inner");
    let apply = |resources: serde_json::Value| {
        let resources = serde_json::from_value(resources).unwrap();
        group.apply(&settings(&resources).unwrap())
    };
    let name = group.path().display();
    apply(json!({"unified": {"cgroup.max.depth": "5"}})).unwrap();
    assert_eq!(group.number("cgroup.max.depth"), Some(5));
    let err = apply(json!({"unified": {"cgroup.max.depth": "x"}})).unwrap_err();
    assert_eq!(
        error::message(&err),
        format!(
            "cannot write \"x\" to cgroup.max.depth of control group \"{name}\": Invalid argument (os error 22)"
        )
    );
    let err = apply(json!({"unified": {"nosuch.max": "1"}})).unwrap_err();
    assert_eq!(
        error::message(&err),
        "cannot set nosuch.max: the controller \"nosuch\" is not there: this kernel does not have it, \
         or who made the group above keeps it"
    );
    // Values that are no limit do not need a controller.
    apply(json!({"pids": {"limit": -1}, "memory": {"limit": -1}})).unwrap();
}

/// The controller that also hybrid machines of ours have in version 2.
#[test]
fn a_controller_is_enabled_on_the_way_unless_processes_are_in_it() {
    let Some(place) = Place::make() else { return };
    if !place
        .0
        .controllers()
        .unwrap()
        .iter()
        .any(|name| name == "hugetlb")
    {
        return;
    }
    let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    let limit = settings(&serde_json::from_value(limit).unwrap()).unwrap();
    let inner = inside(&place.0, "a/b");
    inner.apply(&limit).unwrap();
    let pages = &inner.stats().unwrap().huge_pages["2MB"];
    assert_eq!(
        (pages.current, pages.limit, pages.hits),
        (0, Some(4_194_304), 0)
    );
    assert_eq!(inner.number("hugetlb.2MB.rsvd.max"), Some(4_194_304));

    let full = inside(&place.0, "full");
    let sleepers: Vec<Child> = (0..4).map(|_| Place::sleeper(&full)).collect();
    let below = inside(&full, "below");
    let err = error::message(&below.apply(&limit).unwrap_err());
    let pids: Vec<String> = sleepers[..3]
        .iter()
        .map(|child| format!("{} (sleep)", child.id()))
        .collect();
    assert_eq!(
        err,
        format!(
            "cannot set hugetlb.2MB.max: cannot enable the controller \"hugetlb\" below control group {:?}: \
             processes are in it: {}, 1 more",
            full.path(),
            pids.join(", ")
        )
    );
    full.kill().unwrap();
    for mut sleeper in sleepers {
        sleeper.wait().unwrap();
    }
    below.apply(&limit).unwrap();
}
