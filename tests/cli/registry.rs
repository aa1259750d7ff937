//! `rbox pull`, from a real registry, with and without TLS.
use serde_json::json;

use crate::support::Rbox;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::liar;
use crate::support::registry;

const INSECURE: &str = "--tls-verify=false";

#[test]
fn pull_and_run_over_http() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("[ID]\n")
        .run();
    rbox.args(["run", "--rm", &image, "echo", "pulled"])
        .stdout("pulled\n")
        .run();
}

#[test]
fn loopback_registries_may_speak_http() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    rbox.args(["pull", "-q", &image]).stdout("[ID]\n").run();
}

#[test]
fn run_pulls_what_is_not_there() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    rbox.args(["run", "--rm", &image, "echo", "hi"])
        .stdout("hi\n")
        .stderr_any()
        .run();
    rbox.args(["run", "--rm", &image, "echo", "hi"])
        .stdout("hi\n")
        .run();
    rbox.args(["rmi", &image]).stdout_any().run();
}

#[test]
fn an_image_for_another_platform_than_the_one_asked_for_is_refused() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    let pull = ["pull", "-q", INSECURE, "--platform"];
    rbox.args(pull)
        .args(["linux/s390x", &image])
        .stderr(format!(
            "Error: cannot pull \"{image}:latest\": it is for linux/amd64, and not for linux/s390x\n\
             Hint: leave out `--platform`, `--os`, `--arch` and `--variant` to have it as it is\n"
        ))
        .status(125)
        .run();
    rbox.args(["images", "-q"]).run();
    rbox.args(pull)
        .args(["linux/amd64", &image])
        .stdout("[ID]\n")
        .run();
}

#[test]
fn pull_over_https_with_an_authority_of_ones_own() {
    let rbox = Rbox::new();
    let image = registry::https().reference("busybox");
    rbox.args(["pull", "-q", &image])
        .env("SSL_CERT_FILE", registry::authority())
        .stdout("[ID]\n")
        .run();
    rbox.args(["run", "--rm", &image, "echo", "secure"])
        .stdout("secure\n")
        .run();
}

#[test]
fn an_unknown_authority_is_refused() {
    let rbox = Rbox::new();
    let image = registry::https().reference("busybox");
    rbox.args(["pull", "-q", &image])
        .stderr_has("Error: ")
        .stderr_has("certificate")
        .status(125)
        .run();
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("[ID]\n")
        .run();
}

#[test]
fn tags_digests_and_other_formats() {
    let rbox = Rbox::new();
    let host = &registry::http().host;
    for name in [
        "busybox:user",
        "busybox:schema2",
        "zstd/busybox",
        "testinit",
        "busybox",
    ] {
        rbox.args(["pull", "-q", INSECURE, &format!("{host}/{name}")])
            .stdout("[ID]\n")
            .run();
    }
    for name in ["busybox:schema2", "zstd/busybox"] {
        rbox.args(["run", "--rm", &format!("{host}/{name}"), "echo", name])
            .stdout(format!("{name}\n"))
            .run();
    }
    let digest = rbox
        .program("skopeo")
        .args(["inspect", INSECURE, "--format", "{{.Digest}}"])
        .arg(format!("docker://{host}/busybox:user"))
        .stdout_any()
        .run()
        .stdout;
    let by_digest = format!("{host}/busybox@{}", digest.trim());
    rbox.args(["pull", "-q", INSECURE, &by_digest])
        .stdout("[ID]\n")
        .run();
    rbox.args(["run", "--rm", &by_digest, "id", "-un"])
        .stdout("alice\n")
        .run();
}

#[test]
fn many_layers_of_a_real_debian() {
    let rbox = Rbox::new();
    let image = registry::http().reference("debian");
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "cat /owners/user; ls /gone",
    ])
    .stdout("userkept\nopaque\n")
    .run();
}

