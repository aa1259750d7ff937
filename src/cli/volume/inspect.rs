//! `rbox volume inspect`, and the object that describes a volume.

use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::uses;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::text::time;
use crate::volume;
use crate::volume::Volume;

/// Print all that is known of volumes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All volumes
    #[arg(short, long)]
    all: bool,

    /// Print in another form: json, or a Go template
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: String,

    /// Names, or the beginnings of names
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if args.all != args.volumes.is_empty() {
        let text = "expected either names of volumes or --all";
        return Err(fail(Kind::Usage, text));
    }
    let mut failed = None;
    let mut volumes = Vec::new();
    if args.all {
        volumes = volume::list(&engine.dirs, |err| failed = Some(err))?;
    }
    for name in &args.volumes {
        match volume::find(&engine.dirs, name) {
            Ok(volume) => volumes.push(volume),
            Err(err) => {
                if let Some(earlier) = failed.replace(err) {
                    output::print_error(&earlier);
                }
            }
        }
    }
    let values: Vec<Value> = volumes
        .iter()
        .map(|volume| describe(engine, volume))
        .collect::<anyhow::Result<_>>()?;
    if args.format == "json" {
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
    } else {
        for value in &values {
            let mut text = format::one(value, &args.format)?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            output::print(&text)?;
        }
    }
    match failed {
        Some(err) => Err(err),
        None => Ok(0),
    }
}

/// The fields that clients of Docker and Podman read.
pub fn describe(engine: &Engine, volume: &Volume) -> anyhow::Result<Value> {
    let is_new = volume.is_new(&engine.dirs);
    let users = uses::volumes(&engine.dirs)?.remove(&volume.name);
    let mut mounted = 0;
    for name in users.unwrap_or_default() {
        if let Some(container) = Container::by_name(&engine.dirs, &name)?
            && container.status()?.is_running()
        {
            mounted += 1;
        }
    }
    let mut value = json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": volume.data(&engine.dirs),
        "CreatedAt": time::rfc3339_nano(volume.created, &time::local_zone()),
        "Labels": volume.labels,
        "Scope": "local",
        "Options": volume.options,
        "MountCount": mounted,
        "NeedsCopyUp": is_new,
        "NeedsChown": is_new,
    });
    if let Some(uid) = volume.uid {
        value["UID"] = json!(uid);
    }
    if let Some(gid) = volume.gid {
        value["GID"] = json!(gid);
    }
    value["Anonymous"] = json!(volume.anonymous);
    Ok(value)
}
