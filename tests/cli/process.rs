//! The surroundings of the command: environment, limits, init, descriptors, files of /etc.
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Tar;
use crate::support::hostile::Image;
use crate::support::net::gateway;
use crate::support::net::private;

/// An image with these variables besides `PATH=/bin`.
fn image_with(rbox: &Rbox, env: &[&str]) {
    let mut all = vec!["PATH=/bin"];
    all.extend(env);
    Image::busybox().with(json!({ "Env": all })).load(rbox);
}

const UNSET: [&str; 6] = [
    "--unsetenv",
    "HOME",
    "--unsetenv",
    "HOSTNAME",
    "--unsetenv",
    "container",
];

#[test]
fn variables_of_files_flags_and_host() {
    let rbox = Rbox::new();
    image_with(&rbox, &["A=image", "B=image"]);
    let file = rbox.write(
        "env",
        "# note\n\nA=file\n  Q=\"a # b\"\nGIVEN\nABSENT\nMORE_*\n",
    );
    rbox.args(["run", "--rm", "--env-file"])
        .arg(&file)
        .args(["-e", "C=flag", "-e", "A=flag", "-e", "GIVEN", "-e", "NONE"])
        .args(UNSET)
        .args(["odd", "env"])
        .env("GIVEN", "g")
        .env("MORE_1", "1")
        .env("MORE_2", "2")
        .stdout("PATH=/bin\nA=flag\nB=image\nQ=\"a # b\"\nGIVEN=g\nMORE_1=1\nMORE_2=2\nC=flag\n")
        .run();
    rbox.args([
        "run",
        "--rm",
        "--unsetenv-all",
        "-e",
        "A=1",
        "odd",
        "/bin/env",
    ])
    .stdout("A=1\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--unsetenv",
        "A",
        "--env-merge",
        "B=${B}:$A:$NO",
    ])
    .args(UNSET)
    .args(["odd", "env"])
    .stdout("PATH=/bin\nB=image:image:\n")
    .run();
    rbox.args(["run", "--rm", "--env-host", "odd", "env"])
        .env("GIVEN", "g")
        .env("A", "host")
        .stdout_has("GIVEN=g\n")
        .stdout_has("A=image\n")
        .stdout_has("PATH=/bin\n")
        .run();
}

#[test]
fn proxies_of_the_host_are_passed_on_unless_told_otherwise() {
    let rbox = Rbox::new();
    image_with(&rbox, &["no_proxy=image"]);
    let run = |flag: &[&str], stdout: &str| {
        rbox.args(["run", "--rm"])
            .args(flag)
            .args(UNSET)
            .args(["odd", "env"])
            .env("http_proxy", "http://proxy")
            .env("HTTPS_PROXY", "https://proxy")
            .env("no_proxy", "host")
            .env("all_proxy", "x")
            .stdout(stdout)
            .run();
    };
    let passed = "http_proxy=http://proxy\nHTTPS_PROXY=https://proxy\nno_proxy=image\nPATH=/bin\n";
    run(&[], passed);
    run(&["--http-proxy"], passed);
    run(&["--http-proxy=false"], "PATH=/bin\nno_proxy=image\n");
}

/// CVE-2020-14370, CVE-2021-3602, CVE-2026-57231: an image named variables of the host.
#[test]
fn cve_2020_14370_an_image_gets_no_variable_of_the_host() {
    let rbox = Rbox::new();
    let env = ["PATH=/bin", "SECRET", "S*", "*", "=x", "A=${SECRET}$SECRET"];
    let archive = Image::busybox().with(json!({ "Env": env })).save(&rbox);
    // Neither when it is loaded nor when it is used.
    rbox.args(["load", "-q", "-i"])
        .arg(archive)
        .env("SECRET", "x")
        .stdout_any()
        .run();
    let secret = |args: &[&str], stdout: &str| {
        rbox.args(args).env("SECRET", "x").stdout(stdout).run();
    };
    let run = [&["run", "--rm"][..], &UNSET, &["odd", "env"]].concat();
    secret(&run, "PATH=/bin\nA=${SECRET}$SECRET\n");
    let own = [&["run", "--rm", "-e", "S*"][..], &UNSET, &["odd", "env"]].concat();
    secret(&own, "PATH=/bin\nA=${SECRET}$SECRET\nSECRET=x\n");
    rbox.args(["run", "-d", "--name", "c", "odd", "sleep", "1000"])
        .env("SECRET", "x")
        .stdout("[ID]\n")
        .run();
    let exec = rbox
        .args(["exec", "c", "env"])
        .env("SECRET", "x")
        .stdout_any()
        .run();
    assert!(!exec.stdout.contains("SECRET=x"), "{}", exec.stdout);
    let inspected = rbox.args(["inspect", "c"]).stdout_any().run().stdout;
    assert!(!inspected.contains("SECRET=x"), "{inspected}");
    rbox.remove(&["c"]);
}

