//! Restart policies: what is started again and how often, what a person's word is worth, what is true while a
//! container rests, and that nothing is left behind.
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::Rbox;

impl Rbox {
    /// A container in the background, with a restart policy.
    fn restarted(&self, name: &str, policy: &str, script: &str) {
        let flags = ["run", "-d", "--name", name, "--restart", policy];
        self.args(flags)
            .args(["busybox", "sh", "-c", script])
            .stdout("[ID]\n")
            .run();
    }

    fn field(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{{field}}}}}");
        let text = self.args(["inspect", "--format", &format, name]);
        text.stdout_any().run().stdout.trim_end().to_owned()
    }

    fn wait_for_field(&self, name: &str, field: &str, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.field(name, field);
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{field} of {name} is {found}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a rest after so many restarts or more; how many there were. That after the fourth is of 1.6 s.
    fn wait_for_rest(&self, name: &str, restarts: u32) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.field(name, "print .RestartCount \" \" .State.Restarting");
            let (count, rests) = found.split_once(' ').unwrap();
            let count = count.parse().unwrap();
            if rests == "true" && count >= restarts {
                return count;
            }
            assert!(Instant::now() < deadline, "{name}: {found}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn runs(&self, name: &str) -> usize {
        let log = self.args(["logs", name]).stdout_any().run().stdout;
        log.lines().count()
    }

    fn wait_for_runs(&self, name: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.runs(name) < count {
            assert!(Instant::now() < deadline, "{count} runs of {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn state(&self) -> Value {
        let all = std::fs::read_dir(self.dir().join("run/rbox/containers")).unwrap();
        let all: Vec<PathBuf> = all.map(|one| one.unwrap().path()).collect();
        let [one] = all.as_slice() else {
            panic!("one container: {all:?}");
        };
        serde_json::from_slice(&std::fs::read(one.join("state.json")).unwrap()).unwrap()
    }

    fn supervisor(&self) -> Pid {
        let pid = self.state()["supervisor"].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    fn at_boot(&self) -> String {
        let filter = ["ps", "-a", "--filter", "should-start-on-boot=true"];
        let names = self.args(filter).args(["--format", "{{.Names}}"]);
        names.stdout_any().run().stdout.replace('\n', " ")
    }
}

#[test]
fn always_is_until_a_person_stops_it() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("a", "always", "echo run; exit 3");
    let restarts = rbox.wait_for_rest("a", 4);
    rbox.args(["ps", "--filter", "status=restarting", "--filter"])
        .args(["restart-policy=always", "--format"])
        .arg("{{.Names}} {{.State}} {{.Restarts}} {{.Status}}")
        .stdout(format!("a restarting {restarts} Restarting (3) [AGO]\n"))
        .run();
    let state = "print .State.Running .State.Pid .State.ExitCode .State.Status";
    assert_eq!(rbox.field("a", state), "true 0 3restarting");
    assert_eq!(
        rbox.field("a", "json .HostConfig.RestartPolicy"),
        r#"{"Name":"always","MaximumRetryCount":0}"#
    );
    let start = Instant::now();
    rbox.args(["stop", "a"]).stdout("a\n").run();
    assert!(start.elapsed() < Duration::from_secs(5));
    let state = "print .State.Status .State.ExitCode .State.StoppedByUser .RestartCount";
    assert_eq!(rbox.field("a", state), format!("exited3 true {restarts}"));
    assert_eq!(rbox.runs("a"), restarts as usize + 1);
    // A start by a person counts from the beginning, and in the rest there is nothing to start.
    rbox.args(["start", "a"]).stdout("a\n").run();
    rbox.wait_for_rest("a", 1);
    rbox.args(["start", "a"]).stdout("a\n").run();
    rbox.args(["kill", "a"]).stdout("a\n").run();
    rbox.wait_for_field("a", ".State.Status", "exited");
    rbox.remove(&["a"]);
}

#[test]
fn failures_are_counted_and_success_is_the_end() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("f", "on-failure:2", "echo run; exit 7");
    rbox.wait_for_field("f", ".State.Status", "exited");
    assert_eq!(
        rbox.field("f", "print .State.ExitCode \" \" .RestartCount"),
        "7 2"
    );
    assert_eq!(rbox.runs("f"), 3);
    rbox.restarted(
        "g",
        "on-failure",
        "test -e /was && exit 0; touch /was; exit 1",
    );
    rbox.wait_for_field("g", ".State.Status", "exited");
    assert_eq!(
        rbox.field("g", "print .State.ExitCode \" \" .RestartCount"),
        "0 1"
    );
    // As podman: until it goes, it may fail.
    rbox.args(["run", "-d", "--rm", "--name", "h", "--restart"])
        .args(["on-failure", "busybox", "sh", "-c"])
        .arg("test -e /was && exit 0; touch /was; exit 1")
        .stdout("[ID]\n")
        .run();
    let deadline = Instant::now() + Duration::from_secs(20);
    while rbox
        .args(["exists", "h"])
        .status_any()
        .run()
        .status
        .success()
    {
        assert!(Instant::now() < deadline, "it stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    rbox.remove(&["f", "g"]);
}

#[test]
fn what_is_told_of_it() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("e", "on-failure:1", "exit 1");
    rbox.wait_for_field("e", ".State.Status", "exited");
    let events = rbox
        .args(["events", "--stream=false", "--filter", "container=e"])
        .args(["--format", "{{.Status}}"])
        .stdout_any()
        .run()
        .stdout;
    let all = "create init start died restart init start died";
    assert_eq!(events.split_whitespace().collect::<Vec<_>>().join(" "), all);
    // The lines of two runs are two lines.
    rbox.restarted("o", "on-failure:1", "printf open; exit 1");
    rbox.wait_for_field("o", ".State.Status", "exited");
    rbox.args(["logs", "o"]).stdout("open\nopen").run();
    rbox.remove(&["e", "o"]);
}

#[test]
fn only_what_is_meant_as_an_end_is_one() {
    let rbox = Rbox::with_busybox();
    let script = "trap 'exit 5' HUP; echo run; while :; do sleep 0.05; done";
    rbox.restarted("k", "always", script);
    rbox.wait_for_runs("k", 1);
    rbox.args(["kill", "-s", "HUP", "k"]).stdout("k\n").run();
    rbox.wait_for_runs("k", 2);
    rbox.args(["kill", "k"]).stdout("k\n").run();
    rbox.wait_for_field("k", ".State.Status", "exited");
    assert_eq!(rbox.field("k", ".State.StoppedByUser"), "true");
    rbox.remove(&["k"]);
}

#[test]
fn who_stays_hears_the_first_end() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--name", "s", "--restart", "always"])
        .args(["busybox", "sh", "-c", "echo run; exit 4"])
        .stdout("run\n")
        .status(4)
        .run();
    rbox.args(["wait", "s"]).stdout("4\n").run();
    rbox.remove(&["s"]);
}

#[test]
fn a_container_at_rest_is_none_that_runs() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("r", "always", "exit 1");
    rbox.wait_for_rest("r", 5);
    let hint =
        "Hint: `rbox wait --condition running r` waits until it runs, `rbox stop r` ends it\n";
    for (verb, what) in [
        (
            &["exec", "r", "true"][..],
            "cannot execute in container \"r\"",
        ),
        (&["attach", "r"], "cannot attach"),
        (&["pause", "r"], "cannot pause container \"r\""),
    ] {
        rbox.args(verb)
            .stderr(format!(
                "Error: {what}: container \"r\" is restarting\n{hint}"
            ))
            .status(125)
            .run();
    }
    rbox.args(["rm", "-f", "r"]).stdout("r\n").run();
}

