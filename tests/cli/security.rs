//! What `run` may grant and take: capabilities, kernel parameters, hidden paths, hooks, all of it at once.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::images;
use crate::support::processes;

/// What `grep` finds in /proc/self/status of a container started with these flags.
fn status(rbox: &Rbox, flags: &[&str], pattern: &str) -> String {
    rbox.args(["run", "--rm"])
        .args(flags)
        .args(["busybox", "grep", "-E", pattern, "/proc/self/status"])
        .stdout_any()
        .run()
        .stdout
}

fn sets(inheritable: &str, effective: &str, bounding: &str) -> String {
    format!(
        "CapInh:\t{inheritable}\nCapPrm:\t{effective}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\nCapAmb:\t{inheritable}\n"
    )
}

const NONE: &str = "0000000000000000";

#[test]
fn capabilities_are_added_and_dropped() {
    let rbox = Rbox::with_busybox();
    let usual = 0xa804_25fb_u64;
    let hex = |bits: u64| format!("{bits:016x}");
    let (chown, net_admin, sys_time) = (1, 1 << 12, 1 << 25);
    for (flags, expected) in [
        (
            &["--cap-add", "net_admin,CAP_SYS_TIME", "--cap-drop=chown"][..],
            hex((usual | net_admin | sys_time) & !chown),
        ),
        (&["--cap-drop", "all"], NONE.to_owned()),
        (&["--cap-drop", "all", "--cap-add", "Chown"], hex(chown)),
        (
            &["--cap-add", "all", "--cap-drop", "CHOWN"],
            hex(0x1ff_ffff_ffff & !chown),
        ),
    ] {
        assert_eq!(
            status(&rbox, flags, "Cap"),
            sets(NONE, &expected, &expected),
            "{flags:?}"
        );
    }
}

/// As in Podman: what was added by name reaches another user than root too, and nothing else does.
#[test]
fn another_user_has_added_capabilities_alone() {
    let rbox = Rbox::with_busybox();
    let added = "0000000000001000";
    let bounding = "00000000a80435fb";
    assert_eq!(
        status(&rbox, &["--cap-add=NET_ADMIN", "-u", "1000"], "Cap"),
        sets(added, added, bounding)
    );
    let locked = [
        "--security-opt=no-new-privileges",
        "--cap-add=NET_ADMIN",
        "-u",
        "1000",
    ];
    assert_eq!(status(&rbox, &locked, "Cap"), sets(added, added, bounding));
    assert_eq!(
        status(&rbox, &["-u", "1000"], "Cap"),
        sets(NONE, NONE, "00000000a80425fb")
    );
}

#[test]
fn a_privileged_container_has_all_and_nothing_is_hidden() {
    let rbox = Rbox::with_busybox();
    let all = "000001ffffffffff";
    assert_eq!(
        status(&rbox, &["--privileged"], "Cap|^Seccomp:|NoNewPrivs"),
        format!("{}NoNewPrivs:\t0\nSeccomp:\t0\n", sets(NONE, all, all))
    );
    rbox.args(["run", "--rm", "--privileged", "busybox", "sh", "-c"])
        .arg("grep -c ' /proc/' /proc/self/mounts; mkdir -p /m && mount -t tmpfs x /m && echo mounted")
        .stdout("0\nmounted\n")
        .run();
    // The host's devices, as far as they are any: /dev/fuse is in no other container.
    let fuse = std::path::Path::new("/dev/fuse").exists();
    for (flags, expected) in [(&["--privileged"][..], fuse), (&[], false)] {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "sh", "-c", "test -c /dev/fuse && echo there"])
            .stdout(if expected { "there\n" } else { "" })
            .status(i32::from(!expected))
            .run();
    }
}

