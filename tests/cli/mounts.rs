//! `-v`, `--mount`, `--tmpfs` and what else puts files into a container.
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::Rbox;

/// A directory of the test's user: `file`, `sub/inner`, and `link` to `file`.
fn directory(rbox: &Rbox) -> PathBuf {
    let dir = rbox.work("dir");
    for path in [&dir, &dir.join("sub")] {
        std::fs::create_dir(path).unwrap();
        rbox.own(path);
    }
    for (name, text) in [("file", "text\n"), ("sub/inner", "inner\n")] {
        std::fs::write(dir.join(name), text).unwrap();
        rbox.own(&dir.join(name));
    }
    symlink("file", dir.join("link")).unwrap();
    rbox.own(&dir.join("link"));
    dir
}

/// What /proc/self/mountinfo says of a mount: its own options, and the type.
const SHOW: &str =
    "awk -v p=\"$0\" '$5==p {for (i=7; $i!=\"-\"; i++); print $6, $(i+1)}' /proc/self/mountinfo";

#[test]
fn options_of_a_volume_are_obeyed() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let dir = dir.display();
    let table = [
        ("", "rw,nosuid,nodev,relatime ext4\n"),
        (":ro", "ro,nosuid,nodev,relatime ext4\n"),
        (":rro", "ro,nosuid,nodev,relatime ext4\n"),
        (":rw,noexec", "rw,nosuid,nodev,noexec,relatime ext4\n"),
        (":suid,dev,exec", "rw,relatime ext4\n"),
        (":z", "rw,nosuid,nodev,relatime ext4\n"),
        (":bind,private", "rw,nosuid,nodev,relatime ext4\n"),
        (":rbind,rslave", "rw,nosuid,nodev,relatime ext4\n"),
        (":runbindable,nocopy", "rw,nosuid,nodev,relatime ext4\n"),
    ];
    for (options, expected) in table {
        let volume = format!("{dir}:/v{options}");
        let output = rbox
            .args([
                "run", "--rm", "-v", &volume, "busybox", "sh", "-c", SHOW, "/v",
            ])
            .stdout_any()
            .run();
        let shown = output
            .stdout
            .replace("overlay", "ext4")
            .replace("tmpfs", "ext4");
        assert_eq!(shown, expected, "{options}");
    }
    rbox.args([
        "run",
        "--rm",
        "-v",
        &format!("{dir}:/v:ro"),
        "busybox",
        "touch",
        "/v/new",
    ])
    .stderr("touch: /v/new: Read-only file system\n")
    .status(1)
    .run();
}

