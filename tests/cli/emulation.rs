//! Users without sub-ids: what needs other ids than the one there is, answered as if it had worked.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::packages;

const APT: &str = r"
rm -rf /etc/apt/sources.list.d
echo 'deb [trusted=yes] copy:/repository ./' >/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt='apt-get -q -o APT::Sandbox::Verify=true'
$apt update >/tmp/log 2>&1 && $apt install -y --no-install-recommends cron resident >>/tmp/log 2>&1 || {
    status=$?
    cat /tmp/log
    exit $status
}
grep '^[WE]:' /tmp/log
dpkg --audit
dpkg-query -W -f '${Package} ${db:Status-Status}\n' cron resident
cat /var/lib/resident/spool/who /usr/lib/resident/given
stat -c '%n %a %u' /usr/bin/crontab /usr/lib/resident/helper /var/lib/resident/spool
getent group crontab | cut -d: -f1
";

/// apt becomes the user _apt and makes sure that it cannot come back; dpkg and the scripts of packages do the rest.
#[test]
fn apt_get_installs_packages_with_users_of_their_own() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("debian");
    let repository = format!("{}:/repository:ro", packages::repository().display());
    let run = ["run", "--rm", "-v", &repository];
    rbox.args(run)
        .args(["debian", "sh", "-c", APT])
        .stdout(
            "cron installed\nresident installed\nresident\nvisitor\ngiven\n\
             /usr/bin/crontab 2755 0\n/usr/lib/resident/helper 4750 0\n/var/lib/resident/spool 2750 0\ncrontab\n",
        )
        .limit(Duration::from_mins(3))
        .run();
    // What it would be without.
    rbox.args(run)
        .args(["--security-opt=root-emulation=off", "debian"])
        .args(["sh", "-c", APT])
        .stdout_has("Method copy has died unexpectedly!")
        .status(100)
        .run();
}

/// A container of a user without sub-ids; the first command has said what that means.
fn single() -> Option<Rbox> {
    let rbox = Rbox::without_subids()?;
    rbox.load("busybox");
    Some(rbox)
}

#[track_caller]
fn says(rbox: &Rbox, flags: &[&str], script: &str, stdout: &str) {
    let script = format!("exec 2>&1; {script}; true");
    rbox.args(["run", "--rm"])
        .args(flags)
        .args(["busybox", "sh", "-c", &script])
        .stdout(stdout)
        .run();
}

#[test]
fn owners_change_as_the_user_in_the_container_may() {
    let Some(rbox) = single() else {
        return;
    };
    says(
        &rbox,
        &[],
        "cd /tmp; touch a; chown 5:6 a && chown alice a && chgrp wheel a && stat -c %u:%g a; chown 0 none",
        "0:0\nchown: none: No such file or directory\n",
    );
    let alice =
        "su alice -c 'chown alice:wheel a && echo mine; chown 0 a; chown 1000:0 a; chgrp 7 a'";
    says(
        &rbox,
        &[],
        &format!("cd /tmp; touch a; {alice}"),
        "mine\nchown: a: Operation not permitted\nchown: a: Operation not permitted\n\
         chgrp: a: Operation not permitted\n",
    );
}

#[test]
fn who_became_another_user_stays_so_and_so_do_its_children() {
    let Some(rbox) = single() else {
        return;
    };
    let alice = "uid=1000(alice) gid=1000(alice) groups=1000(alice),10(wheel)\n";
    says(
        &rbox,
        &[],
        "su alice -c 'id; sh -c id'; id -u",
        &format!("{alice}{alice}0\n"),
    );
    // The middle process ends before the last one asks, which then is a child of init.
    says(
        &rbox,
        &[],
        "su alice -c '(sleep 0.3; id -u; sh -c \"id -u\") & exit 0'; id -u; sleep 1",
        "0\n1000\n1000\n",
    );
}

/// What busybox cannot do. One test, for the image is large.
#[test]
fn programs_of_debian_get_what_they_ask_for() {
    let Some(rbox) = Rbox::without_subids() else {
        return;
    };
    rbox.load("debian");
    a_child_of_a_process_that_changes_later_stays_who_it_is(&rbox);
    capabilities_kept_over_a_change_of_user_end_with_the_program(&rbox);
    no_file_is_made_by_who_may_not_make_it_himself(&rbox);
    a_container_that_asks_without_end_is_still_served(&rbox);
}

