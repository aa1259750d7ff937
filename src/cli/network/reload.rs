//! `rbox network reload`.

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::output;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Print the ids of running containers; a reload of the host's firewall takes nothing from them
///
/// Other engines have firewall rules for networks and published ports, which a reload of the firewall removes and
/// this command brings back. rbox has none: there is nothing to bring back, and nothing is changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All containers that run
    #[arg(short, long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,

    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"])]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let chosen = choose::choose(engine, wanted, Status::is_running)?;
    output::each(&chosen, |one| {
        let container = one.container(engine)?;
        if !container.status()?.is_running() {
            let name = &container.name;
            let text =
                format!("cannot reload the networks of container \"{name}\": it is not running");
            return Err(fail(Kind::WrongStatus, text)
                .hint(format!("`rbox start {name}` connects it to its networks")));
        }
        output::print_line(&container.config.id)
    })
}
