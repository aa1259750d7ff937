//! `rbox pull`, from a real registry, with and without TLS.
use crate::support::Rbox;
use crate::support::registry;

const INSECURE: &str = "--tls-verify=false";

#[test]
fn pull_and_run_over_http() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    rbox.args(["pull", "-q", INSECURE, &image])
        .stdout("sha256:[ID]\n")
        .run();
    rbox.args(["run", "--rm", &image, "echo", "pulled"])
        .stdout("pulled\n")
        .run();
}

#[test]
fn loopback_registries_may_speak_http() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    rbox.args(["pull", "-q", &image])
        .stdout("sha256:[ID]\n")
        .run();
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
fn pull_over_https_with_an_authority_of_ones_own() {
    let rbox = Rbox::new();
    let image = registry::https().reference("busybox");
    rbox.args(["pull", "-q", &image])
        .env("SSL_CERT_FILE", registry::authority())
        .stdout("sha256:[ID]\n")
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
        .stdout("sha256:[ID]\n")
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
            .stdout("sha256:[ID]\n")
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
        .stdout("sha256:[ID]\n")
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
        .stdout("sha256:[ID]\n")
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
                .stdout("sha256:[ID]\n")
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
