//! What the container will see of files beside those of its image.

use anyhow::Context;

use crate::container::config::Files;
use crate::container::config::files::Volume;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Bytes of /dev/shm, as in Docker and Podman.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub volumes: Vec<Volume>,
    pub read_only: bool,
    pub shm_size: Option<u64>,
}

pub fn decide(wish: Wish) -> anyhow::Result<Files> {
    for volume in &wish.volumes {
        check_volume(volume)?;
    }
    Ok(Files {
        volumes: wish.volumes,
        read_only: wish.read_only,
        shm_size: wish.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
    })
}

fn check_volume(volume: &Volume) -> anyhow::Result<()> {
    match volume.source.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(fail(
            Kind::NotFound,
            format!("volume source {} does not exist", volume.source.display()),
        )
        .hint(format!("make it: `mkdir -p {}`", volume.source.display()))),
        Err(err) => Err(err).with_context(|| format!("cannot use {}", volume.source.display())),
    }
}