#[test]
fn pulls_at_once_of_the_same_image() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    let calls: Vec<_> = (0..6)
        .map(|_| {
            rbox.args(["pull", "-q", INSECURE, &image])
                .stdout("[ID]\n")
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
    rbox.args(["run", "--rm", &image, "echo", "hi"])
        .stdout("hi\n")
        .run();
}

/// Pulls `odd` from a registry with these answers; wants an error that holds `word`.
#[track_caller]
fn pull_refused(what: &str, answers: liar::Answers, word: &str) {
    let rbox = Rbox::new();
    let image = format!("{}/odd", liar::start(answers));
    let stderr = rbox
        .args(["pull", "-q", INSECURE, &image])
        .status(125)
        .stderr_any()
        .run()
        .stderr;
    assert!(stderr.starts_with("Error: "), "{what}: {stderr}");
    assert!(stderr.contains(word), "{what}: {word:?} in {stderr}");
    assert!(!stderr.contains('\u{1b}'), "{what}: {stderr:?}");
    rbox.args(["images", "-q"]).run();
    // The beginning of a layer may be there.
    rbox.args(["image", "prune", "-f"]).run();
}

#[test]
fn a_registry_that_tells_the_truth_is_believed() {
    let rbox = Rbox::new();
    let image = format!("{}/odd", liar::start(liar::truth(&Image::busybox())));
    rbox.args(["run", "--rm", &image, "echo", "true"])
        .stdout("true\n")
        .stderr_any()
        .run();
}

#[test]
fn registries_that_lie_are_refused() {
    const OCTETS: &str = "application/octet-stream";
    let image = Image::busybox();
    let (config, layer) = (image.config_bytes(), &image.layers[0]);
    let with = |path: &str, bytes: Vec<u8>| {
        let mut answers = liar::truth(&image);
        answers.insert(path.to_owned(), bytes);
        answers
    };
    let ok = |bytes: &[u8]| liar::answer("200 OK", OCTETS, bytes);
    let half = &layer[..layer.len() / 2];
    let mut changed = layer.clone();
    changed[600] ^= 1;
    let mut longer = layer.clone();
    longer.extend_from_slice(&[0; 512]);
    for (what, bytes) in [
        ("changed layer", ok(&changed)),
        ("half a layer", ok(half)),
        ("too long a layer", ok(&longer)),
        (
            "a layer cut off",
            liar::sized("200 OK", OCTETS, half, layer.len()),
        ),
        ("no layer", liar::answer("404 Not Found", OCTETS, b"")),
    ] {
        pull_refused(
            what,
            with(&liar::blob(layer), bytes),
            &hostile::hex(layer)[..12],
        );
    }
    let odd_config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let at_config = liar::blob(&config);
    pull_refused(
        "changed config",
        with(&at_config, ok(odd_config)),
        "sha256:",
    );
    for (what, bytes) in [
        (
            "html",
            liar::answer("200 OK", "text/html", b"<html>log in</html>"),
        ),
        (
            "no json",
            liar::answer("200 OK", "application/json", b"{\x1b[31m"),
        ),
        (
            "a server that is ill",
            liar::answer("500 Oh \x1b[31m", "text/plain", b"\x1b[31mred"),
        ),
        (
            "denied",
            liar::answer("401 Unauthorized", "text/plain", b""),
        ),
        (
            "an endless loop",
            b"HTTP/1.1 307 Go\r\nLocation: /v2/odd/manifests/latest\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
        ("another protocol", b"SSH-2.0-OpenSSH\r\n".to_vec()),
        ("silence", Vec::new()),
    ] {
        pull_refused(what, with(liar::LATEST, bytes), "odd");
    }
    let deep = "[".repeat(200_000);
    pull_refused("deep json", with(liar::LATEST, ok(deep.as_bytes())), "odd");
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index of these, each with its type and platform, and its place among the answers.
fn listed(answers: &mut liar::Answers, images: &[(&str, &[u8], Option<&str>)]) -> Vec<u8> {
    let entries = images.iter().map(|(kind, bytes, architecture)| {
        let mut entry =
            json!({"mediaType": kind, "digest": hostile::digest(bytes), "size": bytes.len()});
        if let Some(architecture) = architecture {
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
        }
        entry
    });
    let entries: Vec<_> = entries.collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let path = format!("/v2/odd/manifests/{}", hostile::digest(index.as_bytes()));
    answers.insert(path, liar::answer("200 OK", INDEX, index.as_bytes()));
    index.into_bytes()
}

#[test]
fn indexes_in_indexes_lead_to_the_image_and_end_somewhere() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let image = Image::busybox();
    let manifest = image.manifest_bytes();
    let nested = |depth: usize| {
        let mut answers = liar::truth(&image);
        let mut inner = listed(&mut answers, &[(MANIFEST, &manifest, Some("amd64"))]);
        for _ in 1..depth {
            // The first has nothing for this machine.
            let other = listed(&mut answers, &[(MANIFEST, b"x", Some("s390x"))]);
            inner = listed(
                &mut answers,
                &[(INDEX, &other, None), (INDEX, &inner, None)],
            );
        }
        answers.insert(liar::LATEST.into(), liar::answer("200 OK", INDEX, &inner));
        answers
    };
    for depth in [1, 2, 4] {
        let rbox = Rbox::new();
        let name = format!("{}/odd", liar::start(nested(depth)));
        rbox.args(["run", "-q", "--rm", &name, "echo", "found"])
            .stdout("found\n")
            .run();
        // The name is that of the outermost.
        let digests = rbox
            .args(["images", "--format", "{{.Digest}}"])
            .stdout_any();
        assert_eq!(digests.run().stdout.lines().count(), 1);
    }
    pull_refused("too deep", nested(5), "nested more than 4 deep");
    let mut answers = liar::truth(&image);
    let inner: Vec<Vec<u8>> = (0..40)
        .map(|number: u32| {
            let bytes = number.to_le_bytes();
            listed(&mut answers, &[(MANIFEST, &bytes, Some("s390x"))])
        })
        .collect();
    let all: Vec<_> = inner
        .iter()
        .map(|inner| (INDEX, &inner[..], None))
        .collect();
    let index = listed(&mut answers, &all);
    answers.insert(liar::LATEST.into(), liar::answer("200 OK", INDEX, &index));
    pull_refused("too many", answers, "it lists more than 32 indexes");
    let mut answers = liar::truth(&image);
    let inner = listed(&mut answers, &[(MANIFEST, b"x", Some("s390x"))]);
    let index = listed(&mut answers, &[(INDEX, &inner, None)]);
    answers.insert(liar::LATEST.into(), liar::answer("200 OK", INDEX, &index));
    let word = "there is no image for linux/amd64, only for linux/s390x";
    pull_refused("another machine", answers, word);
}
