//! `cp`: where things go, whose they are, and that a container cannot lead it astray.
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::Rbox;
use crate::support::archive::Tar;

/// Everybody for whom it works in another way: with sub-ids, with one id, as root.
fn everybody() -> Vec<Rbox> {
    let all = [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()];
    let all: Vec<Rbox> = all.into_iter().flatten().collect();
    for rbox in &all {
        rbox.load("busybox");
    }
    all
}

impl Rbox {
    /// A script on the host, as the user.
    fn host(&self, script: &str) -> String {
        let call = self.program("sh").args(["-ec", script]);
        call.stdout_any().run().stdout
    }

    /// A script in a container that runs.
    fn inside(&self, name: &str, script: &str) -> String {
        let call = self.args(["exec", name, "sh", "-ec", script]);
        call.stdout_any().run().stdout
    }

    fn cp(&self, from: &str, to: &str) {
        self.args(["cp", from, to]).run();
    }
}

/// A tree with everything that there is in trees.
const TREE: &str =
    "mkdir -p d/sub 'd/new\nline'; echo one >d/one; echo two >d/sub/two; touch 'd/new\nline/x'
    ln -s one d/link; ln -s /nowhere d/lost; ln d/one d/hard; mkfifo d/fifo; truncate -s 3M d/sparse
    chmod 2750 d/one; chmod 555 d/sub; touch -d '2001-02-03 04:05:06.789' d/one d/sub; : >d/empty";

/// Names, kinds, modes, times and contents of a tree.
const LIST: &str =
    "cd $AT; find . -print0 | sort -z | xargs -0 stat -c '%n %F %a %Y %h' | sed 's/ directory.*//'
    cat one sub/two; readlink link lost; stat -c %y one; wc -c <sparse";

#[test]
fn a_tree_comes_back_as_it_was() {
    for rbox in everybody() {
        rbox.host(TREE);
        rbox.sleeper("running");
        rbox.args(["create", "--name", "stopped", "busybox", "true"])
            .stdout("[ID]\n")
            .run();
        for name in ["running", "stopped"] {
            rbox.cp("d", &format!("{name}:/"));
            rbox.cp(&format!("{name}:/d"), &format!("{name}:/copy"));
            rbox.cp(&format!("{name}:/copy/."), name);
            let list = |at: &str| rbox.host(&format!("AT={at}; {LIST}"));
            // Set-id bits would be set for who has made the copy.
            let expected = list("d").replace(" 2750 ", " 750 ");
            assert_eq!(list(name), expected, "{name}");
            assert_eq!(rbox.host(&format!("du -k {name}/sparse | cut -f1")), "0\n");
        }
        rbox.cp("running:/d", "stopped:/from");
        rbox.cp("stopped:/from/sub/two", "two");
        assert_eq!(rbox.host("cat two"), "two\n");
        assert_eq!(
            rbox.inside("running", "stat -c '%a %u:%g' /d/one /d/sub /d/link"),
            "2750 0:0\n555 0:0\n777 0:0\n"
        );
        rbox.host("chmod -R u+w d running stopped");
        rbox.remove(&["running", "stopped"]);
    }
}

