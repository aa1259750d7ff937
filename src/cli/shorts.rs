//! Values that are attached to short flags: `-v/src:/src`, `-eNAME=1`, `-itu=ann`.
//!
//! clap takes such a word for the first one of the container's command, because it contains letters that
//! are no flags of ours; so each becomes `--flag=VALUE` before clap sees the line.

use std::ffi::OsString;

use clap::Arg;
use clap::ArgAction;
use clap::Command;

/// The same command line with every value in a word of its own flag. What is not ours stays as it is.
pub fn spread(root: &Command, args: Vec<OsString>) -> Vec<OsString> {
    let attached = |arg: &OsString| {
        let bytes = arg.as_encoded_bytes();
        bytes.len() > 2 && bytes[0] == b'-' && bytes[1] != b'-'
    };
    if !args.iter().any(attached) {
        return args;
    }
    let mut words = args.into_iter();
    let mut spread: Vec<OsString> = words.next().into_iter().collect();
    let mut command = root;
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else {
            spread.push(word);
            continue;
        };
        if text == "--" {
            spread.push(word);
            break;
        }
        if let Some(long) = text.strip_prefix("--") {
            let waits = !long.contains('=') && find_long(command, long).is_some_and(takes_value);
            spread.push(word);
            spread.extend(waits.then(|| words.next()).flatten());
        } else if let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            let waits = push_shorts(command, letters, &mut spread);
            spread.extend(waits.then(|| words.next()).flatten());
        } else if let Some(inner) = command.find_subcommand(text) {
            command = inner;
            spread.push(word);
        } else {
            spread.push(word);
            if command.get_positionals().any(Arg::is_trailing_var_arg_set) {
                break;
            }
        }
    }
    spread.extend(words);
    spread
}

/// The command that a line of `program` is for, as far as the line says: `rbox image ls`.
pub fn path(root: &Command, program: &str, args: &[OsString]) -> String {
    let mut path = program.to_owned();
    let mut command = root;
    let words = args.iter().skip(1).filter_map(|word| word.to_str());
    for word in words.filter(|word| !word.starts_with('-')) {
        let Some(inner) = command.find_subcommand(word) else {
            break;
        };
        path.push(' ');
        path.push_str(inner.get_name());
        command = inner;
    }
    path
}

/// Pushes a word of short flags; whether the next word is the value of the last one.
fn push_shorts(command: &Command, letters: &str, spread: &mut Vec<OsString>) -> bool {
    for (at, letter) in letters.char_indices() {
        let Some(arg) = find_short(command, letter) else {
            break;
        };
        if !takes_value(arg) {
            continue;
        }
        let value = &letters[at + letter.len_utf8()..];
        let (Some(long), false) = (arg.get_long(), value.is_empty()) else {
            spread.push(format!("-{letters}").into());
            return value.is_empty();
        };
        if at > 0 {
            spread.push(format!("-{}", &letters[..at]).into());
        }
        let value = value.strip_prefix('=').unwrap_or(value);
        spread.push(format!("--{long}={value}").into());
        return false;
    }
    spread.push(format!("-{letters}").into());
    false
}

fn find_short(command: &Command, letter: char) -> Option<&Arg> {
    command.get_arguments().find(|arg| {
        arg.get_short() == Some(letter)
            || arg
                .get_all_short_aliases()
                .is_some_and(|all| all.contains(&letter))
    })
}

fn find_long<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    })
}

/// Whether it has a value that may stand in the next word; a switch has one after `=` alone.
fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread_line(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        let spread = spread(&crate::cli::command(), words);
        let words: Vec<&str> = spread.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn attached_values_get_the_long_flag() {
        for (line, expected) in [
            ("rbox run -v/a:/b i", "rbox run --volume=/a:/b i"),
            ("rbox run -eA=1 -e=B=2 i", "rbox run --env=A=1 --env=B=2 i"),
            ("rbox run -itu1000:5 i", "rbox run -it --user=1000:5 i"),
            (
                "rbox run -it -w /x -u-1 i",
                "rbox run -it -w /x --user=-1 i",
            ),
            (
                "rbox exec -itw/srv c sh",
                "rbox exec -it --workdir=/srv c sh",
            ),
        ] {
            assert_eq!(spread_line(line), expected);
        }
    }

    #[test]
    fn what_is_the_containers_or_a_value_stays() {
        for line in [
            "rbox run -it i sh -ceX",
            "rbox run --name -eX i",
            "rbox run -it -e -vX i",
            "rbox run -d=true -it=false i",
            "rbox run -zX i",
            "rbox -vX run i",
            "rbox run -- -eX",
            "rbox rm -fv c",
            "rbox ps -aq",
        ] {
            assert_eq!(spread_line(line), line);
        }
    }
}
