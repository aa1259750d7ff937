//! `rbox generate systemd`: a container as a service of systemd.
//!
//! The supervisor is the service's main process (`--sdnotify`): systemd hears when the container runs,
//! and how it ended.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use crate::cli::format;
use crate::cli::generate::words::Flag;
use crate::cli::generate::words::Line;
use crate::cli::output;
use crate::container::config::sdnotify::SdNotify;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::info;
use crate::engine::services;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::unit;
use crate::text::variables;

/// systemd ends a service that takes so many seconds longer to stop than its container may.
const MARGIN: u32 = 60;

/// Flags that a unit has of its own, or not at all.
const DROPPED: [&str; 7] = [
    "attach",
    "cidfile",
    "conmon_pidfile",
    "detach",
    "replace",
    "restart",
    "rm",
];

/// Print a unit of systemd that starts and stops a container
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --new the unit starts the container that there is; with it, it makes a new one
from the command line of that one.

Examples:
  rbox generate systemd --new --name web >~/.config/systemd/user/web.service
  rbox generate systemd --new --files --name --after network-online.target web
  systemctl --user daemon-reload && systemctl --user enable --now web"
)]
pub struct Args {
    /// Start the service after this unit
    #[arg(long, value_name = "UNIT")]
    after: Vec<String>,

    /// Begin the name of the service with this
    #[arg(long, value_name = "TEXT", default_value = "container")]
    container_prefix: String,

    /// Set an environment variable of the service; without a value, that of the host
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Write a file NAME.service to the current directory, and print its path
    #[arg(short, long)]
    files: bool,

    /// Print as json
    #[arg(long, value_name = "json", value_parser = ["json"])]
    format: Option<String>,

    /// Call the service and the container by name, not by id
    #[arg(short, long)]
    name: bool,

    /// Make a new container at each start, and remove it at the end
    #[arg(long)]
    new: bool,

    /// Leave out the lines that tell where the unit comes from
    #[arg(long)]
    no_header: bool,

    /// Need this unit, and end with it
    #[arg(long, value_name = "UNIT")]
    requires: Vec<String>,

    /// When systemd starts the service again: no, always, on-success, on-failure, on-abnormal,
    /// on-abort or on-watchdog [default: that of the container with --new, else on-failure]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    restart_policy: Option<String>,

    /// Seconds before it does
    #[arg(long, value_name = "SECONDS")]
    restart_sec: Option<u32>,

    /// What stands between the prefix and the name
    #[arg(long, value_name = "TEXT", default_value = "-")]
    separator: String,

    /// Seconds that the start may take
    #[arg(long, value_name = "SECONDS")]
    start_timeout: Option<u32>,

    /// Seconds before a stop becomes a kill [default: the container's]
    #[arg(short = 't', long, alias = "time", value_name = "SECONDS")]
    stop_timeout: Option<u32>,

    /// A template, whose instances NAME@INSTANCE.service each have a container; with --new
    #[arg(long, requires = "new")]
    template: bool,

    /// Start this unit too
    #[arg(long, value_name = "UNIT")]
    wants: Vec<String>,

    /// Name or id
    container: String,
}

fn policy(text: &str) -> Result<String, String> {
    let known = [
        "no",
        "always",
        "on-success",
        "on-failure",
        "on-abnormal",
        "on-abort",
        "on-watchdog",
    ];
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected one of {}", known.join(", ")))
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let container = Container::find(&engine.dirs, &args.container)?;
    let label = if args.name {
        &container.name
    } else {
        &container.config.id
    };
    let parts = [args.container_prefix.as_str(), label];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let service = parts.join(&args.separator);
    let unit = Unit::new(&args, &container, &service)
        .with_context(|| format!("cannot make a unit of container \"{}\"", container.name))?;
    let text = unit.text(&args, engine);
    let shown = if args.files {
        let at = if args.template { "@" } else { "" };
        let path = std::env::current_dir()?.join(format!("{service}{at}.service"));
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        path.display().to_string()
    } else {
        text.trim_end().to_owned()
    };
    match args.format {
        Some(_) => {
            let mut object = serde_json::Map::new();
            object.insert(service, json!(shown));
            output::print(&format::one(&object.into(), "json")?)?;
        }
        None => output::print_line(&shown)?,
    }
    Ok(0)
}

/// What depends on the container. Words are as units have them.
struct Unit {
    service: String,
    start: Vec<String>,
    stop: Vec<String>,
    after_stop: Vec<String>,
    environment: Vec<String>,
    directory: Option<PathBuf>,
    restart: String,
    most_starts: Option<String>,
    stop_timeout: u32,
}

impl Unit {
    fn new(args: &Args, container: &Container, service: &str) -> anyhow::Result<Unit> {
        let stop_timeout = args
            .stop_timeout
            .unwrap_or(container.config.process.stop_timeout);
        let program = std::env::current_exe().context("cannot tell where rbox is")?;
        let mut unit = Unit {
            service: service.to_owned(),
            start: vec![unit::argument(&program.display().to_string())],
            stop: vec![],
            after_stop: vec![],
            environment: services::environment(),
            directory: None,
            restart: "on-failure".into(),
            most_starts: None,
            stop_timeout,
        };
        let host: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        for word in &args.env {
            let read = variables::read(word, &host)
                .map_err(|why| fail(Kind::Usage, format!("--env=\"{word}\": {why}")))?;
            unit.environment.extend(read);
        }
        unit.stop.clone_from(&unit.start);
        unit.after_stop.clone_from(&unit.start);
        if args.new {
            unit.make(args, container)?;
        } else {
            unit.keep(args, container);
        }
        if let Some(policy) = &args.restart_policy {
            unit.restart.clone_from(policy);
            unit.most_starts = None;
        }
        Ok(unit)
    }

