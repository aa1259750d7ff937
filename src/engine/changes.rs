//! `diff`: what a container, or the top layer of an image, changes in the layers below.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::create::overlay_dirs;
use crate::engine::ids;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::store::archive::changes;
use crate::store::archive::changes::Change;
use crate::store::archive::changes::Look;
use crate::sys::idmap::IdMaps;
use crate::sys::userns;

/// Places of the engine's own files and mounts: that they are there is no change of the container's.
const ENGINES_OWN: [&str; 11] = [
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/localtime",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run/.containerenv",
    "run/secrets",
    "sys",
    ".dockerenv",
];

pub fn is_engines_own(path: &Path) -> bool {
    ENGINES_OWN.iter().any(|own| path == Path::new(own))
}

/// Must: be called by a single-threaded process.
fn of_container(engine: &Engine, container: &Container) -> Result<Vec<Change>> {
    let cannot = || {
        format!(
            "cannot tell the changes of container \"{}\"",
            container.name
        )
    };
    let layers = Layers::of(engine, container).with_context(cannot)?;
    let Some(layers) = layers else {
        return Ok(vec![]);
    };
    layers.changes(&is_engines_own).with_context(cannot)
}

/// Those of its top layer.
///
/// Must: be called by a single-threaded process.
fn of_image(engine: &Engine, image: &Image) -> Result<Vec<Change>> {
    let ids = engine.ids()?.maps.clone();
    let stack = image::additional::layers(&engine.dirs, image, &ids.tag(), &engine.note)?;
    let mut lower = stack.lower.into_iter();
    let Some(upper) = lower.next() else {
        return Ok(vec![]);
    };
    let layers = Layers {
        ids,
        upper: engine.dirs.data.join(upper),
        lower: lower.map(|path| engine.dirs.data.join(path)).collect(),
    };
    layers.changes(&|_| false)
}

/// What is compared with another.
pub enum Side {
    Container(Box<Container>),
    Image(Box<Image>),
    Layer(Digest),
}

impl Side {
    /// Its layers, the top one first, and whose ids their files have.
    fn stack(&self, engine: &Engine) -> Result<(IdMaps, Vec<PathBuf>)> {
        let maps = engine.ids()?.maps.clone();
        let absolute = |paths: &[PathBuf]| -> Vec<PathBuf> {
            let paths = paths.iter();
            paths.map(|path| engine.dirs.data.join(path)).collect()
        };
        Ok(match self {
            Side::Container(container) => match Layers::of(engine, container)? {
                Some(layers) => {
                    let stack = [vec![layers.upper], layers.lower].concat();
                    (layers.ids, stack)
                }
                None => (
                    ids::of(&container.config.identity)?,
                    absolute(&container.config.lower),
                ),
            },
            Side::Image(image) => {
                let tag = maps.tag();
                let stack = image::additional::layers(&engine.dirs, image, &tag, &engine.note)?;
                (maps, absolute(&stack.lower))
            }
            Side::Layer(diff_id) => {
                let path = image::layers::files(&engine.dirs, diff_id);
                (maps, vec![path])
            }
        })
    }

    fn files(&self, engine: &Engine) -> Result<BTreeMap<PathBuf, Look>> {
        let (maps, stack) = self.stack(engine)?;
        let stack: Vec<OwnedFd> = stack.iter().map(|path| open(path)).collect::<Result<_>>()?;
        let found = userns::run(&maps, 0, || {
            let found: Vec<_> = changes::files(&stack, &is_engines_own)?
                .into_iter()
                .collect();
            Ok(serde_json::to_vec(&found)?)
        })?;
        let found: Vec<(PathBuf, Look)> = serde_json::from_slice(&found)?;
        Ok(found.into_iter().collect())
    }
}

/// What is otherwise in `new` than in `old`.
///
/// Must: be called by a single-threaded process.
pub fn between(engine: &Engine, old: &Side, new: &Side) -> Result<Vec<Change>> {
    let (old, new) = (old.files(engine)?, new.files(engine)?);
    Ok(changes::between(&old, &new))
}

/// Those of a container, or of the top layer of an image; all that a layer has.
///
/// Must: be called by a single-threaded process.
pub fn of(engine: &Engine, side: &Side) -> Result<Vec<Change>> {
    match side {
        Side::Container(container) => of_container(engine, container),
        Side::Image(image) => of_image(engine, image),
        Side::Layer(diff_id) => {
            let layers = Layers {
                ids: engine.ids()?.maps.clone(),
                upper: image::layers::files(&engine.dirs, diff_id),
                lower: vec![],
            };
            layers.changes(&|_| false)
        }
    }
}

/// A stack of layers, and whose ids their files have.
pub struct Layers {
    pub ids: IdMaps,
    pub upper: PathBuf,
    /// The top one first.
    pub lower: Vec<PathBuf>,
}

impl Layers {
    /// Those of a container; `None` before its first start.
    pub fn of(engine: &Engine, container: &Container) -> Result<Option<Layers>> {
        let config = &container.config;
        let base = match &config.files.rootfs {
            Some(rootfs) if !rootfs.overlay => {
                return Err(fail(
                    Kind::Unsupported,
                    "its root is a directory of the host, and nothing tells what was there before",
                ));
            }
            Some(rootfs) => vec![rootfs.path.clone()],
            None => {
                let lower = config.lower.iter();
                lower.map(|path| engine.dirs.data.join(path)).collect()
            }
        };
        if engine.dirs.no_overlay().exists() {
            let text = "the file system of the store takes no overlays: its files are a copy";
            return Err(fail(Kind::Unsupported, text).hint("`rbox doctor` tells more"));
        }
        let [upper, ..] = overlay_dirs(&container.data);
        if !upper.exists() {
            return Ok(None);
        }
        Ok(Some(Layers {
            ids: ids::of(&config.identity)?,
            upper,
            lower: base,
        }))
    }

    fn changes(&self, leaves_out: &dyn Fn(&Path) -> bool) -> Result<Vec<Change>> {
        let upper = open(&self.upper)?;
        let lower: Vec<OwnedFd> = self
            .lower
            .iter()
            .map(|path| open(path))
            .collect::<Result<_>>()?;
        // Files of other ids can be looked at by root of their user namespace.
        let found = userns::run(&self.ids, 0, || {
            let found = changes::find(&upper, &lower, leaves_out)?;
            Ok(serde_json::to_vec(&found)?)
        })?;
        Ok(serde_json::from_slice(&found)?)
    }
}

/// A directory, opened by the user that it belongs to.
pub fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", path.display()))
}
