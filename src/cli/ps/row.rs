//! One container as `ps` prints it: its fields for templates, and podman's JSON.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::port;
use crate::container::health;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::status::Status;
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

impl Row {
    /// When it was made; of one of which that is not known, the end of time: it comes first.
    pub fn created(&self) -> Timestamp {
        let created = self.container.config.created;
        if created == Timestamp::UNIX_EPOCH {
            return Timestamp::MAX;
        }
        created
    }
}

type Field = fn(&Looks, &Row) -> Value;

/// What a template can name.
const FIELDS: [(&str, Field); 32] = [
    ("ID", |looks, row| looks.id(row).into()),
    ("Id", |_, row| row.container.config.id.clone().into()),
    ("Names", |_, row| row.container.name.clone().into()),
    ("Image", |_, row| row.container.config.image.clone().into()),
    ("ImageID", |_, row| {
        row.container.config.image_id.clone().into()
    }),
    ("Command", |looks, row| looks.command(row).into()),
    ("Created", |looks, row| looks.created(row).into()),
    ("CreatedAt", |looks, row| {
        time::go_string(row.container.config.created, &looks.zone).into()
    }),
    ("CreatedHuman", |looks, row| looks.created(row).into()),
    ("RunningFor", |looks, row| looks.created(row).into()),
    ("State", |_, row| row.status.name().into()),
    ("Status", |looks, row| looks.status(row).into()),
    ("Exited", |_, row| Times::of(&row.status).exited.into()),
    ("ExitedAt", |_, row| Times::of(&row.status).exited_at.into()),
    ("ExitCode", |_, row| Times::of(&row.status).exit_code.into()),
    ("StartedAt", |_, row| {
        Times::of(&row.status).started_at.into()
    }),
    ("Pid", |_, row| Times::of(&row.status).pid.into()),
    ("Ports", |_, row| port::column(&row.status).into()),
    ("ExposedPorts", |_, _| json!({})),
    ("Networks", |_, row| {
        row.container
            .config
            .process
            .network_names()
            .join(",")
            .into()
    }),
    ("Mounts", |_, row| {
        destinations(&row.container).join(",").into()
    }),
    ("LocalVolumes", |_, row| volumes(&row.container).into()),
    ("Labels", |_, row| json!(row.container.config.labels)),
    ("Annotations", |_, row| {
        json!(row.container.config.annotations)
    }),
    ("AutoRemove", |_, row| row.container.config.remove.into()),
    ("CIDFile", |_, row| json!(id_file(&row.container))),
    ("IsInfra", |_, _| false.into()),
    ("Pod", |_, _| "".into()),
    ("PodName", |_, _| "".into()),
    ("Restarts", |_, row| row.status.restarts().into()),
    ("Size", |_, row| {
        row.size.map_or(String::new(), sizes).into()
    }),
    ("Namespaces", |looks, row| {
        if looks.namespaces {
            namespaces(Times::of(&row.status).pid)
        } else {
            Value::Null
        }
    }),
];

/// How rows are shown.
pub struct Looks {
    /// Whole ids and commands.
    whole: bool,
    namespaces: bool,
    /// Sizes are asked for by the format.
    pub size: bool,
    /// What may be asked for.
    fields: Vec<&'static (&'static str, Field)>,
    now: Timestamp,
    zone: TimeZone,
}

impl Looks {
    /// `format` is what the user gave; otherwise a table of ours says which fields there are.
    pub fn new(format: Option<&str>, table: &str, whole: bool) -> Looks {
        let shown = format.unwrap_or(table);
        let is_named = |name: &str| table.contains(&format!("{{{{.{name}"));
        let fields = FIELDS.iter();
        Looks {
            whole,
            namespaces: [shown, table]
                .iter()
                .any(|text| text.contains("Namespaces")),
            size: shown.contains(".Size"),
            fields: fields
                .filter(|(name, _)| format.is_some() || is_named(name))
                .collect(),
            now: Timestamp::now(),
            zone: time::local_zone(),
        }
    }

    fn id(&self, row: &Row) -> String {
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
        let fields = self.fields.iter();
        fields
            .map(|(name, field)| ((*name).to_owned(), field(self, row)))
            .collect()
    }

    fn status(&self, row: &Row) -> String {
        describe(row, self.now)
    }

    fn command(&self, row: &Row) -> String {
        let command = row.container.config.process.args().join(" ");
        if self.whole {
            command
        } else {
            shortened(&command)
        }
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
            "CIDFile": id_file(container),
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
            "Networks": config.process.network_names(),
            "Pid": times.pid,
            "Pod": "",
            "PodName": "",
            "Ports": ports(status),
            "Restarts": status.restarts(),
            "Size": size,
            "StartedAt": times.started_at,
            "State": status.name(),
            "Status": self.status(row),
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

fn volumes(container: &Container) -> usize {
    let mounts = container.config.files.mounts.iter();
    let volumes = mounts.filter(|mount| matches!(mount.source, Source::Volume { .. }));
    volumes.count()
}

fn id_file(container: &Container) -> &Path {
    let file = container.config.process.files.container.as_deref();
    file.unwrap_or("".as_ref())
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

/// `Up 3 minutes (healthy)`, `Exited (1) 2 hours ago`.
fn describe(row: &Row, now: Timestamp) -> String {
    match &row.status {
        Status::Created => "Created".into(),
        Status::Unreadable(_) => "Unreadable".into(),
        Status::Running(state) => {
            let up = time::ago(state.started, now);
            let more = match health::of(&row.container, &row.status) {
                _ if state.paused => " (Paused)".to_owned(),
                Some(report) => format!(" ({})", report.status.name()),
                None => String::new(),
            };
            format!("Up {}{more}", up.strip_suffix(" ago").unwrap_or(&up))
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
