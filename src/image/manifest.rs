//! Manifests and indexes, OCI's and Docker's (version 2, schema 2): what rbox needs of them. Their
//! bytes are kept as they came; nothing that came is ever written back from these types.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::oci::digest::Digest;
use crate::oci::platform::Platform;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// The largest manifest that is read (distribution specification: "at least 4 megabytes").
pub const MANIFEST_MAX: u64 = 4 << 20;
/// The largest image config that is read.
pub const CONFIG_MAX: u64 = 8 << 20;
/// More layers than overlayfs can stack are of no use (OVL_MAX_STACK).
const LAYERS_MAX: usize = 500;
/// Indexes may list indexes; nobody needs more than this, in depth or in all.
const INDEX_DEPTH_MAX: usize = 4;
const INDEXES_MAX: usize = 32;
/// Manifests and indexes that are in memory at once, and their bytes.
const LISTED_MAX: usize = 500;
const LISTED_BYTES_MAX: usize = 32 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// What stands under a name: one image, or several to choose from.
#[derive(Clone, Debug)]
pub enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// The manifest of one image as it was read, and verified.
#[derive(Clone, Debug)]
pub struct Found {
    pub manifest: Manifest,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

/// Reads a manifest or index. `media_type` is what the server or the descriptor calls it; it must
/// agree with the document, which must not be both at once (CVE-2021-41190).
pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        schema_version: Option<u32>,
        media_type: Option<String>,
        config: Option<Descriptor>,
        layers: Option<Vec<Descriptor>>,
        manifests: Option<Vec<Descriptor>>,
        fs_layers: Option<serde::de::IgnoredAny>,
    }
    check_keys(bytes)?;
    let raw: Raw = serde_json::from_slice(bytes).context("cannot read the manifest")?;
    let told = media_type
        .map(|text| text.split(';').next().unwrap_or(text).trim())
        .filter(|text| !text.is_empty());
    if raw.schema_version == Some(1) || told.is_some_and(|text| text.starts_with(DOCKER_SCHEMA_1)) {
        bail!("cannot read the manifest: Docker's manifests of schema 1 are not supported");
    }
    if let (Some(told), Some(own)) = (told, &raw.media_type)
        && told != own
        && is_known(told)
    {
        bail!("cannot read the manifest: it was announced as {told} and calls itself {own}");
    }
    let media_type = raw.media_type.as_deref().or(told).unwrap_or_default();
    let is_index = matches!(media_type, OCI_INDEX | DOCKER_INDEX);
    let is_manifest = matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST);
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if !is_manifest && raw.fs_layers.is_none() => {
            Ok(Document::Index(manifests))
        }
        (None, Some(config), layers) if !is_index && raw.fs_layers.is_none() => {
            let layers = layers.unwrap_or_default();
            if layers.len() > LAYERS_MAX {
                bail!(
                    "cannot read the manifest: {} layers, and {LAYERS_MAX} are the most that can be stacked",
                    layers.len()
                );
            }
            Ok(Document::Manifest(Manifest {
                media_type: if media_type.is_empty() {
                    OCI_MANIFEST.to_owned()
                } else {
                    media_type.to_owned()
                },
                config,
                layers,
            }))
        }
        _ => bail!("cannot read the manifest: it is neither an image nor an index of images"),
    }
}

/// One document must say the same to everybody. Go's JSON takes keys in any case, and serde lists in place of
/// objects.
fn check_keys(bytes: &[u8]) -> Result<()> {
    const KNOWN: [&str; 6] = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
    ];
    let document: BTreeMap<String, &RawValue> =
        serde_json::from_slice(bytes).context("cannot read the manifest")?;
    let is_other = |key: &&String| {
        KNOWN
            .iter()
            .any(|known| known.eq_ignore_ascii_case(key) && known != key)
    };
    match document.keys().find(is_other) {
        Some(key) => bail!("cannot read the manifest: not everybody takes {key:?} for the same"),
        None => Ok(()),
    }
}

