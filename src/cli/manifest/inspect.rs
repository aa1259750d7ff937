//! `rbox manifest inspect`.

use serde::Serialize;
use serde_json::Value;

use crate::cli::flags::RegistryFlags;
use crate::cli::output;
use crate::engine::Engine;
use crate::error;
use crate::error::Kind;
use crate::image;
use crate::image::lists;
use crate::image::names;
use crate::image::registry::Access;
use crate::image::registry::remote;
use crate::image::transport;
use crate::image::transport::Transport;
use crate::store::blobs;

/// Print a list, or the manifest of an image
#[derive(Debug, clap::Args)]
#[command(after_help = "What is not in the store is fetched from its registry.

Examples:
  rbox manifest inspect app
  rbox manifest inspect docker://debian:12")]
pub struct Args {
    /// Accept http, and any certificate
    #[arg(long)]
    insecure: bool,

    #[command(flatten)]
    registry: RegistryFlags,

    /// A list or image, of the store or of a registry
    #[arg(value_name = "LIST")]
    name: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut access = args.registry.access()?;
    if args.insecure {
        access.tls_verify = Some(false);
    }
    let bytes = match transport::parse(&args.name)? {
        Some(Transport::Registry(name)) => remote::raw(&name.parse()?, &access)?,
        Some(Transport::Store(name)) => in_store(engine, &name)?,
        _ => found(engine, &args.name, &access)?,
    };
    let value: Value = serde_json::from_slice(&bytes)?;
    output::print_line(&indented(&value)?)?;
    Ok(0)
}

fn found(engine: &Engine, name: &str, access: &Access) -> anyhow::Result<Vec<u8>> {
    match in_store(engine, name) {
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => {
            remote::raw(&name.parse()?, access)
        }
        found => found,
    }
}

/// The index that the name stands for where the store has it, else the manifest of the image.
fn in_store(engine: &Engine, text: &str) -> anyhow::Result<Vec<u8>> {
    let dirs = &engine.dirs;
    if let Some(list) = lists::name_of(dirs, text)? {
        return blobs::get(dirs, &list.manifest_digest);
    }
    let image = image::find(dirs, text)?;
    if let Some(name) = image.names.first()
        && let Some(name) = names::by_name(dirs, &name.to_string())?
        && let Ok(bytes) = blobs::get(dirs, &name.manifest_digest)
    {
        return Ok(bytes);
    }
    blobs::get(dirs, &image.manifest_digest)
}

/// With four spaces, as Podman and Docker print it.
fn indented(value: &Value) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer)?;
    Ok(String::from_utf8(bytes)?)
}