/// Flags, and what is said of them.
const WRONG: [([&str; 2], &str); 21] = [
    (
        ["-v", "/a:/b:zzz"],
        "Error: --volume=\"/a:/b:zzz\": unknown option \"zzz\": expected ro, rw, rro, z, Z, U, O, idmap, copy, nocopy, bind, rbind, exec, noexec, dev, nodev, suid, nosuid, or a propagation such as rslave\n",
    ),
    (
        ["-v", "/a:b"],
        "Error: --volume=\"/a:b\": \"b\" is not an absolute path\n",
    ),
    (
        ["-v", "/a:/"],
        "Error: --volume=\"/a:/\": \"/\" cannot be covered: it is the root directory of the container\n",
    ),
    (
        ["-v", "/a:/b:c:d"],
        "Error: --volume=\"/a:/b:c:d\": expected [HOST-PATH|VOLUME:]CONTAINER-PATH[:OPTIONS]\n",
    ),
    (
        ["-v", "a/b:/c"],
        "Error: --volume=\"a/b:/c\": \"a/b\" is no volume name (they match [a-zA-Z0-9][a-zA-Z0-9_.-]*), and a path begins with / or ./\n",
    ),
    (
        ["-v", "/a:/b:ro,rw"],
        "Error: --volume=\"/a:/b:ro,rw\": options ro and rw exclude each other\n",
    ),
    (
        ["-v", "/a:/b:O,ro"],
        "Error: --volume=\"/a:/b:O,ro\": option O goes with U, z, Z, upperdir= and workdir=, not with ro\n",
    ),
    (
        ["-v", "/a:/b:rshared"],
        "Error: --volume=\"/a:/b:rshared\": rshared is not possible: what is mounted in a container cannot reach the host, since it has a user namespace of its own; use rslave for the other direction\n",
    ),
    (
        ["--mount", "type=zzz,dst=/a"],
        "Error: --mount=\"type=zzz,dst=/a\": type=\"zzz\": expected bind, devpts, glob, image, ramfs, tmpfs, volume\n",
    ),
    (
        ["--mount", "type=artifact,src=a,dst=/a"],
        "Error: --mount=\"type=artifact,src=a,dst=/a\": type=artifact is not possible: there is no store for artifacts\n",
    ),
    (
        ["--mount", "type=bind,src=/a"],
        "Error: --mount=\"type=bind,src=/a\": it needs destination=PATH\n",
    ),
    (
        ["--mount", "type=bind,dst=/a"],
        "Error: --mount=\"type=bind,dst=/a\": it needs source=…\n",
    ),
    (
        ["--mount", "type=tmpfs,dst=/a,zzz=1"],
        "Error: --mount=\"type=tmpfs,dst=/a,zzz=1\": \"zzz=1\" is no option of type=tmpfs\n",
    ),
    (
        ["--mount", "type=tmpfs,dst=/a,tmpfs-mode=9"],
        "Error: --mount=\"type=tmpfs,dst=/a,tmpfs-mode=9\": mode \"9\": expected octal digits, as 1777\n",
    ),
    (
        ["--mount", "type=ramfs,dst=/a,tmpfs-size=1m"],
        "Error: --mount=\"type=ramfs,dst=/a,tmpfs-size=1m\": a ramfs has no size; use type=tmpfs\n",
    ),
    (
        ["--tmpfs", "a"],
        "Error: --tmpfs=\"a\": \"a\" is not an absolute path\n",
    ),
    (
        ["--tmpfs", "/a:zzz"],
        "Error: --tmpfs=\"/a:zzz\": unknown option \"zzz\": expected ro, rw, exec, noexec, dev, nodev, suid, nosuid, size=, mode=, uid=, gid=, nr_inodes=, nr_blocks=, noswap, tmpcopyup, notmpcopyup or U\n",
    ),
    (
        ["--volumes-from", "c:zzz"],
        "Error: --volumes-from=\"c:zzz\": unknown option \"zzz\": expected ro, rw or z\n",
    ),
    (
        ["--image-volume", "zzz"],
        "Error: --image-volume=\"zzz\": expected anonymous, bind, tmpfs or ignore\n",
    ),
    (
        ["--systemd", "zzz"],
        "Error: --systemd=\"zzz\": expected true, false or always\n",
    ),
    (
        ["--chrootdirs", "a"],
        "Error: --chrootdirs=\"a\": \"a\" is not an absolute path\n",
    ),
];

#[test]
fn what_is_wrong_of_a_mount_is_said_in_one_line() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let dir = dir.display();
    for (flags, expected) in WRONG {
        let output = rbox
            .args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "true"])
            .stderr_any()
            .status(125)
            .run();
        let line = output.stderr.split_inclusive('\n').next().unwrap();
        assert_eq!(line, expected);
    }
    rbox.args([
        "run",
        "--rm",
        "-v",
        &format!("{dir}:/a"),
        "--tmpfs",
        "/a/",
        "busybox",
        "true",
    ])
    .stderr("Error: cannot create container: two mounts at \"/a\": expected one for each place\n")
    .status(125)
    .run();
    rbox.args(["run", "--rm", "-v", &format!("{dir}/none:/a"), "busybox", "true"])
        .stderr("Error: cannot create container: volume source [DIR]/work/dir/none does not exist\nHint: make it: `mkdir -p [DIR]/work/dir/none`\n")
        .status(125)
        .run();
    rbox.args(["run", "--rm", "--volumes-from", "none", "busybox", "true"])
        .stderr("Error: cannot create container: no container with name or id \"none\"\nHint: `rbox ps -a` lists the containers there are\n")
        .status(125)
        .run();
    // Nothing was made for any of these.
    rbox.args(["volume", "ls", "-q"]).run();
}

#[test]
fn a_parent_mount_does_not_cover_its_child() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let (whole, part) = (
        format!("{}:/a", dir.display()),
        format!("{}:/a/sub/deep", dir.display()),
    );
    rbox.args([
        "run", "--rm", "-v", &part, "-v", &whole, "--tmpfs", "/a/sub", "busybox",
    ])
    .args(["ls", "/a", "/a/sub", "/a/sub/deep"])
    .stdout("/a:\nfile\nlink\nsub\n\n/a/sub:\ndeep\ninner\n\n/a/sub/deep:\nfile\nlink\nsub\n")
    .run();
}

