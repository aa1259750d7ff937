//! `rbox images`, and an image as `inspect` prints it.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::output;
use crate::engine::Engine;
use crate::image;
use crate::image::Image;
use crate::oci::reference::Reference;
use crate::text::escape;
use crate::text::size;
use crate::text::time;

/// List images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the digests of manifests
    #[arg(long)]
    digests: bool,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Print no heading
    #[arg(short = 'n', long)]
    noheading: bool,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,

    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const DEFAULT: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}";
const WITH_DIGESTS: &str =
    "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.Created}}\t{{.Size}}";
const HEADERS: [(&str, &str); 1] = [("ID", "IMAGE ID")];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut damaged = Vec::new();
    let mut images = image::list(&engine.dirs, |err| damaged.push(err))?;
    output::print_damaged(&damaged);
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    if let Some(wanted) = &args.name {
        for image in &mut images {
            image.names.retain(|name| is_meant(name, wanted));
        }
        images.retain(|image| !image.names.is_empty());
    }
    if args.quiet && args.format.is_none() {
        for image in &images {
            let id = if args.no_trunc {
                image.id.to_string()
            } else {
                image.id.short().to_owned()
            };
            output::print_line(&id)?;
        }
        return Ok(0);
    }
    if args.format.as_deref() == Some("json") {
        let values: Vec<Value> = images.iter().map(summary).collect();
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
        return Ok(0);
    }
    let rows: Vec<Value> = images
        .iter()
        .flat_map(|image| rows(image, args.no_trunc))
        .collect();
    let table = if args.digests { WITH_DIGESTS } else { DEFAULT };
    let format = args.format.as_deref();
    output::print(&format::list(
        &rows,
        format,
        table,
        &HEADERS,
        !args.noheading,
    )?)?;
    Ok(0)
}

/// `busybox` means all tags of all repositories of that name, `busybox:1` those of that tag.
fn is_meant(name: &Reference, wanted: &str) -> bool {
    let repository = name.name();
    let tagged = format!("{repository}:{}", name.tag().unwrap_or_default());
    [repository, tagged]
        .iter()
        .any(|form| form == wanted || form.ends_with(&format!("/{wanted}")))
}

fn created(image: &Image) -> Option<Timestamp> {
    time::parse_rfc3339(image.created.as_deref()?)
}

/// One row a name; an image without a name has one row all the same.
fn rows(image: &Image, whole: bool) -> Vec<Value> {
    let row = |repository: String, tag: String| {
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": if whole { image.id.to_string() } else { image.id.short().to_owned() },
            "Id": image.id.hex(),
            "Digest": image.manifest_digest.to_string(),
            "Created": created(image).map_or("N/A".into(), |created| time::ago(created, Timestamp::now())),
            "CreatedSince": created(image).map_or("N/A".into(), |created| time::ago(created, Timestamp::now())),
            "CreatedAt": created(image).map_or(String::new(), |created| time::go_string(created, &time::local_zone())),
            "Size": size::human(image.size),
            "Labels": image.config.untrusted().labels,
        })
    };
    if image.names.is_empty() {
        return vec![row("<none>".into(), "<none>".into())];
    }
    image
        .names
        .iter()
        .map(|name| row(name.name(), name.tag().unwrap_or("<none>").to_owned()))
        .collect()
}

/// The object of `images --format json`.
fn summary(image: &Image) -> Value {
    json!({
        "Id": image.id.hex(),
        "Names": image.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "Digest": image.manifest_digest.to_string(),
        "Created": created(image).map(Timestamp::as_second),
        "CreatedAt": image.created,
        "Size": image.size,
        "Labels": image.config.untrusted().labels,
    })
}

/// The fields that clients of Docker and Podman read.
pub fn describe(image: &Image) -> Value {
    let config = image.config.untrusted();
    json!({
        "Id": image.id.hex(),
        "Digest": image.manifest_digest.to_string(),
        "RepoTags": image.names.iter().filter(|name| name.tag().is_some()).map(ToString::to_string).collect::<Vec<_>>(),
        "RepoDigests": image.names.iter().map(|name| format!("{}@{}", name.name(), image.manifest_digest)).collect::<Vec<_>>(),
        "Created": image.created.as_deref().map(escape::line),
        "Config": config,
        "Architecture": image.platform.architecture,
        "Os": image.platform.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "Labels": config.labels,
        "User": config.user,
        "ManifestType": image.media_type,
        "GraphDriver": { "Name": "overlay", "Data": {} },
        "RootFS": {
            "Type": "layers",
            "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    })
}
