//! `rbox container …`: the commands for containers by another name.

use std::ffi::OsString;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// The word of the group.
pub const GROUP: &str = "container";

/// What the group has. Each is a command of the top level too.
pub const VERBS: [&str; 37] = [
    "attach",
    "checkpoint",
    "cleanup",
    "clone",
    "commit",
    "cp",
    "create",
    "diff",
    "exec",
    "exists",
    "export",
    "init",
    "inspect",
    "kill",
    "list",
    "logs",
    "ls",
    "mount",
    "pause",
    "port",
    "prune",
    "ps",
    "rename",
    "restart",
    "restore",
    "rm",
    "run",
    "runlabel",
    "start",
    "stats",
    "stop",
    "top",
    "umount",
    "unmount",
    "unpause",
    "update",
    "wait",
];

/// The commands for containers: `rbox container VERB` is `rbox VERB`
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "`rbox --help` lists the commands, and `rbox container VERB --help` tells of one.

Examples:
  rbox container ls --all
  rbox container prune"
)]
pub struct Args {
    /// A command for containers, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "VERB"
    )]
    words: Vec<String>,
}

/// The same command line without the group, where that names one of its commands.
pub fn lift(mut args: Vec<OsString>) -> Vec<OsString> {
    let word = |at: usize| args.get(at).and_then(|word| word.to_str());
    let (Some(GROUP), Some(verb)) = (word(1), word(2)) else {
        return args;
    };
    if !VERBS.contains(&verb) {
        return args;
    }
    let (is_list, is_inspect) = (verb == "ls", verb == "inspect");
    args.remove(1);
    if is_list {
        args[1] = "ps".into();
    }
    if is_inspect {
        // Images of that name are not meant.
        args.insert(2, "--type=container".into());
    }
    args
}

/// What is left: words that name no command of the group.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let word = args.words.first().map_or("", String::as_str);
    let message = if word.starts_with('-') {
        format!("unknown flag {word}")
    } else {
        format!("unknown command \"{word}\"")
    };
    Err(fail(Kind::Usage, message)).hint(format!("the commands are {}", VERBS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_taken_away_where_a_verb_follows() {
        for (given, lifted) in [
            ("rbox container ls -a", "rbox ps -a"),
            ("rbox container run container ls", "rbox run container ls"),
            (
                "rbox container inspect x",
                "rbox inspect --type=container x",
            ),
            ("rbox run container ls", "rbox run container ls"),
            ("rbox container images", "rbox container images"),
            ("rbox container", "rbox container"),
        ] {
            let words = given.split(' ').map(OsString::from).collect();
            let found: Vec<String> = lift(words)
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            assert_eq!(found.join(" "), lifted);
        }
    }
}
