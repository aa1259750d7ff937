//! `rbox load`.

use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;

use crate::cli::output;
use crate::cli::progress::Bars;
use crate::engine::Engine;
use crate::engine::images;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::load::Input;

/// Load images from an archive of Docker, Podman or another OCI tool
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox load -i image.tar
  docker save nginx | rbox load")]
pub struct Args {
    /// The archive or OCI layout directory, instead of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,

    /// Show no progress, and print nothing
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let bars = Bars::new(args.quiet);
    let input = match &args.input {
        Some(path) => Input::Path(path),
        None if std::io::stdin().is_terminal() => {
            return Err(fail(Kind::Usage, "cannot load from a terminal")
                .hint("name the archive, `rbox load -i FILE`, or redirect it to standard input"));
        }
        None => Input::Stream(Box::new(std::io::stdin())),
    };
    let loaded = image::load::load(&engine.dirs, input, &bars)?;
    bars.clear();
    let archive = args
        .input
        .as_deref()
        .map_or("-".into(), Path::to_string_lossy);
    for image in &loaded {
        images::record(engine, "loadfromarchive", &image.id, &archive);
    }
    if !args.quiet {
        for image in &loaded {
            let name = match image.names.first() {
                Some(name) => name.to_string(),
                None => image.id.to_string(),
            };
            output::print_line(&format!("Loaded image: {name}"))?;
        }
    }
    Ok(0)
}
