//! How much containers have written, and how much their images are.

use std::collections::HashMap;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::image;
use crate::store::measure;

/// Bytes of files.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// In the container's own layer.
    pub written: u64,
    /// Of its image; 0 where that has gone.
    pub image: u64,
}

impl Size {
    /// Of all that is seen in the container.
    pub fn virtual_size(self) -> u64 {
        self.image + self.written
    }
}

/// Those of each of the containers.
pub fn of(engine: &Engine, containers: &[&Container]) -> anyhow::Result<Vec<Size>> {
    let dirs: Vec<String> = containers
        .iter()
        .map(|container| format!("{}/upper", container.config.id))
        .collect();
    let written = measure::sizes(&engine.dirs.containers(), &dirs)?;
    let mut images: HashMap<&str, u64> = HashMap::new();
    let sizes = containers.iter().zip(written).map(|(container, written)| {
        let id = container.config.image_id.as_str();
        let size = || image::find(&engine.dirs, id).map_or(0, |image| image.size);
        Size {
            written,
            image: *images.entry(id).or_insert_with(size),
        }
    });
    Ok(sizes.collect())
}
