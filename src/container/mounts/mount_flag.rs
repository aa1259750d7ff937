//! The value of `--mount`: `type=TYPE,KEY=VALUE…`, comma-separated values as in a table: one with a
//! comma stands between double quotes.

use std::path::PathBuf;

use crate::container::mounts::Mount;
use crate::container::mounts::Options;
use crate::container::mounts::Source;
use crate::container::mounts::boolean;
use crate::container::mounts::destination;
use crate::container::mounts::glob;
use crate::container::mounts::host_path;
use crate::container::mounts::mode;
use crate::container::mounts::size;
use crate::container::mounts::tmpfs_option;
use crate::container::mounts::volume_name;

/// One for most types, several for a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts(pub Vec<Mount>);

#[derive(Default)]
struct Fields {
    source: Option<String>,
    place: Option<String>,
    options: Options,
    read_only: Option<bool>,
    driver_options: Vec<String>,
    labels: Vec<String>,
}

pub fn parse(text: &str) -> Result<Mounts, String> {
    let fields = split(text)?;
    let kind = fields
        .iter()
        .find_map(|field| field.strip_prefix("type="))
        .unwrap_or("volume")
        .to_owned();
    let known = [
        "bind", "devpts", "glob", "image", "ramfs", "tmpfs", "volume",
    ];
    if kind == "artifact" {
        return Err("type=artifact is not possible: there is no store for artifacts".into());
    }
    if !known.contains(&kind.as_str()) {
        return Err(format!("type=\"{kind}\": expected {}", known.join(", ")));
    }
    let mut parsed = Fields::default();
    for field in fields.iter().filter(|field| !field.starts_with("type=")) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if !common(&mut parsed, key, value)? && !special(&mut parsed, &kind, key, value)? {
            return Err(format!("\"{field}\" is no option of type={kind}"));
        }
    }
    finish(&kind, parsed).map(Mounts)
}

/// Fields between commas, with quotes as in RFC 4180.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    fields.push(field);
    if fields.iter().any(String::is_empty) {
        return Err("expected type=TYPE,KEY=VALUE… without empty fields".into());
    }
    Ok(fields)
}

