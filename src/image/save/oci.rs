//! OCI layouts: blobs as they are kept, and `index.json`, which is written last.

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::image::layout::CONTAINERD_NAME;
use crate::image::layout::Layout;
use crate::image::layout::REF_NAME;
use crate::image::manifest;
use crate::image::save::Content;
use crate::image::save::Save;
use crate::image::save::Saved;
use crate::image::save::output::Out;
use crate::oci::digest::Digest;
use crate::oci::reference;
use crate::oci::reference::Reference;

pub fn write(save: &Save<'_>, images: &[Saved], out: &mut dyn Out) -> Result<Vec<Digest>> {
    let mut manifests = start(out)?;
    let mut digests = Vec::new();
    for saved in images {
        let mut content = save.content(&saved.image)?;
        let descriptor = image(save, &mut content, out)?;
        list(&mut manifests, &saved.names, &descriptor);
        digests.push(content.digest);
    }
    finish(&manifests, out)?;
    Ok(digests)
}

/// What a layout lists before.
pub fn start(out: &mut dyn Out) -> Result<Vec<Value>> {
    let manifests = match out.index()? {
        Some(Value::Array(manifests)) => manifests,
        _ => vec![],
    };
    out.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(manifests)
}

pub fn finish(manifests: &[Value], out: &mut dyn Out) -> Result<()> {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": manifest::OCI_INDEX,
        "manifests": manifests,
    });
    out.small("index.json", &serde_json::to_vec(&index)?)
}

/// Writes the blobs of an image; its descriptor.
pub fn image(save: &Save<'_>, content: &mut Content, out: &mut dyn Out) -> Result<Value> {
    save.blobs(content, Layout::Blobs, out)?;
    blob(&content.digest, &content.media_type, &content.manifest, out)
}

/// Writes a manifest or an index; its descriptor.
pub fn blob(digest: &Digest, media_type: &str, bytes: &[u8], out: &mut dyn Out) -> Result<Value> {
    let name = Layout::Blobs.name(digest);
    if !out.has(&name) {
        out.small(&name, bytes)?;
    }
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

/// Puts an image or an index into the list, in place of what has its name there.
pub fn list(manifests: &mut Vec<Value>, names: &[String], descriptor: &Value) {
    let name_of = |value: &Value| value["annotations"][REF_NAME].as_str().map(str::to_owned);
    if names.is_empty() {
        let same = |value: &Value| value["digest"] == descriptor["digest"];
        if !manifests.iter().any(same) {
            manifests.push(descriptor.clone());
        }
        return;
    }
    for name in names {
        manifests.retain(|value| name_of(value).as_ref() != Some(name));
        let mut named = descriptor.clone();
        named["annotations"] = json!({ REF_NAME: name });
        // By this one containerd and Docker know it.
        if reference::is_qualified(name) && name.parse::<Reference>().is_ok() {
            named["annotations"][CONTAINERD_NAME] = json!(name);
        }
        manifests.push(named);
    }
}
