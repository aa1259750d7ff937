//! Volumes: made by `volume create` or at first use, filled from the image, removed when nobody uses them.
use std::os::unix::fs::MetadataExt;

use crate::support::Rbox;
use crate::support::archive::Tar;
use crate::support::hostile::Image;

#[test]
fn a_volume_outlives_its_containers() {
    let rbox = Rbox::with_busybox();
    let script = "echo kept >/data/file";
    rbox.args([
        "run",
        "--rm",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .run();
    rbox.args([
        "run",
        "--rm",
        "-v",
        "data:/other:ro",
        "busybox",
        "cat",
        "/other/file",
    ])
    .stdout("kept\n")
    .run();
    rbox.args(["volume", "ls"])
        .stdout("DRIVER      VOLUME NAME\nlocal       data\n")
        .run();
    rbox.args(["volume", "exists", "data"]).run();
    rbox.args(["volume", "rm", "data"]).stdout("data\n").run();
    rbox.args(["volume", "exists", "data"]).status(1).run();
    rbox.args(["volume", "ls", "-n"]).run();
}

/// Content, owners and modes of the image's directory; once, and only into what is empty.
#[test]
fn a_new_volume_is_filled_from_the_image() {
    let rbox = Rbox::new();
    Image::busybox()
        .layer(
            Tar::default()
                .dir("srv", 0o750)
                .file("srv/file", 0o640, b"text\n")
                .symlink("srv/link", "/etc/passwd")
                .dir("srv/sub", 0o700),
        )
        .load(&rbox);
    let list = "cd $0; stat -c '%a %N' . *";
    let expected = "750 .\n640 file\n777 'link' -> '/etc/passwd'\n700 sub\n";
    let run = |volume: &str, place: &str, expected: &str| {
        rbox.args(["run", "--rm", "-v", volume, "odd", "sh", "-c", list, place])
            .stdout(expected)
            .run();
    };
    run("a:/srv", "/srv", expected);
    run("a:/elsewhere", "/elsewhere", expected);
    // Emptied, it stays so.
    rbox.args([
        "run",
        "--rm",
        "-v",
        "a:/srv",
        "odd",
        "sh",
        "-c",
        "rm -r /srv/*",
    ])
    .run();
    rbox.args(["run", "--rm", "-v", "a:/srv", "odd", "ls", "/srv"])
        .run();
    rbox.args(["run", "--rm", "-v", "b:/srv:nocopy", "odd", "ls", "/srv"])
        .run();
    rbox.args([
        "run",
        "--rm",
        "--mount",
        "type=volume,src=c,dst=/srv,volume-nocopy",
        "odd",
        "ls",
        "/srv",
    ])
    .run();
    rbox.args(["volume", "rm", "-a"]).stdout("a\nb\nc\n").run();
}

#[test]
fn a_new_volume_belongs_to_who_uses_it() {
    let rbox = Rbox::with_busybox();
    let owner = |flags: &[&str], expected: &str| {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "stat", "-c", "%u:%g", "/new"])
            .stdout(expected)
            .run();
    };
    owner(&["-u", "12:34", "-v", "a:/new"], "12:34\n");
    owner(&["-v", "a:/new"], "12:34\n");
    rbox.args(["volume", "create", "--uid", "5", "--gid", "6", "b"])
        .stdout("b\n")
        .run();
    owner(&["-v", "b:/new"], "5:6\n");
    // The ids of another user namespace.
    owner(&["--userns", "auto", "-u", "7:8", "-v", "c:/new"], "7:8\n");
    rbox.args(["volume", "rm", "a", "b", "c"])
        .stdout("a\nb\nc\n")
        .run();
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run", "--rm", "-v", "/a", "--mount", "dst=/b", "busybox", "touch", "/a/x", "/b/y",
    ])
    .run();
    rbox.args(["volume", "ls", "-q"]).run();
    rbox.args(["run", "--name", "c", "-v", "/a", "busybox", "touch", "/a/x"])
        .run();
    let name = rbox
        .args(["volume", "ls", "-q"])
        .stdout("[ID]\n")
        .run()
        .stdout;
    rbox.args([
        "volume",
        "inspect",
        "-f",
        "{{.Anonymous}} {{.NeedsCopyUp}}",
        name.trim(),
    ])
    .stdout("true false\n")
    .run();
    rbox.args(["rm", "-v", "c"]).stdout("c\n").run();
    rbox.args(["volume", "ls", "-q"]).run();
    // Without -v it stays, until it is pruned.
    rbox.args(["run", "--name", "c", "-v", "/a", "busybox"])
        .run();
    rbox.args(["rm", "c"]).stdout("c\n").run();
    rbox.args(["volume", "create", "named"])
        .stdout("named\n")
        .run();
    rbox.args(["volume", "prune", "--dry-run"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["volume", "prune"])
        .stdin("n\n")
        .stdout("WARNING! This will remove all anonymous volumes not used by at least one container. The following volumes will be removed:\n[ID]\nAre you sure you want to continue? [y/N] ")
        .run();
    rbox.args(["volume", "prune", "-f"]).stdout("[ID]\n").run();
    rbox.args(["volume", "ls", "-q"]).stdout("named\n").run();
    rbox.args(["volume", "prune", "-af"])
        .stdout("named\n")
        .run();
}

