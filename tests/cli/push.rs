//! `rbox push` and `rbox manifest`: into a real registry, read again by skopeo, and into an odd one.
use serde_json::Value;

use crate::support::Rbox;
use crate::support::odd;
use crate::support::odd::Ways;
use crate::support::place;
use crate::support::registry;
use crate::support::registry::Registry;

const INSECURE: &str = "--tls-verify=false";

/// A registry that takes pushes, of this test alone.
fn empty(rbox: &Rbox) -> Registry {
    let data = rbox.work("registry");
    std::fs::create_dir(&data).unwrap();
    registry::start(&data, false, "")
}

impl Rbox {
    /// The manifest of an image in a registry, in skopeo's words.
    fn raw(&self, image: &str) -> String {
        self.program("skopeo")
            .args(["inspect", "--raw", INSECURE])
            .arg(format!("docker://{image}"))
            .stdout_any()
            .run()
            .stdout
    }

    /// skopeo gets all blobs and compares them with their digests.
    fn copied(&self, image: &str) {
        let place = format!("dir:{}", self.work("copied").display());
        self.program("skopeo")
            .args(["copy", "-q", "--all", "--src-tls-verify=false"])
            .args([&format!("docker://{image}"), &place])
            .run();
    }
}

#[test]
fn what_was_pulled_goes_back_byte_for_byte() {
    let rbox = Rbox::new();
    let (from, to) = (registry::http(), empty(&rbox));
    for name in ["busybox:user", "busybox:schema2", "zstd/busybox", "debian"] {
        let (source, target) = (from.reference(name), to.reference(name));
        rbox.args(["pull", "-q", INSECURE, &source])
            .stdout("[ID]\n")
            .run();
        let file = rbox.work("digest");
        rbox.args(["push", "-q", INSECURE, "--digestfile"])
            .arg(&file)
            .args([&source, &target])
            .run();
        assert_eq!(rbox.raw(&source), rbox.raw(&target), "{name}");
        rbox.copied(&target);
        let digest = std::fs::read_to_string(&file).unwrap();
        let by_digest = format!("{}@{digest}", target.trim_end_matches(":user"));
        let by_digest = by_digest.replace(":schema2@", "@");
        assert_eq!(rbox.raw(&by_digest), rbox.raw(&target), "{name}");
    }
}

