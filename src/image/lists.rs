//! Lists of images for several platforms, made here: a name that stands for an index (`names::Name::is_list`).
//! The index is a blob like any other; a change makes another blob, and the name points to that.

use std::collections::BTreeMap;
use std::collections::HashSet;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::manifest::OCI_INDEX;
use crate::image::names;
use crate::image::names::Name;
use crate::image::record;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

/// An index as it is written (OCI image specification).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub manifests: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Entry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context("cannot read the index")
    }

    pub fn written(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context("cannot write an index")
    }
}

/// One image of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<EntryPlatform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on, in all the words that an index has for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlatform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

impl From<&Platform> for EntryPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }
}

impl EntryPlatform {
    pub fn short(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }
}

/// A list of this store.
#[derive(Clone, Debug)]
pub struct List {
    pub reference: Reference,
    pub digest: Digest,
    pub index: Index,
    /// Where the images are that the store has not.
    pub sources: BTreeMap<Digest, String>,
}

/// Makes an empty list. `amend` takes one that is there.
pub fn create(dirs: &Dirs, name: &str, amend: bool) -> Result<List> {
    let reference = Reference::parse_in(name, names::LOCAL)?;
    let _changing = Lock::exclusive(&dirs.lists_lock())?;
    let _lock = Lock::shared(&dirs.lock_file())?;
    match names::by_name(dirs, &reference.to_string())? {
        Some(found) if found.is_list() && amend => return open(dirs, &found),
        Some(found) => {
            let what = if found.is_list() {
                "a list"
            } else {
                "an image"
            };
            let text = format!(
                "cannot create list \"{name}\": there is {what} of the name \"{reference}\""
            );
            return Err(fail(Kind::Conflict, text))
                .hint("use another name, or --amend to go on with a list");
        }
        None => {}
    }
    let mut list = List {
        reference,
        digest: Digest::sha256_of(b""),
        index: Index::empty(),
        sources: BTreeMap::new(),
    };
    save(dirs, &mut list)?;
    Ok(list)
}

/// The list of a name.
pub fn find(dirs: &Dirs, text: &str) -> Result<List> {
    let not_found = |what: &str| {
        fail(Kind::NotFound, format!("there is no {what} \"{text}\""))
            .hint("`rbox manifest create` makes a list")
    };
    if let Some(name) = name_of(dirs, text)? {
        return open(dirs, &name);
    }
    Err(not_found("manifest list"))
}

/// The name of a list, by a name or the start of its id.
pub fn name_of(dirs: &Dirs, text: &str) -> Result<Option<Name>> {
    // What is no name at all is no list's either.
    if let Ok(Some(name)) = names::by_name(dirs, text) {
        return Ok(Some(name).filter(Name::is_list));
    }
    let start = text.strip_prefix("sha256:").unwrap_or(text);
    if start.len() < 3 || !start.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut all = names::all(dirs)?.into_iter();
    Ok(all.find(|name| name.is_list() && name.image.hex().starts_with(start)))
}

/// All lists of the store, by name.
pub fn all(dirs: &Dirs) -> Result<Vec<Name>> {
    let mut all = names::all(dirs)?;
    all.retain(Name::is_list);
    Ok(all)
}

/// The manifests that lists have.
pub fn listed(dirs: &Dirs) -> Result<HashSet<Digest>> {
    let mut listed = HashSet::new();
    for name in all(dirs)? {
        // One that cannot be read keeps nothing.
        if let Ok(list) = open(dirs, &name) {
            listed.extend(list.index.manifests.into_iter().map(|entry| entry.digest));
        }
    }
    Ok(listed)
}

fn open(dirs: &Dirs, name: &Name) -> Result<List> {
    let bytes = blobs::get(dirs, &name.manifest_digest)
        .with_context(|| format!("cannot read list \"{}\"", name.reference))?;
    Ok(List {
        reference: name.reference.clone(),
        digest: name.manifest_digest.clone(),
        index: Index::parse(&bytes)?,
        sources: name.sources.clone(),
    })
}

/// Changes a list. Two commands that do so at once do it one after the other.
pub fn change(
    dirs: &Dirs,
    text: &str,
    change: impl FnOnce(&mut List) -> Result<()>,
) -> Result<List> {
    let _changing = Lock::exclusive(&dirs.lists_lock())?;
    let _lock = Lock::shared(&dirs.lock_file())?;
    let mut list = find(dirs, text)?;
    change(&mut list)?;
    save(dirs, &mut list)?;
    Ok(list)
}

fn save(dirs: &Dirs, list: &mut List) -> Result<()> {
    let bytes = list.index.written()?;
    list.digest = Digest::sha256_of(&bytes);
    list.sources.retain(|digest, _| {
        list.index
            .manifests
            .iter()
            .any(|entry| entry.digest == *digest)
    });
    blobs::put(dirs, &list.digest, &bytes)?;
    names::put(
        dirs,
        &Name {
            reference: list.reference.clone(),
            image: list.digest.clone(),
            manifest_digest: list.digest.clone(),
            sources: list.sources.clone(),
        },
    )
}

impl List {
    /// Puts an image in; one that is in already is replaced.
    pub fn put(&mut self, entry: Entry) {
        let at = self.index.manifests.iter();
        match at.clone().position(|other| other.digest == entry.digest) {
            Some(at) => self.index.manifests[at] = entry,
            None => self.index.manifests.push(entry),
        }
    }

    /// An image of the list by its digest, or by what names it in the store.
    pub fn entry(&mut self, dirs: &Dirs, text: &str) -> Result<&mut Entry> {
        let digest = match text.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => names::find(dirs, text)?.manifest_digest,
        };
        let name = &self.reference;
        let missing = format!("list \"{name}\" has no image \"{text}\"");
        let mut entries = self.index.manifests.iter_mut();
        entries
            .find(|entry| entry.digest == digest)
            .ok_or_else(|| fail(Kind::NotFound, missing))
    }
}

/// An image of the store as an entry.
pub fn entry_of(dirs: &Dirs, image: &Image) -> Result<Entry> {
    let bytes = blobs::get(dirs, &image.manifest_digest)?;
    Ok(Entry {
        media_type: image.media_type.clone(),
        digest: image.manifest_digest.clone(),
        size: bytes.len() as u64,
        platform: Some(EntryPlatform::from(&image.platform)),
        annotations: BTreeMap::new(),
    })
}

/// The image of a list that this machine would run, where the store has it.
pub fn image_for_host(dirs: &Dirs, name: &Name) -> Result<Image> {
    let cannot = || format!("cannot use list \"{}\"", name.reference);
    let bytes = blobs::get(dirs, &name.manifest_digest).with_context(cannot)?;
    let Document::Index(index) = manifest::parse(&bytes, None)? else {
        return Err(fail(Kind::NotFound, "it is no index")).with_context(cannot);
    };
    let chosen = manifest::choose(&index, &Platform::host())
        .map_err(|err| fail(Kind::NotFound, err.to_string()))
        .with_context(cannot)?;
    let mut images = record::all(dirs, drop)?.into_iter();
    images
        .find(|image| image.manifest_digest == chosen.digest)
        .ok_or_else(|| {
            let text = format!("its image {} is not in the store", chosen.digest.short());
            fail(Kind::NotFound, text).hint("`rbox pull` fetches the image")
        })
        .with_context(cannot)
}
