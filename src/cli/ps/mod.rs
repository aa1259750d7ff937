//! `rbox ps`.

mod row;
mod sort;

use std::cmp::Reverse;
use std::io::IsTerminal;
use std::time::Duration;

use crate::cli::filter::Filters;
use crate::cli::format::List;
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
use crate::store::dirs::Dirs;
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
        Args { quiet: true, .. } if given.is_none() => "{{.ID}}".to_owned(),
        Args {
            namespace: true, ..
        } => NAMESPACES.to_owned(),
        Args { size: true, .. } => format!("{DEFAULT}\t{{{{.Size}}}}"),
        _ => DEFAULT.to_owned(),
    };
    let looks = Looks::new(format, &table, args.no_trunc);
    let form = List::parse(format, &table, &HEADERS, !args.noheading)?;
    let show = |row: &Row| match format {
        Some("json") => form.line(looks.json(row)),
        _ => form.line(looks.fields(row)),
    };
    let sized = args.size || args.sort == Some(Key::Size) || looks.size;
    let lines = if sized || args.sort.is_some() {
        let mut rows = wanted(engine, args, filters, |row| row)?;
        if sized {
            measure(engine, &mut rows)?;
        }
        if let Some(key) = args.sort {
            sort::sort(&mut rows, key);
        }
        rows.iter().map(show).collect::<anyhow::Result<Vec<_>>>()?
    } else {
        let lines = wanted(engine, args, filters, |row| show(&row))?;
        lines.into_iter().collect::<anyhow::Result<_>>()?
    };
    form.text(lines)
}

fn measure(engine: &Engine, rows: &mut [Row]) -> anyhow::Result<()> {
    let containers: Vec<&Container> = rows.iter().map(|row| &row.container).collect();
    let sizes = sizes::of(engine, &containers)?;
    for (row, size) in rows.iter_mut().zip(sizes) {
        row.size = Some(size);
    }
    Ok(())
}

/// What is made of each container that is wanted, the newest first. It is made at once where the record is read:
/// a thousand records are never held at the same time.
fn wanted<T: Send>(
    engine: &Engine,
    args: &Args,
    filters: &Filters,
    make: impl Fn(Row) -> T + Sync,
) -> anyhow::Result<Vec<T>> {
    let last = match args.last {
        _ if args.latest => Some(1),
        // As docker and podman, a negative number is no limit.
        Some(last) => usize::try_from(last).ok(),
        None => None,
    };
    let all = args.all || last.is_some() || filters.ask_for_status();
    let make = |row: Row| {
        let shown = all || row.status.is_running() || matches!(row.status, Status::Unreadable(_));
        let created = row.created();
        (shown && filters.fit(&row.container, &row.status)).then(|| (created, make(row)))
    };
    let dirs = &engine.dirs;
    let looked = parallel::map(&Container::names(dirs)?, |name| {
        let (row, damage) = look(dirs, name)?;
        // Removed by the one thread that is left in the end: that forks.
        let left_behind = row.container.is_left_behind(dirs, &row.status);
        let made = if left_behind { Err(row) } else { Ok(make(row)) };
        Some((made, damage))
    });
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for (made, damage) in looked.into_iter().flatten() {
        let made = match made {
            Ok(made) => made,
            Err(row) if sweep::take_left_behind(engine, &row.container, &row.status) => continue,
            Err(row) => make(row),
        };
        found.extend(made);
        damaged.extend(damage);
    }
    output::print_damaged(&damaged);
    found.sort_by_key(|(created, _)| Reverse(*created));
    found.truncate(last.unwrap_or(usize::MAX));
    Ok(found.into_iter().map(|(_, made)| made).collect())
}

/// A container with what it does, and what is wrong with its records. `None` for one that is gone.
fn look(dirs: &Dirs, name: &str) -> Option<(Row, Option<anyhow::Error>)> {
    let unreadable = |err: &anyhow::Error| Status::Unreadable(error::message(err));
    let (container, status, damage) = match Container::by_name(dirs, name) {
        Ok(None) => return None,
        Ok(Some(container)) => match container.status() {
            Ok(status) => (container, status, None),
            Err(err) => (container, unreadable(&err), Some(err)),
        },
        Err(err) => {
            let container = Container::unknown(dirs, name);
            (container, unreadable(&err), Some(err))
        }
    };
    let row = Row {
        container,
        status,
        size: None,
    };
    Some((row, damage))
}
