//! Images in files: `save`, `load`, `import`, transports, `image scp`; exchanged with skopeo, umoci and podman.
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use crate::support::Rbox;
use crate::support::account;
use crate::support::archive::Tar;
use crate::support::images;
use crate::support::tmux::Tmux;

impl Rbox {
    /// The digest by which skopeo knows what is there.
    fn skopeo_digest(&self, place: &str) -> String {
        let call = self
            .program("skopeo")
            .args(["inspect", "--format={{.Digest}}", place]);
        call.stdout_any().run().stdout.trim().to_owned()
    }

    fn told(&self, args: &[&str]) -> String {
        let call = self.args(args).stdout_any();
        call.run().stdout.trim().to_owned()
    }

    fn shell(&self, script: &str) -> String {
        let script = script.replace("RBOX", self.program_path().to_str().unwrap());
        let call = self.program("sh").args(["-ec", &script]).stdout_any();
        call.run().stdout
    }

    fn path(&self, name: &str) -> String {
        self.work(name).display().to_string()
    }
}

const ID: &str = "--format={{.Id}}";

/// `busybox` under the name and the digest that its layout has.
fn with_layout() -> (Rbox, String) {
    let rbox = Rbox::new();
    let archive = images::get("busybox").oci_archive;
    rbox.args(["load", "-i"])
        .arg(&archive)
        .stdout("Loaded image: localhost/busybox:latest\n")
        .run();
    let digest = rbox.skopeo_digest(&format!("oci-archive:{}", archive.display()));
    (rbox, digest)
}

#[test]
fn every_form_goes_out_and_comes_back_with_its_digest() {
    let (rbox, digest) = with_layout();
    let id = rbox.told(&["image", "inspect", ID, "busybox"]);
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ] {
        let path = rbox.path(format);
        rbox.args(["save", "--format", format, "-o", &path, "busybox"])
            .run();
        let place = format!("{transport}:{path}");
        // A docker-archive has no manifest of its own.
        if transport != "docker-archive" {
            assert_eq!(rbox.skopeo_digest(&place), digest, "{format}");
        }
        // skopeo verifies each blob, and what it writes comes back here.
        let copy = format!("{transport}:{path}.copy");
        let name = if transport == "dir" {
            ""
        } else {
            ":example.org/copy:1"
        };
        rbox.program("skopeo")
            .args([
                "copy",
                "-q",
                "--insecure-policy",
                &place,
                &format!("{copy}{name}"),
            ])
            .run();
        rbox.args(["rmi", "-f", &id]).stdout_any().run();
        rbox.args(["pull", "-q", &copy]).stdout("[ID]\n").run();
        rbox.args(["rmi", "-f", &id]).stdout_any().run();
        rbox.args(["run", "--rm", &place, "echo", format])
            .stdout(format!("{format}\n"))
            .stderr_any()
            .run();
        rbox.args(["load", "-q", "-i", &path]).stdout_any().run();
        rbox.args(["tag", &id, "localhost/busybox"]).run();
        rbox.args(["rmi", "-f", &id]).stdout_any().run();
        let archive = images::get("busybox").oci_archive;
        rbox.args(["load", "-i"]).arg(archive).stdout_any().run();
    }
}

#[test]
fn umoci_reads_a_layout_and_its_changes_come_back() {
    let (rbox, _) = with_layout();
    let layout = rbox.path("layout");
    rbox.args(["push", "-q", "busybox", &format!("oci:{layout}:one")])
        .run();
    let image = format!("{layout}:one");
    rbox.program("umoci")
        .args([
            "config",
            "--image",
            &image,
            "--tag",
            "two",
            "--config.env",
            "FROM=umoci",
        ])
        .run();
    let script = "echo $FROM";
    let two = format!("oci:{layout}:two");
    rbox.args(["run", "--rm", &two, "sh", "-c", script])
        .stdout("umoci\n")
        .stderr_any()
        .run();
    // A further image into the layout of another tool; the others stay.
    rbox.args(["push", "-q", "busybox", &format!("oci:{layout}:three")])
        .run();
    rbox.program("umoci")
        .args(["list", "--layout", &layout])
        .stdout("one\ntwo\nthree\n")
        .run();
    rbox.args(["pull", "-q", &format!("oci:{layout}:four")])
        .stderr("Error: cannot pull \"oci:[DIR]/work/layout:four\": there is no image \"four\" in it, only one, two, three\n")
        .status(125)
        .run();
}

