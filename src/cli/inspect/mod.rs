//! `rbox inspect`.

mod health;
mod image;
mod more;
mod networks;
mod resources;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;

use jiff::Timestamp;
use oci_spec::runtime::Capability;
use serde_json::Value;
use serde_json::json;

use crate::cli::choose;
use crate::cli::network::view;
use crate::cli::output;
use crate::cli::port;
use crate::container::config::Config;
use crate::container::config::Files;
use crate::container::config::Security;
use crate::container::config::etc::Etc;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Namespaces;
use crate::container::config::namespaces::Shm;
use crate::container::config::process::Limits;
use crate::container::config::security::Seccomp;
use crate::container::execs;
use crate::container::mounts::Mount;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::spec;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::variant;
use crate::network::record;
use crate::oci::platform::Platform;
use crate::store::dirs::Dirs;
use crate::sys::idmap::IdRange;
use crate::text::signal;
use crate::text::size;
use crate::text::template::Template;
use crate::text::time;
use crate::volume::Volume;

/// Print all that is known of images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox image inspect debian
  rbox image inspect --format '{{.Digest}}' debian")]
pub struct ImageArgs {
    /// Print in another form: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Of an image that is in the store for several platforms, the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Print all that is known of containers, images or networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox inspect web
  rbox inspect --format '{{.State.Status}}' web")]
pub struct Args {
    /// Print in another form: json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// The container that was created last
    #[arg(short, long, conflicts_with = "names")]
    latest: bool,

    /// Measure the files of containers too: SizeRw and SizeRootFs
    #[arg(short, long)]
    size: bool,

    /// Look only among these: container, image, network or all
    #[arg(
        short = 't',
        long = "type",
        value_name = "TYPE",
        default_value = "all",
        value_enum
    )]
    kind: Among,

    /// Names or ids
    #[arg(required_unless_present = "latest", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Among {
    All,
    Container,
    Image,
    Network,
}

pub fn run(engine: &Engine, mut args: Args) -> anyhow::Result<u8> {
    if args.latest {
        args.names = vec![choose::latest(engine)?.config.id];
        args.kind = Among::Container;
    }
    print(&args.names, args.format.as_deref(), |name| {
        look_up(engine, name, args.kind, args.size)
    })
}

pub fn images(engine: &Engine, args: &ImageArgs) -> anyhow::Result<u8> {
    print(&args.images, args.format.as_deref(), |name| {
        let found = variant::find(&engine.dirs, name, args.platform.as_ref())?;
        image::describe(engine, &found)
    })
}

/// What is found is printed, even where others are not.
fn print(
    names: &[String],
    format: Option<&str>,
    look_up: impl Fn(&str) -> anyhow::Result<Value>,
) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    let status = output::each(names, |name| {
        found.push(look_up(name)?);
        Ok(())
    });
    match format {
        None | Some("json") => {
            output::print_line(&serde_json::to_string_pretty(&found)?)?;
        }
        Some(format) => {
            let template = Template::parse(format)?;
            for value in &found {
                output::print_line(template.execute(value)?.trim_end_matches('\n'))?;
            }
        }
    }
    status
}

fn look_up(engine: &Engine, name: &str, among: Among, size: bool) -> anyhow::Result<Value> {
    if among == Among::Network {
        let network = record::find(&engine.dirs, name)?;
        return Ok(view::with_containers(engine, &network));
    }
    if among != Among::Image {
        match Container::find(&engine.dirs, name) {
            Ok(container) => {
                let mut found = describe(&engine.dirs, &container)?;
                if size {
                    extend(&mut found, more::sizes(engine, &container)?);
                }
                return Ok(found);
            }
            Err(err) if error::kind(&err) != Some(Kind::NotFound) => return Err(err),
            Err(err) if among == Among::Container => return Err(err),
            Err(_) => {}
        }
    }
    match crate::image::find(&engine.dirs, name) {
        Ok(image) => image::describe(engine, &image),
        Err(err) if among == Among::All && error::kind(&err) == Some(Kind::NotFound) => {
            if let Ok(network) = record::find(&engine.dirs, name) {
                return Ok(view::with_containers(engine, &network));
            }
            let text = format!("no container, image or network named \"{name}\"");
            Err(fail(Kind::NotFound, text)
                .hint("`rbox ps -a`, `rbox images` and `rbox network ls` list what there is"))
        }
        Err(err) => Err(err),
    }
}

