//! A row of `images`, by the names that Docker and Podman give its fields.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

use crate::engine::Engine;
use crate::engine::images;
use crate::image::Image;
use crate::image::about::Family;
use crate::image::layers;
use crate::image::names::Name;
use crate::image::names::Named;
use crate::oci::digest::Digest;
use crate::text::size;
use crate::text::time;

/// One a name; an image without a name has one all the same.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub named: &'a Named,
    pub name: Option<&'a Name>,
}

type Field = fn(&Looks, &Row<'_>) -> Value;

const FIELDS: [(&str, Field); 26] = [
    ("Arch", |_, row| json!(row.image().platform.architecture)),
    ("ConfigDigest", |_, row| json!(row.image().id)),
    ("Containers", |looks, row| {
        json!(looks.containers(row.image()))
    }),
    ("Created", |looks, row| json!(looks.ago(row))),
    ("CreatedAt", |looks, row| json!(looks.created_at(row))),
    ("CreatedSince", |looks, row| json!(looks.ago(row))),
    ("CreatedTime", |looks, row| json!(looks.created_at(row))),
    ("Dangling", |_, row| json!(row.name.is_none())),
    ("Digest", |_, row| json!(row.digest())),
    ("Digests", |_, row| json!(digests(row.named))),
    ("History", |_, row| json!(names(row.named).join(", "))),
    ("ID", |looks, row| json!(looks.id(row.image()))),
    ("Id", |_, row| json!(row.image().id.hex())),
    ("IsManifestList", |_, row| json!(row.image().is_list())),
    ("Labels", |_, row| {
        json!(row.image().config.untrusted().labels)
    }),
    ("Names", |_, row| json!(names(row.named))),
    ("Os", |_, row| json!(row.image().platform.os)),
    ("ParentId", |looks, row| json!(looks.parent(row.image()))),
    ("ReadOnly", |_, row| json!(row.image().store.is_some())),
    ("RepoDigests", |_, row| json!(repo_digests(row.named))),
    ("RepoTags", |_, row| json!(repo_tags(row.named))),
    ("Repository", |_, row| json!(row.repository())),
    ("SharedSize", |looks, row| {
        json!(size::human(looks.shared(row.image())))
    }),
    ("Size", |_, row| json!(size::human(row.image().size))),
    ("Tag", |_, row| json!(row.tag())),
    ("UniqueSize", |looks, row| {
        json!(size::human(
            row.image().size.saturating_sub(looks.shared(row.image()))
        ))
    }),
];

/// Of an image, where that is one of the fields.
const VIRTUAL_SIZE: (&str, Field) = ("VirtualSize", |_, row| json!(size::human(row.image().size)));

impl Row<'_> {
    fn image(&self) -> &Image {
        &self.named.image
    }

    pub fn repository(&self) -> String {
        self.name
            .map_or("<none>".into(), |name| name.reference.name())
    }

    pub fn tag(&self) -> &str {
        let tag = self.name.and_then(|name| name.reference.tag());
        tag.unwrap_or("<none>")
    }

    fn digest(&self) -> &Digest {
        let of_name = self.name.map(|name| &name.manifest_digest);
        of_name.unwrap_or(&self.image().manifest_digest)
    }
}

/// How rows are to look, and what of other objects they tell: looked up only where it is asked for.
pub struct Looks {
    whole: bool,
    now: Timestamp,
    zone: TimeZone,
    fields: Vec<(&'static str, Field)>,
    /// By the id of the image.
    users: HashMap<String, usize>,
    parents: HashMap<Digest, String>,
    shared: HashMap<Digest, u64>,
}

impl Looks {
    /// `shown` is the template, or `None` for JSON, which tells all. `all` are all images of the store.
    pub fn new(
        engine: &Engine,
        shown: Option<&str>,
        whole: bool,
        all: &[Named],
    ) -> anyhow::Result<Looks> {
        let asks = |field: &str| shown.is_none_or(|shown| shown.contains(field));
        let mut looks = Looks {
            whole,
            now: Timestamp::now(),
            zone: time::local_zone(),
            fields: vec![],
            users: HashMap::new(),
            parents: HashMap::new(),
            shared: HashMap::new(),
        };
        // `{{.}}` and `{{json .}}` are all fields.
        let everything =
            shown.is_some_and(|shown| shown.contains("json") || shown.contains("{{.}}"));
        let fields = FIELDS.into_iter().chain([VIRTUAL_SIZE]);
        looks.fields = fields
            .filter(|(name, _)| everything || shown.is_some_and(|shown| names_field(shown, name)))
            .collect();
        if asks("Containers") || everything {
            let users = images::users(engine)?.into_iter();
            looks.users = users.map(|(id, names)| (id, names.len())).collect();
        }
        if asks("ParentId") || everything {
            looks.parents = parents(engine, all);
        }
        if asks("SharedSize") || asks("UniqueSize") || everything {
            looks.shared = shared_sizes(engine, all);
        }
        Ok(looks)
    }