/// What all types have; whether it was that.
fn common(fields: &mut Fields, key: &str, value: Option<&str>) -> Result<bool, String> {
    match key {
        "src" | "source" => fields.source = Some(wanted(key, value)?),
        "dst" | "destination" | "target" => fields.place = Some(wanted(key, value)?),
        "ro" | "readonly" => fields.read_only = Some(boolean(key, value)?),
        "rw" | "readwrite" => fields.read_only = Some(!boolean(key, value)?),
        // As in docker: it says how a virtual machine caches.
        "consistency" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn wanted(key: &str, value: Option<&str>) -> Result<String, String> {
    match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(format!("{key} needs a value")),
    }
}

fn propagation(options: &mut Options, key: &str, value: Option<&str>) -> Result<bool, String> {
    let word = wanted(key, value)?;
    match word.trim_start_matches('r') {
        "private" | "slave" | "unbindable" | "shared" => options.word(&word),
        _ => Err(format!(
            "{key}=\"{word}\": expected private, slave or unbindable, or one of them with an r before it"
        )),
    }
}

/// Docker's word for whether mounts below the source come along.
fn recursive(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value.unwrap_or_default() {
        "enabled" | "readonly" => Ok(true),
        "disabled" => Ok(false),
        "writable" => {
            Err("bind-recursive=\"writable\" is not possible: read-only means all of it".into())
        }
        value => Err(format!(
            "{key}=\"{value}\": expected enabled, disabled or readonly"
        )),
    }
}

/// What only some types have; whether this one has it.
fn special(
    fields: &mut Fields,
    kind: &str,
    key: &str,
    value: Option<&str>,
) -> Result<bool, String> {
    let options = &mut fields.options;
    match (kind, key) {
        ("bind" | "glob", "bind-propagation") => return propagation(options, key, value),
        ("bind" | "glob", "bind-nonrecursive") => options.non_recursive = boolean(key, value)?,
        ("bind", "bind-recursive") => options.non_recursive = !recursive(key, value)?,
        ("bind" | "glob", "relabel") => match value {
            Some("shared" | "private") => options.relabel = true,
            value => {
                return Err(format!(
                    "{key}=\"{}\": expected shared or private",
                    value.unwrap_or_default()
                ));
            }
        },
        ("bind" | "glob", "no-dereference") => options.keep_link = boolean(key, value)?,
        ("bind" | "glob" | "volume", "z" | "Z") if value.is_none() => options.relabel = true,
        ("image", "idmap") => {
            return Err("idmap is not possible for an image: an overlay takes no id map".into());
        }
        ("bind" | "glob" | "volume", "idmap") => {
            options.idmap = match value {
                None | Some("true") => Some(String::new()),
                Some("false") => None,
                Some(map) => Some(map.to_owned()),
            };
        }
        ("bind" | "glob" | "volume" | "tmpfs" | "ramfs", "U" | "chown") => {
            options.chown = boolean(key, value)?;
        }
        ("volume", "volume-nocopy" | "nocopy") | ("tmpfs" | "ramfs", "notmpcopyup") => {
            options.no_copy = boolean(key, value)?;
        }
        ("volume", "copy") if value.is_none() => options.no_copy = false,
        ("volume", "volume-opt") => fields.driver_options.push(wanted(key, value)?),
        ("volume", "volume-label") => fields.labels.push(wanted(key, value)?),
        ("volume", "volume-driver") => {
            if value != Some("local") {
                return Err(format!("{key}: there is only the driver local"));
            }
        }
        ("bind" | "volume", "subpath" | "volume-subpath")
        | ("image", "subpath" | "image-subpath") => {
            options.subpath = Some(PathBuf::from(wanted(key, value)?));
        }
        ("tmpfs", "tmpfs-size" | "size") => {
            options
                .data
                .push(format!("size={}", size(&wanted(key, value)?)?));
        }
        ("ramfs", "tmpfs-size" | "size") => {
            return Err("a ramfs has no size; use type=tmpfs".into());
        }
        ("tmpfs" | "ramfs", "tmpfs-mode" | "mode") => {
            options
                .data
                .push(format!("mode={}", mode(&wanted(key, value)?)?));
        }
        ("tmpfs" | "ramfs", "tmpcopyup") => options.no_copy = !boolean(key, value)?,
        ("tmpfs", "noswap" | "uid" | "gid" | "nr_inodes" | "nr_blocks") => {
            let option = value.map_or(key.to_owned(), |value| format!("{key}={value}"));
            tmpfs_option(options, &option)?;
        }
        ("devpts", "uid" | "gid" | "max") => {
            let number: u32 = wanted(key, value)?.parse().map_err(|_| {
                format!("{key}=\"{}\": expected a number", value.unwrap_or_default())
            })?;
            options.data.push(format!("{key}={number}"));
        }
        ("devpts", "mode") => options
            .data
            .push(format!("mode={}", mode(&wanted(key, value)?)?)),
        ("bind" | "glob", word) if value.is_none() => return options.word(word),
        (
            "tmpfs" | "ramfs" | "volume" | "image",
            "exec" | "noexec" | "dev" | "nodev" | "suid" | "nosuid",
        ) if value.is_none() => {
            return options.word(key);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn finish(kind: &str, fields: Fields) -> Result<Vec<Mount>, String> {
    let Fields {
        source,
        place,
        mut options,
        read_only,
        driver_options,
        labels,
    } = fields;
    let place = match place {
        Some(place) => Some(destination(&place)?),
        None if kind == "glob" => None,
        None => return Err("it needs destination=PATH".into()),
    };
    // An image is read-only unless something else is said.
    options.read_only |= read_only.unwrap_or(kind == "image");
    let needed = || source.clone().ok_or("it needs source=…".to_owned());
    let source = match kind {
        "bind" => Source::Bind {
            path: host_path(&needed()?)?,
        },
        "glob" => return globbed(&needed()?, place, &options),
        "image" => Source::Image {
            reference: needed()?,
            layers: vec![],
            lower: vec![],
            contents: vec![],
        },
        "volume" => {
            let name = source.unwrap_or_default();
            if !name.is_empty() {
                volume_name(&name)?;
            }
            Source::Volume {
                anonymous: name.is_empty(),
                name,
                driver_options,
                labels,
            }
        }
        _ if source.as_deref().is_some_and(|source| source != kind) => {
            return Err(format!("type={kind} has no source"));
        }
        "tmpfs" => Source::Tmpfs,
        "ramfs" => Source::Ramfs,
        _ => Source::Devpts,
    };
    if let Some(subpath) = &options.subpath
        && (subpath.is_absolute() || subpath.components().any(|part| part.as_os_str() == ".."))
    {
        return Err(format!(
            "subpath=\"{}\": expected a relative path without \"..\"",
            subpath.display()
        ));
    }
    Ok(vec![Mount {
        source,
        destination: place.expect("only a pattern may have none"),
        options,
    }])
}

fn globbed(pattern: &str, place: Option<PathBuf>, options: &Options) -> Result<Vec<Mount>, String> {
    let pattern = host_path(pattern)?;
    let found = glob::expand(&pattern).map_err(|err| err.to_string())?;
    if found.is_empty() {
        return Err(format!("nothing matches {}", pattern.display()));
    }
    let mounts = found.into_iter().map(|path| Mount {
        destination: match (&place, path.file_name()) {
            (Some(place), Some(name)) => place.join(name),
            _ => path.clone(),
        },
        source: Source::Bind { path },
        options: options.clone(),
    });
    Ok(mounts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Mount {
        parse(text)
            .unwrap_or_else(|err| panic!("{text}: {err}"))
            .0
            .remove(0)
    }

    #[test]
    fn types_have_their_sources() {
        assert_eq!(
            one("type=bind,src=/a,dst=/b").source,
            Source::Bind { path: "/a".into() }
        );
        assert_eq!(one("source=v,target=/b").source, Source::volume("v"));
        assert_eq!(one("dst=/b").source, Source::volume(""));
        assert_eq!(one("type=tmpfs,dst=/b").source, Source::Tmpfs);
        assert_eq!(
            one("type=bind,\"src=/a,b\",dst=/b").source,
            Source::Bind {
                path: "/a,b".into()
            }
        );
    }

    #[test]
    fn options_belong_to_types() {
        assert!(one("type=bind,src=/a,dst=/b,ro").options.read_only);
        assert!(one("type=image,src=a,dst=/b").options.read_only);
        assert!(!one("type=image,src=a,dst=/b,rw=true").options.read_only);
        assert!(!one("type=bind,src=/a,dst=/b,ro=false").options.read_only);
        assert!(
            one("type=bind,src=/a,dst=/b,bind-nonrecursive")
                .options
                .non_recursive
        );
        assert_eq!(
            one("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=0700,notmpcopyup")
                .options
                .data,
            ["size=1048576", "mode=700"]
        );
        assert_eq!(
            one("type=devpts,dst=/b,uid=1,max=5").options.data,
            ["uid=1", "max=5"]
        );
    }

    #[test]
    fn malformed_ones_are_refused() {
        for wrong in [
            "",
            "type=bind",
            "type=bind,src=/a",
            "type=bind,dst=/a",
            "type=bind,src=/a,dst=b",
            "type=bind,src=/a,dst=/",
            "type=zzz,dst=/a",
            "type=artifact,src=a,dst=/a",
            "type=bind,src=/a,dst=/b,zzz",
            "type=bind,src=/a,dst=/b,tmpfs-size=1m",
            "type=bind,src=/a,dst=/b,bind-propagation=zzz",
            "type=bind,src=/a,dst=/b,bind-propagation=rshared",
            "type=bind,src=/a,dst=/b,ro=perhaps",
            "type=bind,src=/a,dst=/b,relabel",
            "type=bind,src=/a,,dst=/b",
            "type=tmpfs,dst=/b,tmpfs-size=x",
            "type=tmpfs,dst=/b,tmpfs-mode=8",
            "type=tmpfs,src=/a,dst=/b",
            "type=ramfs,dst=/b,tmpfs-size=1m",
            "type=volume,src=/a,dst=/b",
            "type=volume,src=v,dst=/b,subpath=../x",
            "type=volume,src=v,dst=/b,subpath=/x",
            "type=volume,src=v,dst=/b,volume-driver=nfs",
            "type=image,dst=/b",
            "type=devpts,dst=/b,uid=x",
            "type=devpts,dst=/b,exec",
            "type=image,src=a,dst=/b,idmap",
            "type=glob,src=/nothing/*.here",
            "type=bind,\"src=/a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