    /// Starts the container that there is.
    fn keep(&mut self, args: &Args, container: &Container) {
        let label = if args.name {
            &container.name
        } else {
            &container.config.id
        };
        self.start.push("start".into());
        if matches!(
            container.config.process.sdnotify,
            None | Some(SdNotify::Ignore)
        ) {
            self.start.push("--sdnotify=conmon".into());
        }
        self.start.push(label.clone());
        let timeout = self.stop_timeout.to_string();
        for words in [&mut self.stop, &mut self.after_stop] {
            words.extend(["stop", "-t", &timeout, label].map(str::to_owned));
        }
    }

    /// Makes a container as this one was made.
    fn make(&mut self, args: &Args, container: &Container) -> anyhow::Result<()> {
        let made = &container.config.command_line;
        let line = Line::read(&made.words);
        if !matches!(line.verb.as_str(), "run" | "create") {
            return Err(fail(
                Kind::Unsupported,
                "it was not made by `rbox run` or `rbox create`: no command line is known that makes it anew",
            )
            .hint("leave --new away"));
        }
        self.directory = Some(made.directory.clone()).filter(|path| path.is_absolute());
        let fixed = ["run", "--cidfile=%t/%n.ctr-id", "--rm", "-d"];
        self.start.extend(fixed.map(str::to_owned));
        let told = line.value("sdnotify").and_then(SdNotify::parse);
        if matches!(told, None | Some(SdNotify::Ignore)) {
            self.start.push("--sdnotify=conmon".into());
        }
        if line.value("name").is_some() || args.template {
            // One that a power cut has left.
            self.start.push("--replace".into());
        }
        if args.template && line.value("name").is_none() {
            let name = unit::argument(&format!("--name={}", self.service));
            self.start.push(format!("{name}-%i"));
        }
        for flag in &line.flags {
            self.take(flag, args, container);
        }
        self.start
            .extend(line.rest.iter().map(|word| unit::argument(word)));
        let timeout = self.stop_timeout.to_string();
        let file = "--cidfile=%t/%n.ctr-id";
        let stop = ["stop", "--ignore", "-t", &timeout, file];
        self.stop.extend(stop.map(str::to_owned));
        let remove = ["rm", "-f", "--ignore", "-t", &timeout, file];
        self.after_stop.extend(remove.map(str::to_owned));
        if let Some(policy) = line.value("restart") {
            let (name, most) = policy.split_once(':').unwrap_or((policy, ""));
            self.most_starts = Some(most.to_owned()).filter(|most| !most.is_empty());
            self.restart = match name {
                "unless-stopped" => "always".into(),
                "" => "no".into(),
                name => name.to_owned(),
            };
        }
        Ok(())
    }

    fn take(&mut self, flag: &Flag, args: &Args, container: &Container) {
        let id = flag.id.as_str();
        if DROPPED.contains(&id) || id == "sdnotify" && flag.value == SdNotify::Ignore.name() {
            return;
        }
        if id == "env" && !flag.value.contains('=') {
            // `run` asks its own environment for it, which is the unit's.
            let prefix = format!("{}=", flag.value.trim_end_matches('*'));
            let known = container.config.process.env.iter();
            let known = known.filter(|variable| {
                variable.starts_with(&prefix)
                    || flag.value.ends_with('*')
                        && variable.starts_with(prefix.trim_end_matches('='))
            });
            self.environment.extend(known.cloned());
        }
        let mut words: Vec<String> = flag.words.iter().map(|word| unit::argument(word)).collect();
        if id == "name"
            && args.template
            && let Some(last) = words.last_mut()
        {
            last.push_str("-%i");
        }
        self.start.append(&mut words);
    }

    fn text(&self, args: &Args, engine: &Engine) -> String {
        let mut text = String::new();
        let at = if args.template { "@" } else { "" };
        let name = format!("{}{at}.service", self.service);
        if !args.no_header {
            let version = info::version().version;
            let _ = writeln!(text, "# {name}\n# made by rbox {version}\n");
        }
        let instance = if args.template { " of %i" } else { "" };
        let _ = writeln!(text, "[Unit]\nDescription=rbox {}{instance}", self.service);
        let mounts = unit::path(&engine.dirs.data);
        let _ = writeln!(text, "RequiresMountsFor={mounts}");
        for (key, units) in [
            ("Wants", &args.wants),
            ("After", &args.after),
            ("Requires", &args.requires),
        ] {
            if !units.is_empty() {
                let _ = writeln!(text, "{key}={}", units.join(" "));
            }
        }
        if let Some(most) = &self.most_starts {
            let _ = writeln!(text, "StartLimitBurst={most}");
        }
        text.push_str("\n[Service]\n");
        for variable in &self.environment {
            let _ = writeln!(text, "Environment={}", unit::value(variable));
        }
        if let Some(directory) = &self.directory {
            let _ = writeln!(text, "WorkingDirectory=-{}", unit::path(directory));
        }
        let _ = writeln!(text, "Restart={}", self.restart);
        if let Some(seconds) = args.restart_sec {
            let _ = writeln!(text, "RestartSec={seconds}");
        }
        if let Some(seconds) = args.start_timeout {
            let _ = writeln!(text, "TimeoutStartSec={seconds}");
        }
        let longest = self.stop_timeout.saturating_add(MARGIN);
        let _ = writeln!(text, "TimeoutStopSec={longest}");
        for (key, words) in [
            ("ExecStart", &self.start),
            ("ExecStop", &self.stop),
            ("ExecStopPost", &self.after_stop),
        ] {
            let _ = writeln!(text, "{key}={}", unit::command(words));
        }
        text.push_str("Type=notify\nNotifyAccess=all\n\n[Install]\nWantedBy=default.target\n");
        text
    }
}
