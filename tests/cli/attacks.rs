//! What a container or a hasty user can do to the engine: each was possible once.
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::account;
use crate::support::archive::Tar;
use crate::support::hostile::Image;
use crate::support::processes;
use crate::support::skip::skip;

/// More than all pipes and queues on the way hold, in both directions at once.
#[test]
fn input_larger_than_all_buffers_comes_back() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let input = "0123456789abcde\n".repeat(512 * 1024);
    for command in [
        ["exec", "-i", "c"].as_slice(),
        &["run", "-i", "--rm", "busybox"],
    ] {
        let mut args = command.to_vec();
        args.push("cat");
        let output = rbox.args(args).stdin(input.as_str()).stdout_any().run();
        assert!(
            output.stdout == input,
            "{command:?}: {} bytes",
            output.stdout.len()
        );
    }
    rbox.remove(&["c"]);
}

/// A reader that has seen enough ends the container, and nothing is said of lost supervisors.
#[test]
fn a_reader_that_goes_away_is_no_error_of_the_engine() {
    let rbox = Rbox::with_busybox();
    for _ in 0..10 {
        let output = rbox
            .program("sh")
            .args(["-c", "\"$0\" run --rm busybox yes | head -1"])
            .arg(rbox.program_path())
            .stdout("y\n")
            .stderr_any()
            .run();
        assert!(!output.stderr.contains("Error"), "{}", output.stderr);
    }
}

/// Root of a container that root started has the ids of the host's root.
#[test]
fn the_devices_of_the_host_stay_as_they_are() {
    let Some(rbox) = Rbox::as_root() else { return };
    rbox.load("busybox");
    let devices = ["/dev/null", "/dev/zero", "/dev/full"];
    let state = || {
        devices.map(|device| {
            let stat = std::fs::metadata(device).unwrap();
            (stat.mode(), stat.uid(), stat.gid())
        })
    };
    let before = state();
    rbox.args(["run", "--rm", "-u", "1000:1000", "busybox", "id", "-u"])
        .stdout("1000\n")
        .run();
    let script = "for f in /dev/null /dev/zero /dev/full /proc/self/fd/0 /proc/timer_list; do
        chmod 600 $f; chown 5:5 $f; touch $f; done 2>/dev/null; echo x >/dev/null && cat /dev/null";
    rbox.args(["run", "--rm", "busybox", "sh", "-c", script])
        .run();
    rbox.sleeper("c");
    rbox.args(["exec", "c", "sh", "-c", script]).run();
    rbox.args(["exec", "-d", "-u", "1000:1000", "c", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
    rbox.remove(&["c"]);
    assert_eq!(state(), before);
}

fn supervisor(rbox: &Rbox) -> Pid {
    let own = processes::called(rbox.dir(), "rbox: ");
    assert_eq!(own.len(), 1, "{}", processes::describe(&own));
    Pid::from_raw(own[0].pid).unwrap()
}

fn is_there(rbox: &Rbox, pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero().get();
    processes::of(rbox.dir())
        .iter()
        .any(|process| process.pid == pid)
}

fn sleeps(rbox: &Rbox) -> bool {
    processes::of(rbox.dir()).iter().any(|process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid));
        line.is_ok_and(|line| line == b"sleep\x001000\0")
    })
}

/// Linux: a process that changes its credentials loses its parent-death signal.
#[test]
fn a_container_whose_init_gave_up_root_ends_with_its_supervisor() {
    let rbox = Rbox::new();
    rbox.load("debian");
    let dropping = "exec setpriv --reuid 1000 --regid 1000 --clear-groups sleep 1000";
    for options in [["-u", "1000"].as_slice(), &["-u", "0"]] {
        let script = if options[1] == "0" {
            dropping
        } else {
            "exec sleep 1000"
        };
        rbox.args(["run", "-d", "--name", "c"])
            .args(options)
            .args(["debian", "sh", "-c", script])
            .stdout("[ID]\n")
            .run();
        // The change is in the past when the script's last program runs.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !sleeps(&rbox) {
            assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
            std::thread::sleep(Duration::from_millis(2));
        }
        let supervisor = supervisor(&rbox);
        rustix::process::kill_process(supervisor, Signal::KILL).unwrap();
        while is_there(&rbox, supervisor) {
            assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
            std::thread::sleep(Duration::from_millis(2));
        }
        // Linux: its memory goes first, by which it is known here, and its lock with its network device later.
        let ps = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
        while rbox.args(ps).stdout_any().run().stdout != "c exited\n" {
            assert!(Instant::now() < deadline, "{}", rbox.diagnostics());
        }
        let left = processes::of(rbox.dir());
        assert!(left.is_empty(), "{}", processes::describe(&left));
        rbox.args(["start", "c"]).stdout("c\n").run();
        rbox.args(ps).stdout("c running\n").run();
        rbox.args(["rm", "-f", "c"]).stdout("c\n").run();
    }
}

/// As in images that are made to run systemd-resolved.
#[test]
fn a_link_to_nowhere_in_etc_is_followed_in_the_image() {
    let rbox = Rbox::new();
    let outside = rbox.work("outside");
    let link = format!("../../../../../..{}", outside.display());
    Image::busybox()
        .layer(
            Tar::default()
                .symlink("etc/resolv.conf", "../run/resolve/stub.conf")
                .symlink("etc/hosts", &link),
        )
        .load(&rbox);
    let script = "cat /run/resolve/stub.conf >/dev/null && cat /etc/hosts";
    rbox.args(["run", "--rm", "odd", "sh", "-c", script])
        .stdout_has("localhost")
        .run();
    assert!(!outside.exists());
}

/// It would be mounted below the container, and the user would take it for mounted.
#[test]
fn a_volume_on_the_root_directory_is_refused() {
    let rbox = Rbox::new();
    Image::busybox()
        .layer(Tar::default().symlink("data", "/bin/.."))
        .load(&rbox);
    let source = rbox.dir().join("work");
    for destination in ["/", "/data", "/bin/.."] {
        let volume = format!("{}:{destination}", source.display());
        rbox.args(["run", "--rm", "-v", &volume, "odd", "true"])
            .stderr_has("it is the root directory of the container")
            .status(125)
            .run();
    }
}

/// Linux: /proc of a process whose program it may not read is closed.
#[test]
fn a_program_that_may_be_executed_and_not_read_runs() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make a file that the user may not read");
    }
    let rbox = Rbox::with_busybox();
    let program = rbox.work("busybox");
    std::fs::copy("/bin/busybox", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o711)).unwrap();
    let volume = format!("{}:/closed/busybox", program.display());
    rbox.args([
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "/closed/busybox",
        "echo",
        "hi",
    ])
    .stdout("hi\n")
    .run();
}

/// Who has the output of a container from it, and is none of its processes, may write to it for ever.
#[test]
fn an_output_that_never_ends_keeps_no_container() {
    if !account::is_root() {
        skip("only root opens the output of others");
        return;
    }
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let format = ["inspect", "--format", "{{.State.Pid}}", "c"];
    let pid = rbox.args(format).stdout_any().run().stdout;
    let output = format!("/proc/{}/fd/1", pid.trim());
    let output = std::fs::OpenOptions::new().write(true).open(output);
    let mut writer = std::process::Command::new("yes")
        .stdout(output.unwrap())
        .spawn()
        .unwrap();
    rbox.args(["kill", "c"]).stdout("c\n").run();
    rbox.args(["wait", "c"]).stdout("137\n").run();
    // Nobody reads any more.
    let status = writer.wait().unwrap();
    assert!(!status.success());
    rbox.remove(&["c"]);
}
