//! `create`: an image and what the user asks for become the record of a container.

pub mod files;
pub mod health;
pub mod identity;
pub mod log;
pub mod process;
pub mod resources;
pub mod security;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;

use crate::container::config::CommandLine;
use crate::container::config::Config;
use crate::container::config::Identity;
use crate::container::config::Process;
use crate::container::config::Resources;
use crate::container::config::Restart;
use crate::container::config::sdnotify::SdNotify;
use crate::container::events;
use crate::container::name;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::create::process::Base;
use crate::engine::ids;
use crate::engine::sweep;
use crate::engine::volumes;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::config::ImageConfig;
use crate::image::layers::Stack;
use crate::image::shifted::Target;
use crate::network::record;
use crate::store::atomic::Durability;
use crate::store::lock::Lock;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub image: String,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub remove: bool,
    pub restart: Restart,
    pub identity: identity::Wish,
    pub process: process::Wish,
    pub files: files::Wish,
    pub security: security::Wish,
    pub log: log::Wish,
    pub health: health::Wish,
    pub resources: Resources,
    pub command_line: CommandLine,
}

impl Request {
    fn cannot(&self) -> String {
        match &self.name {
            Some(name) => format!("cannot create container \"{name}\""),
            None => "cannot create container".to_owned(),
        }
    }
}

/// Refuses what no image makes possible, so that none is pulled for it.
pub fn check(engine: &Engine, request: &Request) -> anyhow::Result<()> {
    process::check(engine, &request.process).with_context(|| request.cannot())
}

/// Creates a container of an image that is in the store, and of a request that was checked.
///
/// Without an image it is one of a directory, `files.rootfs`.
pub fn create(
    engine: &Engine,
    image: Option<&Image>,
    request: Request,
) -> anyhow::Result<Container> {
    let dirs = &engine.dirs;
    let cannot = request.cannot();
    let given_name = request.name.clone();
    let durability = if request.remove {
        // It does not outlive this boot; the kernel need not wait for the disk.
        Durability::Volatile
    } else {
        Durability::Durable
    };
    // What cannot be taken away is in nobody's way.
    sweep::sweep(engine).ok();
    let _references = Lock::shared(&dirs.lock_file())?;
    let _ids = request.identity.lock(engine)?;
    if let Some(name) = &given_name {
        name::check(name).context(cannot.clone())?;
        sweep::free_name(engine, name);
    }
    // Nobody removes a network of it meanwhile.
    let on_networks = !request.process.networks.is_empty();
    let _networks = on_networks
        .then(|| record::lock_for_use(dirs))
        .transpose()?;
    let mut config = config(engine, image, request).context(cannot.clone())?;
    let volumes = volumes::take(engine, &mut config).context(cannot.clone())?;
    if let Some(name) = given_name {
        config.name.clone_from(&name);
        let container = Container::at(dirs, name, config);
        container.create(dirs, durability).context(cannot)?;
        volumes.keep();
        events::add(dirs, &container, "create");
        return Ok(container);
    }
    loop {
        config.name = name::random()?;
        let container = Container::at(dirs, config.name.clone(), config.clone());
        match container.create(dirs, durability) {
            Err(err) if crate::error::kind(&err) == Some(Kind::Conflict) => {}
            result => {
                result.context(cannot)?;
                volumes.keep();
                events::add(dirs, &container, "create");
                return Ok(container);
            }
        }
    }
}

fn config(engine: &Engine, image: Option<&Image>, request: Request) -> anyhow::Result<Config> {
    let identity = identity::decide(engine, image, request.identity)?;
    let resources = resources::decide(request.resources, &identity)?;
    let (tag, stack) = match image {
        Some(image) => layers(engine, image, &identity)?,
        None => (tag_of(engine, &identity)?, Stack::default()),
    };
    let id = name::random_id()?;
    let nothing = ImageConfig::default();
    let from_image = image.map_or(&nothing, |image| image.config.untrusted());
    let asked_stop = request.process.stop_signal;
    let base = match image {
        Some(_) => Base::Image(&request.image),
        None => Base::Rootfs(&request.image),
    };
    let mut process = process::decide(engine, request.process, from_image, &id, base)?;
    let files = files::decide(engine, request.files, from_image, &identity, &process)?;
    if files.systemd {
        for_systemd(&mut process, asked_stop, from_image, &id);
    }
    let mut labels = from_image.labels.clone();
    labels.extend(request.labels);
    let log = log::decide(request.log, &labels, &process.env);
    let health = health::decide(request.health, from_image)?;
    if process.sdnotify == Some(SdNotify::Healthy) && health.check.is_none() {
        let text = "--sdnotify=\"healthy\": the container has no health check";
        return Err(fail(Kind::Usage, text))
            .hint("give one by --health-cmd, or use `--sdnotify conmon`");
    }
    Ok(Config {
        log,
        health,
        command_line: request.command_line,
        created: Timestamp::now(),
        image_id: image.map_or(String::new(), |image| image.id.to_string()),
        layers: image.map_or(vec![], |image| image.layers.clone()),
        lower: stack.lower,
        contents: stack.contents,
        ids: tag,
        labels,
        annotations: request.annotations,
        remove: request.remove,
        restart: request.restart,
        identity,
        files,
        security: security::decide(request.security, &process)?,
        resources,
        process,
        image: image
            .and_then(|image| image.names.first())
            .map_or(request.image, ToString::to_string),
        name: String::new(),
        id,
    })
}

/// The name of the ids of a container.
fn tag_of(engine: &Engine, identity: &Identity) -> anyhow::Result<String> {
    let default = &engine.ids()?.maps;
    let maps = identity.userns.maps().unwrap_or(default);
    Ok(ids::tag(default, maps))
}

/// Where the layers are for the ids of a container, and the name of these ids.
pub fn layers(
    engine: &Engine,
    image: &Image,
    identity: &Identity,
) -> anyhow::Result<(String, Stack)> {
    let default = &engine.ids()?.maps;
    let maps = identity.userns.maps().unwrap_or(default);
    let tag = ids::tag(default, maps);
    // Each also says so where a layer has been unpacked for other ids.
    let stack = if tag == default.tag() {
        image::additional::stack(&engine.dirs, image, &tag, &engine.note)?
    } else {
        let target = Target {
            default,
            maps,
            tag: &tag,
        };
        image::shifted::stack(&engine.dirs, image, &target, &engine.note)?
    };
    Ok((tag, stack))
}

/// What systemd wants to know, and how it is stopped (systemd's container interface).
fn for_systemd(process: &mut Process, asked: Option<i32>, image: &ImageConfig, id: &str) {
    if !process
        .env
        .iter()
        .any(|variable| variable.starts_with("container_uuid="))
    {
        process.env.push(format!("container_uuid={}", &id[..32]));
    }
    if asked.is_none() && image.stop_signal.is_empty() {
        process.stop_signal = libc::SIGRTMIN() + 3;
    }
}

/// The directories of a container's own file system.
pub fn overlay_dirs(data: &Path) -> [PathBuf; 3] {
    [data.join("upper"), data.join("work"), data.join("merged")]
}
