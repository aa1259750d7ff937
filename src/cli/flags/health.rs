//! Flags that say how a container is checked while it runs.

use std::time::Duration;

use clap::Args;

use crate::cli::flags;
use crate::cli::flags::namespaces::absolute;
use crate::container::config::health::Destination;
use crate::container::config::health::Interval;
use crate::container::config::health::OnFailure;
use crate::container::config::health::Test;
use crate::engine::create::health::Wish;
use crate::error::Kind;
use crate::error::fail;
use crate::text::duration;

/// For `run`, `create` and `update`: without a default of their own, so that what the image says, or the
/// container has, stays.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Health check")]
pub struct HealthFlags {
    /// Check by this command: a text for a shell, or a JSON array of words; none is no check
    #[arg(long, alias = "healthcheck-command", value_name = "COMMAND")]
    health_cmd: Option<String>,

    /// Pause so long between checks; disable is to check only with `rbox healthcheck run` [default: 30s]
    #[arg(long, alias = "healthcheck-interval", value_name = "DURATION", value_parser = interval)]
    health_interval: Option<Interval>,

    /// Keep the results in a directory, or local, or each as an event too: events_logger [default: local]
    #[arg(long, value_name = "WHERE", value_parser = destination)]
    health_log_destination: Option<Destination>,

    /// Keep so many results; 0 is as many as there is room for [default: 5]
    #[arg(long, value_name = "COUNT", value_parser = count)]
    health_max_log_count: Option<u32>,

    /// Keep so many bytes of what a check writes; 0 is as many as there is room for [default: 500]
    #[arg(long, value_name = "BYTES", value_parser = count)]
    health_max_log_size: Option<u32>,

    /// Do this with a container that has become unhealthy: none, kill, restart or stop [default: none]
    #[arg(long, value_name = "ACTION", value_parser = on_failure)]
    health_on_failure: Option<OnFailure>,

    /// Call it unhealthy after so many failures in a row [default: 3]
    #[arg(long, alias = "healthcheck-retries", value_name = "COUNT", value_parser = retries)]
    health_retries: Option<u32>,

    /// Pause so long between checks within the start period [default: 5s, or the interval]
    #[arg(long, value_name = "DURATION", value_parser = pause)]
    health_start_interval: Option<Duration>,

    /// Count no failures for so long after the start [default: 0s]
    #[arg(long, alias = "healthcheck-start-period", value_name = "DURATION", value_parser = length)]
    health_start_period: Option<Duration>,

    /// Check by this command first, until it succeeds
    #[arg(long, value_name = "COMMAND")]
    health_startup_cmd: Option<String>,

    /// Pause so long between startup checks [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    health_startup_interval: Option<Interval>,

    /// Restart the container after so many failed startup checks; 0 is never [default: 0]
    #[arg(long, value_name = "COUNT", value_parser = count)]
    health_startup_retries: Option<u32>,

    /// Begin with the check itself after so many startup checks that succeeded [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = count)]
    health_startup_success: Option<u32>,

    /// Kill a startup check after so long, which is a failure [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = pause)]
    health_startup_timeout: Option<Duration>,

    /// Kill a check after so long, which is a failure [default: 30s]
    #[arg(long, alias = "healthcheck-timeout", value_name = "DURATION", value_parser = pause)]
    health_timeout: Option<Duration>,

    /// Do not check, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    pub fn into_wish(self) -> anyhow::Result<Wish> {
        let test = command("--health-cmd", self.health_cmd)?;
        let startup = command("--health-startup-cmd", self.health_startup_cmd)?;
        let is_none = test == Command::None;
        if startup == Command::None {
            let text = "--health-startup-cmd=\"none\": expected a command";
            return Err(fail(Kind::Usage, text));
        }
        let wish = Wish {
            none: false,
            test: test.test(),
            interval: self.health_interval,
            timeout: self.health_timeout,
            retries: self.health_retries,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            startup_test: startup.test(),
            startup_interval: self.health_startup_interval,
            startup_timeout: self.health_startup_timeout,
            startup_retries: self.health_startup_retries,
            startup_successes: self.health_startup_success,
            on_failure: self.health_on_failure,
            destination: self.health_log_destination,
            log_count: self.health_max_log_count,
            log_size: self.health_max_log_size,
        };
        if !self.no_healthcheck && !is_none {
            return Ok(wish);
        }
        if wish != Wish::default() {
            let flag = if is_none {
                "--health-cmd none"
            } else {
                "--no-healthcheck"
            };
            let text = format!("{flag}: expected no other --health flag beside it");
            return Err(fail(Kind::Usage, text));
        }
        Ok(Wish { none: true, ..wish })
    }
}

/// What a flag says of a command.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Absent,
    None,
    Test(Test),
}

