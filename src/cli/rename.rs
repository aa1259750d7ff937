//! `rbox rename`.

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::interfaces::live;
use crate::store::lock::Lock;
use crate::volume;

/// Give a container another name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox rename web web-old")]
pub struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut container = Container::find(&engine.dirs, &args.container)?;
    // Linux: a listing of a directory in which a file is being renamed may have neither name (readdir(3)), and what
    // no name leads to is collected.
    let _images = Lock::shared(&engine.dirs.lock_file())?;
    let _volumes = volume::lock_for_use(&engine.dirs)?;
    container.rename(&engine.dirs, &args.name)?;
    let before = std::mem::replace(&mut container.name, args.name.clone());
    live::renamed(engine, &container)?;
    events::add_with(&engine.dirs, &container, "rename", &[("oldName", before)]);
    Ok(0)
}
