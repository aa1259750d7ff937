//! `system check`: walks the store. The directories are the index: what is wrong is found by reading all of it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::images;
use crate::engine::remove;
use crate::engine::sweep;
use crate::error;
use crate::image;
use crate::image::Image;
use crate::image::about;
use crate::image::check;
use crate::image::check::State;
use crate::image::layers;
use crate::image::layers::Finished;
use crate::image::names;
use crate::image::record;
use crate::network;
use crate::oci::digest::Digest;
use crate::store::blobs;
use crate::store::lock::Lock;
use crate::volume;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub repair: bool,
    /// Containers that depend on what is beyond repair go too.
    pub force: bool,
    /// Without reading layers and blobs.
    pub quick: bool,
    /// From which age on a repair removes what nothing refers to.
    pub max: Duration,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Damage {
    /// `layer 0123456789ab`
    pub what: String,
    pub why: String,
    /// What was done about it; `None` while it is as it was.
    pub done: Option<String>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub damage: Vec<Damage>,
    /// What nothing refers to, which is no damage.
    pub unreferenced: Vec<String>,
    /// Whether that was removed.
    pub collected: bool,
    /// Layers of which nothing is kept that tells what their files should be.
    pub unknown: Vec<String>,
}

/// An image that is beyond repair.
type Broken = BTreeMap<String, String>;

pub fn check(engine: &Engine, wish: Wish) -> Result<Report> {
    image::ingest::sweep(&engine.dirs);
    sweep::sweep(engine)?;
    let mut check = Check {
        engine,
        wish,
        report: Report::default(),
        broken: Broken::new(),
    };
    let age = {
        // What is referred to now stays while it is looked at.
        let _lock = Lock::shared(&engine.dirs.lock_file())?;
        check.look()?
    };
    if !wish.repair {
        for (hex, why) in std::mem::take(&mut check.broken) {
            check.found(format!("image {}", short(&hex)), why, None);
        }
    }
    if wish.repair {
        check.remove_broken()?;
        if age.is_some_and(|age| age >= wish.max) {
            images::collect(engine)?;
            check.report.collected = true;
        }
    }
    Ok(check.report)
}

struct Check<'a> {
    engine: &'a Engine,
    wish: Wish,
    report: Report,
    broken: Broken,
}