impl Command {
    fn test(self) -> Option<Test> {
        match self {
            Command::Test(test) => Some(test),
            Command::Absent | Command::None => None,
        }
    }
}

/// The forms that podman takes: words that begin as Docker's list does, a JSON array, or a text for a shell.
fn command(flag: &str, given: Option<String>) -> anyhow::Result<Command> {
    let Some(text) = flags::given(given) else {
        return Ok(Command::Absent);
    };
    let list = as_list(&text);
    let test = Test::of_list(&list).map_err(|why| {
        let text = format!("{flag}=\"{text}\": expected a command: {why}");
        fail(Kind::Usage, text)
    })?;
    Ok(test.map_or(Command::None, Command::Test))
}

fn as_list(text: &str) -> Vec<String> {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(text) {
        let kind = words.first().map(|word| word.to_ascii_uppercase());
        return match (kind.as_deref(), words.len()) {
            (Some(kind @ ("CMD" | "CMD-SHELL" | "NONE")), _) => {
                [&[kind.to_owned()], &words[1..]].concat()
            }
            (_, 0) => vec![],
            (_, 1) => [&["CMD-SHELL".to_owned()], words.as_slice()].concat(),
            _ => [&["CMD".to_owned()], words.as_slice()].concat(),
        };
    }
    let (first, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match first.to_ascii_uppercase().as_str() {
        "CMD" => std::iter::once("CMD")
            .chain(rest.split_whitespace())
            .map(str::to_owned)
            .collect(),
        "NONE" if rest.is_empty() => vec!["NONE".into()],
        "CMD-SHELL" => vec!["CMD-SHELL".into(), rest.into()],
        _ => vec!["CMD-SHELL".into(), text.into()],
    }
}

fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|_| "expected a duration as 30s or 1m30s".into())
}

/// As docker: the shortest is a millisecond.
fn pause(text: &str) -> Result<Duration, String> {
    match length(text)? {
        pause if pause < Duration::from_millis(1) => {
            Err("expected a duration of at least 1ms".into())
        }
        pause => Ok(pause),
    }
}

fn interval(text: &str) -> Result<Interval, String> {
    match text {
        "disable" => Ok(Interval::Never),
        _ => pause(text)
            .map(Interval::Every)
            .map_err(|expected| expected + ", or disable"),
    }
}

fn destination(text: &str) -> Result<Destination, String> {
    match text {
        "" | "local" => Ok(Destination::Local),
        "events_logger" => Ok(Destination::Events),
        _ => absolute(text).map(Destination::Directory),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    let mut all = OnFailure::ALL.into_iter();
    all.find(|action| action.name() == text)
        .ok_or("expected none, kill, restart or stop".into())
}

/// More than fits a record is as good as no limit.
fn count(text: &str) -> Result<u32, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err("expected a whole number, not negative".into());
    }
    Ok(text.parse().unwrap_or(u32::MAX))
}

fn retries(text: &str) -> Result<u32, String> {
    match count(text) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a whole number, at least 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_podman_reads_them() {
        for (given, list) in [
            (
                "curl -f x || exit 1",
                &["CMD-SHELL", "curl -f x || exit 1"][..],
            ),
            ("CMD curl  -f x", &["CMD", "curl", "-f", "x"]),
            ("cmd-shell a || b", &["CMD-SHELL", "a || b"]),
            ("none", &["NONE"]),
            ("NONE", &["NONE"]),
            ("none of it", &["CMD-SHELL", "none of it"]),
            (r#"["curl","-f x"]"#, &["CMD", "curl", "-f x"]),
            (r#"["a || b"]"#, &["CMD-SHELL", "a || b"]),
            (r#"["CMD","a b"]"#, &["CMD", "a b"]),
            (r#"["NONE"]"#, &["NONE"]),
            ("[ -f /x ]", &["CMD-SHELL", "[ -f /x ]"]),
        ] {
            assert_eq!(as_list(given), list, "{given}");
        }
        assert!(command("--health-cmd", Some("[]".into())).is_err());
        assert!(command("--health-cmd", Some("CMD".into())).is_err());
        let empty = command("--health-cmd", Some(String::new()));
        assert_eq!(empty.unwrap(), Command::Absent);
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(count("99999999999999999999"), Ok(u32::MAX));
        assert_eq!(retries("9223372036854775808"), Ok(u32::MAX));
        for wrong in ["", "-1", "+1", "1.5", "x"] {
            assert!(count(wrong).is_err() && retries(wrong).is_err(), "{wrong}");
        }
        assert!(retries("0").is_err());
        assert_eq!(interval("disable"), Ok(Interval::Never));
        for wrong in ["0", "1ns", "-1s", "x", "never"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
