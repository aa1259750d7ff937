//! The ground itself: that the leak check sees leaks, that fixtures and registries are there.
use std::time::Duration;

use crate::support::Rbox;
use crate::support::account;
use crate::support::images;
use crate::support::leaks;
use crate::support::processes;
use crate::support::registry;
use crate::support::tmux::Tmux;

#[test]
fn programs_run_as_the_user_with_the_directories_of_the_test() {
    let rbox = Rbox::new();
    rbox.program("sh")
        .args([
            "-c",
            "id -u; id -G; echo $HOME $XDG_RUNTIME_DIR; pwd; cat; exit 3",
        ])
        .stdin("in")
        .stdout(format!(
            "{0}\n{1}\n[DIR]/home [DIR]/run\n[DIR]/work\nin",
            account::plain().uid,
            account::plain().gid
        ))
        .status(3)
        .run();
}

#[test]
fn the_leak_check_sees_processes_and_files() {
    let rbox = Rbox::new();
    assert_eq!(leaks::find(rbox.dir(), false), "");
    let sleeping = rbox.program("sleep").arg("1000").status(128 + 9).spawn();
    let found = leaks::find(rbox.dir(), false);
    assert!(found.contains("[sleep] sleep 1000"), "{found}");
    processes::kill_all(rbox.dir());
    sleeping.wait();
    for (path, is_dir, report) in [
        ("home/file", false, "file"),
        ("run/rbox/containers/x", true, "file"),
        ("data/rbox/containers/x", true, "container"),
        ("data/rbox/layers/.tmp-x", true, "layer of no image"),
        ("data/rbox/images/refs/.tmp-x", true, "temporary file"),
        ("data/rbox/blobs/sha256/x", false, "blob of no image"),
        ("data/rbox/strange", false, "unknown file"),
    ] {
        let path = rbox.dir().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_dir {
            std::fs::create_dir(&path).unwrap();
        } else {
            std::fs::write(&path, "").unwrap();
        }
        let found = leaks::once(rbox.dir(), false);
        assert_eq!(found, format!("  {report} {}\n", path.display()));
        if is_dir {
            std::fs::remove_dir(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "waited 100ms for its end")]
fn a_call_that_hangs_is_killed() {
    let rbox = Rbox::new();
    rbox.program("sleep")
        .arg("1000")
        .limit(Duration::from_millis(100))
        .run();
}

#[test]
fn registries_serve_the_fixture_images() {
    assert!(images::get("debian").oci_archive.exists());
    let rbox = Rbox::new();
    let inspect = |registry: &registry::Registry, tag: &str, options: &[&str]| {
        let image = format!("docker://{}", registry.reference(tag));
        rbox.program("skopeo")
            .args(["inspect", "--raw"])
            .args(options)
            .arg(image)
            .stdout_any()
            .run()
            .stdout
    };
    let plain = inspect(registry::http(), "busybox", &["--tls-verify=false"]);
    assert!(plain.contains("image.layer.v1.tar+gzip"), "{plain}");
    let zstd = inspect(registry::http(), "zstd/busybox", &["--tls-verify=false"]);
    assert!(zstd.contains("image.layer.v1.tar+zstd"), "{zstd}");
    let docker = inspect(registry::http(), "busybox:schema2", &["--tls-verify=false"]);
    assert!(
        docker.contains("docker.distribution.manifest.v2"),
        "{docker}"
    );
    let dir = rbox.work("certs");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(registry::authority(), dir.join("ca.crt")).unwrap();
    let options = ["--cert-dir", dir.to_str().unwrap()];
    assert_eq!(inspect(registry::https(), "busybox", &options), plain);
}

#[test]
fn a_terminal_of_80_columns_is_there() {
    let rbox = Rbox::new();
    let tmux = Tmux::start(&rbox);
    tmux.line("stty size");
    tmux.wait_line("24 80");
    tmux.resize(100, 30);
    tmux.line("stty size");
    tmux.wait_line("30 100");
}
