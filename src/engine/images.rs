//! Images and the containers that use them.

use std::collections::HashMap;
use std::collections::HashSet;

use anyhow::Context;

use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::image_mounts;
use crate::engine::remove;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::about::Family;
use crate::image::names::Name;
use crate::image::names::Named;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::journal;
use crate::store::journal::Event;
use crate::store::lock::Lock;

/// How images are removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removal {
    /// The containers that use them too; and what cannot be read.
    pub force: bool,
    /// All names of one that is given by its id.
    pub all_names: bool,
    /// Images without a name that it was made from, and nothing else was, go too.
    pub with_parents: bool,
}

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Outcome {
    pub untagged: Vec<Reference>,
    pub deleted: Vec<Digest>,
    pub errors: Vec<anyhow::Error>,
}

impl Outcome {
    /// Its first error, where there is one.
    pub fn into_result(self) -> anyhow::Result<()> {
        self.errors.into_iter().next().map_or(Ok(()), Err)
    }
}

/// Removes images by names or ids, and then what nothing refers to any more.
pub fn remove(engine: &Engine, names: &[String], how: Removal) -> Outcome {
    remove_each(engine, names, |name, outcome| {
        remove_one(engine, name, how, outcome)
    })
}

/// Removes what the names stand for, one after the other, and then what nothing refers to any more.
pub fn remove_each(
    engine: &Engine,
    names: &[String],
    one: impl Fn(&str, &mut Outcome) -> anyhow::Result<()>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for name in names {
        if let Err(err) = one(name, &mut outcome) {
            outcome.errors.push(err);
        }
    }
    if !outcome.deleted.is_empty()
        && let Err(err) = image::remove::collect_after(&engine.dirs, &|| layers_in_use(engine))
    {
        outcome.errors.push(err);
    }
    outcome
}

/// Removes the images that no container uses, of those that `choose` leaves: without a name, or all.
pub fn prune(
    engine: &Engine,
    all: bool,
    choose: impl Fn(Vec<Named>) -> Vec<Named>,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut tried = HashSet::new();
    let listed = image::lists::listed(&engine.dirs)?;
    // One that was made from another hides that, where it has no name either.
    loop {
        let used = users(engine)?;
        let images = image::names::all_named(&engine.dirs.alone(), drop)?;
        let parents: HashSet<Digest> = nameless_parents(engine, &images);
        let mut chosen = choose(images);
        chosen.retain(|named| {
            let id = &named.image.id;
            let kept = parents.contains(id) || listed.contains(&named.image.manifest_digest);
            let dangling = named.names.is_empty() && !kept;
            (all || dangling)
                && !used.contains_key(&id.to_string())
                && !tried.contains(id)
                && !is_mounted(engine, id)
        });
        if chosen.is_empty() {
            break;
        }
        for named in chosen {
            let id = named.image.id.clone();
            let taken = if all {
                image::remove::take(&engine.dirs, &id.to_string(), true)
            } else {
                image::remove::take_nameless(&engine.dirs, &id)
            };
            match taken {
                // Somebody else was faster.
                Err(err) if error::kind(&err) == Some(Kind::NotFound) => {}
                Err(err) => outcome.errors.push(err),
                // It was given a name meanwhile.
                Ok(removed) if removed.deleted.is_none() => {}
                Ok(removed) => {
                    record(engine, "remove", &id, &id.to_string());
                    outcome.untagged.extend(removed.untagged);
                    outcome.deleted.push(id.clone());
                }
            }
            tried.insert(id);
        }
    }
    // What killed commands have left goes too.
    collect(engine)?;
    Ok(outcome)
}

/// Where that cannot be told it may be.
fn is_mounted(engine: &Engine, id: &Digest) -> bool {
    !matches!(image_mounts::path(engine, id), Ok(None))
}

/// Images without a name from which others were made.
fn nameless_parents(engine: &Engine, images: &[Named]) -> HashSet<Digest> {
    if images.iter().all(|named| !named.names.is_empty()) {
        return HashSet::new();
    }
    let all: Vec<&Image> = images.iter().map(|named| &named.image).collect();
    let family = Family::of(&engine.dirs, &all);
    let parents = (0..all.len()).filter(|index| family.has_children(*index));
    parents.map(|index| all[index].id.clone()).collect()
}

