//! Images for several platforms: lists that podman made, in a registry and in files, of which several images are
//! in the store; and images that podman and rbox push for each other.
use serde_json::Value;

use crate::support::Rbox;
use crate::support::images;
use crate::support::registry;
use crate::support::registry::Registry;

const INSECURE: &str = "--tls-verify=false";

impl Rbox {
    /// What skopeo finds at a place.
    fn skopeo(&self, args: &[&str]) -> String {
        let call = self.program("skopeo").args(args);
        call.stdout_any().run().stdout.trim().to_owned()
    }

    fn line(&self, args: &[&str]) -> String {
        let call = self.args(args).stdout_any();
        call.run().stdout.trim().to_owned()
    }

    /// The platforms that images of the store are for.
    fn platforms(&self) -> Vec<String> {
        let ids = self.line(&["images", "-aq"]);
        let mut all: Vec<String> = ids
            .lines()
            .map(|id| self.line(&["image", "inspect", "--format={{.Os}}/{{.Architecture}}", id]))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// A registry with `app`, a list that podman made of two images: for amd64 and for arm64.
fn with_list() -> Option<(Rbox, Registry, String)> {
    let rbox = Rbox::as_root()?;
    let data = rbox.work("registry");
    std::fs::create_dir(&data).unwrap();
    let registry = registry::start(&data, false, "");
    let archive = images::get("busybox").docker_archive;
    rbox.podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let tar = rbox.write(
        "files.tar",
        crate::support::archive::Tar::default().finish(),
    );
    rbox.podman(&["import", "-q", "--arch=arm64", tar.to_str().unwrap(), "arm"]);
    rbox.podman(&["manifest", "create", "app"]);
    for image in ["busybox", "arm"] {
        let place = format!("docker://{}", registry.reference(image));
        rbox.podman(&["push", "-q", INSECURE, image, &place]);
        rbox.podman(&["manifest", "add", INSECURE, "app", &place]);
    }
    let app = registry.reference("app");
    rbox.podman(&[
        "manifest",
        "push",
        "-q",
        "--all",
        INSECURE,
        "app",
        &format!("docker://{app}"),
    ]);
    Some((rbox, registry, app))
}

#[test]
fn each_image_of_a_list_is_saved_loaded_and_removed_by_its_platform() {
    let Some((rbox, _registry, app)) = with_list() else {
        return;
    };
    let (amd, arm) = ("--platform=linux/amd64", "--platform=linux/arm64");
    let raw = rbox.skopeo(&["inspect", "--raw", INSECURE, &format!("docker://{app}")]);
    let raw: Value = serde_json::from_str(&raw).unwrap();
    let digest = |architecture: &str| {
        let mut all = raw["manifests"].as_array().unwrap().iter();
        let found = all.find(|entry| entry["platform"]["architecture"] == architecture);
        found.unwrap()["digest"].as_str().unwrap().to_owned()
    };
    for flag in [amd, arm, amd] {
        rbox.args(["pull", "-q", flag, &app]).stdout("[ID]\n").run();
    }
    assert_eq!(rbox.platforms(), ["linux/amd64", "linux/arm64"]);
    for (flag, architecture) in [(amd, "amd64"), (arm, "arm64")] {
        let place = rbox
            .work(&format!("{architecture}.tar"))
            .display()
            .to_string();
        rbox.args(["save", "--format=oci-archive", "-o", &place, flag, &app])
            .run();
        let inspected = ["inspect", "--format={{.Digest}} {{.Architecture}}"];
        let said = rbox.skopeo(&[&inspected[..], &[&format!("oci-archive:{place}")]].concat());
        assert_eq!(said, format!("{} {architecture}", digest(architecture)));
        let shown = ["image", "inspect", flag, "--format={{.Architecture}}", &app];
        assert_eq!(rbox.line(&shown), architecture);
        rbox.args(["history", "-q", flag, &app]).stdout_any().run();
    }
    // What a registry has of a list, in one archive: by default what is for this machine.
    let both = rbox.work("both.tar").display().to_string();
    let list = format!("docker://{app}");
    rbox.skopeo(&[
        "copy",
        "-q",
        "--all",
        "--src-tls-verify=false",
        &list,
        &format!("oci-archive:{both}:both:1"),
    ]);
    for (flags, platform) in [(&[][..], "linux/amd64"), (&[arm][..], "linux/arm64")] {
        rbox.args(["load", "-q", "-i", &both])
            .args(flags)
            .stdout("Loaded image: localhost/both:1\n")
            .run();
        let shown = [
            "image",
            "inspect",
            "--format={{.Os}}/{{.Architecture}}",
            "both:1",
        ];
        assert_eq!(rbox.line(&shown), platform);
        rbox.args(["rmi", "both:1"])
            .stdout("Untagged: localhost/both:1\nDeleted: [ID]\n")
            .run();
    }
    rbox.args(["load", "-q", "-i", &both, "--platform=linux/s390x"])
        .stderr(
            "Error: cannot load [DIR]/work/both.tar: there is no image for linux/s390x, only for linux/amd64, linux/arm64\n",
        )
        .status(125)
        .run();
    for flag in [arm, amd] {
        rbox.args(["pull", "-q", flag, &app]).stdout("[ID]\n").run();
    }
    // One goes, the name stays with the other, and goes with that.
    rbox.args(["rmi", "--platform=linux/s390x", &app])
        .stderr(format!(
            "Error: image \"{app}\" is in the store for linux/amd64, linux/arm64, and not for linux/s390x\n\
             Hint: `rbox pull --platform linux/s390x` fetches it\n"
        ))
        .status(1)
        .run();
    rbox.args(["create", "--name=c", "--pull=never", &app, "true"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["rmi", amd, &app])
        .stderr(format!(
            "Error: cannot remove image \"{app}\" for linux/amd64: container \"c\" uses it\n\
             Hint: remove the container with `rbox rm c`, or use `rbox rmi -f {app}:latest`\n"
        ))
        .status(2)
        .run();
    rbox.remove(&["c"]);
    rbox.args(["rmi", amd, &app])
        .stdout("Deleted: [ID]\n")
        .run();
    assert_eq!(rbox.platforms(), ["linux/arm64"]);
    assert_eq!(
        rbox.line(&["image", "inspect", "--format={{.Architecture}}", &app]),
        "arm64"
    );
    rbox.args(["rmi", arm, &app])
        .stdout(format!("Untagged: {app}:latest\nDeleted: [ID]\n"))
        .run();
    rbox.args(["images", "-aq"]).run();
}

#[test]
fn podman_and_rbox_pull_what_the_other_has_pushed() {
    let Some((rbox, registry, _)) = with_list() else {
        return;
    };
    let digest = |name: &str| {
        let place = format!("docker://{}", registry.reference(name));
        rbox.skopeo(&["inspect", "--format={{.Digest}}", INSECURE, &place])
    };
    for format in ["oci", "v2s2"] {
        let name = registry.reference(&format!("theirs:{format}"));
        rbox.podman(&["push", "-q", INSECURE, "--format", format, "busybox", &name]);
        rbox.args(["pull", "-q", &name]).stdout("[ID]\n").run();
        let shown = rbox.line(&["image", "inspect", "--format={{.Digest}}", &name]);
        assert_eq!(shown, digest(&format!("theirs:{format}")));
        rbox.args(["run", "--rm", &name, "echo", "runs"])
            .stdout("runs\n")
            .run();
        // And back to podman.
        for form in ["", "gzip", "zstd:chunked"] {
            let other = registry.reference(&format!("ours:{format}{}", form.len()));
            let flags = [format!("--compression-format={form}")];
            let flags = &flags[..usize::from(!form.is_empty())];
            rbox.args(["push", "-q"])
                .args(flags)
                .args([&name, &other])
                .run();
            rbox.podman(&["pull", "-q", INSECURE, &other]);
            let theirs = rbox.podman(&["image", "inspect", "--format={{.RepoDigests}}", &other]);
            let wanted = digest(&format!("ours:{format}{}", form.len()));
            assert!(theirs.contains(&wanted), "{wanted} in {theirs}");
        }
    }
}

#[test]
fn lists_go_into_files_and_are_made_of_files() {
    let Some((rbox, registry, app)) = with_list() else {
        return;
    };
    let inspect = ["inspect", "--raw", INSECURE];
    let raw = |place: &str| rbox.skopeo(&[&inspect[..], &[place]].concat());
    let digests = |raw: &str| {
        let raw: Value = serde_json::from_str(raw).unwrap();
        let all = raw["manifests"].as_array().unwrap().iter();
        all.map(|entry| entry["digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let theirs = digests(&raw(&format!("docker://{app}")));
    rbox.args(["manifest", "create", "--all", "far"])
        .arg(format!("docker://{app}"))
        .stdout("[ID]\n")
        .run();
    for (number, form) in ["oci", "oci-archive", "dir"].iter().enumerate() {
        let path = rbox.work(form).display().to_string();
        let tag = if *form == "dir" { "" } else { ":far:1" };
        let place = format!("{form}:{path}{tag}");
        let file = rbox.work("digest");
        rbox.args(["manifest", "push", "-q", "far", &place, "--digestfile"])
            .arg(&file)
            .run();
        let written = raw(&place);
        assert_eq!(digests(&written), theirs, "{form}");
        let digest = std::fs::read_to_string(&file).unwrap();
        assert_eq!(digest, crate::support::hostile::digest(written.as_bytes()));
        // skopeo reads all of it, and compares the blobs with their digests.
        let copy = format!("docker://{}", registry.reference(&format!("copy:{number}")));
        rbox.skopeo(&[
            "copy",
            "-q",
            "--all",
            "--dest-tls-verify=false",
            &place,
            &copy,
        ]);
        // Made of files again.
        let near = format!("near{number}");
        rbox.args(["manifest", "create", &near])
            .stdout("[ID]\n")
            .run();
        rbox.args(["manifest", "add", "--all", &near, &place])
            .stdout("[ID]\n")
            .run();
        let shown = rbox.line(&["manifest", "inspect", &near]);
        assert_eq!(digests(&shown), theirs, "{form}");
        rbox.args(["image", "prune", "-f"]).run();
        let back = registry.reference(&near);
        rbox.args(["push", "-q", &near, &format!("docker://{back}")])
            .run();
        assert_eq!(digests(&raw(&format!("docker://{back}"))), theirs);
    }
    // What is in the store goes in another form, where that is asked for.
    let packed = format!("oci:{}:1", rbox.work("packed").display());
    rbox.args([
        "manifest",
        "push",
        "-q",
        "--add-compression=zstd",
        "near0",
        &packed,
    ])
    .run();
    let added = raw(&packed);
    assert_eq!(digests(&added).len(), 4, "{added}");
    assert!(
        added.contains("io.github.containers.compression.zstd"),
        "{added}"
    );
    // One of several is that for this machine; the only one is it for whatever machine.
    rbox.args(["manifest", "create", "one"])
        .stdout("[ID]\n")
        .run();
    let oci = format!("oci:{}", rbox.work("oci").display());
    rbox.args(["manifest", "add", "one", &oci])
        .stdout("[ID]\n")
        .run();
    let arm = rbox.work("arm.tar").display().to_string();
    rbox.podman(&["save", "-q", "-o", &arm, "arm"]);
    rbox.args(["manifest", "add", "one", &format!("docker-archive:{arm}")])
        .stdout("[ID]\n")
        .run();
    let shown: Value = serde_json::from_str(&rbox.line(&["manifest", "inspect", "one"])).unwrap();
    for (at, architecture) in ["amd64", "arm64"].iter().enumerate() {
        assert_eq!(
            shown["manifests"][at]["platform"]["architecture"],
            *architecture
        );
    }
    rbox.args(["manifest", "push", "one", &format!("docker-archive:{arm}")])
        .stderr(
            "Error: \"docker-archive:[DIR]/work/arm.tar\": such an archive holds no list for several platforms\n\
             Hint: oci-archive:FILE holds one\n",
        )
        .status(125)
        .run();
    let removed = ["manifest", "rm", "one", "far", "near0", "near1", "near2"];
    rbox.args(removed).stdout_any().run();
    rbox.args(["image", "prune", "-f"]).stdout_any().run();
    rbox.args(["images", "-aq"]).run();
}
