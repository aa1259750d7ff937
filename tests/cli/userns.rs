//! User namespaces and who the container's processes are: every mode, with sub-ids, without, and as root.
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Entry;
use crate::support::archive::Tar;
use crate::support::hostile::Image;
use crate::support::skip;

const MAPS: &str = "cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //'";
const BOTH_MAPS: &str = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' | sed 's/^ //'";
/// As the kernel has them; `id` adds the primary one.
const GROUPS: &str = "sed -n 's/^Groups:.//p' /proc/self/status | sed 's/ $//'";
const OWNERS: &str = "stat -c '%n %a %u:%g' / /bin /home/alice /etc/passwd /dev /tmp";

/// The first range of the test's user in /etc/subuid; the tests give gids the same.
fn sub_ids(rbox: &Rbox) -> Option<(u32, u32)> {
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap();
    let lead = format!("{}:", rbox.account().name);
    let found = subuid.lines().find_map(|line| {
        let (start, count) = line.strip_prefix(&lead)?.split_once(':')?;
        Some((start.parse().unwrap(), count.parse().unwrap()))
    });
    if found.is_none() {
        skip::skip("this user is not in /etc/subuid");
    }
    found
}

/// A file of a container's own layer, as the host sees it.
fn owner(rbox: &Rbox, file: &str) -> (u32, u32) {
    let containers = std::fs::read_dir(rbox.data().join("containers")).unwrap();
    let found: Vec<_> = containers
        .filter_map(|entry| {
            let path = entry.unwrap().path().join("upper").join(file);
            path.symlink_metadata().ok()
        })
        .collect();
    assert_eq!(found.len(), 1, "{file} in one container");
    (found[0].uid(), found[0].gid())
}

fn image_owners(root: &str) -> String {
    format!(
        "/ 755 {root}\n/bin 755 {root}\n/home/alice 700 1000:1000\n\
         /etc/passwd 644 {root}\n/dev 755 {root}\n/tmp 1777 {root}\n"
    )
}

#[test]
fn keep_id_is_the_user_inside_and_outside() {
    let rbox = Rbox::with_busybox();
    let Some((start, count)) = sub_ids(&rbox) else {
        return;
    };
    let account = rbox.account();
    let (uid, gid) = (account.uid, account.gid);
    let run = ["run", "--rm", "--userns=keep-id"];
    let rest = count - uid;
    let map = |id: u32| {
        let above = id + 1;
        format!(
            "0 {start} {id}\n{id} {uid} 1\n{above} {} {rest}\n",
            start + id
        )
    };
    assert_eq!(uid, gid, "useradd gives both the same number");
    rbox.args(run)
        .args(["busybox", "sh", "-c", BOTH_MAPS])
        .stdout(map(uid).repeat(2))
        .run();
    rbox.args(run)
        .args([
            "busybox",
            "sh",
            "-c",
            "id; grep ^$(id -un): /etc/passwd /etc/group; echo $HOME",
        ])
        .stdout(format!(
            "uid={uid}({name}) gid={gid}({name}) groups={gid}({name})\n\
             /etc/passwd:{name}:*:{uid}:{gid}::/:/bin/sh\n/etc/group:{name}:x:{gid}:{name}\n/\n",
            name = account.name
        ))
        .run();
    // The files of the image have the owners that they have anywhere.
    rbox.args(run)
        .args(["busybox", "sh", "-c", OWNERS])
        .stdout(image_owners("0:0"))
        .run();
    // The user's own files are his on both sides.
    let mine = rbox.write("mine", "text");
    let bind = format!("{}:/work", mine.parent().unwrap().display());
    let script = "stat -c '%u:%g' /work/mine; touch /work/made; stat -c '%u:%g' /work/made";
    rbox.args(run)
        .args(["-v", &bind, "busybox", "sh", "-c", script])
        .stdout(format!("{uid}:{gid}\n{uid}:{gid}\n"))
        .run();
    let made = rbox.work("made").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (uid, gid));
    rbox.args(run)
        .args([
            "-u",
            "0",
            "busybox",
            "sh",
            "-c",
            "id -u; touch /x; stat -c %u /x",
        ])
        .stdout("0\n0\n")
        .run();
}

#[test]
fn keep_id_takes_other_numbers_and_sizes() {
    let rbox = Rbox::with_busybox();
    let Some((start, _)) = sub_ids(&rbox) else {
        return;
    };
    let uid = rbox.account().uid;
    let script = format!("{BOTH_MAPS}; id -u; id -g");
    rbox.args(["run", "--rm", "--userns=keep-id:uid=200,gid=210,size=300"])
        .args(["busybox", "sh", "-c", &script])
        .stdout(format!(
            "0 {start} 200\n200 {uid} 1\n201 {} 99\n0 {start} 210\n210 {uid} 1\n211 {} 89\n200\n210\n",
            start + 200,
            start + 210
        ))
        .run();
}

