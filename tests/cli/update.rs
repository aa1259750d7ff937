//! `update`: what a container is started with, kept over restarts. Limits: limits.rs.
use crate::support::Rbox;

#[test]
fn variables_and_ulimits_hold_from_the_next_start_on() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "box", "-e", "A=1", "-e", "B=1"])
        .args(["--ulimit", "core=0", "--ulimit", "nofile=100:200"])
        .args([
            "busybox",
            "sh",
            "-c",
            "env | grep -v PWD= | sort; ulimit -n; ulimit -c",
        ])
        .stdout_any()
        .run();
    let start = |stdout: &str| {
        rbox.args(["start", "--attach", "box"]).stdout(stdout).run();
    };
    let path = "PATH=/usr/bin:/bin:/usr/sbin:/sbin\nSHLVL=1\n";
    rbox.args(["update", "-e", "A=2", "--env", "C=3", "--unsetenv", "B"])
        .args(["--unsetenv", "HOME", "--unsetenv", "HOSTNAME"])
        .args(["--unsetenv", "container", "--ulimit", "nofile=50", "box"])
        .stdout("box\n")
        .run();
    start(&format!("A=2\nC=3\n{path}50\n0\n"));
    rbox.args(["update", "--ulimit", "nofile=60", "--latest"])
        .stdout_any()
        .run();
    start(&format!("A=2\nC=3\n{path}60\n0\n"));
    rbox.args(["update", "-e", "HOME=/root", "box"])
        .stdout("box\n")
        .run();
    start(&format!("A=2\nC=3\nHOME=/root\n{path}60\n0\n"));
    for (flag, value, why) in [
        ("--unsetenv", "A=1", "expected the name of a variable"),
        (
            "--ulimit",
            "nofile=2:1",
            "the soft limit is above the hard one",
        ),
    ] {
        let hint = "Hint: `rbox update --help` tells what there is\n";
        let hint = if flag == "--ulimit" { hint } else { "" };
        rbox.args(["update", flag, value, "box"])
            .stderr(format!("Error: {flag}=\"{value}\": {why}\n{hint}"))
            .status(125)
            .run();
    }
    rbox.args(["rm", "box"]).stdout("box\n").run();
}

/// What a container with --rm stands on is not mounted twice, and the failure would count as that of the store.
#[test]
fn a_container_that_goes_gets_no_health_check() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run", "-d", "--rm", "--name", "c", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["update", "--health-cmd", "false", "c"])
        .stderr(
            "Error: cannot update container \"c\": --health-cmd: it was made with --rm and without a health check\n",
        )
        .status(125)
        .run();
    rbox.remove(&["c"]);
}
