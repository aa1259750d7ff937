//! `rbox diff`.

use serde_json::json;

use crate::cli::choose;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::changes;
use crate::engine::changes::Side;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::store::archive::changes::Change;
use crate::store::archive::changes::Kind as What;
use crate::text::escape;

/// List what a container has changed in its files, an image in those of its parent, or one in those of another
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A: added, C: changed, D: deleted. Files and mounts of rbox's own do not count.

Examples:
  rbox diff web
  rbox diff --format json web
  rbox diff web web-clone"
)]
pub struct Args {
    /// Print in another form: json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,

    /// The container that was created last
    #[arg(short, long)]
    latest: bool,

    /// A container, an image, or a layer by its diff-id; and with what it is compared
    #[arg(
        required_unless_present = "latest",
        num_args = 1..=2,
        value_names = ["CONTAINER", "CONTAINER"]
    )]
    names: Vec<String>,
}

/// List what the top layer of an image has changed in those below, or an image in the files of another
#[derive(Debug, clap::Args)]
#[command(after_help = "A: added, C: changed, D: deleted.

Examples:
  rbox image diff debian
  rbox image diff --format json mine debian")]
pub struct ImageArgs {
    /// Print in another form: json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,

    /// An image; and with what it is compared
    #[arg(required = true, num_args = 1..=2, value_names = ["IMAGE", "IMAGE"])]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let found = find(engine, args)?;
    print(&found, args.format.is_some())
}

pub fn images(engine: &Engine, args: &ImageArgs) -> anyhow::Result<u8> {
    let images = args.images.iter().map(|name| {
        let image = image::find(&engine.dirs, name)?;
        anyhow::Ok(Side::Image(Box::new(image)))
    });
    let images: Vec<Side> = images.collect::<anyhow::Result<_>>()?;
    let found = match images.as_slice() {
        [new, old] => changes::between(engine, old, new)?,
        [image] => changes::of(engine, image)?,
        _ => vec![],
    };
    print(&found, args.format.is_some())
}

fn print(found: &[Change], as_json: bool) -> anyhow::Result<u8> {
    if as_json {
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
    for Change { kind, path } in found {
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
    let mut sides = args.names.iter().map(|name| side(engine, name));
    let new = if args.latest {
        Side::Container(Box::new(choose::latest(engine)?))
    } else {
        let none = || fail(Kind::Usage, "a container or an image is missing");
        sides.next().ok_or_else(none)??
    };
    match sides.next().transpose()? {
        Some(old) => changes::between(engine, &old, &new),
        None => changes::of(engine, &new),
    }
}

/// A container, else an image, else a layer by its diff-id.
fn side(engine: &Engine, name: &str) -> anyhow::Result<Side> {
    match Container::find(&engine.dirs, name) {
        Ok(container) => return Ok(Side::Container(Box::new(container))),
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => {}
        Err(err) => return Err(err),
    }
    if let Ok(image) = image::find(&engine.dirs, name) {
        return Ok(Side::Image(Box::new(image)));
    }
    if let Ok(diff_id) = name.parse()
        && image::layers::files(&engine.dirs, &diff_id).exists()
    {
        return Ok(Side::Layer(diff_id));
    }
    let text = format!("no container, image or layer with name or id \"{name}\"");
    Err(fail(Kind::NotFound, text).hint("`rbox ps -a` and `rbox images` list what there is"))
}