#[test]
fn keep_id_without_sub_ids_is_one_id() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("busybox");
    let (uid, name) = (rbox.account().uid, rbox.account().name);
    let gid = rbox.account().gid;
    let script = format!(
        "{BOTH_MAPS}; id -un; touch /x; stat -c '%u:%g' /x /; grep Cap.*f: /proc/self/status"
    );
    rbox.args(["run", "--rm", "--userns=keep-id", "busybox", "sh", "-c", &script])
        .stdout(format!(
            "{uid} {uid} 1\n{gid} {gid} 1\n{name}\n{uid}:{gid}\n{uid}:{gid}\nCapEff:\t0000000000000000\n"
        ))
        .run();
    rbox.args(["run", "-d", "--name", "c", "--userns=keep-id:uid=7"])
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "exec",
        "c",
        "sh",
        "-c",
        "id -u; id -g; echo out >/dev/stdout",
    ])
    .stdout(format!("7\n{gid}\nout\n"))
    .run();
    rbox.remove(&["c"]);
    for (mode, message) in [
        ("auto", "mode auto needs sub-ids, and you have none"),
        ("nomap", "mode nomap needs sub-ids, and you have none"),
    ] {
        let hint = match mode {
            "auto" => "Hint: `rbox doctor` shows how to get them\n",
            _ => "Hint: `rbox doctor` shows how to get more ids\n",
        };
        rbox.args([
            "run",
            "--rm",
            &format!("--userns={mode}"),
            "busybox",
            "true",
        ])
        .stderr(format!("Error: cannot create container: {message}\n{hint}"))
        .status(125)
        .run();
    }
    rbox.args([
        "run",
        "--rm",
        "--uidmap=1000:0:1",
        "-u",
        "1000",
        "busybox",
        "sh",
        "-c",
        MAPS,
    ])
    .stdout(format!("1000 {uid} 1\n"))
    .run();
    rbox.args(["run", "--rm", "--uidmap=0:1:1", "busybox", "true"])
        .stderr(
            "Error: cannot create container: cannot use --uidmap: there is no id 1 to map, you \
             have one id, 0\n",
        )
        .status(125)
        .run();
}

#[test]
fn nomap_leaves_the_user_out() {
    let rbox = Rbox::with_busybox();
    let Some((start, count)) = sub_ids(&rbox) else {
        return;
    };
    let script = format!("{BOTH_MAPS}; {OWNERS}; echo out >/dev/stderr");
    rbox.args([
        "run",
        "--rm",
        "--userns=nomap",
        "busybox",
        "sh",
        "-c",
        &script,
    ])
    .stdout(format!("0 {start} {count}\n").repeat(2) + &image_owners("0:0"))
    .stderr("out\n")
    .run();
    // What is the user's own belongs to nobody there.
    let mine = rbox.write("mine", "text");
    std::fs::set_permissions(&mine, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bind = format!("{}:/mine", mine.display());
    rbox.args([
        "run",
        "--rm",
        "--userns=nomap",
        "-v",
        &bind,
        "busybox",
        "cat",
        "/mine",
    ])
    .stderr("cat: can't open '/mine': Permission denied\n")
    .status(1)
    .run();
}

#[test]
fn auto_gives_each_container_its_own_ids() {
    let rbox = Rbox::with_busybox();
    let Some((start, _)) = sub_ids(&rbox) else {
        return;
    };
    let create = |name: &str, mode: &str| {
        rbox.args([
            "create",
            "--name",
            name,
            &format!("--userns={mode}"),
            "busybox",
        ])
        .args(["sh", "-c", &format!("{MAPS}; {OWNERS}; touch /made")])
        .stdout("[ID]\n")
        .run();
    };
    // Side by side: each takes what no other has.
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            scope.spawn(move || create(name, "auto"));
        }
    });
    let template =
        "{{index .HostConfig.IDMappings.UidMap 0}} {{index .HostConfig.IDMappings.GidMap 0}}";
    let inspect = |name: &str| {
        let output = rbox
            .args(["inspect", "-f", template, name])
            .stdout_any()
            .run();
        output.stdout.trim().to_owned()
    };
    let mut maps: Vec<String> = ["a", "b", "c", "d"].map(inspect).into();
    let own = maps[0].clone();
    maps.sort();
    let expected: Vec<String> = (0..4)
        .map(|n| {
            let first = start + n * 1024;
            format!("0:{first}:1024 0:{first}:1024")
        })
        .collect();
    assert_eq!(maps, expected);
    let first: u32 = own.split(':').nth(1).unwrap().parse().unwrap();
    rbox.args(["start", "-a", "a"])
        .stdout(format!("0 {first} 1024\n{}", image_owners("0:0")))
        .run();
    assert_eq!(owner(&rbox, "made"), (first, first));
    // What a removed one had is free again; the size is that of the user where he asks for it.
    rbox.remove(&["a"]);
    create("e", "auto:size=500");
    assert_eq!(inspect("e"), format!("0:{first}:500 0:{first}:500"));
    create("f", "auto:size=70,uidmapping=5:0:1");
    let template = "{{.HostConfig.IDMappings.UidMap}}";
    let second = first + 500;
    rbox.args(["inspect", "-f", template, "f"])
        .stdout(format!(
            "[0:{second}:5 5:{}:1 6:{}:64]\n",
            rbox.account().uid,
            second + 6
        ))
        .run();
    rbox.args(["create", "--userns=auto:size=65000", "busybox"])
        .stderr_has("Error: cannot create container: mode auto needs 65000 ids that no other container has, and ")
        .status(125)
        .run();
    rbox.remove(&["b", "c", "d", "e", "f"]);
}

