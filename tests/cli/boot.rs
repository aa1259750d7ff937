//! Containers after a reboot, and as services: what needs no systemd. A reboot is simulated by what it does:
//! every process is killed, and the runtime directory is empty.
use std::path::Path;

use crate::support::Rbox;
use crate::support::skip::skip;

fn has_systemd() -> bool {
    let there = Path::new("/run/systemd/system").exists();
    if there {
        skip("systemd runs here: tests/vm has these");
    }
    there
}

fn create(rbox: &Rbox, flags: &[&str], command: &[&str]) {
    rbox.args(["create", "--stop-timeout", "0"])
        .args(flags)
        .arg("busybox")
        .args(command)
        .stdout_any()
        .run();
}

/// Kills everything and clears what a reboot clears.
fn reboot(rbox: &Rbox) {
    let pids = rbox.work("pids");
    for entry in std::fs::read_dir(&pids).unwrap() {
        let pid = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    rbox.assert_no_processes();
    std::fs::remove_dir_all(rbox.dir().join("run/rbox")).unwrap();
}

#[test]
fn a_boot_starts_what_its_policies_say_and_goes_on_after_a_failure() {
    let rbox = Rbox::with_busybox();
    let pids = rbox.work("pids");
    std::fs::create_dir(&pids).unwrap();
    rbox.own(&pids);
    let gone = rbox.work("gone");
    std::fs::create_dir(&gone).unwrap();
    rbox.own(&gone);
    let mount = format!("{}:/gone", gone.display());
    let sleep: &[&str] = &["sleep", "1000"];
    let containers: [(&str, &[&str], &[&str]); 10] = [
        ("always", &["--restart=always"], sleep),
        ("always-stopped", &["--restart=always"], sleep),
        ("unless", &["--restart=unless-stopped"], sleep),
        ("unless-stopped", &["--restart=unless-stopped"], sleep),
        ("mount-gone", &["--restart=always", "-v", &mount], sleep),
        ("failure", &["--restart=on-failure"], sleep),
        ("failure-done", &["--restart=on-failure"], &["true"]),
        ("no", &[], sleep),
        (
            "joined",
            &["--restart=always", "--pid=container:always"],
            sleep,
        ),
        ("never-started", &["--restart=always"], sleep),
    ];
    for (name, flags, command) in containers {
        let pid = format!("--conmon-pidfile={}", pids.join(name).display());
        create(&rbox, &[&["--name", name, &pid], flags].concat(), command);
    }
    let names = containers.map(|(name, _, _)| name);
    rbox.args(["start"]).args(&names[..9]).stdout_any().run();
    rbox.args(["stop", "always-stopped", "unless-stopped"])
        .stdout_any()
        .run();
    rbox.args(["wait", "failure-done"]).stdout("0\n").run();
    let up = [
        "always",
        "always-stopped",
        "unless",
        "mount-gone",
        "failure",
        "joined",
    ];
    let expected = format!("containers that a boot starts: {}\n", up.join(" "));
    rbox.args(["boot", "status"])
        .stdout_has(&expected)
        .stderr_any()
        .status_any()
        .run();
    reboot(&rbox);
    std::fs::remove_dir(&gone).unwrap();
    let cause = "cannot start container \"mount-gone\": ";
    rbox.args(["boot", "run"])
        .stdout("always\nalways-stopped\nunless\nfailure\njoined\n")
        .stderr_has(cause)
        .status(125)
        .run();
    rbox.args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .stdout(
            "never-started created\njoined running\nno exited\nfailure-done exited\nfailure running\n\
             mount-gone exited\nunless-stopped exited\nunless running\nalways-stopped running\n\
             always running\n",
        )
        .run();
    // What runs is left alone.
    std::fs::create_dir(&gone).unwrap();
    rbox.own(&gone);
    rbox.args(["boot", "run"]).stdout("mount-gone\n").run();
    rbox.args(["boot", "run"]).run();
    rbox.args(["rm", "-f", "--all"]).stdout_any().run();
}

#[test]
fn without_systemd_the_line_for_cron_is_printed_and_doctor_tells() {
    if has_systemd() {
        return;
    }
    let rbox = Rbox::new();
    let line = format!(
        "@reboot env XDG_DATA_HOME={data} XDG_RUNTIME_DIR={run} {program} boot run\n",
        data = "[DIR]/data",
        run = "[DIR]/run",
        program = rbox.program_path().display(),
    );
    rbox.args(["boot", "enable"])
        .stdout(line)
        .stderr("Hint: no systemd runs here: add this line to your crontab: `crontab -e`\n")
        .run();
    let why = "no systemd runs here: only a line in a crontab or a boot script starts containers";
    rbox.args(["boot", "status"])
        .stdout(format!(
            "not in force: {why}\ncontainers that a boot starts: none\n"
        ))
        .stderr("Hint: `rbox boot enable`\n")
        .status(1)
        .run();
    rbox.args([
        "boot",
        "status",
        "--format",
        "{{.inForce}} {{.fix}} {{.containers}}",
    ])
    .stdout("false rbox boot enable []\n")
    .status(1)
    .run();
    rbox.args(["boot", "disable"])
        .stderr("Error: no systemd runs here: nothing was enabled but by a line of your own\nHint: take `rbox boot run` out of your crontab or boot script\n")
        .status(125)
        .run();
    rbox.args(["doctor"]).stdout_has(why).status_any().run();
    rbox.args(["info", "--format", "{{.host.bootSurvival}}"])
        .stdout("false\n")
        .run();
}

#[test]
fn a_unit_makes_the_container_anew_from_its_command_line() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "create",
        "-it",
        "--name",
        "web",
        "--restart",
        "on-failure:4",
    ])
    .args(["-eA=50% of $x", "-e", "TERM", "--cidfile"])
    .arg(rbox.work("cid"))
    .args(["--stop-timeout=7", "busybox", "sh", "-c", "echo \"it's\""])
    .env("TERM", "dumb")
    .stdout_any()
    .run();
    let program = rbox.program_path().display();
    let base = "[DIR]";
    let expected = format!(
        "[Unit]\nDescription=rbox container-web\nRequiresMountsFor={base}/data/rbox\nWants=a.service b.service\n\
         After=c.target\nStartLimitBurst=4\n\n[Service]\nEnvironment=XDG_DATA_HOME={base}/data\n\
         Environment=XDG_RUNTIME_DIR={base}/run\nEnvironment=X=1\nEnvironment=TERM=dumb\n\
         WorkingDirectory=-{work}\nRestart=on-failure\nRestartSec=5\nTimeoutStartSec=9\nTimeoutStopSec=67\n\
         ExecStart={program} run \\\n\t--cidfile=%t/%n.ctr-id \\\n\t--rm \\\n\t-d \\\n\t--sdnotify=conmon \\\n\
         \t--replace \\\n\t-i \\\n\t-t \\\n\t--name web \\\n\t\"--env=A=50%% of $$x\" \\\n\t-e TERM \\\n\
         \t--stop-timeout=7 busybox sh \\\n\t-c \"echo \\\"it's\\\"\"\n\
         ExecStop={program} stop \\\n\t--ignore \\\n\t-t 7 \\\n\t--cidfile=%t/%n.ctr-id\n\
         ExecStopPost={program} rm \\\n\t-f \\\n\t--ignore \\\n\t-t 7 \\\n\t--cidfile=%t/%n.ctr-id\n\
         Type=notify\nNotifyAccess=all\n\n[Install]\nWantedBy=default.target\n",
        work = "[DIR]/work",
    );
    let generate = ["generate", "systemd", "--new", "--name", "--no-header"];
    let flags = [
        "--wants=a.service",
        "--wants=b.service",
        "--after=c.target",
        "-e",
        "X=1",
    ];
    rbox.args(generate)
        .args(flags)
        .args(["--restart-sec=5", "--start-timeout=9", "web"])
        .stdout(&expected)
        .run();
    rbox.args(generate)
        .args(["--template", "--restart-policy=always", "--files", "web"])
        .stdout_has("container-web@.service\n")
        .run();
    rbox.args(["generate", "systemd", "--restart-policy=sometimes", "web"])
        .stderr_has("--restart-policy=\"sometimes\": expected one of no, always, on-success")
        .status(125)
        .run();
    rbox.args(["clone", "web"]).stdout_any().run();
    rbox.args(["generate", "systemd", "--new", "web-clone"])
        .stderr("Error: cannot make a unit of container \"web-clone\": it was not made by `rbox run` or `rbox create`: no command line is known that makes it anew\nHint: leave --new away\n")
        .status(125)
        .run();
    rbox.args([
        "generate",
        "systemd",
        "--no-header",
        "--separator=_",
        "--container-prefix=c",
    ])
    .args(["--name", "--format=json", "web-clone"])
    .stdout_has(format!(
        "ExecStart={program} start \\\\\\n\\t--sdnotify=conmon web-clone\\n"
    ))
    .stdout_has("\"c_web-clone\": \"[Unit]")
    .run();
    rbox.remove(&["web", "web-clone"]);
}

#[test]
fn a_container_takes_the_place_of_the_one_with_its_name() {
    let rbox = Rbox::with_busybox();
    let first = rbox.sleeper("c");
    rbox.args(["run", "-d", "--name", "c", "--replace", "none"])
        .stderr_any()
        .status_any()
        .run();
    // Not before there is something to take it.
    let now = rbox
        .args(["inspect", "--format", "{{.Id}} {{.State.Status}}", "c"])
        .stdout_any()
        .run();
    assert_eq!(now.stdout, format!("{first} running\n"));
    rbox.args([
        "run",
        "--name",
        "c",
        "--replace",
        "busybox",
        "echo",
        "another",
    ])
    .stdout("another\n")
    .run();
    let now = rbox.args(["ps", "-aq", "--no-trunc"]).stdout_any().run();
    assert_ne!(now.stdout.trim(), first);
    rbox.args(["create", "--replace", "busybox"])
        .stderr_has("missing --name")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}
