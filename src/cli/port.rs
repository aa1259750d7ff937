//! `rbox port`, and how published ports are shown elsewhere.

use std::net::SocketAddr;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::choose;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::status::State;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::store::record;
use crate::text::publish;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;

/// List the published ports of a running container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Those of all running containers, with their ids
    #[arg(short, long, conflicts_with = "words")]
    all: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "all")]
    latest: bool,

    /// Name or id, and a port where that alone is wanted
    #[arg(
        required_unless_present_any = ["all", "latest"],
        num_args = 1..=2,
        value_names = ["CONTAINER", "PORT[/PROTOCOL]"]
    )]
    words: Vec<String>,
}

impl Args {
    /// The container, and the port.
    fn chosen(&self, engine: &Engine) -> anyhow::Result<(Container, Option<(u16, Protocol)>)> {
        let mut words = self.words.iter();
        let container = if self.latest {
            choose::latest(engine)?
        } else {
            Container::find(&engine.dirs, words.next().map_or("", String::as_str))?
        };
        let port = words.next().map(|word| {
            publish::port_and_protocol(word)
                .map_err(|why| fail(Kind::Usage, format!("PORT=\"{word}\": {why}")))
        });
        if let Some(word) = words.next() {
            return Err(fail(Kind::Usage, format!("unexpected argument \"{word}\"")));
        }
        Ok((container, port.transpose()?))
    }
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    if args.all {
        for container in Container::list(&engine.dirs, |_| {})? {
            for one in published(&container.status()?) {
                let id = container.config.short_id();
                output::print_line(&format!("{id}\t{}", line(&one)))?;
            }
        }
        return Ok(0);
    }
    let (container, port) = args.chosen(engine)?;
    let name = &container.name;
    let status = container.status()?;
    if !status.is_running() {
        let text = format!("container \"{name}\" does not run: nothing is published");
        return Err(fail(Kind::WrongStatus, text));
    }
    let published = if status.is_restarting() {
        in_rest(&container)
    } else {
        published(&status)
    };
    let Some((port, protocol)) = port else {
        for one in &published {
            output::print_line(&line(one))?;
        }
        return Ok(0);
    };
    let found: Vec<&Publish> = published
        .iter()
        .filter(|one| one.port == port && one.protocol == protocol)
        .collect();
    if found.is_empty() {
        let text = format!("container \"{name}\" does not publish port {port}/{protocol}");
        return Err(fail(Kind::NotFound, text));
    }
    for one in found {
        output::print_line(&host(one))?;
    }
    Ok(0)
}

/// Of a container that rests before it is started again.
fn in_rest(container: &Container) -> Vec<Publish> {
    let state = record::load::<State>(&container.state_file());
    let network = state.ok().and_then(|state| state.network);
    let mut published = network.map_or_else(Vec::new, |network| network.published);
    published.sort_by_key(order);
    published
}

/// In the order of the container's ports.
pub fn published(status: &Status) -> Vec<Publish> {
    let mut published = match status {
        Status::Running(state) => state
            .network
            .as_ref()
            .map_or_else(Vec::new, |network| network.published.clone()),
        _ => vec![],
    };
    published.sort_by_key(order);
    published
}

fn order(one: &Publish) -> (u16, bool) {
    (one.port, one.protocol == Protocol::Udp)
}

fn host(one: &Publish) -> String {
    match one.host_ip {
        Some(ip) => SocketAddr::new(ip, one.host_port).to_string(),
        None => one.host_port.to_string(),
    }
}

fn line(one: &Publish) -> String {
    format!("{}/{} -> {}", one.port, one.protocol, host(one))
}

/// As `ps` shows them.
pub fn column(status: &Status) -> String {
    let ports: Vec<String> = published(status)
        .iter()
        .map(|one| format!("{}->{}/{}", host(one), one.port, one.protocol))
        .collect();
    ports.join(", ")
}

/// As `inspect` shows them: `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`.
pub fn bindings(published: &[Publish]) -> Value {
    let mut published = published.to_vec();
    published.sort_by_key(order);
    let mut ports: Map<String, Value> = Map::new();
    for one in published {
        let ip = one.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let binding = json!({ "HostIp": ip, "HostPort": one.host_ports() });
        let key = format!("{}/{}", one.port, one.protocol);
        match ports.get_mut(&key) {
            Some(Value::Array(list)) => list.push(binding),
            _ => {
                ports.insert(key, json!([binding]));
            }
        }
    }
    Value::Object(ports)
}
