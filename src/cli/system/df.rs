//! `rbox system df`.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::images::row;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::usage;
use crate::engine::usage::ContainerUse;
use crate::engine::usage::ImageUse;
use crate::engine::usage::Part;
use crate::engine::usage::Usage;
use crate::engine::usage::VolumeUse;
use crate::text::duration;
use crate::text::size;

/// Show what images, containers and volumes take on disk
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Bytes are those that the disk gives for them; layers and blobs that images share count once.
RECLAIMABLE is what `rbox system prune --all` and `rbox volume prune --all` would free.

Examples:
  rbox system df
  rbox system df --verbose"
)]
pub struct Args {
    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

const DEFAULT: &str = "table {{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ImageID}}\t{{.Created}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ContainerID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.Created}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.VolumeName}}\t{{.Links}}\t{{.Size}}";
const HEADERS: [(&str, &str); 6] = [
    ("ImageID", "IMAGE ID"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("ContainerID", "CONTAINER ID"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("VolumeName", "VOLUME NAME"),
];

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut damaged = Vec::new();
    let usage = usage::measure(engine, |err| damaged.push(err))?;
    output::print_damaged(&damaged);
    let format = args.format.as_deref().filter(|format| *format != "table");
    if args.verbose {
        return verbose(&usage, format);
    }
    let rows = [
        row("Images", usage.image_part),
        row("Containers", usage.container_part),
        row("Local Volumes", usage.volume_part),
        // There is none yet to be measured.
        row("Build Cache", Part::default()),
    ];
    output::print(&format::list(&rows, format, DEFAULT, &[], true)?)?;
    Ok(0)
}

fn row(kind: &str, part: Part) -> Value {
    let share = match part.size {
        0 => 0,
        size => u128::from(part.reclaimable) * 100 / u128::from(size),
    };
    json!({
        "Type": kind,
        "Total": part.total,
        "TotalCount": part.total,
        "Active": part.active,
        "Size": human(part.size),
        "RawSize": part.size,
        "Reclaimable": format!("{} ({share}%)", human(part.reclaimable)),
        "RawReclaimable": part.reclaimable,
    })
}

fn human(bytes: u64) -> String {
    size::human_with(bytes, 4, "")
}

fn verbose(usage: &Usage, format: Option<&str>) -> anyhow::Result<u8> {
    let now = Timestamp::now();
    let images: Vec<Value> = usage
        .images
        .iter()
        .flat_map(|one| image(one, now))
        .collect();
    let containers: Vec<Value> = usage
        .containers
        .iter()
        .map(|one| container(one, now))
        .collect();
    let volumes: Vec<Value> = usage.volumes.iter().map(volume).collect();
    if let Some(format) = format {
        let all = json!({
            "Images": images,
            "Containers": containers,
            "Volumes": volumes,
            "BuildCache": [],
        });
        let text = format::one(&all, format)?;
        output::print(&format!("{}\n", text.trim_end_matches('\n')))?;
        return Ok(0);
    }
    let table = |rows: &[Value], table| format::list(rows, None, table, &HEADERS, true);
    output::print(&format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        table(&images, IMAGES)?,
        table(&containers, CONTAINERS)?,
        table(&volumes, VOLUMES)?,
    ))?;
    Ok(0)
}

/// As podman: how long ago, without the word.
fn age(created: Option<Timestamp>, now: Timestamp) -> String {
    let age = created.and_then(|created| now.duration_since(created).try_into().ok());
    age.map_or("N/A".into(), duration::human)
}

fn image(one: &ImageUse, now: Timestamp) -> Vec<Value> {
    let image = &one.named.image;
    let names = one.named.names.iter();
    let mut names: Vec<(String, String)> = names
        .map(|name| {
            let tag = name.reference.tag().unwrap_or("<none>");
            (name.reference.name(), tag.to_owned())
        })
        .collect();
    if names.is_empty() {
        names.push(("<none>".into(), "<none>".into()));
    }
    let line = |(repository, tag): (String, String)| {
        json!({
            "Repository": repository,
            "Tag": tag,
            "ImageID": image.id.short(),
            "ID": image.id.hex(),
            "Created": age(row::created(image), now),
            "Size": human(one.size),
            "RawSize": one.size,
            "SharedSize": human(one.shared),
            "RawSharedSize": one.shared,
            "UniqueSize": human(one.size - one.shared),
            "RawUniqueSize": one.size - one.shared,
            "Containers": one.containers,
        })
    };
    names.into_iter().map(line).collect()
}

fn container(one: &ContainerUse, now: Timestamp) -> Value {
    let config = &one.container.config;
    json!({
        "ContainerID": config.short_id(),
        "ID": config.id,
        "Image": config.image,
        "Command": config.process.args().join(" "),
        "LocalVolumes": one.volumes,
        "Size": human(one.size),
        "RawSize": one.size,
        "Created": age(Some(config.created), now),
        "Status": one.container.status_to_show().name(),
        "Running": one.running,
        "Names": one.container.name,
    })
}

fn volume(one: &VolumeUse) -> Value {
    json!({
        "VolumeName": one.volume.name,
        "Links": one.links,
        "Size": human(one.size),
        "RawSize": one.size,
    })
}
