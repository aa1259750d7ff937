//! Attacks on where mounts go and come from: links of an image and of a shared directory, swapped while
//! a container starts. Each was a hole of some engine.
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Tar;
use crate::support::hostile::Image;

/// A directory of the host that nothing of a container may change: it is empty, and stays so.
struct Canary(PathBuf);

impl Canary {
    fn new(rbox: &Rbox) -> Canary {
        let path = rbox.work("canary");
        std::fs::create_dir(&path).unwrap();
        rbox.own(&path);
        Canary(path)
    }

    /// Its path as a link that climbs out of any directory.
    fn climbing(&self) -> String {
        format!("../../../../../../../..{}", self.0.display())
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let found: Vec<_> = std::fs::read_dir(&self.0).unwrap().flatten().collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Exchanges a directory with a link for as long as it lives.
fn swap(dir: &Path, stop: &AtomicBool) {
    use rustix::fs::CWD;
    use rustix::fs::RenameFlags;
    let (place, link) = (dir.join("place"), dir.join("link"));
    while !stop.load(Ordering::Relaxed) {
        rustix::fs::renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    }
}

/// CVE-2021-30465, CVE-2024-45310: the target of a mount was checked and then used again, by its path.
#[test]
fn cve_2021_30465_a_swapped_mount_target_does_not_lead_out() {
    let rbox = Rbox::with_busybox();
    let canary = Canary::new(&rbox);
    for link in [canary.0.display().to_string(), canary.climbing()] {
        let shared = rbox.work("shared");
        std::fs::create_dir_all(shared.join("place")).unwrap();
        symlink(&link, shared.join("link")).unwrap();
        for path in [&shared, &shared.join("place"), &shared.join("link")] {
            rbox.own(path);
        }
        let volume = format!("{}:/shared", shared.display());
        let below = format!("{}:/shared/place/below/it", rbox.work("").display());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&shared, &stop));
            for _ in 0..20 {
                // Whether it starts depends on the moment; what it leaves does not.
                rbox.args(["run", "--rm", "-v", &volume, "-v", &below])
                    .args(["--tmpfs", "/shared/place/memory", "busybox", "true"])
                    .stderr_any()
                    .status_any()
                    .run();
            }
            stop.store(true, Ordering::Relaxed);
        });
        canary.assert_untouched();
        std::fs::remove_dir_all(&shared).unwrap();
    }
}

/// The same by a container that shares the directory with the one that starts.
#[test]
fn a_sibling_that_swaps_links_does_not_lead_mounts_out() {
    let rbox = Rbox::with_busybox();
    let canary = Canary::new(&rbox);
    let script = format!(
        "cd /shared; mkdir place; ln -s {} link; touch ready
        while :; do mv place dir; mv -T link place; mv -T place link; mv dir place; done",
        canary.climbing()
    );
    rbox.args([
        "run",
        "-d",
        "--name",
        "sibling",
        "-v",
        "v:/shared",
        "busybox",
        "sh",
        "-c",
        &script,
    ])
    .stdout("[ID]\n")
    .run();
    for _ in 0..20 {
        rbox.args([
            "run",
            "--rm",
            "-v",
            "v:/shared",
            "--tmpfs",
            "/shared/place/memory",
        ])
        .args([
            "--device",
            "/dev/zero:/shared/place/zero",
            "busybox",
            "true",
        ])
        .stderr_any()
        .status_any()
        .run();
    }
    rbox.remove(&["sibling"]);
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
    canary.assert_untouched();
}

/// CVE-2026-41579, CVE-2026-55686, CVE-2024-9341: what an image has as links is looked up in the image.
#[test]
fn links_of_an_image_lead_nowhere_else() {
    let rbox = Rbox::new();
    let canary = Canary::new(&rbox);
    for link in [canary.0.display().to_string(), canary.climbing()] {
        Image::busybox()
            .layer(Tar::default().symlink("link", &link))
            .with(json!({"WorkingDir": "/link/dir", "Volumes": {"/link/volume": {}}}))
            .load(&rbox);
        let bind = format!("{}:/link/bind", rbox.work("").display());
        rbox.args([
            "run",
            "--rm",
            "-v",
            &bind,
            "--tmpfs",
            "/link/memory",
            "--device",
            "/dev/zero:/link/zero",
        ])
        .args([
            "--chrootdirs",
            "/link/root",
            "odd",
            "sh",
            "-c",
            "pwd; ls /link",
        ])
        .stdout("[DIR]/work/canary/dir\nbind\ndir\nmemory\nroot\nvolume\nzero\n")
        .run();
        canary.assert_untouched();
    }
}

