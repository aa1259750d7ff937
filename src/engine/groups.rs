//! The control group of a container: where it is made, and what is left of it afterwards.
//!
//! Where systemd runs, it is a scope that systemd makes on request, also for users who own no group; else a
//! directory in our own group, where we may make one. Where neither works a container without limits runs
//! without a group.

use std::path::Path;

use anyhow::Context;
use oci_spec::runtime::LinuxDeviceCgroup;
use oci_spec::runtime::LinuxDeviceCgroupBuilder;
use oci_spec::runtime::LinuxDeviceType;
use oci_spec::runtime::LinuxResources;
use oci_spec::runtime::Spec;
use rustix::fs::FileType;

use crate::cgroup;
use crate::cgroup::Group;
use crate::cgroup::Hierarchy;
use crate::cgroup::Settings;
use crate::cgroup::Version;
use crate::cgroup::systemd;
use crate::cgroup::systemd::Bus;
use crate::cgroup::systemd::Scope;
use crate::container::config::Config;
use crate::container::config::Resources;
use crate::container::config::identity::Userns;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::DeviceRule;
use crate::container::config::resources::Limits;
use crate::container::record::Container;
use crate::container::status::Limited;
use crate::container::status::State;
use crate::engine::create::resources;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::supervisor::group;
use crate::supervisor::group::Place;
use crate::supervisor::group::Plan;

/// What will be made for this start of a container.
pub fn plan(container: &Container, spec: &Spec) -> anyhow::Result<Plan> {
    let linux = spec.linux().as_ref();
    let limits = linux.and_then(|linux| linux.resources().clone());
    let limits = limits.unwrap_or_default();
    let asked = &container.config.resources;
    let now = &asked.limits;
    let needed = now.first_flag().or(resources::asked(asked));
    let needed_place = asked_place(asked);
    let place = if needed.or(needed_place).is_none() && is_none_ours() {
        None
    } else {
        find_place(container, needed)?
    };
    let needed = needed.or(needed_place);
    if let (None, Some(flag)) = (&place, needed) {
        return Err(nowhere(flag));
    }
    let settings = settings(&limits, now)?;
    Ok(Plan {
        place,
        settings,
        needed: needed.is_some(),
        supervisor: asked.cgroups != Cgroups::NoConmon,
        devices: devices(&container.config, spec)?,
    })
}

/// Where there is no group to be had. Quick: each start of a container asks.
fn is_none_ours() -> bool {
    // Elsewhere only root has groups of version 2.
    !cgroup::is_unified() && !rustix::process::geteuid().is_root()
}

fn find_place(container: &Container, needed: Option<&str>) -> anyhow::Result<Option<Place>> {
    let hierarchy = Hierarchy::detect();
    if let (Some(flag), true) = (needed, hierarchy.version != Version::V2) {
        resources::check_host(flag)?;
    }
    match container.config.resources.cgroups {
        Cgroups::Disabled => Ok(None),
        Cgroups::Split => split(&hierarchy, container).map(Some),
        Cgroups::Enabled | Cgroups::NoConmon => place(&hierarchy, container),
    }
}

/// What these limits are for the kernel. What nobody asked for is left out where it cannot be had.
pub fn settings(resources: &LinuxResources, limits: &Limits) -> anyhow::Result<Settings> {
    let mut settings = cgroup::settings(resources)?;
    for setting in &mut settings.list {
        let usual = match setting.file.as_str() {
            "pids.max" => limits.pids.is_none(),
            "memory.swap.max" => limits.swap.is_none(),
            _ => false,
        };
        setting.optional |= usual;
    }
    Ok(settings)
}

/// The flag by which a group of its own is asked for.
fn asked_place(asked: &Resources) -> Option<&'static str> {
    let flags = [
        (asked.parent.is_some(), "--cgroup-parent"),
        (asked.cgroups == Cgroups::Split, "--cgroups=split"),
        (!asked.device_rules.is_empty(), "--device-cgroup-rule"),
    ];
    let found = flags.into_iter().find(|(asked, _)| *asked);
    found.map(|(_, flag)| flag)
}

/// What every container may use: the usual nodes of /dev, terminals, and making any node, which is
/// not opening it (Docker's list).
const USUAL_DEVICES: [&str; 9] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:* rwm",
    "c 136:* rwm",
];

/// The devices that a container may use, where it could make nodes of all others: without a user namespace of
/// its own. None is no filter.
fn devices(config: &Config, spec: &Spec) -> anyhow::Result<Vec<LinuxDeviceCgroup>> {
    if config.identity.userns != Userns::Host || config.security.privileged {
        return Ok(vec![]);
    }
    let mut rules = vec![
        LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()?,
    ];
    let usual = USUAL_DEVICES
        .iter()
        .filter_map(|text| DeviceRule::parse(text));
    let asked = config.resources.device_rules.iter().cloned();
    for rule in usual.chain(asked).chain(shown(spec)) {
        rules.push(allowed(&rule)?);
    }
    Ok(rules)
}

fn allowed(rule: &DeviceRule) -> anyhow::Result<LinuxDeviceCgroup> {
    let mut allowed = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(match rule.kind {
            'b' => LinuxDeviceType::B,
            'c' => LinuxDeviceType::C,
            _ => LinuxDeviceType::A,
        })
        .access(rule.access.clone());
    if let Some(major) = rule.major {
        allowed = allowed.major(major);
    }
    if let Some(minor) = rule.minor {
        allowed = allowed.minor(minor);
    }
    Ok(allowed.build()?)
}

