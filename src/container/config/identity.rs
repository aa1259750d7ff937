//! Who the container's processes are.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::config::ids::Account;
use crate::sys::idmap::IdMaps;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// As `name`, `uid`, `name:group`…; looked up in the container.
    pub user: String,
    pub userns: Userns,
    /// More groups of its first process, by name or number.
    pub groups: Vec<String>,
    /// The process keeps the supplementary groups of who starts the container.
    pub keep_groups: bool,
    /// Nothing is added to the passwd and group files.
    pub no_passwd: bool,
    pub passwd_entry: Option<String>,
    pub group_entry: Option<String>,
    /// Users of the host that the container knows by name.
    pub users: Vec<Account>,
    pub umask: Option<u32>,
}

/// Which user namespace, with which ids of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Userns {
    /// Its own, with all ids that the user has when it starts.
    #[default]
    Default,
    /// The host's own.
    Host,
    /// Its own, with these ids.
    Own {
        maps: IdMaps,
    },
    /// That of the container with this id.
    Container {
        id: String,
        maps: IdMaps,
    },
    Path {
        path: PathBuf,
        maps: IdMaps,
    },
}

impl Userns {
    /// The ids that were chosen for the container; none where it has all.
    pub fn maps(&self) -> Option<&IdMaps> {
        match self {
            Userns::Default | Userns::Host => None,
            Userns::Own { maps } | Userns::Container { maps, .. } | Userns::Path { maps, .. } => {
                Some(maps)
            }
        }
    }

    /// As Podman writes `HostConfig.UsernsMode`.
    pub fn name(&self) -> String {
        match self {
            Userns::Default => String::new(),
            Userns::Host => "host".into(),
            Userns::Own { .. } => "private".into(),
            Userns::Container { id, .. } => format!("container:{id}"),
            Userns::Path { path, .. } => format!("ns:{}", path.display()),
        }
    }
}
