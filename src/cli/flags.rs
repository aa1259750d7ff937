//! Flags that `run` and `create` share, the forms of their values, and what is said of wrong ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::cli::pull::Policy;
use crate::cli::pull::RegistryFlags;
use crate::container::config::Network;
use crate::container::config::Seccomp;
use crate::container::config::Volume;
use crate::engine::create::Request;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::signal;
use crate::text::size;

#[derive(Clone, Debug, Args)]
pub struct ContainerFlags {
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

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,

    /// Name the container
    #[arg(long)]
    name: Option<String>,

    /// Connect to a network: none (loopback only) or host (the host's own)
    #[arg(long, alias = "net", value_name = "MODE", value_parser = network, default_value = "none")]
    network: Network,

    /// Publish a port (not possible yet: there is no network to publish from)
    #[arg(short, long, value_name = "PORT", hide = true)]
    publish: Vec<String>,

    /// When to pull the image
    #[arg(long, value_name = "POLICY", default_value = "missing", value_enum)]
    pub pull: Policy,

    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,

    /// Remove the container when its command ends
    #[arg(long)]
    rm: bool,

    /// Set a security option: no-new-privileges, seccomp=unconfined, or seccomp=FILE with an OCI profile
    #[arg(long, value_name = "OPTION", value_parser = security_option)]
    security_opt: Vec<SecurityOption>,

    /// Set the size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    shm_size: Option<u64>,

    /// Stop the container by this signal instead of the image's
    #[arg(long, value_name = "SIGNAL", value_parser = signal::parse)]
    stop_signal: Option<i32>,

    /// Wait this many seconds before a stop becomes a kill [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,

    #[command(flatten)]
    pub registry: RegistryFlags,

    /// Run as this user: name or uid, and :group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Show a directory or file of the host in the container
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]", value_parser = volume)]
    volume: Vec<Volume>,

    /// Set the working directory
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    workdir: Option<String>,

    /// The image, and the command with its arguments instead of the image's own
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true,
        value_names = ["IMAGE", "COMMAND"])]
    image_and_command: Vec<String>,
}

impl ContainerFlags {
    /// The image, and the request for a container of it.
    pub fn into_request(self) -> anyhow::Result<Request> {
        let ContainerFlags {
            entrypoint,
            env,
            hostname,
            interactive,
            label,
            name,
            network,
            publish,
            pull: _,
            read_only,
            rm,
            security_opt,
            shm_size,
            stop_signal,
            stop_timeout,
            tty,
            registry: _,
            user,
            volume,
            workdir,
            image_and_command,
        } = self;
        if let Some(port) = publish.first() {
            return Err(fail(
                Kind::Unsupported,
                format!("cannot publish port \"{port}\": there is no user-mode network yet"),
            )
            .hint("use `--network host`; the container then listens on the host itself"));
        }
        let mut seccomp = Seccomp::Default;
        let mut no_new_privileges = false;
        for option in security_opt {
            match option {
                SecurityOption::NoNewPrivileges(on) => no_new_privileges = on,
                SecurityOption::Seccomp(profile) => seccomp = profile,
            }
        }
        let mut words = image_and_command.into_iter();
        refuse_flag(words.as_slice())?;
        Ok(Request {
            image: words.next().unwrap_or_default(),
            command: words.collect(),
            entrypoint: entrypoint.map(|entrypoint| entrypoint.0),
            name,
            env: with_host_values(env)?,
            workdir,
            user,
            hostname,
            labels: labels(label)?,
            network,
            volumes: volume,
            terminal: tty,
            interactive,
            remove: rm,
            read_only,
            seccomp,
            shm_size,
            no_new_privileges,
            stop_signal,
            stop_timeout,
        })
    }
}

