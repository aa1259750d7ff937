//! One health check: a process beside the supervisor, for as long as the check takes, that executes the
//! command as `exec` does, waits for it, and records what came of it.
//!
//! The supervisor waits for none of that: joining a container, what a command does, and a disk can all
//! take for ever. If the supervisor dies, its checker is killed with it, and the command with the checker.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::container::config::Health;
use crate::container::config::health::Destination;
use crate::container::health;
use crate::container::health::Entry;
use crate::container::health::Machine;
use crate::container::health::Outcome;
use crate::container::record::Container;
use crate::container::status;
use crate::error;
use crate::runtime::Stdio;
use crate::runtime::exec::Joined;
use crate::supervisor::descendants;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::signal;
use crate::sys::socket;
use crate::text::duration;

/// Executes a command in a container as `exec` does, tied to the process that calls.
pub type Execute<'a> = dyn Fn(&Container, Vec<String>, Stdio) -> anyhow::Result<Joined> + 'a;

/// Of what a command writes so much is read at once, and the rest no faster than `PACE` a buffer, so that one
/// that never stops costs next to nothing outside of its control group.
const FREELY: usize = 1024 * 1024;
const PACE: Duration = Duration::from_millis(10);

/// How long a command may take to end that was killed.
const LAST: Duration = Duration::from_secs(1);

/// Linux: what a pipe holds, and one more for what is written meanwhile (pipe(7)).
const LAST_READS: usize = 17;

/// What is to be checked, and how.
pub struct Job<'a> {
    pub container: &'a Container,
    pub health: &'a Health,
    pub machine: &'a Machine,
    pub command: Vec<String>,
    pub timeout: Duration,
    pub began: Duration,
    pub asked: bool,
    /// The control group that says whether the container is paused.
    pub group: Option<&'a Path>,
    pub execute: &'a Execute<'a>,
}

/// What a checker says at its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// The container was paused meanwhile: what the command did says nothing.
    Paused,
    /// Its exit status, and what it has written where the journal is to have it.
    Ended(i32, String),
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        match self {
            Report::Paused => vec![b'p'],
            Report::Ended(status, output) => {
                let mut packet = vec![b'e'];
                packet.extend_from_slice(&status.to_le_bytes());
                packet.extend_from_slice(output.as_bytes());
                packet
            }
        }
    }

    fn decode(packet: &[u8]) -> Option<Report> {
        match packet.split_first()? {
            (b'p', _) => Some(Report::Paused),
            (b'e', rest) => {
                let (status, output) = rest.split_first_chunk()?;
                let output = String::from_utf8_lossy(output).into_owned();
                Some(Report::Ended(i32::from_le_bytes(*status), output))
            }
            _ => None,
        }
    }
}

/// A checker that works.
pub struct Checker {
    process: Child,
    socket: OwnedFd,
}

impl AsFd for Checker {
    /// Readable when it has ended, or is about to.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Checker {
    /// Must: be called by a single-threaded process.
    pub fn start(job: &Job<'_>) -> anyhow::Result<Checker> {
        let (ours, theirs) = socket::pair()?;
        match process::fork().context("cannot start a process for the health check")? {
            Side::Child => {
                main(job, &theirs);
                process::exit_now(0)
            }
            Side::Parent(process) => Ok(Checker {
                process,
                socket: ours,
            }),
        }
    }

    /// What it has found; `None` for one that was killed.
    pub fn finish(self, buffer: &mut [u8]) -> Option<Report> {
        let packet = socket::receive(self.socket.as_fd(), buffer).ok();
        let report = packet.and_then(|packet| Report::decode(&buffer[..packet.length]));
        self.end();
        report
    }

    /// Kills it, with all that it has started, and what that has.
    pub fn kill(self) {
        descendants::kill(self.process.pid);
        self.end();
    }

    /// Nothing of it is needed any more. One that hangs in the kernel is left to itself.
    fn end(self) {
        const LIMIT: Duration = Duration::from_secs(1);
        let pidfd = self.process.pidfd.as_fd();
        if matches!(poll::readable([Some(pidfd)], Some(LIMIT)), Ok([false])) {
            signal::send(pidfd, libc::SIGKILL).ok();
        }
        if matches!(poll::readable([Some(pidfd)], Some(LIMIT)), Ok([true])) {
            process::wait(pidfd).ok();
        }
    }
}

fn main(job: &Job<'_>, socket: &OwnedFd) {
    let tied = process::set_parent_death_signal(libc::SIGKILL);
    let gone = poll::readable([Some(socket.as_fd())], Some(Duration::ZERO));
    if tied.is_err() || !matches!(gone, Ok([false])) || keep_only(socket).is_err() {
        return;
    }
    let start = Timestamp::now();
    let (status, output) = match check(job) {
        Ok(ended) => ended,
        Err(err) => (error::status(&err).into(), error::message(&err)),
    };
    let report = if job.group.is_some_and(status::is_frozen) {
        Report::Paused
    } else {
        record_check(job, start, status, &output);
        let is_told = job.health.log.destination == Destination::Events;
        Report::Ended(status, if is_told { output } else { String::new() })
    };
    socket::send(socket.as_fd(), &report.encode(), None).ok();
}

