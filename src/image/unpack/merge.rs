//! `merge`: layers copied into one, in the helper process.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::image::unpack::DIFF;
use crate::image::unpack::confine;
use crate::store::copy;
use crate::store::copy::Marks;
use crate::store::copy::SameOwners;

/// Copies the layers, the lowest first, to `target/diff`.
///
/// Must: be called as root of the namespace, in the directory of layers.
pub fn run(target: &str, layers: &[&str]) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let top = open(Path::new("/")).context("cannot open the layers")?;
    let target = Path::new(target).join(DIFF);
    rustix::fs::mkdir(&target, Mode::RWXU).context("cannot create its directory")?;
    let target = open(&target).context("cannot open its directory")?;
    let layers = layers
        .iter()
        .map(|layer| open(&Path::new(layer).join(DIFF)));
    let layers: Vec<OwnedFd> = layers
        .collect::<Result<_, _>>()
        .context("cannot open a layer")?;
    confine::confine(&top)?;
    confine::forbid_processes()?;
    for layer in layers {
        copy::tree(layer.as_fd(), target.as_fd(), Marks::Apply, &SameOwners)?;
    }
    Ok(())
}
