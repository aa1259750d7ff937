//! Our own executable once more, as root of a user namespace of its own and shut into one
//! directory: for whatever must touch files of sub-ids, or read what is hostile.
//!
//! ```text
//! parent (may have threads)              helper: `rbox unpack VERB single|many ARGS…`
//!   spawn, working directory = DIR  ──►  unshare(user, net, ipc, uts, cgroup)
//!                                   ◄──  "ready" line on stdout
//!   write the id maps
//!   one byte on stdin               ──►  become uid 0, chroot into DIR
//!   the rest of stdin: data         ──►  work
//!                                   ◄──  one line of JSON: {"error": …} or the result
//! ```
//!
//! The helper is spawned by exec, never by fork alone, because pulls have threads. It dies with
//! its parent, and holds the flock of DIR (shared) as long as it lives.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::Serialize;

use crate::config::ids::Ids;
use crate::error::WithHint;
use crate::sys::idmap::Root;
use crate::sys::process;
use crate::sys::userns;

/// The hidden first argument.
pub const ROLE: &str = "unpack";
const READY: &str = "ready";
/// The longest answer: one line with an error and the name of a file.
const ANSWER_MAX: u64 = 64 << 10;

/// What a helper says at its end when it could not do its work.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
    pub hint: Option<String>,
}

/// A running helper, seen from its parent. Dropping it kills it.
pub struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts a helper that sees nothing but `dir`.
    pub fn start(verb: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        let maps = Ids::detect()?.maps;
        let ids = if maps.is_single() { "single" } else { "many" };
        let mut child = Command::new(executable())
            .args([ROLE, verb, ids])
            .args(args)
            .current_dir(dir)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a helper process")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        let mut helper = Self {
            child,
            stdin,
            stdout: stdout.context("a helper process has no standard output")?,
        };
        let first = helper.answer()?;
        if first.trim_end() != READY {
            bail!("a helper process said {first:?}");
        }
        maps.write(helper.child.id())?;
        if let Some(stdin) = &mut helper.stdin {
            stdin.write_all(b"\n").context("a helper process died")?;
        }
        Ok(helper)
    }

    /// Sends data; an error of the helper itself is told in place of the broken pipe.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            bail!("the input of a helper process is closed");
        };
        match stdin.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => {
                self.stdin = None;
                match self.answer() {
                    Ok(_) => Err(anyhow!("a helper process ended before its input")),
                    Err(err) => Err(err),
                }
            }
            Err(err) => Err(err).context("cannot write to a helper process"),
        }
    }

    /// Ends the input and waits for the answer: one line of JSON.
    pub fn finish(mut self) -> Result<String> {
        self.stdin = None;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let line = self.line()?;
        if line.is_empty() {
            return Err(self.death());
        }
        if let Ok(refusal) = serde_json::from_str::<Refusal>(&line) {
            let err = anyhow!("{}", refusal.error);
            return Err(match refusal.hint {
                Some(hint) => err.hint(hint),
                None => err,
            });
        }
        Ok(line)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let mut limited = (&mut self.stdout).take(ANSWER_MAX);
        limited
            .read_line(&mut line)
            .context("cannot read from a helper process")?;
        Ok(line)
    }

    fn death(&mut self) -> anyhow::Error {
        use std::os::unix::process::ExitStatusExt;
        match self.child.wait() {
            Ok(status) => match status.signal() {
                Some(signal) => anyhow!("a helper process was killed by signal {signal}"),
                None => anyhow!("a helper process ended without an answer ({status})"),
            },
            Err(err) => anyhow!(err).context("cannot wait for a helper process"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stdin = None;
        // Both fail only where the helper is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The program itself.
#[cfg(not(test))]
pub fn executable() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Unit tests run in another executable; the program lies one directory above it.
#[cfg(test)]
pub fn executable() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("rbox");
    assert!(program.exists(), "run `cargo build` first: {program:?}");
    program
}

/// The helper's side: enters the namespaces, and returns once its ids are mapped and its working
/// directory is the root of all it can see.
///
/// Must: be called before any thread is started.
pub fn enter(ids: &str) -> Result<()> {
    process::set_parent_death_signal(libc::SIGKILL)?;
    process::close_range(3, u32::MAX)?;
    hold_working_directory();
    process::set_dumpable(true)?;
    process::unshare(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    )
    .map_err(anyhow::Error::from)
    .hint("see `rbox doctor` for what keeps this system from making user namespaces")?;
    say(READY)?;
    let mut go = [0];
    // Not through Stdin's buffer, which would take data that a later reader needs.
    let count = process::retry(|| rustix::io::read(rustix::stdio::stdin(), &mut go))
        .context("cannot read from the parent")?;
    if count == 0 {
        bail!("no id map was written");
    }
    userns::become_root(Root {
        uid: 0,
        gid: 0,
        keeps_groups: ids == "single",
    })?;
    rustix::process::chroot(".").context("cannot chroot")?;
    rustix::process::chdir("/").context("cannot chdir")?;
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Keeps a sweep away from the directory while this process lives, should its parent be killed.
fn hold_working_directory() {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(dir) = rustix::fs::open(".", flags, Mode::empty()) {
        // A directory without a flock to share is held by nobody else either.
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared).ok();
        std::mem::forget(dir);
    }
}

/// Writes one line to the parent.
pub fn say(line: &str) -> Result<()> {
    let bytes = format!("{line}\n");
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        let count = process::retry(|| rustix::io::write(rustix::stdio::stdout(), rest))
            .context("cannot write to the parent")?;
        rest = &rest[count..];
    }
    Ok(())
}

/// An error as the line that tells it to the parent.
pub fn refusal(err: &anyhow::Error) -> String {
    let refusal = Refusal {
        error: crate::error::message(err),
        hint: crate::error::hint(err).map(ToOwned::to_owned),
    };
    serde_json::to_string(&refusal).unwrap_or_default()
}
