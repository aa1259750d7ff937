//! What `info` and `version` tell: the host, the store, this program. The names of the
//! fields are podman's.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::cgroup;
use crate::config::ids::Ids;
use crate::config::registries::Registries;
use crate::container::name;
use crate::engine::boot;
use crate::engine::doctor;
use crate::engine::doctor::Cgroups;
use crate::engine::groups;
use crate::network::record::Driver;
use crate::store::dirs::Dirs;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub host: Host,
    pub plugins: Plugins,
    /// What registries.conf says: `search`, and an object for each prefix.
    pub registries: BTreeMap<String, Value>,
    pub store: Store,
    pub version: Version,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    pub arch: &'static str,
    /// Containers with a restart policy come back after a reboot.
    pub boot_survival: bool,
    pub cgroup_controllers: Vec<String>,
    pub cgroup_manager: &'static str,
    pub cgroup_version: cgroup::Version,
    pub cpus: usize,
    pub distribution: Distribution,
    pub hostname: String,
    pub id_mappings: IdMappings,
    pub kernel: String,
    pub log_driver: &'static str,
    pub mem_free: u64,
    pub mem_total: u64,
    pub network_backend: &'static str,
    pub os: &'static str,
    pub security: Security,
    pub swap_free: u64,
    pub swap_total: u64,
}

