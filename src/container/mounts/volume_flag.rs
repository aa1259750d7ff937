//! The value of `-v`: `[HOST-PATH|VOLUME:]CONTAINER-PATH[:OPTIONS]`.

use crate::container::mounts::Mount;
use crate::container::mounts::Options;
use crate::container::mounts::Overlay;
use crate::container::mounts::Source;
use crate::container::mounts::destination;
use crate::container::mounts::host_path;
use crate::container::mounts::volume_name;

const FORM: &str = "expected [HOST-PATH|VOLUME:]CONTAINER-PATH[:OPTIONS]";

pub fn parse(text: &str) -> Result<Mount, String> {
    let parts = split(text);
    let (source, place, words) = match parts.as_slice() {
        [place] => (None, place.as_str(), ""),
        [source, place] => (Some(source.as_str()), place.as_str(), ""),
        [source, place, words] => (Some(source.as_str()), place.as_str(), words.as_str()),
        _ => return Err(FORM.into()),
    };
    let source = match source {
        None => Source::volume(""),
        Some("") => return Err(FORM.into()),
        Some(path) if path.starts_with(['/', '.']) => Source::Bind {
            path: host_path(path)?,
        },
        Some(name) => {
            volume_name(name)?;
            Source::volume(name)
        }
    };
    let is_bind = matches!(source, Source::Bind { .. });
    let options = options(words, is_bind)?;
    Ok(Mount {
        source,
        destination: destination(place)?,
        options,
    })
}

/// Parts between colons; `\:` is a colon of a path.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&':') => {
                letters.next();
                parts.last_mut().expect("it has one").push(':');
            }
            ':' => parts.push(String::new()),
            _ => parts.last_mut().expect("it has one").push(letter),
        }
    }
    parts
}

fn options(words: &str, is_bind: bool) -> Result<Options, String> {
    let mut options = Options::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut upper = None;
    let mut work = None;
    for word in words.split(',').filter(|word| !word.is_empty()) {
        for (one, other) in [("ro", "rw"), ("rro", "rw"), ("z", "Z"), ("copy", "nocopy")] {
            let excludes = |a: &str, b: &str| word == a && seen.contains(&b);
            if excludes(one, other) || excludes(other, one) {
                return Err(format!("options {one} and {other} exclude each other"));
            }
        }
        seen.push(word);
        match word.split_once('=').unwrap_or((word, "")) {
            ("z" | "Z", "") => options.relabel = true,
            ("U", "") => options.chown = true,
            ("O", "") => options.overlay = Some(Overlay::default()),
            ("copy", "") => options.no_copy = false,
            ("nocopy", "") => options.no_copy = true,
            ("idmap", map) => options.idmap = Some(map.to_owned()),
            ("upperdir", path) if !path.is_empty() => upper = Some(host_path(path)?),
            ("workdir", path) if !path.is_empty() => work = Some(host_path(path)?),
            _ if options.word(word)? => {}
            _ => {
                return Err(format!(
                    "unknown option \"{word}\": expected ro, rw, rro, z, Z, U, O, idmap, copy, nocopy, bind, rbind, exec, noexec, dev, nodev, suid, nosuid, or a propagation such as rslave"
                ));
            }
        }
    }
    if options.propagation.is_some() && !is_bind {
        return Err("propagation is of host paths, not of volumes".into());
    }
    match &mut options.overlay {
        Some(overlay) => {
            let goes_along = |word: &&&str| {
                !matches!(**word, "O" | "U" | "z" | "Z")
                    && !word.starts_with("upperdir=")
                    && !word.starts_with("workdir=")
            };
            if let Some(other) = seen.iter().find(goes_along) {
                return Err(format!(
                    "option O goes with U, z, Z, upperdir= and workdir=, not with {other}"
                ));
            }
            if upper.is_some() != work.is_some() {
                return Err("upperdir= and workdir= go together".into());
            }
            (overlay.upper, overlay.work) = (upper, work);
        }
        None if upper.is_some() || work.is_some() => {
            return Err("upperdir= and workdir= need option O".into());
        }
        None => {}
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_source_is_a_path_a_name_or_nothing() {
        let mount = parse("/a:/b:ro,noexec").unwrap();
        assert_eq!(mount.source, Source::Bind { path: "/a".into() });
        assert_eq!(mount.destination, Path::new("/b"));
        assert!(mount.options.read_only && mount.options.exec == Some(false));
        assert_eq!(parse("data:/b").unwrap().source, Source::volume("data"));
        assert_eq!(parse("/b").unwrap().source, Source::volume(""));
        assert_eq!(
            parse("/a\\:b:/c").unwrap().source,
            Source::Bind {
                path: "/a:b".into()
            }
        );
    }

    #[test]
    fn options_are_read() {
        let options = |text: &str| parse(&format!("/a:/b:{text}")).unwrap().options;
        assert!(options("U").chown);
        assert_eq!(options("idmap").idmap.as_deref(), Some(""));
        assert_eq!(
            options("idmap=uids=0-1-10#10-11-10;gids=0-100-10")
                .idmap
                .as_deref(),
            Some("uids=0-1-10#10-11-10;gids=0-100-10")
        );
        assert_eq!(options("O").overlay, Some(Overlay::default()));
        assert_eq!(
            options("O,upperdir=/u,workdir=/w").overlay.unwrap().work,
            Some("/w".into())
        );
        assert_eq!(options("rslave").propagation.as_deref(), Some("rslave"));
        assert!(options("bind").non_recursive);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for wrong in [
            "",
            "a",
            ":/b",
            "/a:",
            "/a:b",
            "/a:/b:ro:x",
            "/a:/b:zzz",
            "/a:/b:ro,rw",
            "/a:/b:z,Z",
            "/a:/",
            "/",
            "a b:/c",
            "a/b:/c",
            "/a:/b:O,ro",
            "/a:/b:upperdir=/u",
            "/a:/b:O,upperdir=/u",
            "/a:/b:shared",
            "v:/b:rslave",
            "/a:/b:slave,private",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