#[test]
fn auto_has_room_for_the_users_of_the_image() {
    let rbox = Rbox::new();
    let Some((start, _)) = sub_ids(&rbox) else {
        return;
    };
    let mut tar = Tar::default();
    tar.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/:/bin/sh\nbig:x:3000:2000::/:/bin/sh\nnobody:x:65534:65534::/:\n",
    )
    .file("etc/group", 0o644, b"root:x:0:\nlarge:x:4000:\n");
    let mut trap = Tar::default();
    trap.symlink("etc/passwd", "/../../../../../../../etc/passwd")
        .symlink("etc/group", "/proc/self/fd/0");
    let images = [
        (Image::busybox().layer(&mut tar), 4001),
        (Image::busybox().with(json!({"User": "5000:1"})), 5001),
        (Image::busybox().layer(&mut trap), 1024),
    ];
    for (image, size) in images {
        image.load(&rbox);
        let output = rbox
            .args(["create", "--name", "c", "--userns=auto", "odd"])
            .stdout_any()
            .run();
        assert_eq!(output.stdout.lines().count(), 1);
        rbox.args(["inspect", "-f", "{{.HostConfig.IDMappings.UidMap}}", "c"])
            .stdout(format!("[0:{start}:{size}]\n"))
            .run();
        rbox.remove(&["c"]);
    }
}

#[test]
fn maps_are_composed_with_those_of_the_user() {
    let rbox = Rbox::with_busybox();
    let Some((start, count)) = sub_ids(&rbox) else {
        return;
    };
    let uid = rbox.account().uid;
    let at = |offset: u32| start + offset;
    let (last, far) = (at(count - 1), count - 1);
    let table = [
        (
            vec!["--uidmap=0:1:2000", "--uidmap=2000:0:1"],
            format!("0 {start} 2000\n2000 {uid} 1\n0 {start} 2000\n2000 {uid} 1\n"),
        ),
        (
            vec!["--gidmap=0:1:1000,u1000:0:1"],
            format!("0 {start} 1000\n1000 {uid} 1\n0 {start} 1000\n"),
        ),
        (
            vec!["--uidmap=0:0:1001", "--gidmap=0:1:1001"],
            format!("0 {uid} 1\n1 {start} 1000\n0 {start} 1001\n"),
        ),
        (
            vec![&*format!("--gidmap=+g70000:@{last}")],
            format!("0 {uid} 1\n1 {start} {count}\n0 {uid} 1\n1 {start} {far}\n70000 {last} 1\n"),
        ),
        (
            vec!["--subuidname", rbox.account().name],
            format!("0 {start} {count}\n").repeat(2),
        ),
    ]
    .map(|(flags, map)| {
        (
            flags.into_iter().map(str::to_owned).collect::<Vec<_>>(),
            map,
        )
    });
    for (flags, map) in table {
        rbox.args(["run", "--rm"])
            .args(&flags)
            .args([
                "busybox",
                "sh",
                "-c",
                &format!("{BOTH_MAPS}; stat -c %u /home/alice"),
            ])
            .stdout(map + "1000\n")
            .run();
    }
    // Only the user's own id: every file belongs to it, as without sub-ids.
    rbox.args(["run", "--rm", "--uidmap=1000:0:1", "-u", "1000", "busybox"])
        .args([
            "sh",
            "-c",
            &format!("{MAPS}; id -u; stat -c %u:%g /bin /home/alice; touch /x; stat -c %u /x"),
        ])
        .stdout(format!("1000 {uid} 1\n1000\n1000:1000\n1000:1000\n1000\n"))
        .run();
}