/// Drivers that can be asked for.
#[derive(Debug, Serialize)]
pub struct Plugins {
    pub log: [&'static str; 5],
    pub network: [&'static str; Driver::ALL.len()],
    pub volume: [&'static str; 1],
}

#[derive(Debug, Serialize)]
pub struct Distribution {
    pub distribution: String,
    pub version: String,
}

/// Empty where root has the ids of its namespace as they are.
#[derive(Debug, Serialize)]
pub struct IdMappings {
    pub gidmap: Vec<IdMapping>,
    pub uidmap: Vec<IdMapping>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct IdMapping {
    pub container_id: u32,
    pub host_id: u32,
    pub size: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    pub apparmor_enabled: bool,
    pub rootless: bool,
    pub seccomp_enabled: bool,
    pub selinux_enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "podman's names")]
pub struct Store {
    /// Where images of others are; with why where one cannot be used.
    pub additional_image_stores: Vec<String>,
    pub backing_filesystem: String,
    pub container_store: Containers,
    pub graph_driver_name: &'static str,
    pub graph_root: String,
    pub image_store: Images,
    pub run_root: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Containers {
    pub number: usize,
    pub running: usize,
    pub stopped: usize,
}

#[derive(Debug, Serialize)]
pub struct Images {
    pub number: usize,
}

/// This program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    pub version: &'static str,
    pub os: &'static str,
    pub os_arch: String,
}

/// Everything.
pub fn gather(dirs: &Dirs) -> Result<Info> {
    Ok(Info {
        host: host(&Ids::detect()?.maps),
        plugins: Plugins {
            log: ["k8s-file", "json-file", "journald", "none", "passthrough"],
            network: Driver::ALL.map(Driver::name),
            volume: ["local"],
        },
        registries: registries(&Registries::load(None)?),
        store: store(dirs),
        version: version(),
    })
}

fn registries(registries: &Registries) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> = registries
        .all()
        .map(|registry| (registry.prefix.clone(), json!(registry)))
        .collect();
    all.insert("search".to_owned(), json!(registries.search()));
    all
}

pub fn version() -> Version {
    Version {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        os_arch: format!("{}/{}", std::env::consts::OS, arch()),
    }
}

/// Go's name of this architecture, which images use.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn host(maps: &IdMaps) -> Host {
    let cgroups = Cgroups::detect();
    let memory = read("/proc/meminfo");
    let uname = rustix::system::uname();
    Host {
        arch: arch(),
        boot_survival: boot::survival().in_force,
        cgroup_controllers: cgroups.delegated,
        cgroup_manager: groups::manager(),
        cgroup_version: cgroups.version,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        distribution: distribution(&read("/etc/os-release")),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        id_mappings: id_mappings(maps),
        kernel: uname.release().to_string_lossy().into_owned(),
        log_driver: "k8s-file",
        mem_free: kilobytes(&memory, "MemFree:"),
        mem_total: kilobytes(&memory, "MemTotal:"),
        network_backend: "rbox",
        os: std::env::consts::OS,
        security: security(),
        swap_free: kilobytes(&memory, "SwapFree:"),
        swap_total: kilobytes(&memory, "SwapTotal:"),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A line of /proc/meminfo, in bytes (proc(5): the file says kB and means 1024).
fn kilobytes(meminfo: &str, key: &str) -> u64 {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// ID and VERSION_ID of os-release(5).
fn distribution(release: &str) -> Distribution {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key));
        let text = line.unwrap_or("unknown").trim();
        text.trim_matches(['"', '\'']).to_owned()
    };
    Distribution {
        distribution: value("ID="),
        version: value("VERSION_ID="),
    }
}

fn id_mappings(maps: &IdMaps) -> IdMappings {
    let list = |ranges: &[IdRange]| match maps.writer {
        Writer::Privileged => Vec::new(),
        _ => ranges
            .iter()
            .map(|range| IdMapping {
                container_id: range.inside,
                host_id: range.outside,
                size: range.count,
            })
            .collect(),
    };
    IdMappings {
        gidmap: list(&maps.gids),
        uidmap: list(&maps.uids),
    }
}

fn security() -> Security {
    Security {
        apparmor_enabled: read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        rootless: !rustix::process::geteuid().is_root(),
        seccomp_enabled: doctor::has_seccomp(),
        selinux_enabled: Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

fn store(dirs: &Dirs) -> Store {
    let unusable = dirs.unusable.iter().map(|store| {
        let path = store.path.display();
        format!("{path}: cannot be used: {}", store.why)
    });
    let additional = dirs
        .additional
        .iter()
        .map(|store| store.data.display().to_string());
    Store {
        additional_image_stores: additional.chain(unusable).collect(),
        backing_filesystem: doctor::file_system(&dirs.data),
        container_store: containers(dirs),
        graph_driver_name: "overlay",
        graph_root: dirs.data.display().to_string(),
        image_store: Images {
            number: entries(&dirs.image_ids(), |name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|kind| kind == "json")
            })
            .len(),
        },
        run_root: dirs.run.display().to_string(),
    }
}

fn containers(dirs: &Dirs) -> Containers {
    let ids = entries(&dirs.containers(), name::is_id);
    let running = ids.iter().filter(|id| is_running(dirs, id)).count();
    Containers {
        number: ids.len(),
        running,
        stopped: ids.len() - running,
    }
}

/// The supervisor holds its container's run lock for life.
fn is_running(dirs: &Dirs, id: &str) -> bool {
    use std::os::fd::AsFd;
    let lock = std::fs::File::open(dirs.run_containers().join(id).join("lock"));
    lock.is_ok_and(|file| crate::sys::lock::is_held(file.as_fd()).unwrap_or(false))
}

fn entries(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| wanted(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[test]
    fn memory_and_distribution_are_read() {
        let meminfo = "MemTotal:       24684084 kB\nMemFree:  16 kB\n";
        assert_eq!(kilobytes(meminfo, "MemTotal:"), 24_684_084 * 1024);
        assert_eq!(kilobytes(meminfo, "SwapFree:"), 0);
        let found = distribution("NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n");
        assert_eq!(
            (found.distribution.as_str(), found.version.as_str()),
            ("debian", "12")
        );
        assert_eq!(distribution("").distribution, "unknown");
    }

    #[test]
    fn only_containers_and_images_are_counted() {
        let base = scratch("info");
        let dirs = Dirs::at(base.path()).unwrap();
        std::fs::create_dir(dirs.containers().join("a".repeat(64))).unwrap();
        std::fs::create_dir(dirs.containers().join(".tmp-1")).unwrap();
        std::fs::write(
            dirs.image_ids().join(format!("{}.json", "b".repeat(64))),
            "",
        )
        .unwrap();
        std::fs::write(dirs.image_ids().join(".tmp-2"), "").unwrap();
        let found = store(&dirs);
        let one = Containers {
            number: 1,
            running: 0,
            stopped: 1,
        };
        assert_eq!(found.container_store, one);
        assert_eq!(found.image_store.number, 1);
    }

    #[test]
    fn a_map_is_shown_and_roots_own_ids_are_none() {
        let range = IdRange {
            inside: 0,
            outside: 1000,
            count: 1,
        };
        let mut maps = IdMaps {
            writer: Writer::Single,
            uids: vec![range],
            gids: vec![],
        };
        let one = IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 1,
        };
        assert_eq!(id_mappings(&maps).uidmap, [one]);
        maps.writer = Writer::Privileged;
        assert!(id_mappings(&maps).uidmap.is_empty());
    }
}
