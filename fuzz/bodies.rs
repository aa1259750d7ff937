//! What is done with any bytes that a stranger may send: no panic, nothing outside, one line of complaint.
//! The targets of cargo-fuzz call these, and so do the unit tests, for a bounded time (`loops`).

use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::registries;
use crate::image;
use crate::image::manifest;
use crate::image::manifest::Document;
use crate::image::registry::auth::Challenge;
use crate::image::registry::authfile::AuthFile;
use crate::image::unpack::extract;
use crate::network::dns;
use crate::network::dns::Query;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::oci::runtime;
use crate::store::temp;
use crate::store::temp::TempDir;

mod container;
#[cfg(test)]
mod loops;

/// A layer, unpacked beside a file that must stay as it is.
pub fn tar(bytes: &[u8]) {
    let top = std::env::temp_dir().join("rbox-fuzz");
    std::fs::create_dir_all(&top).unwrap();
    let place = TempDir::create_in(&top).unwrap();
    let path = |name: &str| place.path().join(name);
    std::fs::create_dir(path("root")).unwrap();
    std::fs::create_dir(path("outside")).unwrap();
    std::fs::write(path("outside/file"), "untouched").unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path("root"), flags, Mode::empty()).unwrap();
    let notes = temp::nameless_file(place.path()).unwrap();
    let limits = extract::Limits {
        entries: 1000,
        bytes: 1 << 24,
    };
    let result = extract::extract(bytes, root, notes, extract::Owners::Record, None, limits);
    if let Err(err) = &result {
        complaint(&crate::error::message(err));
    }
    let list = |path: &Path| {
        let names = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(list(place.path()), ["outside", "root"]);
    assert_eq!(list(&path("outside")), ["file"]);
    let file = std::fs::symlink_metadata(path("outside/file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&file), 1);
    assert_eq!(std::fs::read(path("outside/file")).unwrap(), b"untouched");
}

/// A manifest, an index, an image's config.
pub fn manifest(bytes: &[u8]) {
    match manifest::parse(bytes, None) {
        Ok(Document::Manifest(manifest)) => {
            let again = manifest::write(&manifest).unwrap();
            let Ok(Document::Manifest(again)) = manifest::parse(&again, None) else {
                panic!("what was read cannot be read again");
            };
            assert_eq!(again.config.digest, manifest.config.digest);
        }
        Ok(Document::Index(index)) => drop(manifest::choose(&index, &Platform::host())),
        Err(err) => complaint(&crate::error::message(&err)),
    }
    if let Err(err) = image::config::parse(bytes) {
        complaint(&crate::error::message(&err));
    }
}

/// References, digests and platforms: what is taken says itself again, and is no path.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Reference>() {
        Ok(reference) => {
            let again: Reference = reference.to_string().parse().unwrap();
            assert_eq!(again, reference);
            let name = reference.name();
            assert!(!name.contains("..") && !name.contains("//") && !name.starts_with('/'));
            assert!(!name.contains(|sign: char| sign.is_control() || sign == ' '));
        }
        Err(err) => complaint(&crate::error::message(&err)),
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    drop(text.parse::<Platform>());
}

/// A `WWW-Authenticate` header of a registry elsewhere: passwords go nowhere unsafe.
pub fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(Challenge::Bearer(bearer)) = Challenge::parse(text) else {
        return;
    };
    if let Ok(realm) = bearer.realm("https://registry.example.com") {
        assert!(
            realm
                .get(..8)
                .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
        );
        let authority = realm[8..].split(['/', '?', '#']).next();
        assert!(!authority.unwrap_or_default().contains('@'));
        let url = bearer.url("repository", Some("user"));
        assert!(url.starts_with(realm) && !url.contains(['\r', '\n']));
    }
}

/// A registries.conf.
pub fn registries(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(said) = registries::file::File::parse(text)
    {
        complaint(&said);
    }
}

/// An auth.json or config.json.
pub fn authfile(bytes: &[u8]) {
    let top = std::env::temp_dir().join("rbox-fuzz");
    std::fs::create_dir_all(&top).unwrap();
    let place = TempDir::create_in(&top).unwrap();
    let path = place.path().join("auth.json");
    std::fs::write(&path, bytes).unwrap();
    // Programs that the file names are not to be run.
    if bytes
        .windows(4)
        .any(|part| part == b"cred" || part == b"\\u00")
    {
        return;
    }
    let found = AuthFile::read(&path).and_then(|file| file.find("registry.example.com", "a/b"));
    if let Err(err) = found {
        complaint(&crate::error::message(&err));
    }
}

/// A config.json of a bundle.
pub fn config(bytes: &[u8]) {
    let mut warn = complaint_of;
    let said = [
        runtime::parse(bytes, &mut warn).err(),
        runtime::parse_process(bytes, &mut warn).err(),
        runtime::parse_resources(bytes).err(),
    ];
    for mistake in said.into_iter().flatten() {
        complaint(&mistake.to_string());
    }
}

/// A question of a container's for names, and what a resolver says to one.
pub fn dns(bytes: &[u8]) {
    match Query::parse(bytes) {
        Ok(query) => {
            let limit = query.limit();
            let data = vec![dns::Data::Ip([192, 0, 2, 1].into()); 50];
            let answer = query.answer(dns::Code::NoError, &data, limit);
            assert!(answer.len() <= limit.max(bytes.len() + 11));
            assert!(query.reply(query.id, &answer).is_some());
            assert!(query.truncated(&answer).len() <= bytes.len() + 11);
            assert!(query.name.bytes().all(|byte| byte.is_ascii_graphic()));
            dns::reverse(&query.name);
        }
        Err(Some(said)) => assert!(said.len() <= bytes.len() + 11 && said[..2] == bytes[..2]),
        Err(None) => {}
    }
    // The question is another one, so that it must not be taken for an answer.
    if let Ok(other) = Query::parse(b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01")
        && other.reply(0, bytes).is_some()
    {
        assert!(bytes[2] & 0x80 != 0);
    }
}

/// Frames of a container, and what comes to a published port of it.
pub fn network(bytes: &[u8]) {
    container::play(bytes);
}

fn complaint_of(text: String) {
    complaint(&text);
}

fn complaint(text: &str) {
    assert!(
        !text.contains(['\n', '\r', '\x1b']) && text.len() < 4000,
        "{text}"
    );
}
