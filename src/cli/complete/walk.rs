//! Where in the command line the cursor is: the words before it, followed through clap's
//! definition of the commands. Nothing is read but that definition.

use clap::Arg;
use clap::ArgAction;
use clap::Command;

/// A word for the shell, and what it means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub word: String,
    pub about: String,
}

/// What may stand where the cursor is.
#[derive(Debug)]
pub enum Place<'a> {
    /// Names of commands or flags: all that fit what is begun.
    Words(Vec<Candidate>),
    Value(Value<'a>),
    /// The command in the container: its arguments are not ours.
    Foreign,
}

/// A value of an argument.
#[derive(Debug)]
pub struct Value<'a> {
    /// The last name of the command, such as `start`.
    pub command: &'a str,
    pub arg: &'a Arg,
    /// The name that help gives the value, such as `CONTAINER`.
    pub name: &'a str,
    /// The part of the word that comes before the value, such as `--pull=`.
    pub before: &'a str,
    pub begun: &'a str,
}

/// Follows `words`, the last of which is being typed. `root` has been built.
pub fn find<'a>(root: &'a Command, words: &[&'a str]) -> Place<'a> {
    let (begun, done) = words.split_last().unwrap_or((&"", &[]));
    let mut walk = Walk {
        command: root,
        waiting: None,
        positionals: 0,
        escaped: false,
    };
    for word in done {
        if walk.pass(word) == Passed::Foreign {
            return Place::Foreign;
        }
    }
    walk.place(begun)
}

struct Walk<'a> {
    command: &'a Command,
    /// The flag whose value is the next word.
    waiting: Option<&'a Arg>,
    /// How many words without a flag the command has so far.
    positionals: usize,
    /// After `--` there are no flags.
    escaped: bool,
}

#[derive(PartialEq, Eq)]
enum Passed {
    Ours,
    Foreign,
}

impl<'a> Walk<'a> {
    /// Goes past a whole word.
    fn pass(&mut self, word: &'a str) -> Passed {
        if self.waiting.take().is_some() {
            return Passed::Ours;
        }
        match self.kind(word) {
            Kind::Escape => self.escaped = true,
            Kind::Long(name, value) => {
                let arg = self.long(name);
                self.waiting = arg.filter(|arg| value.is_none() && takes_next_word(arg));
            }
            Kind::Shorts(letters) => {
                if let Some((arg, "")) = self.flag_with_value(letters) {
                    self.waiting = Some(arg).filter(|arg| takes_next_word(arg));
                }
            }
            Kind::Plain => {
                if let Some(inner) = self.subcommand(word) {
                    self.command = inner;
                    return Passed::Ours;
                }
                let arg = self.positional().map(|(arg, _)| arg);
                self.positionals += 1;
                // From the first value on all is the argument's (Arg::trailing_var_arg).
                if arg.is_none_or(Arg::is_trailing_var_arg_set) {
                    return Passed::Foreign;
                }
            }
        }
        Passed::Ours
    }