#[test]
fn things_go_where_docker_and_podman_put_them() {
    let rbox = Rbox::with_busybox();
    rbox.host("mkdir -p d/e; echo f >f; echo g >d/g; ln -s f l; ln -s d dl");
    rbox.sleeper("c");
    let ls = |path: &str| rbox.inside("c", &format!("cd {path}; find . | sort | xargs echo"));
    rbox.inside(
        "c",
        "mkdir /have /have2 /have3 /have4; ln -s have /link; ln -s /lost /dangling",
    );
    // A file: to a new name, over another, into a directory, by way of links.
    for (from, to, path, text) in [
        ("f", "c:/new", "/new", "f\n"),
        ("d/g", "c:/new", "/new", "g\n"),
        ("f", "c:have", "/have/f", "f\n"),
        ("f", "c:/link/h", "/have/h", "f\n"),
        ("f", "c:/dangling", "/lost", "f\n"),
        ("l", "c:/l", "/l", "f\n"),
    ] {
        rbox.cp(from, to);
        assert_eq!(
            rbox.inside("c", &format!("cat {path}")),
            text,
            "{from} {to}"
        );
    }
    // A directory: to a new name, into a directory, its contents.
    rbox.cp("d", "c:/made");
    assert_eq!(ls("/made"), ". ./e ./g\n");
    rbox.cp("d", "c:/have2");
    assert_eq!(ls("/have2"), ". ./d ./d/e ./d/g\n");
    rbox.cp("d/", "c:/have3/");
    assert_eq!(ls("/have3"), ". ./d ./d/e ./d/g\n");
    rbox.cp("d/.", "c:/have4");
    assert_eq!(ls("/have4"), ". ./e ./g\n");
    rbox.cp("dl", "c:/have4/dl");
    assert_eq!(ls("/have4"), ". ./dl ./dl/e ./dl/g ./e ./g\n");
    rbox.args(["cp", "-L=false", "l", "c:/link-itself"]).run();
    assert_eq!(rbox.inside("c", "readlink /link-itself"), "f\n");
    rbox.args(["cp", "--follow-link=false", "c:/link", "out"])
        .run();
    assert_eq!(rbox.host("readlink out"), "have\n");
    for (from, to, said) in [
        (
            "f",
            "c:/none/",
            "cannot copy to \"/none/\": there is no such directory",
        ),
        (
            "f",
            "c:/none/x",
            "cannot open directory \"/none\": No such file or directory (os error 2)",
        ),
        (
            "d",
            "c:/none/x",
            "cannot open directory \"/none\": No such file or directory (os error 2)",
        ),
        (
            "none",
            "c:/",
            "cannot open \"none\": No such file or directory (os error 2)",
        ),
        (
            "c:/none",
            ".",
            "cannot open \"/none\": No such file or directory (os error 2)",
        ),
        (
            "d",
            "c:/new",
            "cannot copy to \"/new\": cannot put a directory where \"new\" is none",
        ),
        (
            "c:/have2/d",
            "./f",
            "cannot copy to \"./f\": cannot put a directory where \"f\" is none",
        ),
        (
            "f",
            "f2",
            "one of the two must be in a container: expected CONTAINER:PATH",
        ),
        (
            "c:/proc/sys",
            "x",
            "it is a directory of the kernel's, which has no files to copy",
        ),
    ] {
        rbox.args(["cp", from, to])
            .stderr_has(format!(
                "Error: cannot copy \"{from}\" to \"{to}\": {said}\n"
            ))
            .status(125)
            .run();
    }
    rbox.args(["cp", "x:y", "c:/"])
        .stderr(
            "Error: no container with name or id \"x\"\n\
             Hint: a file of the host by this name is `./x:y`\n",
        )
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn what_is_in_the_way_goes_only_when_that_is_wanted() {
    let rbox = Rbox::with_busybox();
    rbox.host("mkdir -p d; echo new >d/x; mkdir -p e/x");
    rbox.sleeper("c");
    rbox.inside("c", "mkdir -p /t/d/x/deep; echo old >/t/file");
    rbox.args(["cp", "d", "c:/t"])
        .stderr(
            "Error: cannot copy \"d\" to \"c:/t\": cannot make \"./x\": cannot put a file where \"x\" is a directory\n\
             Hint: `--overwrite` removes what is in the way\n",
        )
        .status(125)
        .run();
    rbox.args(["cp", "--overwrite", "d", "c:/t"]).run();
    assert_eq!(rbox.inside("c", "cat /t/d/x"), "new\n");
    rbox.args(["cp", "--overwrite", "e/.", "c:/t/d"]).run();
    assert_eq!(rbox.inside("c", "ls -d /t/d/x/"), "/t/d/x/\n");
    rbox.args(["cp", "--overwrite", "d", "c:/t/file"]).run();
    assert_eq!(
        rbox.inside("c", "cat /t/file/x; ls -A /t"),
        "new\nd\nfile\n"
    );
    rbox.remove(&["c"]);
}

#[test]
fn files_belong_to_the_user_of_the_container_or_keep_their_numbers() {
    let rbox = Rbox::with_busybox();
    rbox.host("mkdir d; echo x >d/f; chmod 4711 d/f; mkfifo d/p; ln -s f d/l");
    rbox.args([
        "run", "-d", "--name", "c", "-u", "33:44", "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["create", "--name", "s", "-u", "33:44", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    for name in ["c", "s"] {
        rbox.cp("d", &format!("{name}:/tmp"));
        rbox.args(["cp", &format!("{name}:/tmp"), "-"])
            .stdout_any()
            .run();
    }
    rbox.args(["start", "s"]).stdout("s\n").run();
    let owners = "stat -c '%u:%g %a' /tmp/d /tmp/d/f /tmp/d/p; stat -c %u:%g /tmp/d/l";
    let given = "33:44 755\n33:44 4711\n33:44 644\n33:44\n";
    assert_eq!(rbox.inside("c", owners), given);
    rbox.args(["wait", "s"]).stdout("0\n").run();
    let mut tar = Tar::default();
    tar.entry(&crate::support::archive::Entry {
        path: b"owned",
        uid: 7,
        gid: 8,
        mode: 0o640,
        content: b"x",
        ..Default::default()
    });
    let bytes = tar.finish();
    rbox.args(["cp", "-a=false", "-", "c:/tmp"])
        .stdin(bytes.clone())
        .run();
    assert_eq!(
        rbox.inside("c", "stat -c '%u:%g %a' /tmp/owned"),
        "7:8 640\n"
    );
    rbox.args(["cp", "-", "c:/tmp"]).stdin(bytes).run();
    assert_eq!(
        rbox.inside("c", "stat -c '%u:%g %a' /tmp/owned"),
        "33:44 640\n"
    );
    rbox.args(["cp", "-a=false", "c:/tmp/d", "c:/tmp/kept"])
        .run();
    assert_eq!(
        rbox.inside("c", "stat -c '%u:%g %a' /tmp/kept/f"),
        "33:44 4711\n"
    );
    rbox.remove(&["c", "s"]);
}

#[test]
fn archives_come_and_go_by_streams() {
    for rbox in everybody() {
        rbox.sleeper("c");
        rbox.host("mkdir d; echo x >d/f; tar cf p.tar d; tar czf z.tar d");
        for (index, archive) in ["p.tar", "z.tar"].iter().enumerate() {
            let bytes = std::fs::read(rbox.work(archive)).unwrap();
            rbox.inside("c", &format!("mkdir /{index}"));
            rbox.args(["cp", "-", &format!("c:/{index}")])
                .stdin(bytes)
                .run();
            assert_eq!(rbox.inside("c", &format!("cat /{index}/d/f")), "x\n");
        }
        let program = rbox.program_path().display().to_string();
        for (path, names) in [
            ("/0/d", "d/\nd/f\n"),
            ("/0/d/.", "./\n./f\n"),
            ("/0/d/f", "f\n"),
        ] {
            let script = format!("{program} cp c:{path} - | tar t");
            assert_eq!(rbox.host(&script), names);
        }
        // Whoever stops reading is not waited for.
        rbox.host(&format!("{program} cp c:/ - | head -c 5 >/dev/null"));
        rbox.args(["cp", "-", "c:/0/d/f"])
            .stdin("")
            .stderr_has("cannot open directory \"/0/d/f\": Not a directory")
            .status(125)
            .run();
        rbox.args(["cp", "-", "c:/"])
            .stdin("nonsense\n".repeat(1000))
            .stderr_has("cannot read the archive: ")
            .status(125)
            .run();
        rbox.args(["cp", "-", "c:/"]).stdin("").run();
        rbox.remove(&["c"]);
    }
}

#[test]
fn volumes_and_files_of_the_host_are_seen_as_in_the_container() {
    let rbox = Rbox::with_busybox();
    rbox.host("mkdir bound; echo b >bound/b; echo x >x");
    let mounts = ["-v", "vol:/vol", "-v", "./bound:/bound:ro"];
    rbox.args(["create", "--name", "c"])
        .args(mounts)
        .args(["busybox", "cat", "/vol/x"])
        .stdout("[ID]\n")
        .run();
    rbox.cp("c:/bound/b", "out");
    assert_eq!(rbox.host("cat out"), "b\n");
    // Into a volume that is filled at the first start.
    rbox.cp("x", "c:/vol");
    rbox.args(["start", "-a", "c"]).stdout("x\n").run();
    rbox.host("echo y >x");
    rbox.cp("x", "c:/vol/");
    rbox.args(["start", "-a", "c"]).stdout("y\n").run();
    rbox.args(["cp", "x", "c:/bound/"])
        .stderr_has("Read-only file system")
        .status(125)
        .run();
    rbox.remove(&["c"]);
    rbox.args(["run", "-d", "--name", "c"])
        .args(mounts)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.cp("c:/vol/x", "again");
    assert_eq!(rbox.host("cat again; cat bound/b"), "y\nb\n");
    rbox.host("echo 192.0.2.1 here >hosts");
    rbox.cp("hosts", "c:/etc/hosts");
    assert_eq!(rbox.inside("c", "cat /etc/hosts"), "192.0.2.1 here\n");
    rbox.cp("c:/proc/sys/kernel/ostype", "ostype");
    assert_eq!(rbox.host("cat ostype"), "Linux\n");
    rbox.remove(&["c"]);
    rbox.args(["volume", "rm", "vol"]).stdout("vol\n").run();
}

#[test]
fn a_swapper_gets_nothing_of_the_host_and_nothing_onto_it() {
    for rbox in everybody() {
        rbox.host("mkdir -p canary/sub; echo secret >canary/file; echo mine >file; mkdir out");
        let canary = rbox.work("canary").display().to_string();
        // CVE-2018-15664: a directory on the way becomes a link of the host's path, and back.
        let script = format!(
            "mkdir -p /a/b /d; echo fine >/a/b/file; cd /a; ln -s {canary} /a/l; while :; do
             mv b c; mv l b; mv b l; mv c b; done"
        );
        rbox.args(["run", "-d", "--name", "c", "busybox", "sh", "-c", &script])
            .stdout("[ID]\n")
            .run();
        for _ in 0..60 {
            for (from, to) in [
                ("c:/a/b/file", "out/got"),
                ("file", "c:/a/b/planted"),
                ("c:/a/b", "out"),
                ("canary/sub", "c:/a/b"),
            ] {
                rbox.args(["cp", from, to]).status_any().stderr_any().run();
            }
            let got = rbox.host("cat out/got out/b/file 2>/dev/null || true");
            assert!(!got.contains("secret"), "{got}");
        }
        assert_eq!(rbox.host("cd canary; find . | sort"), ".\n./file\n./sub\n");
        assert_eq!(rbox.host("cat canary/file"), "secret\n");
        rbox.remove(&["c"]);
    }
}

#[test]
fn links_in_the_way_on_the_host_are_not_followed() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    rbox.inside(
        "c",
        "mkdir -p /t/sub; echo evil >/t/sub/file; echo evil >/t/name; echo evil >/t/sub/new",
    );
    rbox.host("mkdir canary; printf canary >canary/file");
    let canary = rbox.work("canary/file");
    rbox.host(
        "mkdir -p shared/t; ln -s ../../canary shared/t/sub; ln -s ../../canary/file shared/t/name",
    );
    rbox.args(["cp", "c:/t", "shared"])
        .stderr_has("cannot put a directory where \"sub\" is none")
        .status(125)
        .run();
    rbox.args(["cp", "--overwrite", "c:/t", "shared"]).run();
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "canary");
    assert!(!rbox.work("canary/new").exists());
    assert_eq!(
        rbox.host("cat shared/t/name shared/t/sub/new"),
        "evil\nevil\n"
    );
    rbox.remove(&["c"]);
}

