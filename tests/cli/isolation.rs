//! What a container must not reach: capabilities, system calls, file descriptors, the
//! files of the host, the program that started it.
use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Tar;
use crate::support::hostile::Image;

/// Docker's default: chown, `dac_override`, fowner, fsetid, kill, setgid, setuid, setpcap,
/// `net_bind_service`, `net_raw`, `sys_chroot`, mknod, `audit_write`, setfcap.
const CAPABILITIES: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

fn identity(uid: &str, effective: &str) -> String {
    format!(
        "Uid {uid}\nGid {uid}\nGroups {groups}\nCapInh {NONE}\nCapPrm {effective}\n\
         CapEff {effective}\nCapBnd {CAPABILITIES}\nCapAmb {NONE}\nNoNewPrivs 0\nSeccomp 2\n",
        groups = uid.split(' ').next().unwrap()
    )
}

#[test]
fn capabilities_are_dockers() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "--rm", "testinit", "id"])
        .stdout(identity("0 0 0 0", CAPABILITIES))
        .run();
    rbox.args(["run", "--rm", "-u", "4321:4321", "testinit", "id"])
        .stdout(identity("4321 4321 4321 4321", NONE))
        .run();
}

#[test]
fn exec_has_no_more_than_the_container() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "-d", "--name", "c", "testinit", "sleep", "1000"])
        .stdout_any()
        .run();
    rbox.args(["exec", "c", "/init", "id"])
        .stdout(identity("0 0 0 0", CAPABILITIES))
        .run();
    rbox.args(["exec", "-u", "4321:4321", "c", "/init", "id"])
        .stdout(identity("4321 4321 4321 4321", NONE))
        .run();
    rbox.args(["exec", "c", "/init", "fds"])
        .stdout("0 char 1:3\n1 pipe\n2 pipe\n")
        .run();
    rbox.args(["exec", "c", "/init", "write", "/proc/1/exe"])
        .stdout("Text file busy (os error 26)\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn no_file_descriptor_is_inherited() {
    let rbox = Rbox::with_testinit();
    let script = format!(
        "exec 5</etc/passwd 7</ 9>/dev/null; exec {} run --rm testinit fds",
        rbox.program_path().display()
    );
    rbox.program("sh")
        .args(["-c", &script])
        .stdout("0 char 1:3\n1 pipe\n2 pipe\n")
        .run();
}

#[test]
fn dangerous_system_calls_are_refused() {
    Rbox::with_testinit()
        .args(["run", "--rm", "testinit", "syscalls"])
        .stdout(
            "getpid 0\nreboot 1\nkexec_load 1\ninit_module 1\nbpf 1\nadd_key 1\nkeyctl 1\n\
             userfaultfd 1\nperf_event_open 1\nopen_by_handle_at 1\nswapon 1\nsettimeofday 1\n\
             ptrace 3\nacct 1\nnosuchcall 38\n",
        )
        .run();
}

#[test]
fn every_namespace_is_new() {
    let rbox = Rbox::with_testinit();
    let inside = rbox
        .args(["run", "--rm", "testinit", "ns"])
        .stdout_any()
        .run()
        .stdout;
    assert_eq!(inside.lines().count(), 7, "{inside}");
    for line in inside.lines() {
        let name = line.split(':').next().unwrap();
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, own.to_str().unwrap());
    }
}