    /// What the word that is being typed can become.
    fn place(&self, begun: &'a str) -> Place<'a> {
        if let Some(arg) = self.waiting {
            return self.value(arg, 0, ("", begun));
        }
        match self.kind(begun) {
            Kind::Long(name, Some(value)) => match self.long(name) {
                Some(arg) => {
                    let before = &begun[..begun.len() - value.len()];
                    self.value(arg, 0, (before, value))
                }
                None => Place::Words(vec![]),
            },
            Kind::Shorts(letters) => match self.flag_with_value(letters) {
                Some((arg, value)) if !value.is_empty() || takes_next_word(arg) => {
                    let value = value.strip_prefix('=').unwrap_or(value);
                    let before = &begun[..begun.len() - value.len()];
                    self.value(arg, 0, (before, value))
                }
                _ => Place::Words(self.flags(begun)),
            },
            Kind::Escape | Kind::Long(..) => Place::Words(self.flags(begun)),
            // The dash may be the first of a flag.
            Kind::Plain if begun == "-" && !self.escaped => Place::Words(self.flags(begun)),
            Kind::Plain => match self.positional() {
                Some((arg, index)) => self.value(arg, index, ("", begun)),
                None => Place::Words(self.subcommands(begun)),
            },
        }
    }

    fn value(&self, arg: &'a Arg, index: usize, word: (&'a str, &'a str)) -> Place<'a> {
        let names = arg.get_value_names().unwrap_or_default();
        // Of several values the last name is that of all further ones.
        let name = names.get(index).or(names.last());
        Place::Value(Value {
            command: self.command.get_name(),
            arg,
            name: name.map_or("", |name| name.as_str()),
            before: word.0,
            begun: word.1,
        })
    }

    fn kind(&self, word: &'a str) -> Kind<'a> {
        if self.escaped {
            return Kind::Plain;
        }
        if word == "--" {
            return Kind::Escape;
        }
        if let Some(long) = word.strip_prefix("--") {
            return match long.split_once('=') {
                Some((name, value)) => Kind::Long(name, Some(value)),
                None => Kind::Long(long, None),
            };
        }
        match word.strip_prefix('-') {
            // A dash alone stands for standard input.
            None | Some("") => Kind::Plain,
            Some(letters) => Kind::Shorts(letters),
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name) || aliases.contains(&name)
        })
    }

    fn short(&self, letter: char) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| {
            let aliases = arg.get_all_short_aliases().unwrap_or_default();
            arg.get_short() == Some(letter) || aliases.contains(&letter)
        })
    }

    /// The last flag of a bundle such as `-itv/a:/b`, if it can have a value, and what of the
    /// value is in the bundle.
    fn flag_with_value<'w>(&self, letters: &'w str) -> Option<(&'a Arg, &'w str)> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let arg = self.short(letter)?;
            // A switch has a value only behind `=`.
            let has_value = if arg.is_require_equals_set() {
                rest.as_str().starts_with('=')
            } else {
                arg.get_action().takes_values()
            };
            if has_value {
                return Some((arg, rest.as_str()));
            }
        }
        None
    }

    /// The argument to which the next word without a flag belongs, and which of its values it is.
    fn positional(&self) -> Option<(&'a Arg, usize)> {
        let mut index = self.positionals;
        for arg in self.command.get_positionals() {
            let values = match arg.get_action() {
                ArgAction::Append => usize::MAX,
                _ => arg.get_num_args().map_or(1, |range| range.max_values()),
            };
            if index < values {
                return Some((arg, index));
            }
            index -= values;
        }
        None
    }

    fn subcommand(&self, name: &str) -> Option<&'a Command> {
        self.command
            .find_subcommand(name)
            .filter(|_| self.positionals == 0)
    }

    fn subcommands(&self, begun: &str) -> Vec<Candidate> {
        let commands = self.command.get_subcommands();
        commands
            .filter(|inner| !inner.is_hide_set() && self.positionals == 0)
            .map(|inner| candidate(inner.get_name().to_owned(), inner.get_about()))
            .filter(|candidate| candidate.word.starts_with(begun))
            .collect()
    }

    /// The flags that begin so. A bundle of flags is taken as it is.
    fn flags(&self, begun: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        for arg in self.command.get_arguments() {
            if arg.is_hide_set() {
                continue;
            }
            let short = arg.get_short().map(|letter| format!("-{letter}"));
            let long = arg.get_long().map(|name| format!("--{name}"));
            for word in short.into_iter().chain(long) {
                if word.starts_with(begun) {
                    found.push(candidate(word, arg.get_help()));
                }
            }
        }
        let bundle = begun.strip_prefix('-').filter(|letters| {
            !letters.is_empty() && letters.chars().all(|letter| self.short(letter).is_some())
        });
        if found.is_empty() && bundle.is_some() {
            found.push(candidate(begun.to_owned(), None));
        }
        found
    }
}

#[derive(Debug)]
enum Kind<'a> {
    /// `--`
    Escape,
    /// `--name`, `--name=value`
    Long(&'a str, Option<&'a str>),
    /// `-it`, without the dash
    Shorts(&'a str),
    Plain,
}

