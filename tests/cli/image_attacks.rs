//! Images, registries and stores made by who wants something else than the user: each thing is tried by the command
//! line, and is refused in one line or does no harm.
use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha512;

use crate::support::Rbox;
use crate::support::archive::Entry;
use crate::support::archive::Tar;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::liar;
use crate::support::odd;
use crate::support::odd::Ways;

const OCTETS: &str = "application/octet-stream";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INSECURE: &str = "--tls-verify=false";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha512(bytes: &[u8]) -> String {
    let mut text = "sha512:".to_owned();
    for byte in Sha512::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn ok(kind: &str, bytes: &[u8]) -> Vec<u8> {
    liar::answer("200 OK", kind, bytes)
}

/// An image whose layers are what a test wants, under digests of its choice.
struct Parts {
    digest: fn(&[u8]) -> String,
    /// Media type, bytes as they are transferred, their tar.
    layers: Vec<(String, Vec<u8>, Vec<u8>)>,
    /// More fields of the layers' descriptors.
    more: Value,
}

impl Parts {
    fn of(kind: &str, blob: Vec<u8>, tar: Vec<u8>) -> Self {
        Self {
            digest: hostile::digest,
            layers: vec![(kind.to_owned(), blob, tar)],
            more: json!({}),
        }
    }

    fn config(&self) -> Vec<u8> {
        let tars = self.layers.iter();
        let diff_ids: Vec<String> = tars.map(|(_, _, tar)| (self.digest)(tar)).collect();
        json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes()
    }

    fn manifest(&self) -> Vec<u8> {
        let config = self.config();
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": (self.digest)(bytes), "size": bytes.len()});
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(kind, blob, _)| {
                let mut one = descriptor(kind, blob);
                for (key, value) in self.more.as_object().unwrap() {
                    one[key] = value.clone();
                }
                one
            })
            .collect();
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    fn answers(&self) -> liar::Answers {
        let mut answers = liar::Answers::new();
        let (config, manifest) = (self.config(), self.manifest());
        answers.insert("/v2/".into(), ok("application/json", b"{}"));
        answers.insert(liar::LATEST.into(), ok(MANIFEST, &manifest));
        let by_digest = format!("/v2/odd/manifests/{}", (self.digest)(&manifest));
        answers.insert(by_digest, ok(MANIFEST, &manifest));
        let blobs = self.layers.iter().map(|(_, blob, _)| blob);
        for bytes in blobs.chain([&config]) {
            answers.insert(self.path(bytes), ok(OCTETS, bytes));
        }
        answers
    }

    fn path(&self, blob: &[u8]) -> String {
        format!("/v2/odd/blobs/{}", (self.digest)(blob))
    }

    /// As an OCI archive.
    fn archive(&self) -> Vec<u8> {
        let (config, manifest) = (self.config(), self.manifest());
        let top = json!({
            "mediaType": MANIFEST, "digest": (self.digest)(&manifest), "size": manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": "odd:latest"},
        });
        let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
        let mut tar = Tar::default();
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", 0o644, index.as_bytes());
        let blobs = self.layers.iter().map(|(_, blob, _)| blob);
        for bytes in blobs.chain([&config, &manifest]) {
            let path = format!("blobs/{}", (self.digest)(bytes).replace(':', "/"));
            tar.file(&path, 0o644, bytes);
        }
        tar.finish()
    }
}

fn busybox() -> Vec<u8> {
    Image::busybox().layers.remove(0)
}

/// Wants an error of one line (and a hint), and nothing kept.
#[track_caller]
fn refused(rbox: &Rbox, args: &[&str], word: &str) -> String {
    let call = rbox.args(args).stdout_any().status(125).stderr_any();
    let said = call.run().stderr;
    assert!(said.starts_with("Error: ") && said.contains(word), "{said}");
    assert!(said.len() < 3000 && said.lines().count() <= 2, "{said}");
    rbox.args(["images", "-aq"]).run();
    said
}

#[track_caller]
fn pull_refused(answers: liar::Answers, word: &str) {
    let rbox = Rbox::new();
    let image = format!("{}/odd", liar::start(answers));
    let pull = ["pull", "-q", INSECURE, "--retry-delay=10ms", &image];
    refused(&rbox, &pull, word);
    // What came of other layers waits for the next pull.
    rbox.args(["image", "prune", "-f"]).run();
}

/// Everything has the other registered algorithm: manifest, config, layers, and what they unpack to.
#[test]
fn images_by_sha512_are_pulled_run_saved_and_loaded() {
    let rbox = Rbox::new();
    let mut parts = Parts::of(&format!("{LAYER}+gzip"), gzip(&busybox()), busybox());
    parts.digest = sha512;
    // More than the names of layers that a page of mount options holds.
    for number in 0..40 {
        let tar = Tar::default()
            .file("number", 0o644, format!("{number}").as_bytes())
            .finish();
        parts.layers.push((LAYER.into(), tar.clone(), tar));
    }
    let (host, _) = liar::start_seen(parts.answers());
    let by_digest = format!("{host}/odd@{}", sha512(&parts.manifest()));
    for name in [format!("{host}/odd"), by_digest.clone()] {
        rbox.args(["pull", "-q", INSECURE, &name])
            .stdout_any()
            .run();
        rbox.args(["run", "--rm", "--pull=never", &name, "cat", "number"])
            .stdout("39")
            .run();
    }
    rbox.args(["system", "check"]).run();
    let archive = rbox.work("saved.tar").display().to_string();
    let save = ["save", "--format=oci-archive", "-o", &archive, &by_digest];
    rbox.args(save).run();
    rbox.args(["rmi", "-a", "-f"]).stdout_any().run();
    rbox.args(["load", "-q", "-i", &archive]).stdout_any().run();
    let id = rbox.args(["images", "-q"]).stdout_any().run().stdout;
    rbox.args(["run", "--rm", id.trim(), "cat", "number"])
        .stdout("39")
        .run();
    rbox.args(["system", "check"]).run();
    // One byte of one layer.
    let mut answers = parts.answers();
    let mut changed = parts.layers[7].1.clone();
    changed[0] ^= 1;
    answers.insert(parts.path(&parts.layers[7].1), ok(OCTETS, &changed));
    pull_refused(answers, "cannot unpack layer ");
    // Of the config, as long as it was.
    let mut answers = parts.answers();
    let config = parts.config();
    let changed = String::from_utf8(config.clone()).unwrap();
    let changed = changed.replace("PATH=/bin", "PATH=/nib");
    answers.insert(parts.path(&config), ok(OCTETS, changed.as_bytes()));
    pull_refused(answers, "wrong digest: the registry sent another blob");
    // And of the manifest, which is asked for by its digest.
    let mut answers = parts.answers();
    let path = format!("/v2/odd/manifests/{}", sha512(&parts.manifest()));
    let manifest = [parts.manifest().as_slice(), b" "].concat();
    answers.insert(path, ok(MANIFEST, &manifest));
    let rbox = Rbox::new();
    let name = by_digest.replace(&host, &liar::start(answers));
    refused(&rbox, &["pull", "-q", INSECURE, &name], "wrong digest");
}

/// CVE-2020-15157: the URLs of a foreign layer are for nobody to be asked.
#[test]
fn foreign_layers_are_refused_and_their_urls_not_asked() {
    let (elsewhere, seen) = liar::start_seen(liar::Answers::new());
    for kind in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ] {
        let mut parts = Parts::of(kind, gzip(&busybox()), busybox());
        parts.more = json!({"urls": [format!("http://{elsewhere}/layer")]});
        pull_refused(
            parts.answers(),
            " is foreign: such layers are kept elsewhere",
        );
        let rbox = Rbox::new();
        let path = rbox.write("odd.tar", parts.archive());
        let load = ["load", "-q", "-i", path.to_str().unwrap()];
        refused(&rbox, &load, " is foreign: such layers are kept elsewhere");
    }
    // One that the registry has is had from there.
    let rbox = Rbox::new();
    let mut parts = Parts::of(&format!("{LAYER}+gzip"), gzip(&busybox()), busybox());
    parts.more = json!({"urls": [format!("http://{elsewhere}/layer"), "file:///etc/passwd"]});
    let image = format!("{}/odd", liar::start(parts.answers()));
    rbox.args(["run", "--rm", "-q", INSECURE, &image, "echo", "hi"])
        .stdout("hi\n")
        .run();
    assert_eq!(seen.lock().unwrap().len(), 0);
}

