//! The files of a container's /etc that are the engine's: made anew at each start, in the runtime
//! directory, and bound over those of the image.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::addresses::Addresses;
use crate::container::config::etc::AddedHost;
use crate::container::config::etc::HostsBase;
use crate::container::config::process::Network;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::names;
use crate::sys::path;
use crate::text::hosts;

const LOCALHOST: &str =
    "127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n";

/// The time zone database of the host.
const ZONES: &str = "/usr/share/zoneinfo";

/// A hosts file of an image larger than this is not read to its end.
const LIMIT: u64 = 1024 * 1024;

/// What the container has of its networks.
pub struct Connected {
    /// Of the stack in user mode.
    pub addresses: Option<Addresses>,
    /// All of the container's.
    pub own: Vec<IpAddr>,
    /// Resolvers that know names of other containers, where there are any.
    pub resolvers: Option<Vec<IpAddr>>,
}

/// Writes the files of one start: where they are, and where the container sees them.
pub fn write(
    engine: &Engine,
    container: &Container,
    connected: &Connected,
) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let etc = &container.config.process.etc;
    let hostname = &container.config.process.hostname;
    let mut files: Vec<(&str, &'static str, Vec<u8>)> = Vec::new();
    let mut shared = Vec::new();
    if let Network::Container(id) = &container.config.process.network {
        let other = Container::find(&engine.dirs, id)?;
        shared = [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")]
            .map(|(name, destination)| (other.etc_file(name), destination))
            .into_iter()
            .filter(|(path, _)| path.exists())
            .collect();
    } else {
        check_host_gateway(container, connected)?;
        if etc.hosts {
            files.push((
                "hosts",
                "/etc/hosts",
                hosts_file(engine, container, connected)?.into(),
            ));
        }
        if !etc.resolver.untouched {
            files.push((
                "resolv.conf",
                "/etc/resolv.conf",
                resolv_conf(container, connected).into(),
            ));
        }
    }
    if etc.hostname && !hostname.is_empty() {
        files.push(("hostname", "/etc/hostname", format!("{hostname}\n").into()));
    }
    if let Some(zone) = &etc.time_zone {
        files.push(("localtime", "/etc/localtime", time_zone(zone)?));
    }
    for (name, destination, text) in files {
        let path = container.etc_file(name);
        let cannot = || format!("cannot write {}", path.display());
        std::fs::write(&path, text).with_context(cannot)?;
        // Whatever the umask: root of the container may be somebody else than their owner.
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, mode).with_context(cannot)?;
        shared.push((path, destination));
    }
    Ok(shared)
}

