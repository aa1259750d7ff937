//! What a crash or a power cut leaves of containers: directories that no name points to, and names that
//! point to nothing.

use std::collections::HashSet;

use crate::container::config::Config;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::groups;
use crate::engine::remove;
use crate::engine::volumes;
use crate::store::lock::Lock;
use crate::store::record;
use crate::store::remove::remove_tree;

/// Removes directories and names of containers that do not exist. Does nothing, at the price of two directory
/// listings, where there are none, and leaves them to the next time where somebody makes a container.
pub fn sweep(engine: &Engine) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let count = |path: &std::path::Path| std::fs::read_dir(path).map(Iterator::count);
    if count(&dirs.containers())? == count(&dirs.names())? {
        return Ok(());
    }
    // Who creates a container holds this lock shared from the first directory to the name.
    let Some(_alone) = Lock::try_exclusive(&dirs.lock_file())? else {
        return Ok(());
    };
    let mut named = HashSet::new();
    for name in std::fs::read_dir(dirs.names())? {
        let path = name?.path();
        // What is no link is not our work; `ps` tells of it.
        let Ok(target) = std::fs::read_link(&path) else {
            continue;
        };
        let id = target.file_name().unwrap_or_default();
        if dirs.containers().join(id).symlink_metadata().is_ok() {
            named.insert(id.to_owned());
        } else if std::fs::read_link(&path).is_ok_and(|still| still == target) {
            // Who removes a container begins with its name: this one is nobody's.
            std::fs::remove_file(&path)?;
        }
    }
    for entry in std::fs::read_dir(dirs.containers())? {
        let id = entry?.file_name();
        let data = dirs.containers().join(&id);
        let run = dirs.run_containers().join(&id);
        // A container with --rm is removed by its own supervisor, which holds the run lock.
        if named.contains(&id) || Container::is_locked_at(&run)? {
            continue;
        }
        let config: Option<Config> = record::load_if_present(&data.join("config.json"))
            .ok()
            .flatten();
        if let Some(group) = Container::group_at(&run) {
            groups::clear(&group);
        }
        // First what would not be found without the other.
        remove_tree(&run)?;
        remove_tree(&data)?;
        if let Some(config) = config.filter(|config| config.remove) {
            // What is left is for `volume prune`.
            volumes::remove_anonymous(engine, &config).ok();
        }
    }
    Ok(())
}

/// Takes away a container that was made with `--rm` and whose supervisor was killed, or went with the machine;
/// whether that was so.
pub fn take_left_behind(engine: &Engine, container: &Container, status: &Status) -> bool {
    container.is_left_behind(&engine.dirs, status)
        && remove::remove(engine, container, false, false).is_ok()
}

/// The same for the one of this name, if it has an owner.
pub fn free_name(engine: &Engine, name: &str) {
    match Container::by_name(&engine.dirs, name) {
        Ok(None) => {}
        Ok(Some(container)) => {
            let status = container.status_to_show();
            take_left_behind(engine, &container, &status);
        }
        Err(err) => {
            if let Ok(container) = Container::find_unreadable(&engine.dirs, name) {
                let status = Status::Unreadable(crate::error::message(&err));
                take_left_behind(engine, &container, &status);
            }
        }
    }
}
