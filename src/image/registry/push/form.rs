//! The manifest as it is pushed: byte for byte what came, unless layers have another form now, or another
//! type of manifest is asked for.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::error;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::Format;
use crate::image::compress::Recipe;
use crate::image::manifest::DOCKER_CONFIG;
use crate::image::manifest::DOCKER_LAYER;
use crate::image::manifest::DOCKER_MANIFEST;
use crate::image::manifest::Descriptor;
use crate::image::manifest::OCI_CONFIG;
use crate::image::manifest::OCI_LAYER;
use crate::image::manifest::OCI_MANIFEST;

/// The annotations by which readers know zstd:chunked.
pub const CHUNKED_CHECKSUM: &str = "io.github.containers.zstd-chunked.manifest-checksum";
const CHUNKED: &str = "io.github.containers.zstd-chunked.";

/// In which form an image is to be written, into a registry or into files.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The form of the layers; without it those that are compressed stay as they are.
    pub compression: Option<Format>,
    pub level: Option<i32>,
    /// Also where a layer need not be changed: the registry has it as it is, say.
    pub force: bool,
    /// The type of the manifest; without it, as it is.
    pub kind: Option<Kind>,
}

impl Wish {
    /// The form that a layer is to have, where that is another than it has. `usual` is what it becomes unasked.
    pub fn other(&self, format: Format, usual: Option<Format>) -> Option<Recipe> {
        let forced = self.force.then_some(Format::Gzip);
        let wanted = self.compression.or(forced).or(usual);
        let wanted = wanted.filter(|wanted| *wanted != format)?;
        Some(Recipe {
            format: wanted,
            level: self.level,
        })
    }

    /// The type of a manifest with such layers. Docker's has none of zstd.
    pub fn kind(&self, source: Kind, layers: impl IntoIterator<Item = Format>) -> Result<Kind> {
        let mut layers = layers.into_iter();
        let has_zstd = layers.any(|one| matches!(one, Format::Zstd | Format::ZstdChunked));
        match self.kind {
            Some(Kind::Docker) if has_zstd => {
                let text = "Docker's manifests have no layers of zstd";
                Err(fail(error::Kind::Usage, text)).hint("use --format oci")
            }
            Some(kind) => Ok(kind),
            None if has_zstd => Ok(Kind::Oci),
            None => Ok(source),
        }
    }
}

/// What a layer of zstd becomes in a manifest of Docker's.
pub fn usual(format: Format, kind: Option<Kind>) -> Option<Format> {
    let is_zstd = matches!(format, Format::Zstd | Format::ZstdChunked);
    (is_zstd && kind == Some(Kind::Docker)).then_some(Format::Gzip)
}

/// A type of manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Oci,
    Docker,
}

impl Kind {
    /// That of a media type; `None` for what is no image.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_MANIFEST => Some(Self::Oci),
            DOCKER_MANIFEST => Some(Self::Docker),
            _ => None,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Oci => Self::Docker,
            Self::Docker => Self::Oci,
        }
    }

    /// What a layer of this form is called; `None` where there is no such thing.
    pub fn layer(self, format: Format) -> Option<String> {
        Some(match (self, format) {
            (Self::Oci, Format::None) => OCI_LAYER.to_owned(),
            (Self::Oci, Format::Gzip) => format!("{OCI_LAYER}+gzip"),
            (Self::Oci, Format::Zstd | Format::ZstdChunked) => format!("{OCI_LAYER}+zstd"),
            (Self::Docker, Format::None) => DOCKER_LAYER.to_owned(),
            (Self::Docker, Format::Gzip) => format!("{DOCKER_LAYER}.gzip"),
            (Self::Docker, Format::Zstd | Format::ZstdChunked) => return None,
        })
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => OCI_CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }
}

/// The form of a layer by its descriptor; `None` for what is no layer of an image.
pub fn format_of(layer: &Descriptor) -> Option<Format> {
    let media_type = layer.media_type.as_str();
    let rest = media_type
        .strip_prefix(OCI_LAYER)
        .or_else(|| media_type.strip_prefix(DOCKER_LAYER))?;
    let annotations = layer.annotations.as_ref();
    match rest {
        "" => Some(Format::None),
        "+gzip" | ".gzip" => Some(Format::Gzip),
        "+zstd" | ".zstd" => Some(
            if annotations.is_some_and(|known| known.contains_key(CHUNKED_CHECKSUM)) {
                Format::ZstdChunked
            } else {
                Format::Zstd
            },
        ),
        _ => None,
    }
}