/// The first word of a command line that goes on with a container's own may not be a flag: clap takes
/// an unknown one for it.
pub fn refuse_flag(words: &[String]) -> anyhow::Result<()> {
    match words.first() {
        Some(word) if word.starts_with('-') => Err(fail(
            Kind::Usage,
            format!("unknown flag {}", word.split('=').next().unwrap_or(word)),
        )
        .hint("`rbox COMMAND --help` tells what there is")),
        _ => Ok(()),
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

fn labels(labels: Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    labels
        .into_iter()
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            if key.is_empty() {
                return Err(fail(
                    Kind::Usage,
                    format!("\"{label}\" is no label: expected KEY=VALUE"),
                ));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
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

#[derive(Clone, Debug)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Seccomp(Seccomp),
}

fn security_option(text: &str) -> Result<SecurityOption, String> {
    match text.split_once(['=', ':']).unwrap_or((text, "")) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", "unconfined") => Ok(SecurityOption::Seccomp(Seccomp::Unconfined)),
        ("seccomp", path) => {
            let text = std::fs::read_to_string(path).map_err(|err| err.to_string())?;
            let profile = serde_json::from_str(&text)
                .map_err(|err| format!("expected an OCI seccomp profile: {err}"))?;
            Ok(SecurityOption::Seccomp(Seccomp::Profile(Box::new(profile))))
        }
        _ => Err(
            "not supported yet: use no-new-privileges, seccomp=unconfined or seccomp=FILE".into(),
        ),
    }
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

fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err("expected HOST:CONTAINER or HOST:CONTAINER:OPTIONS".into()),
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "named volumes are not supported yet: expected a path instead of \"{source}\""
        ));
    }
    if !destination.starts_with('/') {
        return Err(format!("\"{destination}\" is not an absolute path"));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "rbind" | "rprivate" | "private" | "nosuid" | "nodev" => {}
            _ => {
                return Err(format!(
                    "option \"{option}\" is not supported yet: use ro or rw"
                ));
            }
        }
    }
    let source = std::path::absolute(source).map_err(|err| err.to_string())?;
    Ok(Volume {
        source,
        destination: PathBuf::from(destination),
        read_only,
    })
}

/// clap's report of a wrong command line as one line of ours.
pub fn explain(err: &clap::Error) -> anyhow::Error {
    use clap::error::ContextKind;
    use clap::error::ContextValue;
    use clap::error::ErrorKind;
    let text = |kind| match err.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    // `--name <NAME>` and `-d, --detach` are told by their flags.
    let flag = arg
        .split([' ', '=', '['])
        .next()
        .unwrap_or_default()
        .to_owned();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let cause = std::error::Error::source(err).map(|cause| {
        if cause.is::<std::num::ParseIntError>() {
            "expected a whole number, not negative".to_owned()
        } else {
            cause.to_string()
        }
    });
    let message = match err.kind() {
        ErrorKind::UnknownArgument => format!("unknown flag {flag}"),
        ErrorKind::InvalidSubcommand => format!(
            "unknown command \"{}\"",
            text(ContextKind::InvalidSubcommand).unwrap_or_default()
        ),
        ErrorKind::InvalidValue if value.is_empty() => format!("flag {flag} needs a value"),
        ErrorKind::InvalidValue => format!(
            "{flag}=\"{value}\": expected {}",
            text(ContextKind::ValidValue)
                .unwrap_or_default()
                .replace(", ", " or ")
        ),
        ErrorKind::ValueValidation => {
            format!("{flag}=\"{value}\": {}", cause.unwrap_or_default())
        }
        ErrorKind::MissingRequiredArgument => {
            format!("missing {}", arg.replace(['<', '>', '.'], ""))
        }
        ErrorKind::ArgumentConflict => format!(
            "flag {flag} cannot be used with {}",
            text(ContextKind::PriorArg).unwrap_or_default()
        ),
        ErrorKind::MissingSubcommand => "missing a command".into(),
        _ => {
            let text = err.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    };
    let suggestion = text(ContextKind::SuggestedArg).or(text(ContextKind::SuggestedSubcommand));
    let err = fail(Kind::Usage, message);
    match suggestion {
        Some(suggestion) => err.hint(format!("did you mean `{suggestion}`?")),
        None => err.hint("`rbox --help` and `rbox COMMAND --help` tell what there is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_two_or_three_parts() {
        let read = |text| volume(text).map(|volume| (volume.source, volume.read_only));
        assert_eq!(read("/a:/b"), Ok(("/a".into(), false)));
        assert_eq!(read("/a:/b:ro"), Ok(("/a".into(), true)));
        for wrong in ["/a", "a:/b", "/a:b", "/a:/b:ro:x", "/a:/b:zzz"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_names_are_checked() {
        assert!(hostname("web-1.example").is_ok());
        for wrong in ["", "a b", "-a", "a..b", &"x".repeat(65)] {
            assert!(hostname(wrong).is_err(), "{wrong}");
        }
    }
}