/// Everything in it belongs to the container's user afterwards; what links point to does not.
#[test]
fn u_gives_a_directory_to_the_user() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let outside = rbox.write("outside", "");
    symlink(&outside, dir.join("sub/out")).unwrap();
    rbox.own(&dir.join("sub/out"));
    let before = std::fs::metadata(&outside).unwrap().uid();
    let volume = format!("{}:/v:U", dir.display());
    let list = "cd /v; stat -c '%u:%g %n' . file link sub sub/inner sub/out";
    rbox.args([
        "run", "--rm", "-u", "123:45", "-v", &volume, "busybox", "sh", "-c", list,
    ])
    .stdout("123:45 .\n123:45 file\n123:45 link\n123:45 sub\n123:45 sub/inner\n123:45 sub/out\n")
    .run();
    assert_eq!(std::fs::metadata(&outside).unwrap().uid(), before);
    rbox.args(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", list])
        .stdout("0:0 .\n0:0 file\n0:0 link\n0:0 sub\n0:0 sub/inner\n0:0 sub/out\n")
        .run();
    rbox.args(["run", "--rm", "-v", "/usr/../etc:/v:U", "busybox", "true"])
        .stderr("Error: cannot create container: option U would give /usr/../etc of the host to the container's user\nHint: use a directory of your own, or leave out U\n")
        .status(125)
        .run();
}

#[test]
fn changes_of_an_overlay_go_elsewhere() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let volume = format!("{}:/v:O", dir.display());
    let script = "cat /v/file; echo new >/v/file; rm -r /v/sub; ls /v; cat /v/file";
    rbox.args([
        "run", "--name", "c", "-v", &volume, "busybox", "sh", "-c", script,
    ])
    .stdout("text\nfile\nlink\nnew\n")
    .run();
    // At the next start they are gone.
    rbox.args(["start", "-a", "c"])
        .stdout("text\nfile\nlink\nnew\n")
        .run();
    rbox.remove(&["c"]);
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "text\n");
    assert!(dir.join("sub/inner").exists());
    for name in ["upper", "work-dir"] {
        std::fs::create_dir(rbox.work(name)).unwrap();
        rbox.own(&rbox.work(name));
    }
    let volume = format!(
        "{volume},upperdir={},workdir={}",
        rbox.work("upper").display(),
        rbox.work("work-dir").display()
    );
    rbox.args(["run", "--rm", "-v", &volume, "busybox", "touch", "/v/kept"])
        .run();
    assert!(rbox.work("upper/kept").exists() && !dir.join("kept").exists());
}

#[test]
fn every_type_of_mount_is_there() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let dir = dir.display();
    let show = |mount: &str, script: &str, expected: &str| {
        let script = &format!("{script}; true");
        rbox.args([
            "run", "--rm", "--mount", mount, "busybox", "sh", "-c", script,
        ])
        .stdout(expected)
        .run();
    };
    show(
        &format!("type=bind,src={dir},dst=/m,ro"),
        "cat /m/file; touch /m/x 2>&1",
        "text\ntouch: /m/x: Read-only file system\n",
    );
    show(
        &format!("type=bind,\"src={dir}\",target=/m,subpath=sub"),
        "ls /m",
        "inner\n",
    );
    show(
        "type=tmpfs,dst=/m,tmpfs-size=64k,tmpfs-mode=0711",
        "stat -c %a /m; df -k /m | tail -1 | awk '{print $2}'",
        "711\n64\n",
    );
    show(
        "type=tmpfs,dst=/etc",
        "ls /etc",
        "group\nhostname\nhosts\npasswd\nresolv.conf\n",
    );
    show(
        "type=tmpfs,dst=/etc,notmpcopyup,tmpfs-mode=755",
        "ls /etc",
        "hostname\nhosts\nresolv.conf\n",
    );
    show("type=ramfs,dst=/m", "stat -f -c %T /m", "ramfs\n");
    show("type=devpts,dst=/m,mode=600,max=2", "ls /m", "ptmx\n");
    show(
        "type=image,src=busybox,dst=/m",
        "ls /m/bin | head -1; touch /m/x 2>&1",
        "[\ntouch: /m/x: Read-only file system\n",
    );
    show(
        "type=image,src=busybox,dst=/m,rw=true,subpath=etc",
        "touch /m/x; ls /m",
        "group\npasswd\nx\n",
    );
    show(
        &format!("type=glob,src={dir}/*i*,dst=/m"),
        "ls -F /m",
        "file\nlink\n",
    );
    show(
        &format!("type=glob,src={dir}/l*,dst=/m,no-dereference"),
        "readlink /m/link",
        "file\n",
    );
    show(
        &format!("type=bind,src={dir},dst=/m,bind-nonrecursive,bind-propagation=rslave"),
        "ls /m",
        "file\nlink\nsub\n",
    );
    rbox.args([
        "run",
        "--rm",
        "--mount",
        "type=image,src=none,dst=/m",
        "busybox",
        "true",
    ])
    .stderr_has("Error: cannot create container: ")
    .status(125)
    .run();
}