#[test]
fn the_container_sees_only_its_own_mounts() {
    let rbox = Rbox::with_testinit();
    let mounts = rbox
        .args(["run", "--rm", "testinit", "mounts"])
        .stdout_any()
        .run()
        .stdout;
    assert!(!mounts.contains(rbox.dir().to_str().unwrap()), "{mounts}");
    let find = |target: &str| {
        let lead = format!("{target} ");
        mounts
            .lines()
            .find(|line| line.starts_with(&lead))
            .unwrap_or_else(|| panic!("no mount at {target}:\n{mounts}"))
    };
    assert!(find("/").starts_with("/ overlay rw"), "{mounts}");
    for (target, kind) in [
        ("/dev", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/proc", "proc"),
        ("/sys", "sysfs"),
    ] {
        let line = find(target);
        assert!(line.starts_with(&format!("{target} {kind} ")), "{line}");
        assert!(line.contains("nosuid"), "{line}");
        assert!(target == "/dev" || line.contains("noexec"), "{line}");
    }
    assert!(find("/sys").contains(" ro,"), "{mounts}");
}

#[test]
fn paths_of_the_kernel_are_masked_or_read_only() {
    let rbox = Rbox::with_busybox();
    let script = "
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger; do
            test -e $f && wc -c <$f 2>&1
        done | sort -u
        for d in /sys/firmware /proc/scsi /proc/acpi; do test -d $d && ls -A $d; done
        for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
            test -e $p && (echo x >$p) 2>&1
        done | sed 's/.*: //' | sort -u
        (echo x >/sys/kernel/uevent_helper) 2>&1 | sed 's/.*: //'";
    let out = rbox
        .args(["run", "--rm", "busybox", "sh", "-c", script])
        .stdout_any()
        .run()
        .stdout;
    for line in out.lines() {
        assert!(
            ["0", "Read-only file system", "Permission denied"].contains(&line),
            "{out}"
        );
    }
    assert!(out.contains("Read-only file system"), "{out}");
}

#[test]
fn devices_are_the_harmless_ones() {
    let rbox = Rbox::with_busybox();
    let script = "cd /dev; find . ! -type d | sort | tr '\\n' ' '; \
                  echo x >null; head -c 3 zero | wc -c; head -c 9 urandom | wc -c; \
                  for l in fd ptmx stdin; do readlink $l; done";
    rbox.args(["run", "--rm", "busybox", "sh", "-c", script])
        .stdout(
            "./fd ./full ./null ./ptmx ./pts/ptmx ./random ./stderr ./stdin ./stdout ./tty \
             ./urandom ./zero 3\n9\n/proc/self/fd\npts/ptmx\n/proc/self/fd/0\n",
        )
        .run();
    rbox.args(["run", "--rm", "busybox", "mknod", "/dev/sda", "b", "8", "0"])
        .stderr("mknod: /dev/sda: Operation not permitted\n")
        .status(1)
        .run();
}

#[test]
fn setuid_programs_do_not_work_through_bind_mounts_of_other_users() {
    // The caller's own namespace owns the mount, so a set-uid file of host root is plain.
    let Some(root) = Rbox::as_root() else { return };
    drop(root);
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "--rm",
        "-u",
        "1000",
        "-v",
        "/usr/bin:/host:ro",
        "busybox",
    ])
    .args(["stat", "-c", "%u", "/host/passwd"])
    .stdout("65534\n")
    .run();
}

/// CVE-2019-5736: a container replaced the runtime's executable through /proc/PID/exe. Its root, who is
/// the owner of that file here, keeps the program that joins it open, and writes when nobody runs it any more.
#[test]
fn cve_2019_5736_the_program_cannot_be_overwritten() {
    let rbox = Rbox::new();
    // The supervisor of the container runs the other one.
    let program = rbox.work("rbox");
    std::fs::copy(rbox.program_path(), &program).unwrap();
    rbox.own(&program);
    let before = std::fs::read(&program).unwrap();
    // An image whose program is the one that starts it.
    let mut tar = Tar::default();
    tar.symlink("bin/self", "/proc/self/exe");
    Image::busybox().layer(&mut tar).load(&rbox);
    let script = "
        cut() { busybox sed 's/.*: //'; }
        echo ready
        while :; do
            for p in /proc/[0-9]*; do
                case $p in /proc/1|/proc/$$) continue;; esac
                command exec 9<$p/exe && break 2
            done
        done 2>/dev/null
        until test \"$(cat $p/cmdline)\" = /bin/selfload; do :; done 2>/dev/null
        (echo x >>$p/exe) 2>&1 | cut
        read end
        (echo x >>/proc/self/fd/9) 2>&1 | cut; (echo x >/proc/self/fd/9) 2>&1 | cut";
    let mut trap = rbox
        .args([
            "run", "--rm", "-i", "--name", "trap", "odd", "sh", "-c", script,
        ])
        .stdout("ready\nText file busy\nRead-only file system\nRead-only file system\n")
        .spawn();
    trap.wait_for("ready\n");
    // As the command the program waits for an archive.
    let mut joins = rbox
        .program(&program)
        .args(["exec", "-i", "trap", "/bin/self", "load"])
        .stderr_any()
        .status(125)
        .spawn();
    trap.wait_for("Text file busy\n");
    joins.close_stdin();
    joins.wait();
    trap.close_stdin();
    trap.wait();
    for command in ["/bin/self", "/proc/self/exe", "/proc/1/exe"] {
        let run = rbox.program(&program).args(["run", "--rm", "odd", command]);
        run.arg("version")
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
    }
    assert!(std::fs::read(&program).unwrap() == before);
}

