//! Layers that are made to do harm or merely odd, through `load`: what comes of them is in the layer or
//! nowhere, and is what other engines make of the same bytes.
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Entry;
use crate::support::archive::Tar;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::random;
use crate::support::random::Random;

const KINDS: [&str; 8] = [
    "symlink", "hardlink", "dir", "file", "fifo", "device", "whiteout", "opaque",
];

/// An entry of a kind. Links lead to the canary.
fn put(tar: &mut Tar, kind: &str, name: &str, canary: &str) {
    let (above, last) = name.rsplit_once('/').unwrap_or((".", name));
    let path = match kind {
        "whiteout" => format!("{above}/.wh.{last}"),
        "opaque" => format!("{name}/.wh..wh..opq"),
        _ => name.to_owned(),
    };
    let (kind, link) = match kind {
        "symlink" => (b'2', canary),
        "hardlink" => (b'1', canary),
        "dir" => (b'5', ""),
        "fifo" => (b'6', ""),
        "device" => (b'3', ""),
        _ => (b'0', ""),
    };
    let content: &[u8] = if kind == b'0' { b"overwritten" } else { b"" };
    tar.entry(&Entry {
        path: path.as_bytes(),
        kind,
        link: link.as_bytes(),
        mode: 0o777,
        content,
        ..Entry::default()
    });
}