#[test]
fn what_a_link_leads_to_keeps_its_mode() {
    let rbox = Rbox::with_busybox();
    // CVE-2021-41089.
    let canary = rbox.write("canary", "x");
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = canary.metadata().unwrap();
    rbox.sleeper("c");
    rbox.inside(
        "c",
        &format!("mkdir /t; ln -s {} /t/link", canary.display()),
    );
    rbox.cp("c:/t", "out");
    let after = canary.metadata().unwrap();
    assert_eq!(
        rbox.host("readlink out/link"),
        format!("{}\n", canary.display())
    );
    assert_eq!(
        (after.mode(), after.uid(), after.mtime()),
        (before.mode(), before.uid(), before.mtime())
    );
    rbox.remove(&["c"]);
}

#[test]
fn nothing_of_the_container_is_executed() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    // CVE-2019-14271 and CVE-2026-41567: programs and libraries by the names that others look for.
    rbox.inside(
        "c",
        "mkdir -p /usr/bin /lib /etc; printf '#!/bin/sh\\ntouch /marker\\n' >/lib/evil; chmod 755 /lib/evil
         for f in /usr/bin/unpigz /usr/bin/xz /usr/bin/tar /lib/libnss_files.so.2 /etc/nsswitch.conf; do cp /lib/evil $f; done",
    );
    rbox.host("echo x >f; tar czf z.tar f");
    let bytes = std::fs::read(rbox.work("z.tar")).unwrap();
    rbox.args(["cp", "-", "c:/"]).stdin(bytes).run();
    rbox.cp("f", "c:/root");
    rbox.cp("c:/f", "back");
    rbox.cp("c:/etc", "etc");
    assert_eq!(
        rbox.inside("c", "ls /marker 2>&1 || true"),
        "ls: /marker: No such file or directory\n"
    );
    rbox.remove(&["c"]);
}

