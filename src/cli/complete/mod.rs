//! Completion in the shell: the hidden role `rbox __complete WORDS…`, called by the scripts
//! beside this file. The last word is the one being typed, and may be empty.
//!
//! Prints what the word can become, one a line, with a tab and a description where there is
//! one. Status 0: there is nothing else; status 1: it may be a path, which shells complete
//! themselves. Never another status, and nothing on stderr; takes no lock, makes nothing.

mod names;
mod walk;

use std::ffi::OsString;

use clap::Command;

use crate::cli::complete::names::Which;
use crate::cli::complete::walk::Candidate;
use crate::cli::complete::walk::Place;
use crate::cli::complete::walk::Value;
use crate::cli::container;
use crate::cli::output;
use crate::store::dirs::Dirs;
use crate::text::signal;

pub const ROLE: &str = "__complete";

/// The scripts by the names under which shells look for them.
pub const SCRIPTS: [(&str, &str); 3] = [
    ("rbox.bash", include_str!("rbox.bash")),
    ("_rbox", include_str!("_rbox")),
    ("rbox.fish", include_str!("rbox.fish")),
];

const FILES: u8 = 1;

/// Answers the shell; returns the exit status.
pub fn answer(command: Command, words: &[OsString]) -> u8 {
    let Some(candidates) = candidates(command, words, Dirs::locate().ok().as_ref()) else {
        return FILES;
    };
    let lines: String = candidates.iter().map(line).collect();
    // Nobody is told when the shell has gone away.
    output::print(&lines).ok();
    0
}

/// Names in the store cannot have tabs or line ends, and help has no tabs.
fn line(candidate: &Candidate) -> String {
    let Candidate { word, about } = candidate;
    if about.is_empty() {
        format!("{word}\n")
    } else {
        format!("{word}\t{about}\n")
    }
}

/// `None` where a path may stand.
fn candidates(
    mut command: Command,
    words: &[OsString],
    dirs: Option<&Dirs>,
) -> Option<Vec<Candidate>> {
    command.build();
    let (group, words) = out_of_group(words);
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let mut found = match walk::find(&command, &words) {
        Place::Words(words) => words,
        Place::Value(value) => values(&value, dirs)?,
        Place::Foreign => return None,
    };
    if group && words.len() == 1 {
        found.retain(|found| container::VERBS.contains(&found.word.as_str()));
    }
    found.sort();
    found.dedup_by(|a, b| a.word == b.word);
    Some(found)
}

/// `container VERB …` is completed as `VERB …`; whether it was that.
fn out_of_group(words: &[OsString]) -> (bool, &[OsString]) {
    match words {
        [group, rest @ ..] if group == container::GROUP && !rest.is_empty() => (true, rest),
        _ => (false, words),
    }
}

/// Where values come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Containers(Which),
    Images,
    Volumes,
    Networks,
    NetworksAndModes,
    /// Containers, images and networks.
    All,
    Signals,
    Words(&'static [&'static str]),
}

/// By the command and the name that help gives the value. What is not here may be a path.
fn source(command: &str, value: &str) -> Option<Source> {
    Some(match (command, value) {
        ("attach" | "exec" | "kill" | "stop", "CONTAINER") => Source::Containers(Which::Running),
        ("start", "CONTAINER") => Source::Containers(Which::Stopped),
        (_, "CONTAINER") => Source::Containers(Which::All),
        (_, "VOLUME") => Source::Volumes,
        ("create" | "run", "NETWORK") => Source::NetworksAndModes,
        (_, "NETWORK") | ("shell", "NETWORK [COMMAND…]") => Source::Networks,
        (_, "IMAGE" | "REPOSITORY[:TAG]" | "[HOST::]IMAGE") | ("untag", "NAME") => Source::Images,
        ("inspect", "NAME") => Source::All,
        (_, "SIGNAL") => Source::Signals,
        (_, "BOOL") => Source::Words(&["true", "false"]),
        (_, "MODE") => Source::Words(&["none", "host"]),
        (_, "json|TEMPLATE") => Source::Words(&["json"]),
        _ => return None,
    })
}

fn values(value: &Value, dirs: Option<&Dirs>) -> Option<Vec<Candidate>> {
    let Some(source) = source(value.command, value.name) else {
        return possible_values(value);
    };
    let begun = value.begun;
    let containers = |which| dirs.map(|dirs| names::containers(dirs, begun, which));
    let networks = || dirs.map(|dirs| names::networks(dirs, begun));
    let images = || dirs.map(|dirs| names::images(dirs, begun));
    let words = match source {
        Source::Containers(which) => containers(which).unwrap_or_default(),
        Source::Images => images().unwrap_or_default(),
        Source::Volumes => dirs
            .map(|dirs| names::volumes(dirs, begun))
            .unwrap_or_default(),
        Source::Networks => networks().unwrap_or_default(),
        Source::NetworksAndModes => {
            let modes = ["host", "none", "private"].map(str::to_owned);
            networks().into_iter().flatten().chain(modes).collect()
        }
        Source::All => {
            let all = [containers(Which::All), images(), networks()];
            all.into_iter().flatten().flatten().collect()
        }
        Source::Signals => signal::NAMES.map(str::to_owned).to_vec(),
        Source::Words(words) => words.iter().copied().map(str::to_owned).collect(),
    };
    let words = words.into_iter().map(|word| (word, None));
    Some(fitting(value, words))
}

