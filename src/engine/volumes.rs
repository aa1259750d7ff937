//! Volumes and the containers that use them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::Context;

use crate::container::config::Config;
use crate::container::mounts::Source;
use crate::container::name;
use crate::container::record::Container;
use crate::container::uses;
use crate::engine::Engine;
use crate::engine::remove;
use crate::engine::stop;
use crate::engine::stop::Limit;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::journal::Event;
use crate::store::lock::Lock;
use crate::store::remove::remove_tree;
use crate::store::temp;
use crate::supervisor::end;
use crate::volume;
use crate::volume::Volume;

/// Volumes that a container which is being made uses. Those that were made for it go again, unless
/// the container comes to be.
pub struct Taken<'a> {
    dirs: &'a Dirs,
    made: Vec<String>,
    /// Nobody removes a volume meanwhile.
    lock: Option<Lock>,
}

impl Taken<'_> {
    /// The container exists: from now on its record holds them.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.lock = None;
        if self.made.is_empty() {
            return;
        }
        let undo = || -> anyhow::Result<()> {
            let _alone = volume::lock_for_removal(self.dirs)?;
            let used = uses::volumes(self.dirs)?;
            for name in self.made.iter().filter(|name| !used.contains_key(*name)) {
                volume::remove(self.dirs, name)?;
            }
            Ok(())
        };
        // What is left is a volume that nobody uses, for `volume prune`.
        undo().ok();
    }
}

/// Makes the volumes that a container wants and that do not exist; names those without a name.
pub fn take<'a>(engine: &'a Engine, config: &mut Config) -> anyhow::Result<Taken<'a>> {
    let dirs = &engine.dirs;
    let mut taken = Taken {
        dirs,
        made: vec![],
        lock: None,
    };
    for mount in &mut config.files.mounts {
        let Source::Volume {
            name,
            anonymous,
            driver_options,
            labels,
        } = &mut mount.source
        else {
            continue;
        };
        if taken.lock.is_none() {
            taken.lock = Some(volume::lock_for_use(dirs)?);
        }
        let mut wanted = Volume::named(name);
        if name.is_empty() {
            *name = name::random_id()?;
            wanted.name.clone_from(name);
            wanted.anonymous = true;
        } else if volume::exists(dirs, name) {
            if name::is_id(name) {
                // It may be the anonymous one of another container.
                volume::mark_shared(dirs, name)?;
            }
            continue;
        } else if *anonymous {
            // Of another container (--volumes-from), and gone with it since.
            return Err(volume::missing(name));
        }
        wanted.options = pairs(driver_options, "volume-opt")?;
        wanted.labels = pairs(labels, "volume-label")?;
        wanted.mounted()?;
        if volume::create(dirs, &wanted)? {
            taken.made.push(name.clone());
        }
    }
    Ok(taken)
}

/// `KEY=VALUE` each; a key alone has an empty value.
pub fn pairs(words: &[String], what: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() {
            let text = format!("{what}=\"{word}\": expected KEY=VALUE");
            return Err(fail(Kind::Usage, text));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

/// Makes a volume of this name, or finds it with `ignore`.
pub fn create(engine: &Engine, volume: &Volume, ignore: bool) -> anyhow::Result<()> {
    volume
        .mounted()
        .with_context(|| format!("cannot create volume \"{}\"", volume.name))?;
    if volume::create(&engine.dirs, volume)? || ignore {
        return Ok(());
    }
    Err(fail(
        Kind::Conflict,
        format!(
            "cannot create volume \"{0}\": there is one of this name",
            volume.name
        ),
    )
    .hint("use another name, or `--ignore` to take the one there is"))
}

/// Removes a volume. By force the containers that use it go too, after so many seconds at most.
pub fn remove(engine: &Engine, volume: &Volume, force: bool, wait: u32) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let cannot = || format!("cannot remove volume \"{}\"", volume.name);
    loop {
        let alone = volume::lock_for_removal(dirs)?;
        let users = uses::volumes(dirs)?
            .remove(&volume.name)
            .unwrap_or_default();
        if users.is_empty() {
            return volume::remove(dirs, &volume.name);
        }
        if !force {
            return Err(in_use(&users)).with_context(cannot);
        }
        drop(alone);
        for user in users {
            if let Some(container) = Container::by_name(dirs, &user)? {
                let within = stop::Options::within(Some(Limit::Seconds(wait)));
                stop::stop(engine, &container, within).ok();
                remove::remove(engine, &container, true, false).with_context(cannot)?;
            }
        }
    }
}

fn in_use(users: &BTreeSet<String>) -> anyhow::Error {
    let names: Vec<String> = users.iter().map(|name| format!("\"{name}\"")).collect();
    let several = if users.len() == 1 { "" } else { "s" };
    let verb = if users.len() == 1 { "uses" } else { "use" };
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    fail(
        Kind::Conflict,
        format!("container{several} {} {verb} it", names.join(", ")),
    )
    .hint(format!(
        "remove what uses it with `rbox rm {}`",
        all.join(" ")
    ))
}

/// Removes volumes that no container uses and that are wanted gone; their names. With `dry_run` none.
pub fn prune(
    engine: &Engine,
    wanted: impl Fn(&Volume) -> bool,
    dry_run: bool,
) -> anyhow::Result<Vec<String>> {
    let dirs = &engine.dirs;
    let _alone = volume::lock_for_removal(dirs)?;
    temp::sweep(&dirs.volumes()).ok();
    let used = uses::volumes(dirs)?;
    let mut gone = Vec::new();
    // A power cut leaves nothing of the record of one that was made for a container with --rm.
    for name in volume::unreadable(dirs)? {
        if name::is_id(&name) && !used.contains_key(&name) && !dry_run {
            volume::remove(dirs, &name)?;
            gone.push(name);
        }
    }
    for volume in volume::list(dirs, drop)? {
        if used.contains_key(&volume.name) || !wanted(&volume) {
            continue;
        }
        if !dry_run {
            volume::remove(dirs, &volume.name)?;
        }
        gone.push(volume.name);
    }
    if !dry_run {
        journal::add(dirs, &Event::new("volume", "prune", "", ""));
    }
    Ok(gone)
}

/// Removes the anonymous volumes of a container that is gone.
pub fn remove_anonymous(engine: &Engine, config: &Config) -> anyhow::Result<()> {
    for left in end::retire_volumes(&engine.dirs, config)? {
        remove_tree(&left)?;
    }
    Ok(())
}
