//! What an error is besides its text: its kind, which code may branch on and
//! which decides the exit status, and a hint for the person who reads it.
//!
//! Texts travel as `anyhow` contexts, outermost first; `main` alone prints them,
//! once, as `Error: outer: inner: cause` and, below, `Hint: …`.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// What kind of failure it is, for code that branches and for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The name is taken, or the object is in use.
    Conflict,
    /// The command line is wrong.
    Usage,
    /// The container is not in the state that the verb needs.
    WrongStatus,
    /// rbox, or this machine, cannot do it.
    Unsupported,
    /// The container's command exists but cannot be executed: status 126.
    CannotExecute,
    /// The container's command does not exist: status 127.
    CommandNotFound,
}

/// An error with a kind. Its text is the message alone.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Makes an error of a kind: `fail(Kind::NotFound, format!("no container named \"{name}\""))`.
pub fn fail(kind: Kind, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failure {
        kind,
        message: message.into(),
    })
}

/// What a person can do about an error. It is a context without text, so that it
/// can be hung on any error and does not show in the chain of causes.
#[derive(Debug)]
struct Hint(String);

impl fmt::Display for Hint {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Hangs a hint on an error: one imperative sentence, commands in backticks.
pub trait WithHint {
    #[must_use]
    fn hint(self, text: impl Into<String>) -> Self;
}

impl WithHint for anyhow::Error {
    fn hint(self, text: impl Into<String>) -> Self {
        self.context(Hint(text.into()))
    }
}

impl<T> WithHint for anyhow::Result<T> {
    fn hint(self, text: impl Into<String>) -> Self {
        self.map_err(|err| err.hint(text))
    }
}

/// The kind of an error, where it has one.
pub fn kind(err: &anyhow::Error) -> Option<Kind> {
    err.downcast_ref::<Failure>().map(|failure| failure.kind)
}

/// The hint of an error, where it has one; the outermost wins.
pub fn hint(err: &anyhow::Error) -> Option<&str> {
    err.downcast_ref::<Hint>().map(|hint| hint.0.as_str())
}

/// The chain of causes on one line: `cannot start container "web": …: Operation not permitted`.
pub fn message(err: &anyhow::Error) -> String {
    let parts: Vec<String> = err
        .chain()
        .map(ToString::to_string)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(": ")
}

/// The exit status that Docker and Podman give for this error.
pub fn status(err: &anyhow::Error) -> u8 {
    match kind(err) {
        Some(Kind::CannotExecute) => 126,
        Some(Kind::CommandNotFound) => 127,
        _ => 125,
    }
}

/// An error on its way to another process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    pub message: String,
    pub hint: Option<String>,
    pub kind: Option<Kind>,
}

impl Told {
    /// Texts longer than this are cut: they go in one packet.
    const LONGEST: usize = 2000;

    pub fn of(err: &anyhow::Error) -> Told {
        let cut = |text: &str| text.chars().take(Told::LONGEST).collect();
        Told {
            message: cut(&message(err)),
            hint: hint(err).map(cut),
            kind: kind(err),
        }
    }

    pub fn into_error(self) -> anyhow::Error {
        let err = match self.kind {
            Some(kind) => fail(kind, self.message),
            None => anyhow::anyhow!(self.message),
        };
        match self.hint {
            Some(hint) => err.hint(hint),
            None => err,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_hint_is_found_and_not_printed_in_the_chain() {
        let err: anyhow::Result<()> = Err(fail(Kind::Conflict, "name \"web\" is taken"));
        let err = err
            .hint("use another --name")
            .context("cannot create container \"web\"")
            .unwrap_err();
        assert_eq!(
            message(&err),
            "cannot create container \"web\": name \"web\" is taken"
        );
        assert_eq!(hint(&err), Some("use another --name"));
        assert_eq!(kind(&err), Some(Kind::Conflict));
        assert_eq!(status(&err), 125);
    }
}