    pub fn id(&self, image: &Image) -> String {
        if self.whole {
            image.id.to_string()
        } else {
            image.id.short().to_owned()
        }
    }

    pub fn fields(&self, row: &Row<'_>) -> Value {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, field)| ((*name).to_owned(), field(self, row)));
        Value::Object(fields.collect())
    }

    fn ago(&self, row: &Row<'_>) -> String {
        created(row.image()).map_or("N/A".into(), |created| time::ago(created, self.now))
    }

    fn created_at(&self, row: &Row<'_>) -> String {
        let created = created(row.image());
        created.map_or(String::new(), |created| {
            time::go_string(created, &self.zone)
        })
    }

    fn containers(&self, image: &Image) -> usize {
        self.users.get(&image.id.to_string()).copied().unwrap_or(0)
    }

    fn parent(&self, image: &Image) -> &str {
        self.parents.get(&image.id).map_or("", String::as_str)
    }

    fn shared(&self, image: &Image) -> u64 {
        self.shared.get(&image.id).copied().unwrap_or(0)
    }

    /// The object of `--format json`, podman's.
    pub fn json(&self, named: &Named) -> Value {
        let image = &named.image;
        json!({
            "Id": image.id.hex(),
            "ParentId": self.parent(image),
            "RepoTags": repo_tags(named),
            "RepoDigests": repo_digests(named),
            "Created": created(image).map(Timestamp::as_second),
            "CreatedAt": image.created,
            "Size": image.size,
            "SharedSize": self.shared(image),
            "VirtualSize": image.size,
            "Labels": image.config.untrusted().labels,
            "Containers": self.containers(image),
            "Names": names(named),
            "Digest": image.manifest_digest,
            "History": names(named),
            "Dangling": named.names.is_empty(),
            "ReadOnly": image.store.is_some(),
            "IsManifestList": image.is_list(),
            "Arch": image.platform.architecture,
            "Os": image.platform.os,
        })
    }
}

/// Whether a template has this field, and not only a longer one.
fn names_field(template: &str, name: &str) -> bool {
    let field = format!(".{name}");
    let mut found = template.match_indices(&field);
    found.any(|(at, text)| {
        let next = template[at + text.len()..].chars().next();
        next.is_none_or(|next| !next.is_ascii_alphanumeric())
    }) || name.eq_ignore_ascii_case("labels") && template.contains(".Label ")
}

pub fn created(image: &Image) -> Option<Timestamp> {
    time::parse_rfc3339(image.created.as_deref()?)
}

fn names(named: &Named) -> Vec<String> {
    let names = named.names.iter();
    names.map(|name| name.reference.to_string()).collect()
}

pub fn repo_tags(named: &Named) -> Vec<String> {
    let tagged = named
        .names
        .iter()
        .filter(|name| name.reference.tag().is_some());
    tagged.map(|name| name.reference.to_string()).collect()
}

/// What registries call the image: that of an index where the name leads to one.
pub fn repo_digests(named: &Named) -> Vec<String> {
    let names = named.names.iter();
    let mut found: Vec<String> = names
        .map(|name| format!("{}@{}", name.reference.name(), name.manifest_digest))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn digests(named: &Named) -> Vec<String> {
    let of_names = named.names.iter().map(|name| &name.manifest_digest);
    let mut found: Vec<String> = of_names
        .chain([&named.image.manifest_digest])
        .map(ToString::to_string)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn parents(engine: &Engine, all: &[Named]) -> HashMap<Digest, String> {
    let images: Vec<&Image> = all.iter().map(|named| &named.image).collect();
    let family = Family::of(&engine.dirs, &images);
    let found = images.iter().enumerate().filter_map(|(index, image)| {
        let parent = images[family.parent(index)?];
        Some((image.id.clone(), parent.id.hex().to_owned()))
    });
    found.collect()
}

/// Of each image, the bytes of layers that another has too.
fn shared_sizes(engine: &Engine, all: &[Named]) -> HashMap<Digest, u64> {
    let mut users: HashMap<&Digest, u32> = HashMap::new();
    for named in all {
        for layer in &named.image.layers {
            *users.entry(layer).or_default() += 1;
        }
    }
    let sizes: HashMap<&Digest, u64> = users
        .into_iter()
        .filter(|(_, users)| *users > 1)
        .map(|(layer, _)| (layer, layers::size(&engine.dirs, layer)))
        .collect();
    let of = |image: &Image| {
        image
            .layers
            .iter()
            .filter_map(|layer| sizes.get(layer))
            .sum()
    };
    all.iter()
        .map(|named| (named.image.id.clone(), of(&named.image)))
        .collect()
}
