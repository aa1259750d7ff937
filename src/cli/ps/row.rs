//! One container as `ps` prints it: its fields for templates, and podman's JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::port;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::record::Status;
use crate::engine::sizes::Size;
use crate::text::size;
use crate::text::time;

/// A container that is listed.
pub struct Row {
    pub container: Container,
    pub status: Status,
    /// Where it was asked for.
    pub size: Option<Size>,
}

/// How rows are shown.
pub struct Looks {
    /// Whole ids and commands.
    whole: bool,
    namespaces: bool,
    /// Sizes are asked for by the format.
    pub size: bool,
    /// Times of day are asked for by the format: each takes a look at the zone.
    dates: bool,
    now: Timestamp,
    zone: TimeZone,
}

impl Looks {
    pub fn new(format: &str, whole: bool, namespaces: bool) -> Looks {
        Looks {
            whole,
            namespaces: namespaces || format.contains("Namespaces"),
            size: format.contains(".Size"),
            dates: !format.is_empty(),
            now: Timestamp::now(),
            zone: time::local_zone(),
        }
    }

    pub fn id(&self, row: &Row) -> String {
        let config = &row.container.config;
        if self.whole {
            config.id.clone()
        } else {
            config.short_id().to_owned()
        }
    }

    /// Empty where it is not known.
    fn created(&self, row: &Row) -> String {
        let created = row.container.config.created;
        if created == Timestamp::UNIX_EPOCH {
            return String::new();
        }
        time::ago(created, self.now)
    }

    /// By the names that Docker and Podman give them.
    pub fn fields(&self, row: &Row) -> Value {
        let (container, status) = (&row.container, &row.status);
        let config = &container.config;
        let times = Times::of(status);
        let command = config.process.args().join(" ");
        let created = self.created(row);
        let date = if self.dates {
            time::go_string(config.created, &self.zone)
        } else {
            String::new()
        };
        let mounts = destinations(container);
        let volumes = config.files.mounts.iter();
        let volumes = volumes.filter(|mount| matches!(mount.source, Source::Volume { .. }));
        json!({
            "ID": self.id(row),
            "Id": config.id,
            "Names": container.name,
            "Image": config.image,
            "ImageID": config.image_id,
            "Command": if self.whole { command } else { shortened(&command) },
            "Created": created,
            "CreatedAt": date,
            "CreatedHuman": created,
            "RunningFor": created,
            "State": status.name(),
            "Status": describe(status, self.now),
            "Exited": times.exited,
            "ExitedAt": times.exited_at,
            "ExitCode": times.exit_code,
            "StartedAt": times.started_at,
            "Pid": times.pid,
            "Ports": port::column(status),
            "ExposedPorts": {},
            "Networks": config.process.network.name(),
            "Mounts": mounts.join(","),
            "LocalVolumes": volumes.count(),
            "Labels": config.labels,
            "Annotations": config.annotations,
            "AutoRemove": config.remove,
            "CIDFile": config.process.files.container.as_deref().unwrap_or("".as_ref()),
            "IsInfra": false,
            "Pod": "",
            "PodName": "",
            "Restarts": status.restarts(),
            "Size": row.size.map_or(String::new(), sizes),
            "Namespaces": if self.namespaces { namespaces(times.pid) } else { Value::Null },
        })
    }

    /// As podman prints it.
    pub fn json(&self, row: &Row) -> Value {
        let (container, status) = (&row.container, &row.status);
        let config = &container.config;
        let times = Times::of(status);
        let size = row
            .size
            .map(|size| json!({ "rootFsSize": size.virtual_size(), "rwSize": size.written }));
        json!({
            "AutoRemove": config.remove,
            "Command": config.process.args(),
            "CreatedAt": self.created(row),
            "CIDFile": config.process.files.container.as_deref().unwrap_or("".as_ref()),
            "Exited": times.exited,
            "ExitedAt": times.exited_at,
            "ExitCode": times.exit_code,
            "ExposedPorts": null,
            "Id": config.id,
            "Image": config.image,
            "ImageID": config.image_id,
            "IsInfra": false,
            "Labels": config.labels,
            "Mounts": destinations(container),
            "Names": [container.name],
            "Namespaces": if self.namespaces { namespaces(times.pid) } else { json!({}) },
            "Networks": [config.process.network.name()],
            "Pid": times.pid,
            "Pod": "",
            "PodName": "",
            "Ports": ports(status),
            "Restarts": status.restarts(),
            "Size": size,
            "StartedAt": times.started_at,
            "State": status.name(),
            "Status": describe(status, self.now),
            "Created": config.created.as_second(),
        })
    }
}