#[test]
fn the_policy_may_be_changed_while_it_runs() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("u", "always", "exit 1");
    rbox.wait_for_rest("u", 2);
    rbox.args(["update", "--restart", "no", "u"])
        .stdout("u\n")
        .run();
    rbox.wait_for_field("u", ".State.Status", "exited");
    assert_eq!(rbox.at_boot(), "");
    let script = "trap 'exit 1' HUP; echo run; while :; do sleep 0.05; done";
    rbox.args(["run", "-d", "--name", "v", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    rbox.args(["update", "--restart", "unless-stopped", "v"])
        .stdout("v\n")
        .run();
    assert_eq!(rbox.at_boot(), "v ");
    rbox.wait_for_runs("v", 1);
    rbox.args(["kill", "-s", "HUP", "v"]).stdout("v\n").run();
    rbox.wait_for_field("v", "print .RestartCount \" \" .State.Status", "1 running");
    rbox.args([
        "run", "-d", "--rm", "--name", "w", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["update", "--restart", "on-failure", "w"])
        .stderr("Error: cannot update container \"w\": --restart: it was made with --rm\n")
        .status(125)
        .run();
    rbox.remove(&["u", "v", "w"]);
}

#[test]
fn the_next_boot_starts_what_was_to_run() {
    let rbox = Rbox::with_busybox();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    rbox.args([
        "create",
        "--name",
        "never",
        "--restart",
        "always",
        "busybox",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.remove(&["never"]);
    rbox.restarted("b", "unless-stopped", script);
    assert_eq!(rbox.at_boot(), "b ");
    // As when the machine goes down in order: its end is no person's wish.
    rustix::process::kill_process(rbox.supervisor(), Signal::TERM).unwrap();
    rbox.wait_for_field("b", ".State.Status", "exited");
    assert_eq!(rbox.field("b", ".State.StoppedByUser"), "false");
    assert_eq!(rbox.at_boot(), "b ");
    // As when the power goes.
    rbox.args(["start", "b"]).stdout("b\n").run();
    rustix::process::kill_process(rbox.supervisor(), Signal::KILL).unwrap();
    rbox.wait_for_field("b", ".State.Status", "exited");
    assert_eq!(rbox.at_boot(), "b ");
    rbox.args(["stop", "b"]).stdout("b\n").run();
    assert_eq!(rbox.at_boot(), "");
    rbox.args(["start", "b"]).stdout("b\n").run();
    assert_eq!(rbox.at_boot(), "b ");
    rbox.args(["stop", "b"]).stdout("b\n").run();
    assert_eq!(rbox.at_boot(), "");
    // Docker: always is for the next boot whatever a person has said before it.
    rbox.args(["update", "--restart", "always", "b"])
        .stdout("b\n")
        .run();
    assert_eq!(rbox.at_boot(), "b ");
    rbox.remove(&["b"]);
}

#[test]
fn a_supervisor_that_dies_in_the_rest_leaves_the_truth() {
    let rbox = Rbox::with_busybox();
    rbox.restarted("d", "always", "exit 6");
    rbox.wait_for_rest("d", 4);
    rustix::process::kill_process(rbox.supervisor(), Signal::KILL).unwrap();
    rbox.wait_for_field("d", "print .State.Status \" \" .State.ExitCode", "exited 6");
    rbox.args(["start", "d"]).stdout("d\n").run();
    rbox.remove(&["d"]);
}

#[test]
fn published_ports_are_listened_on_without_a_pause() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "p", "--restart", "always"])
        .args(["--network", "private", "-p", "127.0.0.1::80"])
        .args(["busybox", "sleep", "0.1"])
        .stdout("[ID]\n")
        .run();
    let port = rbox.args(["port", "p", "80"]).stdout_any().run().stdout;
    let address = port.trim_end().parse().unwrap();
    let ends = Instant::now() + Duration::from_secs(3);
    while Instant::now() < ends {
        // Nothing listens inside: who is let in is reset, also before connect(2) has looked. Nobody is refused.
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Err(err) if err.kind() != ErrorKind::ConnectionReset => panic!("{err}"),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_ne!(rbox.field("p", ".RestartCount"), "0");
    rbox.remove(&["p"]);
}

#[test]
fn a_run_leaves_nothing_to_the_next() {
    for rbox in [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten() {
        rbox.load("busybox");
        rbox.args(["run", "-d", "--name", "l", "--restart", "always", "--init"])
            .args(["--network", "private", "-p", "127.0.0.1::80", "-i"])
            .args(["-v", "vol:/v", "busybox", "sh", "-c", "echo run; exit 1"])
            .stdout("[ID]\n")
            .run();
        let held = || {
            let dir = format!("/proc/{}/fd", rbox.supervisor().as_raw_pid());
            let fds = std::fs::read_dir(dir).unwrap();
            let mut fds: Vec<String> = fds
                .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap_or_default())
                // Numbers differ from run to run.
                .map(|link| link.to_string_lossy().split('[').next().unwrap().to_owned())
                .map(|link| link.split(':').next().unwrap().to_owned())
                .collect();
            fds.sort();
            fds
        };
        rbox.wait_for_rest("l", 2);
        let first = held();
        rbox.wait_for_rest("l", 5);
        assert_eq!(held(), first);
        rbox.remove(&["l"]);
        rbox.args(["volume", "rm", "vol"]).stdout("vol\n").run();
    }
}

#[test]
fn what_is_no_policy_is_refused() {
    let rbox = Rbox::with_busybox();
    let help = "Hint: `rbox create --help` tells what there is\n";
    for (value, expected) in [
        ("often", "no, on-failure[:TIMES], always or unless-stopped"),
        ("always:3", "a number of times after on-failure alone"),
        (
            "on-failure:x",
            "a whole number after on-failure:, not negative",
        ),
    ] {
        rbox.args(["create", "--restart", value, "busybox"])
            .stderr(format!(
                "Error: --restart=\"{value}\": expected {expected}\n{help}"
            ))
            .status(125)
            .run();
    }
    rbox.args(["run", "--rm", "--restart", "unless-stopped", "busybox"])
        .stderr(
            "Error: --restart=\"unless-stopped\": expected no or on-failure[:TIMES] with --rm\n",
        )
        .status(125)
        .run();
}

#[test]
fn several_are_stopped_at_once() {
    let rbox = Rbox::with_busybox();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let names = ["s1", "s2", "s3", "s4", "s5"];
    for name in names {
        rbox.restarted(name, "always", deaf);
        rbox.wait_for_runs(name, 1);
    }
    let start = Instant::now();
    let stop = ["stop", "-t", "2"].into_iter().chain(names);
    rbox.args(stop)
        .stdout(names.map(|name| format!("{name}\n")).concat())
        .run();
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(6),
        "{took:?}"
    );
    let verbs = [&["restart", "-t", "2"][..], &["rm", "-f", "-t", "2"]];
    for (verb, runs) in verbs.into_iter().zip(2..) {
        rbox.args(["start"]).args(names).stdout_any().run();
        for name in names {
            rbox.wait_for_runs(name, runs);
        }
        let start = Instant::now();
        rbox.args(verb)
            .args(names)
            .stdout(names.map(|name| format!("{name}\n")).concat())
            .run();
        assert!(start.elapsed() < Duration::from_secs(7), "{verb:?}");
    }
}

#[test]
fn a_stop_goes_on_without_its_command_and_may_be_cut_short() {
    let rbox = Rbox::with_busybox();
    rbox.restarted(
        "t",
        "always",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    rbox.wait_for_runs("t", 1);
    // Without end, until somebody else loses patience.
    let start = Instant::now();
    let patient = rbox.args(["stop", "-t", "-1", "t"]).stdout("t\n").spawn();
    let killed = rbox.args(["stop", "-t", "1", "t"]).status_any().spawn();
    std::thread::sleep(Duration::from_millis(500));
    killed.signal(Signal::KILL);
    killed.wait();
    patient.wait();
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(
        rbox.field("t", "print .State.Status \" \" .State.ExitCode"),
        "exited 137"
    );
    rbox.remove(&["t"]);
    rbox.sleeper("q");
    rbox.args(["stop", "--signal", "KILL", "--timeout", "-1", "q"])
        .stdout("q\n")
        .run();
    rbox.args(["stop", "-t", "soon", "q"])
        .stderr_has(
            "Error: --time=\"soon\": expected a whole number of seconds, or -1 for no limit\n",
        )
        .status(125)
        .run();
    rbox.remove(&["q"]);
}