/// CVE-2025-31133: the container's /dev/null was what paths were masked with.
#[test]
fn cve_2025_31133_masks_are_not_of_the_containers_null() {
    let rbox = Rbox::with_busybox();
    let dev = rbox.work("dev");
    std::fs::create_dir(&dev).unwrap();
    symlink("/proc/version", dev.join("null")).unwrap();
    for path in [&dev, &dev.join("null")] {
        rbox.own(path);
    }
    let volume = format!("{}:/dev", dev.display());
    let script = "readlink /dev/null; cat /proc/keys /proc/timer_list /proc/interrupts";
    rbox.args(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script])
        .stdout("/proc/version\n")
        .run();
}

/// CVE-2025-52565: the terminal was mounted on whatever /dev/console was a link to.
#[test]
fn cve_2025_52565_the_console_is_no_link() {
    let rbox = Rbox::with_busybox();
    let dev = rbox.work("dev");
    let target = rbox.write("target", "mine\n");
    std::fs::create_dir_all(dev.join("pts")).unwrap();
    symlink("/etc/passwd", dev.join("console")).unwrap();
    symlink("pts/ptmx", dev.join("ptmx")).unwrap();
    for path in ["", "pts", "console", "ptmx"] {
        rbox.own(&dev.join(path));
    }
    let volume = format!("{}:/dev", dev.display());
    rbox.args([
        "run",
        "--rm",
        "-t",
        "-v",
        &volume,
        "--mount",
        "type=devpts,dst=/dev/pts",
        "busybox",
        "true",
    ])
    .stderr_has("Too many levels of symbolic links")
    .status(125)
    .run();
    assert_eq!(std::fs::read_to_string(target).unwrap(), "mine\n");
}

/// Volumes and file systems in memory begin with what the image has at their place. A link there is one of
/// the image: it does not read what is mounted already, where nothing is masked yet, nor cover it.
#[test]
fn a_link_of_an_image_copies_nothing_that_is_mounted() {
    let rbox = Rbox::new();
    let mut layer = Tar::default();
    layer
        .dir("secret", 0o755)
        .file("secret/image", 0o644, b"of the image")
        .symlink("proc-link", "/proc")
        .symlink("sys-link", "/sys/kernel")
        .symlink("link", "/secret");
    Image::busybox().layer(&mut layer).load(&rbox);
    let secret = rbox.work("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("host"), "of the host").unwrap();
    for path in [&secret, &secret.join("host")] {
        rbox.own(path);
    }
    let secret = format!("{}:/secret:ro", secret.display());
    let run = |options: &[&str]| {
        rbox.args(["run", "--rm", "--name", "c", "-v", &secret])
            .args(options)
            .args(["odd", "ls", "/link"])
    };
    run(&["-v", "v:/link"]).stdout("image\n").run();
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
    run(&["--tmpfs", "/link"]).stdout("image\n").run();
    for (place, leads) in [("/proc-link", "/proc"), ("/sys-link", "/sys")] {
        for options in [["-v", &format!("v:{place}")], ["--tmpfs", place]] {
            run(&options)
                .status(125)
                .stderr(format!(
                    "Error: cannot start container \"c\": cannot mount \"{place}\": a symbolic link leads into {leads}\n"
                ))
                .run();
        }
    }
    rbox.args(["volume", "rm", "v"]).stdout("v\n").run();
}

/// What is mounted at /proc is the container's to say: rbox believes nothing there.
#[test]
fn a_false_proc_does_not_choose_the_groups() {
    let rbox = Rbox::with_busybox();
    let proc = rbox.work("proc");
    std::fs::create_dir_all(proc.join("self")).unwrap();
    std::fs::write(proc.join("self/setgroups"), "deny\n").unwrap();
    for path in [&proc, &proc.join("self"), &proc.join("self/setgroups")] {
        rbox.own(path);
    }
    let volume = format!("{}:/proc", proc.display());
    let options = ["-v", &volume, "--group-add", "5"];
    rbox.args(["run", "-d", "--name", "c"])
        .args(options)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exec", "c", "id", "-G"]).stdout("0 5\n").run();
    rbox.remove(&["c"]);
}