fn is_known(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_INDEX
    )
}

/// Refuses an image with layers that are to be had elsewhere than in a registry, by the URLs of their
/// descriptors: whoever makes an image would have us ask any server, and show the registry's users to it
/// (CVE-2020-15157).
pub fn refuse_foreign(manifest: &Manifest) -> Result<()> {
    let is_foreign = |layer: &&Descriptor| {
        let kind = &layer.media_type;
        kind.starts_with("application/vnd.docker.image.rootfs.foreign.")
            || kind.starts_with("application/vnd.oci.image.layer.nondistributable.")
    };
    match manifest.layers.iter().find(is_foreign) {
        Some(layer) => bail!(
            "layer {} is foreign: such layers are kept elsewhere than in registries, and rbox does not fetch them",
            layer.digest.short()
        ),
        None => Ok(()),
    }
}

/// Reads what a descriptor names, verified, and what it is called there.
pub type Reader<'a> = dyn Fn(&Descriptor) -> Result<(Vec<u8>, Option<String>)> + 'a;

/// Follows an index, and those that it lists, to the image for a platform.
pub fn resolve(index: &[Descriptor], wanted: &Platform, read: &Reader<'_>) -> Result<Found> {
    let mut search = Search {
        wanted,
        read,
        left: INDEXES_MAX,
        offered: Vec::new(),
    };
    let found = search.index(index, INDEX_DEPTH_MAX)?;
    found.ok_or_else(|| nothing_for(wanted, &search.offered))
}

struct Search<'a> {
    wanted: &'a Platform,
    read: &'a Reader<'a>,
    /// Indexes that may still be read.
    left: usize,
    /// All that has been seen.
    offered: Vec<Descriptor>,
}

impl Search<'_> {
    fn index(&mut self, index: &[Descriptor], depth: usize) -> Result<Option<Found>> {
        self.offered.extend_from_slice(index);
        for descriptor in fitting(index, self.wanted) {
            let (bytes, media_type) = (self.read)(descriptor)?;
            let inner = match parse(&bytes, media_type.as_deref())? {
                Document::Manifest(manifest) => {
                    let digest = descriptor.digest.clone();
                    return Ok(Some(Found {
                        manifest,
                        digest,
                        bytes,
                    }));
                }
                Document::Index(inner) => inner,
            };
            if depth == 1 {
                bail!("its indexes are nested more than {INDEX_DEPTH_MAX} deep");
            }
            if self.left == 0 {
                bail!("it lists more than {INDEXES_MAX} indexes");
            }
            self.left -= 1;
            if let Some(found) = self.index(&inner, depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// All images that descriptors lead to, through indexes. What says that it is for no platform, such as an
/// attestation, is none.
pub fn all(listed: &[Descriptor], read: &Reader<'_>) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut queue: VecDeque<Descriptor> = listed.iter().cloned().collect();
    let (mut count, mut size) = (0, 0);
    while let Some(descriptor) = queue.pop_front() {
        let platform = descriptor.platform.as_ref();
        if platform.is_some_and(|platform| platform.os == "unknown") {
            continue;
        }
        let (bytes, media_type) = read(&descriptor)?;
        (count, size) = (count + 1, size + bytes.len());
        if count > LISTED_MAX || size > LISTED_BYTES_MAX {
            bail!("it lists more images than are read at once");
        }
        match parse(&bytes, media_type.as_deref())? {
            Document::Index(inner) => queue.extend(inner),
            Document::Manifest(manifest) => {
                let digest = descriptor.digest;
                if found.iter().all(|other| other.digest != digest) {
                    found.push(Found {
                        manifest,
                        digest,
                        bytes,
                    });
                }
            }
        }
        if queue.len() > LISTED_MAX {
            bail!("it lists more images than are read at once");
        }
    }
    Ok(found)
}

/// What may be for a platform, the best first.
fn fitting<'a>(index: &'a [Descriptor], wanted: &Platform) -> Vec<&'a Descriptor> {
    let rank = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) => wanted.rank(platform),
        // An index of one image may leave the platform out, and one of indexes does.
        None => Some(u8::MAX),
    };
    let ranked = index.iter().filter_map(|one| Some((rank(one)?, one)));
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, one)| one).collect()
}