#[test]
fn malformed_values_are_told_in_one_line() {
    let rbox = Rbox::with_busybox();
    let triple = "expected [+][u|g]CONTAINER:[@]FROM[:COUNT], such as 0:1:1000 or +1000:@100";
    let modes = "expected host, keep-id, auto, nomap, private, container:NAME or ns:PATH";
    let id = "expected an id from 0 to 4294967294";
    let max = "expected an id from 0 to 2147483647";
    let table = [
        ("--uidmap=", triple),
        ("--uidmap=0:0:0", triple),
        ("--uidmap=0:0:1:2", triple),
        ("--gidmap=-1:0:1", triple),
        ("--gidmap=0:0x1:1", triple),
        ("--userns=hots", modes),
        (
            "--userns=keep-id:uid=4294967295",
            &format!("uid=\"4294967295\": {id}"),
        ),
        (
            "--userns=auto:size=all",
            "size=\"all\": expected a number of ids, at least 1",
        ),
        ("--userns=container:", "expected container:NAME"),
        ("--user=4294967296", max),
        ("--user=1:2147483648", max),
        ("--user=1:2:3", "expected USER or USER:GROUP"),
        ("--group-add=4294967296", max),
        (
            "--group-add=",
            "expected the name or gid of a group, or keep-groups",
        ),
        ("--umask=8", "expected an octal number from 0 to 0777"),
        ("--umask=1777", "expected an octal number from 0 to 0777"),
        ("--passwd-entry=a\nb", "expected one line"),
        (
            "--hostuser=a:b",
            "expected the name or uid of a user of the host",
        ),
    ];
    for (flag, message) in table {
        let (name, value) = flag.split_once('=').unwrap();
        let value = value.replace('\n', "\\n");
        rbox.args(["create", flag, "busybox"])
            .stderr(format!(
                "Error: {name}=\"{value}\": {message}\n\
                 Hint: `rbox create --help` tells what there is\n"
            ))
            .status(125)
            .run();
    }
    for (flags, message) in [
        (
            ["--userns=keep-id", "--uidmap=0:0:1"],
            "--userns cannot be used with --uidmap or --gidmap",
        ),
        (
            ["--userns=nomap", "--subuidname=x"],
            "--userns cannot be used with --subuidname or --subgidname",
        ),
        (
            ["--subuidname=x", "--gidmap=0:0:1"],
            "--uidmap or --gidmap cannot be used with --subuidname or --subgidname",
        ),
        (
            ["--group-add=keep-groups", "--group-add=wheel"],
            "--group-add=\"keep-groups\" cannot be used with other groups",
        ),
        (
            ["--uidmap=0:0:5", "--uidmap=4:9:1"],
            "cannot use --uidmap: it gives id 4 of the container twice",
        ),
        (
            ["--uidmap=0:0:5", "--uidmap=9:4:1"],
            "cannot use --uidmap: id 4 is mapped twice",
        ),
        (
            ["--uidmap=0:@7:1", "--rm"],
            "cannot use --uidmap: id 7 of the host is not one that you may map",
        ),
        (
            ["--hostuser=no-such-user", "--rm"],
            "--hostuser=\"no-such-user\": there is no such user on the host",
        ),
    ] {
        rbox.args(["create"])
            .args(flags)
            .arg("busybox")
            .stderr(format!("Error: cannot create container: {message}\n"))
            .status(125)
            .run();
    }
}

#[test]
fn namespaces_that_are_none_are_refused() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--userns=container:none", "busybox"])
        .stderr(
            "Error: cannot create container: no container with name or id \"none\"\n\
             Hint: `rbox ps -a` lists the containers there are\n",
        )
        .status(125)
        .run();
    rbox.args(["create", "--userns=ns:/etc/passwd", "busybox"])
        .stderr_has("Error: cannot create container: cannot join user namespace \"/etc/passwd\": it is no user namespace in which you may do anything")
        .status(125)
        .run();
    rbox.args(["create", "--userns=ns:/proc/self/ns/user", "busybox"])
        .stderr("Error: cannot create container: cannot join user namespace \"/proc/self/ns/user\": it is that of rbox itself, in which you are not root\n")
        .status(125)
        .run();
}

