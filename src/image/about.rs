//! What the config and the manifest of an image tell people: its history, author, comment. Read from the
//! kept bytes where it is asked for; nothing here decides how a container is run.

use std::collections::BTreeMap;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::record::Image;
use crate::oci::digest::Digest;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::sys::parallel;

/// Written by the author of the image, all of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct About {
    #[serde(deserialize_with = "lenient")]
    pub author: String,
    #[serde(deserialize_with = "lenient")]
    pub comment: String,
    /// Of the Docker that made it.
    #[serde(deserialize_with = "lenient")]
    pub docker_version: String,
    /// `config` as it stands.
    #[serde(deserialize_with = "lenient")]
    pub config: Value,
    #[serde(deserialize_with = "lenient")]
    pub history: Vec<Step>,
    /// Of the manifest.
    #[serde(skip)]
    pub annotations: BTreeMap<String, String>,
}

/// A step in the making of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Step {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub created: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It changed no file.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What is of another kind than it should be counts as absent.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Reads what an image tells of itself.
pub fn read(dirs: &Dirs, image: &Image) -> Result<About> {
    let bytes = blobs::get(dirs, &image.id)?;
    let mut about: About =
        serde_json::from_slice(&bytes).context("cannot read the image config")?;
    about.annotations = annotations(dirs, image);
    Ok(about)
}

/// The blobs that an image has: config, manifest, and its layers as they came.
pub fn blobs(dirs: &Dirs, image: &Image) -> Vec<Digest> {
    let mut found = vec![image.id.clone(), image.manifest_digest.clone()];
    let bytes = blobs::get(dirs, &image.manifest_digest).unwrap_or_default();
    if let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, None) {
        found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
    }
    found
}

fn annotations(dirs: &Dirs, image: &Image) -> BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Annotated {
        #[serde(deserialize_with = "lenient")]
        annotations: BTreeMap<String, String>,
    }
    let bytes = blobs::get(dirs, &image.manifest_digest).unwrap_or_default();
    let read: Annotated = serde_json::from_slice(&bytes).unwrap_or_default();
    read.annotations
}

/// Which image was made from which: one is the parent of another where its layers and its history are
/// the beginning of the other's.
pub struct Family {
    /// By the index of the image.
    parents: Vec<Option<usize>>,
}

impl Family {
    /// Images whose config cannot be read have no parent, and are none.
    pub fn of(dirs: &Dirs, images: &[&Image]) -> Family {
        let histories = parallel::map(images, |image| {
            let bytes = blobs::get(dirs, &image.id).ok()?;
            let about: About = serde_json::from_slice(&bytes).ok()?;
            Some(about.history)
        });
        let mut by_bottom: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, image) in images.iter().enumerate() {
            if let Some(bottom) = image.layers.first() {
                by_bottom.entry(bottom.hex()).or_default().push(index);
            }
        }
        let parents = images.iter().enumerate().map(|(index, image)| {
            let history = histories[index].as_ref()?;
            let candidates = by_bottom.get(image.layers.first()?.hex())?;
            let before = |other: &usize| {
                let Some(older) = &histories[*other] else {
                    return false;
                };
                *other != index
                    && !older.is_empty()
                    && older.len() < history.len()
                    && history.starts_with(older)
                    && image.layers.starts_with(&images[*other].layers)
            };
            let steps = |other: &usize| histories[*other].as_ref().map_or(0, Vec::len);
            candidates.iter().copied().filter(before).max_by_key(steps)
        });
        Family {
            parents: parents.collect(),
        }
    }

    pub fn parent(&self, index: usize) -> Option<usize> {
        self.parents[index]
    }

    pub fn has_children(&self, index: usize) -> bool {
        self.parents.contains(&Some(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_count_as_absent() {
        let text = r#"{"author":7,"comment":null,"history":[{"created":null,"created_by":"x","empty_layer":true},
            {"created_by":["a"],"empty_layer":"yes"}],"config":{"Env":["A=b"]},"docker_version":"1"}"#;
        let about: About = serde_json::from_str(text).unwrap();
        assert_eq!(about.author, "");
        assert_eq!(about.docker_version, "1");
        assert_eq!(about.history[0].created_by, "x");
        assert!(about.history[0].empty_layer);
        assert_eq!(about.history[1], Step::default());
        let text = r#"{"history":{}}"#;
        let about: About = serde_json::from_str(text).unwrap();
        assert!(about.history.is_empty());
    }
}
