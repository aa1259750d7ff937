//! Namespaces shared with the host and with other containers, and the time namespace.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::processes;

/// The links of `ns` as kind and number.
fn links(rbox: &Rbox, args: &[&str]) -> Vec<(String, String)> {
    let text = rbox.args(args).stdout_any().run().stdout;
    text.lines()
        .map(|line| {
            let (kind, number) = line.split_once(':').unwrap();
            (kind.to_owned(), number.to_owned())
        })
        .collect()
}

/// Which of them two lists have in common.
fn shared(one: &[(String, String)], other: &[(String, String)]) -> String {
    let kinds: Vec<&str> = one
        .iter()
        .filter(|link| other.contains(link))
        .map(|(kind, _)| kind.as_str())
        .collect();
    kinds.join(" ")
}

fn of_host() -> Vec<(String, String)> {
    ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .map(|kind| {
            let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            let link = link.to_str().unwrap().to_owned();
            let (kind, number) = link.split_once(':').unwrap();
            (kind.to_owned(), number.to_owned())
        })
        .to_vec()
}

#[test]
fn namespaces_of_another_container() {
    let rbox = Rbox::with_testinit();
    rbox.args([
        "run",
        "-d",
        "--name",
        "a",
        "--ipc",
        "shareable",
        "testinit",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let other = links(&rbox, &["exec", "a", "/init", "ns"]);
    for (flag, kinds) in [
        ("--pid", "pid user"),
        ("--ipc", "ipc user"),
        ("--uts", "user uts"),
        ("--cgroupns", "cgroup user"),
        ("--network", "net user"),
    ] {
        let run = ["run", "--rm", flag, "container:a", "testinit", "ns"];
        let found = links(&rbox, &run);
        let mut found: Vec<_> = shared(&found, &other)
            .split(' ')
            .map(str::to_owned)
            .collect();
        found.sort();
        assert_eq!(found.join(" "), kinds, "{flag}");
    }
    let all = ["--pid", "--ipc", "--uts", "--cgroupns", "--network"]
        .map(|flag| format!("{flag}=container:a"));
    rbox.args(["run", "-d", "--name", "b"])
        .args(&all)
        .args(["testinit", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let joined = links(&rbox, &["exec", "b", "/init", "ns"]);
    assert_eq!(shared(&joined, &other), "cgroup ipc net pid user uts");
    rbox.remove(&["b"]);
    // What `b` left in the process namespace of `a` is dead.
    rbox.args(["exec", "a", "/init", "echo", "alive"])
        .stdout("alive\n")
        .run();
    rbox.remove(&["a"]);
}

#[test]
fn a_shared_ipc_namespace_has_the_same_shared_memory() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "a",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["exec", "a", "sh", "-c", "echo hello >/dev/shm/f"])
        .run();
    let script = "cat /dev/shm/f; echo back >/dev/shm/g; grep -c ' /dev/shm ' /proc/mounts";
    rbox.args([
        "run",
        "--rm",
        "--ipc",
        "container:a",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .stdout("hello\n1\n")
    .run();
    rbox.args(["exec", "a", "cat", "/dev/shm/g"])
        .stdout("back\n")
        .run();
    rbox.sleeper("private");
    rbox.args(["run", "--rm", "--ipc", "container:private", "busybox", "true"])
        .stderr(
            "Error: cannot create container: the IPC namespace of container \"private\" is not shareable\n\
             Hint: create that with `--ipc shareable`\n",
        )
        .status(125)
        .run();
    rbox.args([
        "run", "--rm", "--ipc", "none", "busybox", "ls", "-d", "/dev/shm",
    ])
    .stderr("ls: /dev/shm: No such file or directory\n")
    .status(1)
    .run();
    rbox.remove(&["a", "private"]);
}

#[test]
fn what_cannot_be_joined_is_said() {
    let rbox = Rbox::with_testinit();
    rbox.args(["create", "--name", "off", "testinit", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    for name in ["a", "b"] {
        rbox.args(["run", "-d", "--name", name, "testinit", "sleep", "1000"])
            .stdout("[ID]\n")
            .run();
    }
    let refused = |flags: &[&str], why: &str| {
        rbox.args(["run", "--rm", "--name", "c"])
            .args(flags)
            .args(["testinit", "echo"])
            .stderr_has(format!("Error: cannot start container \"c\": {why}"))
            .status(125)
            .run();
    };
    refused(
        &["--pid", "container:off"],
        "cannot join the pid namespace of container \"off\": container \"off\" is not running",
    );
    refused(
        &["--pid", "container:a", "--network", "container:b"],
        "cannot join the net namespace of container \"b\": \
         it belongs to another user namespace than the others that are joined",
    );
    refused(
        &["--pid", "ns:/etc/passwd"],
        "cannot join namespace /etc/passwd: it is no pid namespace",
    );
    refused(
        &["--pid", "ns:/nonexistent"],
        "cannot join namespace /nonexistent: open(\"/nonexistent\"): No such file",
    );
    let pid = rbox
        .args(["inspect", "-f", "{{.State.Pid}}", "a"])
        .stdout_any()
        .run();
    let path = |kind: &str| format!("ns:/proc/{}/ns/{kind}", pid.stdout.trim());
    refused(&["--uts", &path("net")], "cannot join namespace");
    let other = links(&rbox, &["exec", "a", "/init", "ns"]);
    let run = ["run", "--rm", "--network", &path("net"), "testinit", "ns"];
    assert_eq!(shared(&links(&rbox, &run), &other), "net user");
    rbox.args([
        "run",
        "--rm",
        "--network",
        "container:a",
        "--dns",
        "1.1.1.1",
        "testinit",
        "ns",
    ])
    .stderr_has("flag --dns cannot be used with --network container:")
    .status(125)
    .run();
    rbox.args(["ps", "-a", "--format", "{{.Names}}"])
        .stdout("b\na\noff\n")
        .run();
    rbox.remove(&["off", "a", "b"]);
}

#[test]
fn namespaces_of_the_host() {
    let rbox = Rbox::with_testinit();
    let host = of_host();
    for (flag, kind) in [
        ("--pid", "pid"),
        ("--ipc", "ipc"),
        ("--uts", "uts"),
        ("--cgroupns", "cgroup"),
        ("--network", "net"),
    ] {
        let run = ["run", "--rm", flag, "host", "testinit", "ns"];
        assert_eq!(shared(&links(&rbox, &run), &host), kind, "{flag}");
    }
    let all = ["--pid", "--ipc", "--uts", "--cgroupns", "--network"];
    rbox.args(["run", "-d", "--name", "c"])
        .args(all.map(|flag| format!("{flag}=host")))
        .args(["testinit", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let found = links(&rbox, &["exec", "c", "/init", "ns"]);
    assert_eq!(shared(&found, &host), "cgroup ipc net pid uts");
    rbox.remove(&["c"]);
}

fn sleepers(rbox: &Rbox) -> usize {
    processes::of(rbox.dir())
        .iter()
        .filter(|process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid));
            line.is_ok_and(|line| line.starts_with(b"sleep\x0077"))
        })
        .count()
}

/// Without a process namespace the kernel ends nothing with the first process.
#[test]
fn all_processes_of_a_container_in_the_hosts_process_namespace_end_with_it() {
    let rbox = Rbox::with_busybox();
    let script =
        "sleep 770 & setsid sh -c 'sleep 771 & exec sleep 772' & (setsid sleep 773 &) ; sleep 774";
    for end in [&["kill", "c"][..], &["rm", "-f", "c"]] {
        rbox.args([
            "run", "-d", "--name", "c", "--pid", "host", "busybox", "sh", "-c", script,
        ])
        .stdout("[ID]\n")
        .run();
        rbox.args(["exec", "-d", "c", "sleep", "775"])
            .stdout("[ID]\n")
            .run();
        let deadline = Instant::now() + Duration::from_secs(20);
        while sleepers(&rbox) < 6 {
            assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
            std::thread::sleep(Duration::from_millis(5));
        }
        rbox.args(end).stdout("c\n").run();
        if end[0] == "kill" {
            rbox.args(["wait", "c"]).stdout("137\n").run();
            rbox.remove(&["c"]);
        }
        assert_eq!(sleepers(&rbox), 0, "{}", rbox.diagnostics());
    }
}

#[test]
fn procfs_of_the_host_stays_masked() {
    let rbox = Rbox::with_busybox();
    let script = "(echo x >/proc/sys/kernel/hostname) 2>&1; wc -c </proc/timer_list; \
                  (: </proc/1/environ) 2>&1; true";
    rbox.args([
        "run", "--rm", "--pid", "host", "busybox", "sh", "-c", script,
    ])
    .stdout_has("can't create /proc/sys/kernel/hostname: Read-only file system\n0\n")
    .stdout_has("can't open /proc/1/environ: Permission denied\n")
    .run();
}

#[test]
fn clocks_of_a_time_namespace_are_moved() {
    let rbox = Rbox::with_busybox();
    let offsets = "cat /proc/self/timens_offsets | tr -s ' '";
    let host = std::fs::read_link("/proc/self/ns/time").unwrap();
    rbox.args(["run", "--rm", "busybox", "readlink", "/proc/self/ns/time"])
        .stdout(format!("{}\n", host.display()))
        .run();
    for init in [&[][..], &["--init"]] {
        rbox.args([
            "run",
            "--rm",
            "--time-offset",
            "boottime=24h,monotonic=-1500ms",
        ])
        .args(init)
        .args(["busybox", "sh", "-c", offsets])
        .stdout("monotonic -2 500000000\nboottime 86400 0\n")
        .run();
    }
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--time-offset",
        "boottime=10000h",
        "busybox",
    ])
    .args(["sleep", "1000"])
    .stdout("[ID]\n")
    .run();
    let hours = |args: &[&str]| {
        let script = "cut -d. -f1 /proc/uptime";
        let text = rbox
            .args(args)
            .args(["sh", "-c", script])
            .stdout_any()
            .run()
            .stdout;
        text.trim().parse::<u64>().unwrap() / 3600
    };
    assert!(hours(&["exec", "c"]) >= 10000);
    assert!(hours(&["run", "--rm", "--timens", "container:c", "busybox"]) >= 10000);
    rbox.args([
        "run", "--rm", "--timens", "private", "busybox", "sh", "-c", offsets,
    ])
    .stdout("monotonic 0 0\nboottime 0 0\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--name",
        "d",
        "--time-offset",
        "monotonic=-99999h",
        "busybox",
        "true",
    ])
    .stderr_has(
        "Error: cannot start container \"d\": cannot move the monotonic clock by -359996400 s: ",
    )
    .status(125)
    .run();
    rbox.remove(&["c"]);
}

#[test]
fn one_id_is_enough_to_share() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("testinit");
    rbox.args([
        "run",
        "-d",
        "--name",
        "a",
        "--ipc",
        "shareable",
        "testinit",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let other = links(&rbox, &["exec", "a", "/init", "ns"]);
    let run = [
        "run",
        "--rm",
        "--init",
        "--pid",
        "container:a",
        "--ipc",
        "container:a",
        "testinit",
        "ns",
    ];
    assert_eq!(shared(&links(&rbox, &run), &other), "ipc pid user");
    rbox.remove(&["a"]);
}

#[test]
fn an_empty_mode_is_the_usual_one() {
    let rbox = Rbox::with_busybox();
    let read = |mode: &str| {
        let flags = ["--pid", "--uts", "--cgroupns", "--ipc"].map(|flag| format!("{flag}={mode}"));
        rbox.args(["run", "--rm"])
            .args(&flags)
            .args([
                "busybox",
                "sh",
                "-c",
                "for name in pid uts cgroup ipc; do readlink /proc/self/ns/$name; done",
            ])
            .stdout_any()
            .run()
            .stdout
    };
    let of_host = read("host");
    let usual = read("");
    assert_eq!(usual.lines().count(), 4, "{usual}");
    for (own, other) in usual.lines().zip(of_host.lines()) {
        assert_ne!(own, other);
    }
}

#[test]
fn the_size_of_a_shared_shm_is_not_asked_for() {
    let rbox = Rbox::with_busybox();
    for (mode, why) in [
        (
            "host",
            "/dev/shm is of the IPC namespace that the container joins",
        ),
        ("none", "with --ipc none there is no /dev/shm"),
    ] {
        rbox.args([
            "run",
            "--rm",
            "--shm-size",
            "1m",
            "--ipc",
            mode,
            "busybox",
            "true",
        ])
        .status(125)
        .stderr(format!(
            "Error: cannot create container: --shm-size=\"1048576\": {why}\n"
        ))
        .run();
    }
    rbox.args([
        "run",
        "--rm",
        "--shm-size",
        "1m",
        "--ipc",
        "shareable",
        "busybox",
    ])
    .args(["sh", "-c", "df -k /dev/shm | awk 'END { print $2 }'"])
    .stdout("1024\n")
    .run();
}
