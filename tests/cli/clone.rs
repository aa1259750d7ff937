//! `clone`, `cleanup`, `init`, and `diff` of two.
use crate::support::Rbox;

#[test]
fn a_clone_has_the_settings_and_not_the_files() {
    let rbox = Rbox::with_busybox();
    let script = "cat /new 2>/dev/null; echo $A; test $(hostname) = $(cat /etc/hostname); touch /new; hostname";
    rbox.args(["create", "--name", "one", "-e", "A=1", "-v", "vol:/v"])
        .args(["--cidfile", "id", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    let start = |name: &str| {
        let id = rbox
            .args(["inspect", "-f", "{{.Id}}", name])
            .stdout_any()
            .run();
        let out = rbox.args(["start", "-a", name]).stdout_any().run();
        assert_eq!(out.stdout, format!("1\n{}\n", &id.stdout[..12]));
    };
    start("one");
    rbox.args(["clone", "one"]).stdout("[ID]\n").run();
    rbox.args(["container", "clone", "one"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["clone", "one", "named"]).stdout("[ID]\n").run();
    rbox.args([
        "ps",
        "-a",
        "--format",
        "{{.Names}} {{.Status}}",
        "--filter",
        "status=created",
    ])
    .stdout("named Created\none-clone1 Created\none-clone Created\n")
    .run();
    start("named");
    rbox.args([
        "inspect",
        "-f",
        "{{range .Mounts}}{{.Name}}{{end}}",
        "named",
    ])
    .stdout("vol\n")
    .run();
    rbox.args(["clone", "one", "named"])
        .stderr_has("cannot clone container \"one\": a container named \"named\" exists")
        .status(125)
        .run();
    rbox.args(["clone", "--pod", "p", "one"])
        .stderr("Error: --pod=\"p\": rbox has no pods\n")
        .status(125)
        .run();
    rbox.args(["clone", "--destroy", "--run", "--name", "two", "one"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exists", "one"]).status(1).run();
    rbox.args(["wait", "two"]).stdout("0\n").run();
    rbox.remove(&["named", "one-clone", "one-clone1", "two"]);
    rbox.args(["volume", "rm", "vol"]).stdout("vol\n").run();
}

#[test]
fn what_runs_is_destroyed_by_force_alone() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("one");
    rbox.args(["clone", "--destroy", "one", "two"])
        .stderr("Error: cannot destroy container \"one\": it is running\nHint: stop it first, or use `--force`\n")
        .status(125)
        .run();
    rbox.args(["exists", "two"]).status(1).run();
    rbox.args(["clone", "--destroy", "--force", "--run", "one", "two"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .stdout("two running\n")
        .run();
    rbox.remove(&["two"]);
}

#[test]
fn two_are_compared() {
    let rbox = Rbox::with_busybox();
    let make = |name: &str, script: &str| {
        rbox.args(["run", "--name", name, "busybox", "sh", "-c", script])
            .run();
    };
    make(
        "one",
        "echo a >/tmp/a; echo one >/tmp/both; mkdir /tmp/d; echo 1 >/tmp/d/x; rm /bin/vi",
    );
    make("two", "echo b >/tmp/b; echo other >/tmp/both; rm -r /var");
    let diff = |args: &[&str], stdout: &str| {
        rbox.args(["diff"]).args(args).stdout(stdout).run();
    };
    diff(
        &["one", "two"],
        "C /bin\nD /bin/vi\nC /tmp\nA /tmp/a\nD /tmp/b\nC /tmp/both\nA /tmp/d\nA /tmp/d/x\nA /var\n",
    );
    diff(
        &["two", "busybox"],
        "C /tmp\nA /tmp/b\nA /tmp/both\nD /var\n",
    );
    diff(
        &["--latest", "busybox"],
        "C /tmp\nA /tmp/b\nA /tmp/both\nD /var\n",
    );
    let layer = rbox
        .args(["inspect", "-f", "{{index .RootFS.Layers 0}}", "busybox"])
        .stdout_any()
        .run();
    diff(&["busybox", layer.stdout.trim()], "");
    diff(&["busybox", "busybox"], "");
    rbox.args(["diff", "one", "none"])
        .stderr("Error: no container, image or layer with name or id \"none\"\nHint: `rbox ps -a` and `rbox images` list what there is\n")
        .status(125)
        .run();
    rbox.remove(&["one", "two"]);
}

#[test]
fn what_has_ended_is_cleaned_up_and_what_was_made_is_prepared() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("runs");
    rbox.args(["create", "--name", "made", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["init", "made"]).stdout("made\n").run();
    let path = rbox
        .args(["inspect", "-f", "{{.OCIConfigPath}}", "made"])
        .stdout_any()
        .run();
    let spec = std::fs::read_to_string(path.stdout.trim()).unwrap();
    assert!(spec.contains("\"args\":[\"true\"]"), "{spec}");
    rbox.args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .stdout("made created\nruns running\n")
        .run();
    rbox.args(["init", "runs"])
        .stderr(
            "Error: cannot initialize container \"runs\": it runs already, or is being removed\n",
        )
        .status(125)
        .run();
    rbox.args(["cleanup", "runs"])
        .stderr("Error: cannot clean up container \"runs\": it is running\nHint: stop it with `rbox stop runs`\n")
        .status(125)
        .run();
    rbox.args(["cleanup", "--all"]).stdout("[ID]\n").run();
    rbox.args(["cleanup", "--rm", "made"])
        .stdout("made\n")
        .run();
    rbox.args(["exists", "made"]).status(1).run();
    rbox.remove(&["runs"]);
}

#[test]
fn what_rbox_has_not_says_why() {
    let rbox = Rbox::new();
    for (args, message) in [
        (
            &["container", "checkpoint", "--export", "f", "web"][..],
            "checkpoint and restore are not supported: rbox saves no processes\nHint: `rbox pause` lets a container stand still, and `rbox commit` saves its files",
        ),
        (
            &["container", "runlabel", "install", "image"],
            "runlabel is not supported: rbox executes no command that an image names\nHint: `rbox inspect IMAGE` shows the labels",
        ),
        (&["run", "--pod", "p", "image"], "--pod: rbox has no pods"),
        (
            &["create", "--isolation=hyperv", "image"],
            "--isolation: it is for containers of Windows",
        ),
    ] {
        rbox.args(args)
            .stderr(format!("Error: {message}\n"))
            .status(125)
            .run();
    }
}
