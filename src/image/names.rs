//! Names of images: finding, listing, tagging. `images/refs/` holds one record a name.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::config::FromImage;
use crate::image::lists;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference;
use crate::oci::reference::Reference;
use crate::store;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;
use crate::store::record::Record;
use crate::sys::parallel;

/// Where names without a registry are put.
pub const LOCAL: &str = "localhost";
/// The shortest start of an image ID that is looked for.
const ID_MIN: usize = 3;
/// Longest file name of the file systems in use (NAME_MAX is 255), with room for an ending.
const FILE_NAME_MAX: usize = 240;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Name {
    pub reference: Reference,
    pub image: Digest,
    pub manifest_digest: Digest,
    /// Of a local list: the repositories that have the images which are not in the store, by the digests of
    /// their manifests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<Digest, String>,
}

impl Name {
    /// Whether it is that of a list made here (see `image::lists`): it stands for an index, and for no image.
    pub fn is_list(&self) -> bool {
        self.image == self.manifest_digest
    }
}

impl Record for Name {
    const NOUN: &'static str = "image name";
    const VERSION: u32 = 1;
    const OPEN: bool = true;
}

fn path(dirs: &Dirs, reference: &Reference) -> PathBuf {
    let text = reference.to_string();
    let escaped = text.replace('/', "%2F").replace('@', "%40");
    if escaped.len() <= FILE_NAME_MAX {
        return dirs.image_refs().join(escaped);
    }
    let digest = Digest::sha256_of(text.as_bytes());
    dirs.image_refs().join(format!("%long-{}", digest.hex()))
}

/// Gives an image a name, taking it from another that has it. The caller holds the store lock.
pub fn save(dirs: &Dirs, reference: &Reference, image: &Image) -> Result<()> {
    save_as(dirs, reference, image, &image.manifest_digest)
}

/// The same where the registry has the name for another digest: that of an index, say.
pub fn save_as(dirs: &Dirs, reference: &Reference, image: &Image, digest: &Digest) -> Result<()> {
    let name = Name {
        reference: reference.clone(),
        image: image.id.clone(),
        manifest_digest: digest.clone(),
        sources: BTreeMap::new(),
    };
    put(dirs, &name)?;
    // Whoever removes an image without a name may not have seen this one; `remove` looks from the other side.
    if !record::path(dirs, &image.id).exists() {
        // It may be an additional store's until now.
        for digest in [&image.id, &image.manifest_digest, digest] {
            if let Ok(bytes) = blobs::get(dirs, digest) {
                blobs::put(dirs, digest, &bytes)?;
            }
        }
        record::save(dirs, image)?;
    }
    Ok(())
}

/// Writes a name as it is. The caller holds the store lock.
pub fn put(dirs: &Dirs, name: &Name) -> Result<()> {
    let reference = &name.reference;
    store::record::save(&path(dirs, reference), name, Durability::Durable)
        .with_context(|| format!("cannot name image \"{reference}\""))
}

/// Takes a name away.
pub fn remove(dirs: &Dirs, reference: &Reference) -> Result<()> {
    let removed = std::fs::remove_file(path(dirs, reference));
    removed.with_context(|| format!("cannot untag image \"{reference}\""))?;
    atomic::sync_dir(&dirs.image_refs())
}

/// All names. A damaged record is passed over.
pub fn all(dirs: &Dirs) -> Result<Vec<Name>> {
    all_readable(dirs, drop)
}

/// The same; `bad` hears of those that cannot be read.
pub fn all_readable(dirs: &Dirs, mut bad: impl FnMut(anyhow::Error)) -> Result<Vec<Name>> {
    let paths = dirs.entries(Dirs::image_refs, &mut bad)?;
    let mut names: Vec<Name> = Vec::with_capacity(paths.len());
    for read in parallel::map(&paths, |path| store::record::load_if_present(path)) {
        match read {
            Ok(name) => names.extend(name),
            Err(err) => bad(err),
        }
    }
    names.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(names)
}

/// The file of each name, and what is in it.
pub fn records(dirs: &Dirs) -> Result<Vec<(PathBuf, Result<Name>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dirs.image_refs())? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // It may have been removed since it was listed.
        let read = store::record::load_if_present(&entry.path()).transpose();
        found.extend(read.map(|read| (entry.path(), read)));
    }
    Ok(found)
}

/// Whether it is the name of several images, and of none itself.
pub fn leads_to_index(dirs: &Dirs, name: &Name) -> bool {
    let bytes = blobs::get(dirs, &name.manifest_digest).unwrap_or_default();
    matches!(manifest::parse(&bytes, None), Ok(Document::Index(_)))
}

/// An image with all its names.
#[derive(Clone, Debug)]
pub struct Named {
    pub image: Image,
    pub names: Vec<Name>,
}

