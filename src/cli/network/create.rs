//! `rbox network create`.

use std::net::IpAddr;

use clap::builder::PossibleValue;
use clap::builder::PossibleValuesParser;

use crate::cli::network::address;
use crate::cli::output;
use crate::engine::Engine;
use crate::engine::networks;
use crate::engine::networks::Range;
use crate::engine::networks::Wish;
use crate::engine::volumes::pairs;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::record::Driver;
use crate::network::record::Ipam;
use crate::network::record::LeaseRange;
use crate::network::record::Route;
use crate::text::cidr::Cidr;

/// Create a network and print its name
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a switch")]
#[command(
    after_help = "Without --subnet it gets a free one: of 10.89.0.0/24 and what follows, and with --ipv6 a random one of \
fd00::/8. Networks are isolated from each other, and nobody outside of this user's containers is on one.

Options of --opt: mtu=N, isolate=true (they always are), no_default_route=true,
com.docker.network.bridge.name=NAME (as --interface-name), com.docker.network.driver.mtu=N (as mtu)

With --driver macvlan or ipvlan, which are for root, containers are machines of the network that an interface of the \
host is in: --opt parent=eth0 --subnet 192.168.1.0/24, and mode=bridge, private, vepa or passthru (l2, l3 or l3s). No \
ports are published there, no names answered and nothing forbidden; macvlan interfaces and the host do not hear each other.

Examples:
  rbox network create lan
  rbox network create --ipv6 --opt mtu=9000 fast
  rbox network create --subnet 192.168.55.0/24 --ip-range 192.168.55.128/25 --gateway 192.168.55.3 office
  rbox network create --subnet 10.7.0.0/24 --ip-range 10.7.0.100-10.7.0.199 --aux-address printer=10.7.0.120 lab
  rbox network create --internal backend          its containers reach each other, and nothing else"
)]
pub struct Args {
    /// Accepted: containers can always be connected
    #[arg(long, hide = true)]
    attachable: bool,

    /// Give this address to no container
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = reserved)]
    aux_address: Vec<(String, IpAddr)>,

    /// Refused: it is for swarms
    #[arg(long, hide = true, value_name = "NETWORK")]
    config_from: Option<String>,

    /// Refused: it is for swarms
    #[arg(long, hide = true)]
    config_only: bool,

    /// Do not answer names of the network's containers
    #[arg(long)]
    disable_dns: bool,

    /// Ask these resolvers, and not the host's
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = address)]
    dns: Vec<IpAddr>,

    /// What the network is: a bridge of its own, or an interface of the host's
    #[arg(short, long, value_name = "DRIVER", default_value = Driver::Bridge.name(), value_parser = drivers())]
    driver: String,

    /// The address behind which everything else is; of a subnet of --subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = address)]
    gateway: Vec<IpAddr>,

    /// Take the network of this name if there is one
    #[arg(long)]
    ignore: bool,

    /// Refused: it is for swarms
    #[arg(long, hide = true)]
    ingress: bool,

    /// Call the bridge so, among the bridges of this user; with macvlan and ipvlan, as --opt parent
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,

    /// Let its containers reach each other, and nothing else
    #[arg(long)]
    internal: bool,

    /// Give containers addresses of this part of the subnet: a network, or the first and the last address
    #[arg(long, value_name = "RANGE", value_delimiter = ',', value_parser = range)]
    ip_range: Vec<Range>,

    /// Who gives addresses: host-local, or none for no addresses
    #[arg(long, value_name = "DRIVER", default_value = "host-local")]
    ipam_driver: String,

    /// Refused: giving addresses has no options
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,

    /// Give it a subnet of IPv4; with =false, IPv6 alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true)]
    ipv4: bool,

    /// Give it a subnet of IPv6 too
    #[arg(long)]
    ipv6: bool,

    /// Isolate it from other networks, as all are
    #[arg(long)]
    isolate: bool,

    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,

    /// Set an option: mtu, isolate, no_default_route; parent and mode of macvlan and ipvlan
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,

    /// Give containers a route: a network, the gateway to it, and perhaps the metric
    #[arg(long, value_name = "NETWORK,GATEWAY[,METRIC]", value_parser = route)]
    route: Vec<Route>,

    /// Where the network is known; only local
    #[arg(long, hide = true, value_name = "SCOPE")]
    scope: Option<String>,

    /// The network's addresses, in CIDR notation; one of each family
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<Cidr>,

    /// The name; without one rbox1, rbox2 and so on
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let driver = driver(&args.driver)?;
    check_swarm(&args)?;
    let mut options = pairs(&args.opt, "--opt")?;
    if args.isolate {
        options
            .entry("isolate".into())
            .or_insert_with(|| "true".into());
    }
    let mut reserved = std::collections::BTreeMap::new();
    for (name, address) in args.aux_address {
        if reserved.insert(name.clone(), address).is_some() {
            let text = format!("--aux-address {name}: two addresses are given");
            return Err(fail(Kind::Usage, text));
        }
    }
    let wish = Wish {
        name: args.name,
        driver,
        interface: args.interface_name,
        subnets: args.subnet,
        gateways: args.gateway,
        ranges: args.ip_range,
        reserved,
        ipv4: args.ipv4,
        ipv6: args.ipv6,
        internal: args.internal,
        dns: !args.disable_dns,
        dns_servers: args.dns,
        labels: pairs(&args.label, "--label")?,
        options,
        routes: args.route,
        ipam: ipam(&args.ipam_driver)?,
    };
    let name = networks::create(engine, wish, args.ignore)?;
    output::print_line(&name)?;
    Ok(0)
}

