//! Debian's podman and crun, set up to do what rbox does.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::measure::output;
use crate::measure::words;
use crate::rows::Place;

/// A bundle for crun: the same namespaces, ids, capabilities and about as many system calls in the filter.
pub fn crun_bundle(place: &Place, dir: &Path, seccomp: bool) -> Result<()> {
    fs::create_dir_all(dir)?;
    let file = dir.join("config.json");
    let dir = dir.to_str().context("a strange path")?;
    output(&words(&format!("crun spec --rootless --bundle {dir}")))?;
    let mut spec: Value = serde_json::from_slice(&fs::read(&file)?)?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["true"]);
    spec["process"]["env"] = json!(["PATH=/bin"]);
    spec["root"] = json!({"path": place.path("rootfs"), "readonly": false});
    let linux = &mut spec["linux"];
    let kinds = ["user", "pid", "mount", "ipc", "uts", "cgroup", "network"];
    linux["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let map = |id: u32, range: (u32, u32)| {
        json!([
            {"containerID": 0, "hostID": id, "size": 1},
            {"containerID": 1, "hostID": range.0, "size": range.1},
        ])
    };
    linux["uidMappings"] = map(place.uid, place.subuid);
    linux["gidMappings"] = map(place.gid, place.subgid);
    if seccomp {
        linux["seccomp"] = profile()?;
    }
    fs::write(file, serde_json::to_vec(&spec)?)?;
    Ok(())
}

/// The rules of podman's own profile that hold for everybody on x86_64.
fn profile() -> Result<Value> {
    let text = fs::read("/usr/share/containers/seccomp.json")?;
    let mut profile: Value = serde_json::from_slice(&text)?;
    let rules = profile["syscalls"].take();
    let rules: Vec<Value> = rules.as_array().cloned().unwrap_or_default();
    let plain = |rule: &Value| {
        let none = |key: &str| rule[key].as_object().is_none_or(serde_json::Map::is_empty);
        let here = rule["includes"]["arches"]
            .as_array()
            .is_some_and(|arches| arches.contains(&json!("amd64")));
        (here || none("includes")) && none("excludes")
    };
    let rules: Vec<Value> = rules
        .into_iter()
        .filter(plain)
        .map(|rule| {
            let args = if rule["args"].is_array() {
                rule["args"].clone()
            } else {
                json!([])
            };
            let errno = rule["errnoRet"].as_u64();
            let mut out = json!({"names": rule["names"], "action": rule["action"], "args": args});
            if let Some(errno) = errno {
                out["errnoRet"] = json!(errno);
            }
            out
        })
        .collect();
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}
