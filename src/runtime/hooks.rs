//! OCI hooks: programs that somebody configured to be run at certain points of a container's life, with
//! its state on their standard input (OCI runtime specification, "POSIX-platform Hooks").

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use oci_spec::runtime::Hook;
use oci_spec::runtime::Spec;
use rustix::fs::MemfdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use serde::Serialize;

use crate::config::hooks::Stage;
use crate::sys::poll;
use crate::sys::process;

/// Bytes of what a hook says that are repeated in the error when it fails.
const SAID: usize = 4096;

/// The status of a container at one of these points.
fn status(stage: Stage) -> &'static str {
    match stage {
        Stage::Prestart | Stage::CreateRuntime | Stage::CreateContainer => "creating",
        Stage::StartContainer => "created",
        Stage::Poststart => "running",
        Stage::Poststop => "stopped",
    }
}

/// The state that a hook is told (OCI runtime specification, "State").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<std::collections::BTreeMap<&'a str, &'a str>>,
}

/// A container with hooks.
#[derive(Clone, Copy)]
pub struct Hooked<'a> {
    pub spec: &'a Spec,
    pub id: &'a str,
    /// The directory that hooks are told as the bundle.
    pub bundle: &'a Path,
}

impl Hooked<'_> {
    fn hooks(&self, stage: Stage) -> &[Hook] {
        let hooks = self.spec.hooks().as_ref();
        hooks.map(|hooks| stage.of(hooks)).unwrap_or_default()
    }

    /// Whether there is something to be run at one of these points.
    pub fn any(&self, stages: &[Stage]) -> bool {
        stages.iter().any(|stage| !self.hooks(*stage).is_empty())
    }

    /// Runs the hooks of one point in their order; the first that fails ends it.
    ///
    /// `pid` is that of the container's init, as the one who runs the hooks sees it.
    pub fn run(&self, stage: Stage, pid: Option<Pid>) -> anyhow::Result<()> {
        let mut hooks = self.hooks(stage).iter();
        hooks.try_for_each(|hook| self.run_one(hook, stage, pid))
    }

    /// Runs all hooks of one point whatever becomes of each, as is right when the container runs already
    /// or has ended; returns what went wrong.
    pub fn run_all(&self, stage: Stage, pid: Option<Pid>) -> Vec<anyhow::Error> {
        let hooks = self.hooks(stage).iter();
        hooks
            .filter_map(|hook| self.run_one(hook, stage, pid).err())
            .collect()
    }

    fn run_one(&self, hook: &Hook, stage: Stage, pid: Option<Pid>) -> anyhow::Result<()> {
        let state = self.state(stage, pid)?;
        execute(hook, &state)
            .with_context(|| format!("cannot run {} hook {}", stage.name(), hook.path().display()))
    }

    fn state(&self, stage: Stage, pid: Option<Pid>) -> anyhow::Result<Vec<u8>> {
        let annotations = self.spec.annotations().as_ref().map(|annotations| {
            let pairs = annotations.iter();
            pairs.map(|(key, value)| (&**key, &**value)).collect()
        });
        let state = State {
            oci_version: self.spec.version(),
            id: self.id,
            status: status(stage),
            pid: pid.map(Pid::as_raw_pid),
            bundle: self.bundle,
            annotations,
        };
        Ok(serde_json::to_vec(&state)?)
    }
}

fn execute(hook: &Hook, state: &[u8]) -> anyhow::Result<()> {
    ensure!(hook.path().is_absolute(), "its path is not absolute");
    let deadline = match hook.timeout() {
        Some(seconds) => {
            let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            let seconds = seconds.context("its timeout is not greater than zero")?;
            // One that no clock reaches is none.
            Instant::now().checked_add(Duration::from_secs(seconds))
        }
        None => None,
    };
    let (said, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut child = command(hook, state, theirs)?
        .spawn()
        .context("cannot execute it")?;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut said = Said::new(said)?;
    while !ended(pidfd.as_fd(), &mut said, deadline)? {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // It leads a process group of its own: what it has started goes with it.
            rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
            child.wait()?;
            bail!("it did not end within {} s", hook.timeout().unwrap_or(0));
        }
    }
    said.read();
    let status = child.wait()?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(anyhow!("it ended with status {code}{}", said.text())),
        (None, signal) => Err(anyhow!(
            "it was ended by signal {}{}",
            signal.unwrap_or(0),
            said.text()
        )),
    }
}

