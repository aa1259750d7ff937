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
    #[serde(default)]
    pub layers: Vec<Digest>,
    /// Where they are unpacked, relative to the data directory, the top one first; and for which ids
    /// (`IdMaps::tag`).
    #[serde(default)]
    pub lower: Vec<PathBuf>,
    /// Layers of additional stores, which have the contents of large files.
    #[serde(default)]
    pub contents: Vec<PathBuf>,
    pub ids: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `--rm`: the container goes when its command ends.
    #[serde(default)]
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
#[serde(default)]
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::store::atomic::Durability;
    use crate::store::record;
    use crate::store::temp::tests::scratch;

    /// Paths of all truth values below `value`.
    fn truths(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Bool(_) => found.push(at.to_owned()),
            Value::Object(fields) => {
                for (name, value) in fields {
                    truths(value, &format!("{at}/{name}"), found);
                }
            }
            _ => {}
        }
    }

    fn value(config: &Config) -> Value {
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn a_lean_record_is_short_and_comes_back_whole() {
        let base = scratch("lean");
        let path = base.path().join("config.json");
        let through_the_file = |config: &Config| {
            record::save_lean(&path, config, Durability::Volatile).unwrap();
            value(&record::load(&path).unwrap())
        };
        let plain = Config::default();
        assert_eq!(through_the_file(&plain), value(&plain));
        let lean = std::fs::metadata(&path).unwrap().len();
        record::save(&path, &plain, Durability::Volatile).unwrap();
        assert!(lean * 2 < std::fs::metadata(&path).unwrap().len());

        let mut paths = Vec::new();
        truths(&value(&plain), "", &mut paths);
        assert!(paths.len() > 15, "{paths:?}");
        for path in paths {
            let mut changed = value(&plain);
            let truth = changed.pointer_mut(&path).unwrap();
            *truth = Value::Bool(!truth.as_bool().unwrap());
            let config: Config = serde_json::from_value(changed.clone()).unwrap();
            assert_eq!(through_the_file(&config), changed, "{path}");
        }
    }
}