impl Check<'_> {
    fn found(&mut self, what: String, why: String, done: Option<String>) {
        self.report.damage.push(Damage { what, why, done });
    }

    /// Looks at everything, and mends what can be mended; the age of the oldest that nothing refers to.
    fn look(&mut self) -> Result<Option<Duration>> {
        let dirs = &self.engine.dirs;
        let (images, unreadable) = check::records(dirs)?;
        let is_complete = unreadable.is_empty();
        for (hex, err) in unreadable {
            self.broken.insert(hex, error::message(&err));
        }
        for image in &images {
            match check::documents(dirs, image) {
                Ok(None) => {}
                Ok(Some(right)) => self.damaged_record(&right)?,
                Err(err) => {
                    let hex = image.id.hex().to_owned();
                    self.broken.insert(hex, error::message(&err));
                }
            }
        }
        let (containers, unknown) = self.containers()?;
        self.names(&images)?;
        let used = self.layers(&images, &containers)?;
        let blobs = self.blobs(&images)?;
        for err in network_errors(self.engine)? {
            self.found("network".into(), error::message(&err), None);
        }
        for err in volume_errors(self.engine)? {
            self.found("volume".into(), error::message(&err), None);
        }
        // Where a record cannot be read, what it refers to is not known.
        if !is_complete || unknown {
            return Ok(None);
        }
        self.unreferenced(&images, &used, &blobs)
    }

    /// `right` is what it should say.
    fn damaged_record(&mut self, right: &Image) -> Result<()> {
        let what = format!("image {}", right.id.short());
        let mut done = None;
        if self.wish.repair {
            record::save(&self.engine.dirs, right)
                .with_context(|| format!("cannot repair {what}"))?;
            done = Some("repaired".to_owned());
        }
        let why = "its record says something else than its config";
        self.found(what, why.into(), done);
        Ok(())
    }

    /// Those that can be read, and whether there are others.
    fn containers(&mut self) -> Result<(Vec<Container>, bool)> {
        let mut unreadable = Vec::new();
        let containers = Container::list(&self.engine.dirs, |one| unreadable.push(one))?;
        let any = !unreadable.is_empty();
        for one in unreadable {
            let mut done = None;
            if self.wish.repair && self.wish.force {
                remove::remove_unreadable(self.engine, &one.container)?;
                done = Some("removed".to_owned());
            }
            let what = format!("container \"{}\"", one.container.name);
            self.found(what, error::message(&one.err), done);
        }
        Ok((containers, any))
    }

    fn names(&mut self, images: &[Image]) -> Result<()> {
        let dirs = &self.engine.dirs;
        let ids: HashSet<&Digest> = images.iter().map(|image| &image.id).collect();
        for (path, read) in names::records(dirs)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let (what, why) = match read {
                Err(err) => (format!("name {file}"), error::message(&err)),
                Ok(name) if ids.contains(&name.image) => continue,
                Ok(name) => {
                    if self.broken.contains_key(name.image.hex())
                        || names::leads_to_index(dirs, &name)
                        // Pulled since images were listed.
                        || record::path(dirs, &name.image).exists()
                    {
                        continue;
                    }
                    let why = format!("it leads to image {}, which is missing", name.image.short());
                    (format!("name \"{}\"", name.reference), why)
                }
            };
            let mut done = None;
            if self.wish.repair {
                crate::store::remove::remove_tree(&path)?;
                done = Some("removed".to_owned());
            }
            self.found(what, why, done);
        }
        Ok(())
    }

    /// Those that images and containers refer to.
    fn layers(&mut self, images: &[Image], containers: &[Container]) -> Result<HashSet<Digest>> {
        let dirs = &self.engine.dirs;
        let tag = layers::ids_tag(dirs)?;
        let mut users: HashMap<Digest, Vec<&str>> = HashMap::new();
        for image in images {
            for layer in &image.layers {
                users.entry(layer.clone()).or_default();
            }
        }
        let mut running = HashSet::new();
        for container in containers {
            for layer in images::layers_of(container) {
                if container.status_to_show().is_running() {
                    running.insert(layer.clone());
                }
                users.entry(layer).or_default().push(&container.name);
            }
        }
        for (layer, containers) in &users {
            let (why, renewed) = match check::layer(dirs, layer, &tag, images, self.wish.quick)? {
                State::Whole => continue,
                State::Unknown => {
                    self.report.unknown.push(layer.short().to_owned());
                    continue;
                }
                State::Elsewhere(why) => {
                    self.found(format!("layer {}", layer.short()), why, None);
                    continue;
                }
                State::Damaged(why, renewed) => (why, renewed.map(|renewed| *renewed)),
            };
            self.damaged_layer(
                layer,
                why,
                renewed,
                images,
                containers,
                running.contains(layer),
            )?;
        }
        Ok(users.into_keys().collect())
    }

    fn damaged_layer(
        &mut self,
        layer: &Digest,
        why: String,
        renewed: Option<Finished>,
        images: &[Image],
        containers: &[&str],
        is_running: bool,
    ) -> Result<()> {
        let what = format!("layer {}", layer.short());
        let mut done = None;
        if let (true, Some(renewed)) = (self.wish.repair, renewed) {
            // Asked again: unpacking takes its time.
            let runs = |name: &&str| {
                let found = Container::by_name(&self.engine.dirs, name).ok().flatten();
                found.is_some_and(|container| container.status_to_show().is_running())
            };
            if is_running || containers.iter().any(runs) {
                let names = containers.join("\", \"");
                done = None;
                let why = format!("{why}; it is not repaired while container \"{names}\" runs");
                self.found(what, why, done);
                return Ok(());
            }
            layers::replace(&self.engine.dirs, renewed)
                .with_context(|| format!("cannot repair {what}"))?;
            done = Some("repaired".to_owned());
        } else {
            for image in images.iter().filter(|image| image.layers.contains(layer)) {
                let why = format!("{what} is damaged");
                let hex = image.id.hex().to_owned();
                if self.wish.repair {
                    self.broken.entry(hex).or_insert(why);
                }
            }
        }
        self.found(what, why, done);
        Ok(())
    }

    /// Those that are there.
    fn blobs(&mut self, images: &[Image]) -> Result<Vec<Digest>> {
        let dirs = &self.engine.dirs;
        let (found, damaged) = check::blobs(dirs, self.wish.quick)?;
        for digest in damaged {
            let what = format!("blob {digest}");
            let mut done = None;
            if self.wish.repair {
                for image in images {
                    if about::blobs(dirs, image).contains(&digest) {
                        let hex = image.id.hex().to_owned();
                        self.broken
                            .entry(hex)
                            .or_insert(format!("{what} is damaged"));
                    }
                }
                std::fs::remove_file(blobs::path(dirs, &digest))
                    .with_context(|| format!("cannot remove {what}"))?;
                done = Some("removed".to_owned());
            }
            self.found(what, "its bytes have changed on disk".into(), done);
        }
        Ok(found)
    }

    /// Names what nothing refers to; the age of the oldest of it.
    fn unreferenced(
        &mut self,
        images: &[Image],
        layers: &HashSet<Digest>,
        blobs: &[Digest],
    ) -> Result<Option<Duration>> {
        let dirs = &self.engine.dirs;
        let Some(used) = image::remove::blobs_in_use(dirs, images, layers) else {
            return Ok(None);
        };
        let mut paths: Vec<(String, PathBuf)> = Vec::new();
        // Images of additional stores are used without being this user's own.
        let mut layers = layers.clone();
        layers.extend(
            record::of_additional(dirs)
                .into_iter()
                .flat_map(|image| image.layers),
        );
        for entry in std::fs::read_dir(dirs.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && layers.iter().all(|layer| layer.hex() != name) {
                paths.push((format!("layer {}", short(&name)), entry.path()));
            }
        }
        for digest in blobs.iter().filter(|digest| !used.contains(digest)) {
            paths.push((format!("blob {digest}"), blobs::path(dirs, digest)));
        }
        let mut oldest = None;
        for (what, path) in paths {
            // One that was removed meanwhile is not there.
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            let age = SystemTime::now().duration_since(metadata.modified()?);
            oldest = oldest.max(Some(age.unwrap_or_default()));
            self.report.unreferenced.push(what);
        }
        Ok(oldest)
    }

    /// Removes images that are beyond repair, and the containers that need them where that was asked for.
    fn remove_broken(&mut self) -> Result<()> {
        let broken = std::mem::take(&mut self.broken);
        for (hex, why) in &broken {
            let mut why = why.clone();
            let Some(id) = Digest::of_hex(hex).map(|id| id.to_string()) else {
                continue;
            };
            let users = images::users(self.engine).unwrap_or_default();
            let users = users.get(&id).cloned().unwrap_or_default();
            let mut done = None;
            if users.is_empty() || self.wish.force {
                let removal = images::Removal {
                    force: true,
                    all_names: true,
                    with_parents: false,
                };
                let outcome = images::remove(self.engine, std::slice::from_ref(&id), removal);
                done = Some(removed(&outcome, &users));
                outcome.into_result()?;
            } else {
                let names = users.join("\", \"");
                why = format!("{why}; it stays, since container \"{names}\" uses it");
            }
            let what = format!("image {}", short(hex));
            self.found(what, why, done);
        }
        if !broken.is_empty() {
            images::collect(self.engine)?;
        }
        Ok(())
    }
}

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

fn removed(outcome: &images::Outcome, users: &[String]) -> String {
    let names = outcome.untagged.iter().map(|name| format!("\"{name}\""));
    let users = users.iter().map(|user| format!("container \"{user}\""));
    let with: Vec<String> = names.chain(users).collect();
    if with.is_empty() {
        "removed".into()
    } else {
        format!("removed, with {}", with.join(", "))
    }
}

fn volume_errors(engine: &Engine) -> Result<Vec<anyhow::Error>> {
    let mut errors = Vec::new();
    volume::list(&engine.dirs, |err| errors.push(err))?;
    Ok(errors)
}

fn network_errors(engine: &Engine) -> Result<Vec<anyhow::Error>> {
    let mut errors = Vec::new();
    network::record::all(&engine.dirs, |err| errors.push(err))?;
    Ok(errors)
}