/// A hook need not read its state, and annotations can be more than a pipe holds: it is a file in memory.
fn in_memory(state: &[u8]) -> anyhow::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    file.rewind()?;
    Ok(file)
}

fn command(hook: &Hook, state: &[u8], output: OwnedFd) -> anyhow::Result<Command> {
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).env_clear().process_group(0);
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("its variable \"{variable}\" is not NAME=VALUE"))?;
        command.env(name, value);
    }
    command
        .stdin(in_memory(state)?)
        .stdout(output.try_clone()?)
        .stderr(output);
    // Nobody waits for it any more then, and what it sets up is nobody's.
    process::die_with_us(&mut command);
    Ok(command)
}

/// Waits for the hook's end, or for something it says.
fn ended(
    pidfd: std::os::fd::BorrowedFd<'_>,
    said: &mut Said,
    deadline: Option<Instant>,
) -> anyhow::Result<bool> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let [ended, speaks] = poll::readable([Some(pidfd), said.open()], left)?;
    if speaks {
        said.read();
    }
    Ok(ended)
}

/// What a hook writes: read to its end, kept up to a limit.
struct Said {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Said {
    fn new(pipe: OwnedFd) -> anyhow::Result<Said> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Said {
            pipe: Some(pipe.into()),
            bytes: vec![],
        })
    }

    fn open(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match process::retry(|| pipe.read(&mut buffer).map_err(errno)) {
                Ok(length) if length > 0 => {
                    let room = SAID.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(rustix::io::Errno::AGAIN) => return,
                _ => self.pipe = None,
            }
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        match text.trim() {
            "" => String::new(),
            text => format!(": {}", text.replace('\n', "; ")),
        }
    }
}

fn errno(err: std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&err).unwrap_or(rustix::io::Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use oci_spec::runtime::HookBuilder;

    use super::*;

    fn shell(script: &str, timeout: Option<i64>) -> anyhow::Result<()> {
        let mut hook = HookBuilder::default()
            .path("/bin/sh")
            .args(["sh", "-c", script].map(str::to_owned))
            .env(vec!["A=1".to_owned()])
            .build()
            .unwrap();
        hook.set_timeout(timeout);
        execute(&hook, b"{\"id\":\"x\"}")
    }

    fn message(result: anyhow::Result<()>) -> String {
        crate::error::message(&result.unwrap_err())
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_variables_alone() {
        let script = r#"test "$(cat)" = '{"id":"x"}' && test "$A" = 1 && test -z "$HOME""#;
        shell(script, None).unwrap();
        // Nor is it an error not to read.
        shell("exit 0", Some(5)).unwrap();
    }

    #[test]
    fn a_failing_hook_is_repeated() {
        assert_eq!(
            message(shell("echo no; echo way >&2; exit 3", None)),
            "it ended with status 3: no; way"
        );
        assert_eq!(
            message(shell("kill -9 $$", None)),
            "it was ended by signal 9"
        );
        // More than a pipe holds does not stop it.
        assert_eq!(
            message(shell("head -c 300000 /dev/zero; exit 1", Some(20)))
                .split(':')
                .next(),
            Some("it ended with status 1")
        );
    }

    #[test]
    fn a_hook_that_hangs_is_ended_with_all_it_started() {
        let start = Instant::now();
        let err = shell("sleep 1000 & sleep 1000", Some(1));
        assert_eq!(message(err), "it did not end within 1 s");
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(
            message(shell("", Some(0))),
            "its timeout is not greater than zero"
        );
    }

    #[test]
    fn a_hook_that_reads_nothing_is_ended_too() {
        let mut hook = HookBuilder::default()
            .path("/bin/sh")
            .args(["sh", "-c", "sleep 1000"].map(str::to_owned))
            .build()
            .unwrap();
        hook.set_timeout(Some(1));
        let err = execute(&hook, &vec![b' '; 1 << 20]);
        assert_eq!(message(err), "it did not end within 1 s");
        shell("true", Some(i64::MAX)).unwrap();
    }

    #[test]
    fn a_relative_or_missing_path_is_refused() {
        let hook = |path: &str| {
            let hook = HookBuilder::default().path(PathBuf::from(path)).build();
            message(execute(&hook.unwrap(), b""))
        };
        assert_eq!(hook("bin/sh"), "its path is not absolute");
        assert_eq!(
            hook("/nowhere"),
            "cannot execute it: No such file or directory (os error 2)"
        );
    }
}
