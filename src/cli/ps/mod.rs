//! `rbox ps`.

mod row;
mod sort;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;

use crate::cli::filter::Filters;
use crate::cli::format;
use crate::cli::output;
use crate::cli::ps::row::Looks;
use crate::cli::ps::row::Row;
use crate::cli::ps::sort::Key;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::sizes;
use crate::engine::sweep;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::sys::parallel;

/// List containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox ps -a --filter status=exited --filter label=app=web
  rbox ps --format '{{.Names}} {{.Status}} {{.Label \"app\"}}'
  rbox ps -a --size --sort size

Filters: ancestor, annotation, annotation!, before, command, exited, health, id, label, label!,
name, network, publish, restart-policy, should-start-on-boot, since, status, until,
volume.
Values of one key are alternatives, but for labels and annotations; keys must all fit.")]
pub struct Args {
    /// Those that do not run, too
    #[arg(short, long)]
    all: bool,

    /// Refused: rbox has no containers of other tools
    #[arg(long, hide = true)]
    external: bool,

    /// Only those that fit: status=exited, name=web, label=KEY=VALUE and more
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print in another form: json, table, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// The last created ones, whatever they do
    #[arg(short = 'n', long, value_name = "COUNT", allow_hyphen_values = true)]
    last: Option<i64>,

    /// The last created one, whatever it does
    #[arg(short, long)]
    latest: bool,

    /// Print pids and namespaces instead
    #[arg(long, alias = "ns")]
    namespace: bool,

    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// Print no heading
    #[arg(long)]
    noheading: bool,

    /// Refused: rbox has no pods
    #[arg(short, long, hide = true)]
    pod: bool,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Print how much each has written, and with its image
    #[arg(short, long)]
    size: bool,

    /// Order by this column
    #[arg(long, value_name = "COLUMN", value_enum)]
    sort: Option<Key>,

    /// For podman's sake: what a container does is looked up each time
    #[arg(long, hide = true)]
    sync: bool,

    /// Print again each time this many seconds have passed
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

const DEFAULT: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Created}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const NAMESPACES: &str = "table {{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.Namespaces.Cgroup}}\t{{.Namespaces.IPC}}\t{{.Namespaces.MNT}}\t{{.Namespaces.NET}}\t{{.Namespaces.PIDNS}}\t{{.Namespaces.User}}\t{{.Namespaces.UTS}}";

const HEADERS: [(&str, &str); 4] = [
    ("ID", "CONTAINER ID"),
    ("CreatedHuman", "CREATED"),
    ("Cgroup", "CGROUPNS"),
    ("User", "USERNS"),
];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    check(&args)?;
    let filters = Filters::parse(engine, &args.filter)?;
    loop {
        let text = list(engine, &args, &filters)?;
        let Some(seconds) = args.watch else {
            output::print(&text)?;
            return Ok(0);
        };
        if std::io::stdout().is_terminal() {
            output::clear_screen()?;
        }
        output::print(&text)?;
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn check(args: &Args) -> anyhow::Result<()> {
    if args.pod {
        return Err(fail(Kind::Unsupported, "--pod: rbox has no pods"));
    }
    if args.external {
        let text = "--external: rbox has no containers of other tools in its store";
        return Err(fail(Kind::Unsupported, text));
    }
    let usage = |text: &str| Err(fail(Kind::Usage, text));
    match args {
        Args {
            quiet: true,
            size: true,
            ..
        } => usage("--quiet and --size: expected one of them"),
        Args {
            quiet: true,
            namespace: true,
            ..
        } => usage("--quiet and --namespace: expected one of them"),
        Args {
            size: true,
            namespace: true,
            ..
        } => usage("--size and --namespace: expected one of them"),
        Args {
            latest: true,
            last: Some(_),
            ..
        }
        | Args {
            latest: true,
            all: true,
            ..
        } => usage("--latest, --last and --all: expected one of them"),
        _ => Ok(()),
    }
}

fn list(engine: &Engine, args: &Args, filters: &Filters) -> anyhow::Result<String> {
    // As docker: `table` alone is the table.
    let given = args.format.as_deref();
    let format = given.filter(|format| !["table", ""].contains(format));
    let table = match args {
        Args {
            namespace: true, ..
        } => NAMESPACES.to_owned(),
        Args { size: true, .. } => format!("{DEFAULT}\t{{{{.Size}}}}"),
        _ => DEFAULT.to_owned(),
    };
    let looks = Looks::new(format, &table, args.no_trunc);
    let mut rows = rows(engine, args, filters)?;
    if args.size || args.sort == Some(Key::Size) || looks.size {
        let containers: Vec<&Container> = rows.iter().map(|row| &row.container).collect();
        let sizes = sizes::of(engine, &containers)?;
        for (row, size) in rows.iter_mut().zip(sizes) {
            row.size = Some(size);
        }
    }
    if let Some(key) = args.sort {
        sort::sort(&mut rows, key);
    }
    if args.quiet && given.is_none() {
        let ids = rows.iter().map(|row| looks.id(row) + "\n");
        return Ok(ids.collect());
    }
    if format == Some("json") {
        let values: Vec<Value> = rows.iter().map(|row| looks.json(row)).collect();
        return Ok(serde_json::to_string_pretty(&values)? + "\n");
    }
    let values = parallel::map(&rows, |row| looks.fields(row));
    format::list(&values, format, &table, &HEADERS, !args.noheading)
}

/// The containers that are wanted, the newest first.
fn rows(engine: &Engine, args: &Args, filters: &Filters) -> anyhow::Result<Vec<Row>> {
    let last = match args.last {
        _ if args.latest => Some(1),
        // As docker and podman, a negative number is no limit.
        Some(last) => usize::try_from(last).ok(),
        None => None,
    };
    let all = args.all || last.is_some() || filters.ask_for_status();
    let mut unreadable = Vec::new();
    let containers = Container::list(&engine.dirs, |one| unreadable.push(one))?;
    let mut damaged = Vec::new();
    let mut rows = Vec::new();
    let unknown = unreadable.into_iter().filter_map(|one| {
        let status = Status::Unreadable(error::message(&one.err));
        if sweep::take_left_behind(engine, &one.container, &status) {
            return None;
        }
        damaged.push(one.err);
        Some((one.container, status))
    });
    // When they were made is not known either: they come first.
    let mut listed: Vec<(Container, Status)> = unknown.collect();
    let statuses = parallel::map(&containers, Container::status);
    let readable = containers.into_iter().zip(statuses).rev();
    listed.extend(readable.map(|(container, status)| {
        let status = status.unwrap_or_else(|err| {
            let status = Status::Unreadable(error::message(&err));
            damaged.push(err);
            status
        });
        (container, status)
    }));
    for (container, status) in listed {
        if sweep::take_left_behind(engine, &container, &status) {
            continue;
        }
        let shown = all || status.is_running() || matches!(status, Status::Unreadable(_));
        if shown && filters.fit(&container, &status) {
            rows.push(Row {
                container,
                status,
                size: None,
            });
        }
        if last.is_some_and(|last| rows.len() >= last) {
            break;
        }
    }
    output::print_damaged(&damaged);
    rows.truncate(last.unwrap_or(usize::MAX));
    Ok(rows)
}
