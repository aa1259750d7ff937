//! A network for people and programs: Podman's JSON, and the fields that templates name, which are Podman's and
//! those of Docker's that clients read.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::engine::Engine;
use crate::network::members;
use crate::network::members::Member;
use crate::network::record::Network;
use crate::network::record::Subnet;
use crate::text::time;

/// As `podman network ls --format json` shows it; what is empty is left out.
pub fn json(network: &Network) -> Value {
    let mut value = json!({
        "name": network.name,
        "id": network.id,
        "driver": network.driver.name(),
        "network_interface": network.interface,
        "created": time::rfc3339_nano(network.created, &time::local_zone()),
    });
    let mut add = |key: &str, part: Value| value[key] = part;
    if !network.subnets.is_empty() {
        add("subnets", network.subnets.iter().map(subnet).collect());
    }
    if !network.routes.is_empty() {
        add("routes", json!(network.routes));
    }
    add("ipv6_enabled", json!(network.ipv6));
    add("internal", json!(network.internal));
    add("dns_enabled", json!(network.dns));
    if !network.dns_servers.is_empty() {
        add("network_dns_servers", json!(network.dns_servers));
    }
    if !network.labels.is_empty() {
        add("labels", json!(network.labels));
    }
    if !network.options.is_empty() {
        add("options", json!(network.options));
    }
    add("ipam_options", json!({ "driver": network.ipam.name() }));
    if !network.reserved.is_empty() {
        add("reserved_addresses", json!(network.reserved));
    }
    value
}

fn subnet(one: &Subnet) -> Value {
    let mut value = json!({ "subnet": one.subnet });
    if let Some(gateway) = one.gateway {
        value["gateway"] = json!(gateway);
    }
    if let Some(range) = one.lease_range {
        value["lease_range"] = json!(range);
    }
    value
}

/// With the containers that are on it now, as `podman network inspect` shows it.
pub fn with_containers(engine: &Engine, network: &Network) -> Value {
    let mut value = json(network);
    value["containers"] = containers(engine, network, |_, _| {});
    value
}

fn containers(engine: &Engine, network: &Network, more: impl Fn(&mut Value, &Member)) -> Value {
    let mut found = Map::new();
    for member in members::of(&engine.dirs, &network.id) {
        let subnets: Vec<Value> = member
            .addresses()
            .filter_map(|address| {
                let subnet = network.subnet_of(address)?;
                let mut one = json!({ "ipnet": format!("{address}/{}", subnet.subnet.prefix()) });
                if let Some(gateway) = subnet.gateway {
                    one["gateway"] = json!(gateway);
                }
                Some(one)
            })
            .collect();
        let mut interface = Map::new();
        if !subnets.is_empty() {
            interface.insert("subnets".into(), Value::Array(subnets));
        }
        interface.insert("mac_address".into(), json!(member.mac));
        let mut one = json!({
            "name": member.name,
            "interfaces": { &member.interface: interface },
        });
        more(&mut one, &member);
        found.insert(member.id.clone(), one);
    }
    Value::Object(found)
}

/// For templates: all of Podman's fields by their names in Go, and Docker's.
pub fn fields(network: &Network) -> Value {
    let whole = |one: &Subnet| json!({ "subnet": one.subnet, "gateway": one.gateway, "lease_range": one.lease_range });
    let subnets: Vec<Value> = network.subnets.iter().map(whole).collect();
    let configs: Vec<Value> = network.subnets.iter().map(dockers).collect();
    let mut value = json!({
        "Name": network.name,
        "ID": network.id,
        "Driver": network.driver.name(),
        "NetworkInterface": network.interface,
        "Created": time::rfc3339_nano(network.created, &time::local_zone()),
        "Subnets": subnets,
        "Routes": network.routes,
        "IPv6Enabled": network.ipv6,
        "Internal": network.internal,
        "DNSEnabled": network.dns,
        "NetworkDNSServers": network.dns_servers,
        "Labels": network.labels,
        "Options": network.options,
        "IPAMOptions": { "driver": network.ipam.name() },
        "Scope": "local",
        "EnableIPv4": network.v4().is_some() || network.subnets.is_empty(),
        "EnableIPv6": network.ipv6,
        "IPAM": { "Driver": "default", "Options": {}, "Config": configs },
        "Attachable": true,
        "Ingress": false,
        "ConfigOnly": false,
    });
    value["CreatedAt"] = value["Created"].clone();
    value
}

/// A subnet as Docker shows it.
fn dockers(one: &Subnet) -> Value {
    let text = |part: Option<String>| part.unwrap_or_default();
    json!({
        "Subnet": one.subnet,
        "Gateway": text(one.gateway.map(|gateway| gateway.to_string())),
        "IPRange": text(one.lease_range.map(|range| format!("{}-{}", range.start, range.end))),
    })
}

/// The same with the containers that are on it now.
pub fn fields_with_containers(engine: &Engine, network: &Network) -> Value {
    let mut value = fields(network);
    value["Containers"] = containers(engine, network, |one, member| {
        let whole = |v4: bool| {
            let address = member.addresses().find(|address| address.is_ipv4() == v4);
            let whole = address.and_then(|address| {
                let prefix = network.subnet_of(address)?.subnet.prefix();
                Some(format!("{address}/{prefix}"))
            });
            whole.unwrap_or_default()
        };
        one["IPv4Address"] = json!(whole(true));
        one["IPv6Address"] = json!(whole(false));
        one["MacAddress"] = json!(member.mac);
    });
    value
}

/// Whether a template wants nothing but JSON, as on one line.
pub fn is_json_line(format: &str) -> bool {
    matches!(format, "{{json .}}" | "{{ json . }}")
}
