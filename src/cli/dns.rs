//! `rbox dns`.

use std::net::SocketAddr;

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::dns;

/// Answer the names of running containers for programs of this host
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Containers know each other's names without this. It is for the programs of the host, which reach a \
container by the ports that it publishes (`rbox run -p`): NAME.rbox is the address where these are, 127.0.0.1 \
and ::1 in general, and nothing for a container without any. _PORT._tcp.NAME.rbox (an SRV record) has the \
port of the host for a port of the container. NAME is also an id, an alias or NAME.NETWORK; names without \
.rbox are answered too, and those in .dns.podman. All else is refused, so that others are asked. Who listens on \
an address that others reach tells them the names of all running containers. It runs until it is interrupted.

Resolvers of the host send it the questions that end in .rbox, once it is set up in one of
  /etc/systemd/resolved.conf.d/rbox.conf     [Resolve]
                                             DNS=127.0.0.1:5533
                                             Domains=~rbox
  /etc/dnsmasq.d/rbox.conf                   server=/rbox/127.0.0.1#5533
  /etc/NetworkManager/dnsmasq.d/rbox.conf    the same line, where NetworkManager.conf has dns=dnsmasq

Examples:
  rbox run -d --name web -p 8080:80 nginx
  rbox dns &
  dig @127.0.0.1 -p 5533 web.rbox
  dig @127.0.0.1 -p 5533 _80._tcp.web.rbox SRV
  curl http://web.rbox:8080/"
)]
pub struct Args {
    /// Listen on this address, for UDP and TCP; with port 0 on any that is free, which is printed
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5533", value_parser = address)]
    listen: SocketAddr,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address and a port, such as 127.0.0.1:5533 or [::1]:5533";
    text.parse().map_err(|_| expected.into())
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let never = dns::serve(&engine.dirs, args.listen, |address| {
        output::print_line(&address.to_string())
    })?;
    match never {}
}