/// Its last name is not taken while containers use it, unless by force: then they go too.
pub fn remove_one(
    engine: &Engine,
    name: &str,
    how: Removal,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot remove image \"{name}\"");
    let own = engine.dirs.alone();
    if let Some(list) = image::lists::name_of(&own, name)? {
        return remove_list(engine, &list, outcome).with_context(cannot);
    }
    let (id, by_name) = match image::names::find_own(&engine.dirs, name) {
        Err(err) if how.force && !is_refusal(&err) => {
            let id = image::names::find_unreadable(&own, name)?;
            (id.ok_or(err).with_context(cannot)?, false)
        }
        // That there is none says all.
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => return Err(err),
        image => {
            let image = image.with_context(cannot)?;
            (image.id, !image.names.is_empty())
        }
    };
    let names = image::names::of(&own, &id)?.len();
    let goes = names <= 1 || !by_name && how.all_names;
    let parents = if goes && how.with_parents {
        parents_that_go(engine, &id)?
    } else {
        vec![]
    };
    if goes {
        free(engine, &id, name, how.force).with_context(cannot)?;
    }
    let removed = image::remove::take(&engine.dirs, name, how.all_names)?;
    for name in &removed.untagged {
        record(engine, "untag", &id, &name.to_string());
    }
    outcome.untagged.extend(removed.untagged);
    if let Some(id) = removed.deleted {
        record(engine, "remove", &id, name);
        outcome.deleted.push(id);
        for parent in parents {
            let hex = parent.hex();
            image::remove::take(&engine.dirs, hex, false).with_context(cannot)?;
            record(engine, "remove", &parent, hex);
            outcome.deleted.push(parent);
        }
    }
    Ok(())
}

/// There is nothing to be removed by force.
fn is_refusal(err: &anyhow::Error) -> bool {
    matches!(error::kind(err), Some(Kind::NotFound | Kind::Unsupported))
}

/// A list of images goes with its name; its images stay.
fn remove_list(engine: &Engine, list: &Name, outcome: &mut Outcome) -> anyhow::Result<()> {
    let _lock = Lock::shared(&engine.dirs.lock_file())?;
    image::names::remove(&engine.dirs, &list.reference)?;
    let name = list.reference.to_string();
    record(engine, "untag", &list.image, &name);
    outcome.untagged.push(list.reference.clone());
    let others = image::lists::all(&engine.dirs)?;
    if others.iter().all(|other| other.image != list.image) {
        record(engine, "remove", &list.image, &name);
        outcome.deleted.push(list.image.clone());
    }
    Ok(())
}

/// Sees to it that no container uses the image: by force they are removed.
pub fn free(engine: &Engine, id: &Digest, name: &str, force: bool) -> anyhow::Result<()> {
    let users = Container::list(&engine.dirs, drop)?.into_iter();
    let users: Vec<Container> = users
        .filter(|container| container.config.image_id == id.to_string())
        .collect();
    if force {
        for container in &users {
            remove::remove(engine, container, true, false)?;
        }
        if image_mounts::path(engine, id)?.is_some() {
            image_mounts::unmount(engine, id, true)?;
        }
        return Ok(());
    }
    if image_mounts::path(engine, id)?.is_some() {
        return Err(fail(Kind::Conflict, "it is mounted")).hint(format!(
            "unmount it with `rbox image unmount {name}`, or use `rbox rmi -f {name}`"
        ));
    }
    let names: Vec<&str> = users.iter().map(|one| one.name.as_str()).collect();
    let text = match names.as_slice() {
        [] => return Ok(()),
        [one] => format!("container \"{one}\" uses it"),
        several => format!("containers \"{}\" use it", several.join("\", \"")),
    };
    Err(fail(Kind::Conflict, text)).hint(format!(
        "remove the container with `rbox rm {}`, or use `rbox rmi -f {name}`",
        names.join(" ")
    ))
}

/// Images without a name from which nothing but this one was made, and that no container uses.
fn parents_that_go(engine: &Engine, id: &Digest) -> anyhow::Result<Vec<Digest>> {
    let images = image::list(&engine.dirs.alone(), drop)?;
    if images.iter().all(|image| !image.names.is_empty()) {
        return Ok(vec![]);
    }
    let all: Vec<&Image> = images.iter().collect();
    let family = Family::of(&engine.dirs, &all);
    let used = users(engine)?;
    let mut found = Vec::new();
    let mut child = images.iter().position(|image| image.id == *id);
    while let Some(parent) = child.and_then(|child| family.parent(child)) {
        let image = &images[parent];
        let children = (0..images.len()).filter(|one| family.parent(*one) == Some(parent));
        let in_use = used.contains_key(&image.id.to_string());
        if !image.names.is_empty() || children.count() > 1 || in_use {
            break;
        }
        found.push(image.id.clone());
        child = Some(parent);
    }
    Ok(found)
}

