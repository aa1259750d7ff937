//! `rbox network shell`.

use std::ffi::OsString;

use crate::engine::Engine;
use crate::engine::interfaces::shell;

/// Run a command of the host on a network, or a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command has the files of the host and, on the network, an address of its own, by which it \
reaches the containers there and nothing else. It may configure and watch interfaces. With --hub it is where the \
bridges of all networks are.

Examples:
  rbox network shell lan curl http://10.89.0.2/
  rbox network shell --hub tcpdump -ni any
  rbox network shell --hub bridge fdb"
)]
pub struct Args {
    /// Where the bridges of all networks are, with no address
    #[arg(long)]
    hub: bool,

    /// The network, unless it is --hub; then the command [default: $SHELL]
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "NETWORK [COMMAND…]"
    )]
    words: Vec<OsString>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut command = args.words;
    let network = if args.hub {
        None
    } else if command.is_empty() {
        let text = "expected the name of a network, or --hub";
        return Err(crate::error::fail(crate::error::Kind::Usage, text));
    } else {
        Some(command.remove(0).to_string_lossy().into_owned())
    };
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    match shell::run(engine, network.as_deref(), &command)? {}
}