/// The image of an index that fits a platform best.
pub fn choose<'a>(index: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor> {
    if let Some(best) = fitting(index, wanted).first() {
        return Ok(best);
    }
    Err(nothing_for(wanted, index))
}

fn nothing_for(wanted: &Platform, index: &[Descriptor]) -> anyhow::Error {
    let mut offered: Vec<String> = index
        .iter()
        .filter_map(|descriptor| descriptor.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    offered.dedup();
    if offered.is_empty() {
        offered.push("nothing".to_owned());
    }
    anyhow!(
        "there is no image for {wanted}, only for {}",
        offered.join(", ")
    )
}

/// The bytes of a manifest that is made here.
pub fn write(manifest: &Manifest) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        schema_version: u32,
        media_type: &'a str,
        config: &'a Descriptor,
        layers: &'a [Descriptor],
    }
    let written = Written {
        schema_version: 2,
        media_type: &manifest.media_type,
        config: &manifest.config,
        layers: &manifest.layers,
    };
    serde_json::to_vec(&written).context("cannot write a manifest")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(platform: &str) -> String {
        let hex = "a".repeat(64);
        let platform = match platform.parse::<Platform>() {
            Ok(platform) => serde_json::to_string(&platform).unwrap(),
            Err(_) => "null".to_owned(),
        };
        format!(r#"{{"mediaType":"x","digest":"sha256:{hex}","size":3,"platform":{platform}}}"#)
    }

    #[test]
    fn images_and_indexes_are_told_apart_and_never_both() {
        let one = descriptor("");
        let image = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{one}]}}"#);
        assert!(matches!(
            parse(image.as_bytes(), Some(OCI_MANIFEST)),
            Ok(Document::Manifest(_))
        ));
        assert!(matches!(
            parse(image.as_bytes(), None),
            Ok(Document::Manifest(_))
        ));
        assert!(matches!(
            parse(index.as_bytes(), Some("text/plain")),
            Ok(Document::Index(_))
        ));
        let both = format!(r#"{{"manifests":[{one}],"config":{one},"layers":[]}}"#);
        let named = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[{one}]}}"#);
        let list = format!(r#"[2,"{OCI_MANIFEST}",{one},[{one}],null,null]"#);
        let upper = format!(r#"{{"config":{one},"layers":[{one}],"Layers":[]}}"#);
        let twice = format!(r#"{{"config":{one},"layers":[{one}],"layers":[]}}"#);
        for (text, told) in [
            (both.as_str(), None),
            (index.as_str(), Some(OCI_MANIFEST)),
            (image.as_str(), Some(DOCKER_INDEX)),
            (named.as_str(), Some(OCI_MANIFEST)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            (list.as_str(), None),
            (upper.as_str(), None),
            (twice.as_str(), None),
            ("{}", None),
            ("<html>", None),
        ] {
            assert!(parse(text.as_bytes(), told).is_err(), "{text}");
        }
    }

    #[test]
    fn the_platform_is_chosen_or_those_offered_are_named() {
        let index: Vec<Descriptor> = ["linux/arm64", "linux/amd64", "unknown/unknown"]
            .iter()
            .map(|platform| serde_json::from_str(&descriptor(platform)).unwrap())
            .collect();
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(choose(&index, &wanted).unwrap(), &index[1]);
        let wanted: Platform = "linux/s390x".parse().unwrap();
        assert_eq!(
            choose(&index, &wanted).unwrap_err().to_string(),
            "there is no image for linux/s390x, only for linux/arm64, linux/amd64"
        );
    }
}