#[test]
fn an_archive_cannot_leave_its_directory() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    rbox.inside("c", "mkdir /t; echo keep >/outside; echo keep >/t/inside");
    let mut up = Tar::default();
    up.file("../outside", 0o644, b"evil");
    let mut link = Tar::default();
    link.symlink("l", "../").file("l/outside", 0o644, b"evil");
    let mut hard = Tar::default();
    hard.hardlink("h", "../outside");
    let mut rooted = Tar::default();
    rooted.hardlink("h", "/outside");
    for (tar, said) in [
        (&mut up, "leads out of the layer"),
        (&mut hard, "leads out of the layer"),
        (&mut rooted, "cannot link it to \"outside\""),
    ] {
        rbox.args(["cp", "-", "c:/t"])
            .stdin(tar.finish())
            .stderr_has(said)
            .status(125)
            .run();
    }
    // A link is followed inside the directory, as if that were all there is.
    rbox.args(["cp", "-", "c:/t"]).stdin(link.finish()).run();
    assert_eq!(
        rbox.inside("c", "cat /outside /t/inside /t/outside"),
        "keep\nkeep\nevil"
    );
    rbox.remove(&["c"]);
}

#[test]
fn odd_files_do_not_stop_it() {
    let rbox = Rbox::with_busybox();
    let script = "mkdir /t; mkfifo /t/fifo; nc -lU /t/socket & echo x >/t/file; while :; do
        echo more >>/t/grows; rm -rf /t/gone; mkdir -p /t/gone/a/b/c; done";
    rbox.args(["run", "-d", "--name", "c", "busybox", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    while !rbox
        .args(["cp", "c:/t/gone", "ready"])
        .stderr_any()
        .status_any()
        .run()
        .stderr
        .is_empty()
    {}
    for index in 0..30 {
        let out = format!("out{index}");
        rbox.cp("c:/t", &out);
        assert!(!Path::new(&rbox.work(&format!("{out}/socket"))).exists());
        assert_eq!(
            rbox.host(&format!("cat {out}/file; stat -c %F {out}/fifo")),
            "x\nfifo\n"
        );
    }
    rbox.args(["cp", "c:/dev", "dev"])
        .stderr_has("devices passed over: nobody without privileges can make one")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn two_at_once_wait_for_each_other() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "c", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    rbox.host("echo x >f");
    let all: Vec<_> = (0..8)
        .map(|index| rbox.args(["cp", "f", &format!("c:/{index}")]).spawn())
        .collect();
    for one in all {
        one.wait();
    }
    rbox.args(["cp", "c:/7", "out"]).run();
    rbox.remove(&["c"]);
}
