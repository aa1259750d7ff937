//! What is executed, in which surroundings.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::container::config::etc::Etc;
use crate::container::config::namespaces::Namespaces;
use crate::container::config::sdnotify::SdNotify;
use crate::text::egress::Rule;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;
use crate::text::rate::Rates;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// What was set for the container and where the image's own value is kept otherwise.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    /// What rbox adds to `env` otherwise.
    pub unset_env: Unset,
    pub workdir: String,
    pub hostname: String,
    pub network: Network,
    /// Of the mode `Bridge`, the networks it is on at its start, the first that leads out its way to the world.
    pub networks: Vec<Attachment>,
    /// Ports of the host that lead to the container.
    pub publish: Vec<Publish>,
    /// Ports of its own that `--expose` names.
    pub expose: Vec<(u16, Protocol)>,
    /// What it may reach, and how fast.
    pub egress: Vec<Rule>,
    pub rates: Rates,
    pub namespaces: Namespaces,
    pub etc: Etc,
    /// `-t`: a pseudo-terminal.
    pub terminal: bool,
    /// `-i`: standard input is kept open.
    pub interactive: bool,
    /// `--init`: an init of ours is pid 1, and the command its child.
    pub init: bool,
    pub stop_signal: i32,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u32,
    /// Seconds after which the container is killed.
    pub timeout: Option<u32>,
    pub limits: Limits,
    pub files: PidFiles,
    /// Absent where nothing was said: a container that is asked tells itself.
    pub sdnotify: Option<SdNotify>,
}

impl Process {
    /// The whole command line.
    pub fn args(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), self.command.as_slice()].concat()
    }

    /// What it is connected to: its networks, or the mode that goes with none.
    pub fn network_names(&self) -> Vec<String> {
        match self.network {
            Network::Bridge => self
                .networks
                .iter()
                .map(|one| one.network.clone())
                .collect(),
            _ => vec![self.network.name()],
        }
    }
}

/// Variables that every container has, and this one not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unset {
    Names(Vec<String>),
    All,
}

impl Default for Unset {
    fn default() -> Unset {
        Unset::Names(vec![])
    }
}

impl Unset {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Unset::Names(names) => names.iter().any(|known| known == name),
            Unset::All => true,
        }
    }
}

/// What the kernel is told of the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub ulimits: Vec<Ulimit>,
    pub oom_score_adj: Option<i32>,
    pub personality: Option<Personality>,
    /// A group of resctrl.
    pub rdt_class: Option<String>,
}

/// `u64::MAX` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As setrlimit(2) has it: `RLIMIT_NOFILE`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Personality {
    #[serde(rename = "LINUX")]
    Linux,
    #[serde(rename = "LINUX32")]
    Linux32,
}

/// Files that the user wants written, by absolute paths.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PidFiles {
    /// The container's id, as long as it exists.
    pub container: Option<PathBuf>,
    /// The pids of init and supervisor, while it runs.
    pub init: Option<PathBuf>,
    pub supervisor: Option<PathBuf>,
}

/// How the container sees the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace with nothing but loopback.
    #[default]
    None,
    /// A network namespace with an interface that the supervisor serves, in user mode.
    Private {
        /// The gateway's address leads to the loopback of the host.
        host_loopback: bool,
        /// Nobody asked for it: where the host has no TUN device, loopback alone will do.
        #[serde(default)]
        optional: bool,
        /// It has addresses of this family alone.
        #[serde(default)]
        only: Option<Family>,
        #[serde(default)]
        mtu: Option<u16>,
    },
    /// A network namespace with an interface on each of its networks.
    Bridge,
    /// The host's own.
    Host,
    /// That of another container, by its id.
    Container(String),
    /// The namespace behind a file.
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    V4,
    V6,
}

impl Network {
    /// Whether the container has a network namespace of its own.
    pub fn is_own(&self) -> bool {
        matches!(
            self,
            Network::None | Network::Private { .. } | Network::Bridge
        )
    }

    pub fn name(&self) -> String {
        match self {
            Network::None => "none".into(),
            Network::Private { .. } => "private".into(),
            Network::Bridge => "bridge".into(),
            Network::Host => "host".into(),
            Network::Container(id) => format!("container:{id}"),
            Network::Path(path) => format!("ns:{}", path.display()),
        }
    }
}

/// What is asked of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Its name.
    pub network: String,
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    /// `02:42:0a:59:00:02`
    pub mac: Option<String>,
    pub aliases: Vec<String>,
    /// In the container; the first free one of eth0, eth1 … otherwise.
    pub interface: Option<String>,
}
