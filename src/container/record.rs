//! The record of a container, found by name or id.

use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::container::config::Config;
use crate::container::status::Status;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::sys::parallel;
use crate::sys::process;

/// The file of `Config`, in the data directory.
const CONFIG: &str = "config.json";

/// The name of a container that does not outlive its supervisor leads to `ID/.`: that is known of it, too, where
/// a power cut has left nothing of its record, which nobody waited to have on disk.
const PASSING: &str = ".";

/// A container that exists.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    /// Large, and moved often.
    pub config: Box<Config>,
    /// Its directory in the data directory, and the one in the runtime directory.
    pub data: PathBuf,
    pub run: PathBuf,
}

impl Container {
    pub fn at(dirs: &Dirs, name: String, config: Config) -> Container {
        Container {
            data: dirs.containers().join(&config.id),
            run: dirs.run_containers().join(&config.id),
            name,
            config: Box::new(config),
        }
    }

    /// Writes the record and takes the name: from then on the container exists. A name that is
    /// taken is a conflict and leaves nothing behind.
    ///
    /// Must: be called with the store's shared lock held, so that nobody collects the directory
    /// while no name points to it yet.
    pub fn create(&self, dirs: &Dirs, durability: Durability) -> anyhow::Result<()> {
        atomic::make_dir(&self.data)
            .with_context(|| format!("cannot make {}", self.data.display()))
            .map_err(atomic::with_space_hint)?;
        let created = self.write_id_file().and_then(|()| {
            let saved = record::save_lean(&self.config_file(), &*self.config, durability)
                .and_then(|()| self.take_name(dirs, durability));
            if saved.is_err() {
                self.remove_id_file();
            }
            saved
        });
        if created.is_err() {
            std::fs::remove_dir_all(&self.data).ok();
        }
        created
    }

    fn take_name(&self, dirs: &Dirs, durability: Durability) -> anyhow::Result<()> {
        let mut target = PathBuf::from("../containers").join(&self.config.id);
        if durability == Durability::Volatile {
            target.push(PASSING);
        }
        let link = dirs.names().join(&self.name);
        loop {
            match rustix::fs::symlink(&target, &link) {
                Ok(()) => break,
                Err(Errno::EXIST) => match Container::by_name(dirs, &self.name)? {
                    Some(other) => return Err(name_taken(&other)),
                    // It was removed meanwhile, or points to nothing after a power cut.
                    None => self.free_lost_name(dirs)?,
                },
                Err(errno) => {
                    let err = anyhow::Error::from(errno);
                    let err = err.context(format!("cannot take the name \"{}\"", self.name));
                    return Err(atomic::with_space_hint(err));
                }
            }
        }
        if durability == Durability::Durable {
            atomic::sync_dir(&dirs.names())?;
        }
        Ok(())
    }

    /// Frees the name if it points to no container.
    fn free_lost_name(&self, dirs: &Dirs) -> anyhow::Result<()> {
        let names = std::fs::File::open(dirs.names()).context("cannot open the names")?;
        // Another creator could otherwise free it too, and take it, between our look and our call.
        process::retry(|| rustix::fs::flock(&names, FlockOperation::LockExclusive))
            .context("cannot lock the names")?;
        match Container::by_name(dirs, &self.name)? {
            Some(_) => Ok(()),
            None => self.unlink_name(dirs),
        }
    }