#[test]
fn what_was_made_here_is_compressed_and_always_to_the_same_bytes() {
    let rbox = Rbox::with_busybox();
    let to = empty(&rbox);
    for (form, ending) in [
        ("gzip", "+gzip"),
        ("zstd", "+zstd"),
        ("zstd:chunked", "+zstd"),
        ("none", ".tar"),
    ] {
        let name = |number: u8| to.reference(&format!("{}:{number}", form.replace(':', "-")));
        let options = ["push", "-q", INSECURE, "--compression-format", form];
        rbox.args(options).args(["busybox", &name(1)]).run();
        // Without what the first push has remembered.
        std::fs::remove_dir_all(rbox.data().join("cache/packed")).ok();
        rbox.args(options).args(["busybox", &name(2)]).run();
        let raw = rbox.raw(&name(1));
        assert_eq!(raw, rbox.raw(&name(2)));
        rbox.copied(&name(1));
        let manifest: Value = serde_json::from_str(&raw).unwrap();
        let layer = &manifest["layers"][0];
        let media_type = layer["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with(ending), "{form}: {media_type}");
        let checksum = "io.github.containers.zstd-chunked.manifest-checksum";
        assert_eq!(
            layer["annotations"][checksum].is_string(),
            form == "zstd:chunked"
        );
        let other = Rbox::new();
        let image = name(1);
        other
            .args(["pull", "-q", INSECURE, &image])
            .stdout("[ID]\n")
            .run();
        other
            .args(["run", "--rm", &image, "echo", form])
            .stdout(format!("{form}\n"))
            .run();
    }
    rbox.args(["push", "-q", INSECURE, "busybox", &to.reference("usual")])
        .run();
    assert!(rbox.raw(&to.reference("usual")).contains("+gzip"));
}

#[test]
fn manifests_change_their_type_where_that_is_asked_for() {
    let rbox = Rbox::new();
    let (from, to) = (registry::http(), empty(&rbox));
    for (name, format, wanted) in [
        (
            "busybox:user",
            "v2s2",
            "vnd.docker.distribution.manifest.v2",
        ),
        ("busybox:schema2", "oci", "vnd.oci.image.manifest.v1"),
        ("zstd/busybox", "v2s2", "rootfs.diff.tar.gzip"),
    ] {
        let source = from.reference(name);
        let target = to.reference(name);
        rbox.args(["pull", "-q", INSECURE, &source])
            .stdout("[ID]\n")
            .run();
        rbox.args(["push", "-q", INSECURE, "--format", format, &source, &target])
            .run();
        let raw = rbox.raw(&target);
        assert!(raw.contains(wanted), "{name}: {raw}");
        rbox.copied(&target);
    }
    rbox.args([
        "push",
        "--format",
        "v2s2",
        "--compression-format",
        "zstd",
        "x",
    ])
    .stderr(
        "Error: --format v2s2: Docker's manifests have no layers of zstd\nHint: use --format oci\n",
    )
    .status(125)
    .run();
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let rbox = Rbox::with_busybox();
    let to = odd::start(Ways::default());
    let first = format!("{}/one", to.host);
    rbox.args(["push", "-q", INSECURE, "busybox", &first]).run();
    rbox.args(["tag", "busybox", &first]).run();
    let second = format!("{}/two", to.host);
    rbox.args(["push", "-q", INSECURE, "busybox", &second])
        .run();
    let uploads = |repository: &str| {
        let start = format!("PUT /v2/{repository}/blobs/");
        let requests = to.requests();
        requests
            .iter()
            .filter(|one| one.starts_with(&start))
            .count()
    };
    // The layer and the config, and then the config alone.
    assert_eq!((uploads("one"), uploads("two")), (2, 1));
    rbox.args(["rmi", "-f", &first]).stdout_any().run();
}

#[test]
fn all_tags_of_a_repository_are_pushed() {
    let rbox = Rbox::with_busybox();
    let to = empty(&rbox);
    let repository = to.reference("team/app");
    for tag in ["1", "2"] {
        rbox.args(["tag", "busybox", &format!("{repository}:{tag}")])
            .run();
    }
    rbox.args(["push", "-q", INSECURE, "--all-tags", &repository])
        .run();
    let raw = rbox.raw(&format!("{repository}:1"));
    assert_eq!(raw, rbox.raw(&format!("{repository}:2")));
    rbox.args(["push", "-a", &format!("{repository}:1")])
        .stderr_has("--all-tags takes a repository alone")
        .status(125)
        .run();
}

/// `user` with `password`, in bcrypt.
const HTPASSWD: &str = "user:$2y$05$eCIl67jM8ViIjz08KV0TwuRmlKUbCxhIo7ZW8cWa14UdaYjtd/mKG";

#[test]
fn a_registry_with_tls_and_passwords_takes_a_push() {
    let rbox = Rbox::with_busybox();
    let data = rbox.work("registry");
    std::fs::create_dir(&data).unwrap();
    registry::https();
    let certificates = place::cache().join("certificates");
    let more = format!(
        "  tls:\n    certificate: {0}/server.crt\n    key: {0}/server.key\n\
         auth:\n  htpasswd:\n    realm: x\n    path: {1}\n",
        certificates.display(),
        rbox.write("htpasswd", HTPASSWD).display()
    );
    let to = registry::start(&data, false, &more);
    let image = to.reference("app:1");
    let push = |creds: &str| {
        rbox.args(["push", "-q", "--creds", creds, "busybox", &image])
            .env("SSL_CERT_FILE", registry::authority())
    };
    push("user:wrong")
        .stderr_has("refuses access")
        .status(125)
        .run();
    push("user:password").run();
    rbox.program("skopeo")
        .args(["inspect", INSECURE, "--creds", "user:password"])
        .arg(format!("docker://{image}"))
        .stdout_has("\"Layers\"")
        .run();
}

/// Pushes busybox into such a registry, and finds there what was sent.
fn push_to(ways: Ways, more: &[&str]) -> (Rbox, odd::Odd) {
    let rbox = Rbox::with_busybox();
    let to = odd::start(ways);
    let image = format!("{}/odd:1", to.host);
    rbox.args(["push", "-q", INSECURE, "--retry-delay", "10ms"])
        .args(more)
        .args(["busybox", &image])
        .run();
    (rbox, to)
}

fn assert_whole(to: &odd::Odd, blobs: &odd::Odd) {
    let manifest = to.kept("/v2/odd/manifests/1").expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let path = format!("/v2/odd/blobs/{}", part["digest"].as_str().unwrap());
        let bytes = blobs.kept(&path).expect("a blob");
        assert_eq!(part["size"], bytes.len());
    }
}

#[test]
fn a_registry_that_takes_small_parts_alone_gets_them() {
    let ways = |part_max: usize| Ways {
        part_max: Some(part_max),
        ..Ways::default()
    };
    let (_rbox, to) = push_to(ways(200_000), &["--compression-format", "none"]);
    assert_whole(&to, &to);
    let requests = to.requests();
    let patches = requests.iter().filter(|line| line.starts_with("PATCH"));
    assert!(patches.count() > 10, "{requests:#?}");
    let rbox = Rbox::with_busybox();
    let to = odd::start(ways(1000));
    let image = format!("{}/odd:1", to.host);
    rbox.args(["push", "-q", INSECURE, "--compression-format", "none"])
        .args(["busybox", &image])
        .stderr_has("takes no part of")
        .status(125)
        .run();
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let ways = Ways {
        breaks: Some((300_000, 3)),
        ..Ways::default()
    };
    let (_rbox, to) = push_to(ways, &[]);
    assert_whole(&to, &to);
    let requests = to.requests();
    let patches = requests.iter().filter(|line| line.starts_with("PATCH"));
    assert_eq!(patches.count(), 3, "{requests:#?}");
}

