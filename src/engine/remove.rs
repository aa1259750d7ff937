//! `rm`.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context;

use crate::container::events;
use crate::container::record;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::groups;
use crate::engine::mounted;
use crate::engine::stop;
use crate::engine::stop::Limit;
use crate::engine::volumes;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::remove::remove_tree;

/// Between two looks at a container that is neither running nor free.
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// Removes a container; one that runs only by force. With `volumes`, or where it was made with
/// `--rm`, its anonymous volumes go too. First its name, then its files: killed in
/// between, the files belong to nobody and the next collection takes them.
pub fn remove(
    engine: &Engine,
    container: &Container,
    force: bool,
    volumes: bool,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot remove container \"{}\"", container.name);
    let began = Instant::now();
    let lock = loop {
        if let Some(lock) = container.try_lock().with_context(cannot)? {
            break lock;
        }
        if let Some(mounted) = mounted::in_the_way(container) {
            if !force {
                return Err(mounted).with_context(cannot);
            }
            mounted::unmount(engine, container, true).with_context(cannot)?;
            continue;
        }
        if !force {
            return Err(fail(Kind::Conflict, "it is running"))
                .hint(format!(
                    "stop it with `rbox stop {0}`, or use `rbox rm -f {0}`",
                    container.name
                ))
                .with_context(cannot);
        }
        let at_once = stop::Options::within(Some(Limit::Seconds(0)));
        stop::stop(engine, container, at_once).with_context(cannot)?;
        if container.is_gone(&engine.dirs) {
            // With --rm its own supervisor has removed it.
            return Ok(());
        }
        if let Some(lock) = container.try_lock().with_context(cannot)? {
            break lock;
        }
        if began.elapsed() > PATIENCE {
            return Err(fail(Kind::Conflict, "it cannot be stopped")).with_context(cannot);
        }
        // It is being started, or removed by somebody else.
        std::thread::sleep(PAUSE);
    };
    if !container.still_exists(&engine.dirs) {
        // Somebody else was faster.
        return if force {
            Ok(())
        } else {
            Err(record::missing(&container.name)).with_context(cannot)
        };
    }
    if let Some(group) = container.clear_state().with_context(cannot)? {
        groups::clear(&group);
    }
    container.free_name(&engine.dirs).with_context(cannot)?;
    container.remove_id_file();
    // The data last: it is by them that a sweep finds what is left.
    remove_tree(&container.run).with_context(cannot)?;
    remove_tree(&container.data).with_context(cannot)?;
    if volumes || container.config.remove {
        volumes::remove_anonymous(engine, &container.config).with_context(cannot)?;
    }
    events::add(&engine.dirs, container, "remove");
    drop(lock);
    Ok(())
}

/// Removes a container whose record cannot be read. What volumes it had is not known: those that nobody
/// else uses are for `volume prune`.
pub fn remove_unreadable(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let link = engine.dirs.names().join(&container.name);
    if link.is_symlink() {
        remove(engine, container, true, false)
    } else {
        // Not our work; it leads to no files.
        remove_tree(&link)
    }
}