/// All images, the newest first; `bad` hears of those whose record, or whose name's, cannot be read.
pub fn all_named(dirs: &Dirs, bad: impl FnMut(anyhow::Error)) -> Result<Vec<Named>> {
    Ok(images_and_others(dirs, bad)?.0)
}

/// The same with the lists for several platforms that were made here, each as an image without layers.
pub fn all_with_lists(dirs: &Dirs, bad: impl FnMut(anyhow::Error)) -> Result<Vec<Named>> {
    let (mut found, others) = images_and_others(dirs, bad)?;
    let lists = others.into_iter().filter_map(|(id, mut names)| {
        names.retain(Name::is_list);
        (!names.is_empty())
            .then(|| of_list(dirs, id, names))
            .flatten()
    });
    found.extend(lists);
    Ok(found)
}

/// Images, and the names of what is none.
#[expect(clippy::type_complexity, reason = "named by its parts")]
fn images_and_others(
    dirs: &Dirs,
    mut bad: impl FnMut(anyhow::Error),
) -> Result<(Vec<Named>, BTreeMap<Digest, Vec<Name>>)> {
    let mut by_image: BTreeMap<Digest, Vec<Name>> = BTreeMap::new();
    for name in all_readable(dirs, &mut bad)? {
        by_image.entry(name.image.clone()).or_default().push(name);
    }
    let images = record::all(dirs, bad)?.into_iter();
    let mut found: Vec<Named> = images
        .map(|mut image| {
            let names = by_image.remove(&image.id).unwrap_or_default();
            image.names = names.iter().map(|name| name.reference.clone()).collect();
            Named { image, names }
        })
        .collect();
    // RFC 3339 in UTC sorts as text.
    found.sort_by(|a, b| {
        let newest = b.image.created.cmp(&a.image.created);
        newest.then_with(|| a.image.id.cmp(&b.image.id))
    });
    Ok((found, by_image))
}

fn of_list(dirs: &Dirs, id: Digest, names: Vec<Name>) -> Option<Named> {
    let metadata = blobs::path(dirs, &id).metadata().ok()?;
    let made = jiff::Timestamp::try_from(metadata.modified().ok()?).ok();
    let image = Image {
        manifest_digest: id.clone(),
        id,
        media_type: manifest::OCI_INDEX.to_owned(),
        layers: vec![],
        platform: Platform {
            os: String::new(),
            architecture: String::new(),
            variant: None,
        },
        created: made.map(|made| made.to_string()),
        size: metadata.len(),
        config: FromImage::default(),
        made: true,
        store: None,
        names: names.iter().map(|name| name.reference.clone()).collect(),
    };
    Some(Named { image, names })
}

/// All names of one image.
pub fn of(dirs: &Dirs, id: &Digest) -> Result<Vec<Reference>> {
    let names = all(dirs)?.into_iter();
    Ok(names
        .filter(|name| name.image == *id)
        .map(|name| name.reference)
        .collect())
}

/// All images with all their names; `bad` hears of those whose record cannot be read.
pub fn list(dirs: &Dirs, bad: impl FnMut(anyhow::Error)) -> Result<Vec<Image>> {
    let found = all_named(dirs, bad)?.into_iter();
    Ok(found.map(|named| named.image).collect())
}

/// Finds an image in the user's own store. That it is in an additional one is an error of its own.
pub fn find_own(dirs: &Dirs, text: &str) -> Result<Image> {
    match find(&dirs.alone(), text) {
        Err(err) if crate::error::kind(&err) == Some(Kind::NotFound) => {
            let Some(store) = find(dirs, text).ok().and_then(|image| image.store) else {
                return Err(err);
            };
            let store = store.display();
            let text = format!("it is in additional store \"{store}\", which is read-only");
            Err(fail(Kind::Unsupported, text).hint(format!(
                "the owner of the store removes it with `rbox --imagestore {store} rmi`"
            )))
        }
        found => found,
    }
}

/// Finds an image by a name or by (the start of) its ID. A name without a registry is looked for
/// in `localhost`, then in Docker's, then wherever it is unique.
pub fn find(dirs: &Dirs, text: &str) -> Result<Image> {
    let not_found = || {
        let err = fail(Kind::NotFound, format!("there is no image \"{text}\""));
        match dirs.unusable.iter().find(|store| !store.foreign) {
            Some(store) => err.hint(format!("{store}; `rbox pull` fetches images into your own")),
            None => err.hint("`rbox images` lists those in the store, `rbox pull` fetches one"),
        }
    };
    if let Ok(id) = text.parse::<Digest>() {
        return by_id(dirs, text, id.hex())?.ok_or_else(not_found);
    }
    if let Some(found) = by_name(dirs, text)? {
        let mut image = if found.is_list() {
            lists::image_for_host(dirs, &found)?
        } else {
            record::load(dirs, &found.image)?
        };
        image.names = vec![found.reference];
        return Ok(image);
    }
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let start = text.strip_prefix("sha256:").unwrap_or(text);
    if start.len() >= ID_MIN && is_hex(start) {
        return by_id(dirs, text, start)?.ok_or_else(not_found);
    }
    // A text that can be no name at all says why; one with capital letters, say.
    text.parse::<Reference>()?;
    Err(not_found())
}