/// A layer's descriptor in this type of manifest.
pub fn layer(old: &Descriptor, new: &Descriptor, format: Format, kind: Kind) -> Result<Descriptor> {
    let Some(media_type) = kind.layer(format) else {
        bail!("layers of {} need an OCI manifest", format.name());
    };
    let mut annotations = old.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !key.starts_with(CHUNKED));
    annotations.extend(new.annotations.clone().unwrap_or_default());
    // Docker's manifests have no annotations.
    let keeps = kind == Kind::Oci && !annotations.is_empty();
    Ok(Descriptor {
        media_type,
        digest: new.digest.clone(),
        size: new.size,
        platform: None,
        annotations: keeps.then_some(annotations),
    })
}

/// The manifest with other layers, and of another type perhaps. What rbox does not know of an OCI manifest
/// stays in it, and is lost in one of Docker's.
pub fn rewrite(bytes: &[u8], layers: &[Descriptor], from: Kind, to: Kind) -> Result<Vec<u8>> {
    let old: Map<String, Value> =
        serde_json::from_slice(bytes).context("cannot read the manifest")?;
    let mut config = old.get("config").cloned().unwrap_or_default();
    if from == to {
        let mut new = old;
        new.insert("layers".to_owned(), serde_json::to_value(layers)?);
        return Ok(serde_json::to_vec(&new)?);
    }
    config["mediaType"] = json!(to.config());
    let mut new = json!({
        "schemaVersion": 2,
        "mediaType": to.media_type(),
        "config": { "mediaType": config["mediaType"], "size": config["size"], "digest": config["digest"] },
        "layers": layers,
    });
    if to == Kind::Oci
        && let Some(annotations) = old.get("annotations")
    {
        new["annotations"] = annotations.clone();
    }
    Ok(serde_json::to_vec(&new)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Digest;

    fn descriptor(media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::sha256_of(media_type.as_bytes()),
            size: 7,
            platform: None,
            annotations: None,
        }
    }

    #[test]
    fn forms_of_layers_are_told_by_their_types() {
        for kind in [Kind::Oci, Kind::Docker] {
            for format in [Format::None, Format::Gzip, Format::Zstd] {
                if let Some(media_type) = kind.layer(format) {
                    assert_eq!(format_of(&descriptor(&media_type)), Some(format));
                }
            }
            assert_eq!(Kind::of(kind.media_type()), Some(kind));
            assert_eq!(kind.other().other(), kind);
        }
        assert_eq!(Kind::Docker.layer(Format::Zstd), None);
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert_eq!(format_of(&descriptor(foreign)), None);
    }

    #[test]
    fn a_manifest_changes_its_type_and_keeps_what_it_can() {
        let layer = descriptor(&format!("{OCI_LAYER}+gzip"));
        let config = descriptor(OCI_CONFIG);
        let old = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config,
            "layers": [layer], "annotations": {"a": "b"}, "subject": {"x": 1}});
        let old = serde_json::to_vec(&old).unwrap();
        let changed = super::layer(&layer, &layer, Format::Gzip, Kind::Docker).unwrap();
        let docker = rewrite(&old, &[changed], Kind::Oci, Kind::Docker).unwrap();
        let read: Value = serde_json::from_slice(&docker).unwrap();
        assert_eq!(read["mediaType"], DOCKER_MANIFEST);
        assert_eq!(read["config"]["mediaType"], DOCKER_CONFIG);
        assert_eq!(
            read["layers"][0]["mediaType"],
            format!("{DOCKER_LAYER}.gzip")
        );
        assert!(read.get("annotations").is_none());
        let same = rewrite(&old, &[layer], Kind::Oci, Kind::Oci).unwrap();
        assert_eq!(same, old);
        let zstd = super::layer(&config, &config, Format::Zstd, Kind::Docker);
        assert!(zstd.is_err());
    }
}
