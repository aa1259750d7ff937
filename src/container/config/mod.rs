//! What the user asked for, joined with what the image says: written when the container is created,
//! and changed by `update` alone.

pub mod etc;
pub mod files;
pub mod health;
pub mod identity;
pub mod log;
pub mod namespaces;
pub mod process;
pub mod resources;
pub mod restart;
pub mod sdnotify;
pub mod security;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::oci::digest::Digest;
use crate::store::record::Record;

pub use files::Files;
pub use health::Health;
pub use identity::Identity;
pub use log::Log;
pub use process::Process;
pub use resources::Resources;
pub use restart::Restart;
pub use security::Security;

/// `config.json` of a container. What a record of an older rbox does not have is as if it had not been
/// asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The name that it was created with, which may be another's by now: where its own is looked for first.
    #[serde(default)]
    pub name: String,
    pub created: Timestamp,
    /// The image as its reference, and the digest of its configuration.
    pub image: String,
    pub image_id: String,
    /// The diff-ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Where they are unpacked, relative to the data directory, the top one first; and for which ids
    /// (`IdMaps::tag`).
    pub lower: Vec<PathBuf>,
    pub ids: String,
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `--rm`: the container goes when its command ends.
    pub remove: bool,
    #[serde(default)]
    pub restart: Restart,
    pub identity: Identity,
    pub process: Process,
    pub files: Files,
    pub security: Security,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub log: Log,
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Health,
    #[serde(default)]
    pub command_line: CommandLine,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// By which the container was made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CommandLine {
    pub words: Vec<String>,
    /// What relative paths in it are relative to.
    pub directory: PathBuf,
}

impl Record for Config {
    const NOUN: &'static str = "container";
    const VERSION: u32 = 2;
}

impl Config {
    /// The first digits of the id, as people see it.
    pub fn short_id(&self) -> &str {
        crate::container::name::short(&self.id)
    }
}
