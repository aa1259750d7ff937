//! `rbox cleanup`.

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::cleanup;
use crate::engine::images;
use crate::engine::images::Removal;
use crate::engine::remove;
use crate::error::Kind;
use crate::error::fail;

/// Take away what containers have left that were ended from outside
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing needs it: a container's supervisor does so at the end, and where that was killed, the next
command that meets the container.

Examples:
  rbox cleanup --all
  rbox cleanup --rm --latest"
)]
pub struct Args {
    /// All that do not run
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// Refused: a command of `exec` leaves nothing
    #[arg(long, value_name = "ID", hide = true)]
    exec: Option<String>,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Remove them too
    #[arg(long)]
    rm: bool,

    /// Remove them and their images
    #[arg(long)]
    rmi: bool,

    /// Names or ids
    #[arg(required_unless_present_any = ["all", "latest"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    if let Some(id) = &args.exec {
        let text = format!("--exec=\"{id}\": a command of `rbox exec` leaves nothing to clean up");
        return Err(fail(Kind::Unsupported, text));
    }
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, |status: &Status| !status.is_running())?;
    output::each(&chosen, |one| {
        let container = one.container(engine)?;
        cleanup::cleanup(engine, &container)?;
        if args.rm || args.rmi {
            remove::remove(engine, &container, false, false)?;
        }
        output::print_line(one.label())?;
        if args.rmi && !container.config.image_id.is_empty() {
            let ids = [container.config.image_id];
            images::remove(engine, &ids, Removal::default()).into_result()?;
        }
        Ok(())
    })
}
