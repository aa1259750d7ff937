//! `rbox network update`.

use std::net::IpAddr;

use crate::engine::Engine;
use crate::engine::networks;

/// Change which resolvers are asked for the containers of a network
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network update --dns-add 9.9.9.9,2620:fe::fe lan
  rbox network update --dns-drop 9.9.9.9 lan")]
pub struct Args {
    /// Ask these too
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = super::address)]
    dns_add: Vec<IpAddr>,

    /// No longer ask these; without any, those of the host are asked
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = super::address,
        required_unless_present = "dns_add")]
    dns_drop: Vec<IpAddr>,

    /// The name, or the id
    #[arg(value_name = "NETWORK")]
    network: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    networks::update(engine, &args.network, &args.dns_add, &args.dns_drop)?;
    Ok(0)
}