fn a_child_of_a_process_that_changes_later_stays_who_it_is(rbox: &Rbox) {
    let perl = "unless (fork) { sleep 1; print qq($<\\n); exit } \
        $< = $> = 100; print qq($< $>\\n); $> = 0; print qq($!\\n); wait; print qq($<\\n)";
    rbox.args(["run", "--rm", "debian", "perl", "-e"])
        .arg(format!("$| = 1; {perl}"))
        .stdout("100 100\nOperation not permitted\n0\n100\n")
        .run();
}

/// setpriv(1) keeps its capabilities until it has set its groups; the program that it executes has none.
fn capabilities_kept_over_a_change_of_user_end_with_the_program(rbox: &Rbox) {
    rbox.args([
        "run",
        "--rm",
        "debian",
        "setpriv",
        "--reuid=33",
        "--regid=34",
        "--groups=7,8",
    ])
    .args(["sh", "-c", "id -u; id -G; setpriv --reuid=0 id -u"])
    .stdout("33\n34 7 8\n")
    .stderr("setpriv: setresuid failed: Operation not permitted\n")
    .status(127)
    .run();
}

#[test]
fn what_was_taken_from_the_container_is_not_pretended() {
    let Some(rbox) = single() else {
        return;
    };
    for (capability, call, message) in [
        (
            "chown",
            "chown 5 /tmp",
            "chown: /tmp: Operation not permitted\n",
        ),
        (
            "setgid",
            "su alice -c id",
            "su: can't set groups: Operation not permitted\n",
        ),
        (
            "setuid",
            "su alice -c id",
            "su: setuid: Operation not permitted\n",
        ),
        (
            "mknod",
            "mknod /d c 1 3",
            "mknod: /d: Operation not permitted\n",
        ),
    ] {
        says(&rbox, &["--cap-drop", capability], call, message);
    }
}

#[test]
fn a_device_is_an_empty_file_and_other_nodes_are_what_they_are() {
    let Some(rbox) = single() else {
        return;
    };
    says(
        &rbox,
        &[],
        "cd /tmp; umask 027; mknod null c 1 3 && mknod -m 600 /tmp/../tmp/disk b 8 0 && mknod fifo p; \
         stat -c '%n %F %a' *; mknod null c 1 3; mknod none/null c 1 3; su alice -c 'mknod x c 1 3'",
        "disk regular empty file 600\nfifo fifo 640\nnull regular empty file 640\n\
         mknod: null: File exists\nmknod: none/null: No such file or directory\n\
         mknod: x: Operation not permitted\n",
    );
}

/// The file would be made by a process that the caller's confinement does not hold.
#[test]
fn no_file_is_made_where_one_might_be_forbidden() {
    let Some(rbox) = single() else {
        return;
    };
    says(
        &rbox,
        &["--read-only"],
        "mknod /null c 1 3",
        "mknod: /null: Read-only file system\n",
    );
    says(
        &rbox,
        &["--cap-drop=dac_override"],
        "mkdir -m 555 /tmp/closed; mknod /tmp/closed/null c 1 3",
        "mknod: /tmp/closed/null: Permission denied\n",
    );
    // There the link leads to what the process has that makes the file, which is one of the host.
    says(
        &rbox,
        &["-v", "/proc:/host"],
        "mknod /host/self/root/null c 1 3",
        "mknod: /host/self/root/null: Too many levels of symbolic links\n",
    );
    // chroot(8): the path is one of that root.
    says(
        &rbox,
        &[],
        "mkdir -p /a/b /a/bin; cp /bin/busybox /a/bin; chroot /a busybox mknod /../b/null c 1 3; ls /a/b",
        "null\n",
    );
}