/// CVE-2024-21626: the working directory was resolved through a leaked descriptor of the
/// host's file system.
#[test]
fn cve_2024_21626_no_descriptor_is_a_working_directory() {
    let rbox = Rbox::with_busybox();
    for number in 3..=64 {
        let dir = format!("/proc/self/fd/{number}");
        let output = rbox
            .args(["run", "--rm", "-w", &dir, "busybox", "ls", "."])
            .stdout("")
            .stderr_any()
            .status_any()
            .run();
        assert!(!output.status.success(), "{dir} was entered");
    }
    Image::busybox()
        .with(json!({"WorkingDir": "/proc/self/fd/7"}))
        .load(&rbox);
    rbox.args(["run", "--rm", "odd", "ls", "."])
        .stderr_any()
        .status_any()
        .stdout("")
        .run();
    rbox.sleeper("c");
    for number in 3..=64 {
        rbox.args([
            "exec",
            "-w",
            &format!("/proc/self/fd/{number}"),
            "c",
            "ls",
            ".",
        ])
        .stdout("")
        .stderr_any()
        .status_any()
        .run();
    }
    rbox.remove(&["c"]);
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: mounts over links of the image.
#[test]
fn links_in_the_image_do_not_lead_mounts_out() {
    let rbox = Rbox::new();
    for name in ["proc", "sys", "dev"] {
        let mut tar = Tar::default();
        tar.symlink(name, "/somewhere").dir("somewhere", 0o755);
        Image::busybox().layer(&mut tar).load(&rbox);
        let output = rbox
            .args([
                "run",
                "--rm",
                "odd",
                "sh",
                "-c",
                "echo ran; cat /proc/self/mountinfo",
            ])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        if output.status.success() {
            assert!(!output.stdout.contains("/somewhere"), "{}", output.stdout);
        } else {
            assert!(output.stderr.starts_with("Error: "), "{}", output.stderr);
        }
    }
    for (link, target) in [
        ("mnt", "/proc"),
        ("mnt", "../../../../../../tmp"),
        ("mnt", "/proc/self/cwd"),
    ] {
        let mut tar = Tar::default();
        tar.symlink(link, target);
        Image::busybox().layer(&mut tar).load(&rbox);
        let bind = format!("{}:/mnt/x", rbox.dir().join("work").display());
        rbox.args(["run", "--rm", "-v", &bind, "odd", "true"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
    }
    assert!(!std::path::Path::new("/tmp/x").exists());
}

#[test]
fn a_layer_does_not_write_outside() {
    let rbox = Rbox::new();
    let outside = rbox.work("outside");
    let path = outside.to_str().unwrap();
    let up = "../".repeat(20);
    let mut tars: Vec<Tar> = (0..5).map(|_| Tar::default()).collect();
    tars[0].file(&format!("{up}{}", &path[1..]), 0o644, b"x");
    tars[1].file(path, 0o644, b"x");
    tars[2]
        .symlink("link", rbox.dir().join("work").to_str().unwrap())
        .file("link/outside", 0o644, b"x");
    tars[3]
        .symlink(
            "link",
            &format!("{up}{}", rbox.dir().join("work").display()),
        )
        .file("link/outside", 0o644, b"x");
    tars[4]
        .hardlink("hard", "/etc/passwd")
        .file("hard", 0o644, b"x");
    for mut tar in tars {
        let image = Image::busybox().layer(&mut tar);
        let archive = image.save(&rbox);
        rbox.args(["load", "-q", "-i"])
            .arg(archive)
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        assert!(!outside.exists());
    }
    assert!(
        std::fs::read_to_string("/etc/passwd")
            .unwrap()
            .contains("root:")
    );
}

#[test]
fn the_supervisor_is_out_of_reach() {
    let rbox = Rbox::with_busybox();
    // Only the container's own processes are in its pid namespace.
    rbox.args([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "ls -d /proc/[0-9]* | head -1; kill -9 -1; echo alive",
    ])
    .stdout("/proc/1\nalive\n")
    .stderr("sh: can't kill pid -1: No such process\n")
    .run();
}
