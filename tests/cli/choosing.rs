//! Which containers a verb means: names, --all, --latest, --filter, --cidfile, --depend, --ignore; that it
//! goes on after a failure; names that change; the group `container`.
use crate::support::Rbox;

impl Rbox {
    /// Names of all containers and whether they run, the newest first.
    fn listed(&self) -> String {
        let text = self
            .args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
            .stdout_any()
            .run()
            .stdout;
        text.trim_end().replace('\n', ", ")
    }
}

fn three() -> Rbox {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("one");
    rbox.args([
        "run",
        "-d",
        "--name",
        "two",
        "--label",
        "tier=test",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["create", "--name", "three", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox
}

#[test]
fn all_means_those_that_the_verb_is_for() {
    let rbox = three();
    rbox.args(["kill", "--all", "--signal", "CONT"])
        .stdout("[ID]\n[ID]\n")
        .run();
    rbox.args(["start", "--all"]).stdout("[ID]\n").run();
    assert_eq!(rbox.listed(), "three running, two running, one running");
    rbox.args(["stop", "--all", "-t", "0"])
        .stdout("[ID]\n[ID]\n[ID]\n")
        .run();
    assert_eq!(rbox.listed(), "three exited, two exited, one exited");
    rbox.args(["rm", "--all"])
        .stdout("[ID]\n[ID]\n[ID]\n")
        .run();
    assert_eq!(rbox.listed(), "");
    for verb in ["start", "stop", "kill", "restart", "rm"] {
        rbox.args([verb, "--all"]).run();
        rbox.args([verb, "--all", "one"])
            .stderr_has("flag --all cannot be used with")
            .status(125)
            .run();
        rbox.args([verb])
            .stderr_has("Error: missing CONTAINER")
            .status(125)
            .run();
    }
}

#[test]
fn the_latest_was_created_last() {
    let rbox = three();
    rbox.args(["start", "--latest"]).stdout("[ID]\n").run();
    assert_eq!(rbox.listed(), "three running, two running, one running");
    rbox.args(["stop", "-l", "-t", "0"]).stdout("[ID]\n").run();
    rbox.args(["rm", "-l"]).stdout("[ID]\n").run();
    rbox.args(["kill", "-l"]).stdout("[ID]\n").run();
    rbox.args(["wait", "two"]).stdout("137\n").run();
    assert_eq!(rbox.listed(), "two exited, one running");
    rbox.remove(&["one", "two"]);
}

#[test]
fn filters_are_joined_by_and() {
    let rbox = three();
    let filtered = |filters: &[&str]| {
        let mut args = vec!["stop"];
        args.extend(["-t", "0"]);
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        rbox.args(args).stdout_any().run().stdout.lines().count()
    };
    assert_eq!(filtered(&["label=tier", "status=exited"]), 0);
    assert_eq!(filtered(&["name=^t", "label=tier=test"]), 1);
    assert_eq!(rbox.listed(), "three created, two exited, one running");
    assert_eq!(filtered(&["name=^one$", "name=^two$"]), 2);
    assert_eq!(filtered(&["before=two"]), 1);
    assert_eq!(filtered(&["since=two"]), 1);
    assert_eq!(filtered(&["ancestor=busybox", "label!=tier"]), 2);
    assert_eq!(filtered(&["ancestor=other"]), 0);
    assert_eq!(filtered(&["exited=137", "status=stopped"]), 2);
    assert_eq!(filtered(&["until=1h"]), 0);
    assert_eq!(filtered(&["until=0s", "command=sleep"]), 3);
    for (filter, expected) in [
        ("x", "--filter=\"x\": expected KEY=VALUE"),
        (
            "status=odd",
            "--filter=\"status=odd\": expected one of created,",
        ),
        ("exited=x", "--filter=\"exited=x\": expected an exit status"),
        (
            "colour=red",
            "--filter=\"colour=red\": expected one of the keys ancestor,",
        ),
    ] {
        rbox.args(["rm", "--filter", filter])
            .stderr_has(expected)
            .status(125)
            .run();
    }
    rbox.args(["rm", "--filter", "label=tier", "one", "two"])
        .stdout("[ID]\n")
        .run();
    assert_eq!(rbox.listed(), "three created, one exited");
    rbox.args(["rm", "--all"]).stdout("[ID]\n[ID]\n").run();
}

#[test]
fn id_files_name_containers_and_may_be_missing() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--cidfile",
        "id",
        "--name",
        "c",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["restart", "-t", "0", "--cidfile", "id"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["kill", "--cidfile", "id"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["stop", "--cidfile", "none"])
        .stderr("Error: cannot read an id from none: No such file or directory (os error 2)\n")
        .status(125)
        .run();
    rbox.args(["stop", "--ignore", "--cidfile", "none"]).run();
    rbox.args(["rm", "--force", "--cidfile", "id", "--cidfile", "none"])
        .stdout("[ID]\n")
        .run();
    assert!(!rbox.work("id").exists());
}

#[test]
fn a_failure_is_told_and_the_others_are_done() {
    let rbox = three();
    let missing = |name: &str| format!("Error: no container with name or id \"{name}\"\n");
    let hint = "Hint: `rbox ps -a` lists the containers there are\n";
    let expected = [missing("x"), hint.into(), missing("y"), hint.into()].concat();
    for verb in ["restart", "stop", "kill", "start"] {
        let mut args = vec![verb, "x", "one", "y", "two"];
        if verb != "kill" && verb != "start" {
            args.extend(["-t", "0"]);
        }
        // Killed by the third verb, and started by the last.
        if verb == "kill" {
            rbox.args(["start", "one", "two"]).stdout_any().run();
        }
        rbox.args(args)
            .stdout("one\ntwo\n")
            .stderr(expected.clone())
            .status(125)
            .run();
    }
    rbox.args(["rm", "x", "one", "three"])
        .stdout("three\n")
        .stderr_has("cannot remove container \"one\": it is running")
        .status(125)
        .run();
    for verb in ["stop", "rm"] {
        rbox.args([verb, "--ignore", "x"]).run();
    }
    rbox.remove(&["one", "two"]);
}

#[test]
fn what_shares_namespaces_goes_before_what_it_depends_on() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("base");
    for (name, flag, other) in [
        ("net", "--network", "base"),
        ("pid", "--pid", "net"),
        ("alone", "--network", "none"),
    ] {
        let value = if other == "none" {
            other.to_owned()
        } else {
            format!("container:{other}")
        };
        rbox.args(["create", "--name", name, flag, &value, "busybox", "true"])
            .stdout("[ID]\n")
            .run();
    }
    rbox.args(["rm", "-f", "--depend", "base"])
        .stdout("[ID]\n[ID]\nbase\n")
        .run();
    assert_eq!(rbox.listed(), "alone created");
    rbox.remove(&["alone"]);
}

#[test]
fn rm_may_leave_time_to_end() {
    let rbox = Rbox::with_busybox();
    let script = "trap 'echo bye >/out/said; exit' TERM; echo up; while :; do sleep 0.05; done";
    std::fs::create_dir(rbox.work("out")).unwrap();
    rbox.own(&rbox.work("out"));
    rbox.args(["run", "-d", "--name", "c", "-v", "./out:/out"])
        .args(["busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    while !rbox
        .args(["logs", "c"])
        .stdout_any()
        .run()
        .stdout
        .contains("up")
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    rbox.args(["rm", "--time", "5", "c"])
        .stderr_has("Error: missing --force")
        .status(125)
        .run();
    rbox.args(["rm", "-f", "--time", "20", "c"])
        .stdout("c\n")
        .run();
    let said = std::fs::read_to_string(rbox.work("out/said")).unwrap();
    assert_eq!(said, "bye\n");
}

#[test]
fn a_container_is_restarted_and_one_that_would_go_is_not() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let pid = || {
        let format = ["inspect", "--format", "{{.State.Pid}}", "c"];
        rbox.args(format).stdout_any().run().stdout
    };
    let first = pid();
    rbox.args(["restart", "-t", "0", "c"]).stdout("c\n").run();
    assert_ne!(first, pid());
    rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
    rbox.args(["restart", "c"]).stdout("c\n").run();
    rbox.args([
        "run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["restart", "gone"])
        .stderr(
            "Error: cannot restart container \"gone\": it was made with --rm, and is gone when it stops\n\
             Hint: run it anew, without --rm if it is to be restarted\n",
        )
        .status(125)
        .run();
    rbox.remove(&["c", "gone"]);
}

#[test]
fn a_container_keeps_its_life_under_a_new_name() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("old");
    rbox.args(["rename", "old", "new"]).run();
    assert_eq!(rbox.listed(), "new running");
    rbox.args(["exec", "new", "echo", "in"])
        .stdout("in\n")
        .run();
    rbox.sleeper("other");
    rbox.args(["rename", "new", "other"])
        .stderr_has("cannot rename container \"new\": a container named \"other\" exists (")
        .status(125)
        .run();
    rbox.args(["rename", "new", "../x"])
        .stderr_has("cannot rename container \"new\": ")
        .status(125)
        .run();
    rbox.remove(&["new", "other"]);
    // Its supervisor knows it by the name of its start.
    rbox.args([
        "run", "-d", "--rm", "--name", "old", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["rename", "old", "new"]).run();
    rbox.sleeper("old");
    rbox.args(["stop", "-t", "0", "new"]).stdout("new\n").run();
    assert_eq!(rbox.listed(), "old running");
    rbox.remove(&["old"]);
}

#[test]
fn exists_tells_by_its_status() {
    let rbox = Rbox::with_busybox();
    rbox.args(["exists", "c"]).status(1).run();
    rbox.sleeper("c");
    rbox.args(["exists", "c"]).run();
    rbox.args(["container", "exists", "c"]).run();
    rbox.remove(&["c"]);
}

#[test]
fn prune_asks_and_leaves_what_runs() {
    let rbox = three();
    let question = "WARNING! This will remove all non running containers.\n\
                    Are you sure you want to continue? [y/N] ";
    rbox.args(["prune"]).stdin("n\n").stdout(question).run();
    rbox.args(["container", "prune"])
        .stdin("y\n")
        .stdout(format!("{question}[ID]\n"))
        .run();
    assert_eq!(rbox.listed(), "two running, one running");
    rbox.args(["stop", "-t", "0", "one", "two"])
        .stdout_any()
        .run();
    rbox.args(["prune", "-f", "--filter", "label=tier"])
        .stdout("[ID]\n")
        .run();
    assert_eq!(rbox.listed(), "one exited");
    rbox.args(["prune", "-f"]).stdout("[ID]\n").run();
}

#[test]
fn the_group_has_the_verbs_of_containers_only() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "container",
        "run",
        "--rm",
        "busybox",
        "echo",
        "container",
        "ls",
    ])
    .stdout("container ls\n")
    .run();
    rbox.args([
        "container",
        "create",
        "--name",
        "busybox",
        "busybox",
        "true",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["container", "ls", "-a", "--format", "{{.Names}}"])
        .stdout("busybox\n")
        .run();
    rbox.args([
        "container",
        "inspect",
        "--format",
        "{{.State.Status}}",
        "busybox",
    ])
    .stdout("created\n")
    .run();
    rbox.args(["container", "rm", "busybox"])
        .stdout("busybox\n")
        .run();
    rbox.args(["container", "images"])
        .stderr_has("Error: unknown command \"images\"\nHint: the commands are attach, ")
        .status(125)
        .run();
    rbox.args(["container", "inspect", "busybox"])
        .stdout_any()
        .stderr_has("no container with name or id \"busybox\"")
        .status(125)
        .run();
}