#[test]
fn a_user_namespace_is_shared() {
    let rbox = Rbox::with_busybox();
    let Some((start, _)) = sub_ids(&rbox) else {
        return;
    };
    rbox.args(["run", "-d", "--name", "first", "--userns=auto"])
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let own = rbox
        .args(["exec", "first", "readlink", "/proc/self/ns/user"])
        .stdout_any()
        .run()
        .stdout;
    let pid = rbox
        .args(["inspect", "-f", "{{.State.Pid}}", "first"])
        .stdout_any()
        .run()
        .stdout;
    let script = format!("readlink /proc/self/ns/user; {MAPS}; {OWNERS}; touch /x; stat -c %u /x");
    let seen = format!("{own}0 {start} 1024\n{}0\n", image_owners("0:0"));
    for mode in [
        "container:first".to_owned(),
        format!("ns:/proc/{}/ns/user", pid.trim()),
    ] {
        rbox.args([
            "run",
            "--rm",
            &format!("--userns={mode}"),
            "busybox",
            "sh",
            "-c",
            &script,
        ])
        .stdout(&seen)
        .run();
    }
    // Its ids are the other's: those of a third are not.
    rbox.args([
        "create",
        "--name",
        "second",
        "--userns=container:first",
        "busybox",
        "true",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "create",
        "--name",
        "third",
        "--userns=auto:size=10",
        "busybox",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "inspect",
        "-f",
        "{{.HostConfig.IDMappings.UidMap}}",
        "third",
    ])
    .stdout(format!("[0:{}:10]\n", start + 1024))
    .run();
    rbox.remove(&["first", "third"]);
    rbox.args(["start", "second"])
        .stderr_has("Error: cannot start container \"second\": cannot join the user namespace of container \"")
        .status(125)
        .run();
    rbox.remove(&["second"]);
}

/// Containers of one image under several maps, their files made, changed, joined and removed.
#[test]
fn containers_of_other_ids_live_and_go_as_others_do() {
    let rbox = Rbox::with_busybox();
    if sub_ids(&rbox).is_none() {
        return;
    }
    for mode in ["auto", "nomap", "keep-id"] {
        let userns = format!("--userns={mode}");
        rbox.args(["run", "-d", "--name", "c", &userns, "busybox"])
            .args(["sh", "-c", "echo begun >/dev/stdout; exec sleep 1000"])
            .stdout("[ID]\n")
            .run();
        let script = "mkdir -m 700 /deep /deep/er; echo x >/deep/er/file; chown 7:7 /deep/er; \
                      echo out >/dev/stdout; echo err >/dev/stderr; cat /proc/1/comm";
        rbox.args(["exec", "-u", "0", "c", "sh", "-c", script])
            .stdout("out\nsleep\n")
            .stderr("err\n")
            .run();
        rbox.args([
            "exec",
            "-u",
            "1000",
            "c",
            "sh",
            "-c",
            "id -u; ls -d /home/alice/.",
        ])
        .stdout("1000\n/home/alice/.\n")
        .run();
        rbox.args(["logs", "c"]).stdout("begun\n").run();
        rbox.args(["stop", "-t", "0", "c"]).stdout("c\n").run();
        rbox.args(["start", "c"]).stdout("c\n").run();
        rbox.args(["exec", "-u", "0", "c", "cat", "/deep/er/file"])
            .stdout("x\n")
            .run();
        rbox.remove(&["c"]);
        rbox.assert_no_leaks();
    }
    rbox.args(["rmi", "busybox"]).stdout_any().run();
    let layers = std::fs::read_dir(rbox.data().join("layers")).unwrap();
    assert_eq!(layers.count(), 0, "copies of layers go with the layer");
}

/// Owners, set-id bits, hard links, whiteouts, opaque directories and capabilities of files.
#[test]
fn a_layer_is_the_same_for_other_ids() {
    let rbox = Rbox::new();
    if sub_ids(&rbox).is_none() {
        return;
    }
    rbox.load("debian");
    let script = "stat -c '%n %a %u:%g %h %s %Y' /owners/* | sort; cd /gone; find . | sort; \
                  test -e /etc/debian_version || echo gone; stat -c %U:%G:%a /usr/bin/passwd /etc/shadow";
    let run = |mode: &str| {
        rbox.args(["run", "--rm", "-u", "0", &format!("--userns={mode}")])
            .args(["debian", "bash", "-c", script])
            .stdout_any()
            .run()
            .stdout
    };
    let usual = run("");
    assert!(usual.contains("/owners/nobody 600 65534:65534"), "{usual}");
    for mode in ["nomap", "keep-id"] {
        assert_eq!(run(mode), usual, "{mode}");
    }
}