/// CVE-2026-111361: the table of contents of zstd:chunked is another description of the same files. It is not read, so
/// that it cannot say anything else than the tar.
#[test]
fn a_table_of_contents_that_lies_changes_nothing() {
    let rbox = Rbox::new();
    let toc = json!({"version": 1, "entries": [
        {"type": "reg", "name": "etc/passwd", "mode": 0o4777, "size": 5, "digest": hostile::digest(b"lies\n")},
        {"type": "symlink", "name": "bin/sh", "linkName": "/etc/passwd"},
    ]});
    let toc = zstd::encode_all(toc.to_string().as_bytes(), 1).unwrap();
    let mut blob = zstd::encode_all(&busybox()[..], 1).unwrap();
    let position = blob.len() + 8;
    // RFC 8878: a skippable frame.
    blob.extend([0x50, 0x2a, 0x4d, 0x18]);
    blob.extend(u32::try_from(toc.len()).unwrap().to_le_bytes());
    blob.extend(&toc);
    let mut parts = Parts::of(&format!("{LAYER}+zstd"), blob.clone(), busybox());
    let toc_digest = hostile::digest(&toc);
    parts.more = json!({"annotations": {
        "io.github.containers.zstd-chunked.manifest-position": format!("{position}:{}:9:1", toc.len()),
        "io.github.containers.zstd-chunked.manifest-checksum": toc_digest,
        "io.containers.zstd-chunked.manifest-position": format!("{position}:{}:9:1", u64::MAX),
        "io.containers.zstd-chunked.manifest-checksum": toc_digest,
        "containerd.io/snapshot/stargz/toc.digest": toc_digest,
    }});
    let image = format!("{}/odd", liar::start(parts.answers()));
    rbox.args(["run", "--rm", "-q", INSECURE, &image, "cat", "etc/passwd"])
        .stdout("root:x:0:0::/root:/bin/sh\n")
        .run();
    rbox.args(["system", "check"]).run();
    // What goes out is what came.
    let archive = rbox.work("saved.tar").display().to_string();
    rbox.args(["save", "--format=oci-archive", "-o", &archive, &image])
        .run();
    let saved = std::fs::read(&archive).unwrap();
    assert!(saved.windows(blob.len()).any(|bytes| bytes == blob));
}

