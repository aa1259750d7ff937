//! `rbox image scp`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::scp;
use crate::engine::scp::End;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Copy an image to or from another user or another machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Other machines are reached by ssh, and have rbox or podman. Between the users of this machine
root copies: USER@localhost::

Examples:
  rbox image scp debian ann@build.lan::
  rbox image scp build.lan::team/app
  sudo rbox image scp root@localhost::debian ann@localhost::"
)]
pub struct Args {
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,

    /// The image, of another store as HOST::IMAGE
    #[arg(value_name = "[HOST::]IMAGE")]
    source: String,

    /// The store that gets it, as HOST::; without it, this one
    #[arg(value_name = "HOST::")]
    destination: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let (from, image) = match args.source.split_once("::") {
        Some((host, image)) => (End::parse(host)?, image),
        None => (End::Own, args.source.as_str()),
    };
    if image.is_empty() || image.starts_with('-') {
        let text = format!("{:?}: expected IMAGE or HOST::IMAGE", args.source);
        return Err(fail(Kind::Usage, text));
    }
    let to = match &args.destination {
        None if from == End::Own => {
            return Err(fail(Kind::Usage, "the image is of this store already"))
                .hint(format!("say where to: `rbox image scp {image} HOST::`"));
        }
        None => End::Own,
        Some(text) => {
            let host = text.strip_suffix("::").ok_or_else(|| {
                let text = format!("{text:?}: expected HOST::, and no name after it");
                fail(Kind::Usage, text)
            })?;
            End::parse(host)?
        }
    };
    let said = scp::copy(engine, &from, image, &to)?;
    if !args.quiet {
        output::print(&said)?;
    }
    Ok(0)
}
