//! docker-archive: configs byte for byte, layers as plain tars by their diff-ids, and `manifest.json`.
//! `repositories` is for readers older than that.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::image::registry::push::own_manifest;
use crate::image::save::Save;
use crate::image::save::Saved;
use crate::image::save::output::Out;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::store::blobs;

pub fn write(save: &Save<'_>, images: &[Saved], out: &mut dyn Out) -> Result<Vec<Digest>> {
    let mut listed: Vec<(String, Value)> = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for saved in images {
        let image = &saved.image;
        let mut paths = Vec::new();
        for diff_id in &image.layers {
            let path = format!("{}.tar", diff_id.hex());
            save.plain_layer(diff_id, &path, out)?;
            paths.push(path);
        }
        let config = format!("{}.json", image.id.hex());
        if !out.has(&config) {
            out.small(&config, &blobs::get(save.dirs, &image.id)?)?;
        }
        // What has a digest alone is no tag.
        let names: Vec<Reference> = saved
            .names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_>>()?;
        let names: Vec<&Reference> = names.iter().filter(|name| name.tag().is_some()).collect();
        let tags: BTreeSet<String> = names
            .iter()
            .map(|name| format!("{}:{}", name.name(), name.tag().unwrap_or_default()))
            .collect();
        if let Some(top) = image.layers.last() {
            for name in names {
                let tag = name.tag().unwrap_or_default().to_owned();
                let tags = repositories.entry(name.name()).or_default();
                tags.insert(tag, top.hex().to_owned());
            }
        }
        add(&mut listed, config, &tags, &paths);
    }
    if !repositories.is_empty() {
        out.small("repositories", &serde_json::to_vec(&repositories)?)?;
    }
    let listed: Vec<Value> = listed.into_iter().map(|(_, value)| value).collect();
    out.small("manifest.json", &serde_json::to_vec(&listed)?)?;
    let images = images
        .iter()
        .map(|saved| own_manifest(save.dirs, &saved.image));
    images.map(|image| Ok(image?.manifest_digest)).collect()
}

/// An image that is there already gets more names.
fn add(
    listed: &mut Vec<(String, Value)>,
    config: String,
    tags: &BTreeSet<String>,
    paths: &[String],
) {
    if let Some((_, value)) = listed.iter_mut().find(|(other, _)| *other == config) {
        if let Some(all) = value["RepoTags"].as_array_mut() {
            for tag in tags {
                if !all.contains(&json!(tag)) {
                    all.push(json!(tag));
                }
            }
        }
        return;
    }
    let value = json!({ "Config": config, "RepoTags": tags, "Layers": paths });
    listed.push((config, value));
}
