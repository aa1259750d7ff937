//! Bad input: one clear `Error:` line, a `Hint:` where a person can act, the right status,
//! and nothing left behind.
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use serde_json::json;

use crate::support::Rbox;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::images;
use crate::support::net::free_port;
use crate::support::registry;

/// Runs it and wants one `Error:` line that holds these words, and perhaps a `Hint:`.
#[track_caller]
fn refused(rbox: &Rbox, args: &[&str], status: i32, words: &[&str]) {
    let stderr = rbox.args(args).status(status).stderr_any().run().stderr;
    one_error(&stderr, words);
}

#[track_caller]
fn one_error(stderr: &str, words: &[&str]) {
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(
        matches!(lines.len(), 1 | 2)
            && lines[0].starts_with("Error: ")
            && lines.get(1).is_none_or(|line| line.starts_with("Hint: ")),
        "one error, perhaps a hint: {stderr:?}"
    );
    for word in words {
        assert!(stderr.contains(word), "{word:?} in {stderr:?}");
    }
    for odd in [
        "failed to",
        "panicked",
        "unwrap",
        "ureq",
        "serde",
        "caused by",
        "..",
    ] {
        assert!(!lines[0].contains(odd), "{odd:?} in {stderr:?}");
    }
    assert!(!lines[0].ends_with('.'), "{stderr:?}");
}

#[test]
fn missing_command_is_127() {
    let rbox = Rbox::with_busybox();
    refused(
        &rbox,
        &["run", "--rm", "busybox", "nosuch"],
        127,
        &["nosuch"],
    );
    refused(
        &rbox,
        &["run", "--rm", "busybox", "/no/such"],
        127,
        &["/no/such"],
    );
    refused(
        &rbox,
        &["run", "--rm", "-it", "busybox", "nosuch"],
        127,
        &["nosuch"],
    );
    refused(
        &rbox,
        &["run", "-d", "--rm", "busybox", "nosuch"],
        127,
        &["nosuch"],
    );
}

#[test]
fn command_that_cannot_execute_is_126() {
    let rbox = Rbox::with_busybox();
    refused(
        &rbox,
        &["run", "--rm", "busybox", "/etc/passwd"],
        126,
        &["/etc/passwd", "Permission denied"],
    );
    refused(&rbox, &["run", "--rm", "busybox", "/etc"], 126, &["/etc"]);
    let script = rbox.write("text", "no program\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bind = format!("{}:/text", script.display());
    refused(
        &rbox,
        &["run", "--rm", "-v", &bind, "busybox", "/text"],
        126,
        &["/text", "Exec format error"],
    );
}

/// It counts as ended, with the status that the command returned.
#[test]
fn a_failed_start_leaves_a_container_without_rm() {
    let rbox = Rbox::with_busybox();
    refused(
        &rbox,
        &["run", "--name", "f", "busybox", "nosuch"],
        127,
        &["nosuch"],
    );
    rbox.args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
        .stdout("f exited\n")
        .run();
    rbox.remove(&["f"]);
}

#[test]
fn unknown_objects() {
    let rbox = Rbox::with_busybox();
    // As Docker and Podman: what was found comes out as JSON all the same.
    rbox.args(["inspect", "nosuch"])
        .stdout("[]\n")
        .stderr_has("Error: no container, image or network named \"nosuch\"\n")
        .status(125)
        .run();
    for verb in ["start", "stop", "kill", "rm", "logs", "wait"] {
        refused(&rbox, &[verb, "nosuch"], 125, &["nosuch"]);
    }
    refused(&rbox, &["exec", "nosuch", "true"], 125, &["nosuch"]);
    refused(&rbox, &["rmi", "nosuch"], 1, &["nosuch"]);
    refused(&rbox, &["tag", "nosuch", "other"], 125, &["nosuch"]);
    // Without asking, nothing is sent anywhere.
    refused(
        &rbox,
        &["run", "--rm", "--pull=never", "nosuch"],
        125,
        &["nosuch"],
    );
}

#[test]
fn a_name_that_is_taken() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("taken");
    refused(
        &rbox,
        &["run", "--name", "taken", "busybox", "true"],
        125,
        &["\"taken\"", "running", "Hint: "],
    );
    refused(
        &rbox,
        &["create", "--name", "taken", "busybox", "true"],
        125,
        &["\"taken\""],
    );
    rbox.remove(&["taken"]);
}