/// A capability of a file counts for the root of one user namespace, whose id is written beside it.
#[test]
fn capabilities_of_files_count_under_every_map() {
    let rbox = Rbox::new();
    if sub_ids(&rbox).is_none() {
        return;
    }
    // struct vfs_cap_data, revision 2, effective: CAP_NET_RAW (bit 13) permitted.
    let mut capability = [0; 20];
    (capability[0], capability[3], capability[5]) = (1, 2, 0x20);
    let mut tar = Tar::default();
    tar.entry(&Entry {
        path: b"raw/cat",
        mode: 0o755,
        content: &crate::support::hostile::busybox(),
        pax: &[("SCHILY.xattr.security.capability", &capability)],
        ..Entry::default()
    });
    Image::busybox().layer(&mut tar).load(&rbox);
    for mode in ["", "nomap", "auto", "keep-id"] {
        let userns = format!("--userns={mode}");
        let output = rbox
            .args(["run", "--rm", "-u", "3", &userns, "odd"])
            .args(["/raw/cat", "/proc/self/status"])
            .stdout_any()
            .run();
        let found = output
            .stdout
            .lines()
            .find(|line| line.starts_with("CapEff"));
        assert_eq!(found, Some("CapEff:\t0000000000002000"), "{mode}");
    }
}

#[test]
fn root_shares_the_hosts_namespace_where_asked() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    rbox.load("busybox");
    let host = std::fs::read_link("/proc/self/ns/user").unwrap();
    let script = "readlink /proc/self/ns/user; grep Cap /proc/self/status; touch /x; stat -c %u:%g /x; \
                  mknod /b b 7 0 && head -c 1 /b; mknod /dev/b b 7 0 && head -c 1 /dev/b";
    rbox.args(["run", "--rm", "--userns=host", "busybox", "sh", "-c", script])
        .stdout(format!(
            "{}\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
             CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n0:0\n",
            host.display()
        ))
        .stderr("head: /b: Permission denied\nhead: /dev/b: Permission denied\n")
        .status(1)
        .run();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--userns=host",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args([
        "exec",
        "-u",
        "1000",
        "c",
        "sh",
        "-c",
        "id -u; grep CapEff /proc/self/status",
    ])
    .stdout("1000\nCapEff:\t0000000000000000\n")
    .run();
    rbox.remove(&["c"]);
    rbox.args(["run", "--rm", "--userns=nomap", "busybox", "true"])
        .stderr("Error: cannot create container: mode nomap is for users other than root\n")
        .status(125)
        .run();
    rbox.args([
        "run",
        "--rm",
        "--subuidname=no-such-user",
        "busybox",
        "true",
    ])
    .stderr(
        "Error: cannot create container: \"no-such-user\" has no range in /etc/subuid\n\
             Hint: `grep -H : /etc/subuid` lists who has one; `--subuidname` and `--subgidname` take these names\n",
    )
    .status(125)
    .run();
}

#[test]
fn maps_of_root_are_ids_of_the_host() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    rbox.load("busybox");
    let script = format!("{BOTH_MAPS}; {OWNERS}; touch /made; echo out >/dev/stdout");
    rbox.args([
        "run",
        "--name",
        "c",
        "--uidmap=0:700000:2000",
        "busybox",
        "sh",
        "-c",
        &script,
    ])
    .stdout(format!(
        "{}{}out\n",
        "0 700000 2000\n".repeat(2),
        image_owners("0:0")
    ))
    .run();
    assert_eq!(owner(&rbox, "made"), (700_000, 700_000));
    rbox.remove(&["c"]);
    rbox.args(["run", "--rm", "--userns=keep-id", "busybox", "id", "-u"])
        .stdout("0\n")
        .run();
}

