//! Fixture images, made by mmdebstrap, umoci and skopeo from Debian's packages, once for
//! each version of this file. Nothing in them was written by rbox.
//!
//! | name | holds |
//! |---|---|
//! | `busybox` | busybox-static, one layer, `Cmd ["sh"]`, a user `alice` (1000) in the group `wheel` (10) |
//! | `busybox:user`, `:env`, `:entry`, `:workdir`, `:labels`, `:full` | the same layer, one more field of the config each (`full`: all) |
//! | `debian` | bookworm with apt, and two layers on top: owners, setuid, hard links, a file capability; whiteouts and an opaque directory |
//! | `testinit` | `tests/fixtures/init.rs`, static, as `/init` |
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::hash::Hasher;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::account;
use super::archive::Entry;
use super::archive::Tar;
use super::hostile;
use super::place;
use super::registry;

const INIT: &str = include_str!("../../fixtures/init.rs");

/// Every image, as repository and tag.
const ALL: [(&str, &str); 9] = [
    ("busybox", "latest"),
    ("busybox", "user"),
    ("busybox", "env"),
    ("busybox", "entry"),
    ("busybox", "workdir"),
    ("busybox", "labels"),
    ("busybox", "full"),
    ("debian", "latest"),
    ("testinit", "latest"),
];

pub struct Archives {
    pub docker_archive: PathBuf,
    pub oci_archive: PathBuf,
}

/// The archives of `busybox`, `busybox:user`, …; each holds the reference `name:tag`.
pub fn get(name: &str) -> Archives {
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    assert!(ALL.contains(&(repository, tag)), "no fixture {name}");
    let dir = fixtures();
    Archives {
        docker_archive: dir.join(format!("{repository}-{tag}.docker.tar")),
        oci_archive: dir.join(format!("{repository}-{tag}.oci.tar")),
    }
}

/// The OCI layouts that umoci made, by repository.
pub fn layout(repository: &str) -> PathBuf {
    fixtures().join(repository)
}

/// The storage of a registry that holds all images, `zstd/busybox` (its layer compressed
/// with zstd) and `busybox:schema2` (Docker's media types).
pub fn registry_data() -> PathBuf {
    fixtures().join("registry")
}

fn fixtures() -> &'static Path {
    static FIXTURES: OnceLock<PathBuf> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(include_str!("images.rs").as_bytes());
        hasher.write(INIT.as_bytes());
        let name = format!("fixtures-{:016x}", hasher.finish());
        let dir = place::cache().join(&name);
        let _lock = place::lock("fixtures.lock");
        if !dir.exists() {
            remove_others();
            let making = place::cache().join("fixtures-new");
            std::fs::create_dir(&making).unwrap();
            make(&making);
            std::fs::rename(&making, &dir).unwrap();
        }
        dir
    })
}