/// What of the files depends on the networks: name and text.
pub fn of_networks(
    engine: &Engine,
    container: &Container,
    connected: &Connected,
) -> anyhow::Result<[(&'static str, String); 2]> {
    Ok([
        ("hosts", hosts_file(engine, container, connected)?),
        ("resolv.conf", resolv_conf(container, connected)),
    ])
}

/// Writes what is another now, while the container runs; a file that somebody has changed stays as it is.
pub fn renew(
    container: &Container,
    before: &[(&'static str, String); 2],
    after: &[(&'static str, String); 2],
) -> anyhow::Result<()> {
    for ((name, old), (_, new)) in before.iter().zip(after) {
        let path = container.etc_file(name);
        if old != new && is_still(&path, old) {
            // In place: the container sees this very file.
            std::fs::write(&path, new)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// The container may have written there what it likes, and as much.
fn is_still(path: &Path, text: &str) -> bool {
    path.metadata()
        .is_ok_and(|file| file.len() == text.len() as u64)
        && std::fs::read_to_string(path).is_ok_and(|found| found == text)
}

/// Refuses a name for the host where no address leads there.
fn check_host_gateway(container: &Container, connected: &Connected) -> anyhow::Result<()> {
    let process = &container.config.process;
    let mut to_host = process.etc.to_host();
    let (Some(host), None) = (to_host.next(), host_gateway(&process.network, connected)) else {
        return Ok(());
    };
    let names: Vec<&str> = process
        .networks
        .iter()
        .map(|one| one.network.as_str())
        .collect();
    let given = if names.is_empty() {
        process.network.name()
    } else {
        names.join(",")
    };
    Err(no_host_gateway(host, &given)).hint(format!(
        "`rbox network connect bridge {}` gives it one",
        container.name
    ))
}

/// The address at which the container finds the host.
fn host_gateway(network: &Network, connected: &Connected) -> Option<IpAddr> {
    match network {
        // Its loopback is the container's too.
        Network::Host => Some(Ipv4Addr::LOCALHOST.into()),
        _ => connected.addresses.as_ref().map(Addresses::gateway),
    }
}

pub fn no_host_gateway(host: &AddedHost, network: &str) -> anyhow::Error {
    let text = format!(
        "--add-host=\"{}:host-gateway\": with --network {network} no address leads to the host",
        host.names.join(";")
    );
    fail(Kind::Usage, text)
}

/// What the user added comes first, so that it wins. What is to lead to the host is left out as long as no network of
/// the container does.
fn hosts_file(
    engine: &Engine,
    container: &Container,
    connected: &Connected,
) -> anyhow::Result<String> {
    let addresses = connected.addresses.as_ref();
    let process = &container.config.process;
    let gateway = host_gateway(&process.network, connected);
    let mut text = String::new();
    for host in &process.etc.added_hosts {
        if let Some(address) = host.address.or(gateway) {
            writeln!(text, "{address}\t{}", host.names.join(" "))?;
        }
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    match (&process.etc.hosts_base, &process.network) {
        (HostsBase::Default, Network::Host) => {
            text += &std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            return Ok(text);
        }
        (HostsBase::Default, _) => text += LOCALHOST,
        (HostsBase::None, _) => {}
        (HostsBase::File(path), _) => text += &read(path)?,
        (HostsBase::Image, _) => {
            text += &of_image(engine, container, "etc/hosts")?.unwrap_or_default();
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if process.network != Network::Host && !process.hostname.is_empty() {
        for own in &connected.own {
            writeln!(text, "{own}\t{} {}", process.hostname, container.name)?;
        }
    }
    if let (Some(addresses), false) = (addresses, process.etc.hosts_base == HostsBase::None) {
        let gateway = addresses.gateway();
        writeln!(
            text,
            "{gateway}\thost.containers.internal host.docker.internal"
        )?;
    }
    Ok(text)
}

/// A file of the image, from the first of its layers that has it.
fn of_image(engine: &Engine, container: &Container, name: &str) -> anyhow::Result<Option<String>> {
    for layer in &container.config.lower {
        let dir = engine.dirs.data.join(layer);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&dir, flags, Mode::empty())
            .with_context(|| format!("cannot open {}", dir.display()))?;
        let Ok(found) = path::open_in_root(root.as_fd(), Path::new(name), OFlags::PATH) else {
            continue;
        };
        let stat = rustix::fs::fstat(&found)?;
        // Overlayfs: a character device says that the file is gone from the layers below.
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice {
            return Ok(None);
        }
        return path::read_in_root(root.as_fd(), Path::new(name), LIMIT)
            .with_context(|| format!("cannot read /{name} of the image"));
    }
    Ok(None)
}

/// Line by line what the user says, and else what the host has, if that is any use to the container.
fn resolv_conf(container: &Container, connected: &Connected) -> String {
    let addresses = connected.addresses.as_ref();
    let process = &container.config.process;
    let resolver = &process.etc.resolver;
    let is_bridged = process.network == Network::Bridge;
    let host = if process.network == Network::Host || is_bridged || addresses.is_some() {
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        String::new()
    };
    let unchanged = addresses.is_none() && !is_bridged;
    if unchanged
        && (&resolver.servers, &resolver.search, &resolver.options) == (&None, &None, &None)
    {
        return host;
    }
    let choose = |own: Option<Vec<String>>, keyword| {
        own.unwrap_or_else(|| {
            let words = hosts::resolver(&host, keyword);
            words.into_iter().map(str::to_owned).collect()
        })
    };
    let named = connected.resolvers.as_ref();
    // Where names are answered the stack asks the others, for what it does not know itself.
    let servers = named
        .or(resolver.servers.as_ref())
        .map(|servers| servers.iter().map(ToString::to_string).collect())
        // The host's own are asked in the container's name, as they are at the moment.
        .or_else(|| addresses.map(|addresses| vec![addresses.resolver().to_string()]))
        // Nothing of rbox's is on its way: it asks them itself, those that others than the host reach.
        .or_else(|| {
            let servers = hosts::resolver(&host, "nameserver").into_iter();
            let is_near = |server: &str| {
                let ip = server.parse::<IpAddr>();
                ip.is_ok_and(|ip| ip.is_loopback())
            };
            let far = servers.filter(|server| !is_near(server));
            is_bridged.then(|| far.map(str::to_owned).collect())
        });
    let mut lines = Vec::new();
    let mut search = choose(resolver.search.clone(), "search");
    if named.is_some() && resolver.search.is_none() {
        search.insert(0, names::DOMAIN.to_owned());
    }
    if !search.is_empty() {
        lines.push(format!("search {}\n", search.join(" ")));
    }
    for server in choose(servers, "nameserver") {
        lines.push(format!("nameserver {server}\n"));
    }
    let options = choose(resolver.options.clone(), "options");
    if !options.is_empty() {
        lines.push(format!("options {}\n", options.join(" ")));
    }
    lines.concat()
}

/// A file of the host's time zone database; `local` is the zone of the host.
pub fn time_zone(zone: &str) -> anyhow::Result<Vec<u8>> {
    let path = match zone {
        "local" => PathBuf::from("/etc/localtime"),
        _ => Path::new(ZONES).join(zone),
    };
    let bytes = std::fs::read(&path).ok();
    // RFC 9636: every file of the database begins so.
    bytes
        .filter(|bytes| bytes.starts_with(b"TZif"))
        .ok_or_else(|| {
            let text = format!(
                "--tz=\"{zone}\": the host has no such time zone ({})",
                path.display()
            );
            fail(Kind::Usage, text)
        })
}
