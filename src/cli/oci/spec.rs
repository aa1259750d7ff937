//! `rbox oci spec`: a configuration to begin with.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime::VERSION_MAX;

/// Write a config.json to begin with
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it into this directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// Write it to this file [default: config.json in the directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Make it one for a user who is not root
    #[arg(long)]
    rootless: bool,
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut spec = default_spec();
    if args.rootless {
        make_rootless(&mut spec);
    }
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
    text.push(b'\n');
    let name = args.file.clone().unwrap_or_else(|| "config.json".into());
    let path = args.bundle.join(name);
    match std::fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(&text),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
            let text = format!("file {} exists; remove it first", path.display());
            return Err(fail(Kind::Conflict, text));
        }
        Err(err) => Err(err),
    }
    .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}

fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": VERSION_MAX,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "rbox",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sys",
                "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    let usual = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": usual},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": read_only},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ])
}

/// A user namespace with one id, in place of what needs more.
fn make_rootless(spec: &mut Value) {
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            // Linux: sysfs shows a network namespace, and only its owner may mount it.
            mount["type"] = "none".into();
            mount["source"] = "/sys".into();
            mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
        if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
            options.retain(|option| option != "gid=5");
        }
    }
    let linux = &mut spec["linux"];
    if let Some(linux) = linux.as_object_mut() {
        linux.shift_remove("resources");
    }
    let id = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    linux["uidMappings"] = id(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = id(rustix::process::getegid().as_raw());
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime;

    #[test]
    fn what_is_written_can_be_read() {
        let mut spec = default_spec();
        let read = |spec: &Value| {
            let text = spec.to_string();
            runtime::parse(text.as_bytes(), &mut |text| panic!("{text}")).map(drop)
        };
        assert_eq!(read(&spec), Ok(()));
        make_rootless(&mut spec);
        assert_eq!(read(&spec), Ok(()));
    }
}
