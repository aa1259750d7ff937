//! Credential helpers: programs of the user, `docker-credential-NAME`, that keep passwords (the protocol of
//! docker-credential-helpers). One that fails ends the command: without its answer it is not known who the
//! user wants to be, and to whom (CVE-2021-41092).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::MemfdFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use serde::Deserialize;
use serde_json::json;

use crate::error::WithHint;
use crate::image::registry::auth::Credentials;
use crate::sys::poll;
use crate::sys::process;
use crate::text::escape;

/// A person may have to unlock a keyring.
const TIME: Duration = Duration::from_mins(2);
const OUTPUT_MAX: usize = 1 << 20;
/// The user name that stands for an identity token.
const TOKEN_USER: &str = "<token>";

pub fn get(helper: &str, server: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    let bytes = match run(helper, "get", server.as_bytes(), TIME)? {
        Outcome::Done(bytes) => bytes,
        Outcome::NotFound => return Ok(None),
    };
    let answer: Answer = serde_json::from_slice(&bytes)
        .with_context(|| format!("cannot read what credential helper {helper} says"))?;
    if answer.username.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    if answer.username == TOKEN_USER {
        return Ok(Some(Credentials::IdentityToken {
            user: answer.username,
            token: answer.secret,
        }));
    }
    Ok(Some(Credentials::Password {
        user: answer.username,
        password: answer.secret,
    }))
}

pub fn store(helper: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let (user, secret) = match credentials {
        Credentials::Password { user, password } => (user.as_str(), password),
        Credentials::IdentityToken { token, .. } => (TOKEN_USER, token),
    };
    let entry = json!({"ServerURL": server, "Username": user, "Secret": secret});
    run(helper, "store", &serde_json::to_vec(&entry)?, TIME).map(drop)
}

/// Whether there was something to forget.
pub fn erase(helper: &str, server: &str) -> Result<bool> {
    if get(helper, server)?.is_none() {
        return Ok(false);
    }
    run(helper, "erase", server.as_bytes(), TIME).map(|_| true)
}

/// The servers that it knows.
pub fn list(helper: &str) -> Result<Vec<String>> {
    match run(helper, "list", b"", TIME)? {
        Outcome::NotFound => Ok(Vec::new()),
        Outcome::Done(bytes) => {
            let list: BTreeMap<String, String> = serde_json::from_slice(&bytes)
                .with_context(|| format!("cannot read what credential helper {helper} says"))?;
            Ok(list.into_keys().collect())
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Done(Vec<u8>),
    NotFound,
}

fn run(helper: &str, verb: &str, input: &[u8], time: Duration) -> Result<Outcome> {
    let program = format!("docker-credential-{helper}");
    execute(&program, helper, verb, input, time)
        .with_context(|| format!("cannot use credential helper {program}"))
        .hint(format!(
            "an auth file or registries.conf names it; look for \"{helper}\" there if it is not wanted"
        ))
}

fn execute(
    program: &str,
    helper: &str,
    verb: &str,
    input: &[u8],
    time: Duration,
) -> Result<Outcome> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(plain) {
        bail!("its name is no name of a program");
    }
    let mut input_file = File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC)?);
    input_file.write_all(input)?;
    input_file.rewind()?;
    let mut command = Command::new(program);
    command
        .arg(verb)
        .stdin(input_file)
        .stdout(Stdio::piped())
        .process_group(0);
    // What it needs to find the user's keys is in variables of many names, so that all are kept but those
    // by which another program's code is loaded into it.
    for (name, _) in std::env::vars_os() {
        if is_loader(&name) {
            command.env_remove(name);
        }
    }
    process::die_with_us(&mut command);
    let mut child = command.spawn().context("cannot execute it")?;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut pipe = child.stdout.take().context("it has no output")?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let deadline = Instant::now() + time;
    let mut said = Vec::new();
    let mut is_open = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let output = is_open.then(|| pipe.as_fd());
        let [ended, _] = poll::readable([Some(pidfd.as_fd()), output], Some(left))?;
        is_open = is_open && read(&mut pipe, &mut said)?;
        let why = match () {
            () if said.len() > OUTPUT_MAX => "it says too much",
            () if ended => break,
            () if Instant::now() >= deadline => "it does not end",
            () => continue,
        };
        rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
        child.wait()?;
        bail!(why);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Outcome::Done(said));
    }
    let text = String::from_utf8_lossy(&said);
    // The protocol has this text for it, and no status.
    if text.contains("credentials not found") {
        return Ok(Outcome::NotFound);
    }
    let text: String = text.trim().chars().take(200).collect();
    bail!("{verb} ended with {status}: {}", escape::line(&text));
}

fn is_loader(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"LD_") || name == b"GLIBC_TUNABLES" || name == b"GCONV_PATH"
}

/// Reads what there is; whether more may come.
fn read(pipe: &mut impl Read, said: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 4096];
    while said.len() <= OUTPUT_MAX {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A helper is any program here; `sh` takes the verb as its script.
    fn shell(script: &str, time: Duration) -> Result<Outcome> {
        let dir = crate::store::temp::tests::scratch("helper");
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        execute(path.to_str().unwrap(), "test", "get", b"a.org", time)
    }

    fn message(result: Result<Outcome>) -> String {
        crate::error::message(&result.unwrap_err())
    }

    #[test]
    fn a_helper_is_asked_and_bounded() {
        let long = Duration::from_secs(20);
        let Outcome::Done(bytes) = shell("cat; echo \" $1\"", long).unwrap() else {
            panic!("not found");
        };
        assert_eq!(bytes, b"a.org get\n");
        let missing = shell(
            "echo credentials not found in native keychain; exit 1",
            long,
        );
        assert!(matches!(missing, Ok(Outcome::NotFound)));
        assert!(message(shell("echo locked; exit 3", long)).ends_with("exit status: 3: locked"));
        let endless = message(shell("sleep 100 & sleep 100", Duration::from_millis(300)));
        assert_eq!(endless, "it does not end");
        assert_eq!(message(shell("yes", long)), "it says too much");
        let odd = execute("docker-credential-../x", "../x", "get", b"", long);
        assert_eq!(message(odd), "its name is no name of a program");
    }
}