#[test]
fn kernel_parameters_are_the_containers_own() {
    let rbox = Rbox::with_busybox();
    let before = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    rbox.args(["run", "--rm", "--sysctl", "net.core.somaxconn=77"])
        .args(["--sysctl", "kernel/msgmax=9999", "--sysctl"])
        .args(["kernel.domainname=example", "busybox", "sh", "-c"])
        .arg("cd /proc/sys; cat net/core/somaxconn kernel/msgmax kernel/domainname")
        .stdout("77\n9999\nexample\n")
        .run();
    let after = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    assert_eq!(before, after);
}

#[test]
fn kernel_parameters_of_the_machine_are_refused() {
    let rbox = Rbox::with_busybox();
    let own = "Hint: a container has its own net.*, fs.mqueue.*, kernel.domainname, kernel.msg*, kernel.sem and kernel.shm*\n";
    rbox.args(["run", "--sysctl", "vm.swappiness=1", "busybox", "true"])
        .stderr(format!(
            "Error: cannot create container: --sysctl vm.swappiness belongs to the whole machine, not to a container\n{own}"
        ))
        .status(125)
        .run();
    rbox.args(["run", "--network", "host", "--sysctl", "net.core.somaxconn=1"])
        .args(["busybox", "true"])
        .stderr(
            "Error: cannot create container: --sysctl net.core.somaxconn would change the host's network, which the \
             container shares\nHint: leave `--network host` away, or set it on the host with `sysctl -w`\n",
        )
        .status(125)
        .run();
    rbox.args(["run", "--name", "c", "--sysctl", "net.core.nosuch=1"])
        .args(["busybox", "true"])
        .stderr(
            "Error: cannot start container \"c\": cannot set kernel parameter net.core.nosuch: cannot write \"1\" to \
             /proc/sys/net/core/nosuch: No such file or directory (os error 2)\n",
        )
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

/// What is meant for the kernel must not go where a file system of the container's is (CVE-2025-52881).
#[test]
fn kernel_parameters_are_not_redirected_by_a_mount() {
    let rbox = Rbox::with_busybox();
    let fake = rbox.work("fake");
    std::fs::create_dir_all(fake.join("net/core")).unwrap();
    let file = fake.join("net/core/somaxconn");
    std::fs::write(&file, "untouched").unwrap();
    rbox.own(&fake);
    rbox.own(&file);
    rbox.args(["run", "--rm", "--sysctl", "net.core.somaxconn=77", "-v"])
        .arg(format!("{}:/proc/sys", fake.display()))
        .args(["busybox", "cat", "/proc/sys/net/core/somaxconn"])
        .stdout("untouched")
        .run();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "untouched");
}

#[test]
fn paths_are_hidden_and_uncovered() {
    let rbox = Rbox::with_busybox();
    let read_only = |flags: &[&str]| {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "sh", "-c"])
            .arg("grep -oE ' /proc/[a-z-]+ [a-z]+ [a-z]+' /proc/self/mounts | grep ' ro' | cut -d' ' -f2")
            .stdout_any()
            .status_any()
            .run()
            .stdout
    };
    let usual = read_only(&[]);
    for path in ["/proc/sys\n", "/proc/bus\n", "/proc/irq\n"] {
        assert!(usual.contains(path), "{usual}");
    }
    let uncovered = read_only(&["--security-opt", "unmask=/proc/s*:/proc/bus"]);
    assert!(!uncovered.contains("/proc/sys\n") && !uncovered.contains("/proc/bus\n"));
    assert!(uncovered.contains("/proc/irq\n"), "{uncovered}");
    assert_eq!(read_only(&["--security-opt", "unmask=ALL"]), "");
    assert_eq!(read_only(&["--security-opt", "systempaths=unconfined"]), "");
    rbox.args([
        "run",
        "--rm",
        "--security-opt",
        "mask=/etc/passwd:/etc/group",
    ])
    .args(["busybox", "sh", "-c", "wc -c < /etc/passwd; true"])
    .stdout("0\n")
    .run();
    rbox.args(["run", "--rm", "--security-opt", "proc-opts=hidepid=2,gid=0"])
        .args([
            "busybox",
            "grep",
            "-m1",
            "-o",
            "hidepid=[a-z]*",
            "/proc/self/mounts",
        ])
        .stdout("hidepid=invisible\n")
        .run();
}