/// What is outside, with everything that could be changed of it.
fn state(dir: &Path) -> String {
    let output = Command::new("find")
        .arg(dir)
        .args(["-printf", "%P %y %m %U %G %n %s %T@ %C@ %l\n"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Every test run takes other orders.
#[test]
fn no_order_of_entries_reaches_what_is_outside() {
    random::repeatable(load_any_order);
}

fn load_any_order(random: &mut Random) {
    let rbox = Rbox::new();
    let canary = rbox.work("canary");
    std::fs::create_dir_all(canary.join("dir")).unwrap();
    std::fs::write(canary.join("file"), "untouched").unwrap();
    std::fs::write(canary.join("dir/file"), "untouched").unwrap();
    for path in [canary.clone(), canary.join("dir"), canary.join("file")] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        rbox.own(&path);
    }
    let before = state(&canary);
    let up = "../".repeat(20);
    let outside = canary.to_str().unwrap();
    let far = format!("{up}{}", &outside[1..]);
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    for _ in 0..random::count("RBOX_TEST_ORDERS", 40) {
        let target = [outside, &far, "/", ".."][random.below(4)];
        let names = [
            ["a", "a", "a/file"],
            ["a", "a/dir", "a/dir/file"],
            ["a", "a/../a", "./a//file"],
            ["/a", "/../a", "a"],
            [&long, &long, "a"],
            ["a", "b", "a/b"],
        ][random.below(6)];
        let mut tar = Tar::default();
        let mut said = String::new();
        for name in names {
            let kind = KINDS[random.below(KINDS.len())];
            said.extend([kind, " ", name, ", "]);
            put(&mut tar, kind, name, target);
        }
        put(&mut tar, "file", "a/file", target);
        let path = rbox.write("odd.tar", Image::of(vec![tar.finish()]).oci_archive());
        let output = rbox
            .args(["load", "-q", "-i"])
            .arg(&path)
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        assert_eq!(state(&canary), before, "{said}to {target}");
        let code = output.status.code();
        assert!(
            code == Some(0) || code == Some(125),
            "{said}: {}",
            output.stderr
        );
        assert_eq!(
            code == Some(125),
            output.stderr.starts_with("Error: "),
            "{said}"
        );
    }
    let names = rbox.args(["images", "-aq"]).stdout_any().run().stdout;
    let names: BTreeSet<&str> = names.lines().collect();
    if !names.is_empty() {
        rbox.args(["rmi", "-f"]).args(names).stdout_any().run();
    }
}

/// Two layers with all that layers may hold.
fn odd_but_harmless() -> Image {
    let file = |path: &'static str, mode, uid| Entry {
        path: path.as_bytes(),
        mode,
        uid,
        gid: uid,
        content: b"content\n",
        ..Entry::default()
    };
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    let mut lower = Tar::default();
    lower
        .entry(&file("su", 0o4755, 0))
        .entry(&file("owned", 0o2640, 1000))
        .entry(&file(&*Box::leak(long.into_boxed_str()), 0o644, 3))
        .dir("usr", 0o755)
        .dir("usr/lib", 0o1777)
        .symlink("lib", "usr/lib")
        .file("lib/through-a-link", 0o600, b"x")
        .symlink("up", "../../../../usr")
        .file("up/through-a-link-that-goes-up", 0o600, b"x")
        .symlink("absolute", "/usr/lib")
        .file("absolute/through-an-absolute-link", 0o600, b"x")
        .symlink("lost", "/nowhere")
        .hardlink("lost-too", "lost")
        .hardlink("owned-too", "./owned")
        .file("becomes-dir", 0o644, b"x")
        .dir("becomes-dir", 0o700)
        .file("becomes-dir/f", 0o644, b"x")
        .dir("becomes-file", 0o755)
        .file("becomes-file/f", 0o644, b"x")
        .file("becomes-file", 0o644, b"y")
        .file("gone", 0o644, b"x")
        .dir("emptied", 0o755)
        .file("emptied/f", 0o644, b"x")
        .dir("removed", 0o755)
        .file("removed/f", 0o644, b"x")
        .entry(&Entry {
            path: b"pipe",
            kind: b'6',
            mode: 0o640,
            ..Entry::default()
        })
        .entry(&Entry {
            path: b"before-1970",
            pax: &[
                ("mtime", b"-86400.5"),
                ("uid", b"7"),
                ("comment", b"a\nb=c\n"),
            ],
            ..Entry::default()
        })
        .entry(&Entry {
            path: b"a-size-of-its-own",
            size: Some(3),
            content: b"more than three",
            pax: &[("size", b"15")],
            ..Entry::default()
        })
        .entry(&Entry {
            path: b"a-directory-with-a-size",
            kind: b'5',
            mode: 0o755,
            size: Some(512),
            ..Entry::default()
        })
        .file("behind-it", 0o644, b"x");
    let mut upper = Tar::default();
    upper
        .file(".wh.gone", 0, b"")
        .file("emptied/.wh..wh..opq", 0, b"")
        .file("emptied/new", 0o644, b"x")
        .file(".wh.removed", 0, b"")
        // A directory that a layer does not name gets mode 755, as with Docker, and not with umoci.
        .dir("becomes-dir", 0o700)
        .file("becomes-dir/.wh.f", 0, b"")
        .file("su", 0o755, b"no more");
    Image::of(vec![lower.finish(), upper.finish()])
}

#[test]
fn a_tree_is_what_umoci_makes_of_the_same_layers() {
    let Some(rbox) = Rbox::as_root() else { return };
    let image = odd_but_harmless();
    image.load(&rbox);
    rbox.args(["create", "--name", "c", "odd", "x"])
        .stdout("[ID]\n")
        .run();
    let path = rbox.work("tree.tar");
    rbox.args(["export", "-o"]).arg(&path).arg("c").run();
    let ours = rbox.work("ours");
    std::fs::create_dir(&ours).unwrap();
    rbox.program("tar")
        .arg("-xpf")
        .arg(&path)
        .arg("-C")
        .arg(&ours)
        // Of times before 1970.
        .stderr_any()
        .run();
    rbox.remove(&["c"]);
    let layout = rbox.work("layout");
    std::fs::create_dir(&layout).unwrap();
    rbox.program("tar")
        .arg("-xf")
        .arg(rbox.work("odd.tar"))
        .arg("-C")
        .arg(&layout)
        .run();
    let theirs = rbox.work("theirs");
    rbox.program("umoci")
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:odd:latest", layout.display()))
        .arg(&theirs)
        .stdout_any()
        .stderr_any()
        .run();
    let list = |dir: &Path| {
        let script = "find . -mindepth 1 ! -path './etc*' ! -path './dev*' ! -path './proc*' ! -path './sys*' \
             ! -path './run*' -printf '%P %y %m %U:%G %n %l' \\( -type d -printf '\\n' -o -printf ' %s %T@\\n' \\) \
             | sort; find . -type f ! -path './etc*' -exec sha256sum {} + | sort";
        rbox.program("sh")
            .args(["-c", &format!("cd {} && {script}", dir.display())])
            .stdout_any()
            .run()
            .stdout
    };
    let (ours, theirs) = (list(&ours), list(&theirs));
    assert!(
        ours.contains("behind-it") && ours.lines().count() > 30,
        "{ours}"
    );
    let differing: Vec<&str> = theirs
        .lines()
        .filter(|line| !ours.contains(line))
        .chain(ours.lines().filter(|line| !theirs.contains(line)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// CVE-2024-9676, CVE-2026-93320: who opens a pipe waits for its other end.
#[test]
fn special_files_where_plain_ones_are_read_hang_nothing() {
    for kind in [b'6', b'3', b'5'] {
        let rbox = Rbox::new();
        let mut layer = Tar::default();
        for path in [
            "etc/passwd",
            "etc/group",
            "etc/hosts",
            "etc/resolv.conf",
            "etc/hostname",
            "etc/mtab",
            "etc/subuid",
            "etc/localtime",
            "pipe",
            ".dockerenv",
            "run/.containerenv",
        ] {
            layer.entry(&Entry {
                path: path.as_bytes(),
                kind,
                mode: 0o755,
                device: (1, 8),
                ..Entry::default()
            });
        }
        Image::busybox().layer(&mut layer).load(&rbox);
        rbox.args(["run", "--rm", "odd", "echo", "alive"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        for user in ["nobody", "1000:games"] {
            rbox.args(["run", "--rm", "-u", user, "odd", "true"])
                .stderr_has("Error: ")
                .status(125)
                .run();
        }
        rbox.args(["run", "--rm", "odd", "/pipe"])
            .stderr_any()
            .status_any()
            .run();
        rbox.args(["create", "--name", "c", "odd", "true"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        rbox.args(["rm", "-f", "c"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
    }
}

/// CVE-2024-25621: what the store makes is nobody else's, whatever the umask.
#[test]
fn the_store_is_private_with_any_umask() {
    let rbox = Rbox::new();
    let path = Image::busybox().save(&rbox);
    let script = "umask 0; \"$0\" load -q -i \"$1\" && \"$0\" create --name c odd true";
    rbox.program("sh")
        .args(["-c", script])
        .arg(rbox.program_path())
        .arg(&path)
        .stdout_any()
        .run();
    let store = rbox.data();
    let mode = std::fs::metadata(&store).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    // What is in the trees of layers and containers has the modes that images give.
    let found = Command::new("find")
        .arg(rbox.dir().join("data"))
        .arg(rbox.dir().join("run"))
        .args(["-mindepth", "1", "-name", "diff", "-prune", "-o"])
        .args(["!", "-type", "l", "-perm", "/022", "-print"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
    rbox.remove(&["c"]);
}

/// An image whose manifest or config is not what it should be, and a word of the complaint.
fn refused(image: &Image, word: &str) {
    let rbox = Rbox::new();
    let path = image.save(&rbox);
    rbox.args(["load", "-q", "-i"])
        .arg(path)
        .stderr_has("Error: cannot load ")
        .stderr_has(word)
        .status(125)
        .run();
}

/// CVE-2024-3727.
#[test]
fn digests_of_other_forms_are_refused() {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../../../etc/passwd".to_owned(),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("SHA256:{hex}"),
        format!("sha384:{}", "a".repeat(96)),
        format!("md5:{}", "a".repeat(32)),
        format!("sha256:{}/.", &hex[2..]),
        hex.clone(),
        String::new(),
    ] {
        let mut image = Image::busybox();
        image.manifest = json!({"layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1},
        ]});
        refused(&image, "no digest");
        let mut image = Image::busybox();
        image.diff_ids = Some(vec![digest]);
        refused(&image, "no digest");
    }
}

/// CVE-2021-41190, CVE-2026-111361, and numbers that do not match.
#[test]
fn documents_that_say_two_things_are_refused() {
    let busybox = Image::busybox();
    let layer = &busybox.layers[0];
    let descriptor = |digest: &str, size: usize| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
    let whole = descriptor(&hostile::digest(layer), layer.len());
    for (manifest, word) in [
        (
            json!({"manifests": [whole]}),
            "neither an image nor an index",
        ),
        (
            json!({"mediaType": "application/vnd.oci.image.index.v1+json"}),
            "calls itself",
        ),
        (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
        (
            json!({"layers": [whole, whole]}),
            "the manifest has 2 layers",
        ),
        (json!({"layers": []}), "the manifest has 0 layers"),
        (
            json!({"layers": [descriptor(&hostile::digest(layer), layer.len() + 1)]}),
            "wrong size",
        ),
        (
            json!({"layers": vec![whole.clone(); 501]}),
            "501 layers, and 500 are the most",
        ),
    ] {
        let mut image = Image::busybox();
        image.manifest = manifest;
        refused(&image, word);
    }
    let mut faked = Image::busybox();
    faked.diff_ids = Some(vec![hostile::digest(b"another layer")]);
    refused(&faked, "its files have the digest");
    let mut swapped = Image::busybox();
    let other = Tar::default().file("evil", 0o755, b"x").finish();
    swapped.replaced = vec![(0, other)];
    refused(&swapped, "wrong ");
}

/// The same layer many times, layers without files, and more than a page of mount options holds.
#[test]
fn many_empty_and_equal_layers_are_one_tree() {
    let rbox = Rbox::new();
    let mut image = Image::busybox();
    for number in 0..120 {
        image.layers.push(Tar::default().finish());
        let text = format!("{number}");
        let mut layer = Tar::default();
        image
            .layers
            .push(layer.file("number", 0o644, text.as_bytes()).finish());
    }
    image.layers.push(image.layers[2].clone());
    image.load(&rbox);
    rbox.args(["run", "--rm", "odd", "cat", "/number"])
        .stdout("0")
        .run();
}