/// As numbers, of seconds since 1970.
#[derive(Default)]
struct Times {
    started_at: i64,
    exited: bool,
    exited_at: i64,
    exit_code: i32,
    pid: i32,
}

impl Times {
    fn of(status: &Status) -> Times {
        match status {
            Status::Created | Status::Unreadable(_) => Times::default(),
            Status::Running(state) => Times {
                started_at: state.started.as_second(),
                pid: state.pid,
                ..Times::default()
            },
            Status::Restarting(exit) | Status::Exited(exit) => Times {
                started_at: exit.started.as_second(),
                exited: !status.is_running(),
                exited_at: exit.finished.as_second(),
                exit_code: exit.status,
                pid: 0,
            },
        }
    }
}

fn destinations(container: &Container) -> Vec<String> {
    let mounts = container.config.files.mounts.iter();
    mounts
        .map(|mount| mount.destination.display().to_string())
        .collect()
}

fn ports(status: &Status) -> Value {
    let ports = port::published(status);
    if ports.is_empty() {
        return Value::Null;
    }
    let ports = ports.iter().map(|one| {
        json!({
            "host_ip": one.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "container_port": one.port,
            "host_port": one.host_port,
            "range": 1,
            "protocol": one.protocol.to_string(),
        })
    });
    Value::Array(ports.collect())
}

/// The inodes of the namespaces of a process; empty for one that is gone.
fn namespaces(pid: i32) -> Value {
    let names = [
        ("Cgroup", "cgroup"),
        ("IPC", "ipc"),
        ("MNT", "mnt"),
        ("NET", "net"),
        ("PIDNS", "pid"),
        ("User", "user"),
        ("UTS", "uts"),
    ];
    let fields = names.map(|(name, file)| {
        // Linux: the link says `net:[4026531840]` (namespaces(7)).
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap_or_default();
        let link = link.to_string_lossy();
        let inode = link
            .split_once('[')
            .map_or("", |(_, rest)| rest.trim_end_matches(']'));
        (name.to_owned(), Value::from(inode))
    });
    Value::Object(Map::from_iter(fields))
}

/// As docker and podman: `0B (virtual 77.8MB)`.
fn sizes(size: Size) -> String {
    format!(
        "{} (virtual {})",
        size::human_with(size.written, 3, ""),
        size::human_with(size.virtual_size(), 3, "")
    )
}

fn shortened(command: &str) -> String {
    const WIDTH: usize = 20;
    if command.chars().count() <= WIDTH {
        return crate::text::escape::line(command).into_owned();
    }
    let short: String = command.chars().take(WIDTH - 3).collect();
    format!("{}...", crate::text::escape::line(&short))
}

/// `Up 3 minutes`, `Exited (1) 2 hours ago`.
fn describe(status: &Status, now: Timestamp) -> String {
    match status {
        Status::Created => "Created".into(),
        Status::Unreadable(_) => "Unreadable".into(),
        Status::Running(state) => {
            let up = time::ago(state.started, now);
            let paused = if state.paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", up.strip_suffix(" ago").unwrap_or(&up))
        }
        Status::Restarting(exit) => {
            let ago = time::ago(exit.finished, now);
            format!("Restarting ({}) {ago}", exit.status)
        }
        Status::Exited(exit) => {
            format!("Exited ({}) {}", exit.status, time::ago(exit.finished, now))
        }
    }
}
