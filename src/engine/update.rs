//! `update`: other limits, at once and for later starts; what a process begins with, for later starts.

use anyhow::Context;

use crate::cgroup::Group;
use crate::cgroup::Setting;
use crate::cgroup::Settings;
use crate::container::config;
use crate::container::config::Config;
use crate::container::config::Process;
use crate::container::config::Restart;
use crate::container::config::process::Ulimit;
use crate::container::config::process::Unset;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::Limits;
use crate::container::config::resources::Resources;
use crate::container::events;
use crate::container::record::Container;
use crate::container::spec;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::create::health;
use crate::engine::create::process;
use crate::engine::create::process::Environment;
use crate::engine::create::resources;
use crate::engine::groups;
use crate::engine::interfaces;
use crate::error::Kind;
use crate::error::fail;
use crate::supervisor::protocol::Request;
use crate::text::egress::Rule;
use crate::text::rate::Rates;

/// What is to be another than it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub limits: Limits,
    /// Later than what it has.
    pub environment: Environment,
    /// None at all are the host's.
    pub ulimits: Option<Vec<Ulimit>>,
    pub health: health::Wish,
    pub restart: Option<Restart>,
    /// What it may reach, from now on; and how fast.
    pub rules: Option<Vec<Rule>>,
    pub rates: Option<Rates>,
}

/// Makes the changes. Those that the kernel refuses leave all as it was.
pub fn update(engine: &Engine, container: &mut Container, changes: Changes) -> anyhow::Result<()> {
    let cannot = format!("cannot update container \"{}\"", container.name);
    let was = container.clone();
    let mut applied = None;
    let changed = container.change(|config| {
        let Changes {
            limits,
            environment,
            ulimits,
            health,
            restart,
            rules,
            rates,
        } = changes;
        if health != health::Wish::default() {
            let changed = health::change(config.health.clone(), health)?;
            if config.remove && config.health.check.is_none() && changed.check.is_some() {
                // Its layer is mounted so that it cannot be mounted again, and checks may start it again.
                let text = "--health-cmd: it was made with --rm and without a health check";
                return Err(fail(Kind::Unsupported, text));
            }
            config.health = changed;
        }
        if let Some(restart) = restart {
            if config.remove && restart != config.restart {
                // As docker; and what it runs on may be such that it is not mounted twice.
                let text = "--restart: it was made with --rm";
                return Err(fail(Kind::Unsupported, text));
            }
            config.restart = restart;
        }
        set_egress(rules, rates, &mut config.process)?;
        let process = &config.process;
        let is_limited = !process.egress.is_empty() || process.rates != Rates::default();
        interfaces::check_direct(&engine.dirs, &process.networks, false, is_limited)?;
        set_variables(&environment, &mut config.process);
        if let Some(ulimits) = ulimits {
            set_ulimits(ulimits, &mut config.process.limits)?;
        }
        if limits != Limits::default() {
            config.resources.limits = config.resources.limits.changed(lifted(limits));
            applied = set_limits(&was, config)?;
        }
        Ok(())
    });
    if let (Err(_), Some((group, before))) = (&changed, applied) {
        // The record could not be written.
        group.apply(&before).ok();
    }
    changed.context(cannot)?;
    if let Some(connection) = Connection::open(container)? {
        // One that has ended by now reads the record when it is started.
        connection.send(&Request::Updated).ok();
        connection.finish();
    }
    events::add(&engine.dirs, container, "update");
    Ok(())
}

fn set_variables(changes: &Environment, process: &mut Process) {
    process.env = changes.join(&process.env);
    if let Unset::Names(names) = &mut process.unset_env {
        names.extend(changes.unset.iter().cloned());
    }
}

fn set_egress(
    rules: Option<Vec<Rule>>,
    rates: Option<Rates>,
    process: &mut Process,
) -> anyhow::Result<()> {
    let (rules, rates) = (rules.as_deref(), rates);
    process::check_egress(
        rules.unwrap_or_default(),
        rates.unwrap_or_default(),
        &process.network,
    )?;
    if let Some(rules) = rules {
        process.egress = rules.to_vec();
    }
    if let Some(rates) = rates {
        process.rates = rates;
    }
    Ok(())
}

/// Those of other names stay.
fn set_ulimits(new: Vec<Ulimit>, limits: &mut config::process::Limits) -> anyhow::Result<()> {
    limits.ulimits = if new.is_empty() {
        vec![]
    } else {
        let named = |old: &Ulimit| new.iter().any(|new| new.name == old.name);
        let mut all = limits.ulimits.clone();
        all.retain(|old| !named(old));
        all.extend(new);
        all
    };
    process::check_limits(limits)
}

/// Looks at the limits, and sets them for the processes of a container that runs. Returned is what was set
/// before.
fn set_limits(container: &Container, config: &Config) -> anyhow::Result<Option<(Group, Settings)>> {
    resources::check(&config.resources.limits)?;
    if let Some(flag) = config.resources.limits.first_flag() {
        if config.resources.cgroups == Cgroups::Disabled {
            let text = format!("flag {flag} needs a control group, and it has --cgroups=disabled");
            return Err(fail(Kind::Unsupported, text));
        }
        resources::check_host(flag)?;
    }
    apply(container, &config.resources)
}

/// 0 lifts a limit.
fn lifted(mut limits: Limits) -> Limits {
    for limit in [
        &mut limits.memory,
        &mut limits.reservation,
        &mut limits.swap,
        &mut limits.nano_cpus,
    ] {
        *limit = limit.map(|limit| if limit == 0 { -1 } else { limit });
    }
    limits
}

/// Where it runs, in its group.
fn apply(container: &Container, new: &Resources) -> anyhow::Result<Option<(Group, Settings)>> {
    let Status::Running(state) = container.status()? else {
        return Ok(None);
    };
    let Some(group) = groups::of(container, &state)? else {
        return match new.limits.first_flag() {
            Some(_) => Err(fail(Kind::Unsupported, "it runs without a control group")),
            None => Ok(None),
        };
    };
    let settings = settings(new)?;
    let before = before(&group, &settings);
    group.apply(&settings).inspect_err(|_| {
        // Those in front of it were taken.
        group.apply(&before).ok();
    })?;
    Ok(Some((group, before)))
}

/// What the files say now, to be written again.
fn before(group: &Group, settings: &Settings) -> Settings {
    let mut list = Vec::new();
    for setting in settings.list.iter().rev() {
        let Ok(text) = std::fs::read_to_string(group.path().join(&setting.file)) else {
            continue;
        };
        let mut add = |value: &str| {
            list.push(Setting {
                file: setting.file.clone(),
                value: value.to_owned(),
                instead: None,
                optional: true,
            });
        };
        // Linux: a line for each device that is limited, and none for the others (cgroup-v2, io.max).
        if setting.file == "io.max"
            && let Some(device) = setting.value.split(' ').next()
        {
            add(&format!("{device} rbps=max wbps=max riops=max wiops=max"));
        }
        if text.trim().is_empty() {
            add("\n");
        }
        text.lines().for_each(add);
    }
    Settings {
        list,
        ..Settings::default()
    }
}

fn settings(resources: &Resources) -> anyhow::Result<Settings> {
    let devices = resources::block_devices(&resources.limits)?;
    let settings = spec::resources(resources, &devices)?;
    groups::settings(&settings, &resources.limits)
}