#[test]
fn malformed_names_and_references() {
    let rbox = Rbox::with_busybox();
    for name in [
        "",
        "-x",
        ".",
        "..",
        "a/b",
        "../x",
        "a b",
        "ä",
        &"x".repeat(300),
    ] {
        let name = format!("--name={name}");
        let stderr = rbox
            .args(["run", "--rm", &name, "busybox", "true"])
            .status(125)
            .stderr_any()
            .run()
            .stderr;
        assert!(stderr.starts_with("Error: "), "{name}: {stderr}");
    }
    for reference in [
        "",
        "UPPER",
        "a//b",
        "x:",
        ":x",
        "a@sha256:12",
        "a b",
        "../etc",
        "http://x/y",
        "-",
    ] {
        let stderr = rbox
            .args(["run", "--rm", "--", reference, "true"])
            .status(125)
            .stderr_any()
            .run()
            .stderr;
        assert!(stderr.starts_with("Error: "), "{reference}: {stderr}");
    }
}

#[test]
fn malformed_flags() {
    let rbox = Rbox::with_busybox();
    // With --rm, as a container that could not start is kept otherwise.
    for args in [
        &["run"][..],
        &["run", "--nosuchflag", "busybox"],
        &["run", "--network", "brigde", "busybox"],
        &["run", "--rm", "-v", "relative/../x", "busybox"],
        &["run", "--rm", "-v", "/a:relative", "busybox"],
        &["run", "--rm", "-v", "/a:/b:nosuch", "busybox"],
        &["run", "--rm", "-v", "/nosuch/dir:/b", "busybox"],
        &["run", "--rm", "-e", "=x", "busybox"],
        &["run", "--rm", "-u", "nosuch", "busybox"],
        &["run", "--rm", "-u", "-1", "busybox"],
        &["run", "--rm", "-u", "99999999999", "busybox"],
        &["run", "--rm", "-w", "relative", "busybox"],
        &["stop", "-t", "soon", "x"],
        &["kill", "-s", "NOSUCH", "x"],
        &["logs", "--tail", "many", "x"],
        &["nosuchcommand"],
        &["exec"],
    ] {
        let stderr = rbox.args(args).status(125).stderr_any().run().stderr;
        assert!(stderr.starts_with("Error: "), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    rbox.args(["ps", "-aq"]).run();
}

#[test]
fn networking_that_is_not_there_is_refused() {
    let rbox = Rbox::with_busybox();
    refused(
        &rbox,
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "-p",
            "8080:80",
            "busybox",
        ],
        125,
        &["\"8080:80/tcp\"", "`--network private`"],
    );
    refused(
        &rbox,
        &[
            "run",
            "--rm",
            "--network",
            "host",
            "--publish",
            "80",
            "busybox",
        ],
        125,
        &["publish"],
    );
    refused(
        &rbox,
        &["run", "--rm", "--network", "mynet", "busybox"],
        125,
        &["\"mynet\""],
    );
    refused(
        &rbox,
        &["run", "--rm", "--network", "bridge:ip=10.1.0.5", "busybox"],
        125,
        &[
            "address 10.1.0.5 is outside of network \"bridge\"",
            "10.88.0.0/16",
        ],
    );
}

#[test]
fn unreachable_and_wrong_registries() {
    let rbox = Rbox::new();
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    refused(
        &rbox,
        &["pull", "-q", &format!("{closed}/x")],
        125,
        &[&closed.to_string(), "Connection refused"],
    );
    refused(
        &rbox,
        &["run", "-q", "--rm", &format!("{closed}/x")],
        125,
        &["Connection refused"],
    );
    refused(
        &rbox,
        &["pull", "-q", "nosuch.invalid/x"],
        125,
        &["nosuch.invalid"],
    );
    let missing = registry::http().reference("nosuch");
    refused(
        &rbox,
        &["pull", "-q", "--tls-verify=false", &missing],
        125,
        &["nosuch"],
    );
    let tag = registry::http().reference("busybox:nosuch");
    refused(
        &rbox,
        &["pull", "-q", "--tls-verify=false", &tag],
        125,
        &["nosuch"],
    );
    let digest = format!(
        "{}@sha256:{}",
        registry::http().reference("busybox"),
        "0".repeat(64)
    );
    refused(
        &rbox,
        &["pull", "-q", "--tls-verify=false", &digest],
        125,
        &["0000"],
    );
}

#[test]
fn archives_that_are_none() {
    let rbox = Rbox::new();
    refused(
        &rbox,
        &["load", "-i", "/nosuch.tar"],
        125,
        &["/nosuch.tar", "No such file"],
    );
    refused(&rbox, &["load", "-i", "/tmp"], 125, &["/tmp"]);
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("text", b"this is no archive\n".to_vec()),
        ("zeros", vec![0; 10240]),
        ("gzip", b"\x1f\x8b\x08\0garbage".to_vec()),
        ("zstd", b"\x28\xb5\x2f\xfdgarbage".to_vec()),
    ] {
        let path = rbox.write(name, bytes);
        refused(&rbox, &["load", "-i", path.to_str().unwrap()], 125, &[name]);
    }
    let stderr = rbox
        .args(["load"])
        .stdin("garbage")
        .status(125)
        .stderr_any()
        .run()
        .stderr;
    one_error(&stderr, &[]);
}

