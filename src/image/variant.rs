//! One name may stand for images of several platforms, of which more than one may be in the store.

use std::fmt::Display;

use anyhow::Result;

use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::names;
use crate::image::names::Name;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::platform::Platform;
use crate::store::blobs;
use crate::store::dirs::Dirs;

/// The image that a text names, for a platform where one is wanted.
pub fn find(dirs: &Dirs, text: &str, wanted: Option<&Platform>) -> Result<Image> {
    let Some(wanted) = wanted else {
        return names::find(dirs, text);
    };
    let all = all(dirs, text)?;
    let best = all
        .iter()
        .filter_map(|image| Some((wanted.rank(&image.platform)?, image)))
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, image)| image.clone())
        .ok_or_else(|| missing(text, &all, wanted))
}

/// The images that a text names: of the index that its name stands for those that the store has, the one
/// that the name leads to first.
pub fn all(dirs: &Dirs, text: &str) -> Result<Vec<Image>> {
    let found = names::find(dirs, text);
    let name = names::by_name(dirs, text).ok().flatten();
    let mut all = match found {
        Ok(image) => vec![image],
        // A list need have none for this machine.
        Err(err) if name.as_ref().is_some_and(Name::is_list) => match error::kind(&err) {
            Some(Kind::NotFound) => vec![],
            _ => return Err(err),
        },
        Err(err) => return Err(err),
    };
    let Some(name) = name else {
        return Ok(all);
    };
    let bytes = blobs::get(dirs, &name.manifest_digest).unwrap_or_default();
    let Ok(Document::Index(index)) = manifest::parse(&bytes, None) else {
        return Ok(all);
    };
    for mut other in record::all(dirs, drop)? {
        let listed = index.iter().any(|one| one.digest == other.manifest_digest);
        if listed && all.iter().all(|known| known.id != other.id) {
            other.names = vec![name.reference.clone()];
            all.push(other);
        }
    }
    Ok(all)
}

/// None of these is for the platform.
pub fn missing(text: &str, all: &[Image], wanted: &impl Display) -> anyhow::Error {
    let have: Vec<String> = all.iter().map(|image| image.platform.to_string()).collect();
    if have.is_empty() {
        let text = format!("no image of list \"{text}\" is in the store");
        return fail(Kind::NotFound, text).hint("`rbox pull` fetches one");
    }
    let text = format!(
        "image \"{text}\" is in the store for {}, and not for {wanted}",
        have.join(", ")
    );
    fail(Kind::NotFound, text).hint(format!("`rbox pull --platform {wanted}` fetches it"))
}