/// Those that it is shown.
fn shown(spec: &Spec) -> Vec<DeviceRule> {
    let mounts = spec.mounts().iter().flatten();
    let rules = mounts.filter_map(|mount| {
        let stat = rustix::fs::stat(mount.source().as_ref()?).ok()?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => 'b',
            FileType::CharacterDevice => 'c',
            _ => return None,
        };
        Some(DeviceRule {
            kind,
            major: Some(rustix::fs::major(stat.st_rdev).into()),
            minor: Some(rustix::fs::minor(stat.st_rdev).into()),
            access: "rwm".into(),
        })
    });
    rules.collect()
}

fn name(container: &Container) -> String {
    format!("rbox-{}", container.config.id)
}

fn place(hierarchy: &Hierarchy, container: &Container) -> anyhow::Result<Option<Place>> {
    let Some(mount) = &hierarchy.mount else {
        return Ok(None);
    };
    let name = name(container);
    let bus = Bus::of_caller();
    let parent = container.config.resources.parent.as_deref();
    if let Some(path) = parent.filter(|path| !is_slice(path)) {
        let below = path.strip_prefix("/").unwrap_or(path);
        return Ok(Some(Place::Directory(mount.join(below).join(name))));
    }
    if hierarchy.version == Version::V2 && systemd::available(bus) {
        let usual = match bus {
            Bus::System => "system.slice",
            Bus::User => "user.slice",
        };
        let slice = parent.map_or(usual.into(), |slice| slice.to_string_lossy().into_owned());
        return Ok(Some(Place::Scope {
            bus,
            unit: format!("{name}.scope"),
            slice,
            description: format!("rbox container {}", container.name),
        }));
    }
    if let Some(slice) = parent {
        let text = format!(
            "--cgroup-parent=\"{}\": no systemd answers",
            slice.display()
        );
        return Err(fail(Kind::Unsupported, text).hint("give the path of a group, such as /web"));
    }
    let own = hierarchy.own().filter(|own| is_ours(own));
    Ok(own.map(|own| Place::Directory(own.join(name))))
}

/// Below the group that we are in, which has to be delegated to us.
fn split(hierarchy: &Hierarchy, container: &Container) -> anyhow::Result<Place> {
    let own = hierarchy.own().filter(|own| is_ours(own));
    let own = own.ok_or_else(|| {
        let text = "--cgroups=\"split\": the control group of this command is not yours to divide";
        fail(Kind::Unsupported, text).hint("run it in a unit with Delegate=yes")
    })?;
    Ok(Place::Split {
        container: own.join(name(container)),
        supervisor: own.join("supervisor"),
    })
}

fn is_slice(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.ends_with(b".slice") && !text.contains(&b'/')
}

/// Linux: who makes groups in a group also moves processes, from the one to the other (cgroups(7),
/// "delegation").
fn is_ours(group: &Path) -> bool {
    let writable = rustix::fs::Access::WRITE_OK;
    let files = [group.to_owned(), group.join("cgroup.procs")];
    files
        .iter()
        .all(|path| rustix::fs::access(path, writable).is_ok())
}

fn nowhere(flag: &str) -> anyhow::Error {
    let text = format!(
        "{flag} needs a control group, and none can be made: no systemd of yours answers, and the group of this command is not yours"
    );
    fail(Kind::Unsupported, text).hint("`rbox doctor` tells how groups are delegated")
}

/// The group of a container that runs, if it has one.
pub fn of(container: &Container, state: &State) -> anyhow::Result<Option<Group>> {
    let group = state.cgroup.as_deref().map(Group::open).transpose();
    let group = group
        .with_context(|| format!("cannot find the group of container \"{}\"", container.name))?;
    Ok(group.flatten())
}

/// How often the limits of a group were met.
pub fn limited(group: Option<&Group>) -> Limited {
    group.map(group::counted).unwrap_or_default()
}

/// Who makes groups here, as Podman calls it.
pub fn manager() -> &'static str {
    let is_v2 = Hierarchy::detect().version == Version::V2;
    if is_v2 && systemd::available(Bus::of_caller()) {
        "systemd"
    } else {
        "cgroupfs"
    }
}

/// The same, for a process of ours that is to be in it.
pub fn to_enter(container: &Container, state: &State) -> anyhow::Result<Option<Group>> {
    let Some(group) = of(container, state)? else {
        return Ok(None);
    };
    let own = Hierarchy::detect().own().unwrap_or_default();
    if may_move(&own, group.path()) {
        return Ok(Some(group));
    }
    match own_scope() {
        Ok(()) => Ok(Some(group)),
        // Where nothing is limited, only `stats` does not see the process.
        Err(_) if container.config.resources.limits.first_flag().is_none() => Ok(None),
        Err(err) => Err(err).context("cannot enter the control group of the container"),
    }
}

/// Linux: a process is moved by who may write `cgroup.procs` of the group above both (cgroups(7)).
fn may_move(from: &Path, to: &Path) -> bool {
    let above = to.ancestors().find(|above| from.starts_with(above));
    above.is_some_and(is_ours)
}

/// Puts this process below the user's systemd, which may move it there: the session in which a user types belongs
/// to root.
fn own_scope() -> anyhow::Result<()> {
    let pid = rustix::process::getpid();
    systemd::start_scope(&Scope {
        bus: Bus::of_caller(),
        unit: format!("rbox-exec-{}.scope", pid.as_raw_pid()),
        slice: "user.slice".into(),
        pids: vec![pid],
        description: "rbox exec".into(),
        delegate: false,
        properties: vec![],
    })?;
    Ok(())
}

/// Ends what an earlier run has left in its group, and removes it.
pub fn clear(path: &Path) {
    // What cannot be removed is an empty directory, and gone with the next boot.
    if let Ok(Some(group)) = Group::open(path) {
        group.kill().ok();
        group.remove().ok();
    }
}