/// What is packed twice, or on the way alone, is not what its digest says, or no tar.
#[test]
fn bombs_in_bombs_are_not_unpacked() {
    let zeros = gzip(&gzip(&vec![0; 64 << 20]));
    let packed = |kind: &str, bytes: &[u8]| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            bytes.len()
        )
        .into_bytes();
        answer.extend(bytes);
        answer
    };
    let parts = Parts::of(&format!("{LAYER}+gzip"), gzip(&busybox()), busybox());
    let config = parts.config();
    // Whoever says that something is packed which is not is not believed.
    let mut answers = parts.answers();
    answers.insert(liar::LATEST.into(), packed(MANIFEST, &parts.manifest()));
    let rbox = Rbox::new();
    let image = format!("{}/odd", liar::start(answers));
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("[ID]\n")
        .run();
    let layer = &parts.layers[0].1;
    for (path, bytes, word) in [
        (
            liar::LATEST.into(),
            packed(MANIFEST, &gzip(&parts.manifest())),
            "cannot read the manifest",
        ),
        (
            liar::LATEST.into(),
            ok(MANIFEST, &zeros),
            "cannot read the manifest",
        ),
        (
            parts.path(&config),
            packed(OCTETS, &gzip(&config)),
            "blob sha256:",
        ),
        (parts.path(&config), ok(OCTETS, &zeros), "blob sha256:"),
        (
            parts.path(layer),
            packed(OCTETS, &gzip(layer)),
            "cannot unpack layer ",
        ),
    ] {
        let mut answers = parts.answers();
        answers.insert(path, bytes);
        pull_refused(answers, word);
    }
    // Named by its true digest, and a config or a layer nevertheless.
    let twice = Parts::of(
        &format!("{LAYER}+gzip"),
        zeros.clone(),
        gzip(&vec![0; 64 << 20]),
    );
    pull_refused(twice.answers(), "it is no tar");
    let rbox = Rbox::new();
    for bytes in [&zeros, &gzip(&parts.archive())] {
        let path = rbox.write("odd.tar", gzip(bytes));
        let load = ["load", "-q", "-i", path.to_str().unwrap()];
        refused(&rbox, &load, "neither a tar nor a directory");
    }
}

