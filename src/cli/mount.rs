//! `rbox mount` and `rbox unmount`.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::mounted;
use crate::text::table::Table;

/// Show the files of containers by a path of the host
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The path leads into a mount namespace, for you and for root: use it as it is, since it reads as / where \
links are resolved. Without a container those that are mounted are listed; a container that runs always is.

Examples:
  ls $(rbox mount web)/etc
  rbox mount && rbox unmount web"
)]
pub struct Mount {
    /// All containers
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// Print in another form: json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// List whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Take back what `mount` has done
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What was mounted twice is unmounted with the second time, unless by force.

Examples:
  rbox unmount web
  rbox unmount --all --force"
)]
pub struct Unmount {
    /// All that are mounted
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// Unmount at once, however often it was mounted
    #[arg(short, long)]
    force: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Names or ids
    #[arg(required_unless_present_any = ["all", "latest"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn mount(engine: &Engine, args: &Mount) -> anyhow::Result<u8> {
    if !args.all && !args.latest && args.containers.is_empty() {
        return list(engine, args);
    }
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |_| true)?;
    let mut rows = Vec::new();
    let status = output::each(&chosen, |one| {
        let container = one.container(engine)?;
        let path = mounted::mount(engine, &container)?;
        if args.format.is_some() {
            rows.push(row(&container, &path));
            return Ok(());
        }
        if chosen.len() == 1 {
            return output::print_line(&path.display().to_string());
        }
        output::print_line(&format!("{} {}", one.label(), path.display()))
    })?;
    if args.format.is_some() {
        output::print_line(&serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(status)
}

fn list(engine: &Engine, args: &Mount) -> anyhow::Result<u8> {
    let mut table = Table::default();
    let mut rows = Vec::new();
    for container in choose::list(engine)? {
        // What ends meanwhile is not mounted.
        let Ok(Some(path)) = mounted::path(&container) else {
            continue;
        };
        let id = if args.no_trunc {
            &container.config.id
        } else {
            container.config.short_id()
        };
        table.row([id, &path.display().to_string()]);
        rows.push(row(&container, &path));
    }
    if args.format.is_some() {
        output::print_line(&serde_json::to_string_pretty(&rows)?)?;
    } else {
        output::print(&table.render())?;
    }
    Ok(0)
}

/// Podman's names.
fn row(container: &Container, path: &Path) -> Value {
    json!({
        "id": container.config.id,
        "Names": [container.name],
        "mountpoint": path,
    })
}

pub fn unmount(engine: &Engine, args: &Unmount) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |status| !status.is_running())?;
    output::each(&chosen, |one| {
        let container = one.container(engine)?;
        if args.all && mounted::by(&container)?.is_none() {
            return Ok(());
        }
        mounted::unmount(engine, &container, args.force)?;
        output::print_line(one.label())
    })
}