    /// Removes the name, also one that it was given meanwhile: from then on the container does not
    /// exist, and only files are left of it. A name that belongs to another container by now stays.
    ///
    /// Must: be called with the run lock held, so that nobody else frees this name meanwhile.
    pub fn free_name(&self, dirs: &Dirs) -> anyhow::Result<()> {
        if self.owns(&dirs.names().join(&self.name)) {
            return self.unlink_name(dirs);
        }
        for link in std::fs::read_dir(dirs.names()).context("cannot list containers")? {
            let path = link.context("cannot list containers")?.path();
            if self.owns(&path) {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Whether its supervisor, which was to take it away when it ends, is not there any more.
    pub fn is_left_behind(&self, dirs: &Dirs, status: &Status) -> bool {
        match status {
            Status::Exited(_) => self.config.remove,
            Status::Unreadable(_) => {
                let link = std::fs::read_link(dirs.names().join(&self.name)).unwrap_or_default();
                link.as_os_str().as_encoded_bytes().ends_with(b"/.")
                    && self.is_locked().is_ok_and(|locked| !locked)
            }
            _ => false,
        }
    }

    /// Whether this name leads to it.
    fn owns(&self, link: &Path) -> bool {
        std::fs::read_link(link)
            .is_ok_and(|target| target.file_name() == Some(OsStr::new(&self.config.id)))
    }

    /// Gives it another name, in one step: at any time it has one.
    pub fn rename(&self, dirs: &Dirs, name: &str) -> anyhow::Result<()> {
        let cannot = || format!("cannot rename container \"{}\"", self.name);
        crate::container::name::check(name).with_context(cannot)?;
        let (old, new) = (dirs.names().join(&self.name), dirs.names().join(name));
        if !self.owns(&old) {
            return Err(missing(&self.name)).with_context(cannot);
        }
        loop {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, &old, cwd, &new, flags) {
                Ok(()) => break,
                Err(Errno::EXIST) => match Container::by_name(dirs, name)? {
                    Some(other) => return Err(name_taken(&other)).with_context(cannot),
                    None => Container {
                        name: name.to_owned(),
                        ..self.clone()
                    }
                    .free_lost_name(dirs)?,
                },
                Err(Errno::NOENT) => return Err(missing(&self.name)).with_context(cannot),
                Err(errno) => return Err(errno).with_context(cannot),
            }
        }
        atomic::sync_dir(&dirs.names())
    }

    /// Changes what the user asked for. The closure sees the record as it is now, and nobody else changes
    /// it meanwhile; where the closure fails, nothing is changed.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Config) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let data = match std::fs::File::open(&self.data) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(&self.name));
            }
            result => result.with_context(|| format!("cannot open {}", self.data.display()))?,
        };
        process::retry(|| rustix::fs::flock(&data, FlockOperation::LockExclusive))
            .with_context(|| format!("cannot lock {}", self.data.display()))?;
        let mut config: Config = record::load(&self.config_file())?;
        let result = change(&mut config)?;
        record::save_lean(&self.config_file(), &config, Durability::Durable)?;
        *self.config = config;
        Ok(result)
    }

    /// Whether it has been removed since it was looked up.
    pub fn is_gone(&self, dirs: &Dirs) -> bool {
        !self.owns(&dirs.names().join(&self.name))
    }

    /// Writes the file that the user wants the id in; one that is there stays, and is an error. Not a
    /// conflict: with another name it would be the same.
    pub fn write_id_file(&self) -> anyhow::Result<()> {
        let Some(path) = &self.config.process.files.container else {
            return Ok(());
        };
        let mut file = std::fs::File::create_new(path)
            .with_context(|| format!("cannot write the id to {}", path.display()))?;
        std::io::Write::write_all(&mut file, self.config.id.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes that file, if it is still about this container.
    pub fn remove_id_file(&self) {
        if let Some(path) = &self.config.process.files.container
            && std::fs::read_to_string(path).is_ok_and(|text| text == self.config.id)
        {
            std::fs::remove_file(path).ok();
        }
    }

    fn unlink_name(&self, dirs: &Dirs) -> anyhow::Result<()> {
        match std::fs::remove_file(dirs.names().join(&self.name)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(err).with_context(|| format!("cannot free the name \"{}\"", self.name))
            }
            _ => Ok(()),
        }
    }

    /// A file of /etc that is made anew for each run, and written to by the container: on disk, for what it writes in
    /// the runtime directory is missing to all others of its user.
    pub fn etc_file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Whether its name is still its own. Of a container that was removed since it was looked
    /// up, the runtime directory goes again that `try_lock` has made.
    ///
    /// Must: be called with the run lock held.
    pub fn still_exists(&self, dirs: &Dirs) -> bool {
        if self.is_gone(dirs) {
            std::fs::remove_dir_all(&self.run).ok();
            return false;
        }
        true
    }

    /// The container of this very name, if there is one.
    pub fn by_name(dirs: &Dirs, name: &str) -> anyhow::Result<Option<Container>> {
        let read = id_of(dirs, name).and_then(|id| match id {
            Some(id) => read_config(dirs, &id),
            None => Ok(None),
        });
        match read {
            Ok(config) => Ok(config.map(|config| Container::at(dirs, name.to_owned(), config))),
            Err(err) => Err(err.hint(format!(
                "the record is damaged, or of another version of rbox; `rbox rm -f {name}` removes the container"
            ))),
        }
    }

    /// Its settings as they are now; `None` when it is gone.
    pub fn config_now(&self, dirs: &Dirs) -> anyhow::Result<Option<Config>> {
        read_config(dirs, &self.config.id)
    }

    /// The names of all containers, in no order.
    pub fn names(dirs: &Dirs) -> anyhow::Result<Vec<String>> {
        let names = std::fs::read_dir(dirs.names()).context("cannot list containers")?;
        names
            .map(|name| {
                let name = name.context("cannot list containers")?.file_name();
                Ok(name.to_string_lossy().into_owned())
            })
            .collect()
    }

    /// All containers, oldest first. One whose record cannot be read is passed over: `bad` hears of it.
    pub fn list(dirs: &Dirs, mut bad: impl FnMut(Unreadable)) -> anyhow::Result<Vec<Container>> {
        let names = Container::names(dirs)?;
        let found = parallel::map(&names, |name| Container::by_name(dirs, name));
        let mut containers = Vec::new();
        for (name, found) in names.iter().zip(found) {
            match found {
                Ok(Some(container)) => containers.push(container),
                Ok(None) => {}
                Err(err) => bad(Unreadable {
                    container: Container::unknown(dirs, name),
                    err,
                }),
            }
        }
        containers.sort_by_key(|container| container.config.created);
        Ok(containers)
    }

    /// The container that a person means: a name, an id, or the unique beginning of an id.
    pub fn find(dirs: &Dirs, given: &str) -> anyhow::Result<Container> {
        let name = Container::find_name(dirs, given)?;
        Container::by_name(dirs, &name)?.ok_or_else(|| missing(given))
    }

    /// The same, of which nothing but its name and id may be known: its record cannot be read.
    pub fn find_unreadable(dirs: &Dirs, given: &str) -> anyhow::Result<Container> {
        let name = Container::find_name(dirs, given)?;
        Ok(Container::unknown(dirs, &name))
    }

    /// What is left to work with where the record cannot be read.
    pub fn unknown(dirs: &Dirs, name: &str) -> Container {
        let config = Config {
            // What is no link leads to no files.
            id: id_of(dirs, name).ok().flatten().unwrap_or("-".into()),
            ..Config::default()
        };
        Container::at(dirs, name.to_owned(), config)
    }

    /// The name of the container that a person means. No other records are read: there may be many.
    fn find_name(dirs: &Dirs, given: &str) -> anyhow::Result<String> {
        if crate::container::name::check(given).is_ok()
            && dirs.names().join(given).symlink_metadata().is_ok()
        {
            return Ok(given.to_owned());
        }
        if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing(given));
        }
        let mut matching = Vec::new();
        for id in std::fs::read_dir(dirs.containers()).context("cannot list containers")? {
            let id = id.context("cannot list containers")?.file_name();
            let id = id.to_string_lossy();
            if id.starts_with(given) {
                matching.extend(name_of(dirs, &id)?);
            }
        }
        match matching.len() {
            0 => Err(missing(given)),
            1 => Ok(matching.remove(0)),
            count => Err(fail(
                Kind::Usage,
                format!("\"{given}\" is the beginning of {count} container ids"),
            )
            .hint("give more digits, or the name")),
        }
    }

    pub fn config_file(&self) -> PathBuf {
        self.data.join(CONFIG)
    }

    /// The log, of the drivers that write files.
    pub fn log_path(&self) -> Option<PathBuf> {
        let log = &self.config.log;
        log.driver.writes_files().then(|| match &log.path {
            Some(path) => path.clone(),
            None => self.data.join("ctr.log"),
        })
    }

    pub fn health_file(&self) -> PathBuf {
        self.run.join("health.json")
    }

    pub fn spec_file(&self) -> PathBuf {
        self.run.join("spec.json")
    }
}

