//! Images from archives, and what is told of them: `load`, `images`, `tag`, `rmi`, `inspect`.
use crate::support::Rbox;
use crate::support::images;

impl Rbox {
    fn images(&self) -> Vec<String> {
        let text = self
            .args(["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .stdout_any()
            .run()
            .stdout;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

#[test]
fn archives_of_both_kinds_load() {
    for kind in ["docker", "oci"] {
        let rbox = Rbox::new();
        let archives = images::get("busybox");
        // An OCI layout's names without a registry are this machine's, as for podman.
        let (path, reference) = if kind == "docker" {
            (archives.docker_archive, "docker.io/library/busybox:latest")
        } else {
            (archives.oci_archive, "localhost/busybox:latest")
        };
        rbox.args(["load", "-i"])
            .arg(&path)
            .stdout(format!("Loaded image: {reference}\n"))
            .run();
        rbox.args(["run", "--rm", "busybox", "echo", kind])
            .stdout(format!("{kind}\n"))
            .run();
        // Again, from standard input.
        rbox.args(["load"])
            .stdin(std::fs::read(&path).unwrap())
            .stdout(format!("Loaded image: {reference}\n"))
            .run();
        assert_eq!(rbox.images(), [reference]);
        rbox.args(["rmi", "busybox"]).stdout_any().run();
        assert!(rbox.images().is_empty());
    }
}

#[test]
fn compressed_archives_load() {
    let rbox = Rbox::new();
    let archive = images::get("busybox").docker_archive;
    for program in ["gzip", "zstd"] {
        if !std::path::Path::new("/usr/bin").join(program).exists()
            && !std::path::Path::new("/bin").join(program).exists()
        {
            continue;
        }
        let packed = std::process::Command::new(program)
            .arg("-c")
            .arg(&archive)
            .output()
            .unwrap();
        let path = rbox.write("packed", packed.stdout);
        rbox.args(["load", "-q", "-i"]).arg(path).stdout_any().run();
        rbox.args(["run", "--rm", "busybox", "echo", program])
            .stdout(format!("{program}\n"))
            .run();
        rbox.args(["rmi", "busybox"]).stdout_any().run();
    }
}

#[test]
fn images_is_a_table() {
    let rbox = Rbox::with_busybox();
    let table = rbox.args(["images"]).stdout_any().run().stdout;
    let columns: Vec<&str> = table
        .lines()
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(
        columns,
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    );
    assert_eq!(table.lines().count(), 2, "{table}");
    rbox.args(["images", "-q"]).stdout("[ID]\n").run();
}

#[test]
fn the_id_of_an_image_is_what_other_tools_say() {
    let rbox = Rbox::with_busybox();
    let layout = images::layout("busybox");
    let manifest = rbox
        .program("skopeo")
        .args(["inspect", "--raw"])
        .arg(format!("oci:{}:latest", layout.display()))
        .stdout_any()
        .run()
        .stdout;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let id = manifest["config"]["digest"].as_str().unwrap();
    let shown = rbox
        .args(["images", "-q", "--no-trunc"])
        .stdout_any()
        .run()
        .stdout;
    assert_eq!(shown.trim(), id);
}

#[test]
fn tags_come_and_go() {
    let rbox = Rbox::with_busybox();
    rbox.args(["tag", "busybox", "mine:1", "example.org:5000/a/b:c"])
        .run();
    assert_eq!(
        rbox.images(),
        [
            "docker.io/library/busybox:latest",
            "example.org:5000/a/b:c",
            "localhost/mine:1",
        ]
    );
    rbox.args(["run", "--rm", "mine:1", "echo", "hi"])
        .stdout("hi\n")
        .run();
    rbox.args(["rmi", "busybox"])
        .stdout("Untagged: docker.io/library/busybox:latest\n")
        .run();
    rbox.args(["run", "--rm", "mine:1", "echo", "hi"])
        .stdout("hi\n")
        .run();
    rbox.args(["rmi", "mine:1", "example.org:5000/a/b:c"])
        .stdout_has("Deleted: ")
        .run();
    assert!(rbox.images().is_empty());
    let left: Vec<_> = std::fs::read_dir(rbox.data().join("layers"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_image_in_use_stays_unless_forced() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("user");
    rbox.args(["rmi", "busybox"])
        .stderr_has("Error: ")
        .stderr_has("user")
        .status_any()
        .run();
    assert_eq!(rbox.images().len(), 1);
    rbox.args(["exec", "user", "echo", "works"])
        .stdout("works\n")
        .run();
    rbox.remove(&["user"]);
    rbox.args(["rmi", "busybox"]).stdout_any().run();
}

#[test]
fn images_share_layers() {
    let rbox = Rbox::with_busybox();
    for tag in ["user", "env", "labels"] {
        rbox.load(&format!("busybox:{tag}"));
    }
    assert_eq!(rbox.images().len(), 4);
    let layers = || {
        std::fs::read_dir(rbox.data().join("layers"))
            .unwrap()
            .count()
    };
    assert_eq!(layers(), 1);
    for tag in ["user", "env", "latest"] {
        rbox.args(["rmi", &format!("busybox:{tag}")])
            .stdout_any()
            .run();
    }
    assert_eq!(layers(), 1);
    rbox.args(["run", "--rm", "busybox:labels", "echo", "still"])
        .stdout("still\n")
        .run();
    rbox.args(["rmi", "busybox:labels"]).stdout_any().run();
    assert_eq!(layers(), 0);
}

#[test]
fn inspect_shows_the_config() {
    let rbox = Rbox::new();
    rbox.load("busybox:full");
    let text = rbox
        .args(["inspect", "busybox:full"])
        .stdout_any()
        .run()
        .stdout;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = &value[0]["Config"];
    assert_eq!(config["User"], "alice");
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Labels"]["org.example.title"], "A title");
    assert_eq!(
        config["Entrypoint"],
        serde_json::json!(["/bin/echo", "entry"])
    );
    rbox.args([
        "inspect",
        "--format",
        "{{.Architecture}} {{.Os}}",
        "busybox:full",
    ])
    .stdout("amd64 linux\n")
    .run();
}

#[test]
fn loads_at_once_of_the_same_image() {
    let rbox = Rbox::new();
    let archive = images::get("busybox").oci_archive;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            rbox.args(["load", "-q", "-i"])
                .arg(&archive)
                .stdout_any()
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
    assert_eq!(rbox.images().len(), 1);
    rbox.args(["run", "--rm", "busybox", "echo", "hi"])
        .stdout("hi\n")
        .run();
}

#[test]
fn debian_is_debian() {
    let rbox = Rbox::new();
    rbox.load("debian");
    rbox.args(["run", "--rm", "debian", "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME; apt-get --version | head -c 3; su -s /bin/sh -c id nobody"])
        .stdout("bookworm\naptuid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n")
        .run();
}