/// The fields that clients of Docker and Podman read.
fn describe(dirs: &Dirs, container: &Container) -> anyhow::Result<Value> {
    let config = &container.config;
    let security = &config.security;
    let status = container.status_to_show();
    let zero = "0001-01-01T00:00:00Z".to_owned();
    let (pid, exit_code, started, finished, error) = match &status {
        Status::Created => (0, 0, zero.clone(), zero, String::new()),
        Status::Unreadable(why) => (0, 0, zero.clone(), zero, why.clone()),
        Status::Running(state) => (state.pid, 0, go_time(state.started), zero, String::new()),
        Status::Restarting(exit) | Status::Exited(exit) => (
            0,
            exit.status,
            go_time(exit.started),
            go_time(exit.finished),
            exit.error.clone().unwrap_or_default(),
        ),
    };
    let supervisor = match &status {
        Status::Running(state) => state.supervisor,
        _ => 0,
    };
    let args = config.process.args();
    let mounts: Vec<Value> = config
        .files
        .mounts
        .iter()
        .map(|mount| describe_mount(dirs, mount))
        .collect();
    let mut found = json!({
        "Id": config.id,
        "Created": go_time(config.created),
        "Path": args.first(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": {
            "Status": status.name(),
            "Running": status.is_running(),
            "Paused": status.is_paused(),
            "Restarting": status.is_restarting(),
            "Dead": false,
            "StoppedByUser": matches!(&status, Status::Exited(exit) if exit.stopped),
            "Pid": pid,
            "ConmonPid": supervisor,
            "ExitCode": exit_code,
            "Error": error,
            "StartedAt": started,
            "FinishedAt": finished,
        },
        "RestartCount": status.restarts(),
        "Image": config.image_id,
        "ImageName": config.image,
        "Name": container.name,
        "LogPath": container.log_path().unwrap_or_default(),
        "AppArmorProfile": security.apparmor.clone().unwrap_or_default(),
        "ProcessLabel": security.selinux.clone().unwrap_or_default(),
        "EffectiveCaps": capability_names(
            spec::security::capabilities(config)?.effective().as_ref().unwrap_or(&HashSet::new()),
        ),
        "BoundingCaps": capability_names(&spec::security::bounding(security)),
        "ExecIDs": execs::running(container),
        "Driver": "overlay",
        "GraphDriver": more::graph_driver(dirs, container),
        "Mounts": mounts,
        "Config": {
            "Hostname": config.process.hostname,
            "User": config.identity.user,
            "Tty": config.process.terminal,
            "OpenStdin": config.process.interactive,
            "Env": config.process.env,
            "Cmd": config.process.command,
            "Image": config.image,
            "WorkingDir": config.process.workdir,
            "Entrypoint": config.process.entrypoint,
            "Labels": config.labels,
            "Annotations": config.annotations,
            "StopSignal": signal::name(config.process.stop_signal),
            "StopTimeout": config.process.stop_timeout,
            "Timeout": config.process.timeout.unwrap_or(0),
            "Umask": format!("{:04o}", config.identity.umask.unwrap_or(0o022)),
            "Timezone": config.process.etc.time_zone.as_deref().unwrap_or_default(),
        },
        "HostConfig": host_config(container),
        "NetworkSettings": networks::settings(dirs, container, &status),
    });
    extend(&mut found["HostConfig"], resources::limits(container));
    extend(&mut found["State"], resources::state(container, &status)?);
    extend(&mut found, more::places(container));
    extend(&mut found["Config"], more::config(config));
    extend(&mut found["HostConfig"], more::host_config(config));
    extend(&mut found["State"], health::state(container, &status));
    extend(&mut found["Config"], health::config(container));
    Ok(found)
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// What was asked of the engine, and not of the image.
fn host_config(container: &Container) -> Value {
    let config = &container.config;
    let security = &config.security;
    let resolver = &config.process.etc.resolver;
    json!({
        "AutoRemove": config.remove,
        "RestartPolicy": {
            "Name": config.restart.name(),
            "MaximumRetryCount": config.restart.most(),
        },
        "NetworkMode": config.process.network.name(),
        "NetworkPolicy": config.process.egress,
        "NetworkRate": config.process.rates.to_string(),
        "PortBindings": port::bindings(&config.process.publish),
        "UsernsMode": config.identity.userns.name(),
        "GroupAdd": groups(config),
        "IDMappings": id_mappings(config),
        "PidMode": config.process.namespaces.pid.name(),
        "IpcMode": ipc_mode(&config.process.namespaces),
        "UTSMode": config.process.namespaces.uts.name(),
        "CgroupMode": config.process.namespaces.cgroup.name(),
        "Init": config.process.init,
        "OomScoreAdj": config.process.limits.oom_score_adj.unwrap_or(0),
        "Ulimits": ulimits(&config.process.limits),
        "Dns": resolver.servers.clone().unwrap_or_default(),
        "DnsOptions": resolver.options.clone().unwrap_or_default(),
        "DnsSearch": resolver.search.clone().unwrap_or_default(),
        "ExtraHosts": extra_hosts(&config.process.etc),
        "ContainerIDFile": config.process.files.container.clone().unwrap_or_default(),
        "ReadonlyRootfs": config.files.read_only,
        "ShmSize": config.files.shm_size,
        "Tmpfs": tmpfs(&config.files.mounts),
        "Devices": devices(&config.files),
        "Sysctls": security.sysctls,
        "Privileged": security.privileged,
        "CapAdd": security.capabilities.add.names(),
        "CapDrop": security.capabilities.drop.names(),
        "SecurityOpt": security_options(security),
        "LogConfig": {
            "Type": config.log.driver.name(),
            "Config": config.log.options,
            "Path": container.log_path().unwrap_or_default(),
            "Tag": config.log.tag.clone().unwrap_or_default(),
            "Size": config.log.rotation.map_or("0B".into(), |rotation| size::human(rotation.size)),
        },
    })
}

fn ipc_mode(namespaces: &Namespaces) -> String {
    match (&namespaces.ipc, namespaces.shm) {
        (Namespace::Private, Shm::Shareable) => "shareable".into(),
        (Namespace::Private, Shm::None) => "none".into(),
        (namespace, _) => namespace.name(),
    }
}

/// Where file systems in memory are, with their options.
fn tmpfs(mounts: &[Mount]) -> BTreeMap<&Path, String> {
    let all = mounts
        .iter()
        .filter(|mount| matches!(mount.source, Source::Tmpfs));
    all.map(|mount| {
        let access = if mount.options.read_only { "ro" } else { "rw" };
        let mut options = vec![access];
        options.extend(mount.options.data.iter().map(String::as_str));
        (mount.destination.as_path(), options.join(","))
    })
    .collect()
}

/// A device is what `--device` named, or a name in a CDI file.
fn devices(files: &Files) -> Vec<Value> {
    let nodes = files.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.host,
            "PathInContainer": device.container,
            "CgroupPermissions": "rwm",
        })
    });
    let named = files
        .cdi_devices
        .iter()
        .map(|name| json!({ "PathOnHost": name, "PathInContainer": "", "CgroupPermissions": "" }));
    nodes.chain(named).collect()
}