#[test]
fn truncated_archives() {
    let rbox = Rbox::new();
    let archives = images::get("busybox");
    for archive in [archives.docker_archive, archives.oci_archive] {
        let whole = std::fs::read(archive).unwrap();
        for part in [
            1,
            511,
            512,
            513,
            4096,
            100_000,
            whole.len() / 2,
            whole.len() - 20_000,
        ] {
            let path = rbox.write("truncated", &whole[..part]);
            refused(
                &rbox,
                &["load", "-q", "-i", path.to_str().unwrap()],
                125,
                &["truncated"],
            );
        }
        rbox.assert_no_leaks();
    }
    rbox.args(["images", "-q"]).run();
}

#[test]
fn wrong_digests() {
    let rbox = Rbox::new();
    let mut changed = Image::busybox().layers.remove(0);
    *changed.iter_mut().rev().find(|b| **b == b'/').unwrap() = b'.';
    let other_config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let cases: Vec<(&str, Image)> = vec![
        (
            "layer",
            Image {
                replaced: vec![(0, changed)],
                ..Image::busybox()
            },
        ),
        (
            "config",
            Image {
                replaced: vec![(hostile::CONFIG, other_config.to_string().into_bytes())],
                ..Image::busybox()
            },
        ),
        (
            "manifest",
            Image {
                replaced: vec![(hostile::MANIFEST, b"{}".to_vec())],
                ..Image::busybox()
            },
        ),
        (
            "diff id",
            Image {
                diff_ids: Some(vec![hostile::digest(b"x")]),
                ..Image::busybox()
            },
        ),
        (
            "too few diff ids",
            Image {
                diff_ids: Some(vec![]),
                ..Image::busybox()
            },
        ),
        (
            "no layer",
            Image {
                missing: vec![0],
                ..Image::busybox()
            },
        ),
        (
            "no config",
            Image {
                missing: vec![hostile::CONFIG],
                ..Image::busybox()
            },
        ),
        (
            "no manifest",
            Image {
                missing: vec![hostile::MANIFEST],
                ..Image::busybox()
            },
        ),
        (
            "bad digest",
            Image {
                manifest: json!({"config": {"mediaType": "x", "digest": "sha256:../../etc/passwd", "size": 1}}),
                ..Image::busybox()
            },
        ),
    ];
    for (name, image) in cases {
        let path = image.save(&rbox);
        let stderr = rbox
            .args(["load", "-q", "-i"])
            .arg(path)
            .status(125)
            .stderr_any()
            .run()
            .stderr;
        assert!(stderr.starts_with("Error: "), "{name}: {stderr}");
        rbox.args(["images", "-q"]).run();
    }
    // The same in the other format, where only the config tells digests.
    let image = Image {
        diff_ids: Some(vec![hostile::digest(b"x")]),
        ..Image::busybox()
    };
    let path = rbox.write("docker.tar", image.docker_archive());
    refused(
        &rbox,
        &["load", "-q", "-i", path.to_str().unwrap()],
        125,
        &["sha256:"],
    );
}

