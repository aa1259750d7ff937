//! Completion in the shell: the hidden role, and the script for bash around it.
use crate::support::Rbox;

/// What bash makes of a line with the cursor at its end, if it calls as readline does: words
/// parted at `COMP_WORDBREAKS`, and as the second argument what the answer takes the place of.
fn bash(rbox: &Rbox, words: &str, line: &str, replaced: &str) -> String {
    let script = format!("{}/completions/rbox.bash", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(script).unwrap();
    let program = rbox.program_path().display();
    let script = format!(
        "{text}
        COMP_WORDS=({program} {words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        COMP_LINE='{program} {line}' COMP_POINT=${{#COMP_LINE}}
        _rbox rbox '{replaced}'
        echo \"${{COMPREPLY[@]}}\""
    );
    let output = rbox.program("bash").args(["-c", &script]).stdout_any();
    output.run().stdout.trim_end().to_owned()
}

#[test]
fn names_come_from_the_store() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "web", "busybox"])
        .stdout("[ID]\n")
        .run();
    let complete = |words: &[&str]| rbox.args(["__complete"]).args(words);
    complete(&["run", ""]).stdout("busybox\n").run();
    complete(&["start", "w"]).stdout("web\n").run();
    complete(&["stop", ""]).stdout("").run();
    complete(&["vers"])
        .stdout("version\tShow the version of rbox\n")
        .run();
    // What follows may be paths, which the shell knows better.
    complete(&["run", "busybox", "cat", ""]).status(1).run();
    rbox.remove(&["web"]);
}

#[test]
fn nothing_is_made_and_nothing_is_said() {
    let rbox = Rbox::new();
    for (words, status) in [(&["rm", ""][..], 0), (&["nosuch", "-x", ""], 1)] {
        rbox.args(["__complete"]).args(words).status(status).run();
    }
    rbox.args(["__complete", "run", ""])
        .env("XDG_DATA_HOME", "/proc/nosuch")
        .run();
    assert!(!rbox.data().exists());
}

#[test]
fn bash_gets_what_it_replaces() {
    let rbox = Rbox::with_busybox();
    let full = "docker.io/library/busybox";
    for (words, line, replaced, expected) in [
        ("ver", "ver", "ver", "version"),
        ("run bu", "run bu", "bu", "busybox"),
        (
            &format!("run {full} :"),
            &format!("run {full}:"),
            "",
            "latest",
        ),
        (
            &format!("run {full} : la"),
            &format!("run {full}:la"),
            "la",
            "latest",
        ),
        (
            "run --pull =",
            "run --pull=",
            "",
            "always missing never newer",
        ),
        ("run --pull = al", "run --pull=al", "al", "always"),
        // A blank parts words, a colon does not.
        ("run -v a : \"\"", "run -v a: ", "", "busybox"),
        ("run -v /a : /b bu", "run -v /a:/b bu", "bu", "busybox"),
        ("load -i x", "load -i x", "x", ""),
    ] {
        assert_eq!(bash(&rbox, words, line, replaced), expected, "{line:?}");
    }
}
