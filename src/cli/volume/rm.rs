//! `rbox volume rm`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::volumes;
use crate::error::Kind;
use crate::error::fail;
use crate::volume;
use crate::volume::Volume;

/// Remove volumes
///
/// The exit status is 1 if a volume does not exist, and 2 if a container uses one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All volumes
    #[arg(short, long)]
    all: bool,

    /// Remove the containers that use them too, and pass over what does not exist
    #[arg(short, long)]
    force: bool,

    /// Wait this many seconds before such a container is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u32,

    /// Names, or the beginnings of names
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if args.all != args.volumes.is_empty() {
        let text = "expected either names of volumes or --all";
        return Err(fail(Kind::Usage, text));
    }
    let names = if args.all {
        let all = volume::list(&engine.dirs, |err| output::print_error(&err))?;
        all.into_iter().map(|volume| volume.name).collect()
    } else {
        args.volumes
    };
    Ok(output::each_removed(&names, args.force, |name| {
        let found = match volume::find(&engine.dirs, name) {
            Err(_) if args.force && volume::exists(&engine.dirs, name) => Volume::named(name),
            found => found?,
        };
        volumes::remove(engine, &found, args.force, args.time)?;
        output::print_line(&found.name)
    }))
}
