//! `shift`: a layer copied for containers of other ids, in the helper process.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::mapping;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::shifted::Order;
use crate::image::shifted::SHIFTED;
use crate::image::unpack::DIFF;
use crate::image::unpack::Stdin;
use crate::image::unpack::confine;
use crate::store::copy;
use crate::store::copy::Marks;
use crate::store::copy::Owners;
use crate::sys::idmap;

/// Copies `diff` to `shifted/NAME/diff`; the order comes on stdin.
///
/// Must: be called as root of the namespace, in the directory of the layer.
pub fn run(name: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let top = open(Path::new("/")).context("cannot open the layer")?;
    let target = Path::new(SHIFTED).join(name).join(DIFF);
    rustix::fs::mkdir(&target, Mode::RWXU).context("cannot create its directory")?;
    let target = open(&target).context("cannot open its directory")?;
    let source = open(Path::new(DIFF)).context("cannot open the layer")?;
    confine::confine(&top)?;
    confine::forbid_processes()?;
    let mut order = String::new();
    Stdin.read_to_string(&mut order)?;
    let order: Order = serde_json::from_str(&order)?;
    copy::tree(source.as_fd(), target.as_fd(), Marks::Keep, &order)
}

impl Owners for Order {
    fn of(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>> {
        let id = |id: u32, side: usize, what: &str| {
            let shifted = mapping::shift(id, &self.default[side], &self.maps[side]);
            shifted.ok_or_else(|| {
                fail(
                    Kind::Unsupported,
                    format!("it belongs to {what} {id}, which the container does not have"),
                )
                .hint(format!(
                    "map {what} {id} too, or leave an id of yours out of the map"
                ))
            })
        };
        Ok(Some((id(uid, 0, "uid")?, id(gid, 1, "gid")?)))
    }

    fn root(&self) -> Option<u32> {
        let host = idmap::outside(&self.maps[0], 0)?;
        idmap::inside(&self.default[0], host)
    }
}