/// By the ids of images, the names of the containers that use them. A record that cannot be read is an
/// error: what its container uses is not known.
pub fn users(engine: &Engine) -> anyhow::Result<HashMap<String, Vec<String>>> {
    let mut users: HashMap<String, Vec<String>> = HashMap::new();
    for container in all_containers(engine)? {
        let names = users.entry(container.config.image_id).or_default();
        names.push(container.name);
    }
    Ok(users)
}

fn all_containers(engine: &Engine) -> anyhow::Result<Vec<Container>> {
    let mut damaged = None;
    let containers = Container::list(&engine.dirs, |one| damaged = Some(one.err))?;
    match damaged {
        Some(err) => Err(err),
        None => Ok(containers),
    }
}

/// Removes layers and blobs that neither images nor containers refer to.
pub fn collect(engine: &Engine) -> anyhow::Result<()> {
    image::remove::collect(&engine.dirs, &|| layers_in_use(engine))
}

/// Takes names from an image: these, or all. The image stays.
pub fn untag(engine: &Engine, image: &str, names: &[String]) -> anyhow::Result<()> {
    let cannot = || format!("cannot untag image \"{image}\"");
    let (id, _, is_list) = match stands_for(engine, image) {
        // That there is none says all.
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => return Err(err),
        found => found.with_context(cannot)?,
    };
    let _lock = Lock::shared(&engine.dirs.lock_file())?;
    let all = image::names::of(&engine.dirs.alone(), &id)?;
    let mut taken = Vec::new();
    for name in names {
        let (other, reference, _) = stands_for(engine, name).with_context(cannot)?;
        let Some(reference) = reference else {
            let text = format!("\"{name}\" is an id, and no name");
            return Err(fail(Kind::Usage, text)).with_context(cannot);
        };
        if other != id {
            let text = format!("\"{name}\" is the name of another image");
            return Err(fail(Kind::Conflict, text)).with_context(cannot);
        }
        taken.push(reference);
    }
    taken.sort();
    taken.dedup();
    let taken = if names.is_empty() { all.clone() } else { taken };
    if is_list && taken.len() == all.len() {
        let text = "it is a list, which has nothing but its name";
        return Err(fail(Kind::Conflict, text))
            .with_context(cannot)
            .hint(format!("`rbox manifest rm {image}` removes it"));
    }
    for name in &taken {
        image::names::remove(&engine.dirs, name)?;
        record(engine, "untag", &id, &name.to_string());
    }
    Ok(())
}

/// The image, or the list and `true`, that a text stands for, and the name by which it does.
fn stands_for(engine: &Engine, text: &str) -> anyhow::Result<(Digest, Option<Reference>, bool)> {
    if let Some(list) = image::lists::name_of(&engine.dirs.alone(), text)? {
        return Ok((list.image, Some(list.reference), true));
    }
    let image = image::names::find_own(&engine.dirs, text)?;
    Ok((image.id, image.names.into_iter().next(), false))
}

/// Gives an image a further name.
pub fn tag(engine: &Engine, image: &str, name: &str) -> anyhow::Result<()> {
    let name = image::tag(&engine.dirs, image, name)?.to_string();
    let image = image::find(&engine.dirs, &name)?;
    record(engine, "tag", &image.id, &name);
    Ok(())
}

/// Writes what happened to an image into the journal.
pub fn record(engine: &Engine, action: &str, id: &Digest, name: &str) {
    journal::add(&engine.dirs, &Event::new("image", action, id.hex(), name));
}

/// The image that rbox brings along. One of an older rbox goes when nothing uses it any more.
pub fn built_in(engine: &Engine) -> anyhow::Result<Image> {
    let before = image::find(&engine.dirs, image::hello::REFERENCE).ok();
    let image = image::hello::ensure(&engine.dirs, &image::progress::Silent)?;
    if let Some(before) = before
        && before.id != image.id
        && image::names::of(&engine.dirs, &before.id)?.is_empty()
    {
        // It stays where a container uses it.
        remove(engine, &[before.id.to_string()], Removal::default());
    }
    Ok(image)
}

/// The layers that containers stand on.
pub fn layers_in_use(engine: &Engine) -> anyhow::Result<HashSet<Digest>> {
    let containers = all_containers(engine)?;
    Ok(containers.iter().flat_map(layers_of).collect())
}

/// The layers of its root, and of images that are mounted in it.
pub fn layers_of(container: &Container) -> Vec<Digest> {
    let mounts = container.config.files.mounts.iter();
    let mounted = mounts.flat_map(|mount| match &mount.source {
        Source::Image { layers, .. } => layers.clone(),
        _ => vec![],
    });
    let own = container.config.layers.iter().cloned();
    own.chain(mounted).collect()
}