/// Docker's name for a bridge is `default` too.
fn drivers() -> PossibleValuesParser {
    let default = PossibleValue::new("default").hide(true);
    let drivers = Driver::ALL.map(|driver| PossibleValue::new(driver.name()));
    PossibleValuesParser::new(drivers.into_iter().chain([default]))
}

fn driver(name: &str) -> anyhow::Result<Driver> {
    let mut drivers = Driver::ALL.into_iter();
    let found = drivers.find(|driver| driver.name() == name);
    let found = found.unwrap_or_default();
    if found != Driver::Bridge && !rustix::process::geteuid().is_root() {
        let text = format!(
            "--driver {name}: only root can put a container on an interface of the host (CAP_NET_ADMIN over it)"
        );
        return Err(fail(Kind::Unsupported, text)
            .hint("use `--driver bridge`, and publish ports with `-p`"));
    }
    Ok(found)
}

fn check_swarm(args: &Args) -> anyhow::Result<()> {
    let no_swarm = |flag: &str| {
        Err(fail(
            Kind::Unsupported,
            format!("{flag}: rbox has no swarms"),
        ))
    };
    match args.scope.as_deref() {
        None | Some("local") => {}
        Some(scope) => return no_swarm(&format!("--scope {scope}")),
    }
    if args.ingress {
        return no_swarm("--ingress");
    }
    if args.config_only {
        return no_swarm("--config-only");
    }
    if let Some(from) = &args.config_from {
        return no_swarm(&format!("--config-from {from}"));
    }
    match args.ipam_opt.first() {
        Some(option) => Err(fail(
            Kind::Unsupported,
            format!("--ipam-opt \"{option}\": the driver host-local has no options"),
        )),
        None => Ok(()),
    }
}

fn ipam(driver: &str) -> anyhow::Result<Ipam> {
    match driver {
        "host-local" | "default" => Ok(Ipam::HostLocal),
        "none" => Ok(Ipam::None),
        "dhcp" => Err(fail(
            Kind::Unsupported,
            "--ipam-driver dhcp: the network joins none of the host's, so no server is there to ask",
        )
        .hint("leave it out: rbox gives the addresses")),
        _ => Err(fail(
            Kind::Usage,
            format!("--ipam-driver \"{driver}\": expected host-local or none"),
        )),
    }
}

/// A part of a subnet, in CIDR notation or as its first and last address.
fn range(text: &str) -> Result<Range, String> {
    let form = || {
        "expected a network as 10.89.0.128/25, or two addresses as 10.89.0.10-10.89.0.20".to_owned()
    };
    let Some((start, end)) = text.split_once('-') else {
        return text.parse().map(Range::Within).map_err(|_| form());
    };
    let (start, end): (IpAddr, IpAddr) = match (start.parse(), end.parse()) {
        (Ok(start), Ok(end)) => (start, end),
        _ => return Err(form()),
    };
    if start.is_ipv4() != end.is_ipv4() || start > end {
        return Err("expected the lower address first".into());
    }
    Ok(Range::Between(LeaseRange { start, end }))
}

fn reserved(text: &str) -> Result<(String, IpAddr), String> {
    let (name, given) = text.split_once('=').unwrap_or(("", text));
    let address: Option<IpAddr> = given.parse().ok();
    address
        .filter(|_| !name.is_empty())
        .map(|address| (name.to_owned(), address))
        .ok_or_else(|| "expected NAME=ADDRESS, as router=10.89.0.9".into())
}

fn route(text: &str) -> Result<Route, String> {
    let form = || {
        "expected NETWORK,GATEWAY or NETWORK,GATEWAY,METRIC, as 10.1.0.0/16,10.89.0.9,100"
            .to_owned()
    };
    let words: Vec<&str> = text.split(',').collect();
    let (destination, gateway, metric) = match words.as_slice() {
        [destination, gateway] => (destination, gateway, None),
        [destination, gateway, metric] => (destination, gateway, Some(metric)),
        _ => return Err(form()),
    };
    Ok(Route {
        destination: destination.parse().map_err(|_| form())?,
        gateway: gateway.parse().map_err(|_| form())?,
        metric: metric
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| form())?,
    })
}
