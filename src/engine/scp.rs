//! `image scp`: an image of one store into another, of another user of this machine or of another machine.
//! One rbox saves and another loads; a stream goes between them, by way of ssh(1) where that is far.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

use crate::config::ids;
use crate::config::ids::Account;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::helper;
use crate::store::temp;

/// What a program says at its end is read up to here.
const SAID_MAX: u64 = 16 << 10;

/// Whose store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Own,
    User(Account),
    /// `[USER@]HOST`, and the port of its ssh.
    Remote {
        host: String,
        port: Option<u16>,
    },
}

impl End {
    /// `[USER@]localhost`, `[ssh://][USER@]HOST[:PORT][/PATH]`; the path, of podman's socket there, is not used.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| fail(Kind::Usage, format!("{text:?} is no host: {why}"));
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let rest = rest.split('/').next().unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let bracket = place.rfind(']').unwrap_or(0);
        let (host, port) = match place[bracket..].rsplit_once(':') {
            Some((_, port)) => {
                let number = port.parse().map_err(|_| bad("its port is no number"))?;
                (&place[..place.len() - port.len() - 1], Some(number))
            }
            None => (place, None),
        };
        // ssh(1) takes a word that begins with a dash for an option, and its shell understands others.
        let plain = |text: &str| {
            !text.starts_with('-')
                && text.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%')
                })
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || !plain(name) {
            return Err(bad("expected [USER@]HOST[:PORT]"));
        }
        if user.is_some_and(|user| user.is_empty() || !plain(user)) {
            return Err(bad("expected a user's name before the @"));
        }
        if name == "localhost" && port.is_none() {
            return match user {
                None => Ok(Self::Own),
                Some(user) => Self::of_user(user),
            };
        }
        let host = match user {
            Some(user) => format!("{user}@{name}"),
            None => name.to_owned(),
        };
        Ok(Self::Remote { host, port })
    }

    fn of_user(user: &str) -> Result<Self> {
        let Some(account) = ids::account(user) else {
            return Err(fail(Kind::NotFound, format!("there is no user \"{user}\"")));
        };
        let own = rustix::process::geteuid().as_raw();
        match account.uid {
            uid if uid == own => Ok(Self::Own),
            _ if own == 0 => Ok(Self::User(account)),
            _ => {
                let text = format!("the store of user \"{user}\" is not yours");
                Err(fail(Kind::Unsupported, text))
                    .hint("root can copy between users: `sudo rbox image scp …`")
            }
        }
    }

    /// rbox with these arguments, where the store is.
    fn command(&self, words: &[&str]) -> Command {
        match self {
            Self::Own => {
                let mut command = Command::new(helper::executable());
                command.args(words);
                command
            }
            Self::User(account) => {
                let mut command = Command::new(helper::executable());
                let runtime = format!("/run/user/{}", account.uid);
                // As a login has it. Linux: setuid(2) by root leaves no way back; the standard library drops
                // supplementary groups with it.
                command.args(words).uid(account.uid).gid(account.gid);
                command.env_clear().current_dir("/");
                command
                    .env("HOME", &account.home)
                    .env("USER", &account.name);
                command.env(
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                );
                if Path::new(&runtime).is_dir() {
                    command.env("XDG_RUNTIME_DIR", runtime);
                }
                command
            }
            Self::Remote { host, port } => {
                let mut command = Command::new("ssh");
                if let Some(port) = port {
                    command.args(["-p", &port.to_string()]);
                }
                command.args(["--", host, &remote(words)]);
                command
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Own => "this store".to_owned(),
            Self::User(account) => format!("user \"{}\"", account.name),
            Self::Remote { host, .. } => format!("host \"{host}\""),
        }
    }
}

