//! Flags that `run` and `create` share, in groups, the forms of their values, and what is said of wrong
//! ones.

mod egress;
mod environment;
mod etc;
mod files;
mod health;
mod identity;
mod limits;
mod logging;
mod namespaces;
pub mod networks;
mod preserve;
mod process;
mod refused;
mod registry;
mod resources;
mod security;
mod session;
mod stop;
mod ulimits;
mod usermode;

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Context;
use clap::Args;

use crate::cli::pull::Policy;
use crate::container::config::CommandLine;
use crate::container::config::Restart;
use crate::engine::create::Request;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

pub use egress::EgressFlags;
pub use environment::ChangedVariables;
pub use environment::OwnVariables;
pub use health::HealthFlags;
pub use identity::checked_user;
pub use limits::LimitFlags;
pub use preserve::PreserveFlags;
pub use process::sdnotify;
pub use process::workdir;
pub use registry::PlatformFlags;
pub use registry::RegistryFlags;
pub use session::Attached;
pub use session::DetachFlags;
pub use session::ProxyFlags;
pub use session::attached;
pub use stop::StopFlags;
pub use ulimits::UlimitFlags;

#[derive(Clone, Debug, Args)]
pub struct ContainerFlags {
    /// The image, and the command with its arguments instead of the image's own
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true,
        value_names = ["IMAGE", "COMMAND"])]
    image_and_command: Vec<String>,

    /// Set an annotation
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,

    /// Set labels from a file: one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,

    /// Name the container
    #[arg(long)]
    name: Option<String>,

    /// When to pull the image
    #[arg(long, value_name = "POLICY", default_value = "missing", value_enum)]
    pub pull: Policy,

    /// Start the container again when it has ended: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", hide_default_value = true,
        value_parser = Restart::parse)]
    restart: Restart,

    /// Remove a container that has the name already
    #[arg(long, requires = "name")]
    replace: bool,

    /// Remove the container when its command ends
    #[arg(long)]
    rm: bool,

    /// Show no progress of a pull
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub registry: RegistryFlags,

    #[command(flatten)]
    pub platform: PlatformFlags,

    /// Print help
    // With podman and docker -h is --hostname.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    // A heading holds for all that comes after it.
    #[command(flatten)]
    process: process::ProcessFlags,

    #[command(flatten)]
    files: files::FilesFlags,

    #[command(flatten)]
    identity: identity::IdentityFlags,

    #[command(flatten)]
    security: security::SecurityFlags,

    #[command(flatten)]
    log: logging::LogFlags,

    #[command(flatten)]
    health: HealthFlags,

    #[command(flatten)]
    resources: resources::ResourceFlags,
}

impl ContainerFlags {
    /// Whether the first word is a directory, not an image.
    pub fn is_of_directory(&self) -> bool {
        self.files.rootfs
    }

    /// The name that is to be free.
    pub fn replaced(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.replace)
    }

    /// As with `--rm`.
    pub fn remove_at_end(&mut self) {
        self.rm = true;
    }

    /// The request for a container.
    pub fn into_request(self) -> anyhow::Result<Request> {
        let mut words = self.image_and_command.into_iter();
        refuse_flag(words.as_slice(), "run")?;
        let image = words.next().unwrap_or_default();
        let terminal = self.process.terminal();
        Ok(Request {
            files: self.files.into_wish(&image)?,
            image,
            name: self.name,
            labels: labels(self.label_file, self.label)?,
            annotations: annotations(self.annotation)?,
            remove: self.rm,
            restart: checked_restart(self.restart, self.rm)?,
            identity: self.identity.into_wish(),
            process: self.process.into_wish(words.collect())?,
            security: self.security.into_wish()?,
            log: self.log.into_wish(terminal)?,
            health: self.health.into_wish()?,
            resources: self.resources.into_resources()?,
            command_line: command_line(),
        })
    }
}

/// As podman: what is removed when it has ended well may be started again until then.
fn checked_restart(restart: Restart, remove: bool) -> anyhow::Result<Restart> {
    if remove && matches!(restart, Restart::Always | Restart::UnlessStopped) {
        let text = format!(
            "--restart=\"{}\": expected no or on-failure[:TIMES] with --rm",
            restart.name()
        );
        return Err(fail(Kind::Usage, text));
    }
    Ok(restart)
}

/// That of this process, for who wants to make the container again.
fn command_line() -> CommandLine {
    let words: Result<Vec<String>, _> = std::env::args_os().map(OsString::into_string).collect();
    CommandLine {
        words: words.unwrap_or_default(),
        directory: std::env::current_dir().unwrap_or_default(),
    }
}

/// As podman: an empty value is none.
pub fn given(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// The first word of a command line that goes on with a container's own may not be a flag: clap takes
/// an unknown one for it.
pub fn refuse_flag(words: &[String], command: &str) -> anyhow::Result<()> {
    let Some(word) = words.first().filter(|word| word.starts_with('-')) else {
        return Ok(());
    };
    let flag = word.split('=').next().unwrap_or(word);
    Err(match refused::reason(flag) {
        Some(reason) => fail(Kind::Unsupported, format!("{flag}: {reason}")),
        None => fail(Kind::Usage, format!("unknown flag {flag}"))
            .hint(format!("`rbox {command} --help` tells what there is")),
    })
}

/// Those of the files first, so that the single ones win.
fn labels(files: Vec<String>, words: Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path)
            .map_err(|err| fail(Kind::Usage, format!("--label-file=\"{path}\": {err}")))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = label(line).with_context(|| format!("{path}:{}", index + 1))?;
            labels.insert(key, value);
        }
    }
    for word in words {
        let (key, value) = label(&word)?;
        labels.insert(key, value);
    }
    Ok(labels)
}

fn label(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(fail(
            Kind::Usage,
            format!("\"{text}\" is no label: expected KEY=VALUE"),
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn annotations(words: Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    let pairs = words.into_iter().map(|word| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(fail(
            Kind::Usage,
            format!("--annotation=\"{word}\": expected KEY=VALUE"),
        )),
    });
    pairs.collect()
}

/// clap's report of a wrong line of a command as one line of ours.
pub fn explain(err: &clap::Error, command: &str) -> anyhow::Error {
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
    let named = arg.trim_start_matches(['[', '<']);
    let flag = named
        .split([' ', '=', '[', ']', '>'])
        .next()
        .unwrap_or_default()
        .to_owned();
    if err.kind() == ErrorKind::UnknownArgument
        && let Some(reason) = refused::reason(&flag)
    {
        return fail(Kind::Unsupported, format!("{flag}: {reason}"));
    }
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let cause = std::error::Error::source(err).map(|cause| {
        if cause.is::<std::num::ParseIntError>() {
            "expected a whole number, not negative".to_owned()
        } else if cause.to_string() == "value was not a boolean" {
            "expected true or false".to_owned()
        } else {
            // clap says of a range: 9 is not in 0..=8.
            match cause
                .to_string()
                .rsplit_once(" is not in ")
                .and_then(|(_, range)| range.split_once("..="))
            {
                Some((least, most)) => format!("expected a whole number from {least} to {most}"),
                None => cause.to_string(),
            }
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
            text(ContextKind::PriorArg)
                .unwrap_or_default()
                .replace("[=<BOOL>]", "")
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
        None => err.hint(format!("`{command} --help` tells what there is")),
    }
}
