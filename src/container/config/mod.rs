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
    #[serde(default)]
    pub created: Timestamp,
    /// The image as its reference, and the digest of its configuration.
    #[serde(default)]
    pub image: String,
    #[serde(default)]
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
    #[serde(default)]
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
    #[serde(default)]
    pub identity: Identity,
    #[serde(default)]
    pub process: Process,
    #[serde(default)]
    pub files: Files,
    #[serde(default)]
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

    /// Paths of all truth values and numbers below `value`.
    fn changeable(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Bool(_) | Value::Number(_) => found.push(at.to_owned()),
            Value::Object(fields) => {
                for (name, value) in fields {
                    changeable(value, &format!("{at}/{name}"), found);
                }
            }
            _ => {}
        }
    }

    fn another(value: &Value) -> Value {
        match value {
            Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
            value => (!value.as_bool().unwrap()).into(),
        }
    }

    #[test]
    fn a_lean_record_is_short_and_comes_back_whole() {
        let base = scratch("lean");
        let path = base.path().join("config.json");
        let through_the_file = |config: &Config| {
            record::save_lean(&path, config, Durability::Volatile).unwrap();
            value_of(&record::load::<Config>(&path).unwrap())
        };
        let plain = Config {
            id: "x".into(),
            ..Config::default()
        };
        assert_eq!(through_the_file(&plain), value_of(&plain));
        let lean = std::fs::metadata(&path).unwrap().len();
        record::save(&path, &plain, Durability::Volatile).unwrap();
        assert!(lean * 2 < std::fs::metadata(&path).unwrap().len());

        let mut paths = Vec::new();
        changeable(&value_of(&plain), "", &mut paths);
        assert!(paths.len() > 15, "{paths:?}");
        for path in paths {
            let mut changed = value_of(&plain);
            let leaf = changed.pointer_mut(&path).unwrap();
            *leaf = another(leaf);
            let config: Config = serde_json::from_value(changed.clone()).unwrap();
            assert_eq!(through_the_file(&config), changed, "{path}");
        }
    }

    /// What is so by default is not in a record: with another default, containers that are there would change.
    #[test]
    fn defaults_of_records_stay() {
        let mut plain = value_of(&Config::default());
        let health = value_of(&Health::default());
        plain["health"] = health;
        assert_eq!(plain, serde_json::from_str::<Value>(DEFAULTS).unwrap());
    }

    fn value_of(value: &impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    const DEFAULTS: &str = r#"
        {"id":"","name":"","created":"1970-01-01T00:00:00Z","image":"","image_id":"","layers":[],"lower":[],
        "contents":[],"ids":"","labels":{},"annotations":{},"remove":false,"restart":"no","identity":{"user":"",
        "userns":"default","groups":[],"keep_groups":false,"no_passwd":false,"passwd_entry":null,
        "group_entry":null,"users":[],"umask":null},"process":{"entrypoint":[],"command":[],"env":[],
        "unset_env":{"names":[]},"workdir":"","hostname":"","network":"none","networks":[],"publish":[],"expose":[],
        "egress":[],"rates":{"inward":null,"outward":null},
        "namespaces":{"pid":"private","ipc":"private","shm":"private","uts":"private","cgroup":"private",
        "time":"host","time_offsets":[]},"etc":{"hostname":false,"hosts":false,"hosts_base":"default",
        "added_hosts":[],"resolver":{"untouched":false,"servers":null,"search":null,"options":null},
        "time_zone":null},"terminal":false,"interactive":false,"init":false,"stop_signal":0,"stop_timeout":0,
        "timeout":null,"limits":{"ulimits":[],"oom_score_adj":null,"personality":null,"rdt_class":null},
        "files":{"container":null,"init":null,"supervisor":null},"sdnotify":null},"files":{"mounts":[],
        "devices":[],"cdi_devices":[],"cdi_dirs":[],"read_only":false,"read_only_tmpfs":false,"shm_size":0,
        "systemd":false,"systemd_size":null,"chroot_dirs":[],"rootfs":null},
        "security":{"capabilities":{"add":{"these":[]},"drop":{"these":[]}},"privileged":false,
        "no_new_privileges":false,"seccomp":"default","paths":{"mask":[],"unmask":[]},"proc_options":[],
        "apparmor":null,"selinux":null,"sysctls":{},"hooks_dirs":[],"root_emulation":false},
        "resources":{"limits":{"memory":null,"reservation":null,"swap":null,"nano_cpus":null,"shares":null,
        "quota":null,"period":null,"cpus":null,"mems":null,"pids":null,"weight":null,"device_weights":[],
        "read_bps":[],"write_bps":[],"read_iops":[],"write_iops":[]},"cgroups":"enabled","parent":null,
        "conf":{},"device_rules":[]},"log":{"driver":"k8s-file","options":{},"path":null,"rotation":null,
        "tag":null,"attributes":{},"non_blocking":false},"command_line":{"words":[],"directory":""},
        "health":{"check":null,"startup":null,"shell":[],"on_failure":"none","log":{"destination":"local",
        "count":5,"size":500}}}
    "#;
}
