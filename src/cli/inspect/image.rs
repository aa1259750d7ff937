//! An image as `inspect` prints it: the fields that clients of Docker and Podman read.

use serde_json::Value;
use serde_json::json;

use crate::cli::images::row;
use crate::engine::Engine;
use crate::image::Image;
use crate::image::about;
use crate::image::about::Family;
use crate::image::layers;
use crate::image::names;
use crate::image::names::Named;
use crate::store::dirs::Dirs;
use crate::text::escape;

pub fn describe(engine: &Engine, image: &Image) -> anyhow::Result<Value> {
    let dirs = &engine.dirs;
    // A config that has gone or changed is no reason to tell nothing.
    let about = about::read(dirs, image).unwrap_or_default();
    let (parent, named) = relations(dirs, image)?;
    let config = image.config.untrusted();
    let mut shown = about.config.clone();
    if !shown.is_object() {
        shown = serde_json::to_value(config)?;
    }
    let mut found = json!({
        "Id": image.id.hex(),
        "Digest": image.manifest_digest,
        "RepoTags": row::repo_tags(&named),
        "RepoDigests": row::repo_digests(&named),
        "Parent": parent,
        "Comment": about.comment,
        "Created": image.created.as_deref().map(escape::line),
        "Config": shown,
        "Version": about.docker_version,
        "DockerVersion": about.docker_version,
        "Author": about.author,
        "Architecture": image.platform.architecture,
        "Os": image.platform.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": { "Name": "overlay", "Data": graph_data(dirs, image) },
        "RootFS": { "Type": "layers", "Layers": image.layers },
        "Labels": config.labels,
        "Annotations": about.annotations,
        "ManifestType": image.media_type,
        "User": config.user,
        "History": about.history,
        "NamesHistory": names_of(&named),
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    if let Some(variant) = &image.platform.variant {
        found["Variant"] = json!(variant);
    }
    if let Some(check) = &config.healthcheck {
        found["HealthCheck"] = check.clone();
    }
    Ok(found)
}

fn names_of(named: &Named) -> Vec<String> {
    let names = named.names.iter();
    names.map(|name| name.reference.to_string()).collect()
}

/// The id of the image that it was made from, and all its names.
fn relations(dirs: &Dirs, image: &Image) -> anyhow::Result<(String, Named)> {
    let all = names::all_named(dirs, drop)?;
    let images: Vec<&Image> = all.iter().map(|named| &named.image).collect();
    let index = images.iter().position(|other| other.id == image.id);
    let related: Vec<&Image> = images
        .iter()
        .copied()
        .filter(|other| other.layers.first() == image.layers.first())
        .collect();
    let family = Family::of(dirs, &related);
    let own = related.iter().position(|other| other.id == image.id);
    let parent = own.and_then(|own| family.parent(own));
    let parent = parent.map_or(String::new(), |parent| related[parent].id.hex().to_owned());
    let named = index.map_or_else(
        || Named {
            image: image.clone(),
            names: vec![],
        },
        |index| all[index].clone(),
    );
    Ok((parent, named))
}

/// The directories of the layers, as Docker and Podman name them.
fn graph_data(dirs: &Dirs, image: &Image) -> Value {
    let mut paths: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|layer| layers::files(dirs, layer).display().to_string())
        .collect();
    if paths.is_empty() {
        return json!({});
    }
    let upper = paths.remove(0);
    if paths.is_empty() {
        return json!({ "UpperDir": upper });
    }
    json!({ "UpperDir": upper, "LowerDir": paths.join(":") })
}