/// `security.capability` of a file, as setcap(8) writes it (VFS_CAP_REVISION_2), is in force in the container.
#[test]
fn file_capabilities_come_through() {
    for rbox in [Some(Rbox::new()), Rbox::as_root()] {
        let Some(rbox) = rbox else { continue };
        let mut capability = 0x0200_0001_u32.to_le_bytes().to_vec();
        // CAP_CHOWN and CAP_FOWNER, permitted.
        capability.extend(0b1001_u32.to_le_bytes());
        capability.extend([0; 12]);
        let mut layer = Tar::default();
        layer.entry(&Entry {
            path: b"bin/grep",
            mode: 0o755,
            content: &hostile::busybox(),
            pax: &[("SCHILY.xattr.security.capability", &capability)],
            ..Entry::default()
        });
        let image = Image::busybox().layer(&mut layer);
        let parts = Parts {
            digest: hostile::digest,
            layers: image
                .layers
                .iter()
                .map(|tar| (format!("{LAYER}+gzip"), gzip(tar), tar.clone()))
                .collect(),
            more: json!({}),
        };
        let name = format!("{}/odd", liar::start(parts.answers()));
        let run = ["run", "--rm", "-q", INSECURE, "-u", "1000:1000", &name];
        let effective = ["grep", "CapEff", "/proc/self/status"];
        rbox.args(run)
            .args(effective)
            .stdout("CapEff:\t0000000000000009\n")
            .run();
        // And out again.
        rbox.args(["create", "--name", "c", &name])
            .stdout("[ID]\n")
            .run();
        rbox.args(["commit", "-q", "c", "again"]).stdout_any().run();
        rbox.args(["run", "--rm", "-u", "1000:1000", "again"])
            .args(effective)
            .stdout("CapEff:\t0000000000000009\n")
            .run();
        rbox.remove(&["c"]);
    }
}

