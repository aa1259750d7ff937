//! What CDI files say of a container's devices becomes part of its specification.

use std::path::Path;

use oci_spec::runtime::HookBuilder;
use oci_spec::runtime::Hooks;
use oci_spec::runtime::MountBuilder;
use oci_spec::runtime::Spec;

use crate::config::cdi;
use crate::config::cdi::Edits;
use crate::container::config::Files;
use crate::container::mounts::device::Device;
use crate::container::spec::user_mounts::Places;
use crate::engine::devices;

/// The edits of all devices that the container asks for; `None` for one that asks for none.
pub fn find(files: &Files) -> anyhow::Result<Option<Edits>> {
    if files.cdi_devices.is_empty() {
        return Ok(None);
    }
    cdi::resolve(&files.cdi_dirs, &files.cdi_devices).map(Some)
}

/// Nodes and mounts.
pub fn add_places(places: &mut Places, edits: &Edits) -> anyhow::Result<()> {
    for node in &edits.device_nodes {
        let device = Device {
            host: node.host_path.clone().unwrap_or(node.path.clone()),
            container: node.path.clone(),
        };
        places.devices.extend(devices::nodes(&device)?);
    }
    for mount in &edits.mounts {
        let kind = match mount.kind.as_deref() {
            None | Some("" | "none" | "bind") => "bind",
            Some(kind) => kind,
        };
        let mut options = mount.options.clone();
        let has_bind = options
            .iter()
            .any(|option| option == "bind" || option == "rbind");
        if kind == "bind" && !has_bind {
            options.push("rbind".into());
        }
        let made = MountBuilder::default()
            .typ(kind)
            .source(&mount.host_path)
            .destination(&mount.container_path)
            .options(options)
            .build()?;
        places.extra.push(made);
    }
    Ok(())
}

/// Environment, groups and hooks.
pub fn add_to_spec(spec: &mut Spec, edits: &Edits) -> anyhow::Result<()> {
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        for variable in &edits.env {
            let name = variable.split('=').next().unwrap_or_default();
            env.retain(|known| known.split('=').next() != Some(name));
            env.push(variable.clone());
        }
        process.set_env(Some(env));
        if !edits.additional_gids.is_empty() {
            let mut user = process.user().clone();
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&edits.additional_gids);
            user.set_additional_gids(Some(groups));
            process.set_user(user);
        }
    }
    if edits.hooks.is_empty() {
        return Ok(());
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    for hook in &edits.hooks {
        add_hook(&mut hooks, hook)?;
    }
    spec.set_hooks(Some(hooks));
    Ok(())
}

fn add_hook(hooks: &mut Hooks, hook: &cdi::Hook) -> anyhow::Result<()> {
    let mut made = HookBuilder::default().path(Path::new(&hook.path)).build()?;
    made.set_args((!hook.args.is_empty()).then(|| hook.args.clone()));
    made.set_env((!hook.env.is_empty()).then(|| hook.env.clone()));
    made.set_timeout(hook.timeout);
    hook.stage.add(hooks, made);
    Ok(())
}
