//! The files of a container's /etc that are the engine's: made anew at each start, in the runtime
//! directory, and bound over those of the image.

use std::fmt::Write as _;
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
use crate::container::config::etc::HostsBase;
use crate::container::config::process::Network;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::sys::path;
use crate::text::hosts;

const LOCALHOST: &str =
    "127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n";

/// The time zone database of the host.
const ZONES: &str = "/usr/share/zoneinfo";

/// A hosts file of an image larger than this is not read to its end.
const LIMIT: u64 = 1024 * 1024;

/// Writes the files of one start: where they are, and where the container sees them.
///
/// `addresses` are those of a network in user mode.
pub fn write(
    engine: &Engine,
    container: &Container,
    addresses: Option<&Addresses>,
) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let etc = &container.config.process.etc;
    let hostname = &container.config.process.hostname;
    let mut files: Vec<(&str, &'static str, Vec<u8>)> = Vec::new();
    let mut shared = Vec::new();
    if let Network::Container(id) = &container.config.process.network {
        let other = Container::find(&engine.dirs, id)?;
        shared = [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf")]
            .map(|(name, destination)| (other.run.join(name), destination))
            .into_iter()
            .filter(|(path, _)| path.exists())
            .collect();
    } else {
        if etc.hosts {
            files.push((
                "hosts",
                "/etc/hosts",
                hosts_file(engine, container, addresses)?.into(),
            ));
        }
        if !etc.resolver.untouched {
            files.push((
                "resolv.conf",
                "/etc/resolv.conf",
                resolv_conf(container, addresses).into(),
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
        let path = container.run.join(name);
        let cannot = || format!("cannot write {}", path.display());
        std::fs::write(&path, text).with_context(cannot)?;
        // Whatever the umask: root of the container may be somebody else than their owner.
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, mode).with_context(cannot)?;
        shared.push((path, destination));
    }
    Ok(shared)
}

/// What the user added comes first, so that it wins.
fn hosts_file(
    engine: &Engine,
    container: &Container,
    addresses: Option<&Addresses>,
) -> anyhow::Result<String> {
    let process = &container.config.process;
    let mut text = String::new();
    for host in &process.etc.added_hosts {
        // With the host's network its loopback is ours.
        let gateway = addresses.map_or(Ipv4Addr::LOCALHOST, |addresses| addresses.gateway4);
        let address = host.address.unwrap_or(gateway.into());
        writeln!(text, "{address}\t{}", host.names.join(" "))?;
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
        let own = addresses.map_or(Ipv4Addr::new(127, 0, 1, 1), |addresses| {
            addresses.container4
        });
        writeln!(text, "{own}\t{} {}", process.hostname, container.name)?;
    }
    if let (Some(addresses), false) = (addresses, process.etc.hosts_base == HostsBase::None) {
        let gateway = addresses.gateway4;
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
fn resolv_conf(container: &Container, addresses: Option<&Addresses>) -> String {
    let process = &container.config.process;
    let resolver = &process.etc.resolver;
    let host = match process.network {
        Network::Host | Network::Private { .. } => {
            std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
        }
        _ => String::new(),
    };
    let unchanged = addresses.is_none();
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
    let servers = resolver
        .servers
        .as_ref()
        .map(|servers| servers.iter().map(ToString::to_string).collect())
        // The host's own are asked in the container's name, as they are at the moment.
        .or_else(|| addresses.map(|addresses| vec![addresses.resolver4.to_string()]));
    let mut lines = Vec::new();
    let search = choose(resolver.search.clone(), "search");
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
