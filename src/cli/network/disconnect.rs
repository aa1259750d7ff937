//! `rbox network disconnect`.

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::interfaces::live;
use crate::error;
use crate::error::Kind;

/// Take a container off a network, at once if it runs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Its way to the world goes on by the next of its networks.

Example:
  rbox network disconnect lan web"
)]
pub struct Args {
    /// It is no error if the container is not on the network
    #[arg(short, long)]
    force: bool,

    /// The network
    network: String,

    /// The container
    container: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut container = Container::find(&engine.dirs, &args.container)?;
    match live::disconnect(engine, &mut container, &args.network) {
        Err(err) if args.force && error::kind(&err) == Some(Kind::NotFound) => Ok(0),
        done => done.map(|()| 0),
    }
}
