//! The hidden command `generate-docs`: man pages, from the same definitions that parse the
//! command line, and completion scripts. What it writes is committed.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use clap::Args;

use crate::cli::complete;

/// Write the man pages and completion scripts
#[derive(Args, Debug)]
pub struct GenerateDocs {
    /// Directory that gets `man` and `completions`
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// `command` is the whole command line, `Cli::command()`.
pub fn run(args: &GenerateDocs, command: clap::Command) -> Result<()> {
    let man = args.dir.join("man");
    make(&man)?;
    clear(&man)?;
    clap_mangen::generate_to(command, &man)
        .with_context(|| format!("cannot write man pages to {}", man.display()))?;
    let completions = args.dir.join("completions");
    make(&completions)?;
    for (name, script) in complete::SCRIPTS {
        let path = completions.join(name);
        std::fs::write(&path, script)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Pages of commands that are no more must not stay.
fn clear(man: &Path) -> Result<()> {
    let cannot = || format!("cannot clear {}", man.display());
    for entry in std::fs::read_dir(man).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("rbox") && name.ends_with(".1") {
            std::fs::remove_file(&path).with_context(cannot)?;
        }
    }
    Ok(())
}

/// What is wrong with the definition of a command line, as lines for a person: a command or
/// flag without help, help that ends in a full stop, a short flag with two meanings.
#[cfg(test)]
pub fn faults(command: &clap::Command) -> Vec<String> {
    let mut faults = Vec::new();
    let mut shorts = std::collections::BTreeMap::new();
    look_at(command, command.get_name(), &mut shorts, &mut faults);
    faults
}

#[cfg(test)]
fn look_at(
    command: &clap::Command,
    path: &str,
    shorts: &mut std::collections::BTreeMap<char, (String, String)>,
    faults: &mut Vec<String>,
) {
    let mut check = |what: String, help: Option<&clap::builder::StyledStr>| {
        let help = help.map(ToString::to_string).unwrap_or_default();
        if help.trim().is_empty() {
            faults.push(format!("{what}: no help"));
        }
        if help.trim_end().ends_with('.') {
            faults.push(format!("{what}: the help ends with a full stop"));
        }
    };
    check(path.to_owned(), command.get_about());
    for argument in command.get_arguments() {
        let name = argument.get_long().unwrap_or(argument.get_id().as_str());
        check(format!("{path} {name}"), argument.get_help());
    }
    for argument in command.get_arguments() {
        let name = argument.get_long().unwrap_or(argument.get_id().as_str());
        let Some(short) = argument.get_short() else {
            continue;
        };
        // The letters of an OCI runtime are those of runc and crun.
        if path.split(' ').nth(1) == Some(crate::cli::oci::COMMAND) {
            continue;
        }
        let (first, place) = shorts
            .entry(short)
            .or_insert_with(|| (name.to_owned(), path.to_owned()));
        if first != name && !SHORTS_OF_TWO_MEANINGS.contains(&(short, name)) {
            faults.push(format!(
                "{path}: -{short} is --{name}, in {place} it is --{first}"
            ));
        }
    }
    for inner in command.get_subcommands() {
        look_at(
            inner,
            &format!("{path} {}", inner.get_name()),
            shorts,
            faults,
        );
    }
}

/// Docker's and Podman's own inconsistencies, which are kept for compatibility. All but the
/// first meaning of the letter that is met are listed.
#[cfg(test)]
const SHORTS_OF_TWO_MEANINGS: [(char, &str); 53] = [
    ('a', "all"),
    ('a', "all-tags"),
    ('a', "amend"),
    ('a', "archive"),
    ('a', "attach"),
    ('a', "author"),
    ('c', "change"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('d', "driver"),
    ('f', "files"),
    ('f', "filter"),
    ('f', "follow"),
    ('f', "force"),
    ('f', "format"),
    ('i', "ignore"),
    ('i', "input"),
    ('i', "interactive"),
    ('i', "interval"),
    ('l', "label"),
    ('l', "latest"),
    ('m', "max"),
    ('m', "memory"),
    ('m', "message"),
    ('m', "multi-image-archive"),
    ('n', "last"),
    ('n', "name"),
    ('n', "names"),
    ('n', "noheading"),
    ('n', "tail"),
    ('o', "opt"),
    ('o', "output"),
    ('p', "password"),
    ('p', "pause"),
    ('p', "pod"),
    ('p', "publish"),
    ('p', "rm"),
    ('q', "quick"),
    ('r', "repair"),
    ('s', "signal"),
    ('s', "size"),
    ('t', "stop-timeout"),
    ('t', "time"),
    ('t', "timestamps"),
    ('t', "tty"),
    ('t', "type"),
    ('u', "username"),
    ('v', "verbose"),
    ('v', "version"),
    ('v', "volume"),
    ('v', "volumes"),
    ('w', "watch"),
    ('w', "workdir"),
];

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Arg;
    use clap::Command;

    #[test]
    fn faults_of_a_command_line_are_seen() {
        let good = Command::new("rbox").about("Run things").subcommand(
            Command::new("a")
                .about("Do a")
                .arg(Arg::new("x").short('x').long("ex").help("Ex")),
        );
        assert_eq!(faults(&good), [""; 0]);
        let bad = good
            .subcommand(Command::new("b").arg(Arg::new("y").short('x').long("why").help("Why.")))
            .subcommand(Command::new("c").about("C").arg(Arg::new("z").long("zed")));
        assert_eq!(
            faults(&bad),
            [
                "rbox b: no help",
                "rbox b why: the help ends with a full stop",
                "rbox b: -x is --why, in rbox a it is --ex",
                "rbox c zed: no help",
            ]
        );
    }

    #[test]
    fn pages_of_removed_commands_do_not_stay() {
        let base = crate::store::temp::tests::scratch("docs");
        let man = base.path().join("man");
        std::fs::create_dir(&man).unwrap();
        std::fs::write(man.join("rbox-gone.1"), "").unwrap();
        std::fs::write(man.join("other.txt"), "").unwrap();
        let args = GenerateDocs {
            dir: base.path().to_owned(),
        };
        let command = Command::new("rbox")
            .about("Run things")
            .subcommand(Command::new("ps").about("List"))
            .subcommand(Command::new("secret").hide(true));
        run(&args, command).unwrap();
        let mut pages: Vec<String> = std::fs::read_dir(&man)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        assert_eq!(pages, ["other.txt", "rbox-ps.1", "rbox.1"]);
        let script = std::fs::read_to_string(base.path().join("completions/rbox.bash")).unwrap();
        assert!(script.contains("complete -F _rbox rbox\n"), "{script}");
    }
}
