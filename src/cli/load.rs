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
use crate::oci::platform::Platform;

/// Load images from an archive of Docker, Podman or another OCI tool
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox load -i image.tar.xz
  docker save nginx | rbox load")]
pub struct Args {
    /// The archive or OCI layout directory, instead of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,

    /// Load the images for this platform instead of the machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Show no progress
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
    let loaded = image::load::load(&engine.dirs, input, args.platform.as_ref(), &bars)?;
    bars.clear();
    let archive = args
        .input
        .as_deref()
        .map_or("-".into(), Path::to_string_lossy);
    for image in &loaded {
        images::record(engine, "loadfromarchive", &image.id, &archive);
    }
    for image in &loaded {
        if image.names.is_empty() {
            output::print_line(&format!("Loaded image: {}", image.id))?;
        }
        for name in &image.names {
            output::print_line(&format!("Loaded image: {name}"))?;
        }
    }
    Ok(0)
}
