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

pub fn write(save: &Save<'_>, images: &[Saved], out: &mut dyn Out) -> Result<()> {
    let mut manifests = match out.index()? {
        Some(Value::Array(manifests)) => manifests,
        _ => vec![],
    };
    out.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for saved in images {
        let mut content = save.content(&saved.image)?;
        for layer in &mut content.layers {
            let name = Layout::Blobs.name(&layer.descriptor.digest);
            save.layer(layer, &name, out)?;
        }
        let digest = content.digest.clone();
        for (digest, bytes) in [
            (&content.config_digest, &content.config),
            (&digest, &content.manifest),
        ] {
            let name = Layout::Blobs.name(digest);
            if !out.has(&name) {
                out.small(&name, bytes)?;
            }
        }
        list(&mut manifests, saved, &content, &digest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": manifest::OCI_INDEX,
        "manifests": manifests,
    });
    out.small("index.json", &serde_json::to_vec(&index)?)
}

/// Puts an image into the list, in place of what has its name there.
fn list(manifests: &mut Vec<Value>, saved: &Saved, content: &Content, digest: &Digest) {
    let descriptor = json!({
        "mediaType": content.media_type,
        "digest": digest,
        "size": content.manifest.len(),
    });
    let name_of = |value: &Value| value["annotations"][REF_NAME].as_str().map(str::to_owned);
    if saved.names.is_empty() {
        let same = |value: &Value| value["digest"] == descriptor["digest"];
        if !manifests.iter().any(same) {
            manifests.push(descriptor);
        }
        return;
    }
    for name in &saved.names {
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
