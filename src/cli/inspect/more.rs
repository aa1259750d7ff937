//! What `inspect` tells because clients read it: places, sizes, and settings by Docker's older names.

use std::path::Path;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::container::config::Config;
use crate::container::config::process::Network;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::sizes;
use crate::oci::platform::Platform;
use crate::store::dirs::Dirs;

/// Where its layers are, in the names of overlayfs.
pub fn graph_driver(dirs: &Dirs, container: &Container) -> Value {
    let lower = container.config.lower.iter();
    let lower: Vec<String> = lower
        .map(|path| dirs.data.join(path).display().to_string())
        .collect();
    json!({
        "Name": "overlay",
        "Data": {
            "LowerDir": lower.join(":"),
            "MergedDir": container.data.join("merged"),
            "UpperDir": container.data.join("upper"),
            "WorkDir": container.data.join("work"),
        },
    })
}

/// Bytes of its own files, and of all that it sees.
pub fn sizes(engine: &Engine, container: &Container) -> anyhow::Result<Value> {
    let size = sizes::of(engine, &[container])?;
    Ok(size.first().map_or_else(
        || json!({}),
        |size| json!({ "SizeRw": size.written, "SizeRootFs": size.virtual_size() }),
    ))
}

/// Files and directories of the engine. Those of /etc are there while it runs.
pub fn places(container: &Container) -> Value {
    let present = |path: std::path::PathBuf| {
        if path.exists() {
            path.display().to_string()
        } else {
            String::new()
        }
    };
    let files = &container.config.process.files;
    let shown = |path: &Option<std::path::PathBuf>| {
        let path = path.as_deref().unwrap_or(Path::new(""));
        path.display().to_string()
    };
    json!({
        "Platform": "linux",
        "Architecture": Platform::host().architecture,
        "Namespace": "",
        "Pod": "",
        "Dependencies": [],
        "IsInfra": false,
        "IsService": false,
        "MountLabel": "",
        "OCIRuntime": "rbox",
        "OCIConfigPath": present(container.run.join("spec.json")),
        "StaticDir": container.data,
        "HostnamePath": present(container.etc_file("hostname")),
        "HostsPath": present(container.etc_file("hosts")),
        "ResolvConfPath": present(container.etc_file("resolv.conf")),
        "PidFile": shown(&files.init),
        "ConmonPidFile": shown(&files.supervisor),
        "Rootfs": container
            .config
            .files
            .rootfs
            .as_ref()
            .map_or_else(String::new, |rootfs| rootfs.path.display().to_string()),
    })
}

/// Streams as Docker names them, ports and volumes.
pub fn config(config: &Config) -> Value {
    let process = &config.process;
    let mut ports = Map::new();
    let published = process.publish.iter().map(|one| (one.port, one.protocol));
    for (port, protocol) in published.chain(process.expose.iter().copied()) {
        ports.insert(format!("{port}/{protocol}"), json!({}));
    }
    let mut volumes = Map::new();
    for mount in &config.files.mounts {
        if let (Source::Volume { .. }, Some(place)) = (&mount.source, mount.destination.to_str()) {
            volumes.insert(place.to_owned(), json!({}));
        }
    }
    json!({
        "AttachStdin": false,
        "AttachStdout": true,
        "AttachStderr": true,
        "StdinOnce": false,
        "Domainname": "",
        "OnBuild": null,
        "NetworkDisabled": process.network == Network::None,
        "ExposedPorts": ports,
        "Volumes": volumes,
        "SystemdMode": config.files.systemd,
    })
}

/// Mounts in the form of `-v`, and what rbox has in one form only.
pub fn host_config(config: &Config) -> Value {
    let binds = config.files.mounts.iter().filter_map(|mount| {
        let source = match &mount.source {
            Source::Bind { path } => path.display().to_string(),
            Source::Volume { name, .. } => name.clone(),
            _ => return None,
        };
        let access = if mount.options.read_only { "ro" } else { "rw" };
        Some(format!("{source}:{}:{access}", mount.destination.display()))
    });
    json!({
        "Binds": binds.collect::<Vec<_>>(),
        "Annotations": config.annotations,
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "Links": null,
        "PublishAllPorts": false,
        "Runtime": "rbox",
        "StorageOpt": null,
        "VolumeDriver": "",
        "VolumesFrom": null,
    })
}
