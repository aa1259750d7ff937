//! `rbox export`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::export;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Write all files of a container as an archive (tar)
#[derive(Debug, clap::Args)]
#[command(after_help = "What is mounted in the container is not part of it.

Examples:
  rbox export -o web.tar web
  rbox export web | tar t")]
pub struct Args {
    /// The archive to write, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let container = Container::find(&engine.dirs, &args.container)?;
    let Some(path) = &args.output else {
        if std::io::stdout().is_terminal() {
            return Err(fail(Kind::Usage, "cannot write an archive to a terminal")
                .hint("redirect standard output, or use `--output FILE`"));
        }
        let out = std::io::stdout().as_fd().try_clone_to_owned()?;
        export::export(engine, &container, &File::from(out))?;
        return Ok(0);
    };
    let out = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let done = export::export(engine, &container, &out);
    if done.is_err() && out.metadata().is_ok_and(|metadata| metadata.is_file()) {
        // Half an archive is none.
        std::fs::remove_file(path).ok();
    }
    done.map(|()| 0)
}
