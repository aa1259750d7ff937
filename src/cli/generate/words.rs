//! The command line that made a container, taken apart: its flags, each with its value, and the rest.

use std::ffi::OsString;

use clap::Arg;
use clap::ArgAction;

use crate::cli;
use crate::cli::container;
use crate::cli::shorts;

/// One flag as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// What clap calls it, such as `name`.
    pub id: String,
    pub words: Vec<String>,
    /// Of a switch `true` and `false` too.
    pub value: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Such as `run`.
    pub verb: String,
    pub flags: Vec<Flag>,
    /// The image, and the command in the container.
    pub rest: Vec<String>,
}

impl Line {
    /// Of the words of a process.
    pub fn read(words: &[String]) -> Line {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let root = cli::command();
        let words = shorts::spread(&root, container::lift(words));
        let words = words.into_iter().filter_map(|word| word.into_string().ok());
        let mut words = words.skip(1);
        let verb = words.next().unwrap_or_default();
        let mut line = Line {
            verb,
            ..Line::default()
        };
        let Some(command) = root.find_subcommand(&line.verb) else {
            return line;
        };
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let arg = command.get_arguments().find(|arg| has_long(arg, name));
                line.push(arg, word.clone(), value, &mut words);
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                // What has a value attached is a word of its own flag by now.
                let (letters, value) = match letters.split_once('=') {
                    Some((letters, value)) => (letters, Some(value)),
                    None => (letters, None),
                };
                let last = letters.chars().count() - 1;
                for (at, letter) in letters.chars().enumerate() {
                    let arg = command.get_arguments().find(|arg| has_short(arg, letter));
                    let value = value.filter(|_| at == last);
                    let word = match value {
                        Some(value) => format!("-{letter}={value}"),
                        None => format!("-{letter}"),
                    };
                    line.push(arg, word, value.map(str::to_owned), &mut words);
                }
            } else {
                line.rest.push(word);
                break;
            }
        }
        line.rest.extend(words);
        line
    }

    fn push(
        &mut self,
        arg: Option<&Arg>,
        word: String,
        value: Option<String>,
        next: &mut impl Iterator<Item = String>,
    ) {
        let mut flag = Flag {
            id: arg.map_or_else(String::new, |arg| arg.get_id().to_string()),
            words: vec![word],
            value: value.clone().unwrap_or_else(|| "true".to_owned()),
        };
        if value.is_none()
            && arg.is_some_and(takes_next)
            && let Some(value) = next.next()
        {
            flag.value.clone_from(&value);
            flag.words.push(value);
        }
        self.flags.push(flag);
    }

    /// The value of a flag, the last of it.
    pub fn value(&self, id: &str) -> Option<&str> {
        let mut found = self.flags.iter().rev().filter(|flag| flag.id == id);
        found.next().map(|flag| flag.value.as_str())
    }
}

fn has_long(arg: &Arg, name: &str) -> bool {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || aliases.contains(&name)
}

fn has_short(arg: &Arg, letter: char) -> bool {
    let aliases = arg.get_all_short_aliases().unwrap_or_default();
    arg.get_short() == Some(letter) || aliases.contains(&letter)
}

fn takes_next(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_apart_into_flags_and_the_rest() {
        let words = "/bin/rbox container run -itd --name web -eA=1 -p 80:80 --rm=false image sh -c --name=x";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let line = Line::read(&words);
        assert_eq!(line.verb, "run");
        let flags: Vec<_> = line
            .flags
            .iter()
            .map(|flag| format!("{} {} {}", flag.id, flag.words.join(" "), flag.value))
            .collect();
        assert_eq!(
            flags,
            [
                "interactive -i true",
                "tty -t true",
                "detach -d true",
                "name --name web web",
                "env --env=A=1 A=1",
                "publish -p 80:80 80:80",
                "rm --rm=false false",
            ]
        );
        assert_eq!(line.rest, ["image", "sh", "-c", "--name=x"]);
        assert_eq!(line.value("name"), Some("web"));
    }
}