/// The supervisor's other descriptors are not ours to hold: clients, ports, and the lock that says that
/// the container runs.
fn keep_only(socket: &OwnedFd) -> crate::sys::Result<()> {
    let number = socket.as_raw_fd().cast_unsigned();
    if number > 3 {
        process::close_range(3, number - 1)?;
    }
    process::close_range(number + 1, u32::MAX)
}

fn record_check(job: &Job<'_>, start: Timestamp, status: i32, output: &str) {
    let mut machine = job.machine.clone();
    machine.take(job.health, job.outcome(status));
    let entry = Entry {
        start,
        end: Timestamp::now(),
        exit_code: status,
        output: output.to_owned(),
    };
    // A full disk is no sickness of the container's.
    health::note(job.container, job.health, &machine, entry).ok();
}

impl Job<'_> {
    fn outcome(&self, status: i32) -> Outcome {
        Outcome {
            passed: status == 0,
            began: self.began,
            asked: self.asked,
        }
    }
}

/// The exit status of the command, and what it has written.
fn check(job: &Job<'_>) -> anyhow::Result<(i32, String)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let stdio = Stdio {
        stdin: null,
        stdout: writer.try_clone()?,
        stderr: writer,
    };
    let joined = (job.execute)(job.container, job.command.clone(), stdio)?;
    let until = Instant::now().checked_add(job.timeout);
    let mut output = Output {
        pipe: Some(reader),
        kept: vec![],
        room: job.health.log.room(),
        taken: 0,
    };
    let command = &joined.command;
    let ended = wait(command, &mut output, until)?;
    // While nobody has waited for it, its pid and its process group are its own.
    if ended {
        rustix::process::kill_process_group(command.pid, rustix::process::Signal::KILL).ok();
    } else {
        descendants::kill(command.pid);
    }
    for _ in 0..LAST_READS {
        output.read_now()?;
    }
    let text = output.text();
    // What hangs in the kernel cannot be waited for.
    let is_over = poll::readable([Some(command.pidfd.as_fd())], Some(LAST))?;
    let exit = match is_over {
        [true] => Some(process::wait(command.pidfd.as_fd())?),
        _ => None,
    };
    if let (true, Some(exit)) = (ended, exit) {
        return Ok((exit.status, text));
    }
    let late = format!(
        "Health check exceeded timeout ({})",
        duration::go(job.timeout)
    );
    let text = if text.is_empty() {
        late
    } else {
        format!("{late}: {text}")
    };
    Ok((-1, text))
}

/// Waits for the end of the command; `false` if its time is over before.
fn wait(command: &Child, output: &mut Output, until: Option<Instant>) -> anyhow::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let pipe = output.pipe.as_ref().map(AsFd::as_fd);
        let [written, ended] = poll::readable([pipe, Some(command.pidfd.as_fd())], left)?;
        if ended {
            return Ok(true);
        }
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        if written {
            output.read();
            if output.taken > FREELY {
                std::thread::sleep(PACE);
            }
        }
    }
}

/// What a command writes, to its standard output and error alike.
struct Output {
    /// Until nobody can write any more.
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    room: usize,
    taken: usize,
}

impl Output {
    /// Reads once, and keeps what there is room for.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let Some(pipe) = &self.pipe else {
            return;
        };
        match process::retry(|| rustix::io::read(pipe, &mut buffer)) {
            Ok(length) if length > 0 => {
                self.taken = self.taken.saturating_add(length);
                let left = self.room.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buffer[..length.min(left)]);
            }
            _ => self.pipe = None,
        }
    }

    /// The same, if there is something.
    fn read_now(&mut self) -> anyhow::Result<()> {
        let pipe = self.pipe.as_ref().map(AsFd::as_fd);
        if let [true] = poll::readable([pipe], Some(Duration::ZERO))? {
            self.read();
        }
        Ok(())
    }

    /// Not longer than there is room for: what is no text takes three bytes each.
    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        let end = (0..=self.room.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_out_as_they_went_in() {
        for report in [
            Report::Paused,
            Report::Ended(-1, String::new()),
            Report::Ended(3, "é\n".into()),
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        for junk in [&b""[..], b"e123", b"x"] {
            assert_eq!(Report::decode(junk), None);
        }
    }

    #[test]
    fn output_is_cut_between_characters() {
        let output = |kept: &[u8], room| Output {
            pipe: None,
            kept: kept.to_vec(),
            room,
            taken: 0,
        };
        assert_eq!(output("aé".as_bytes(), 3).text(), "aé");
        assert_eq!(output("aé".as_bytes(), 2).text(), "a");
        assert_eq!(output(&[0xff; 10], 10).text(), "\u{fffd}".repeat(3));
    }
}
