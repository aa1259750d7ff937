//! `images --tree`: names, and below each the images for platforms that its index has.

use std::collections::BTreeMap;

use crate::cli::output;
use crate::engine::Engine;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::names;
use crate::image::names::Named;
use crate::oci::digest::Digest;
use crate::store::blobs;
use crate::text::size;
use crate::text::table::Table;

pub fn print(engine: &Engine, images: &[Named]) -> anyhow::Result<()> {
    // Images without a name are there too: those for other platforms.
    let all = names::all_named(&engine.dirs, drop)?;
    let by_manifest: BTreeMap<&Digest, &Named> = all
        .iter()
        .map(|named| (&named.image.manifest_digest, named))
        .collect();
    let mut table = Table::with_heading(["IMAGE", "ID", "SIZE"]);
    for named in images {
        for name in &named.names {
            let digest = &name.manifest_digest;
            table.row([
                &name.reference.familiar(),
                named.image.id.short(),
                &size::human(named.image.size),
            ]);
            let lines = platforms(engine, named, digest, &by_manifest);
            let last = lines.len().saturating_sub(1);
            for (index, [platform, id, size]) in lines.iter().enumerate() {
                let branch = if index == last { "└─" } else { "├─" };
                table.row([&format!("{branch} {platform}"), id, size]);
            }
        }
        if named.names.is_empty() {
            let id = named.image.id.short();
            table.row(["<untagged>", id, &size::human(named.image.size)]);
        }
    }
    output::print(&table.render())
}

/// Platform, id and size of each; those of an index that are not in the store have no id.
fn platforms(
    engine: &Engine,
    named: &Named,
    digest: &Digest,
    by_manifest: &BTreeMap<&Digest, &Named>,
) -> Vec<[String; 3]> {
    let line = |named: &Named| {
        [
            named.image.platform.to_string(),
            named.image.id.short().to_owned(),
            size::human(named.image.size),
        ]
    };
    let bytes = blobs::get(&engine.dirs, digest).unwrap_or_default();
    let Ok(Document::Index(manifests)) = manifest::parse(&bytes, None) else {
        return vec![line(named)];
    };
    let runs = manifests.into_iter().filter_map(|descriptor| {
        let platform = descriptor.platform.clone()?;
        (platform.os != "unknown").then_some((platform, descriptor.digest))
    });
    runs.map(|(platform, digest)| match by_manifest.get(&digest) {
        Some(named) => line(named),
        None => [platform.to_string(), String::new(), String::new()],
    })
    .collect()
}
