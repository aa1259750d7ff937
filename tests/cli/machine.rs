//! `rbox doctor`, `info` and `version`: what they say of this machine.
use crate::support::Rbox;

/// Lines of the report that begin with this state.
fn lines<'a>(report: &'a str, state: &str) -> Vec<&'a str> {
    let lines = report.lines();
    lines.filter(|line| line.starts_with(state)).collect()
}

#[test]
fn doctor_says_that_run_works_for_a_plain_user() {
    let rbox = Rbox::new();
    let said = rbox.args(["doctor"]).stdout_any().run().stdout;
    assert!(lines(&said, "FAIL").is_empty(), "{said}");
    assert!(said.ends_with("\n`rbox run` works here\n"), "{said}");
    let ok = lines(&said, "ok").join("\n");
    for name in [
        "kernel",
        "user namespaces",
        "sub-ids",
        "overlay",
        "/dev/net/tun",
    ] {
        assert!(ok.contains(name), "{name} in {said}");
    }
}

#[test]
fn doctor_gives_a_user_without_sub_ids_the_command() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    let said = rbox.args(["doctor"]).stdout_any().run().stdout;
    let fix = "sudo usermod --add-subuids ";
    assert!(lines(&said, "warn")[0].contains("sub-ids"), "{said}");
    assert!(
        said.contains(fix) && said.contains(" rboxnosub\n"),
        "{said}"
    );
    assert!(said.ends_with("\n`rbox run` works here\n"), "{said}");
}

#[test]
fn doctor_fails_where_there_are_no_user_namespaces() {
    // The limit of a user namespace binds what is made in it (namespaces(7)).
    let rbox = Rbox::new();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" doctor";
    let said = rbox
        .program("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .args([rbox.program_path()])
        .status(1)
        .stdout_any()
        .run()
        .stdout;
    assert!(
        said.contains("FAIL  user namespaces  user.max_user_namespaces is 0"),
        "{said}"
    );
    assert!(
        said.contains("sysctl -w 'user.max_user_namespaces=28633'"),
        "{said}"
    );
    assert!(
        said.ends_with("\n`rbox run` does not work here: see FAIL above\n"),
        "{said}"
    );
}

#[test]
fn doctor_gives_json_and_templates() {
    let rbox = Rbox::new();
    let said = rbox.args(["doctor", "--format", "json"]).stdout_any().run();
    let findings: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(findings[0]["name"], "kernel");
    assert_eq!(findings[0]["state"], "ok");
    let template = "{{if eq .Name \"kernel\"}}{{.State}}{{end}}";
    let said = rbox
        .args(["doctor", "--format", template])
        .stdout_any()
        .run();
    assert_eq!(said.stdout.trim(), "ok");
}

#[test]
fn info_has_podmans_fields() {
    let rbox = Rbox::new();
    let template = "{{.Host.Os}} {{.Store.GraphDriverName}} {{.Store.GraphRoot}} \
        {{.Store.ContainerStore.Number}} {{(index .Host.IDMappings.UIDMap 0).Size}}";
    let expected = format!("linux overlay {} 0 1\n", rbox.data().display());
    let said = rbox.args(["info", "--format", template]).stdout_any().run();
    assert_eq!(said.stdout, expected);
    let said = rbox.args(["info"]).stdout_any().run().stdout;
    assert!(said.starts_with("host:\n  arch: "), "{said}");
    assert!(
        said.contains("\nstore:\n") && said.contains("\n  graphRoot: "),
        "{said}"
    );
}

#[test]
fn a_field_that_does_not_exist_is_shown_with_those_that_do() {
    Rbox::new()
        .args(["version", "--format", "{{.Client.Foo}}"])
        .status(125)
        .stderr(
            "Error: template 1:3: no field \"Foo\" in .Client\n\
             Hint: use one of Version, Os, OsArch\n",
        )
        .run();
}

#[test]
fn version_is_that_of_the_package() {
    let rbox = Rbox::new();
    let version = env!("CARGO_PKG_VERSION");
    rbox.args(["version", "--format", "{{.Client.Version}}"])
        .stdout(format!("{version}\n"))
        .run();
}