/// CVE-2022-2989, CVE-2022-2990, CVE-2022-36109: groups that nobody asked for are none, and the primary one is
/// among the others, so that a file that denies a group denies it for good.
#[test]
fn groups_are_those_of_the_user_and_no_others() {
    let rbox = Rbox::with_busybox();
    let table = [
        (vec![], "0"),
        (vec!["-u", "alice"], "10 1000"),
        (vec!["-u", "1000"], "10 1000"),
        (vec!["-u", "alice:wheel"], "10"),
        (vec!["-u", "4000"], "0"),
        (vec!["-u", "4000:77"], "77"),
        (vec!["--group-add", "wheel,1234"], "0 10 1234"),
        (
            vec!["-u", "1000:5", "--group-add", "77", "--group-add", "5"],
            "5 77",
        ),
    ];
    for (flags, groups) in table {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "sh", "-c", GROUPS])
            .stdout(format!("{groups}\n"))
            .run();
    }
    rbox.args(["run", "--rm", "--group-add=nosuch", "busybox", "id"])
        .stderr_has("no group \"nosuch\" in /etc/group of the container")
        .status(125)
        .run();
    // A file that everybody may read but its group.
    let script = "echo secret >/deny; chown 0:77 /deny; chmod 0604 /deny; exec sleep 1000";
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--group-add",
        "88",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .stdout("[ID]\n")
    .run();
    while rbox
        .args(["exec", "c", "test", "-s", "/deny"])
        .status_any()
        .run()
        .status
        .code()
        != Some(0)
    {}
    rbox.args(["exec", "-u", "4000:77", "c", "cat", "/deny"])
        .stderr("cat: can't open '/deny': Permission denied\n")
        .status(1)
        .run();
    rbox.args(["exec", "-u", "4000:78", "c", "sh", "-c", "cat /deny; id -G"])
        .stdout("secret\n78\n")
        .run();
    // Those of the container, as long as no other user is named.
    rbox.args(["exec", "c", "sh", "-c", GROUPS])
        .stdout("0 88\n")
        .run();
    rbox.args(["exec", "-u", "alice", "c", "sh", "-c", GROUPS])
        .stdout("10 1000\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn a_single_id_has_no_other_groups() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("busybox");
    for mode in ["--userns=", "--userns=keep-id", "--uidmap=0:0:1"] {
        rbox.args(["run", "--rm", mode, "--group-add=wheel", "busybox", "id"])
            .stderr(
                "Error: cannot create container: --group-add=\"wheel\": with a single id a process can have \
                 no other groups\nHint: `rbox doctor` shows how to get more ids\n",
            )
            .status(125)
            .run();
    }
    rbox.args([
        "run",
        "--rm",
        "--group-add=keep-groups",
        "busybox",
        "id",
        "-u",
    ])
    .stdout("0\n")
    .run();
}

/// The caller's own groups count for files of the host, and have no number in the container.
#[test]
fn keep_groups_keeps_the_callers_groups() {
    if !crate::support::account::is_root() {
        return skip::skip("only root can give a user other groups");
    }
    let rbox = Rbox::with_busybox();
    let account = rbox.account();
    let file = rbox.write("shared", "of a group\n");
    std::os::unix::fs::chown(&file, Some(0), Some(54321)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o040)).unwrap();
    let bind = format!("{}:/shared", file.display());
    let run = |flags: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args([
                "--reuid",
                &account.uid.to_string(),
                "--regid",
                &account.gid.to_string(),
            ])
            .args(["--groups", "54321"])
            .arg(rbox.program_path())
            .args(["run", "--rm", "-v", &bind])
            .args(flags)
            .args(["busybox", "sh", "-c", "id -G; cat /shared"])
            .env_clear()
            .envs(rbox.environment());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        text(output.stdout) + &text(output.stderr)
    };
    let denied = "0\ncat: can't open '/shared': Permission denied\n";
    assert_eq!(run(&[]), denied);
    assert_eq!(run(&["--group-add=keep-groups"]), "0 65534\nof a group\n");
    assert_eq!(
        run(&["--group-add=keep-groups", "-u", "1000:1000"]),
        "1000 65534\nof a group\n"
    );
}

/// CVE-2024-40635, CVE-2026-46680, CVE-2026-30892: a user is what it says, or an error, and never root instead.
#[test]
fn odd_users_are_never_root() {
    let rbox = Rbox::with_busybox();
    let max = "expected an id from 0 to 2147483647";
    for (user, uid) in [
        ("1", "1"),
        ("1:", "1"),
        ("0001", "1"),
        ("2147483647", "2147483647"),
    ] {
        let call = rbox.args(["run", "--rm", "-u", user, "busybox", "id", "-u"]);
        match uid {
            "1" => call.stdout("1\n").run(),
            _ => call
                .stderr_has("cannot become user 2147483647:0")
                .status(125)
                .run(),
        };
    }
    for name in ["+0", " 0", "0x0", "-0", "0 ", "root0"] {
        rbox.args(["run", "--rm", &format!("--user={name}"), "busybox", "id"])
            .stderr_has(format!(
                "no user \"{name}\" in /etc/passwd of the container"
            ))
            .status(125)
            .run();
    }
    let load = |user: &str| {
        let image = Image::busybox().with(json!({ "User": user }));
        image.load(&rbox);
    };
    for user in ["4294967296", "18446744073709551616", "0:2147483648"] {
        load(user);
        rbox.args(["run", "--rm", "odd", "id"])
            .stderr(format!(
                "Error: cannot create container: user \"{user}\" of the image: {max}\n"
            ))
            .status(125)
            .run();
    }
    for user in ["+0", " 0", "eve"] {
        load(user);
        rbox.args(["run", "--rm", "odd", "id"])
            .stderr_has(format!(
                "no user \"{user}\" in /etc/passwd of the container"
            ))
            .status(125)
            .run();
    }
    load("1:");
    rbox.args(["run", "--rm", "odd", "id", "-u"])
        .stdout("1\n")
        .run();
}