#[test]
fn volumes_of_an_image_are_what_the_user_wants() {
    let rbox = Rbox::new();
    Image::busybox()
        .layer(
            Tar::default()
                .dir("data", 0o755)
                .file("data/file", 0o644, b"text\n"),
        )
        .with(serde_json::json!({"Volumes": {"/data": {}, "/proc": {}, "/../dev/x": {}, "/": {}}}))
        .load(&rbox);
    // The last is what busybox calls an overlay.
    for (kind, file_system) in [("anonymous", ""), ("tmpfs", "tmpfs"), ("ignore", "UNKNOWN")] {
        let script = "cat /data/file; stat -f -c %T /data; test -d /proc/1";
        let output = rbox
            .args([
                "run",
                "--rm",
                "--image-volume",
                kind,
                "odd",
                "sh",
                "-c",
                script,
            ])
            .stdout_any()
            .run()
            .stdout;
        // The store may lie on another file system than that of most machines.
        if kind != "anonymous" {
            assert_eq!(output, format!("text\n{file_system}\n"));
        }
    }
    rbox.args(["volume", "ls", "-q"]).run();
    rbox.args(["run", "--rm", "-v", "mine:/data", "odd", "ls", "/data"])
        .stdout("file\n")
        .run();
    rbox.args(["volume", "ls", "-q"]).stdout("mine\n").run();
    rbox.args(["volume", "rm", "mine"]).stdout("mine\n").run();
}

#[test]
fn a_volume_in_use_stays() {
    let rbox = Rbox::with_busybox();
    for name in ["one", "two"] {
        rbox.args(["create", "--name", name, "-v", "v:/v", "busybox"])
            .stdout("[ID]\n")
            .run();
    }
    rbox.args(["volume", "rm", "v"])
        .stderr("Error: cannot remove volume \"v\": containers \"one\", \"two\" use it\nHint: remove what uses it with `rbox rm one two`\n")
        .status(2)
        .run();
    rbox.args(["volume", "rm", "none"])
        .stderr(
            "Error: no volume named \"none\"\nHint: `rbox volume ls` lists the volumes there are\n",
        )
        .status(1)
        .run();
    rbox.args(["volume", "prune", "-af"]).run();
    rbox.args(["volume", "rm", "-f", "none"]).run();
    rbox.args(["volume", "rm", "-f", "v"]).stdout("v\n").run();
    rbox.args(["ps", "-aq"]).run();
}

#[test]
fn volumes_are_described_and_found() {
    let rbox = Rbox::with_busybox();
    rbox.args(["volume", "create", "-l", "kind=db", "-l", "old", "first"])
        .stdout("first\n")
        .run();
    rbox.args([
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=64k,noexec",
        "second",
    ])
    .stdout("second\n")
    .run();
    rbox.args(["volume", "create", "first"])
        .stderr("Error: cannot create volume \"first\": there is one of this name\nHint: use another name, or `--ignore` to take the one there is\n")
        .status(125)
        .run();
    rbox.args(["volume", "create", "--ignore", "first"])
        .stdout("first\n")
        .run();
    rbox.args(["volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{json .Labels}} {{json .Options}} {{.MountCount}}", "fir", "second"])
        .stdout("first local local [DIR]/data/rbox/volumes/first/_data {\"kind\":\"db\",\"old\":\"\"} {} 0\nsecond local local [DIR]/data/rbox/volumes/second/_data {} {\"device\":\"tmpfs\",\"o\":\"size=64k,noexec\",\"type\":\"tmpfs\"} 0\n")
        .run();
    for (filter, expected) in [
        ("label=kind", "first\n"),
        ("label=kind=web", ""),
        ("label!=old", "second\n"),
        ("name=^s", "second\n"),
        ("opt=type", "second\n"),
        ("dangling=true", "first\nsecond\n"),
        ("dangling=false", ""),
        ("driver=local", "first\nsecond\n"),
        ("until=1h", ""),
        ("since=first", "second\n"),
        ("anonymous=true", ""),
    ] {
        rbox.args(["volume", "ls", "-q", "-f", filter])
            .stdout(expected)
            .run();
    }
    rbox.args(["volume", "ls", "-f", "zzz=1"])
        .stderr("Error: --filter=\"zzz=1\": expected one of the keys after, all, anonymous, dangling, driver, label, label!, name, opt, scope, since, until\n")
        .status(125)
        .run();
    let show =
        "df -k /v | tail -1 | awk '{print $2}'; awk '$5==\"/v\" {print $6}' /proc/self/mountinfo";
    rbox.args([
        "run",
        "--rm",
        "-v",
        "second:/v",
        "busybox",
        "sh",
        "-c",
        show,
    ])
    .stdout("64\nrw,nosuid,nodev,noexec,relatime\n")
    .run();
    rbox.args(["volume", "rm", "-a"])
        .stdout("first\nsecond\n")
        .run();
}