#[test]
fn podman_reads_what_rbox_writes_and_the_other_way_round() {
    let Some(rbox) = Rbox::as_root() else { return };
    rbox.load("busybox");
    rbox.load("testinit");
    let podman = |args: &[&str]| rbox.podman(args);
    let id = rbox.told(&["image", "inspect", ID, "busybox"]);
    let name = "docker.io/library/busybox:latest";
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        let (ours, theirs) = (rbox.path(format), rbox.path(&format!("{format}.podman")));
        rbox.args(["save", "--format", format, "-o", &ours, "busybox"])
            .run();
        podman(&["load", "-q", "-i", &ours]);
        let listed = podman(&["images", "--no-trunc", "--format={{.ID}}"]);
        let listed = listed.replace("sha256:", "");
        assert_eq!(listed.lines().next().unwrap(), id, "{format}");
        podman(&["save", "-q", "--format", format, "-o", &theirs, &id]);
        podman(&["rmi", "-f", &id]);
        rbox.args(["rmi", "-f", &id]).stdout_any().run();
        rbox.args(["load", "-q", "-i", &theirs]).stdout_any().run();
        // podman writes the config anew in the forms of OCI: the files stay the same.
        if format == "docker-archive" {
            let ids = rbox.told(&["images", "-q", "--no-trunc"]);
            assert!(ids.contains(&id), "{ids}");
        }
        rbox.load("busybox");
    }
    // Several images in one archive.
    let several = rbox.path("several.tar");
    rbox.args(["save", "-m", "-o", &several, "busybox", "testinit"])
        .run();
    let said = podman(&["load", "-q", "-i", &several]);
    assert_eq!(
        said,
        format!("Loaded image: {name}\nLoaded image: docker.io/library/testinit:latest\n")
    );
    let theirs = rbox.path("theirs.tar");
    podman(&["save", "-q", "-m", "-o", &theirs, "busybox", "testinit"]);
    rbox.args(["load", "-q", "-i", &theirs]).stdout(said).run();
    rbox.args(["pull", "-q", &format!("docker-archive:{theirs}:testinit")])
        .stdout("[ID]\n")
        .run();
    let text = "Error: \"docker-archive:[DIR]/work/theirs.tar\" holds 2 images\n";
    rbox.args([
        "run",
        "-q",
        "--rm",
        &format!("docker-archive:{theirs}"),
        "x",
    ])
    .stderr_has(text)
    .status(125)
    .run();
}

