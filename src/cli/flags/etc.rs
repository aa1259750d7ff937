//! Flags about the files of the container's /etc that rbox writes: hostname, hosts, resolv.conf,
//! localtime.

use std::net::IpAddr;

use clap::Args;

use crate::cli::flags;
use crate::container::config::etc::AddedHost;
use crate::container::config::etc::Etc;
use crate::container::config::etc::HostsBase;
use crate::container::config::etc::Resolver;
use crate::error::Kind;
use crate::error::fail;
use crate::text::hosts;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Names and addresses in /etc")]
pub struct EtcFlags {
    /// Add a line to /etc/hosts: NAME:ADDRESS or NAME=ADDRESS, several names with ; between them; the address
    /// host-gateway is the host
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = added_host)]
    add_host: Vec<AddedHost>,

    /// Ask this name server, or none: leave the image's /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS", value_parser = server, value_delimiter = ',')]
    dns: Vec<Server>,

    /// Set an option of the resolver
    #[arg(long, alias = "dns-opt", value_name = "OPTION", value_parser = word, value_delimiter = ',')]
    dns_option: Vec<String>,

    /// Search names in this domain; . is none
    #[arg(long, value_name = "DOMAIN", value_parser = domain, value_delimiter = ',')]
    dns_search: Vec<String>,

    /// Begin /etc/hosts with this file of the host, with that of the image (image), or empty (none)
    #[arg(long, value_name = "FILE", value_parser = hosts_base)]
    hosts_file: Option<HostsBase>,

    /// Leave the image's /etc/hostname
    #[arg(long)]
    no_hostname: bool,

    /// Leave the image's /etc/hosts
    #[arg(long)]
    no_hosts: bool,

    /// Set the time zone: a name as Europe/Berlin, or local for the host's
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    tz: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    None,
    At(IpAddr),
}

impl EtcFlags {
    pub fn into_wish(self) -> anyhow::Result<Etc> {
        if self.no_hosts {
            for (given, flag) in [
                (!self.add_host.is_empty(), "--add-host"),
                (self.hosts_file.is_some(), "--hosts-file"),
            ] {
                if given {
                    let text = format!("flag {flag} cannot be used with --no-hosts");
                    return Err(fail(Kind::Usage, text));
                }
            }
        }
        let untouched = self.dns.contains(&Server::None);
        let others = self.dns.len() + self.dns_search.len() + self.dns_option.len();
        if untouched && others > 1 {
            let text = "--dns=\"none\": expected no other server, domain or option beside it";
            return Err(fail(Kind::Usage, text));
        }
        let servers: Vec<IpAddr> = self
            .dns
            .into_iter()
            .filter_map(|server| match server {
                Server::At(address) => Some(address),
                Server::None => None,
            })
            .collect();
        let given = |words: Vec<String>| (!words.is_empty()).then_some(words);
        Ok(Etc {
            hostname: !self.no_hostname,
            hosts: !self.no_hosts,
            hosts_base: self.hosts_file.unwrap_or(HostsBase::Default),
            added_hosts: self.add_host,
            resolver: Resolver {
                untouched,
                servers: (!servers.is_empty()).then_some(servers),
                search: given(self.dns_search).map(|domains| {
                    let named = domains.into_iter().filter(|domain| domain != ".");
                    named.collect()
                }),
                options: given(self.dns_option),
            },
            time_zone: flags::given(self.tz),
        })
    }
}

fn added_host(text: &str) -> Result<AddedHost, String> {
    let (names, address) = hosts::added(text)?;
    Ok(AddedHost { names, address })
}

fn server(text: &str) -> Result<Server, String> {
    if text == "none" {
        return Ok(Server::None);
    }
    let address = text.parse().map(Server::At);
    address.map_err(|_| "expected an IP address, or none".into())
}

fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected one word".into());
    }
    Ok(text.to_owned())
}

fn domain(text: &str) -> Result<String, String> {
    if hosts::is_name(text) {
        return Ok(text.to_owned());
    }
    Err("expected a domain name, or . for none".into())
}

fn hosts_base(text: &str) -> Result<HostsBase, String> {
    match text {
        "image" => Ok(HostsBase::Image),
        "none" => Ok(HostsBase::None),
        _ if text.starts_with('/') => Ok(HostsBase::File(text.into())),
        _ => Err("expected an absolute path, image or none".into()),
    }
}

/// A zone names a file below the host's database, and nothing else.
fn zone(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if text.is_empty() || text.split('/').all(part) {
        return Ok(text.to_owned());
    }
    Err("expected a time zone as Europe/Berlin, or local".into())
}
