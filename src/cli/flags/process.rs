//! Flags that say what is executed, in which surroundings.

use clap::Args;

use crate::container::config::process::Network;
use crate::engine::create::process::Wish;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::signal;

#[derive(Clone, Debug, Args)]
pub struct ProcessFlags {
    /// Replace the image's entrypoint: one command, or a JSON array
    #[arg(long, value_name = "COMMAND", value_parser = entrypoint)]
    entrypoint: Option<Entrypoint>,

    /// Set an environment variable; without a value, that of the host
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Set the container's host name
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Connect to a network: none (loopback only) or host (the host's own)
    #[arg(long, alias = "net", value_name = "MODE", value_parser = network, default_value = "none")]
    network: Network,

    /// Publish a port (not possible yet: there is no network to publish from)
    #[arg(short, long, value_name = "PORT", hide = true)]
    publish: Vec<String>,

    /// Stop the container by this signal instead of the image's
    #[arg(long, value_name = "SIGNAL", value_parser = signal::parse)]
    stop_signal: Option<i32>,

    /// Wait this many seconds before a stop becomes a kill [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,

    /// Set the working directory
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    workdir: Option<String>,
}

impl ProcessFlags {
    pub fn into_wish(self, command: Vec<String>) -> anyhow::Result<Wish> {
        if let Some(port) = self.publish.first() {
            return Err(fail(
                Kind::Unsupported,
                format!("cannot publish port \"{port}\": there is no user-mode network yet"),
            )
            .hint("use `--network host`; the container then listens on the host itself"));
        }
        Ok(Wish {
            command,
            entrypoint: self.entrypoint.map(|entrypoint| entrypoint.0),
            env: with_host_values(self.env)?,
            workdir: self.workdir,
            hostname: self.hostname,
            network: self.network,
            terminal: self.tty,
            interactive: self.interactive,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
        })
    }
}

/// `NAME` alone takes the host's value, and is left out where the host has none.
pub fn with_host_values(env: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut variables = Vec::new();
    for variable in env {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(fail(
                Kind::Usage,
                format!("\"{variable}\" is no environment variable: expected NAME=VALUE or NAME"),
            ));
        }
        if variable.contains('=') {
            variables.push(variable);
        } else if let Ok(value) = std::env::var(&variable) {
            variables.push(format!("{variable}={value}"));
        }
    }
    Ok(variables)
}

#[derive(Clone, Debug)]
struct Entrypoint(Vec<String>);

/// As podman: a JSON array of words, or one command; an empty one takes the image's away.
fn entrypoint(text: &str) -> Result<Entrypoint, String> {
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map(Entrypoint)
            .map_err(|err| format!("expected a JSON array of strings: {err}"));
    }
    Ok(Entrypoint(if text.is_empty() {
        vec![]
    } else {
        vec![text.to_owned()]
    }))
}

fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err("there is no user-mode network yet: use none or host".into()),
    }
}

fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    // Linux: a host name has at most 64 bytes (sethostname(2)).
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("expected at most 64 letters, digits, - and ., with no empty part".into())
    }
}

pub fn workdir(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("expected an absolute path".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_checked() {
        assert!(hostname("web-1.example").is_ok());
        for wrong in ["", "a b", "-a", "a..b", &"x".repeat(65)] {
            assert!(hostname(wrong).is_err(), "{wrong}");
        }
    }
}
