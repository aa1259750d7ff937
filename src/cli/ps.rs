//! `rbox ps`.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::output;
use crate::cli::port;
use crate::container::record::Container;
use crate::container::record::Status;
use crate::engine::Engine;
use crate::error;
use crate::text::time;

/// List containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those that do not run, too
    #[arg(short, long)]
    all: bool,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// Print no heading
    #[arg(long)]
    noheading: bool,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

const DEFAULT: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Created}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const HEADERS: [(&str, &str); 2] = [("ID", "CONTAINER ID"), ("CreatedHuman", "CREATED")];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut damaged = Vec::new();
    let containers = Container::list(&engine.dirs, |err| damaged.push(err))?;
    let mut rows = Vec::new();
    for container in containers.iter().rev() {
        let status = container.status()?;
        if args.all || status.is_running() {
            rows.push((container, status));
        }
    }
    for err in damaged {
        output::print_warning(&format!("{}, passed over", error::message(&err)));
    }
    if args.quiet && args.format.is_none() {
        for (container, _) in &rows {
            let id = &container.config.id;
            output::print_line(if args.no_trunc {
                id
            } else {
                container.config.short_id()
            })?;
        }
        return Ok(0);
    }
    let values: Vec<Value> = rows
        .iter()
        .map(|(container, status)| row(container, status, args.no_trunc))
        .collect();
    let format = args.format.as_deref();
    output::print(&format::list(
        &values,
        format,
        DEFAULT,
        &HEADERS,
        !args.noheading,
    )?)?;
    Ok(0)
}

/// The fields of a row, by the names that Docker and Podman give them.
fn row(container: &Container, status: &Status, whole: bool) -> Value {
    let config = &container.config;
    let now = Timestamp::now();
    let command = config.process.args().join(" ");
    let (exited, exit_code, pid) = match status {
        Status::Created => (false, 0, 0),
        Status::Running(state) => (false, 0, state.pid),
        Status::Exited(exit) => (true, exit.status, 0),
    };
    json!({
        "ID": if whole { config.id.as_str() } else { config.short_id() },
        "Id": config.id,
        "Names": container.name,
        "Image": config.image,
        "ImageID": config.image_id,
        "Command": if whole { command } else { shortened(&command) },
        "Created": time::ago(config.created, now),
        "CreatedAt": time::go_string(config.created, &time::local_zone()),
        "CreatedHuman": time::ago(config.created, now),
        "State": status.name(),
        "Status": describe(status, now),
        "Exited": exited,
        "ExitCode": exit_code,
        "Pid": pid,
        "Ports": port::column(status),
        "Networks": config.process.network.name(),
        "Labels": config.labels,
    })
}

fn shortened(command: &str) -> String {
    const WIDTH: usize = 20;
    if command.chars().count() <= WIDTH {
        return crate::text::escape::line(command).into_owned();
    }
    let short: String = command.chars().take(WIDTH - 3).collect();
    format!("{}...", crate::text::escape::line(&short))
}

/// `Up 3 minutes`, `Exited (1) 2 hours ago`.
pub fn describe(status: &Status, now: Timestamp) -> String {
    match status {
        Status::Created => "Created".into(),
        Status::Running(state) => {
            let up = time::ago(state.started, now);
            let paused = if state.paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", up.strip_suffix(" ago").unwrap_or(&up))
        }
        Status::Exited(exit) => {
            format!("Exited ({}) {}", exit.status, time::ago(exit.finished, now))
        }
    }
}