#[test]
fn exec_takes_files_of_variables_all_capabilities_and_the_last_container() {
    let rbox = Rbox::with_testinit();
    let file = rbox.write("env", "A=file\nB=file\n");
    let cid = rbox.work("cid");
    rbox.args(["run", "-d", "--name", "c", "--unsetenv-all", "--cidfile"])
        .arg(&cid)
        .args(["testinit", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exec", "--env-file"])
        .arg(&file)
        .args(["-e", "B=flag", "c", "/init", "env"])
        .stdout("A=file\nB=flag\n")
        .run();
    rbox.args(["exec", "-l", "/init", "echo", "latest"])
        .stdout("latest\n")
        .run();
    rbox.args(["exec", "--no-session", "--cidfile"])
        .arg(&cid)
        .args(["/init", "echo", "by", "id"])
        .stdout("by id\n")
        .run();
    let all = rbox
        .args(["exec", "--privileged", "c", "/init", "id"])
        .stdout_any()
        .run()
        .stdout;
    assert!(!all.contains("CapEff 00000000a80425fb"), "{all}");
    assert!(all.contains("CapEff 000001ff"), "{all}");
    rbox.args(["exec", "-l"])
        .stderr_has("Error: ")
        .status(125)
        .run();
    rbox.args(["exec", "c"])
        .stderr_has("Error: missing COMMAND\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
    assert!(!cid.exists(), "it goes with the container");
}

#[test]
fn limits_are_the_commands() {
    let rbox = Rbox::with_busybox();
    let limits = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0,cpu=77:78",
        "--oom-score-adj",
        "321",
        "--personality",
        "LINUX32",
    ];
    let script = "ulimit -n; ulimit -Hn; ulimit -c; ulimit -t; ulimit -Ht; \
                  cat /proc/self/oom_score_adj; uname -m";
    let expected = "100\n200\n0\n77\n78\n321\ni686\n";
    rbox.args(["run", "--rm"])
        .args(limits)
        .args(["busybox", "sh", "-c", script])
        .stdout(expected)
        .run();
    rbox.args(["run", "-d", "--name", "c", "--init"])
        .args(limits)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exec", "c", "sh", "-c", script])
        .stdout(expected)
        .run();
    rbox.remove(&["c"]);
    let host = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rbox.args([
        "run",
        "--rm",
        "--ulimit",
        "host",
        "busybox",
        "sh",
        "-c",
        "ulimit -Hn",
    ])
    .stdout(format!("{}\n", host.maximum.unwrap()))
    .run();
}

#[test]
fn a_limit_above_the_hosts_is_refused_before_anything_is_made() {
    let rbox = Rbox::with_busybox();
    let script = format!(
        "ulimit -n 300; exec {} run --name c --ulimit nofile=200:400 busybox true",
        rbox.program_path().display()
    );
    rbox.program("sh")
        .args(["-c", &script])
        .stderr(
            "Error: cannot create container \"c\": cannot raise ulimit nofile to 400: \
             the host's hard limit is 300\n",
        )
        .status(125)
        .run();
    rbox.args([
        "run",
        "--name",
        "c",
        "--oom-score-adj",
        "-999",
        "busybox",
        "true",
    ])
    .stderr_has("cannot set the OOM score to -999: you may not go below what you have, ")
    .status(125)
    .run();
    rbox.args([
        "run",
        "--name",
        "c",
        "--rdt-class",
        "gold",
        "busybox",
        "true",
    ])
    .stderr_has("cannot use RDT class \"gold\": ")
    .status(125)
    .run();
    rbox.args(["ps", "-aq"]).stdout("").run();
}

#[test]
fn a_container_is_killed_when_its_time_is_over() {
    let rbox = Rbox::with_busybox();
    let begin = Instant::now();
    rbox.args(["run", "--rm", "--timeout", "1", "busybox", "sleep", "1000"])
        .status(137)
        .run();
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    rbox.args(["run", "--rm", "--timeout", "0", "busybox", "sleep", "1.2"])
        .run();
}

#[test]
fn init_reaps_forwards_and_ends_as_the_command() {
    let rbox = Rbox::with_testinit();
    for (args, status) in [
        (&["exit", "7"][..], 7),
        (&["signal", "9"], 137),
        (&["signal", "15"], 143),
    ] {
        rbox.args(["run", "--rm", "--init", "testinit"])
            .args(args)
            .status(status)
            .run();
    }
    rbox.args([
        "run",
        "--rm",
        "--init",
        "--entrypoint",
        "/nosuch",
        "testinit",
    ])
    .stderr_has("cannot execute \"/nosuch\": No such file or directory")
    .status(127)
    .run();
    let trap = rbox
        .args(["run", "--rm", "--init", "--name", "c", "testinit", "trap"])
        .stdout("ready\nsignal 1\nsignal 10\nlast signal 15\n")
        .status(7)
        .spawn();
    trap.wait_for("ready\n");
    for (signal, heard) in [("HUP", "signal 1\n"), ("USR1", "signal 10\n")] {
        rbox.args(["kill", "-s", signal, "c"]).stdout("c\n").run();
        trap.wait_for(heard);
    }
    rbox.args(["stop", "c"]).stdout("c\n").run();
    trap.wait();
    rbox.load("busybox");
    let script = "
        (sleep 0.01 &) ; (sleep 0.02 &) ; sleep 0.3
        grep -l '^State:.Z' /proc/[0-9]*/status
        head -c 12 /proc/1/cmdline; echo; echo $$";
    rbox.args(["run", "--rm", "--init", "busybox", "sh", "-c", script])
        .stdout("rbox-init --\n2\n")
        .run();
    // Orphans of a container that shares a process namespace come to the init of their own.
    rbox.args(["run", "-d", "--name", "a", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "run",
        "--rm",
        "--init",
        "--pid",
        "container:a",
        "busybox",
        "sh",
        "-c",
    ])
    .arg("(sleep 0.01 &); sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status; echo done")
    .stdout("done\n")
    .run();
    rbox.remove(&["a"]);
}

#[test]
fn descriptors_are_passed_on_when_asked() {
    let rbox = Rbox::with_testinit();
    let rest = "0 char 1:3\n1 pipe\n2 pipe\n";
    let run = |redirect: &str, call: &str, stdout: &str| {
        let script = format!(
            "exec {redirect}; exec {} {call}",
            rbox.program_path().display()
        );
        rbox.program("sh")
            .args(["-c", &script])
            .stdout(stdout)
            .run();
    };
    let files = "3</etc/passwd 4</dev/zero 9</etc/group 7</etc/hosts";
    for init in ["", "--init "] {
        run(
            files,
            &format!("run --rm {init}--preserve-fds 2 testinit fds"),
            &format!("{rest}3 /etc/passwd\n4 char 1:5\n"),
        );
    }
    run(
        files,
        "run --rm --preserve-fd 9,7 testinit fds",
        &format!("{rest}7 /etc/hosts\n9 /etc/group\n"),
    );
    rbox.args(["run", "-d", "--name", "c", "testinit", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    run(
        files,
        "exec --preserve-fds 1 --preserve-fd 9 c /init fds",
        &format!("{rest}3 /etc/passwd\n9 /etc/group\n"),
    );
    rbox.remove(&["c"]);
    // A pipe ends with the container: the supervisor holds no end of it.
    run(
        "3>&1 >/dev/null",
        "run -d --preserve-fds 1 testinit exit 0",
        "",
    );
    rbox.args(["rm", "-f", "-l"])
        .stdout_any()
        .stderr_any()
        .status_any()
        .run();
    let all = rbox.args(["ps", "-aq"]).stdout_any().run().stdout;
    for id in all.lines() {
        rbox.remove(&[id]);
    }
}

#[test]
fn files_of_etc_say_what_was_asked() {
    let rbox = Rbox::with_busybox();
    let base = rbox.write("hosts", "10.0.0.9 nine");
    let base = base.to_str().unwrap();
    let ip = gateway();
    let own = format!("{}\th c\n", private(100));
    let gateway = format!("{ip}\thost.containers.internal host.docker.internal\n");
    let local =
        "127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n";
    let cat = |flags: &[&str], file: &str, expected: &str| {
        rbox.args(["run", "--rm", "--name", "c", "--hostname", "h"])
            .args(flags)
            .args(["busybox", "cat", file])
            .stdout(expected)
            .run();
    };
    let hosts = |flags: &[&str], expected: &str| cat(flags, "/etc/hosts", expected);
    hosts(&[], &format!("{local}{own}{gateway}"));
    let none = ["--network", "none"];
    hosts(&none, &format!("{local}127.0.1.1\th c\n"));
    hosts(
        &["--add-host", "up:host-gateway"],
        &format!("{ip}\tup\n{local}{own}{gateway}"),
    );
    hosts(
        &["--add-host", "db;db.x:10.0.0.1", "--add-host", "six:[::2]"],
        &format!("10.0.0.1\tdb db.x\n::2\tsix\n{local}{own}{gateway}"),
    );
    hosts(
        &["--hosts-file", base],
        &format!("10.0.0.9 nine\n{own}{gateway}"),
    );
    hosts(&["--hosts-file", "none"], &own);
    let resolv = |flags: &[&str], expected: &str| cat(flags, "/etc/resolv.conf", expected);
    resolv(&none, "");
    resolv(
        &[
            "--dns",
            "1.1.1.1,::2",
            "--dns-search",
            "a.b",
            "--dns-option",
            "ndots:2",
        ],
        "search a.b\nnameserver 1.1.1.1\nnameserver ::2\noptions ndots:2\n",
    );
    resolv(
        &["--network", "none", "--dns", "1.1.1.1", "--dns-search", "."],
        "nameserver 1.1.1.1\n",
    );
    cat(&[], "/etc/hostname", "h\n");
    rbox.args([
        "run",
        "--rm",
        "--network",
        "host",
        "--add-host",
        "up:host-gateway",
    ])
    .args(["busybox", "head", "-1", "/etc/hosts"])
    .stdout("127.0.0.1\tup\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--network",
        "none",
        "--add-host",
        "up:host-gateway",
        "busybox",
    ])
    .stderr("Error: cannot create container: --add-host=\"up:host-gateway\": with --network none no address leads to the host\n")
    .status(125)
    .run();
}

#[test]
fn files_of_etc_are_left_to_the_image_when_asked() {
    let rbox = Rbox::new();
    Image::busybox()
        .layer(
            Tar::default()
                .file("etc/hosts", 0o644, b"1.2.3.4 image\n")
                .file("etc/hostname", 0o644, b"image\n")
                .file("etc/resolv.conf", 0o644, b"nameserver 9.9.9.9\n"),
        )
        .load(&rbox);
    rbox.args([
        "run",
        "--rm",
        "--no-hosts",
        "--no-hostname",
        "--dns",
        "none",
        "odd",
    ])
    .args(["cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"])
    .stdout("1.2.3.4 image\nimage\nnameserver 9.9.9.9\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--hosts-file",
        "image",
        "--hostname",
        "h",
        "--name",
        "c",
    ])
    .args(["odd", "cat", "/etc/hosts"])
    .stdout(format!(
        "1.2.3.4 image\n{}\th c\n{}\thost.containers.internal host.docker.internal\n",
        private(100),
        gateway()
    ))
    .run();
}

/// The link of most images leads to the file of another zone, which must stay what it is.
#[test]
fn a_time_zone_is_put_over_a_link_and_not_over_what_it_leads_to() {
    let rbox = Rbox::new();
    let canary = "the file of another zone";
    Image::busybox()
        .layer(
            Tar::default()
                .symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
                .file("usr/share/zoneinfo/Etc/UTC", 0o644, canary.as_bytes()),
        )
        .load(&rbox);
    let script = "/bin/busybox date -d @0 +%H:%M; head -c 4 /etc/localtime; echo; \
                  cat /usr/share/zoneinfo/Etc/UTC";
    let script = script.replace("head", "/bin/busybox head");
    rbox.args([
        "run",
        "--rm",
        "--tz",
        "Asia/Tokyo",
        "odd",
        "sh",
        "-c",
        &script,
    ])
    .stdout(format!("09:00\nTZif\n{canary}"))
    .run();
    rbox.args([
        "run",
        "--rm",
        "--tz",
        "local",
        "odd",
        "sh",
        "-c",
        "/bin/busybox date -d @0 +%Z",
    ])
    .stdout("UTC\n")
    .run();
}

#[test]
fn pids_and_ids_are_written_and_removed() {
    let rbox = Rbox::with_busybox();
    let (cid, pid, supervisor) = (rbox.work("cid"), rbox.work("pid"), rbox.work("sup"));
    let id = rbox
        .args(["run", "-d", "--name", "c", "--cidfile"])
        .arg(&cid)
        .arg("--pidfile")
        .arg(&pid)
        .arg("--conmon-pidfile")
        .arg(&supervisor)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    assert_eq!(std::fs::read_to_string(&cid).unwrap(), id.stdout.trim());
    let init = std::fs::read_to_string(&pid).unwrap();
    rbox.args(["inspect", "-f", "{{.State.Pid}}", "c"])
        .stdout(format!("{init}\n"))
        .run();
    let supervisor_pid = std::fs::read_to_string(&supervisor).unwrap();
    let name = std::fs::read_to_string(format!("/proc/{supervisor_pid}/comm")).unwrap();
    assert_eq!(name, "rbox: c\n");
    rbox.args(["run", "--name", "d", "--cidfile"])
        .arg(&cid)
        .args(["busybox", "true"])
        .stderr(format!(
            "Error: cannot create container \"d\": cannot write the id to {}: File exists (os error 17)\n",
            cid.display().to_string().replace(rbox.dir().to_str().unwrap(), "[DIR]")
        ))
        .status(125)
        .run();
    // Names of rbox's own choice are tried until one is free, which would not help here.
    for path in [cid.clone(), rbox.work("no/dir")] {
        rbox.args(["run", "--rm", "--cidfile"])
            .arg(&path)
            .args(["busybox", "true"])
            .stderr_has("cannot write the id to ")
            .status(125)
            .run();
    }
    rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
    assert!(cid.exists());
    assert!(!pid.exists() && !supervisor.exists());
    rbox.remove(&["c"]);
    assert!(!cid.exists());
}

#[test]
fn labels_and_annotations() {
    let rbox = Rbox::with_busybox();
    let file = rbox.write("labels", "# note\na=file\nb=file=x\nc\n");
    rbox.args(["create", "--name", "c", "--label-file"])
        .arg(&file)
        .args([
            "-l",
            "a=flag",
            "--annotation",
            "org.x=1",
            "--annotation",
            "y=",
        ])
        .args(["busybox"])
        .stdout("[ID]\n")
        .run();
    let show = "{{json .Config.Labels}} {{json .Config.Annotations}}";
    rbox.args(["inspect", "-f", show, "c"])
        .stdout("{\"a\":\"flag\",\"b\":\"file=x\",\"c\":\"\"} {\"org.x\":\"1\",\"y\":\"\"}\n")
        .run();
    rbox.remove(&["c"]);
}

#[expect(clippy::too_many_lines, reason = "a table of values")]
#[test]
fn malformed_values_are_quoted_and_nothing_is_made() {
    let rbox = Rbox::with_busybox();
    let bad = rbox.write("bad", "A=1\nB C=2\n");
    let bad = bad.to_str().unwrap();
    for (flag, value, why) in [
        ("-e", "=x", "--env=\"=x\": expected NAME=VALUE or NAME"),
        ("--env-merge", "A", "--env-merge=\"A\": expected NAME=VALUE"),
        (
            "--unsetenv",
            "A=1",
            "--unsetenv=\"A=1\": expected the name of a variable",
        ),
        (
            "--env-file",
            "/nonexistent",
            "--env-file=\"/nonexistent\": No such file or directory (os error 2)",
        ),
        (
            "--ulimit",
            "files=1",
            "--ulimit=\"files=1\": no limit is called \"files\": expected one of as, core",
        ),
        (
            "--ulimit",
            "core=2:1",
            "--ulimit=\"core=2:1\": the soft limit is above the hard one",
        ),
        (
            "--ulimit",
            "core=x",
            "--ulimit=\"core=x\": \"x\" is no limit: expected a number, -1 or unlimited",
        ),
        (
            "--oom-score-adj",
            "1001",
            "--oom-score-adj=\"1001\": expected a number from -1000 to 1000",
        ),
        (
            "--personality",
            "linux",
            "--personality=\"linux\": expected LINUX or LINUX32",
        ),
        ("--timeout", "-1", "--timeout"),
        (
            "--timeout",
            "x",
            "--timeout=\"x\": expected a whole number, not negative",
        ),
        (
            "--preserve-fd",
            "2",
            "--preserve-fd=\"2\": expected the number of an open descriptor, from 3 on",
        ),
        (
            "--preserve-fd",
            "77",
            "--preserve-fd=\"77\": it is not open",
        ),
        (
            "--preserve-fds",
            "9",
            "--preserve-fds=\"9\": descriptor 3 is not open",
        ),
        (
            "--rdt-class",
            "../x",
            "--rdt-class=\"../x\": expected the name of a directory in /sys/fs/resctrl",
        ),
        (
            "--tz",
            "../etc/passwd",
            "--tz=\"../etc/passwd\": expected a time zone as Europe/Berlin, or local",
        ),
        (
            "--tz",
            "Moon/Base",
            "--tz=\"Moon/Base\": the host has no such time zone (/usr/share/zoneinfo/Moon/Base)",
        ),
        (
            "--add-host",
            "db",
            "--add-host=\"db\": expected NAME:ADDRESS",
        ),
        (
            "--add-host",
            "db:1.2",
            "--add-host=\"db:1.2\": \"1.2\" is no IP address, nor host-gateway",
        ),
        (
            "--dns",
            "one",
            "--dns=\"one\": expected an IP address, or none",
        ),
        (
            "--dns-search",
            "a b",
            "--dns-search=\"a b\": expected a domain name, or . for none",
        ),
        (
            "--hosts-file",
            "x",
            "--hosts-file=\"x\": expected an absolute path, image or none",
        ),
        (
            "--hosts-file",
            "/nonexistent",
            "--hosts-file=\"/nonexistent\": No such file or directory (os error 2)",
        ),
        (
            "--annotation",
            "x",
            "--annotation=\"x\": expected KEY=VALUE",
        ),
        (
            "--label-file",
            "/nonexistent",
            "--label-file=\"/nonexistent\": No such file or directory (os error 2)",
        ),
        (
            "--init-path",
            "/x",
            "--init-path=\"/x\": the init of rbox is part of rbox",
        ),
        (
            "--pid",
            "private:x",
            "--pid=\"private:x\": expected private, host, container:NAME or ns:PATH",
        ),
        (
            "--ipc",
            "container:",
            "--ipc=\"container:\": expected private, shareable, none, host, container:NAME or ns:PATH",
        ),
        (
            "--uts",
            "pod",
            "--uts=\"pod\": expected private, host, container:NAME or ns:PATH",
        ),
        (
            "--cgroupns",
            "x",
            "--cgroupns=\"x\": expected private, host, container:NAME or ns:PATH",
        ),
        (
            "--timens",
            "x",
            "--timens=\"x\": expected private, host, container:NAME or ns:PATH",
        ),
        (
            "--time-offset",
            "realtime=1s",
            "--time-offset=\"realtime=1s\": expected monotonic=DURATION or boottime=DURATION",
        ),
        ("--network", "ns:", "--network=\"ns:\": "),
        (
            "--pid",
            "container:nosuch",
            "no container with name or id \"nosuch\"",
        ),
    ] {
        let stderr = rbox
            .args(["run", "--name", "c", flag, value, "busybox", "true"])
            .stderr_any()
            .status(125)
            .run()
            .stderr;
        let line = stderr.lines().next().unwrap();
        assert!(
            line.starts_with("Error: ") && line.contains(why),
            "{why}: {stderr}"
        );
    }
    rbox.args(["run", "--env-file", bad, "busybox", "true"])
        .stderr("Error: [DIR]/work/bad:2: \"B C=2\": expected a name without blanks\n")
        .status(125)
        .run();
    for (flags, why) in [
        (
            &["--no-hosts", "--add-host", "a:1.2.3.4"][..],
            "flag --add-host cannot be used with --no-hosts",
        ),
        (
            &["--dns", "none", "--dns", "1.1.1.1"],
            "--dns=\"none\": expected no other server",
        ),
        (
            &["--ulimit", "host", "--ulimit", "core=0"],
            "--ulimit=\"host\": expected no other limit beside it",
        ),
        (
            &["--uts", "host", "--hostname", "h"],
            "--hostname=\"h\": the host name of --uts host is not the container's to set",
        ),
        (
            &["--timens", "host", "--time-offset", "boottime=1s"],
            "--timens=\"host\": with --time-offset expected private",
        ),
    ] {
        rbox.args(["run", "--name", "c"])
            .args(flags)
            .args(["busybox", "true"])
            .stderr_has(why)
            .status(125)
            .run();
    }
    rbox.args(["ps", "-aq"]).stdout("").run();
}
