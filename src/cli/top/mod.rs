//! `rbox top`, and the table of processes that `rbox oci ps` prints too.

mod columns;
mod host;
mod inside;
mod options;

use clap::builder::NonEmptyStringValueParser;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::not_running;
use crate::engine::processes::Process;
use crate::engine::top;
use crate::engine::top::Inside;
use crate::engine::top::Names;
use crate::error::Kind;
use crate::error::fail;
use crate::text::table::Table;

use columns::Clock;
use columns::Column;
use columns::View;

/// List the processes of a running container
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// The container that was created last
    #[arg(short, long)]
    latest: bool,

    /// Name or id, and descriptors, or options of ps(1) [default: user pid ppid pcpu etime tty time args]
    #[arg(
        value_names = ["CONTAINER", "DESCRIPTOR"],
        required_unless_present = "latest",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    words: Vec<String>,
}

fn after_help() -> String {
    let names: Vec<&str> = inside::COLUMNS.iter().map(|column| column.name).collect();
    format!(
        "Descriptors, as the container sees its processes, and with h in front as the host does:
  {}
Options of ps(1), with the host's pids and users: -e -f -F -j -l -o LIST, aux, ax, --no-headers.
What is shown is read from /proc; no program is executed.

Examples:
  rbox top web
  rbox top web pid,huser,capeff,args
  rbox top web -eo pid,rss,cmd
  rbox top --latest seccomp label",
        names.join(" ")
    )
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut words = args.words;
    let names = if args.latest {
        vec![]
    } else {
        words.drain(..1).collect()
    };
    let shape = if words.is_empty() {
        Shape::inside(&inside::DEFAULT)?
    } else if options::is_of_ps(&words) {
        options::parse(&words)?
    } else {
        let split = words.iter().flat_map(|word| word.split(','));
        Shape::inside(&split.collect::<Vec<_>>())?
    };
    let wanted = Wanted {
        names: &names,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |_| true)?;
    let one = chosen
        .first()
        .ok_or_else(|| fail(Kind::NotFound, "there is no container"))?;
    let container = one.container(engine)?;
    output::print(&of_container(engine, &container, &shape)?)?;
    Ok(0)
}

/// What is shown.
pub struct Shape {
    columns: Vec<Column>,
    has_heading: bool,
    is_inside: bool,
}

impl Shape {
    fn inside(names: &[&str]) -> anyhow::Result<Shape> {
        Ok(Shape {
            columns: inside::find(names)?,
            has_heading: true,
            is_inside: true,
        })
    }

    /// Of options of ps(1); none are `-ef`.
    pub fn of_ps(words: &[String]) -> anyhow::Result<Shape> {
        if words.is_empty() {
            return options::parse(&["-ef".to_owned()]);
        }
        options::parse(words)
    }
}

fn of_container(engine: &Engine, container: &Container, shape: &Shape) -> anyhow::Result<String> {
    let Status::Running(state) = container.status()? else {
        return Err(not_running(container));
    };
    let all = top::of(container, &state);
    let inside = shape
        .is_inside
        .then(|| Inside::of(engine, container, &state, &all));
    Ok(table(&all, shape, inside))
}

/// The table of these processes.
pub fn table(processes: &[Process], shape: &Shape, inside: Option<Inside>) -> String {
    let view = View {
        inside,
        host: Names::of_host(),
        clock: Clock::now(),
    };
    let mut table = Table::default();
    if shape.has_heading {
        table.row(shape.columns.iter().map(|column| &column.heading));
    }
    for process in processes {
        table.row(
            shape
                .columns
                .iter()
                .map(|column| (column.value)(&view, process)),
        );
    }
    table.render()
}