/// Where uploads are said to go.
#[test]
fn uploads_go_nowhere_unsafe_and_end() {
    let rbox = Rbox::with_busybox();
    let push = |host: &str| {
        let image = format!("{host}/odd:1");
        let args = ["push", "-q", "--retry-delay=10ms", "--creds=ann:secret"];
        let call = rbox.args(args).args(["busybox", &image]);
        call.status(125).stderr_any().run().stderr
    };
    for (location, word) in [
        ("file:///etc/passwd", "no URL"),
        ("ftp://127.0.0.1/x", "without encryption"),
        ("http://", "no URL"),
        ("javascript:x", "cannot upload blob "),
        ("http://user:pass@127.0.0.1:1/x", "cannot upload blob "),
    ] {
        let mut answers = liar::Answers::new();
        let answer = format!(
            "HTTP/1.1 202 Go\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        answers.insert("/v2/".into(), ok("application/json", b"{}"));
        answers.insert("/v2/odd/blobs/uploads/".into(), answer.into_bytes());
        let said = push(&liar::start(answers));
        assert!(
            said.starts_with("Error: ") && said.contains(word),
            "{location}: {said}"
        );
    }
    // It takes parts for ever, and has never more than a few bytes.
    let ways = Ways {
        part_max: Some(200_000),
        stuck: true,
        ..Ways::default()
    };
    let said = push(&odd::start(ways).host);
    assert!(said.contains("takes no more than 10 bytes of it"), "{said}");
}

/// Small documents that are large in memory, or make endless work.
#[test]
fn documents_that_are_bombs_are_refused() {
    let rbox = Rbox::new();
    let load = |bytes: Vec<u8>, word: &str| {
        let path = rbox.write("odd.tar", bytes);
        refused(&rbox, &["load", "-q", "-i", path.to_str().unwrap()], word);
    };
    for config in [
        json!({"Healthcheck": vec![0; 60_000]}),
        json!({"Env": vec![""; 60_000]}),
        json!({"Healthcheck": vec![json!({}); 30_000]}),
    ] {
        load(
            Image::busybox().with(config).oci_archive(),
            "it has more than 50000 values",
        );
    }
    let docker = |list: Value| {
        let mut tar = Tar::default();
        tar.file("manifest.json", 0o644, list.to_string().as_bytes());
        tar.finish()
    };
    let one = json!({"Config": "c", "Layers": ["l"], "RepoTags": ["a:1"]});
    load(docker(json!(vec![one; 1001])), "more than 1000 images");
    let tags: Vec<String> = (0..3000).map(|number| format!("a:{number}")).collect();
    let many = json!([{"Config": "c", "Layers": ["l"], "RepoTags": tags}]);
    load(docker(many), "more than 2000 names of images");
    let long = "x".repeat(3 << 20);
    let name = json!([{"Config": long, "Layers": ["l"], "RepoTags": []}]);
    load(docker(name), "there is no such file in it");
}

/// Readers that take a document for different things are kept from doing so.
#[test]
fn manifests_that_others_read_differently_are_refused() {
    let mut twice = Image::busybox();
    let one =
        json!({"mediaType": LAYER, "digest": hostile::digest(&busybox()), "size": busybox().len()});
    twice.manifest = json!({"layers": [one, one]});
    pull_refused(
        liar::truth(&twice),
        "the manifest has 2 layers, and the image config 1",
    );
    let parts = Parts::of(LAYER, busybox(), busybox());
    let manifest = String::from_utf8(parts.manifest()).unwrap();
    let evil = "\"layers\":[],";
    for changed in [
        manifest.replacen('{', &format!("{{{evil}"), 1),
        manifest.replacen('{', &format!("{{{}", evil.replace('l', "L")), 1),
        format!("[2,\"{MANIFEST}\"]"),
        format!("{manifest}{manifest}"),
    ] {
        let mut answers = parts.answers();
        answers.insert(liar::LATEST.into(), ok(MANIFEST, changed.as_bytes()));
        pull_refused(answers, "cannot read the manifest");
    }
}

/// CVE-2019-10214: where a registry wants a password sent to.
#[test]
fn a_login_sends_the_password_nowhere_unsafe() {
    let rbox = Rbox::new();
    let (thief, stolen) = liar::start_seen(liar::Answers::new());
    let login = |challenge: &str| {
        let mut answers = liar::Answers::new();
        let answer = format!(
            "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        answers.insert("/v2/".into(), answer.into_bytes());
        let (host, seen) = liar::start_seen(answers);
        let file = rbox.work("auth.json").display().to_string();
        let login = ["login", "-u", "ann", "-p", "secret", "--authfile", &file];
        let call = rbox.args(login).arg(&host).status(125).stderr_any();
        let said = call.run().stderr;
        assert!(
            said.starts_with("Error: ") && said.lines().count() <= 2,
            "{said}"
        );
        assert!(!said.contains("secret"), "{said}");
        let seen = seen.lock().unwrap().join("\n").to_lowercase();
        assert!(!seen.contains("authorization"), "{challenge}: {seen}");
        assert!(!std::path::Path::new(&file).exists());
        said
    };
    for realm in [
        "file:///etc/passwd".to_owned(),
        format!("http://ann@{thief}/t"),
        format!("//{thief}/t"),
        format!("http://{thief}/t#"),
        "ftp://127.0.0.1/t".to_owned(),
        String::new(),
    ] {
        let said = login(&format!("Bearer realm=\"{realm}\""));
        assert!(
            said.contains("wants the password sent to"),
            "{realm}: {said}"
        );
    }
    login("Negotiate");
    login(&format!("Digest realm=\"http://{thief}/t\""));
    login("Bearer service=\"x\"");
    assert_eq!(stolen.lock().unwrap().len(), 0);
}

/// The next page of a list is one of the same server, or there is none: what is shown to that would be shown there.
#[test]
fn a_list_does_not_go_on_elsewhere() {
    let rbox = Rbox::new();
    let (elsewhere, seen) = liar::start_seen(liar::Answers::new());
    let path = "/v2/odd/tags/list?n=1000";
    let mut answers = liar::Answers::new();
    let challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let body = r#"{"name":"odd","tags":["one"]}"#;
    let page = format!(
        "HTTP/1.1 200 OK\r\nLink: <http://{elsewhere}{path}>; rel=\"next\"\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    answers.insert("/v2/".into(), ok("application/json", b"{}"));
    answers.insert(path.into(), challenge.to_vec());
    answers.insert(format!("{}{path}", liar::KNOWN), page.into_bytes());
    let (host, asked) = liar::start_seen(answers);
    let search = ["search", "--list-tags", "--creds=ann:secret", INSECURE];
    rbox.args(search)
        .arg(format!("{host}/odd"))
        .stdout_has("one")
        .run();
    assert!(
        asked
            .lock()
            .unwrap()
            .join("\n")
            .contains("YW5uOnNlY3JldA==")
    );
    assert_eq!(seen.lock().unwrap().join("\n"), "");
}

/// What has changed on disk goes to nobody under its old digest.
#[test]
fn a_damaged_layer_is_not_pushed() {
    let rbox = Rbox::new();
    let blob = gzip(&busybox());
    let parts = Parts::of(&format!("{LAYER}+gzip"), blob.clone(), busybox());
    let image = format!("{}/odd", liar::start(parts.answers()));
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("[ID]\n")
        .run();
    let path = rbox.data().join("blobs/sha256").join(hostile::hex(&blob));
    let mut changed = blob;
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let to = odd::start(Ways::default());
    rbox.args(["push", "-q", INSECURE, "--retry-delay=10ms", &image])
        .arg(format!("{}/odd:1", to.host))
        .stderr_has("have changed on disk")
        .status(125)
        .run();
    assert_eq!(to.kept("/v2/odd/manifests/1"), None);
}