#[test]
fn labels_of_security_modules_that_are_not_there_are_refused() {
    let rbox = Rbox::with_busybox();
    for option in [
        "apparmor=unconfined",
        "label=disable",
        "no-new-privileges=false",
    ] {
        rbox.args(["run", "--rm", "--security-opt", option, "busybox", "true"])
            .run();
    }
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        rbox.args(["run", "--security-opt", "apparmor=x", "busybox", "true"])
            .stderr("Error: cannot create container: --security-opt apparmor=x: this host has no AppArmor\n")
            .status(125)
            .run();
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        rbox.args(["run", "--security-opt", "label=type:x", "busybox", "true"])
            .stderr(
                "Error: cannot create container: --security-opt label: this host has no SELinux\n\
                 Hint: only `--security-opt label=disable` means something here\n",
            )
            .status(125)
            .run();
    }
}

#[test]
fn wrong_values_are_quoted() {
    let rbox = Rbox::with_busybox();
    let usage = "Hint: `rbox run --help` tells what there is\n";
    for (flag, value, why) in [
        (
            "--cap-add",
            "NET",
            "expected a capability such as NET_ADMIN, or ALL (capabilities(7))",
        ),
        (
            "--sysctl",
            "net.core",
            "expected NAME=VALUE, such as net.core.somaxconn=1024",
        ),
        (
            "--security-opt",
            "colour=red",
            "expected no-new-privileges, seccomp=, apparmor=, label=, mask=, unmask=, proc-opts=, root-emulation= or systempaths=unconfined",
        ),
        (
            "--security-opt",
            "mask=etc",
            "\"etc\" is no absolute path: expected paths with colons in between",
        ),
        (
            "--security-opt",
            "proc-opts=hidepid=7",
            "\"hidepid=7\" is no option of procfs: expected hidepid=, gid=, subset=pid or ro",
        ),
        ("--hooks-dir", "/nowhere", "expected a directory"),
    ] {
        rbox.args(["run", flag, value, "busybox", "true"])
            .stderr(format!("Error: {flag}=\"{value}\": {why}\n{usage}"))
            .status(125)
            .run();
    }
    rbox.args([
        "run",
        "--cap-add=KILL",
        "--cap-drop=kill",
        "busybox",
        "true",
    ])
    .stderr(
        "Error: cannot create container: capability CAP_KILL cannot be added and dropped at once\n",
    )
    .status(125)
    .run();
    rbox.args([
        "run",
        "--sysctl=net.a=1",
        "--sysctl=net.a=2",
        "busybox",
        "true",
    ])
    .stderr("Error: --sysctl sets net.a to \"1\" and to \"2\"\n")
    .status(125)
    .run();
    rbox.args(["ps", "-aq"]).run();
}

/// A hook that writes a line for each stage into `log` of the test's directory.
fn hook(rbox: &Rbox, name: &str, stages: &str, script: &str, when: &str) {
    let dir = rbox.work("hooks");
    std::fs::create_dir_all(&dir).unwrap();
    rbox.own(&dir);
    let json = format!(
        r#"{{"version":"1.0.0","hook":{{"path":"/bin/sh","args":["sh","-c",{script:?}],"timeout":2}},"when":{when},"stages":{stages}}}"#
    );
    rbox.write(&format!("hooks/{name}.json"), json);
}