/// Values that clap knows. `None` if it knows none.
fn possible_values(value: &Value) -> Option<Vec<Candidate>> {
    let possible = value.arg.get_possible_values();
    let words = possible.iter().filter(|possible| !possible.is_hide_set());
    let words = words.map(|possible| (possible.get_name().to_owned(), possible.get_help()));
    (!possible.is_empty()).then(|| fitting(value, words))
}

/// Whole words, of the values that begin as the value in the word does.
fn fitting<'h>(
    value: &Value,
    words: impl Iterator<Item = (String, Option<&'h clap::builder::StyledStr>)>,
) -> Vec<Candidate> {
    words
        .filter(|(word, _)| word.starts_with(value.begun))
        .map(|(word, help)| walk::candidate(format!("{}{word}", value.before), help))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::store::temp::tests::scratch;

    fn words(dirs: Option<&Dirs>, line: &str) -> Option<Vec<String>> {
        let typed: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = candidates(crate::cli::command(), &typed, dirs)?;
        Some(found.into_iter().map(|candidate| candidate.word).collect())
    }

    #[test]
    fn words_fit_their_place() {
        let base = scratch("complete-words");
        let dirs = Dirs::at(base.path()).unwrap();
        std::os::unix::fs::symlink("../containers/x", dirs.names().join("web")).unwrap();
        std::fs::write(
            dirs.image_refs().join("docker.io%2Flibrary%2Fweb:latest"),
            "",
        )
        .unwrap();
        let table: [(&str, Option<&[&str]>); 27] = [
            ("start ", Some(&["web"])),
            ("stop ", Some(&[])),
            ("exec ", Some(&[])),
            ("rm w", Some(&["web"])),
            ("run ", Some(&["web"])),
            ("run docker.io/", Some(&["docker.io/library/web:latest"])),
            ("inspect ", Some(&["bridge", "web"])),
            ("images w", Some(&["web"])),
            ("image ls w", Some(&["web"])),
            ("image rm w", Some(&["web"])),
            ("history w", Some(&["web"])),
            ("untag web w", Some(&["web"])),
            ("network rm b", Some(&["bridge"])),
            ("network shell b", Some(&["bridge"])),
            ("network shell bridge l", None),
            ("network create -d m", Some(&["macvlan"])),
            ("network create ", None),
            ("run --pull=ne", Some(&["--pull=never", "--pull=newer"])),
            ("inspect -tc", Some(&["-tcontainer"])),
            ("run --rm=", Some(&["--rm=false", "--rm=true"])),
            ("kill -s TE", Some(&["TERM"])),
            ("run --network h", Some(&["host"])),
            ("run --network br", Some(&["bridge"])),
            ("doctor -f ", Some(&["json"])),
            ("load -i ", None),
            ("run web ", None),
            ("tag web ", None),
        ];
        for (line, expected) in table {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(words(Some(&dirs), line), expected, "{line:?}");
        }
        assert_eq!(words(None, "rm "), Some(vec![]));
    }

    /// A word of each command is completed by names, or it is meant that it is not.
    #[test]
    fn what_is_completed_by_paths_is_meant() {
        let mut command = crate::cli::command();
        command.build();
        let mut unknown = Vec::new();
        for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
            for arg in command.get_positionals() {
                let name = arg.get_value_names().unwrap_or_default()[0].as_str();
                if source(command.get_name(), name).is_none() {
                    unknown.push(format!("{} {name}", command.get_name()));
                }
            }
        }
        assert_eq!(
            unknown,
            [
                "checkpoint WORDS",
                "clone NAME",
                "commit NAME",
                "container VERB",
                "cp SOURCE",
                "cp TARGET",
                "generate-docs DIR",
                "import PATH",
                "import NAME",
                "login REGISTRY[/REPOSITORY]",
                "logout REGISTRY[/REPOSITORY]",
                "push DESTINATION",
                "rename NAME",
                "restore WORDS",
                "scp HOST::",
                "runlabel WORDS",
                "search TERM",
                "tag NAME"
            ]
        );
    }

    #[test]
    fn lines_have_a_description_where_there_is_one() {
        let candidate = |about: &str| Candidate {
            word: "ps".into(),
            about: about.into(),
        };
        assert_eq!(line(&candidate("List")), "ps\tList\n");
        assert_eq!(line(&candidate("")), "ps\n");
    }
}
