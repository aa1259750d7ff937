//! From archives and registries to layers on disk, with the real unpacker in its user namespace.
//! The archives are made here, so that they can lie.

use std::collections::HashSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use crate::config::ids::Ids;
use crate::error::Kind;
use crate::image;
use crate::image::Image;
use crate::image::layers;
use crate::image::load::Input;
use crate::image::load::load;
use crate::image::progress::Silent;
use crate::image::registry::Access;
use crate::image::registry::PullOptions;
use crate::oci::digest::Digest;
use crate::store::dirs::Dirs;
use crate::store::temp::TempDir;
use crate::store::temp::tests::scratch;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of one layer per tar, as a registry or a layout would have it.
struct Made {
    config: Vec<u8>,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
}

fn make(tars: &[Vec<u8>]) -> Made {
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::sha256_of(tar)).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor =
        |bytes: &[u8]| serde_json::json!({"digest": Digest::sha256_of(bytes), "size": bytes.len()});
    let layers: Vec<_> = blobs.iter().map(|blob| descriptor(blob)).collect();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "config": descriptor(&config), "layers": layers});
    Made {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        config,
        blobs,
    }
}

impl Made {
    fn parts(&self) -> Vec<Vec<u8>> {
        let mut parts = vec![self.manifest.clone(), self.config.clone()];
        parts.extend(self.blobs.clone());
        parts
    }

    /// An oci-archive; `change` may falsify the bytes of a blob, which keeps its name.
    fn archive(&self, change: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "digest": Digest::sha256_of(&self.manifest), "size": self.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "made:1"}}]});
        let index = serde_json::to_vec(&index).unwrap();
        let mut files = vec![("index.json".to_owned(), index)];
        for (number, part) in self.parts().into_iter().enumerate() {
            let name = format!("blobs/sha256/{}", Digest::sha256_of(&part).hex());
            files.push((name, change(number, part)));
        }
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, data)| (name.as_str(), data.as_slice()))
            .collect();
        tar_of(&files)
    }
}

fn store(name: &str) -> (TempDir, Dirs) {
    let base = scratch(name);
    let dirs = Dirs::at(base.path()).unwrap();
    (base, dirs)
}