/// The file would be made by a process that Landlock does not hold; 446 is landlock_restrict_self(2).
fn no_file_is_made_by_who_may_not_make_it_himself(rbox: &Rbox) {
    let script = "syscall(446, -1, 0); exec qw(mknod /null c 1 3)";
    rbox.args(["run", "--rm", "debian", "perl", "-e", script])
        .stderr("mknod: /null: Operation not permitted\n")
        .status(1)
        .run();
}

#[test]
fn commands_that_join_are_answered_too() {
    let Some(rbox) = single() else {
        return;
    };
    rbox.sleeper("box");
    for _ in 0..2 {
        rbox.args(["exec", "box", "su", "alice", "-c", "id -u; chown 0 /tmp"])
            .stdout("1000\n")
            .stderr("chown: /tmp: Operation not permitted\n")
            .status(1)
            .run();
    }
    rbox.args(["exec", "box", "id", "-u"]).stdout("0\n").run();
    rbox.remove(&["box"]);
}

#[test]
fn profiles_do_not_turn_it_off_and_its_own_option_does() {
    let Some(rbox) = single() else {
        return;
    };
    let chown = "chown 5 /tmp && echo done";
    says(
        &rbox,
        &["--security-opt=seccomp=unconfined"],
        chown,
        "done\n",
    );
    let off = ["--security-opt=root-emulation=off"];
    says(&rbox, &off, chown, "chown: /tmp: Invalid argument\n");
    // Of two filters the one that refuses decides.
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["chown", "lchown", "fchownat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    let profile = rbox.write("profile.json", profile);
    let flag = format!("--security-opt=seccomp={}", profile.display());
    says(
        &rbox,
        &[&flag],
        chown,
        "chown: /tmp: Function not implemented\n",
    );
}

#[test]
fn what_the_kernel_can_do_is_left_to_it() {
    const FILTERS: &str = "grep Seccomp_filters /proc/self/status";
    let rbox = Rbox::with_busybox();
    says(&rbox, &[], FILTERS, "Seccomp_filters:\t1\n");
    if let Some(rbox) = single() {
        says(&rbox, &[], FILTERS, "Seccomp_filters:\t2\n");
        // The one id is not root's.
        let flags = ["--userns=keep-id"];
        says(&rbox, &flags, FILTERS, "Seccomp_filters:\t1\n");
    }
}

/// Processes that ask without end must not keep the supervisor from anything else.
fn a_container_that_asks_without_end_is_still_served(rbox: &Rbox) {
    let flood = "fork; fork; fork; $> = 100; while (1) { chown(7, 7, '/'); $> = 0; $> = 100 }";
    rbox.args([
        "run", "-d", "--name", "flood", "debian", "perl", "-e", flood,
    ])
    .stdout("[ID]\n")
    .run();
    let start = Instant::now();
    rbox.args(["exec", "flood", "id", "-u"]).stdout("0\n").run();
    rbox.args(["kill", "flood"]).stdout("flood\n").run();
    rbox.args(["wait", "flood"]).stdout("137\n").run();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    rbox.remove(&["flood"]);
}

/// The kernel takes one filter of this kind: the outer container's answers for the inner one.
#[test]
fn a_container_in_a_container_of_one_id() {
    let Some(rbox) = single() else {
        return;
    };
    let store = rbox.work("store");
    std::fs::create_dir(&store).unwrap();
    rbox.own(&store);
    let binary = format!("{}:/bin/rbox:ro", rbox.program_path().display());
    let archive = crate::support::images::get("busybox").docker_archive;
    let script = "rbox load -q -i /busybox.tar && \
        rbox run --rm busybox sh -c 'chown 5 /tmp && su alice -c \"id -u\"; id -u'";
    rbox.args([
        "run",
        "--rm",
        "--security-opt=seccomp=unconfined",
        "-v",
        &binary,
    ])
    .args(["-v", &format!("{}:/busybox.tar:ro", archive.display())])
    .args(["-v", &format!("{}:/store", store.display())])
    .args(["-e", "XDG_DATA_HOME=/store", "-e", "XDG_RUNTIME_DIR=/tmp"])
    .args([
        "busybox",
        "sh",
        "-c",
        &format!("({script}) 2>&1 | tail -n 2"),
    ])
    .stdout("1000\n0\n")
    .run();
}
