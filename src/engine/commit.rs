//! `commit`: a container's files and settings become an image.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::container::config::Config;
use crate::container::events;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::changes;
use crate::engine::changes::Layers;
use crate::engine::copy;
use crate::engine::export;
use crate::engine::pause;
use crate::engine::visit;
use crate::engine::visit::Visit;
use crate::error::WithHint;
use crate::image::Image;
use crate::image::change;
use crate::image::commit;
use crate::image::commit::Format;
use crate::image::commit::New;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::archive::pack;
use crate::store::archive::pack::Options;
use crate::store::copy::Marks;
use crate::store::temp;
use crate::sys::path::Reopen;
use crate::sys::userns;
use crate::text::signal;

/// What the user asks for.
pub struct Request<'a> {
    pub name: Option<&'a Reference>,
    pub author: Option<&'a str>,
    pub message: Option<&'a str>,
    pub changes: &'a [String],
    /// Members of the image's `config` that take the place of others.
    pub config: Map<String, Value>,
    pub format: Format,
    pub include_volumes: bool,
    /// All processes stand still meanwhile.
    pub pause: bool,
    /// All in one layer.
    pub squash: bool,
}

/// Must: be called by a single-threaded process.
pub fn commit(engine: &Engine, container: &Container, request: &Request<'_>) -> Result<Image> {
    let cannot = || format!("cannot commit container \"{}\"", container.name);
    // What is wrong with the wishes shows before anything is read.
    change_config(&mut Map::new(), container, request).with_context(cannot)?;
    let pauses =
        request.pause && matches!(container.status()?, Status::Running(state) if !state.paused);
    if pauses {
        pause::pause(engine, container).with_context(cannot)?;
    }
    let layer = layer(engine, container, request.squash);
    if pauses {
        // It may have been let go by somebody else, or killed.
        pause::unpause(engine, container).ok();
    }
    let (layer, whole) = layer.with_context(cannot)?;
    let config = &container.config;
    let base: Option<Digest> = config.image_id.parse().ok();
    let created_by = config.process.args().join(" ");
    let image = commit::make(
        &engine.dirs,
        New {
            base: base.as_ref(),
            base_layers: if whole { &[] } else { &config.layers },
            layer,
            change: &|inner| change_config(inner, container, request),
            author: request.author,
            comment: request.message,
            created_by: &created_by,
            format: request.format,
            platform: None,
            name: request.name,
        },
    )
    .with_context(cannot)?;
    events::add(&engine.dirs, container, "commit");
    Ok(image)
}

/// The new layer in a file without a name, and whether all files of the container are in it.
fn layer(engine: &Engine, container: &Container, squash: bool) -> Result<(File, bool)> {
    let file = temp::nameless_file(&engine.dirs.tmp())?;
    // Nobody removes it, or starts it for the first time, meanwhile.
    let held = visit::running_or_locked(engine, container)?;
    // A container of a directory, or on a store without overlays, has no layer of its own.
    let layers = match &container.config.files.rootfs {
        None if !squash && !engine.dirs.no_overlay().exists() => Layers::of(engine, container)?,
        _ => {
            drop(held);
            let visit = Visit::open(engine, container)?;
            export::whole(&visit, &file, true).map_err(hint_pause)?;
            return Ok((file, true));
        }
    };
    match layers {
        Some(layers) => changed(&layers, &file).map_err(hint_pause)?,
        None => copy::write(&file, |_| Ok(()))?,
    }
    drop(held);
    Ok((file, false))
}

fn hint_pause(err: anyhow::Error) -> anyhow::Error {
    if crate::error::message(&err).contains("became shorter") {
        return err.hint("use `--pause`, so that nothing changes meanwhile");
    }
    err
}

/// What the container has changed, as a layer.
fn changed(layers: &Layers, file: &File) -> Result<()> {
    let upper = changes::open(&layers.upper)?;
    let options = Options {
        marks: Marks::Keep,
        owners_recorded: layers.ids.is_single(),
        whole_seconds: true,
        leaves_out: &|path: &Path| changes::is_engines_own(path),
    };
    // Where ids are those of the container, and links in file capabilities too.
    userns::run(&layers.ids, 0, || {
        let reopen = Reopen::new()?;
        copy::write(file, |writer| {
            pack::tree(writer, upper.as_fd(), b"", &reopen, &options)
        })?;
        Ok(vec![])
    })?;
    Ok(())
}

/// The settings of the container over those of its image, and the user's wishes over both.
fn change_config(
    inner: &mut Map<String, Value>,
    container: &Container,
    request: &Request<'_>,
) -> Result<()> {
    let config = &container.config;
    let process = &config.process;
    inner.insert("Env".into(), json!(process.env));
    inner.insert("Cmd".into(), json!(process.command));
    inner.insert("Entrypoint".into(), json!(process.entrypoint));
    inner.insert("WorkingDir".into(), json!(process.workdir));
    inner.insert("Labels".into(), json!(config.labels));
    if !config.identity.user.is_empty() {
        inner.insert("User".into(), json!(config.identity.user));
    }
    if process.stop_signal != libc::SIGTERM {
        inner.insert(
            "StopSignal".into(),
            json!(signal::name(process.stop_signal)),
        );
    }
    if request.include_volumes {
        for path in volumes(config) {
            change::add_key(inner, "Volumes", path);
        }
    }
    inner.extend(request.config.clone());
    for instruction in request.changes {
        change::apply(inner, instruction)?;
    }
    Ok(())
}

fn volumes(config: &Config) -> impl Iterator<Item = &str> {
    config.files.mounts.iter().filter_map(|mount| {
        let is_volume = matches!(mount.source, Source::Volume { .. } | Source::Bind { .. });
        is_volume.then(|| mount.destination.to_str()).flatten()
    })
}