#[test]
fn odd_configs_are_refused_or_harmless() {
    let rbox = Rbox::new();
    for fields in [
        json!({"User": "nosuch"}),
        json!({"User": "0:nosuch"}),
        json!({"User": "-1"}),
        json!({"User": "4294967295"}),
        json!({"User": "1:2:3"}),
        json!({"User": "\u{1b}[31mred"}),
        json!({"WorkingDir": "relative"}),
        json!({"WorkingDir": "/../../.."}),
        json!({"WorkingDir": "/etc/passwd"}),
        json!({"Env": ["NOEQUALS", "=x", "A\u{0}B=x", ""]}),
        json!({"Env": ["PATH=/nosuch"]}),
        json!({"Env": [format!("BIG={}", "x".repeat(200_000))]}),
        json!({"Entrypoint": [], "Cmd": []}),
        json!({"Entrypoint": [""]}),
        json!({"Cmd": ["a\u{0}b"]}),
        json!({"StopSignal": "NOSUCH"}),
    ] {
        let archive = Image::busybox().with(fields.clone()).save(&rbox);
        let loaded = rbox
            .args(["load", "-q", "-i"])
            .arg(archive)
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        if !loaded.status.success() {
            one_error(&loaded.stderr, &[]);
            continue;
        }
        let output = rbox
            .args(["run", "--rm", "odd"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        let status = output.status.code().unwrap();
        assert!(
            status == 0 || output.stderr.starts_with("Error: "),
            "{fields}: {status} {}",
            output.stderr
        );
        assert!(
            !output.stderr.contains('\u{1b}'),
            "{fields}: {}",
            output.stderr
        );
        rbox.args(["ps", "-aq"]).run();
    }
}

#[test]
fn the_store_of_somebody_else_is_not_used() {
    let Some(root) = Rbox::as_root() else { return };
    let rbox = Rbox::new();
    let data = root.dir().join("data");
    let stderr = rbox
        .args(["images"])
        .env("XDG_DATA_HOME", data)
        .status(125)
        .stderr_any()
        .run()
        .stderr;
    one_error(&stderr, &["Permission denied"]);
}

#[test]
fn a_closed_output_ends_quietly() {
    let rbox = Rbox::with_busybox();
    let script = format!(
        "{} images --no-trunc | true; {0} version >&-",
        rbox.program_path().display()
    );
    rbox.program("sh")
        .args(["-c", &script])
        .stderr_any()
        .status_any()
        .run();
    let stderr = rbox
        .program("sh")
        .args([
            "-c",
            &format!("{} images | true", rbox.program_path().display()),
        ])
        .run()
        .stderr;
    assert_eq!(stderr, "");
}

#[test]
fn a_number_out_of_range_is_told_the_range_and_no_boolean_what_one_is() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm", "--http-proxy=x", "busybox", "true"])
        .status(125)
        .stderr("Error: --http-proxy=\"x\": expected true or false\nHint: `rbox run --help` tells what there is\n")
        .run();
    rbox.args(["run", "--rm", "--stop-timeout", "-1", "busybox", "true"])
        .status(125)
        .stderr("Error: --stop-timeout=\"-1\": expected a whole number from 0 to 4294967295\nHint: `rbox run --help` tells what there is\n")
        .run();
}