#[test]
fn where_uploads_go_elsewhere_no_password_goes_with_them() {
    let elsewhere = odd::start(Ways::default());
    // Its first two uploads are those of the registry.
    let basic = "Basic dXNlcjpwYXNzd29yZA==";
    let ways = Ways {
        elsewhere: Some(format!("http://{}", elsewhere.host)),
        authorization: Some(basic.to_owned()),
        ..Ways::default()
    };
    elsewhere.open_uploads(2);
    let (_rbox, to) = push_to(ways, &["--creds", "user:password"]);
    assert_whole(&to, &elsewhere);
    let seen = to.requests();
    assert!(seen.iter().any(|line| line.ends_with(basic)), "{seen:#?}");
    let told = elsewhere.requests();
    assert!(!told.is_empty());
    assert!(told.iter().all(|line| !line.contains("Basic")), "{told:#?}");
}

#[test]
fn a_registry_of_docker_alone_gets_its_type() {
    let ways = Ways {
        docker_only: true,
        ..Ways::default()
    };
    let (_rbox, to) = push_to(ways, &[]);
    assert_whole(&to, &to);
    let manifest = to.kept("/v2/odd/manifests/1").unwrap();
    let manifest = String::from_utf8(manifest).unwrap();
    assert!(manifest.contains("vnd.docker.distribution.manifest.v2+json"));
}

#[test]
fn lists_are_made_changed_and_pushed() {
    let rbox = Rbox::with_busybox();
    let (from, to) = (registry::http(), empty(&rbox));
    let remote = from.reference("debian");
    rbox.args(["manifest", "create", "app", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["manifest", "create", "app"])
        .stderr_has("there is a list of the name \"localhost/app:latest\"")
        .status(125)
        .run();
    rbox.args(["manifest", "add", INSECURE, "--arch", "arm64"])
        .args(["--variant", "v8", "--annotation", "a=b", "app"])
        .arg(format!("docker://{remote}"))
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "manifest",
        "annotate",
        "--os-version",
        "7",
        "app",
        "busybox",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "manifest",
        "annotate",
        "--index",
        "--annotation",
        "c=d",
        "app",
    ])
    .stdout("[ID]\n")
    .run();
    let shown = rbox
        .args(["manifest", "inspect", "app"])
        .stdout_any()
        .run()
        .stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["annotations"]["c"], "d");
    assert_eq!(shown["manifests"][0]["platform"]["os.version"], "7");
    assert_eq!(shown["manifests"][1]["platform"]["variant"], "v8");
    assert_eq!(shown["manifests"][1]["annotations"]["a"], "b");
    rbox.args(["images", "--format", "{{.Repository}}:{{.Tag}}", "app"])
        .stdout("localhost/app:latest\n")
        .run();
    rbox.args(["untag", "app"])
        .stderr(
            "Error: cannot untag image \"app\": it is a list, which has nothing but its name\n\
             Hint: `rbox manifest rm app` removes it\n",
        )
        .status(125)
        .run();
    rbox.args(["tag", "app", "app:more"]).run();
    rbox.args(["untag", "app", "app:more"]).run();
    rbox.args(["image", "exists", "busybox"]).run();
    // What runs is the image for this machine.
    rbox.args(["run", "--rm", "app", "echo", "listed"])
        .stdout("listed\n")
        .run();
    let image = to.reference("app:1");
    rbox.args(["manifest", "push", "-q", INSECURE, "app", &image])
        .run();
    rbox.copied(&image);
    let pushed: Value = serde_json::from_str(&rbox.raw(&image)).unwrap();
    assert_eq!(
        pushed["manifests"][1]["digest"],
        shown["manifests"][1]["digest"]
    );
    rbox.args(["manifest", "exists", "app"]).run();
    rbox.args(["manifest", "remove", "app"])
        .arg(shown["manifests"][1]["digest"].as_str().unwrap())
        .stdout("[ID]\n")
        .run();
    rbox.args(["manifest", "push", "-q", INSECURE, "--rm", "app"])
        .arg(to.reference("app:2"))
        .run();
    rbox.args(["manifest", "exists", "app"]).status(1).run();
    rbox.args(["manifest", "create", "-a", "app"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["rmi", "app"])
        .stdout_has("Untagged: localhost/app:latest\nDeleted: ")
        .run();
    rbox.args(["images", "-q"]).stdout("[ID]\n").run();
}
