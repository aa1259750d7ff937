//! `rbox commit`.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Map;
use serde_json::Value;

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::commit;
use crate::engine::commit::Request;
use crate::image::commit::Format;
use crate::image::names;

/// Make an image of a container: its files and its settings
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is mounted in the container is not part of the image.

Examples:
  rbox commit web localhost/web:today
  rbox commit -c 'CMD [\"httpd\", \"-f\"]' -c 'ENV MODE=test' web"
)]
pub struct Args {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,

    /// Change a setting by an instruction of a Dockerfile, such as CMD, ENV or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// Take settings from a file: a JSON object as `inspect` prints an image's Config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The form of manifest and configuration
    #[arg(short, long, default_value = "oci", value_parser = ["oci", "docker"])]
    format: String,

    /// Write the id of the image to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// Let containers of the image have volumes where this one has them
    #[arg(long)]
    include_volumes: bool,

    /// A comment
    #[arg(short, long)]
    message: Option<String>,

    /// Let all processes of the container stand still meanwhile
    #[arg(short, long)]
    pause: bool,

    /// Print nothing
    #[arg(short, long)]
    quiet: bool,

    /// Make one layer of all
    #[arg(short, long)]
    squash: bool,

    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The name of the image; without a registry it is of localhost
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let container = Container::find(&engine.dirs, &args.container)?;
    let name = args.name.as_deref().map(names::parse_new).transpose()?;
    let config = match &args.config {
        Some(path) => settings(path)?,
        None => Map::new(),
    };
    let request = Request {
        name: name.as_ref(),
        author: args.author.as_deref(),
        message: args.message.as_deref(),
        changes: &args.change,
        config,
        format: match args.format.as_str() {
            "docker" => Format::Docker,
            _ => Format::Oci,
        },
        include_volumes: args.include_volumes,
        pause: args.pause,
        squash: args.squash,
    };
    let image = commit::commit(engine, &container, &request)?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !args.quiet {
        output::print_line(image.id.hex())?;
    }
    Ok(0)
}

fn settings(path: &PathBuf) -> anyhow::Result<Map<String, Value>> {
    let cannot = || format!("cannot read settings from {}", path.display());
    let bytes = std::fs::read(path).with_context(cannot)?;
    serde_json::from_slice(&bytes).with_context(cannot)
}
