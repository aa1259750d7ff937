//! Flags that say what is executed, in which surroundings.

use std::path::PathBuf;

use clap::Args;

use crate::cli::flags;
use crate::cli::flags::egress::EgressFlags;
use crate::cli::flags::environment::EnvironmentFlags;
use crate::cli::flags::etc::EtcFlags;
use crate::cli::flags::namespaces::NETWORKS;
use crate::cli::flags::namespaces::NamespaceFlags;
use crate::cli::flags::namespaces::absolute;
use crate::cli::flags::networks::NetworkFlags;
use crate::cli::flags::ulimits::UlimitFlags;
use crate::container::config::process::Limits;
use crate::container::config::process::Personality;
use crate::container::config::process::PidFiles;
use crate::container::config::sdnotify::SdNotify;
use crate::engine::create::process::Wish;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::publish;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;
use crate::text::signal;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Command and process")]
pub struct ProcessFlags {
    /// Write the container's id to a new file, which goes with the container
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    cidfile: Option<PathBuf>,

    /// Write the supervisor's pid to a file, which goes when the container ends
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    conmon_pidfile: Option<PathBuf>,

    /// Replace the image's entrypoint: one command, or a JSON array
    #[arg(long, value_name = "COMMAND", value_parser = entrypoint)]
    entrypoint: Option<Entrypoint>,

    /// Name ports of the container, which --publish-all publishes too, as 80, 53/udp or 8000-8009
    #[arg(long, help_heading = NETWORKS, value_name = "PORT[/PROTOCOL]", value_parser = exposed)]
    expose: Vec<Exposed>,

    /// Set the container's host name
    #[arg(short = 'h', long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,

    /// Run an init of rbox as pid 1, which reaps processes and passes signals on to the command
    #[arg(long)]
    init: bool,

    /// Refused: the init of rbox is part of rbox
    #[arg(long, value_name = "PATH", hide = true)]
    init_path: Option<String>,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Set how likely the kernel kills the container when memory is short: -1000 to 1000
    #[arg(long, value_name = "SCORE", value_parser = oom_score_adj, allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,

    /// Set the execution domain: LINUX, or LINUX32 for a machine of 32 bits
    #[arg(long, value_name = "DOMAIN", value_parser = personality)]
    personality: Option<Personality>,

    /// Write the pid of the container's first process to a file, which goes when the container ends
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pidfile: Option<PathBuf>,

    /// Publish ports, as 8080:80, 127.0.0.1::53/udp, 8000-8009:80-89, or 8080-8090:80 for the first that is free;
    /// fd=3:80 by a socket that listens as descriptor 3. Sockets of a service manager (LISTEN_FDS) that fit are taken
    #[arg(help_heading = NETWORKS, short, long, value_name = "[[IP:][HOSTPORT]:]PORT[/PROTOCOL]", value_parser = published)]
    publish: Vec<Published>,

    /// Publish all ports that the image names, on free ports of the host
    #[arg(short = 'P', long, help_heading = NETWORKS)]
    publish_all: bool,

    /// Put the container into this group of /sys/fs/resctrl
    #[arg(long, value_name = "CLASS", value_parser = rdt_class)]
    rdt_class: Option<String>,

    /// Who says to a service manager ($NOTIFY_SOCKET) that the container is ready: the container
    /// itself, conmon when it runs, healthy when its health check succeeds, ignore for nobody
    /// [default: container]
    #[arg(long, value_name = "WHO", value_parser = sdnotify)]
    sdnotify: Option<SdNotify>,

    /// Stop the container by this signal instead of the image's
    #[arg(long, value_name = "SIGNAL", value_parser = signal::parse)]
    stop_signal: Option<i32>,

    /// Wait this many seconds before a stop becomes a kill [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// Kill the container after this many seconds; 0 is never
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,

    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,

    #[command(flatten)]
    ulimits: UlimitFlags,

    /// Set the working directory, which is made where there is none
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    workdir: Option<String>,

    #[command(flatten)]
    environment: EnvironmentFlags,

    #[command(flatten)]
    namespaces: NamespaceFlags,

    #[command(flatten)]
    networks: NetworkFlags,

    #[command(flatten)]
    egress: EgressFlags,

    #[command(flatten)]
    etc: EtcFlags,
}

impl ProcessFlags {
    /// Whether the container has a terminal.
    pub fn terminal(&self) -> bool {
        self.tty
    }

    pub fn into_wish(self, command: Vec<String>) -> anyhow::Result<Wish> {
        if let Some(path) = self.init_path {
            let text = format!("--init-path=\"{path}\": the init of rbox is part of rbox");
            return Err(fail(Kind::Unsupported, text).hint("use `--init` alone"));
        }
        let (network, networks) = self.networks.into_wish()?;
        let (rules, rates) = self.egress.into_changes();
        Ok(Wish {
            command,
            egress: rules.unwrap_or_default(),
            rates: rates.unwrap_or_default(),
            entrypoint: self.entrypoint.map(|entrypoint| entrypoint.0),
            environment: self.environment.into_wish()?,
            workdir: flags::given(self.workdir),
            hostname: flags::given(self.hostname),
            network,
            networks,
            publish: self.publish.into_iter().flat_map(|ports| ports.0).collect(),
            publish_all: self.publish_all,
            expose: self.expose.into_iter().flat_map(|ports| ports.0).collect(),
            namespaces: self.namespaces.into_wish()?,
            etc: self.etc.into_wish()?,
            terminal: self.tty,
            interactive: self.interactive,
            init: self.init,
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            timeout: self.timeout.filter(|seconds| *seconds > 0),
            limits: Limits {
                ulimits: self.ulimits.into_ulimits()?.unwrap_or_default(),
                oom_score_adj: self.oom_score_adj,
                personality: self.personality,
                rdt_class: self.rdt_class,
            },
            files: PidFiles {
                container: self.cidfile,
                init: self.pidfile,
                supervisor: self.conmon_pidfile,
            },
            sdnotify: self.sdnotify,
        })
    }
}

/// What one option publishes.
#[derive(Clone, Debug)]
struct Published(Vec<Publish>);

fn published(text: &str) -> Result<Published, String> {
    publish::parse(text).map(Published)
}

/// What one option names.
#[derive(Clone, Debug)]
struct Exposed(Vec<(u16, Protocol)>);

fn exposed(text: &str) -> Result<Exposed, String> {
    publish::exposed(text).map(Exposed)
}

pub fn sdnotify(text: &str) -> Result<SdNotify, String> {
    let who = SdNotify::parse(text);
    who.ok_or("expected container, conmon, healthy or ignore".into())
}

fn oom_score_adj(text: &str) -> Result<i32, String> {
    let score = text.parse().ok();
    score
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or("expected a number from -1000 to 1000".into())
}

fn personality(text: &str) -> Result<Personality, String> {
    match text {
        "LINUX" => Ok(Personality::Linux),
        "LINUX32" => Ok(Personality::Linux32),
        _ => Err("expected LINUX or LINUX32".into()),
    }
}

/// A class is one directory in the root of resctrl.
fn rdt_class(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || text.contains('/') {
        return Err("expected the name of a directory in /sys/fs/resctrl".into());
    }
    Ok(text.to_owned())
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

fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    // Linux: a host name has at most 64 bytes (sethostname(2)).
    if text.is_empty() || text.len() <= 64 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("expected at most 64 letters, digits, - and ., with no empty part".into())
    }
}

pub fn workdir(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
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
        for wrong in [".", "a b", "-a", "a..b", &"x".repeat(65)] {
            assert!(hostname(wrong).is_err(), "{wrong}");
        }
    }
}
