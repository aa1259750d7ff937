//! `cleanup`: what a container leaves that has ended is taken away now, as by the next command that meets it.

use anyhow::Context;

use crate::container::events;
use crate::container::record;
use crate::container::record::Container;
use crate::container::status;
use crate::engine::Engine;
use crate::engine::groups;
use crate::engine::mounted;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Ends what has outlived the container's supervisor, removes its group, and unmounts its files.
pub fn cleanup(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let cannot = || format!("cannot clean up container \"{}\"", container.name);
    if mounted::by(container).with_context(cannot)?.is_some() {
        mounted::unmount(engine, container, true).with_context(cannot)?;
    }
    let Some(_lock) = container.try_lock().with_context(cannot)? else {
        return Err(fail(Kind::WrongStatus, "it is running"))
            .hint(format!("stop it with `rbox stop {}`", container.name))
            .with_context(cannot);
    };
    if !container.still_exists(&engine.dirs) {
        return Err(record::missing(&container.name)).with_context(cannot);
    }
    if let status::Status::Exited(exit) = container.status().with_context(cannot)? {
        // Where nobody has seen its end that is told by what is cleared next.
        container.save_exit(&exit).with_context(cannot)?;
    }
    if let Some(group) = container.clear_state().with_context(cannot)? {
        groups::clear(&group);
    }
    events::add(&engine.dirs, container, "cleanup");
    Ok(())
}