fn load_bytes(dirs: &Dirs, bytes: Vec<u8>) -> anyhow::Result<Vec<Image>> {
    load(
        dirs,
        Input::Stream(Box::new(std::io::Cursor::new(bytes))),
        None,
        &Silent,
    )
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[expect(clippy::unnecessary_wraps, reason = "callers may fail")]
fn nothing_in_use() -> anyhow::Result<HashSet<Digest>> {
    Ok(HashSet::new())
}

/// No layer, image, lock or temporary is left.
fn assert_empty(dirs: &Dirs) {
    for dir in [
        dirs.layers(),
        dirs.tmp(),
        dirs.image_ids(),
        dirs.image_refs(),
    ] {
        assert_eq!(names_in(&dir), Vec::<String>::new(), "{dir:?}");
    }
}

/// A helper that another thread forks has the store's lock until it executes: what is wanted comes with time.
fn collect(dirs: &Dirs, in_use: &image::remove::InUse<'_>, left: &[&str]) {
    for _ in 0..100 {
        image::remove::collect(dirs, in_use).unwrap();
        if names_in(&dirs.layers()) == left {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn an_image_is_loaded_found_named_and_removed() {
    let (_base, dirs) = store("image-life");
    let made = make(&[tar_of(&[("a", b"1")]), tar_of(&[("b", b"22")])]);
    let loaded = load_bytes(&dirs, gzip(&made.archive(|_, part| part))).unwrap();
    let id = Digest::sha256_of(&made.config);
    assert_eq!(loaded[0].id, id);
    assert_eq!(loaded[0].size, 3);
    for text in [
        "made:1",
        "localhost/made:1",
        id.hex(),
        &id.hex()[..5],
        &id.to_string(),
    ] {
        assert_eq!(image::find(&dirs, text).unwrap().id, id, "{text}");
    }
    for text in ["made", "docker.io/made:1", "zzz", "00"] {
        let err = image::find(&dirs, text).unwrap_err();
        assert_eq!(crate::error::kind(&err), Some(Kind::NotFound), "{text}");
    }
    let tag = Ids::detect().unwrap().maps.tag();
    let found = image::find(&dirs, "made:1").unwrap();
    let lower = layers::stack(&dirs, &found, &tag).unwrap().lower;
    assert_eq!(lower.len(), 2);
    assert_eq!(
        std::fs::read(dirs.data.join(&lower[0]).join("b")).unwrap(),
        b"22"
    );
    let err = layers::stack(&dirs, &found, "mapped:0").unwrap_err();
    assert!(crate::error::message(&err).contains("unpacked for another range of ids"));

    let renamed = image::tag(&dirs, "made:1", "other").unwrap();
    assert_eq!(renamed.to_string(), "localhost/other:latest");
    assert_eq!(image::list(&dirs, drop).unwrap()[0].names.len(), 2);
    let err = image::remove::take(&dirs, id.hex(), false).unwrap_err();
    assert_eq!(crate::error::kind(&err), Some(Kind::Conflict));
    let removed = image::remove::take(&dirs, "other", false).unwrap();
    assert_eq!(removed.deleted, None);
    let removed = image::remove::take(&dirs, "made:1", false).unwrap();
    assert_eq!(removed.deleted, Some(id));
    collect(&dirs, &nothing_in_use, &[]);
    assert_empty(&dirs);
}

#[test]
fn layers_in_use_outlive_their_image() {
    let (_base, dirs) = store("image-in-use");
    let made = make(&[tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")])]);
    let loaded = load_bytes(&dirs, made.archive(|_, part| part)).unwrap();
    let kept = loaded[0].layers[1].clone();
    let in_use = || Ok(HashSet::from([kept.clone()]));
    image::remove::take(&dirs, "made:1", false).unwrap();
    // What a command leaves that is killed while it removes a lock.
    std::fs::write(dirs.layers().join(".tmp-1"), "").unwrap();
    collect(&dirs, &in_use, &[kept.hex()]);
    assert_eq!(names_in(&dirs.layers()), [kept.hex()]);
    collect(&dirs, &nothing_in_use, &[]);
    assert_empty(&dirs);
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let (_base, dirs) = store("image-lies");
    let made = make(&[tar_of(&[("a", b"1")])]);
    let flip = |wanted: usize| {
        move |number: usize, mut part: Vec<u8>| {
            if number == wanted {
                let last = part.len() - 2;
                part[last] ^= 1;
            }
            part
        }
    };
    for (bytes, why) in [
        (made.archive(flip(0)), "wrong digest"),
        (made.archive(flip(1)), "wrong digest"),
        (made.archive(flip(2)), "cannot unpack layer"),
        (
            made.archive(|number, part| {
                if number == 2 {
                    vec![0; part.len()]
                } else {
                    part
                }
            }),
            "wrong digest",
        ),
        (
            made.archive(|number, part| {
                if number == 2 {
                    part[1..].to_vec()
                } else {
                    part
                }
            }),
            "wrong size",
        ),
        (b"hello".to_vec(), "no image archive"),
        (Vec::new(), "the archive is empty"),
    ] {
        let err = load_bytes(&dirs, bytes).unwrap_err();
        let text = crate::error::message(&err);
        assert!(
            text.starts_with("cannot load standard input: ") && text.contains(why),
            "{text}"
        );
        assert_empty(&dirs);
    }
    // A layer that is whole, but not the one that the config names.
    let mut other = make(&[tar_of(&[("a", b"2")])]);
    other.config.clone_from(&made.config);
    let manifest = String::from_utf8(other.manifest.clone()).unwrap();
    let config = |made: &Made| Digest::sha256_of(&made.config).to_string();
    let wrong = make(&[tar_of(&[("a", b"2")])]);
    other.manifest = manifest
        .replace(&config(&wrong), &config(&made))
        .into_bytes();
    let err = load_bytes(&dirs, other.archive(|_, part| part)).unwrap_err();
    let text = crate::error::message(&err);
    assert!(text.contains("and the image wants"), "{text}");
    assert_empty(&dirs);
}

#[test]
fn a_layer_that_hides_all_below_ends_the_stack() {
    let (_base, dirs) = store("image-opaque");
    let made = make(&[
        tar_of(&[("a", b"1")]),
        tar_of(&[(".wh..wh..opq", b""), ("b", b"2")]),
        tar_of(&[("c", b"3")]),
    ]);
    let loaded = load_bytes(&dirs, made.archive(|_, part| part)).unwrap();
    let tag = Ids::detect().unwrap().maps.tag();
    assert_eq!(
        layers::stack(&dirs, &loaded[0], &tag).unwrap().lower.len(),
        2
    );
}

/// A registry on this machine, one thread, that may misbehave.
struct Registry {
    address: String,
    /// Request lines and `Authorization` headers seen.
    seen: Arc<Mutex<Vec<String>>>,
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl Registry {
    fn start(answer: impl Fn(&str, &str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &log);
            }
        });
        Self { address, seen }
    }

    fn pull(&self, dirs: &Dirs, creds: Option<&str>) -> anyhow::Result<Image> {
        let options = PullOptions {
            access: Access {
                creds: creds.map(ToOwned::to_owned),
                ..Access::default()
            },
            ..PullOptions::default()
        };
        let reference = format!("{}/made:1", self.address).parse()?;
        image::pull(dirs, &reference, &options, &Silent)
    }
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&str, &str) -> Answer, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            // TLS begins with 0x16: nobody speaks it here.
            Ok(1) if byte[0] != 0x16 || !head.is_empty() => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_auth = |line: &&str| line.to_ascii_lowercase().starts_with("authorization:");
    let auth = head.lines().find(is_auth).unwrap_or("-").to_owned();
    log.lock().unwrap().push(format!("{path} {auth}"));
    let (status, headers, body) = answer(&path, &head);
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&[name, ": ", &value, "\r\n"].concat());
    }
    if !text.contains("Content-Length") {
        text.push_str(&["Content-Length: ", &body.len().to_string(), "\r\n"].concat());
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).ok();
    stream.write_all(&body).ok();
}

/// What an honest registry answers.
fn honest(made: &Made, path: &str) -> Answer {
    if path == "/v2/" {
        return (200, vec![], vec![]);
    }
    if path == "/v2/made/manifests/1" {
        return (200, vec![], made.manifest.clone());
    }
    let digest = path.rsplit('/').next().unwrap_or_default();
    let mut parts = made.parts().into_iter();
    match parts.find(|part| Digest::sha256_of(part).to_string() == digest) {
        Some(part) => (200, vec![], part),
        None => (404, vec![], br#"{"errors":[{"message":"gone"}]}"#.to_vec()),
    }
}

fn is_layer(made: &Made, path: &str) -> bool {
    path.ends_with(&Digest::sha256_of(&made.blobs[0]).to_string())
}

#[test]
fn a_broken_download_is_taken_up_where_it_broke() {
    let (_base, dirs) = store("pull-resume");
    let noise: Vec<u8> = (0..100_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    for ranges in [true, false] {
        let made = make(&[tar_of(&[("a", &noise), ("b", &[u8::from(ranges)])])]);
        let first = Mutex::new(true);
        let registry = Registry::start(move |path, head| {
            if !is_layer(&made, path) {
                return honest(&made, path);
            }
            let blob = &made.blobs[0];
            if std::mem::take(&mut *first.lock().unwrap()) {
                let length = ("Content-Length", blob.len().to_string());
                return (200, vec![length], blob[..blob.len() / 2].to_vec());
            }
            let offset = head
                .to_ascii_lowercase()
                .split("range: bytes=")
                .nth(1)
                .and_then(|rest| rest.split('-').next().unwrap().parse::<usize>().ok())
                .unwrap_or(0);
            if !ranges {
                return (200, vec![], blob.clone());
            }
            assert!(offset > 0);
            let told = format!("bytes {offset}-{}/{}", blob.len() - 1, blob.len());
            (206, vec![("Content-Range", told)], blob[offset..].to_vec())
        });
        let image = registry.pull(&dirs, None).unwrap();
        assert_eq!(image.size, noise.len() as u64 + 1);
    }
}

/// Changes an honest answer.
type Lie = fn(&Made, &str, Answer) -> Answer;

#[test]
fn registries_that_lie_are_refused_and_leave_nothing() {
    let (_base, dirs) = store("pull-lies");
    let lies: [(Lie, &str); 6] = [
        (
            |made, path, mut answer| {
                if is_layer(made, path) {
                    answer.2[9] ^= 1;
                }
                answer
            },
            "wrong digest",
        ),
        (
            |made, path, mut answer| {
                if is_layer(made, path) {
                    answer.2.push(0);
                }
                answer
            },
            "wrong size",
        ),
        (
            |_, path, answer| {
                if path.contains("manifests") {
                    (200, vec![], b"<html>".to_vec())
                } else {
                    answer
                }
            },
            "cannot read the manifest",
        ),
        (
            |_, path, answer| {
                if path.contains("manifests") {
                    (200, vec![], vec![b' '; 5 << 20])
                } else {
                    answer
                }
            },
            "larger than 4194304 bytes",
        ),
        (
            |_, path, answer| {
                if path.contains("blobs") {
                    (404, vec![], vec![])
                } else {
                    answer
                }
            },
            "has no blob sha256:",
        ),
        (
            |_, path, answer| {
                if path.contains("manifests") {
                    (404, vec![], vec![])
                } else {
                    answer
                }
            },
            "has no made:1",
        ),
    ];
    for (lie, why) in lies {
        let made = make(&[tar_of(&[("a", b"1")])]);
        let registry = Registry::start(move |path, _| lie(&made, path, honest(&made, path)));
        let err = registry.pull(&dirs, None).unwrap_err();
        let text = crate::error::message(&err);
        assert!(text.contains(why), "{text}");
        assert_empty(&dirs);
    }
}

#[test]
fn a_password_goes_to_the_token_server_and_no_token_to_another_host() {
    let (_base, dirs) = store("pull-token");
    let made = make(&[tar_of(&[("a", b"1")])]);
    let blob = made.blobs[0].clone();
    let other = Registry::start(move |_, _| (200, vec![], blob.clone()));
    let elsewhere = format!(
        "http://{}/blob",
        other.address.replace("127.0.0.1", "localhost")
    );
    let registry = Registry::start(move |path, head| {
        let host = head.split("ost: ").nth(1).unwrap().lines().next().unwrap();
        if path.starts_with("/token") {
            return (200, vec![], br#"{"token":"t0ken"}"#.to_vec());
        }
        if path != "/v2/" && !head.contains("Bearer t0ken") {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return (401, vec![("WWW-Authenticate", challenge)], vec![]);
        }
        if is_layer(&made, path) {
            return (307, vec![("Location", elsewhere.clone())], vec![]);
        }
        honest(&made, path)
    });
    registry.pull(&dirs, Some("ann:secret")).unwrap();
    assert_eq!(*other.seen.lock().unwrap(), ["/blob -"]);
    let seen = registry.seen.lock().unwrap();
    let with_password: Vec<&String> = seen.iter().filter(|line| line.contains("Basic")).collect();
    assert_eq!(with_password.len(), 1);
    assert!(with_password[0].starts_with("/token?service=s&scope=repository:made:pull "));
}

#[test]
fn a_registry_that_is_not_there_is_told() {
    let (_base, dirs) = store("pull-nowhere");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let reference = format!("{address}/x").parse().unwrap();
    let err = image::pull(&dirs, &reference, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(
        crate::error::message(&err),
        format!(
            "cannot pull \"{address}/x:latest\": cannot reach registry {address}: Connection refused (os error 111)"
        )
    );
    assert_empty(&dirs);
}

/// Answers `first` at once, and then byte after byte of `rest`, or nothing at all.
fn slow(first: &str, rest: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let first = first.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, first) = (stream.unwrap(), first.clone());
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let count = stream.read(&mut head).unwrap_or(0);
                // TLS begins with 0x16: nobody speaks it here.
                if count == 0 || head[0] == 0x16 {
                    return;
                }
                let is_ping = head.starts_with(b"GET /v2/ ");
                let ping = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let first = if is_ping { ping } else { &first };
                stream.write_all(first.as_bytes()).ok();
                for byte in rest.iter().cycle().take_while(|_| !is_ping) {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    if stream.write_all(&[*byte]).is_err() {
                        return;
                    }
                }
                std::thread::sleep(std::time::Duration::from_secs(if is_ping { 0 } else { 20 }));
            });
        }
    });
    address
}

