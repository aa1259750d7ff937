//! What the specification calls otherwise than `oci_spec`, and what a runtime has to put up with.

use std::str::FromStr;

use oci_spec::runtime::Capability;
use serde_json::Value;
use serde_json::json;

use crate::oci::runtime::Warn;
use crate::oci::runtime::shape::Mistake;
use crate::oci::runtime::shape::quoted;

/// Names of scheduler flags, and what `oci_spec` 0.10 takes for them.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Translates a specification of the right shape.
pub fn spec(spec: &mut Value, warn: Warn<'_>) -> Result<(), Mistake> {
    if let Some(found) = spec.get_mut("process") {
        process(found, "process.", warn);
    }
    for mount in items(spec.pointer_mut("/mounts")) {
        if let Some(Value::String(destination)) = mount.get_mut("destination")
            && !destination.starts_with('/')
        {
            // "it MAY be a relative path, in which case it MUST be interpreted as relative to '/'".
            destination.insert(0, '/');
        }
    }
    for (index, device) in items(spec.pointer_mut("/linux/devices")).enumerate() {
        if device["type"] != "p" {
            numbers(device).map_err(|mistake| mistake.below(&format!("linux.devices[{index}]")))?;
        }
        if let Some(mode) = device.get_mut("fileMode") {
            *mode = json!(mode.as_u64().unwrap_or(0) & 0o7777);
        }
    }
    let version = spec["ociVersion"].as_str().unwrap_or_default();
    let zero_is_none = !is_at_least(version, 3);
    if let Some(found) = spec.pointer_mut("/linux/resources") {
        resources(found);
        // Since 1.3 of the specification a limit of 0 is one; callers that write an older version mean none (podman 4).
        if zero_is_none && found.pointer("/pids/limit") == Some(&json!(0)) {
            found["pids"]["limit"] = json!(-1);
        }
    }
    Ok(())
}

/// Whether a version is 1.`minor` or newer.
fn is_at_least(version: &str, minor: u32) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    let major = numbers.next().and_then(Result::ok).unwrap_or(0);
    let found = numbers.next().and_then(Result::ok).unwrap_or(0);
    (major, found) >= (1, minor)
}

/// `oci_spec` takes 0 for a number that is missing.
fn numbers(device: &Value) -> Result<(), Mistake> {
    let missing = ["major", "minor"]
        .into_iter()
        .find(|member| device.get(member).is_none());
    match missing {
        Some(member) => Err(Mistake::new(member, "missing: expected an integer")),
        None => Ok(()),
    }
}

pub fn process(process: &mut Value, at: &str, warn: Warn<'_>) {
    let Value::Object(members) = &mut *process else {
        return;
    };
    members.entry("user").or_insert_with(|| json!({}));
    for (set, names) in capabilities(process) {
        names.retain(|name| {
            let text = name.as_str().unwrap_or_default();
            let known = text.strip_prefix("CAP_").map(Capability::from_str);
            let keep = matches!(known, Some(Ok(_)));
            if !keep {
                // "Runtimes SHOULD NOT fail if the container configuration requests capabilities that cannot be granted".
                let text = quoted(text);
                warn(format!(
                    "{at}capabilities.{set}: ignoring unknown capability {text}"
                ));
            }
            keep
        });
    }
    for flag in items(process.pointer_mut("/scheduler/flags")) {
        let other = SCHEDULER_FLAGS.iter().find(|(name, _)| flag == name);
        if let Some((_, other)) = other {
            *flag = json!(other);
        }
    }
    for which in ["initial", "final"] {
        let list = process.pointer_mut(&format!("/execCPUAffinity/{which}"));
        if let Some(Value::String(list)) = list {
            list.retain(|c| !c.is_whitespace());
        }
    }
}

fn capabilities(process: &mut Value) -> impl Iterator<Item = (&String, &mut Vec<Value>)> {
    let sets = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut);
    sets.into_iter()
        .flatten()
        .filter_map(|(set, names)| Some((set, names.as_array_mut()?)))
}

pub fn resources(resources: &mut Value) {
    for limit in items(resources.get_mut("hugepageLimits")) {
        if let Some(limit) = limit.get_mut("limit") {
            // `oci_spec` has a signed number there; nothing has so many bytes.
            *limit = json!(limit.as_i64().unwrap_or(i64::MAX));
        }
    }
}

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}
