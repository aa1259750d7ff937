//! Users and groups inside and outside: whole ranges, one id, the identity of root.
use crate::support::Rbox;
use crate::support::account;
use crate::support::images;
use crate::support::skip;

const MAPS: &str = "cat /proc/self/uid_map | tr -s ' ' | sed 's/^ //'";

#[test]
fn a_plain_user_gets_all_of_the_sub_ids() {
    let rbox = Rbox::with_busybox();
    let uid = rbox.account().uid;
    let subuid = std::fs::read_to_string("/etc/subuid").unwrap();
    let name = rbox.account().name;
    let range = subuid
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")));
    let Some((start, count)) = range.and_then(|range| range.split_once(':')) else {
        return skip::skip("this user is not in /etc/subuid");
    };
    rbox.args(["run", "--rm", "busybox", "sh", "-c", MAPS])
        .stdout(format!("0 {uid} 1\n1 {start} {count}\n"))
        .run();
}

#[test]
fn files_made_inside_belong_to_the_caller_outside() {
    use std::os::unix::fs::MetadataExt;
    let rbox = Rbox::with_busybox();
    let bind = format!("{}:/mnt", rbox.dir().join("work").display());
    rbox.args(["run", "--rm", "-v", &bind, "busybox", "touch", "/mnt/mine"])
        .run();
    let meta = rbox.work("mine").metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.gid()),
        (rbox.account().uid, rbox.account().gid)
    );
    rbox.args([
        "run",
        "--rm",
        "-v",
        &bind,
        "-u",
        "1000",
        "busybox",
        "touch",
        "/mnt/other",
    ])
    .stderr("touch: /mnt/other: Permission denied\n")
    .status(1)
    .run();
}

const OWNERS: &str = "stat -c '%n %a %u:%g' /owners/* | sort";

#[test]
fn layers_of_many_owners_unpack_with_sub_ids() {
    let rbox = Rbox::new();
    rbox.load("debian");
    rbox.args(["run", "--rm", "debian", "bash", "-c", OWNERS])
        .stdout(
            "/owners/attributed 644 0:0\n\
             /owners/capability 755 0:0\n\
             /owners/daemon 640 1:1\n\
             /owners/fifo 644 0:0\n\
             /owners/hard 644 1000:1000\n\
             /owners/mail 2755 8:8\n\
             /owners/nobody 600 65534:65534\n\
             /owners/setuid 4755 0:0\n\
             /owners/setuid-user 6755 1000:1000\n\
             /owners/user 644 1000:1000\n",
        )
        .run();
    let script = "stat -c %h /owners/user; cd /gone; find . | sort; test -p /owners/fifo; \
                  test -e /etc/debian_version || echo gone";
    rbox.args(["run", "--rm", "debian", "bash", "-c", script])
        .stdout("2\n.\n./kept\n./opaque\n./opaque/new\ngone\n")
        .run();
}

#[test]
fn a_user_without_sub_ids_has_one_id() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("busybox");
    let uid = rbox.account().uid;
    rbox.args(["run", "--rm", "busybox", "sh", "-c", MAPS])
        .stdout(format!("0 {uid} 1\n"))
        .stderr_any()
        .run();
}

#[test]
fn layers_of_many_owners_unpack_with_one_id() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    let archive = images::get("debian").docker_archive;
    rbox.args(["load", "-q", "-i"])
        .arg(archive)
        .stdout_any()
        .stderr_any()
        .run();
    rbox.args([
        "run",
        "--rm",
        "debian",
        "bash",
        "-c",
        "cat /owners/mail; stat -c %u /owners/mail",
    ])
    .stdout("mail0\n")
    .stderr_any()
    .run();
}

#[test]
fn what_one_id_limits_is_said_once() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    let first = rbox
        .args(["run", "--rm", "hello"])
        .stdout_any()
        .stderr_any()
        .run();
    assert!(first.stderr.contains("sub"), "{}", first.stderr);
    rbox.args(["run", "--rm", "hello"]).stdout_any().run();
}

/// In a mount namespace where the two programs cannot be executed.
#[test]
fn without_the_helpers_one_id_is_mapped() {
    if !account::is_root() {
        return skip::skip("only root can hide programs");
    }
    let rbox = Rbox::new();
    let account = rbox.account();
    let archive = images::get("busybox").docker_archive;
    let script = format!(
        "mount --make-rprivate /
        for helper in newuidmap newgidmap; do mount --bind /dev/null /usr/bin/$helper; done
        setpriv --reuid {0} --regid {1} --clear-groups {2} load -q -i {3} >/dev/null
        setpriv --reuid {0} --regid {1} --clear-groups {2} run --rm busybox sh -c \"$0\"",
        account.uid,
        account.gid,
        rbox.program_path().display(),
        archive.display()
    );
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script, MAPS])
        .env_clear()
        .envs(rbox.environment())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, format!("0 {} 1\n", account.uid), "{stderr}");
}
