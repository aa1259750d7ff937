//! `rbox diff`.

use serde_json::json;

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::changes;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::store::archive::changes::Change;
use crate::store::archive::changes::Kind as What;
use crate::text::escape;

/// List what a container has changed in its files, or an image in those of its parent
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A: added, C: changed, D: deleted. Files and mounts of rbox's own do not count.

Examples:
  rbox diff web
  rbox diff --format json web"
)]
pub struct Args {
    /// Print in another form: json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "name")]
    latest: bool,

    /// Name or id of a container, or of an image
    #[arg(required_unless_present = "latest", value_name = "CONTAINER")]
    name: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let found = find(engine, args)?;
    if args.format.is_some() {
        let paths = |kind| {
            let paths = found.iter().filter(|change| change.kind == kind);
            paths
                .map(|change| String::from_utf8_lossy(&change.path).into_owned())
                .collect::<Vec<_>>()
        };
        let mut value = json!({});
        for (key, kind) in [
            ("changed", What::Changed),
            ("added", What::Added),
            ("deleted", What::Deleted),
        ] {
            let paths = paths(kind);
            if !paths.is_empty() {
                value[key] = json!(paths);
            }
        }
        output::print_line(&serde_json::to_string_pretty(&value)?)?;
        return Ok(0);
    }
    for Change { kind, path } in &found {
        let letter = match kind {
            What::Added => 'A',
            What::Changed => 'C',
            What::Deleted => 'D',
        };
        // One line a file, whatever its name.
        let path = String::from_utf8_lossy(path);
        output::print_line(&format!("{letter} {}", escape::line(&path)))?;
    }
    Ok(0)
}

fn find(engine: &Engine, args: &Args) -> anyhow::Result<Vec<Change>> {
    let Some(name) = &args.name else {
        let wanted = Wanted {
            latest: true,
            ..Wanted::default()
        };
        let chosen = choose::choose(engine, wanted, |_| true)?;
        let latest = chosen
            .first()
            .ok_or_else(|| fail(Kind::NotFound, "there is no container"))?;
        return changes::of_container(engine, &latest.container(engine)?);
    };
    match Container::find(&engine.dirs, name) {
        Ok(container) => changes::of_container(engine, &container),
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => {
            let image = image::find(&engine.dirs, name).map_err(|_| {
                fail(
                    Kind::NotFound,
                    format!("no container or image with name or id \"{name}\""),
                )
                .hint("`rbox ps -a` and `rbox images` list what there is")
            })?;
            changes::of_image(engine, &image)
        }
        Err(err) => Err(err),
    }
}