/// -1 is no limit.
fn ulimits(limits: &Limits) -> Vec<Value> {
    let number = |limit| i64::try_from(limit).unwrap_or(-1);
    let all = limits.ulimits.iter().map(|limit| {
        json!({ "Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard) })
    });
    all.collect()
}

fn extra_hosts(etc: &Etc) -> Vec<String> {
    let all = etc.added_hosts.iter().map(|host| {
        let address = host.address.map(|address| address.to_string());
        let address = address.as_deref().unwrap_or("host-gateway");
        format!("{}:{address}", host.names.join(";"))
    });
    all.collect()
}

/// In the order of their names.
fn capability_names(set: &HashSet<Capability>) -> Vec<String> {
    let mut names: Vec<String> = set.iter().map(|one| format!("CAP_{one}")).collect();
    names.sort();
    names
}

/// As they are given to `--security-opt`.
fn security_options(security: &Security) -> Vec<String> {
    let mut options = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &security.seccomp {
        Seccomp::Unconfined => options.push("seccomp=unconfined".into()),
        Seccomp::Profile(_) => options.push("seccomp=profile".into()),
        Seccomp::Learn(file) => options.push(format!("seccomp=learn:{}", file.display())),
        Seccomp::Default => {}
    }
    options.extend(
        security
            .apparmor
            .iter()
            .map(|name| format!("apparmor={name}")),
    );
    options.extend(
        security
            .paths
            .mask
            .iter()
            .map(|path| format!("mask={}", path.display())),
    );
    options.extend(
        security
            .paths
            .unmask
            .iter()
            .map(|path| format!("unmask={path}")),
    );
    if !security.proc_options.is_empty() {
        options.push(format!("proc-opts={}", security.proc_options.join(",")));
    }
    options
}

fn groups(config: &Config) -> Vec<String> {
    let identity = &config.identity;
    if identity.keep_groups {
        return vec!["keep-groups".into()];
    }
    identity.groups.clone()
}

/// As Podman has them: `CONTAINER:HOST:COUNT`; for ids of its own only.
fn id_mappings(config: &Config) -> Value {
    let lines = |ranges: &[IdRange]| -> Vec<String> {
        let ranges = ranges.iter();
        ranges
            .map(|range| format!("{}:{}:{}", range.inside, range.outside, range.count))
            .collect()
    };
    config.identity.userns.maps().map_or(
        Value::Null,
        |maps| json!({ "UidMap": lines(&maps.uids), "GidMap": lines(&maps.gids) }),
    )
}

fn describe_mount(dirs: &Dirs, mount: &Mount) -> Value {
    let options = &mount.options;
    let mut value = json!({ "Type": mount.source.kind() });
    match &mount.source {
        Source::Bind { path } => value["Source"] = json!(path),
        Source::Volume { name, .. } => {
            value["Name"] = json!(name);
            value["Source"] = json!(Volume::named(name).data(dirs));
            value["Driver"] = json!("local");
        }
        Source::Image { reference, .. } => value["Source"] = json!(reference),
        Source::Tmpfs | Source::Ramfs | Source::Devpts => value["Source"] = json!(""),
    }
    value["Destination"] = json!(mount.destination);
    value["Mode"] = json!("");
    value["Options"] = json!(options.data);
    value["RW"] = json!(!options.read_only);
    value["Propagation"] = json!(options.propagation.as_deref().unwrap_or("rprivate"));
    value
}

fn go_time(moment: Timestamp) -> String {
    time::rfc3339_nano(moment, &time::local_zone())
}