/// A container without its image cannot start, nor can one whose mounted image is gone.
#[test]
fn a_mounted_image_is_in_use() {
    let rbox = Rbox::with_busybox();
    rbox.load("testinit");
    rbox.args([
        "create",
        "--name",
        "c",
        "--mount",
        "type=image,src=testinit,dst=/m",
        "busybox",
        "ls",
        "/m/init",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["rmi", "-f", "testinit"]).stdout_any().run();
    rbox.args(["start", "-a", "c"]).stdout("/m/init\n").run();
    rbox.allow_orphans();
    rbox.remove(&["c"]);
}

#[test]
fn a_read_only_container_may_write_where_programs_must() {
    let rbox = Rbox::with_busybox();
    let script = "for d in /run /tmp /var/tmp /dev /dev/shm /; do touch $d/x 2>/dev/null && echo $d; done; true";
    let run = |flags: &[&str], expected: &str| {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "sh", "-c", script])
            .stdout(expected)
            .run();
    };
    run(&["--read-only"], "/run\n/tmp\n/var/tmp\n/dev\n/dev/shm\n");
    run(&["--read-only", "--read-only-tmpfs=false"], "");
    run(
        &["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"],
        "/tmp\n",
    );
}

#[test]
fn volumes_of_another_container_are_shared() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    let volume = format!("{}:/v", dir.display());
    rbox.args([
        "run",
        "--name",
        "c",
        "-v",
        &volume,
        "-v",
        "/anonymous",
        "--tmpfs",
        "/t",
        "busybox",
    ])
    .args(["touch", "/anonymous/shared", "/t/own"])
    .run();
    rbox.args([
        "run",
        "--rm",
        "--volumes-from",
        "c:ro",
        "busybox",
        "sh",
        "-c",
    ])
    .arg("ls /v /anonymous; ls /t; touch /anonymous/x")
    .stdout("/anonymous:\nshared\n\n/v:\nfile\nlink\nsub\n")
    .stderr("ls: /t: No such file or directory\ntouch: /anonymous/x: Read-only file system\n")
    .status(1)
    .run();
    // It went with neither: the first container has it still.
    rbox.args(["start", "-a", "c"]).run();
    rbox.args(["rm", "-v", "c"]).stdout("c\n").run();
    rbox.args(["volume", "ls", "-q"]).run();
}

