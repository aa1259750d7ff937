//! A process in the foreground: our streams joined with its own, until it ends.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use anyhow::Context;

use crate::cli::exec::Session;
use crate::cli::exec::Streams;
use crate::cli::session;
use crate::runtime::Stdio;
use crate::runtime::exec::Joined;

/// What is prepared before the process is made.
pub struct Attached {
    signals: OwnedFd,
    streams: RefCell<Option<Streams>>,
}

/// The same with the process.
pub struct Serving {
    signals: OwnedFd,
    session: Session,
}

impl Attached {
    /// From here on signals are for the process.
    pub fn new() -> anyhow::Result<Attached> {
        Ok(Attached {
            signals: session::catch_signals(true)?,
            streams: RefCell::new(None),
        })
    }

    /// The streams of a process that gets no terminal: pipes, never our own streams, which may be the caller's
    /// terminal or files that a container could open again with other rights.
    pub fn stdio(&self) -> anyhow::Result<Stdio> {
        let (ours, theirs) = Streams::new(true, false)?;
        self.streams.replace(Some(ours));
        theirs.context("a process without a terminal has streams")
    }

    pub fn session(self, joined: Joined) -> anyhow::Result<Serving> {
        let streams = match self.streams.into_inner() {
            Some(streams) => streams,
            None => Streams::new(true, true)?.0,
        };
        Ok(Serving {
            signals: self.signals,
            session: Session::new(joined, streams, true)?,
        })
    }
}

impl Serving {
    /// Serves until the process has ended; returns its status.
    pub fn run(self) -> anyhow::Result<i32> {
        self.session.run(&self.signals)
    }
}
