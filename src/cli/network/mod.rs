//! `rbox network …`.

mod connect;
mod create;
mod disconnect;
mod exists;
pub mod filter;
mod inspect;
mod ls;
mod prune;
mod reload;
mod rm;
mod shell;
mod update;
pub mod view;

use crate::engine::Engine;

/// Manage networks, on which containers reach each other by name
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Networks need no privileges, no daemon and no firewall rules, and each is isolated from the
others. The network \"bridge\" is always there; as podman's default one it answers no names.

Examples:
  rbox network create lan
  rbox run -d --name db --network lan postgres
  rbox run --rm --network lan busybox ping -c 1 db
  rbox network inspect lan
  rbox network rm lan"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Connect(connect::Args),
    Create(Box<create::Args>),
    Disconnect(disconnect::Args),
    Exists(exists::Args),
    Inspect(inspect::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Prune(prune::Args),
    Reload(reload::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Shell(shell::Args),
    Update(update::Args),
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    match args.verb {
        Verb::Connect(args) => connect::run(engine, args),
        Verb::Create(args) => create::run(engine, *args),
        Verb::Disconnect(args) => disconnect::run(engine, &args),
        Verb::Exists(args) => Ok(exists::run(engine, &args)),
        Verb::Inspect(args) => inspect::run(engine, args),
        Verb::Ls(args) => ls::run(engine, args),
        Verb::Prune(args) => prune::run(engine, args),
        Verb::Reload(args) => reload::run(engine, &args),
        Verb::Rm(args) => Ok(rm::run(engine, &args)),
        Verb::Shell(args) => shell::run(engine, args),
        Verb::Update(args) => update::run(engine, &args),
    }
}

/// An address, of IPv4 or IPv6.
fn address(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse()
        .map_err(|_| "expected an address as 10.89.0.1 or fd00::1".to_owned())
}
