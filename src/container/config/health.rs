//! How a container is checked while it runs: a command in it, again and again.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Without one the container is neither healthy nor unhealthy.
    pub check: Option<Check>,
    /// Comes before it, until the container is up.
    pub startup: Option<Startup>,
    /// What runs a text as a command; empty for `/bin/sh -c`.
    pub shell: Vec<String>,
    pub on_failure: OnFailure,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub test: Test,
    pub interval: Interval,
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy; at least 1.
    pub retries: u32,
    /// Since the start of the container, in which failures do not count until it has been healthy.
    pub start_period: Duration,
    /// Between checks in that time.
    pub start_interval: Option<Duration>,
}

impl Check {
    /// With what Docker and Podman have otherwise.
    pub fn new(test: Test) -> Check {
        Check {
            test,
            interval: Interval::Every(Duration::from_secs(30)),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    pub test: Test,
    pub interval: Interval,
    pub timeout: Duration,
    /// So many failures restart the container; 0 is never.
    pub retries: u32,
    /// So many successes end it; 0 is one.
    pub successes: u32,
}

impl Startup {
    pub fn new(test: Test) -> Startup {
        Startup {
            test,
            interval: Interval::Every(Duration::from_secs(30)),
            timeout: Duration::from_secs(30),
            retries: 0,
            successes: 0,
        }
    }
}

/// The command of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    Words(Vec<String>),
    /// For a shell.
    Text(String),
}

impl Test {
    /// The whole command line.
    pub fn args(&self, shell: &[String]) -> Vec<String> {
        match self {
            Test::Words(words) => words.clone(),
            Test::Text(text) if shell.is_empty() => {
                ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
            }
            Test::Text(text) => [shell, std::slice::from_ref(text)].concat(),
        }
    }

    /// As Docker writes it.
    pub fn list(&self) -> Vec<String> {
        match self {
            Test::Words(words) => [&["CMD".to_owned()], words.as_slice()].concat(),
            Test::Text(text) => vec!["CMD-SHELL".into(), text.clone()],
        }
    }

    /// From Docker's list; `Ok(None)` is no check, an error is no list that Docker would write.
    pub fn of_list(list: &[String]) -> Result<Option<Test>, &'static str> {
        let (kind, rest) = list.split_first().ok_or("it is empty")?;
        match kind.as_str() {
            "NONE" => Ok(None),
            _ if rest.iter().any(|word| word.contains('\0')) => Err("it holds a NUL byte"),
            "CMD" | "CMD-SHELL" if rest.concat().is_empty() => Err("it has no command"),
            "CMD" => Ok(Some(Test::Words(rest.to_vec()))),
            "CMD-SHELL" => Ok(Some(Test::Text(rest.join(" ")))),
            _ => Err("it begins with none of CMD, CMD-SHELL and NONE"),
        }
    }
}

/// From the end of one check to the beginning of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    Every(Duration),
    /// Only where somebody asks for it.
    Never,
}

impl Interval {
    pub fn duration(self) -> Option<Duration> {
        match self {
            Interval::Every(pause) => Some(pause),
            Interval::Never => None,
        }
    }
}

/// What is done when it has become unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    #[default]
    None,
    Kill,
    Restart,
    Stop,
}

impl OnFailure {
    pub const ALL: [OnFailure; 4] = [
        OnFailure::None,
        OnFailure::Kill,
        OnFailure::Restart,
        OnFailure::Stop,
    ];

    pub fn name(self) -> &'static str {
        match self {
            OnFailure::None => "none",
            OnFailure::Kill => "kill",
            OnFailure::Restart => "restart",
            OnFailure::Stop => "stop",
        }
    }
}

/// What is kept of the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    pub destination: Destination,
    /// The last ones; 0 is as many as there is room for.
    pub count: u32,
    /// Bytes of what each of them has written; 0 is as many as there is room for.
    pub size: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            destination: Destination::Local,
            count: 5,
            size: 500,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// The container's own runtime directory.
    Local,
    /// There, and each check in the journal of events too.
    Events,
    /// A file in a directory of the user's.
    Directory(PathBuf),
}

impl Destination {
    pub fn name(&self) -> String {
        match self {
            Destination::Local => "local".into(),
            Destination::Events => "events_logger".into(),
            Destination::Directory(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dockers_lists_are_read_and_written() {
        let words = Test::Words(list(&["curl", "-f", "x"]));
        let of = |words: &[&str]| Test::of_list(&list(words));
        assert_eq!(of(&["CMD", "curl", "-f", "x"]), Ok(Some(words.clone())));
        assert_eq!(words.list(), ["CMD", "curl", "-f", "x"]);
        let text = Test::Text("a || b".into());
        assert_eq!(of(&["CMD-SHELL", "a || b"]), Ok(Some(text.clone())));
        assert_eq!(text.list(), ["CMD-SHELL", "a || b"]);
        assert_eq!(text.args(&[]), ["/bin/sh", "-c", "a || b"]);
        let ash = list(&["/bin/ash", "-eo", "pipefail", "-c"]);
        assert_eq!(
            text.args(&ash),
            ["/bin/ash", "-eo", "pipefail", "-c", "a || b"]
        );
        assert_eq!(of(&["NONE"]), Ok(None));
        for wrong in [
            &[][..],
            &["CMD"],
            &["CMD-SHELL", ""],
            &["x"],
            &["CMD", "\0"],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
