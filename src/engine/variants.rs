//! Removing some of the images that one name stands for, each for another platform.

use anyhow::Context;

use crate::engine::Engine;
use crate::engine::images;
use crate::engine::images::Outcome;
use crate::engine::images::Removal;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::lists;
use crate::image::names;
use crate::image::names::Name;
use crate::image::variant;
use crate::oci::platform::Platform;
use crate::store::lock::Lock;

/// Removes the images for these platforms. A name goes with the last image that it stands for.
pub fn remove(engine: &Engine, given: &[String], platforms: &[Platform], how: Removal) -> Outcome {
    images::remove_each(engine, given, |text, outcome| {
        let own = engine.dirs.alone();
        if lists::name_of(&own, text)?.is_none() {
            names::find_own(&engine.dirs, text)?;
        }
        let all = variant::all(&own, text)?;
        let is_meant = |image: &Image| {
            platforms
                .iter()
                .any(|wanted| is_same(wanted, &image.platform))
        };
        let (meant, others): (Vec<Image>, Vec<Image>) = all.iter().cloned().partition(is_meant);
        if meant.is_empty() {
            let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            return Err(variant::missing(text, &all, &wanted.join(", ")));
        }
        let name = names::by_name(&own, text)?;
        let Some(name) = name.filter(|name| !others.is_empty() || name.is_list()) else {
            return images::remove_one(engine, text, how, outcome);
        };
        meant.iter().try_for_each(|image| {
            one(engine, &name, image, &others, how, outcome)
                .with_context(|| format!("cannot remove image \"{text}\" for {}", image.platform))
        })
    })
}

/// A platform without a variant stands for all that there are of it.
fn is_same(wanted: &Platform, image: &Platform) -> bool {
    wanted.variant.is_some() && wanted.rank(image) == Some(0)
        || wanted.variant.is_none()
            && wanted.os == image.os
            && wanted.architecture == image.architecture
}

fn one(
    engine: &Engine,
    name: &Name,
    image: &Image,
    others: &[Image],
    how: Removal,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    names::find_own(&engine.dirs, &image.id.to_string())?;
    let mut more = names::of(&engine.dirs.alone(), &image.id)?;
    more.retain(|other| *other != name.reference);
    if let Some(other) = more.first() {
        let text = format!("it has the name \"{other}\" too");
        return Err(fail(Kind::Conflict, text))
            .hint(format!("remove that with `rbox rmi {other}`"));
    }
    images::free(engine, &image.id, &name.reference.to_string(), how.force)?;
    if name.image == image.id {
        lead_elsewhere(engine, name, others)?;
    }
    let removed = image::remove::take_nameless(&engine.dirs, &image.id)?;
    if let Some(id) = removed.deleted {
        images::record(engine, "remove", &id, &id.to_string());
        outcome.deleted.push(id);
    }
    Ok(())
}

/// Has a name lead to the best of the images that stay.
fn lead_elsewhere(engine: &Engine, name: &Name, others: &[Image]) -> anyhow::Result<()> {
    let host = Platform::host();
    let rank = |image: &&Image| host.rank(&image.platform).unwrap_or(u8::MAX);
    let Some(best) = others.iter().min_by_key(rank) else {
        return Ok(());
    };
    let _lock = Lock::shared(&engine.dirs.lock_file())?;
    let name = Name {
        image: best.id.clone(),
        ..name.clone()
    };
    names::put(&engine.dirs, &name)
}