/// A container whose record cannot be read: only its name and id are known.
#[derive(Debug)]
pub struct Unreadable {
    pub container: Container,
    pub err: anyhow::Error,
}

/// The id that a name leads to.
fn id_of(dirs: &Dirs, name: &str) -> anyhow::Result<Option<String>> {
    let cannot = || format!("cannot look up container \"{name}\"");
    match std::fs::read_link(dirs.names().join(name)) {
        Ok(link) => Ok(link
            .file_name()
            .and_then(|id| id.to_str())
            .map(str::to_owned)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // Linux: it is no link (readlink(2)).
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
            Err(anyhow::anyhow!("its name leads to no files")).with_context(cannot)
        }
        Err(err) => Err(err).with_context(cannot),
    }
}

/// The name that leads to this id. None: it is being made, or was removed.
fn name_of(dirs: &Dirs, id: &str) -> anyhow::Result<Option<String>> {
    let leads_here = |name: &str| id_of(dirs, name).is_ok_and(|found| found.as_deref() == Some(id));
    if let Ok(Some(config)) = read_config(dirs, id)
        && !config.name.is_empty()
        && leads_here(&config.name)
    {
        return Ok(Some(config.name));
    }
    // It has been renamed.
    for name in std::fs::read_dir(dirs.names()).context("cannot list containers")? {
        let name = name.context("cannot list containers")?.file_name();
        let name = name.to_string_lossy();
        if leads_here(&name) {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// `None` where nothing is left of the container but a name, as a power cut may do it.
fn read_config(dirs: &Dirs, id: &str) -> anyhow::Result<Option<Config>> {
    let dir = dirs.containers().join(id);
    let file = dir.join(CONFIG);
    let config: Config = match record::load(&file) {
        Err(err) if crate::error::kind(&err) == Some(Kind::NotFound) && !dir.exists() => {
            return Ok(None);
        }
        result => result.map_err(|err| {
            // To those who ask whether there is such a container: there is.
            anyhow::anyhow!(crate::error::message(&err))
        })?,
    };
    if config.id != id {
        anyhow::bail!(
            "cannot read container record {}: it is of another container",
            file.display()
        );
    }
    Ok(Some(config))
}

/// The error for a name or id that no container has.
pub fn missing(given: &str) -> anyhow::Error {
    fail(
        Kind::NotFound,
        format!("no container with name or id \"{given}\""),
    )
    .hint("`rbox ps -a` lists the containers there are")
}

fn name_taken(other: &Container) -> anyhow::Error {
    let text = format!(
        "a container named \"{}\" exists ({}, {})",
        other.name,
        other.config.short_id(),
        other.status_to_show().name()
    );
    fail(Kind::Conflict, text).hint(format!(
        "remove it with `rbox rm -f {}`, or choose another --name",
        other.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn container(dirs: &Dirs, name: &str) -> Container {
        let config = Config {
            id: crate::container::name::random_id().unwrap(),
            ..Config::default()
        };
        Container::at(dirs, name.to_owned(), config)
    }

    #[test]
    fn a_name_is_freed_by_its_own_container_alone() {
        let base = scratch("names");
        let dirs = Dirs::at(base.path()).unwrap();
        let first = container(&dirs, "web");
        first.create(&dirs, Durability::Volatile).unwrap();
        assert!(first.still_exists(&dirs));
        first.free_name(&dirs).unwrap();
        let second = container(&dirs, "web");
        second.create(&dirs, Durability::Volatile).unwrap();
        // Somebody who looked the first one up before it was removed goes on with removing it.
        let lock = first.try_lock().unwrap().unwrap();
        assert!(!first.still_exists(&dirs));
        assert!(!first.run.exists());
        first.free_name(&dirs).unwrap();
        drop(lock);
        assert!(second.still_exists(&dirs));
    }

    #[test]
    fn changes_are_made_one_after_the_other_or_not_at_all() {
        let base = scratch("change");
        let dirs = Dirs::at(base.path()).unwrap();
        let web = container(&dirs, "web");
        web.create(&dirs, Durability::Volatile).unwrap();
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let mut web = web.clone();
                std::thread::spawn(move || {
                    for round in 0..8 {
                        web.change(|config| {
                            config
                                .labels
                                .insert(format!("{number}.{round}"), String::new());
                            Ok(())
                        })
                        .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let mut web = Container::by_name(&dirs, "web").unwrap().unwrap();
        assert_eq!(web.config.labels.len(), 32);
        let refused = web.change(|config| {
            config.labels.clear();
            Err::<(), _>(anyhow::anyhow!("no"))
        });
        assert_eq!(refused.unwrap_err().to_string(), "no");
        let now = Container::by_name(&dirs, "web").unwrap().unwrap();
        assert_eq!(now.config.labels.len(), 32);
        assert_eq!(web.config.labels.len(), 32);
    }

    #[test]
    fn a_name_that_points_to_nothing_is_free() {
        let base = scratch("lost-name");
        let dirs = Dirs::at(base.path()).unwrap();
        let first = container(&dirs, "web");
        first.create(&dirs, Durability::Volatile).unwrap();
        std::fs::remove_dir_all(&first.data).unwrap();
        let second = container(&dirs, "web");
        second.create(&dirs, Durability::Volatile).unwrap();
        let third = container(&dirs, "web").create(&dirs, Durability::Volatile);
        assert_eq!(
            crate::error::kind(&third.unwrap_err()),
            Some(Kind::Conflict)
        );
        assert!(!first.data.exists() && second.still_exists(&dirs));
    }
}
