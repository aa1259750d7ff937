//! What containers from bundles must not reach: the defences of `isolation` and `attacks`, in this mode.
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;

fn worlds() -> impl Iterator<Item = Rbox> {
    [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten()
}

/// CVE-2024-21626: a working directory that is a descriptor of the runtime leads out.
#[test]
fn no_working_directory_is_a_descriptor_of_the_runtime() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["ls"]);
        for number in 0..24 {
            let path = format!("/proc/self/fd/{number}");
            bundle.config["process"]["cwd"] = json!(path);
            let said = format!("cannot enter working directory \"{path}\": ");
            bundle.run("one").stderr_has(said).status(1).run();
        }
        bundle.config["process"]["cwd"] = json!("/");
        let bundle = bundle.command(&["sleep", "1000"]);
        bundle.create("one");
        bundle.start("one");
        for number in 0..24 {
            let path = format!("/proc/self/fd/{number}");
            let said = format!("cannot enter working directory \"{path}\": ");
            bundle
                .oci(["exec", "--cwd", &path, "one", "ls"])
                .stderr_has(said)
                .status(255)
                .run();
            // Nor by a link of the image that leads there.
            let link = bundle.rootfs().join("link");
            symlink(&path, &link).unwrap();
            bundle
                .oci(["exec", "--cwd", "/link", "one", "ls"])
                .stderr_has("cannot enter")
                .status(255)
                .run();
            std::fs::remove_file(link).unwrap();
        }
        bundle.delete("one");
    }
}

/// No descriptor of the runtime, nor of its caller, is in a container.
#[test]
fn no_descriptor_leaks() {
    for rbox in worlds() {
        let bundle = Bundle::new(&rbox).command(&["/init", "fds"]);
        bundle.write();
        let script =
            "exec 5</etc/passwd 7</ 9>/dev/null; exec \"$0\" oci --root \"$1\" run -b \"$2\" one";
        rbox.program("sh")
            .args(["-c", script])
            .arg(rbox.program_path())
            .arg(bundle.root())
            .arg(&bundle.dir)
            .stdout("0 pipe\n1 pipe\n2 pipe\n")
            .run();
        // Created and started by two calls, with streams passed on.
        let create = "exec 5</etc/passwd 7</ 9>/dev/null; \
            exec \"$0\" oci --root \"$1\" create -b \"$2\" one </dev/null >\"$2/out\" 2>&1";
        rbox.program("sh")
            .args(["-c", create])
            .arg(rbox.program_path())
            .arg(bundle.root())
            .arg(&bundle.dir)
            .run();
        bundle.start("one");
        bundle.wait_status("one", "stopped");
        let out = bundle.dir.join("out").display().to_string();
        assert_eq!(bundle.wrote(), format!("0 char 1:3\n1 {out}\n2 {out}\n"));
        bundle.delete("one");
    }
}

/// CVE-2019-5736: the program that executes the command is not the host's, and cannot be written.
#[test]
fn the_runtime_cannot_be_overwritten() {
    for rbox in worlds() {
        let before = std::fs::read(rbox.program_path()).unwrap();
        let bundle = Bundle::new(&rbox).command(&["/proc/self/exe", "oci", "--version"]);
        // The trampoline knows no such role, and what it is has no way to be written.
        bundle
            .run("one")
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        let bundle = bundle.command(&["sh", "-c", "sleep 1000"]);
        bundle.create("two");
        bundle.start("two");
        bundle
            .oci(["exec", "two", "/init", "write", "/proc/1/exe"])
            .stdout("Text file busy (os error 26)\n")
            .run();
        let script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do \
            for p in /proc/[0-9]*/exe; do (echo x >$p) 2>/dev/null && echo written $p; done; done; true";
        for _ in 0..5 {
            bundle.oci(["exec", "two", "sh", "-c", script]).run();
        }
        bundle.delete("two");
        assert!(std::fs::read(rbox.program_path()).unwrap() == before);
    }
}

/// CVE-2016-9962: who watches all processes of the container sees none of the runtime's descriptors.
#[test]
fn processes_that_join_show_nothing() {
    for rbox in worlds() {
        let bundle = Bundle::new(&rbox).command(&["/init", "watch"]);
        bundle.create("one");
        bundle.start("one");
        for _ in 0..20 {
            bundle.oci(["exec", "one", "true"]).run();
        }
        assert_eq!(bundle.wrote(), "watching\n");
        bundle.delete("one");
    }
}

/// CVE-2019-16884, CVE-2021-30465, CVE-2023-27561, CVE-2023-28642: file systems of the kernel go where they are said to,
/// and not where a link of the image leads.
#[test]
fn links_of_an_image_move_no_mount() {
    for rbox in worlds() {
        let canary = rbox.work("canary");
        std::fs::create_dir_all(&canary).unwrap();
        rbox.own(&canary);
        for (name, kind) in [("proc", "proc"), ("dev", "tmpfs"), ("sys", "sysfs")] {
            let mut bundle = Bundle::new(&rbox).command(&["true"]);
            if kind == "sysfs" {
                let mounts = bundle.config["mounts"].as_array_mut().unwrap();
                mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
            }
            let path = bundle.rootfs().join(name);
            std::fs::remove_dir(&path).unwrap();
            symlink(&canary, &path).unwrap();
            bundle
                .run("one")
                .stderr_has(format!("cannot mount \"/{name}\""))
                .status(1)
                .run();
            assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
            std::fs::remove_dir_all(&bundle.dir).unwrap();
        }
        std::fs::remove_dir(&canary).unwrap();
    }
}

/// CVE-2025-31133, CVE-2025-52565: what covers and shows is the host's, whatever the image has in its place.
#[test]
fn masked_paths_are_covered_by_the_hosts_device() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["/init", "stat", "/etc/secret"]);
        bundle.config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
        std::fs::write(bundle.rootfs().join("etc/secret"), "secret").unwrap();
        // A /dev of the image's own, with links where devices are looked for.
        bundle.config["mounts"].as_array_mut().unwrap().truncate(1);
        let dev = bundle.rootfs().join("dev");
        symlink("/etc/passwd", dev.join("console")).unwrap();
        bundle.run("one").stdout_has("char 1:3 666 ").run();
        std::fs::remove_file(dev.join("null")).unwrap();
        symlink("/etc/passwd", dev.join("null")).unwrap();
        bundle.run("one").stderr_has("/dev/null").status(1).run();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}
