//! Root runs containers too, in user namespaces of their own.
use crate::support::Rbox;
use crate::support::images;
use crate::support::place;
use crate::support::skip::skip;

fn root_with_busybox() -> Option<Rbox> {
    let rbox = Rbox::as_root()?;
    rbox.load("busybox");
    Some(rbox)
}

#[test]
fn root_runs_containers() {
    let Some(rbox) = root_with_busybox() else {
        return;
    };
    rbox.args(["run", "--rm", "hello"]).stdout_has("rbox").run();
    rbox.args(["run", "--rm", "busybox", "id", "-u"])
        .stdout("0\n")
        .run();
    rbox.args(["run", "--rm", "-u", "1000", "busybox", "id", "-u"])
        .stdout("1000\n")
        .run();
    rbox.args(["run", "-d", "--name", "c", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exec", "c", "echo", "in"]).stdout("in\n").run();
    rbox.remove(&["c"]);
}

#[test]
fn root_in_a_container_is_not_root_of_the_host() {
    let Some(rbox) = Rbox::as_root() else { return };
    rbox.load("testinit");
    let ns = rbox
        .args(["run", "--rm", "testinit", "ns"])
        .stdout_any()
        .run()
        .stdout;
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert!(!ns.contains(own.to_str().unwrap()), "{ns}");
    rbox.args([
        "run",
        "--rm",
        "testinit",
        "write",
        "/proc/sys/kernel/hostname",
    ])
    .stdout("Read-only file system (os error 30)\n")
    .run();
}

#[test]
fn layers_keep_their_owners_as_root() {
    let Some(rbox) = Rbox::as_root() else { return };
    rbox.load("debian");
    rbox.args([
        "run",
        "--rm",
        "debian",
        "stat",
        "-c",
        "%u:%g",
        "/owners/mail",
        "/owners/nobody",
    ])
    .stdout("8:8\n65534:65534\n")
    .run();
}

#[test]
fn without_sub_ids_it_works_as_well() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.args(["run", "--rm", "hello"])
        .stdout_has("rbox")
        .stderr_any()
        .run();
    rbox.load("busybox");
    rbox.args([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "id -u; touch /x && ls -l /x | wc -l",
    ])
    .stdout("0\n1\n")
    .stderr_any()
    .run();
}

/// One file on a machine with nothing else: here the machine is a bare directory.
#[test]
fn a_copy_of_the_file_alone_runs_containers() {
    if Rbox::as_root().is_none() {
        return skip("chroot needs root");
    }
    let rbox = Rbox::as_root().unwrap();
    let bare = rbox.work("bare");
    for dir in ["bin", "proc", "sys", "dev", "tmp"] {
        std::fs::create_dir_all(bare.join(dir)).unwrap();
    }
    std::fs::copy(place::binary(), bare.join("bin/rbox")).unwrap();
    let archive = images::get("busybox").docker_archive;
    std::fs::copy(archive, bare.join("busybox.tar")).unwrap();
    // A mount namespace whose root is that directory (a chroot may not make user
    // namespaces: user_namespaces(7)), with the mounts that any Linux has.
    let script = "
        mount --make-rprivate / && mount --bind $0 $0 && cd $0
        mount -t proc proc proc && mount -t sysfs sys sys && mount --rbind /dev dev
        mkdir old && pivot_root . old
        exec /old/bin/sh -c '
            exec /old/usr/bin/env -i HOME=/ PATH=/bin XDG_RUNTIME_DIR=/tmp \
                /old/bin/sh -c \"rbox run --rm hello && rbox load -q -i /busybox.tar && \
                    rbox run --rm busybox echo bare\"'";
    let script = script
        .replace("/old/bin/sh", "/old/bin/busybox sh")
        .replace("/old/usr/bin/env", "/old/bin/busybox env");
    rbox.program("unshare")
        .args(["--mount", "--pid", "--fork", "sh", "-ec", &script])
        .arg(&bare)
        .stdout_has("bare\n")
        .run();
}