/// Older versions, and what a killed test run had begun.
fn remove_others() {
    for entry in std::fs::read_dir(place::cache()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name.starts_with("fixtures-") {
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

fn make(dir: &Path) {
    let init = compile_init(dir);
    make_testinit(dir, &init);
    make_busybox(dir);
    make_debian(dir);
    std::fs::create_dir(dir.join("registry")).unwrap();
    let registry = registry::start(&dir.join("registry"), false, "");
    for (repository, tag) in ALL {
        let source = format!("oci:{}:{tag}", dir.join(repository).display());
        let archive = |kind: &str, name: &str| {
            let path = dir.join(format!("{repository}-{tag}.{name}.tar"));
            copy(
                &[],
                &source,
                &format!("{kind}:{}:{repository}:{tag}", path.display()),
            );
        };
        archive("docker-archive", "docker");
        archive("oci-archive", "oci");
        let target = format!("docker://{}/{repository}:{tag}", registry.host);
        copy(&[], &source, &target);
    }
    let busybox = format!("oci:{}:latest", dir.join("busybox").display());
    let schema2 = format!("docker://{}/busybox:schema2", registry.host);
    copy(&["--format", "v2s2"], &busybox, &schema2);
    // Skopeo reuses a layer that it knows to be there in another compression; under this
    // name and port it knows none.
    let other = registry::start(&dir.join("registry"), false, "");
    let zstd = ["--dest-compress", "--dest-compress-format", "zstd"];
    copy(
        &zstd,
        &busybox,
        &format!("docker://{}/zstd/busybox", other.host),
    );
    // Umoci closes its directories to other users.
    run("chmod", &["-R".as_ref(), "a+rX".as_ref(), dir.as_os_str()]);
}

fn copy(options: &[&str], source: &str, target: &str) {
    let mut args = vec!["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"];
    args.extend(options);
    args.extend([source, target]);
    run("skopeo", &args);
}

fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("cannot execute {program}: {error}"));
    let args: Vec<_> = args
        .iter()
        .map(|arg| arg.as_ref().to_string_lossy())
        .collect();
    assert!(
        output.status.success(),
        "{program} {}: {}\n{}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `umoci VERB --image LAYOUT:TAG ARGS…`
fn umoci(verb: &[&str], layout: &Path, tag: &str, args: &[&str]) {
    let image = format!("{}:{tag}", layout.display());
    let mut all = verb.to_vec();
    all.extend(["--image", &image]);
    all.extend(args);
    run("umoci", &all);
}

fn new_layout(dir: &Path, repository: &str) -> PathBuf {
    let layout = dir.join(repository);
    run(
        "umoci",
        &["init".as_ref(), "--layout".as_ref(), layout.as_os_str()],
    );
    umoci(&["new"], &layout, "latest", &[]);
    layout
}

fn add_layer(layout: &Path, tar: &Path) {
    umoci(
        &["raw", "add-layer"],
        layout,
        "latest",
        &[tar.to_str().unwrap()],
    );
    std::fs::remove_file(tar).unwrap();
}

fn add_layer_of(layout: &Path, tar: &mut Tar) {
    let path = layout.with_extension("tar");
    std::fs::write(&path, tar.finish()).unwrap();
    add_layer(layout, &path);
}

fn compile_init(dir: &Path) -> Vec<u8> {
    let source = dir.join("init.rs");
    let binary = dir.join("init");
    std::fs::write(&source, INIT).unwrap();
    let args = [
        "--edition",
        "2024",
        "-O",
        "-C",
        "strip=symbols",
        "-C",
        "panic=abort",
        "-C",
        "target-feature=+crt-static",
        "-o",
        binary.to_str().unwrap(),
        source.to_str().unwrap(),
    ];
    run("rustc", &args);
    std::fs::read(binary).unwrap()
}

fn make_testinit(dir: &Path, init: &[u8]) {
    let layout = new_layout(dir, "testinit");
    let mut tar = Tar::default();
    tar.file("init", 0o755, init)
        .file("etc/passwd", 0o644, PASSWD)
        .file("etc/group", 0o644, GROUP)
        .dir("tmp", 0o1777);
    add_layer_of(&layout, &mut tar);
    umoci(
        &["config"],
        &layout,
        "latest",
        &["--config.entrypoint", "/init", "--config.env", "PATH=/"],
    );
}

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/:/bin/false\n\
    alice:x:1000:1000:Alice:/home/alice:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:alice\ntty:x:5:\nalice:x:1000:\n";

fn make_busybox(dir: &Path) {
    let layout = new_layout(dir, "busybox");
    let mut tar = Tar::default();
    tar.dir("bin", 0o755)
        .file("bin/busybox", 0o755, &hostile::busybox());
    let list = Command::new("/bin/busybox")
        .arg("--list-full")
        .output()
        .unwrap();
    for path in String::from_utf8(list.stdout).unwrap().lines() {
        let name = path.rsplit('/').next().unwrap();
        if name != "busybox" {
            tar.symlink(&format!("bin/{name}"), "busybox");
        }
    }
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        tar.dir(path, mode);
    }
    tar.entry(&Entry {
        path: b"home/alice",
        kind: b'5',
        mode: 0o700,
        uid: 1000,
        gid: 1000,
        ..Entry::default()
    });
    tar.file("etc/passwd", 0o644, PASSWD)
        .file("etc/group", 0o644, GROUP);
    add_layer_of(&layout, &mut tar);
    let path = ["--config.env", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"];
    umoci(
        &["config"],
        &layout,
        "latest",
        &["--config.cmd", "sh", path[0], path[1]],
    );
    let user = ["--config.user", "alice"];
    let env = [
        "--config.env",
        "GREETING=hello you",
        "--config.env",
        "EMPTY=",
    ];
    let entry = [
        "--config.entrypoint",
        "/bin/echo",
        "--config.entrypoint",
        "entry",
        "--config.cmd",
        "cmd",
    ];
    let workdir = ["--config.workingdir", "/srv/app"];
    let labels = [
        "--config.label",
        "org.example.title=A title",
        "--config.exposedports",
        "80/tcp",
    ];
    let more = ["--config.volume", "/data", "--config.stopsignal", "SIGINT"];
    let full = [&user[..], &env, &entry, &workdir, &labels, &more].concat();
    for (tag, args) in [
        ("user", &user[..]),
        ("env", &env),
        ("entry", &entry),
        ("workdir", &workdir),
        ("labels", &labels),
        ("full", &full),
    ] {
        umoci(&["tag"], &layout, "latest", &[tag]);
        umoci(&["config"], &layout, tag, args);
    }
}

fn make_debian(dir: &Path) {
    let layout = new_layout(dir, "debian");
    let base = dir.join("base.tar");
    let mode = if account::is_root() {
        "root"
    } else {
        "unshare"
    };
    let mode = format!("--mode={mode}");
    let base_name = base.to_str().unwrap();
    run(
        "mmdebstrap",
        &[
            mode.as_str(),
            "--variant=apt",
            "--quiet",
            "bookworm",
            base_name,
        ],
    );
    add_layer(&layout, &base);
    add_layer_of(&layout, &mut owners());
    add_layer_of(&layout, &mut whiteouts());
    umoci(
        &["config"],
        &layout,
        "latest",
        &[
            "--config.cmd",
            "bash",
            "--config.env",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ],
    );
}

/// `/owners` and `/gone`: what the second layer of `debian` adds.
fn owners() -> Tar {
    let mut tar = Tar::default();
    tar.dir("owners", 0o755);
    for (name, mode, uid, gid) in [
        ("daemon", 0o640, 1, 1),
        ("mail", 0o2755, 8, 8),
        ("nobody", 0o600, 65534, 65534),
        ("user", 0o644, 1000, 1000),
        ("setuid", 0o4755, 0, 0),
        ("setuid-user", 0o6755, 1000, 1000),
    ] {
        tar.entry(&Entry {
            path: format!("owners/{name}").as_bytes(),
            mode,
            uid,
            gid,
            content: name.as_bytes(),
            ..Entry::default()
        });
    }
    // struct vfs_cap_data, revision 2, effective: CAP_NET_RAW (bit 13) permitted.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    tar.entry(&Entry {
        path: b"owners/capability",
        mode: 0o755,
        pax: &[("SCHILY.xattr.security.capability", &capability)],
        ..Entry::default()
    });
    tar.entry(&Entry {
        path: b"owners/attributed",
        pax: &[("SCHILY.xattr.user.colour", b"green")],
        ..Entry::default()
    });
    tar.hardlink("owners/hard", "owners/user");
    tar.entry(&Entry {
        path: b"owners/fifo",
        kind: b'6',
        ..Entry::default()
    });
    tar.dir("gone", 0o755)
        .file("gone/file", 0o644, b"one")
        .file("gone/kept", 0o644, b"one")
        .dir("gone/opaque", 0o755)
        .file("gone/opaque/old", 0o644, b"old")
        .dir("gone/dir", 0o755)
        .file("gone/dir/file", 0o644, b"one");
    tar
}

/// What the third layer takes away again.
fn whiteouts() -> Tar {
    let mut tar = Tar::default();
    tar.file("gone/.wh.file", 0o644, b"")
        .file("gone/.wh.dir", 0o644, b"")
        .dir("gone/opaque", 0o755)
        .file("gone/opaque/.wh..wh..opq", 0o644, b"")
        .file("gone/opaque/new", 0o644, b"new")
        .file("etc/.wh.debian_version", 0o644, b"");
    tar
}
