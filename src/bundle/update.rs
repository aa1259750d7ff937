//! `update`: other limits for a container that is there.

use std::os::fd::AsFd;

use anyhow::Context;
use oci_spec::runtime::LinuxIntelRdt;
use oci_spec::runtime::LinuxResources;
use serde_json::Map;
use serde_json::Value;

use crate::bundle::state;
use crate::bundle::state::CONFIG;
use crate::bundle::state::Container;
use crate::oci::runtime as runtime_spec;
use crate::runtime::resctrl;

/// What is to change; the rest stays.
pub struct Change {
    pub resources: LinuxResources,
    /// `intelRdt.l3CacheSchema` and `intelRdt.memBwSchema`.
    pub cache: Option<String>,
    pub bandwidth: Option<String>,
}

/// Imposes what the container has with what changes of it, and keeps it for the next time.
pub fn update(container: &Container, change: &Change) -> anyhow::Result<()> {
    let (init, _) = container.live()?;
    let path = container.dir.join(CONFIG);
    let cannot = || format!("cannot read {}", path.display());
    let text = std::fs::read(&path).with_context(cannot)?;
    let mut config: Value = serde_json::from_slice(&text).with_context(cannot)?;
    let linux = member(&mut config, "linux");
    if change.cache.is_some() || change.bandwidth.is_some() {
        let changes = [
            ("l3CacheSchema", &change.cache),
            ("memBwSchema", &change.bandwidth),
        ];
        let class = member(linux, "intelRdt");
        for (key, value) in changes {
            if let Some(value) = value {
                class[key] = value.as_str().into();
            }
        }
        let mut class: LinuxIntelRdt = serde_json::from_value(class.clone())?;
        // That group is there.
        class.set_enable_monitoring(None);
        let init = init.pid().context("the container has no process")?;
        resctrl::enter(&class, &container.state.id, init)?;
    }
    let kept = member(linux, "resources");
    merge(kept, serde_json::to_value(&change.resources)?);
    let all = runtime_spec::parse_resources(&serde_json::to_vec(kept)?);
    let all = all.map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    container.state.cgroup.update(&all)?;
    state::write_config(container.fd.as_fd(), &serde_json::to_vec(&config)?)
}

/// An object in an object, made where it is missing.
fn member<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value[key].is_object() {
        value[key] = Value::Object(Map::new());
    }
    &mut value[key]
}

/// Lays one over the other. What is zero or empty does not change anything, as dockerd and others mean it, but for
/// `pids.limit`, where it is a limit.
fn merge(kept: &mut Value, change: Value) {
    let (Some(kept), Value::Object(change)) = (kept.as_object_mut(), change) else {
        return;
    };
    for (key, value) in change {
        match (&value, kept.get_mut(&key)) {
            (Value::Object(_), Some(inner @ Value::Object(_))) if key != "pids" => {
                merge(inner, value);
            }
            (value, _) if is_unset(value) => {}
            (_, Some(slot)) => *slot = value,
            (_, None) => {
                kept.insert(key, value);
            }
        }
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_said_changes() {
        let mut kept = json!({
            "memory": {"limit": 10, "swap": 20},
            "cpu": {"cpus": "0-1"},
            "devices": [{"allow": false}],
            "pids": {"limit": 5}
        });
        merge(
            &mut kept,
            json!({
                "memory": {"limit": 15, "swap": 0, "reservation": 3},
                "cpu": {"cpus": "", "quota": 0, "shares": 7},
                "devices": [], "blockIO": {}, "pids": {"limit": 0}
            }),
        );
        assert_eq!(
            kept,
            json!({
                "memory": {"limit": 15, "swap": 20, "reservation": 3},
                "cpu": {"cpus": "0-1", "shares": 7},
                "devices": [{"allow": false}],
                "pids": {"limit": 0}
            })
        );
    }
}
