//! One name may stand for images of several platforms, of which more than one may be in the store.

use anyhow::Result;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::names;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::platform::Platform;
use crate::store::blobs;
use crate::store::dirs::Dirs;

/// The image of a name for a platform: the one that was found, or another that the same index lists.
pub fn of(dirs: &Dirs, image: Image, wanted: &Platform) -> Result<Image> {
    if wanted.rank(&image.platform).is_some() {
        return Ok(image);
    }
    let name = image.names.first().cloned();
    let index = name
        .as_ref()
        .and_then(|name| names::digest(dirs, name).ok().flatten())
        .and_then(|digest| blobs::get(dirs, &digest).ok())
        .and_then(|bytes| manifest::parse(&bytes, None).ok());
    if let Some(Document::Index(index)) = index
        && let Ok(chosen) = manifest::choose(&index, wanted)
        && let Some(mut other) = record::all(dirs, drop)?
            .into_iter()
            .find(|other| other.manifest_digest == chosen.digest)
    {
        other.names = image.names;
        return Ok(other);
    }
    let text = match name {
        Some(name) => name.to_string(),
        None => image.id.to_string(),
    };
    let message = format!(
        "image \"{text}\" is in the store for {}, and not for {wanted}",
        image.platform
    );
    Err(fail(Kind::NotFound, message))
        .hint(format!("`rbox pull --platform {wanted} {text}` fetches it"))
}
