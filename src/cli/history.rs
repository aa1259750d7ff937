//! `rbox history`.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::output;
use crate::engine::Engine;
use crate::image;
use crate::image::Image;
use crate::image::about;
use crate::image::about::Step;
use crate::image::layers;
use crate::image::variant;
use crate::oci::platform::Platform;
use crate::text::escape;
use crate::text::size;
use crate::text::time;

/// Show how an image was made
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox history debian
  rbox history --no-trunc --format '{{.CreatedBy}}' debian")]
pub struct Args {
    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print sizes and times as people say them; --human=false as numbers and dates
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        action = clap::ArgAction::Set
    )]
    human: bool,

    /// Print whole ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// Of an image that is in the store for several platforms, the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

const DEFAULT: &str = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: [(&str, &str); 3] = [
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedAt", "CREATED AT"),
];
/// Of a step of which no image is left.
const MISSING: &str = "<missing>";
/// Podman's width of the column with commands.
const WIDTH: usize = 45;

/// A step, and what it has added.
struct Line {
    step: Step,
    id: Option<String>,
    size: u64,
    tags: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let cannot = |err: anyhow::Error| {
        err.context(format!(
            "cannot tell the history of image \"{}\"",
            args.image
        ))
    };
    let image = variant::find(&engine.dirs, &args.image, args.platform.as_ref())?;
    let lines = lines(engine, &image).map_err(cannot)?;
    let ids = |line: &Line| match &line.id {
        Some(id) if args.no_trunc => id.clone(),
        Some(id) => id[..12].to_owned(),
        None => MISSING.to_owned(),
    };
    if args.quiet {
        let text: String = lines.iter().map(|line| ids(line) + "\n").collect();
        output::print(&text)?;
        return Ok(0);
    }
    if args.format.as_deref() == Some("json") {
        let values: Vec<Value> = lines.iter().map(json).collect();
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let values: Vec<Value> = lines
        .iter()
        .map(|line| fields(line, &ids(line), &args, now))
        .collect();
    let format = args.format.as_deref().filter(|format| *format != "table");
    output::print(&format::list(&values, format, DEFAULT, &HEADERS, true)?)?;
    Ok(0)
}

/// The newest step first.
fn lines(engine: &Engine, image: &Image) -> anyhow::Result<Vec<Line>> {
    let mut steps = about::read(&engine.dirs, image)?.history;
    let filled = steps.iter().filter(|step| !step.empty_layer).count();
    // An image need not tell how each of its layers was made.
    for _ in filled..image.layers.len() {
        steps.push(Step::default());
    }
    let mut layers = image.layers.iter();
    let mut lines: Vec<Line> = steps
        .into_iter()
        .map(|step| {
            let layer = if step.empty_layer {
                None
            } else {
                layers.next()
            };
            Line {
                size: layer.map_or(0, |layer| layers::size(&engine.dirs, layer)),
                step,
                id: None,
                tags: vec![],
            }
        })
        .collect();
    lines.reverse();
    if let Some(top) = lines.first_mut() {
        top.id = Some(image.id.hex().to_owned());
        let names = image::names::of(&engine.dirs, &image.id)?;
        top.tags = names.iter().map(ToString::to_string).collect();
    }
    Ok(lines)
}

fn fields(line: &Line, id: &str, args: &Args, now: Timestamp) -> Value {
    let step = &line.step;
    let created = time::parse_rfc3339(&step.created);
    let date = created.map_or(String::new(), |created| {
        let whole = Timestamp::from_second(created.as_second()).unwrap_or(created);
        time::rfc3339_nano(whole, &jiff::tz::TimeZone::UTC)
    });
    let since = match created {
        Some(created) if args.human => time::ago(created, now),
        _ => date.clone(),
    };
    let size = if args.human {
        size::human(line.size)
    } else {
        line.size.to_string()
    };
    json!({
        "ID": id,
        "Created": since,
        "CreatedSince": since,
        "CreatedAt": date,
        "CreatedBy": shortened(&step.created_by, args.no_trunc),
        "Size": size,
        "Comment": escape::line(&step.comment),
        "Tags": line.tags,
    })
}

fn shortened(command: &str, whole: bool) -> String {
    let line = escape::line(command);
    if whole || line.chars().count() <= WIDTH {
        return line.into_owned();
    }
    let start: String = line.chars().take(WIDTH - 3).collect();
    start + "..."
}

/// As podman prints it.
fn json(line: &Line) -> Value {
    let step = &line.step;
    let created = time::parse_rfc3339(&step.created);
    json!({
        "id": line.id.as_deref().unwrap_or(MISSING),
        "created": created.map(|created| created.to_string()),
        "CreatedBy": step.created_by,
        "size": line.size,
        "comment": step.comment,
        "tags": line.tags,
    })
}