#[test]
fn a_directory_can_be_the_root_file_system() {
    let rbox = Rbox::new();
    let root = rbox.work("root");
    for path in [&root, &root.join("bin")] {
        std::fs::create_dir(path).unwrap();
        rbox.own(path);
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    rbox.own(&root.join("bin/busybox"));
    let path = root.display().to_string();
    rbox.args([
        "run",
        "--rm",
        "--rootfs",
        &path,
        "/bin/busybox",
        "touch",
        "/made",
    ])
    .run();
    assert!(root.join("made").exists());
    rbox.args([
        "run",
        "--rm",
        "--rootfs",
        &format!("{path}:O"),
        "/bin/busybox",
        "rm",
        "/made",
    ])
    .run();
    assert!(root.join("made").exists());
    rbox.args(["run", "--rm", "--rootfs", &format!("{path}:zzz"), "true"])
        .stderr(format!(
            "Error: --rootfs \"{}:zzz\": unknown option \"zzz\", expected O\n",
            "[DIR]/work/root"
        ))
        .status(125)
        .run();
    rbox.args(["run", "--rm", "--rootfs", "/nothing/here", "true"])
        .stderr("Error: cannot create container: root file system /nothing/here is no directory\n")
        .status(125)
        .run();
    rbox.args(["run", "--rm", "--rootfs", &path])
        .stderr(
            "Error: cannot create container: --rootfs \"[DIR]/work/root\" needs a command, and none was given\n\
             Hint: give one: `rbox run --rootfs [DIR]/work/root COMMAND`\n",
        )
        .status(125)
        .run();
}

#[test]
fn systemd_finds_what_it_expects() {
    let rbox = Rbox::with_busybox();
    let script = "test ${#container_uuid} = 32 && for p in /run /run/lock /tmp /var/log/journal; do
        awk -v p=$p '$5==p {print p, $6}' /proc/self/mountinfo; df -k $p | tail -1 | awk '{print $2}'; done";
    rbox.args(["run", "--name", "c", "--systemd", "always", "--shm-size-systemd", "1m", "busybox", "sh", "-c", script])
        .stdout("/run rw,nosuid,nodev,relatime\n1024\n/run/lock rw,nosuid,nodev,relatime\n1024\n/tmp rw,nosuid,nodev,relatime\n1024\n/var/log/journal rw,nosuid,nodev,relatime\n1024\n")
        .run();
    rbox.args(["inspect", "-f", "{{.Config.StopSignal}}", "c"])
        .stdout("SIGRTMIN+3\n")
        .run();
    rbox.remove(&["c"]);
    for (flag, command, expected) in [
        ("true", "/sbin/init", "SIGRTMIN+3\n"),
        ("true", "/lib/systemd/systemd", "SIGRTMIN+3\n"),
        ("true", "init", "SIGTERM\n"),
        ("false", "/sbin/init", "SIGTERM\n"),
    ] {
        rbox.args([
            "create",
            "--name",
            "c",
            "--systemd",
            flag,
            "busybox",
            command,
        ])
        .stdout("[ID]\n")
        .run();
        rbox.args(["inspect", "-f", "{{.Config.StopSignal}}", "c"])
            .stdout(expected)
            .run();
        rbox.remove(&["c"]);
    }
}

#[test]
fn directories_for_chroots_get_the_files_of_etc() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "--rm",
        "--chrootdirs",
        "/a,/b/c",
        "busybox",
        "ls",
        "/a/etc",
        "/b/c/etc",
    ])
    .stdout("/a/etc:\nhostname\nhosts\nresolv.conf\n\n/b/c/etc:\nhostname\nhosts\nresolv.conf\n")
    .run();
    // In a volume too, but for the file that the user has put there.
    let volume = rbox.work("volume");
    std::fs::create_dir(&volume).unwrap();
    rbox.own(&volume);
    let hosts = rbox.write("hosts", "own\n");
    rbox.args(["run", "--rm", "--chrootdirs", "/v/in", "-h", "h"])
        .args(["-v", &format!("{}:/v", volume.display())])
        .args(["-v", &format!("{}:/v/in/etc/hosts", hosts.display())])
        .args(["busybox", "sh", "-c"])
        .arg("cd /v/in/etc; ls; cat hostname hosts; cmp resolv.conf /etc/resolv.conf; grep -c ' /v/in/' /proc/self/mountinfo")
        .stdout("hostname\nhosts\nresolv.conf\nh\nown\n3\n")
        .run();
}

/// The kernel lets only the owner of a file system show it under other owners.
#[test]
fn mapped_mounts_are_for_root() {
    let rbox = Rbox::with_busybox();
    let dir = directory(&rbox);
    rbox.args(["run", "--rm", "-v", &format!("{}:/v:idmap", dir.display()), "busybox", "true"])
        .stderr_has("option \"idmap\" needs root: the kernel lets only the owner of a file system map its ids\n")
        .status(125)
        .run();
    let Some(root) = Rbox::as_root() else { return };
    root.load("busybox");
    let dir = directory(&root);
    let volume = format!("{}:/v:idmap=uids=0-1234-1;gids=0-77-1", dir.display());
    root.args([
        "run", "--rm", "-v", &volume, "busybox", "stat", "-c", "%u:%g", "/v/file",
    ])
    .stdout("1234:77\n")
    .run();
}
