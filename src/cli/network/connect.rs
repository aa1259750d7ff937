//! `rbox network connect`.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::cli::flags::networks;
use crate::container::config::process::Attachment;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::interfaces::live;

/// Put a container on a further network, at once if it runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network connect lan web
  rbox network connect --ip 10.89.0.50 --alias www lan web")]
pub struct Args {
    /// Be known by a further name on the network
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = networks::alias)]
    alias: Vec<String>,

    /// Have this address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = networks::ip4)]
    ip: Option<Ipv4Addr>,

    /// Have this IPv6 address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = networks::ip6)]
    ip6: Option<Ipv6Addr>,

    /// Have this hardware address on the network
    #[arg(long, value_name = "ADDRESS", value_parser = networks::mac)]
    mac_address: Option<String>,

    /// Call the interface so in the container [default: the first free one of eth0, eth1 …]
    #[arg(long, value_name = "NAME", value_parser = networks::interface)]
    interface_name: Option<String>,

    /// The network
    network: String,

    /// The container
    container: String,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let mut container = Container::find(&engine.dirs, &args.container)?;
    let wish = Attachment {
        network: args.network,
        ip: args.ip,
        ip6: args.ip6,
        mac: args.mac_address,
        aliases: args.alias,
        interface: args.interface_name,
    };
    live::connect(engine, &mut container, wish)?;
    Ok(0)
}