#[test]
fn wrong_volumes_are_refused() {
    let rbox = Rbox::with_busybox();
    for (args, expected) in [
        (
            ["a/b", ""],
            "Error: \"a/b\" is no volume name (they match [a-zA-Z0-9][a-zA-Z0-9_.-]*), and a path begins with / or ./\n",
        ),
        (
            ["-d=nfs", "x"],
            "Error: --driver=\"nfs\": there is only the driver local\nHint: `rbox volume create --help` tells what there is\n",
        ),
        (
            ["-o=type=nfs", "x"],
            "Error: cannot create volume \"x\": option type=\"nfs\" is not possible: in a user namespace only type=tmpfs, and type=none with o=bind and a device, can be mounted\n",
        ),
        (
            ["-o=zzz=1", "x"],
            "Error: cannot create volume \"x\": option \"zzz\": the driver local has type, device and o\n",
        ),
        (
            ["-l==x", "x"],
            "Error: --label=\"=x\": expected KEY=VALUE\n",
        ),
    ] {
        let args = args.iter().filter(|arg| !arg.is_empty());
        rbox.args(["volume", "create"])
            .args(args)
            .stderr(expected)
            .status(125)
            .run();
    }
    // What was made for a container that did not come to be is not left.
    rbox.args(["create", "--name", "c", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "create", "--name", "c", "-v", "new:/a", "-v", "/b", "busybox",
    ])
    .stderr_has("Error: cannot create container \"c\": a container named \"c\" exists")
    .status(125)
    .run();
    rbox.args(["volume", "ls", "-q"]).run();
    rbox.remove(&["c"]);
}

/// `volume-opt` of --mount, and a volume that shows a directory of the host.
#[test]
fn a_volume_may_be_a_directory_of_the_host() {
    let rbox = Rbox::with_busybox();
    let file = rbox.write("file", "text\n");
    let mount = format!(
        "type=volume,src=v,dst=/v,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={}",
        file.parent().unwrap().display()
    );
    rbox.args([
        "run", "--rm", "--mount", &mount, "busybox", "cat", "/v/file",
    ])
    .stdout("text\n")
    .run();
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
    assert!(file.exists());
}

/// CVE-2017-1002101: a path inside a volume led out of it by a link.
#[test]
fn cve_2017_1002101_a_subpath_stays_inside() {
    let rbox = Rbox::with_busybox();
    let outside = rbox.write("outside", "secret\n");
    let script = format!(
        "ln -s {0} /v/file; ln -s {1} /v/dir; ln -s ../../../../../../..{1} /v/up; mkdir /v/real; echo inside >/v/real/outside",
        outside.display(),
        outside.parent().unwrap().display()
    );
    rbox.args(["run", "--rm", "-v", "v:/v", "busybox", "sh", "-c", &script])
        .run();
    for subpath in ["file", "dir", "up", "dir/outside", "up/outside"] {
        let mount = format!("type=volume,src=v,dst=/s,subpath={subpath}");
        rbox.args([
            "run",
            "--rm",
            "--mount",
            &mount,
            "busybox",
            "cat",
            "/s",
            "/s/outside",
        ])
        .stderr_has(format!("cannot find subpath \"{subpath}\""))
        .status(125)
        .run();
    }
    rbox.args([
        "run",
        "--rm",
        "--mount",
        "type=volume,src=v,dst=/s,subpath=real",
        "busybox",
        "cat",
        "/s/outside",
    ])
    .stdout("inside\n")
    .run();
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
}

/// Files of a volume are those of the caller's ids on the host, whatever a container makes of them.
#[test]
fn the_store_of_volumes_is_closed_to_others() {
    let rbox = Rbox::with_busybox();
    rbox.args(["volume", "create", "v"]).stdout("v\n").run();
    let mode = |path: &str| std::fs::metadata(rbox.data().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("volumes"), mode("volumes/v")), (0o700, 0o700));
    assert_eq!(mode("volumes/v/_data"), 0o755);
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
}