/// What the shell of another machine is given: rbox, or podman where there is no rbox.
fn remote(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let script = format!(
        "p=$(command -v rbox || command -v podman) || {{ echo 'neither rbox nor podman is there' >&2; exit 127; }}; exec \"$p\" {}",
        words.join(" ")
    );
    // The user's shell there may be another than sh.
    format!("sh -c {}", quoted(&script))
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Copies an image; returns what the loading end says.
pub fn copy(engine: &Engine, from: &End, image: &str, to: &End) -> Result<String> {
    if from == to {
        return Err(fail(Kind::Usage, "both ends are the same store"));
    }
    let cannot = || format!("cannot copy image \"{image}\"");
    let mut source_said = temp::nameless_file(&engine.dirs.tmp())?;
    let mut target_said = temp::nameless_file(&engine.dirs.tmp())?;
    let save = ["save", "-q", "--format", "oci-archive", image];
    let mut source = start(
        from.command(&save)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(source_said.try_clone()?),
        from,
    )
    .with_context(cannot)?;
    let stream = source.stdout.take().context("there is no stream")?;
    let started = start(
        to.command(&["load", "-q"])
            .stdin(stream)
            .stdout(Stdio::piped())
            .stderr(target_said.try_clone()?),
        to,
    );
    let target = match started {
        Ok(target) => target,
        Err(err) => {
            // It ends by itself too, since nobody reads what it writes.
            source.wait().ok();
            return Err(err).with_context(cannot);
        }
    };
    let loaded = target.wait_with_output().with_context(cannot)?;
    let saved = source.wait().with_context(cannot)?;
    // Where both went wrong, the first is the cause, unless it only lost its reader.
    let lost_reader = !loaded.status.success() && said(&mut source_said)?.contains("roken pipe");
    if !saved.success() && !lost_reader {
        return Err(refusal(from, &mut source_said)?).with_context(cannot);
    }
    if !loaded.status.success() {
        return Err(refusal(to, &mut target_said)?).with_context(cannot);
    }
    Ok(String::from_utf8_lossy(&loaded.stdout).into_owned())
}

fn start(command: &mut Command, end: &End) -> Result<Child> {
    match command.spawn() {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            bail!(
                "cannot reach {}: there is no ssh on this machine",
                end.name()
            )
        }
        other => other.with_context(|| format!("cannot start rbox for {}", end.name())),
    }
}

fn said(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Why an end did not do it, in its own words.
fn refusal(end: &End, file: &mut File) -> Result<anyhow::Error> {
    let said = said(file)?;
    let lines = said.lines().map(|line| line.trim_start_matches("Error: "));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("Hint: ")).collect();
    let text = match lines.as_slice() {
        [] => "it said nothing".to_owned(),
        lines => lines.join("; "),
    };
    Ok(match end {
        End::Own => anyhow!(text),
        end => anyhow!("{}: {text}", end.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_never_options() {
        let remote = |host: &str, port| End::Remote {
            host: host.to_owned(),
            port,
        };
        for (text, end) in [
            ("localhost", End::Own),
            ("far", remote("far", None)),
            ("ann@far.lan:2222", remote("ann@far.lan", Some(2222))),
            ("ssh://ann@far/run/podman.sock", remote("ann@far", None)),
            (
                "ann@10.0.0.1:22/run/user/1/x",
                remote("ann@10.0.0.1", Some(22)),
            ),
            ("[fe80::1]:22", remote("fe80::1", Some(22))),
            ("ann@localhost:2222", remote("ann@localhost", Some(2222))),
        ] {
            assert_eq!(End::parse(text).unwrap(), end, "{text}");
        }
        for text in [
            "",
            "-oProxyCommand=x",
            "ann@-x",
            "@far",
            "far:x",
            "a b",
            "a;b",
            "$(x)",
        ] {
            let text_of = crate::error::message(&End::parse(text).unwrap_err());
            assert!(
                text_of.starts_with(&format!("{text:?} is no host: ")),
                "{text_of}"
            );
        }
    }

    #[test]
    fn words_stay_words_in_the_shell_there() {
        let script = remote(&["save", "a'b $(touch /x)"]);
        let output = Command::new("sh")
            .args(["-c", &script.replace("command -v rbox", "echo printf")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "save");
        assert!(script.contains("a'\\''"), "{script}");
    }
}
