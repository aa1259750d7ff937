//! `rbox oci features`: what this runtime knows, for callers that ask first (features.md of the runtime specification).

use serde_json::Value;
use serde_json::json;

use crate::cli::output;
use crate::oci::runtime;
use crate::runtime::MOUNT_OPTIONS;
use crate::runtime::caps;
use crate::runtime::seccomp;

/// Print what this runtime knows as JSON
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run() -> anyhow::Result<u8> {
    output::print_line(&serde_json::to_string_pretty(&features())?)?;
    Ok(0)
}

fn features() -> Value {
    let capabilities = caps::NAMES.iter().map(|name| format!("CAP_{name}"));
    let supported = runtime::FILTER_FLAGS
        .iter()
        .filter(|flag| seccomp::has_flag(flag));
    json!({
        "ociVersionMin": runtime::VERSION_MIN,
        "ociVersionMax": runtime::VERSION_MAX,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": runtime::NAMESPACES,
            "capabilities": capabilities.collect::<Vec<String>>(),
            "cgroup": {"v1": false, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": runtime::ACTIONS,
                "operators": runtime::OPERATORS,
                "archs": runtime::ARCHITECTURES,
                "knownFlags": runtime::FILTER_FLAGS,
                "supportedFlags": supported.collect::<Vec<_>>(),
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {"modes": runtime::MEMORY_MODES, "flags": runtime::MEMORY_FLAGS},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "rbox.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Features;

    use super::*;

    #[test]
    fn callers_understand_it() {
        let features: Features = serde_json::from_value(features()).unwrap();
        assert_eq!(features.oci_version_max(), "1.3.0");
        let options = features.mount_options().as_ref().unwrap();
        assert!(options.is_sorted());
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
        let flags = linux.seccomp().as_ref().unwrap().supported_flags();
        let flags = flags.as_ref().unwrap();
        assert!(flags.iter().any(|flag| flag == "SECCOMP_FILTER_FLAG_LOG"));
    }
}
