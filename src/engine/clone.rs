//! `clone`: the record of a container, as that of another.

use anyhow::Context;
use jiff::Timestamp;

use crate::container::config::CommandLine;
use crate::container::config::Config;
use crate::container::config::process::PidFiles;
use crate::container::config::resources::Limits;
use crate::container::events;
use crate::container::name;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::create;
use crate::engine::create::resources;
use crate::engine::sweep;
use crate::engine::volumes;
use crate::error::Kind;
use crate::error::fail;
use crate::image::Image;
use crate::store::atomic::Durability;
use crate::store::lock::Lock;

/// In what it is to differ.
pub struct Request<'a> {
    /// Without one it is that of the original and `-clone`.
    pub name: Option<String>,
    pub image: Option<&'a Image>,
    pub limits: Limits,
}

/// Makes a container of the settings of another: its volumes are the same ones, its own files are those of
/// the image again.
pub fn clone(
    engine: &Engine,
    original: &Container,
    request: Request<'_>,
) -> anyhow::Result<Container> {
    let dirs = &engine.dirs;
    let cannot = || format!("cannot clone container \"{}\"", original.name);
    if let Some(name) = &request.name {
        name::check(name).with_context(cannot)?;
    }
    sweep::sweep(engine)?;
    let _references = Lock::shared(&dirs.lock_file())?;
    let mut config =
        config(engine, original, request.limits, request.image).with_context(cannot)?;
    let durability = if config.remove {
        Durability::Volatile
    } else {
        Durability::Durable
    };
    let volumes = volumes::take(engine, &mut config).with_context(cannot)?;
    let mut names = std::iter::once(format!("{}-clone", original.name))
        .chain((1..).map(|number| format!("{}-clone{number}", original.name)));
    loop {
        let name = match &request.name {
            Some(name) => name.clone(),
            None => names.next().unwrap_or_default(),
        };
        let container = Container::at(dirs, name, config.clone());
        match container.create(dirs, durability) {
            Err(err)
                if request.name.is_none() && crate::error::kind(&err) == Some(Kind::Conflict) => {}
            result => {
                result.with_context(cannot)?;
                volumes.keep();
                events::add(dirs, &container, "create");
                return Ok(container);
            }
        }
    }
}

fn config(
    engine: &Engine,
    original: &Container,
    limits: Limits,
    image: Option<&Image>,
) -> anyhow::Result<Config> {
    let old = &original.config;
    let mut config = old.clone();
    config.id = name::random_id()?;
    config.created = Timestamp::now();
    config.resources.limits = config.resources.limits.changed(limits);
    config.resources = resources::decide(config.resources, &config.identity)?;
    // Each of these files tells of one container.
    config.process.files = PidFiles::default();
    config.log.path = None;
    config.command_line = CommandLine::default();
    if config.process.hostname == old.short_id() {
        config.process.hostname.clear();
        config
            .process
            .hostname
            .push_str(&config.id[..name::SHORT_ID]);
    }
    let uuid = |id: &str| format!("container_uuid={}", &id[..32]);
    for variable in &mut config.process.env {
        if *variable == uuid(&old.id) {
            *variable = uuid(&config.id);
        }
    }
    if let Some(image) = image {
        if config.files.rootfs.is_some() {
            let text = "its root is a directory of the host, and no image takes the place of that";
            return Err(fail(Kind::Unsupported, text));
        }
        let (ids, stack) = create::layers(engine, image, &config.identity)?;
        config.ids = ids;
        (config.lower, config.contents) = (stack.lower, stack.contents);
        config.layers.clone_from(&image.layers);
        config.image_id = image.id.to_string();
        config.image = image
            .names
            .first()
            .map_or_else(|| image.id.to_string(), ToString::to_string);
    }
    Ok(*config)
}
