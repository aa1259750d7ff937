//! `export`: the root file system of a container as an archive, without what is mounted in it.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::Context;

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::copy;
use crate::engine::visit::Visit;
use crate::store::archive::pack;
use crate::store::archive::pack::Options;

/// Must: be called by a single-threaded process.
pub fn export(engine: &Engine, container: &Container, out: &File) -> anyhow::Result<()> {
    let cannot = || format!("cannot export container \"{}\"", container.name);
    let visit = Visit::open(engine, container).with_context(cannot)?;
    whole(&visit, out, false).with_context(cannot)?;
    events::add(&engine.dirs, container, "export");
    Ok(())
}

/// Writes all files of a container.
pub fn whole(visit: &Visit<'_>, out: &File, whole_seconds: bool) -> anyhow::Result<()> {
    let recorded = visit.owners_recorded();
    let visitor = visit.send(|inside| {
        let root = inside.without_mounts()?;
        let options = Options {
            whole_seconds,
            ..Options::exact(recorded)
        };
        copy::write(out, |writer| {
            pack::tree(writer, root.as_fd(), b"", &inside.reopen, &options)
        })?;
        Ok(vec![])
    })?;
    visitor.finish()?;
    Ok(())
}
