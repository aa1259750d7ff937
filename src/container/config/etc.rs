//! The files of a container's /etc that the engine writes, at each start.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Etc {
    /// /etc/hostname and /etc/hosts are ours; else the image's stay.
    pub hostname: bool,
    pub hosts: bool,
    pub hosts_base: HostsBase,
    pub added_hosts: Vec<AddedHost>,
    pub resolver: Resolver,
    /// `local`, or a name of the time zone database of the host.
    pub time_zone: Option<String>,
}

impl Etc {
    /// Names that are to lead to the host, wherever that is.
    pub fn to_host(&self) -> impl Iterator<Item = &AddedHost> {
        let hosts = self.added_hosts.iter();
        hosts.filter(|host| host.address.is_none())
    }
}

/// What stands in /etc/hosts beside the container itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostsBase {
    /// With the host's network the host's file, else `localhost`.
    #[default]
    Default,
    None,
    /// The image's own file.
    Image,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedHost {
    pub names: Vec<String>,
    /// None is the host itself.
    pub address: Option<IpAddr>,
}

/// /etc/resolv.conf. Absent is what the host has, if the container has its network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// The image's file stays.
    pub untouched: bool,
    pub servers: Option<Vec<IpAddr>>,
    pub search: Option<Vec<String>>,
    pub options: Option<Vec<String>>,
}