#[test]
fn users_get_names() {
    let rbox = Rbox::with_busybox();
    let tail = "tail -n +4 /etc/passwd; echo -; tail -n +5 /etc/group";
    let run = |flags: &[&str], text: &str| {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "sh", "-c", tail])
            .stdout(text)
            .run();
    };
    run(&[], "-\n");
    run(&["-u", "alice"], "-\n");
    run(&["-u", "1000"], "-\n");
    run(
        &["-u", "4000"],
        "4000:*:4000:0:container user:/:/bin/sh\n-\n",
    );
    run(
        &["-u", "4000:5000", "-w", "/srv"],
        "4000:*:4000:5000:container user:/srv:/bin/sh\n-\n5000:x:5000:4000\n",
    );
    run(&["-u", "4000:5000", "--passwd=false"], "-\n");
    run(
        &["-u", "4000:5000", "--read-only"],
        "4000:*:4000:5000:container user:/:/bin/sh\n-\n5000:x:5000:4000\n",
    );
    run(
        &[
            "-u",
            "4000:5000",
            "--passwd-entry=$USERNAME:x:$UID:$GID:$NAME:/h$HOME:/bin/false",
            "--group-entry=g$GROUPNAME:y:$GID:$USERLIST",
        ],
        "4000:x:4000:5000:container user:/h/:/bin/false\n-\ng5000:y:5000:4000\n",
    );
    run(&["--hostuser=games"], "games:*:5:60:games:/:/bin/sh\n-\n");
    // Once: at the second start they are there.
    rbox.args([
        "run",
        "--name",
        "c",
        "-u",
        "4000:5000",
        "busybox",
        "sh",
        "-c",
        tail,
    ])
    .stdout("4000:*:4000:5000:container user:/:/bin/sh\n-\n5000:x:5000:4000\n")
    .run();
    rbox.args(["start", "-a", "c"])
        .stdout("4000:*:4000:5000:container user:/:/bin/sh\n-\n5000:x:5000:4000\n")
        .run();
    rbox.remove(&["c"]);
}

/// Lines go to the container's own layer: not through a link of the image's to the host, not into a volume.
#[test]
fn names_are_written_to_the_containers_own_files() {
    let rbox = Rbox::new();
    let etc = rbox.work("etc");
    std::fs::create_dir(&etc).unwrap();
    rbox.own(&etc);
    let outside = rbox.write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    let mut tar = Tar::default();
    let up = "../".repeat(20);
    tar.symlink(
        "etc/passwd",
        &format!("{up}{}", &outside.display().to_string()[1..]),
    );
    Image::busybox().layer(&mut tar).load(&rbox);
    rbox.args(["run", "--rm", "-u", "4000", "odd", "cat", "/etc/passwd"])
        .stdout("4000:*:4000:0:container user:/:/bin/sh\n")
        .run();
    let volume = format!("{}:/etc", etc.display());
    rbox.load("busybox");
    rbox.args([
        "run",
        "--rm",
        "-u",
        "4000",
        "-v",
        &volume,
        "busybox",
        "cat",
        "/etc/passwd",
    ])
    .stdout("root:x:0:0::/:/bin/sh\n")
    .run();
    let text = std::fs::read_to_string(Path::new(&outside)).unwrap();
    assert_eq!(text, "root:x:0:0::/:/bin/sh\n");
}

#[test]
fn the_umask_is_what_was_asked() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm", "busybox", "sh", "-c", "umask"])
        .stdout("0022\n")
        .run();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--umask=0077",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["exec", "c", "sh", "-c", "umask"])
        .stdout("0077\n")
        .run();
    rbox.remove(&["c"]);
}