#[test]
fn hooks_run_at_their_stages_with_the_state() {
    let rbox = Rbox::with_busybox();
    let log = rbox.work("log");
    let script = format!(
        "grep -oE '\"status\":\"[a-z]*\"|\"pid\":[0-9]' | tr '\\n' ' ' >> {0}; echo >> {0}",
        log.display()
    );
    let stages = r#"["prestart","createRuntime","createContainer","poststart","poststop"]"#;
    hook(&rbox, "all", stages, &script, r#"{"always":true}"#);
    hook(
        &rbox,
        "never",
        stages,
        "exit 1",
        r#"{"commands":["^/nowhere$"]}"#,
    );
    let dir = rbox.work("hooks");
    rbox.args(["run", "--rm", "--hooks-dir"])
        .arg(&dir)
        .args(["busybox", "echo", "ran"])
        .stdout("ran\n")
        .run();
    let text = std::fs::read_to_string(&log).unwrap();
    let seen: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split(&[' ', ','][..]).collect())
        .collect();
    let status: Vec<&str> = seen.iter().map(|words| words[0]).collect();
    let creating = "\"status\":\"creating\"";
    assert_eq!(
        status,
        [
            creating,
            creating,
            creating,
            "\"status\":\"running\"",
            "\"status\":\"stopped\""
        ],
        "{text}"
    );
}

#[test]
fn a_hook_that_fails_or_hangs_stops_the_container() {
    let rbox = Rbox::with_busybox();
    let always = r#"{"always":true}"#;
    let dir = rbox.work("hooks");
    for (stage, script, why) in [
        ("prestart", "echo no; exit 3", "it ended with status 3: no"),
        ("createRuntime", "exit 4", "it ended with status 4"),
        ("createContainer", "sleep 60", "it did not end within 2 s"),
        // This one is looked up in the container.
        ("startContainer", "exit 5", "it ended with status 5"),
    ] {
        hook(&rbox, "bad", &format!("[{stage:?}]"), script, always);
        rbox.args(["run", "--name", "c", "--hooks-dir"])
            .arg(&dir)
            .args(["busybox", "echo", "never"])
            .stderr(format!(
                "Error: cannot start container \"c\": cannot run {stage} hook /bin/sh: {why}\n"
            ))
            .status(125)
            .run();
        rbox.remove(&["c"]);
    }
    // What comes too late to stop anything is told in the log.
    hook(&rbox, "bad", r#"["poststart"]"#, "exit 6", always);
    rbox.args(["run", "--name", "c", "--hooks-dir"])
        .arg(&dir)
        .args(["busybox", "true"])
        .run();
    rbox.args(["logs", "c"])
        .stderr("rbox: cannot run poststart hook /bin/sh: it ended with status 6\n")
        .run();
    rbox.remove(&["c"]);
    rbox.write("hooks/bad.json", "{}");
    rbox.args(["run", "--name", "c", "--hooks-dir"])
        .arg(&dir)
        .args(["busybox", "true"])
        .stderr("Error: cannot start container \"c\": cannot use hook [DIR]/work/hooks/bad.json: missing field `version` at line 1 column 2\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

/// The helper that reads a hostile layer has no way out of it: seen while it is at work.
#[test]
fn the_unpacker_is_confined() {
    let rbox = Rbox::new();
    let load = rbox
        .args(["load", "-i"])
        .arg(&images::get("debian").oci_archive)
        .stdout("Loaded image: localhost/debian:latest\n")
        .spawn();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let read = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let unpacker = processes::of(rbox.dir()).into_iter().find(|process| {
            read(process.pid, "cmdline").is_ok_and(|line| line.contains("\0unpack\0extract\0"))
        });
        let status = unpacker.map(|process| read(process.pid, "status").unwrap_or_default());
        match status {
            Some(status) if status.contains("Seccomp:\t2") => break status,
            status => assert!(Instant::now() < deadline, "{status:?}"),
        }
    };
    load.wait();
    for line in [
        "NoNewPrivs:\t1",
        "CapInh:\t0000000000000000",
        // chown, dac_override, fowner, fsetid, setfcap
        "CapEff:\t000000008000001b",
        "CapPrm:\t000000008000001b",
    ] {
        assert!(
            status.lines().any(|found| found == line),
            "{line}\n{status}"
        );
    }
}