fn takes_next_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Help is one line here: the first.
pub fn candidate(word: String, help: Option<&clap::builder::StyledStr>) -> Candidate {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let about = help.lines().next().unwrap_or_default().to_owned();
    Candidate { word, about }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Command {
        let mut root = crate::cli::command();
        root.build();
        root
    }

    /// The place as text: words, `COMMAND NAME before|begun`, or `foreign`.
    fn place(root: &Command, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match find(root, &words) {
            Place::Words(words) => {
                let words: Vec<String> = words.into_iter().map(|word| word.word).collect();
                format!("[{}]", words.join(" "))
            }
            Place::Value(value) => format!(
                "{} {} {}|{}",
                value.command, value.name, value.before, value.begun
            ),
            Place::Foreign => "foreign".into(),
        }
    }

    #[test]
    fn places_are_found() {
        let table = [
            ("at", "[attach]"),
            ("nosuch", "[]"),
            ("nosuch x", "foreign"),
            ("__complete", "[]"),
            ("generate-", "[]"),
            ("--ver", "[--version]"),
            ("ps --no-t", "[--no-trunc]"),
            ("run --publi", "[--publish --publish-all]"),
            // Those that are only refused are not offered.
            ("run --init-p", "[]"),
            ("run ", "run IMAGE |"),
            ("run bus", "run IMAGE |bus"),
            ("run busybox ", "foreign"),
            ("run busybox --na", "foreign"),
            ("run busybox sh -c --name ", "foreign"),
            ("run --name ", "run NAME |"),
            ("run --name x ", "run IMAGE |"),
            ("run --name=x ", "run IMAGE |"),
            ("run --name= ", "run IMAGE |"),
            ("run --name --rm ", "run IMAGE |"),
            ("run --pull=al", "run POLICY --pull=|al"),
            ("run --net=", "run NETWORK --net=|"),
            ("run --net h", "run NETWORK |h"),
            ("run -it ", "run IMAGE |"),
            ("run -it", "[-it]"),
            ("run -iz", "[]"),
            ("run -d", "[-d]"),
            ("run -itv ", "run [SOURCE:]PATH[:OPTIONS] |"),
            ("run -itv/a:/b ", "run IMAGE |"),
            ("run -itv/a", "run [SOURCE:]PATH[:OPTIONS] -itv|/a"),
            ("run -v=/a", "run [SOURCE:]PATH[:OPTIONS] -v=|/a"),
            ("run -v /a:/b --rm de", "run IMAGE |de"),
            ("run --rm ", "run IMAGE |"),
            ("run --rm=f", "run BOOL --rm=|f"),
            ("run --rm=false ", "run IMAGE |"),
            ("run -i=true ", "run IMAGE |"),
            ("run -i=t", "run BOOL -i=|t"),
            ("run --nosuch ", "run IMAGE |"),
            ("run --nosuch=", "[]"),
            ("run -- ", "run IMAGE |"),
            ("run -- -", "run IMAGE |-"),
            ("run -- busybox ", "foreign"),
            ("exec -it -e A=b w", "exec CONTAINER |w"),
            ("exec web ", "foreign"),
            ("rm -f a b ", "rm CONTAINER |"),
            (
                "rm a -",
                "[-a --all --cidfile --depend --filter -f --force -i --ignore -l --latest -t --time -v --volumes -h --help]",
            ),
            (
                "rm a --",
                "[--all --cidfile --depend --filter --force --ignore --latest --time --volumes --help]",
            ),
            ("rm -- --", "rm CONTAINER |--"),
            ("logs web ", "logs CONTAINER |"),
            ("logs --tail 3 w", "logs CONTAINER |w"),
            ("tag a", "tag IMAGE |a"),
            ("tag a b", "tag NAME |b"),
            ("tag a b c", "tag NAME |c"),
            (
                "list -a -",
                "[-a --all -f --filter --format -n --last -l --latest --namespace --no-trunc --noheading -q --quiet -s --size --sort -w --watch -h --help]",
            ),
            ("load -i ", "load PATH |"),
            ("load -i - -q ", "[]"),
            ("help ru", "[run]"),
            ("image rm a", "rm IMAGE |a"),
            ("image ls ", "ls REPOSITORY[:TAG] |"),
            ("image tree --wh", "[--whatrequires]"),
            ("untag a b", "untag NAME |b"),
            ("system ch", "[check]"),
        ];
        let root = root();
        for (line, expected) in table {
            assert_eq!(place(&root, line), expected, "{line:?}");
        }
        assert!(matches!(find(&root, &[]), Place::Words(words) if words.len() > 10));
    }

    #[test]
    fn commands_and_flags_have_descriptions() {
        let root = root();
        for (words, word, about) in [
            (&["rmi"][..], "rmi", "Remove images"),
            (&["rmi", "--f"], "--force", "The containers that use"),
        ] {
            let Place::Words(found) = find(&root, words) else {
                panic!("{words:?}: no words");
            };
            assert_eq!(found[0].word, word);
            assert!(found[0].about.starts_with(about), "{found:?}");
        }
    }

    /// One word after a flag is its value: more would need counting.
    #[test]
    fn flags_take_one_value() {
        fn check(command: &Command) {
            for arg in command.get_opts() {
                let most = arg.get_num_args().map_or(1, |range| range.max_values());
                assert!(most <= 1, "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&root());
    }
}
