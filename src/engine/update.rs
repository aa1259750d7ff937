//! `update`: other limits, at once and for later starts.

use anyhow::Context;

use crate::cgroup::Group;
use crate::cgroup::Setting;
use crate::cgroup::Settings;
use crate::container::config::resources::Cgroups;
use crate::container::config::resources::Limits;
use crate::container::events;
use crate::container::record::Container;
use crate::container::record::Status;
use crate::container::spec;
use crate::engine::Engine;
use crate::engine::create::resources;
use crate::engine::groups;
use crate::error::Kind;
use crate::error::fail;
use crate::store::atomic::Durability;
use crate::store::record;

/// Changes limits. Those that the kernel refuses leave all as it was.
pub fn update(engine: &Engine, container: &Container, changes: Limits) -> anyhow::Result<()> {
    let cannot = || format!("cannot update container \"{}\"", container.name);
    let old = container.limits().with_context(cannot)?;
    let new = old.changed(lifted(changes));
    resources::check(&new).with_context(cannot)?;
    if let Some(flag) = new.first_flag() {
        if container.config.resources.cgroups == Cgroups::Disabled {
            let text = format!("flag {flag} needs a control group, and it has --cgroups=disabled");
            return Err(fail(Kind::Unsupported, text)).with_context(cannot);
        }
        resources::check_host(flag).with_context(cannot)?;
    }
    apply(container, &new).with_context(cannot)?;
    record::save(&container.limits_file(), &new, Durability::Durable).with_context(cannot)?;
    events::add(&engine.dirs, container, "update");
    Ok(())
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
fn apply(container: &Container, new: &Limits) -> anyhow::Result<()> {
    let Status::Running(state) = container.status()? else {
        return Ok(());
    };
    let Some(group) = groups::of(container, &state)? else {
        return match new.first_flag() {
            Some(_) => Err(fail(Kind::Unsupported, "it runs without a control group")),
            None => Ok(()),
        };
    };
    let settings = settings(container, new)?;
    let before = before(&group, &settings);
    group.apply(&settings).inspect_err(|_| {
        // Those in front of it were taken.
        group.apply(&before).ok();
    })
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

fn settings(container: &Container, limits: &Limits) -> anyhow::Result<Settings> {
    let devices = resources::block_devices(limits)?;
    let resources = spec::resources(&container.config.resources, limits, &devices)?;
    groups::settings(&resources, limits)
}
