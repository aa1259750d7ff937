//! CDI files: devices that need more than a node (Container Device Interface, version 1.0.0 and before).
//! Their authors are the machine's administrators: `/etc/cdi`, `/var/run/cdi`.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::ensure;
use serde::Deserialize;

use crate::config::hooks::Stage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Where files are looked for; those in a later directory win.
const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A larger file is no description of devices.
const FILE_MAX: u64 = 16 << 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    container_edits: Edits,
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Edits {
    pub env: Vec<String>,
    pub device_nodes: Vec<Node>,
    pub mounts: Vec<Mount>,
    pub hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
    pub intel_rdt: Option<serde_json::Value>,
    pub net_devices: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub path: PathBuf,
    pub host_path: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    #[serde(rename = "hookName")]
    pub stage: Stage,
    pub path: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    pub timeout: Option<i64>,
}

/// What all these devices together give, from the files in `dirs`, or where they are by custom.
pub fn resolve(dirs: &[PathBuf], names: &[String]) -> anyhow::Result<Edits> {
    let customary = DIRS.map(PathBuf::from);
    let dirs = if dirs.is_empty() { &customary } else { dirs };
    let mut bad = Vec::new();
    let specs = read_all(dirs, &mut bad)?;
    let mut all = Edits::default();
    let mut whole = Vec::new();
    for name in names {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        // The last one is of the directory that wins.
        let found = specs.iter().rev().find_map(|spec| {
            let mut devices = spec.devices.iter();
            let device = devices.find(|known| known.name == device)?;
            (spec.kind == kind).then_some((spec, device))
        });
        let Some((spec, device)) = found else {
            return Err(missing(name, dirs, bad));
        };
        if !whole.contains(&std::ptr::from_ref(spec)) {
            whole.push(std::ptr::from_ref(spec));
            add(&mut all, &spec.container_edits, name)?;
        }
        add(&mut all, &device.container_edits, name)?;
    }
    Ok(all)
}

fn missing(name: &str, dirs: &[PathBuf], bad: Vec<anyhow::Error>) -> anyhow::Error {
    let places: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let text = format!("no CDI device \"{name}\" in {}", places.join(", "));
    match bad.into_iter().next() {
        Some(err) => err.context(text),
        None => fail(Kind::NotFound, text)
            .hint("the maker of the device has a program that writes CDI files, such as `nvidia-ctk cdi generate`"),
    }
}

fn add(all: &mut Edits, more: &Edits, name: &str) -> anyhow::Result<()> {
    if more.intel_rdt.is_some() || !more.net_devices.is_empty() {
        return Err(fail(
            Kind::Unsupported,
            format!(
                "CDI device \"{name}\" wants a resctrl group or a network device, which a container without root cannot have"
            ),
        ));
    }
    all.env.extend(more.env.iter().cloned());
    all.device_nodes.extend(more.device_nodes.iter().cloned());
    all.mounts.extend(more.mounts.iter().cloned());
    all.hooks.extend(more.hooks.iter().cloned());
    all.additional_gids
        .extend(more.additional_gids.iter().copied());
    Ok(())
}

/// All files; `bad` hears of those that cannot be read.
fn read_all(dirs: &[PathBuf], bad: &mut Vec<anyhow::Error>) -> anyhow::Result<Vec<Spec>> {
    let mut specs = Vec::new();
    for dir in dirs {
        let mut files = BTreeMap::new();
        let entries = match std::fs::read_dir(dir) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => continue,
            result => result.with_context(|| format!("cannot read {}", dir.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            if let Some(kind @ ("json" | "yaml" | "yml")) = kind {
                files.insert(path.clone(), kind == "json");
            }
        }
        for (path, is_json) in files {
            match read(&path, is_json) {
                Ok(spec) => specs.push(spec),
                Err(err) => bad.push(err),
            }
        }
    }
    Ok(specs)
}

fn read(path: &Path, is_json: bool) -> anyhow::Result<Spec> {
    let cannot = || format!("cannot read CDI file {}", path.display());
    let length = std::fs::metadata(path).with_context(cannot)?.len();
    ensure!(
        length <= FILE_MAX,
        "CDI file {} is too large",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    if is_json {
        serde_json::from_str(&text).with_context(cannot)
    } else {
        serde_saphyr::from_str(&text)
            .map_err(|err| {
                let text = err.to_string();
                anyhow::anyhow!(text.lines().next().unwrap_or_default().to_owned())
            })
            .with_context(cannot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"cdiVersion": "0.6.0", "kind": "acme.com/gpu",
        "containerEdits": {"env": ["ALL=1"]},
        "devices": [
            {"name": "0", "containerEdits": {"env": ["ZERO=1"], "deviceNodes": [{"path": "/dev/null"}]}},
            {"name": "1", "containerEdits": {"additionalGids": [7]}}
        ]}"#;

    const YAML: &str = "cdiVersion: 0.6.0
kind: acme.com/net
devices:
- name: all
  containerEdits:
    mounts:
    - hostPath: /usr
      containerPath: /host
      options: [ro, nosuid]
    hooks:
    - hookName: createContainer
      path: /bin/true
      args: [true, '-x']
";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn devices_of_both_forms_are_joined() {
        let dir = std::env::temp_dir().join(format!("rbox-cdi-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.json"), JSON).unwrap();
        std::fs::write(dir.join("b.yaml"), YAML).unwrap();
        std::fs::write(dir.join("c.json"), "{").unwrap();
        let dirs = [dir.clone()];
        let edits = resolve(
            &dirs,
            &names(&["acme.com/gpu=0", "acme.com/gpu=1", "acme.com/net=all"]),
        )
        .unwrap();
        assert_eq!(edits.env, ["ALL=1", "ZERO=1"]);
        assert_eq!(edits.additional_gids, [7]);
        assert_eq!(edits.device_nodes[0].path, Path::new("/dev/null"));
        assert_eq!(edits.mounts[0].options, ["ro", "nosuid"]);
        assert_eq!(edits.hooks[0].args, ["true", "-x"]);
        let err = resolve(&dirs, &names(&["acme.com/gpu=2"])).unwrap_err();
        let message = crate::error::message(&err);
        assert!(
            message.contains("no CDI device \"acme.com/gpu=2\""),
            "{message}"
        );
        assert!(message.contains("c.json"), "{message}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