fn by_id(dirs: &Dirs, text: &str, start: &str) -> Result<Option<Image>> {
    let path = path_by_id(dirs, text, start)?;
    path.map(|path| record::load_from(dirs, &path)).transpose()
}

/// The digest of an image whose record cannot be read.
pub fn find_unreadable(dirs: &Dirs, text: &str) -> Result<Option<Digest>> {
    if let Some(found) = by_name(dirs, text).ok().flatten() {
        return Ok(Some(found.image));
    }
    let start = text.strip_prefix("sha256:").unwrap_or(text);
    let path = path_by_id(dirs, text, start)?;
    let hex = path.as_deref().and_then(Path::file_stem);
    Ok(hex.and_then(|hex| Digest::of_hex(hex.to_str()?)))
}

fn path_by_id(dirs: &Dirs, text: &str, start: &str) -> Result<Option<PathBuf>> {
    let mut found = dirs.entries(Dirs::image_ids, drop)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hex = name.strip_suffix(".json");
        hex.is_some_and(|hex| hex.starts_with(start))
    });
    match found.as_slice() {
        [] => Ok(None),
        [path] => Ok(Some(path.clone())),
        several => Err(fail(
            Kind::Conflict,
            format!("\"{text}\" is the start of {} image IDs", several.len()),
        )
        .hint("give more digits of the ID")),
    }
}

/// The name that a text stands for.
pub fn by_name(dirs: &Dirs, text: &str) -> Result<Option<Name>> {
    let candidates: Vec<Reference> = [
        Reference::parse_in(text, LOCAL).ok(),
        text.parse::<Reference>().ok(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some(first) = candidates.first() else {
        return Ok(None);
    };
    for reference in &candidates {
        if let Some(name) = exact(dirs, reference)? {
            return Ok(Some(name));
        }
    }
    if reference::is_qualified(text) && first.digest().is_none() {
        return Ok(None);
    }
    let fits = |name: &Name| {
        let other = &name.reference;
        let same_place = reference::is_qualified(text).then_some(first.registry());
        same_place.is_none_or(|registry| registry == other.registry())
            && other.repository() == first.repository()
            && match first.digest() {
                // Of an index, or of the image in it.
                Some(digest) => {
                    name.manifest_digest == *digest
                        || record::load(dirs, &name.image)
                            .is_ok_and(|image| image.manifest_digest == *digest)
                }
                None => other.tag() == first.tag(),
            }
    };
    let mut found: Vec<Name> = all(dirs)?.into_iter().filter(fits).collect();
    found.dedup_by(|a, b| a.image == b.image);
    match found.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(name.clone())),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|name| name.reference.to_string())
                .collect();
            Err(fail(
                Kind::Conflict,
                format!(
                    "\"{text}\" is the name of several images: {}",
                    names.join(", ")
                ),
            )
            .hint("give the full name of one of them"))
        }
    }
}

/// The digest that a registry has, or had, for a name that is here.
pub fn digest(dirs: &Dirs, reference: &Reference) -> Result<Option<Digest>> {
    Ok(exact(dirs, reference)?.map(|name| name.manifest_digest))
}

fn exact(dirs: &Dirs, reference: &Reference) -> Result<Option<Name>> {
    let key = match reference.digest() {
        Some(digest) => reference.by_digest(digest.clone()),
        None => reference.clone(),
    };
    let mut stores = dirs.all();
    let found = stores.find_map(|store| {
        let read = store::record::load_if_present(&path(store, &key));
        read.transpose()
    });
    found.transpose()
}

/// A name that an image is to be given.
pub fn parse_new(text: &str) -> Result<Reference> {
    let reference = Reference::parse_in(text, LOCAL)?;
    if reference.digest().is_some() {
        let text = format!("\"{text}\" has a digest, which no new name can have");
        return Err(fail(Kind::Usage, text));
    }
    Ok(reference)
}

/// Gives an image another name, and returns it in full.
pub fn tag(dirs: &Dirs, image: &str, new_name: &str) -> Result<Reference> {
    let reference = parse_new(new_name)?;
    let _lock = Lock::shared(&dirs.lock_file())?;
    if let Some(list) = by_name(dirs, image)?.filter(Name::is_list) {
        put(
            dirs,
            &Name {
                reference: reference.clone(),
                ..list
            },
        )?;
        return Ok(reference);
    }
    let image = find(dirs, image)?;
    save(dirs, &reference, &image)?;
    Ok(reference)
}