#[test]
fn what_is_written_is_always_the_same_and_never_half() {
    let (rbox, _) = with_layout();
    for format in ["docker-archive", "oci-archive"] {
        let script = format!(
            "RBOX save --format {format} busybox >one; sleep 1.1; RBOX save --format {format} -o two busybox; cmp one two; xz -k one; RBOX load -q <one.xz; rm one* two"
        );
        assert_eq!(
            rbox.shell(&script),
            "Loaded image: localhost/busybox:latest\n"
        );
    }
    // A blob that has changed on disk is found when the archive is nearly written.
    let blobs = rbox.data().join("blobs/sha256");
    let largest = std::fs::read_dir(&blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let largest = largest
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    rbox.write("kept", "before");
    for (format, path) in [
        ("oci-archive", "kept"),
        ("oci-archive", "new"),
        ("oci-dir", "dir"),
        ("docker-dir", "dir"),
    ] {
        rbox.args(["save", "--format", format, "-o", path, "busybox"])
            .stderr_has("have changed on disk")
            .status(125)
            .run();
    }
    assert_eq!(rbox.shell("ls -A; cat kept"), "kept\nbefore");
}

#[test]
fn an_archive_does_not_go_to_a_terminal() {
    let rbox = Rbox::with_busybox();
    let tmux = Tmux::start(&rbox);
    let program = rbox.program_path().display();
    tmux.line(&format!("clear; {program} save busybox; echo status $?"));
    tmux.wait_line("Error: cannot write an archive to a terminal");
    tmux.wait_line("status 125");
}

#[test]
fn a_name_more_is_a_name_and_an_image_more_an_image() {
    let rbox = Rbox::with_busybox();
    rbox.load("testinit");
    let list = |args: &str| {
        let script = format!("RBOX save {args} | tar xO manifest.json");
        let list: serde_json::Value = serde_json::from_str(&rbox.shell(&script)).unwrap();
        let images = list.as_array().unwrap().iter();
        images
            .map(|image| image["RepoTags"].to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (busybox, testinit) = (
        "docker.io/library/busybox:latest",
        "docker.io/library/testinit:latest",
    );
    assert_eq!(
        list("busybox testinit"),
        format!("[\"{busybox}\"] [\"{testinit}\"]")
    );
    assert_eq!(
        list("busybox other:1"),
        format!("[\"{busybox}\",\"localhost/other:1\"]")
    );
    let id = rbox.told(&["images", "-q", "busybox"]);
    assert_eq!(list(&id), "[]");
    rbox.args(["save", "-m", "-o", "x", "busybox", "other:1"])
        .stderr_has("Error: there is no image \"other:1\"\n")
        .status(125)
        .run();
    for (args, said) in [
        (
            &["--compress", "busybox"][..],
            "--compress is for --format docker-dir alone",
        ),
        (
            &["--uncompressed", "busybox"],
            "--uncompressed is for --format oci-archive and oci-dir alone",
        ),
        (
            &["--format=oci-dir", "busybox"],
            "--format oci-dir makes a directory: give --output DIR",
        ),
    ] {
        let error = format!("Error: {said}\n");
        rbox.args(["save"])
            .args(args)
            .stderr(error)
            .status(125)
            .run();
    }
    rbox.args(["save", "--platform=linux/arm64", "-o", "x", "busybox"])
        .stderr_has(
            "Error: image \"busybox\" is in the store for linux/amd64, and not for linux/arm64\n",
        )
        .status(125)
        .run();
}

#[test]
fn layers_are_compressed_or_not_as_is_asked() {
    let (rbox, digest) = with_layout();
    let unpacked = "oci-archive:plain";
    rbox.args([
        "save",
        "--format=oci-archive",
        "--uncompressed",
        "-o",
        "plain",
        "busybox",
    ])
    .run();
    assert_ne!(rbox.skopeo_digest(unpacked), digest);
    let media_type = |place: &str| {
        let call = rbox.program("skopeo").args(["inspect", "--raw", place]);
        let manifest = call.stdout_any().run().stdout;
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["layers"][0]["mediaType"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        media_type(unpacked),
        "application/vnd.oci.image.layer.v1.tar"
    );
    rbox.args(["rmi", "busybox"]).stdout_any().run();
    rbox.args(["load", "-i", "plain"]).stdout_any().run();
    for _ in 0..2 {
        rbox.args([
            "save",
            "--format=docker-dir",
            "--compress",
            "-o",
            "packed",
            "busybox",
        ])
        .run();
    }
    assert_eq!(
        media_type("dir:packed"),
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    rbox.program("skopeo")
        .args([
            "copy",
            "-q",
            "--insecure-policy",
            "dir:packed",
            "oci:checked:x",
        ])
        .run();
    rbox.shell("mkdir other; echo mine >other/file");
    rbox.args(["save", "--format=docker-dir", "-o", "other", "busybox"])
        .stderr_has("cannot write other: it is there, and holds no image\n")
        .status(125)
        .run();
    rbox.args(["save", "--format=oci-dir", "-o", "other", "busybox"])
        .stderr_has("cannot write other: it is there, and is no OCI layout\n")
        .status(125)
        .run();
}

/// An unpacked layout that a test may damage.
fn damaged(rbox: &Rbox, change: impl FnOnce(&Path)) -> PathBuf {
    let layout = rbox.work("damaged");
    let tar = images::get("busybox").oci_archive;
    std::fs::create_dir(&layout).unwrap();
    rbox.own(&layout);
    let unpack = rbox
        .program("tar")
        .arg("xf")
        .arg(tar)
        .arg("-C")
        .arg(&layout);
    unpack.run();
    change(&layout);
    layout
}

/// CVE-2025-11395, and what else a directory can have in place of a file.
#[test]
fn links_and_special_files_of_a_layout_are_not_followed() {
    let rbox = Rbox::new();
    let secret = rbox.write("secret", "{\"schemaVersion\":2,\"manifests\":[]}");
    let refused = |layout: PathBuf, said: &str| {
        rbox.args(["load", "-i"])
            .arg(&layout)
            .stderr_has("Error: cannot load [DIR]/work/damaged: ")
            .stderr_has(said)
            .status(125)
            .run();
        std::fs::remove_dir_all(layout).unwrap();
        rbox.args(["images", "-q"]).run();
    };
    let link = "there is a symbolic link on the way";
    let layout = damaged(&rbox, |layout| {
        std::fs::remove_file(layout.join("index.json")).unwrap();
        symlink(&secret, layout.join("index.json")).unwrap();
    });
    refused(layout, link);
    let layout = damaged(&rbox, |layout| {
        std::fs::rename(layout.join("blobs"), layout.join("real")).unwrap();
        symlink("real", layout.join("blobs")).unwrap();
    });
    refused(layout, link);
    for kind in ["fifo", "dir"] {
        let layout = damaged(&rbox, |layout| {
            let blobs = layout.join("blobs/sha256");
            let entries = std::fs::read_dir(blobs)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let largest = entries
                .max_by_key(|path| path.metadata().unwrap().len())
                .unwrap();
            std::fs::remove_file(&largest).unwrap();
            match kind {
                "fifo" => drop(rbox.program("mkfifo").arg(&largest).run()),
                _ => std::fs::create_dir(&largest).unwrap(),
            }
            rbox.own(&largest);
        });
        refused(layout, "it is no regular file");
    }
}

#[test]
fn docker_archives_as_docker_writes_them_and_as_attackers_do() {
    let rbox = Rbox::new();
    let layer = Tar::default().file("file", 0o644, b"content").finish();
    let diff_id = rbox.write("layer", &layer);
    let sum = rbox
        .program("sha256sum")
        .arg(diff_id)
        .stdout_any()
        .run()
        .stdout;
    let diff_id = sum.split(' ').next().unwrap();
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{diff_id}\",\"sha256:{diff_id}\"]}}}}"
    );
    let list =
        br#"[{"Config":"c.json","RepoTags":["made:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let start = |list: &[u8]| {
        let mut tar = Tar::default();
        tar.file("c.json", 0o644, config.as_bytes())
            .file("manifest.json", 0o644, list);
        tar
    };
    let load = |mut tar: Tar| rbox.args(["load"]).stdin(tar.finish());
    // A layer that is there twice is a link, symbolic or hard.
    for hard in [false, true] {
        let mut tar = start(list);
        tar.file("a/layer.tar", 0o644, &layer);
        if hard {
            tar.hardlink("b/layer.tar", "a/layer.tar");
        } else {
            tar.symlink("b/layer.tar", "../a/layer.tar");
        }
        // Nobody reads this one.
        tar.file("repositories", 0o644, br#"{"../../../x":{"../y":"../z"}}"#);
        load(tar)
            .stdout("Loaded image: docker.io/library/made:1\n")
            .run();
        rbox.args(["rmi", "made:1"]).stdout_any().run();
    }
    for (links, said) in [
        (
            &[("a/layer.tar", "/etc/passwd")][..],
            "there is no such file in it",
        ),
        (
            &[("a/layer.tar", "../../../etc/passwd")],
            "there is no such file in it",
        ),
        (
            &[
                ("a/layer.tar", "../b/layer.tar"),
                ("b/layer.tar", "../a/layer.tar"),
            ],
            "it is a link to a link",
        ),
    ] {
        let mut tar = start(list);
        for (link, target) in links {
            tar.symlink(link, target);
        }
        load(tar).stderr_has(said).status(125).run();
    }
    let mut tar = start(list);
    tar.file("./manifest.json", 0o644, list);
    load(tar)
        .stderr("Error: cannot load standard input: it has \"manifest.json\" twice, which readers may understand differently\n")
        .status(125)
        .run();
    rbox.args(["images", "-q"]).run();
}

#[test]
fn an_archive_without_end_is_not_copied_to_the_disk() {
    let rbox = Rbox::new();
    for source in ["/dev/zero", "/dev/urandom"] {
        let script = format!("RBOX load <{source} 2>&1 || echo $?");
        assert_eq!(
            rbox.shell(&script),
            "Error: cannot load standard input: it is no image archive: neither a tar nor a directory\n125\n"
        );
    }
}

#[test]
fn import_makes_an_image_of_a_tar() {
    let rbox = Rbox::with_busybox();
    let files = ["run", "--name=c", "busybox", "sh", "-c", "echo hi >/f"];
    rbox.args(files).run();
    rbox.args(["export", "-o", "root.tar", "c"]).run();
    rbox.args(["rm", "c"]).stdout_any().run();
    rbox.shell("xz -k root.tar; zstd -q root.tar; gzip -k root.tar");
    let sum = rbox.shell("sha256sum root.tar");
    let sum = sum.split(' ').next().unwrap().to_owned();
    for name in ["root.tar", "root.tar.xz", "root.tar.zst", "root.tar.gz"] {
        let changes = [
            "-c",
            "CMD [\"cat\", \"/f\"]",
            "-c",
            "ENV A=b",
            "--change=USER alice",
        ];
        rbox.args(["import", "-m", "a message"])
            .args(changes)
            .args([name, "made:1"])
            .stdout("sha256:[ID]\n")
            .run();
        rbox.args(["run", "--rm", "made:1"]).stdout("hi\n").run();
        rbox.args(["run", "--rm", "made:1", "sh", "-c", "echo $A; id -un"])
            .stdout("b\nalice\n")
            .run();
        let format = "--format={{.RootFS.Layers}}";
        assert_eq!(
            rbox.told(&["image", "inspect", format, "made:1"]),
            format!("[sha256:{sum}]")
        );
        rbox.args(["rmi", "made:1"]).stdout_any().run();
    }
    let id = rbox.shell("RBOX import -q --arch=arm64 --variant=v8 - <root.tar");
    let format = "--format={{.Os}} {{.Architecture}}";
    assert_eq!(
        rbox.told(&["image", "inspect", format, id.trim()]),
        "linux arm64"
    );
    rbox.args(["rmi", id.trim()]).stdout_any().run();
    rbox.write(
        "text",
        "no tar, but text that is long enough for a block of a tar\n".repeat(20),
    );
    for (args, said) in [
        (&["text"][..], "cannot import text: it is no tar archive"),
        (
            &["."],
            "cannot import .: it is a directory, and not an archive of one",
        ),
        (
            &["nofile"],
            "cannot import nofile: No such file or directory (os error 2)",
        ),
        (
            &["--arch=a b", "root.tar"],
            "\"linux/a b\" is no platform: expected os/architecture or os/architecture/variant",
        ),
    ] {
        let error = format!("Error: {said}\n");
        rbox.args(["import"])
            .args(args)
            .stderr(error)
            .status(125)
            .run();
    }
}

/// A program in the place of ssh(1), which runs the command as another login here would.
const SSH: &str = r#"#!/bin/sh
[ "$1" = -p ] && shift 2
[ "$1" = -- ] || exit 9
[ "$2" = ann@far ] || { echo "no such host $2" >&2; exit 255; }
export XDG_DATA_HOME=$PWD/far XDG_RUNTIME_DIR=$PWD/far
shift 2
exec sh -c "$*"
"#;

#[test]
fn scp_copies_by_ssh_both_ways() {
    let (rbox, digest) = with_layout();
    for dir in ["bin", "far"] {
        std::fs::create_dir(rbox.work(dir)).unwrap();
        rbox.own(&rbox.work(dir));
    }
    rbox.write("bin/ssh", SSH);
    rbox.shell("chmod 755 bin/ssh; chmod 700 far; ln -s RBOX bin/rbox");
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", rbox.path("bin"));
    let scp = |args: &[&str]| rbox.args(["image", "scp"]).args(args).env("PATH", &path);
    let loaded = "Loaded image: localhost/busybox:latest\n";
    scp(&["busybox", "ann@far:2222::"]).stdout(loaded).run();
    scp(&["-q", "busybox", "ssh://ann@far/run/x.sock::"]).run();
    let far = |args: &[&str]| {
        let call = rbox.args(args).env("XDG_DATA_HOME", rbox.work("far"));
        call.env("XDG_RUNTIME_DIR", rbox.work("far"))
            .stdout_any()
            .run()
            .stdout
    };
    let digests = ["images", "--format={{.Digest}}"];
    assert_eq!(far(&digests).trim(), digest);
    rbox.args(["rmi", "busybox"]).stdout_any().run();
    rbox.args(["scp", "ann@far::busybox"])
        .env("PATH", &path)
        .stdout(loaded)
        .run();
    assert_eq!(rbox.told(&digests), digest);
    for (args, said) in [
        (
            &["ann@far::nosuch"][..],
            "cannot copy image \"nosuch\": host \"ann@far\": there is no image \"nosuch\"",
        ),
        (
            &["nosuch", "ann@far::"],
            "cannot copy image \"nosuch\": there is no image \"nosuch\"",
        ),
        (
            &["ann@far::a'; touch x; '"],
            "cannot copy image \"a'; touch x; '\": host \"ann@far\": ",
        ),
        (
            &["busybox", "bob@far::"],
            "cannot copy image \"busybox\": host \"bob@far\": no such host bob@far",
        ),
        (
            &["busybox", "-oProxyCommand=x::"],
            "\"-oProxyCommand=x\" is no host: expected [USER@]HOST[:PORT]",
        ),
        (&["busybox", "localhost::"], "both ends are the same store"),
    ] {
        let args: Vec<&str> = ["--"].iter().chain(args).copied().collect();
        scp(&args)
            .stderr_has(format!("Error: {said}"))
            .status(125)
            .run();
    }
    assert!(!rbox.work("x").exists());
    far(&["rmi", "busybox"]);
    rbox.shell("rm -rf far");
}

#[test]
fn only_root_copies_between_users() {
    let rbox = Rbox::with_busybox();
    if account::is_root() {
        rbox.args(["image", "scp", "busybox", "root@localhost::"])
            .stderr("Error: the store of user \"root\" is not yours\nHint: root can copy between users: `sudo rbox image scp …`\n")
            .status(125)
            .run();
    }
    rbox.args(["image", "scp", "busybox", "nosuchuser@localhost::"])
        .stderr("Error: there is no user \"nosuchuser\"\n")
        .status(125)
        .run();
    for verb in ["sign", "trust"] {
        rbox.args(["image", verb, "busybox"])
            .stderr_has("Error: signatures of images are not supported: ")
            .status(125)
            .run();
    }
}

#[test]
fn a_push_into_files_has_the_form_that_is_asked_for() {
    let (rbox, digest) = with_layout();
    let id = rbox.told(&["image", "inspect", ID, "busybox"]);
    let (oci, docker) = (
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
    );
    for (transport, flags, layer) in [
        ("oci", &[][..], format!("{oci}+gzip")),
        ("oci", &["--compression-format=zstd"], format!("{oci}+zstd")),
        ("oci-archive", &["--compression-format=none"], oci.into()),
        ("dir", &["--format=v2s2"], format!("{docker}.gzip")),
        (
            "dir",
            &["--format=v2s2", "--compression-format=none"],
            docker.into(),
        ),
        (
            "oci-archive",
            &[
                "--compression-format=zstd:chunked",
                "--compression-level=19",
            ],
            format!("{oci}+zstd"),
        ),
        // What is compressed is not compressed anew unless that is asked for.
        (
            "oci",
            &["--compression-format=zstd", "--force-compression=false"],
            format!("{oci}+gzip"),
        ),
    ] {
        let path = rbox.path("place");
        let place = format!("{transport}:{path}");
        let file = rbox.path("digest");
        rbox.args(["push", "-q", "--digestfile", &file])
            .args(flags)
            .args(["busybox", &place])
            .run();
        let manifest: serde_json::Value = serde_json::from_str(
            &rbox
                .program("skopeo")
                .args(["inspect", "--raw", &place])
                .stdout_any()
                .run()
                .stdout,
        )
        .unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], layer, "{flags:?}");
        let told = std::fs::read_to_string(&file).unwrap();
        assert_eq!(rbox.skopeo_digest(&place), told, "{flags:?}");
        assert_eq!(told == digest, layer.contains("v1.tar+gzip"), "{flags:?}");
        // skopeo compares all blobs with their digests, and rbox finds the same image.
        let copy = format!("dir:{}", rbox.path("copy"));
        rbox.program("skopeo")
            .args(["copy", "-q", &place, &copy])
            .run();
        assert_eq!(rbox.told(&["pull", "-q", &place]), id);
        std::fs::remove_dir_all(&path)
            .or_else(|_| std::fs::remove_file(&path))
            .unwrap();
    }
    // The manifests that the image had in between.
    rbox.args(["image", "prune", "-f"]).run();
    for (flag, said) in [
        ("--format=oci", "such an archive has no OCI manifest"),
        (
            "--compression-format=gzip",
            "the layers of such an archive are not compressed",
        ),
    ] {
        rbox.args(["push", flag, "busybox", "docker-archive:x.tar"])
            .stderr(format!(
                "Error: \"docker-archive:x.tar\": {said}\nHint: oci-archive:FILE is an archive of OCI's\n"
            ))
            .status(125)
            .run();
    }
}