#[test]
fn slow_servers_are_given_up() {
    let (_base, dirs) = store("pull-slow");
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n";
    for (address, why) in [
        (slow("", b""), "it does not answer in time"),
        (slow(head, b""), "timeout"),
        (slow(head, b" "), "it comes too slowly"),
        (
            slow("HTTP/1.1 200 OK\r\nX: ", b"x"),
            "it does not answer in time",
        ),
    ] {
        let options = PullOptions {
            access: Access {
                retries: 0,
                patience: std::time::Duration::from_millis(500),
                ..Access::default()
            },
            ..PullOptions::default()
        };
        let reference = format!("{address}/x").parse().unwrap();
        let begun = std::time::Instant::now();
        let err = image::pull(&dirs, &reference, &options, &Silent).unwrap_err();
        let text = crate::error::message(&err);
        assert!(text.contains(why), "{why}: {text}");
        assert!(begun.elapsed().as_secs() < 10, "{why}");
    }
    assert_empty(&dirs);
}

#[test]
fn a_registry_that_wants_a_pause_gets_one() {
    let (_base, dirs) = store("pull-pause");
    let made = make(&[tar_of(&[("a", b"1")])]);
    let asked = std::sync::atomic::AtomicU32::new(0);
    let registry = Registry::start(move |path, _| {
        match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => (429, vec![("Retry-After", "1".into())], vec![]),
            2 => (503, vec![], vec![]),
            _ => honest(&made, path),
        }
    });
    let begun = std::time::Instant::now();
    registry.pull(&dirs, None).unwrap();
    assert!(begun.elapsed().as_millis() >= 1900);
    let seen = registry.seen.lock().unwrap();
    let manifests = seen.iter().filter(|line| line.contains("/manifests/"));
    assert_eq!(manifests.count(), 3);
}

/// A docker-archive of one image, whose layer is its own tar.
fn docker_archive(tar: &[u8], names: &[&str]) -> Vec<u8> {
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256_of(tar)]}});
    let list = serde_json::json!([{"Config": "c.json", "RepoTags": names, "Layers": ["l.tar"]}]);
    let (config, list) = (config.to_string(), list.to_string());
    let files: [(&str, &[u8]); 3] = [
        ("c.json", config.as_bytes()),
        ("l.tar", tar),
        ("manifest.json", list.as_bytes()),
    ];
    tar_of(&files)
}

#[test]
fn an_archive_that_breaks_off_anywhere_gives_no_image() {
    let (_base, dirs) = store("truncated");
    let layer = tar_of(&[("file", b"content")]);
    let whole = docker_archive(&layer, &["made:1"]);
    // What follows the last byte of the last file is padding.
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for length in 0..=end {
        let err = load_bytes(&dirs, whole[..length].to_vec()).unwrap_err();
        let text = crate::error::message(&err);
        assert!(text.starts_with("cannot load standard input: "), "{text}");
        assert!(super::list(&dirs, drop).unwrap().is_empty(), "{length}");
    }
    assert_eq!(load_bytes(&dirs, whole).unwrap().len(), 1);
}
