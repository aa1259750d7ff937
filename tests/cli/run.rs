//! `rbox run`: what goes in, what comes out.
use rustix::process::Signal;

use crate::support::Rbox;

#[test]
fn run_prints_what_the_container_prints() {
    Rbox::with_busybox()
        .args(["run", "--rm", "busybox", "echo", "hi"])
        .stdout("hi\n")
        .run();
}

#[test]
fn hello_needs_no_registry_and_no_image() {
    Rbox::new()
        .args(["run", "--rm", "hello"])
        .stdout_has("rbox")
        .run();
}

#[test]
fn standard_error_stays_apart() {
    Rbox::with_busybox()
        .args([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .stdout("out\n")
        .stderr("err\n")
        .run();
}

#[test]
fn the_status_is_the_containers() {
    let rbox = Rbox::with_busybox();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 125", 125),
        ("exit 255", 255),
        ("sh -c 'kill -9 $$'; exit $?", 137),
    ] {
        rbox.args(["run", "--rm", "busybox", "sh", "-c", script])
            .stderr_any()
            .status(status)
            .run();
    }
}

#[test]
fn arguments_after_the_image_are_untouched() {
    let rbox = Rbox::with_testinit();
    let args = ["args", "--rm", "-e", "", "a b", "--", "-it", "ä\n"];
    rbox.args(["run", "--rm", "testinit"])
        .args(args)
        .stdout("[\"--rm\", \"-e\", \"\", \"a b\", \"--\", \"-it\", \"ä\\n\"]\n")
        .run();
}

#[test]
fn standard_input_arrives_with_i_only() {
    let rbox = Rbox::with_testinit();
    rbox.args(["run", "--rm", "-i", "testinit", "cat"])
        .stdin("some\ninput")
        .stdout("some\ninput")
        .run();
    rbox.args(["run", "--rm", "testinit", "cat"])
        .stdin("some\ninput")
        .run();
}

#[test]
fn large_streams_arrive_whole() {
    let rbox = Rbox::with_testinit();
    let input: String = "another line\n".repeat(200_000);
    rbox.args(["run", "--rm", "-i", "testinit", "cat"])
        .stdin(input.clone())
        .stdout(input)
        .run();
    let output = rbox
        .args(["run", "--rm", "testinit", "output", "20"])
        .stdout_any()
        .run();
    assert_eq!(output.stdout.len(), 20 << 20);
}

#[test]
fn the_end_of_standard_input_ends_cat() {
    let rbox = Rbox::with_testinit();
    let mut call = rbox
        .args(["run", "--rm", "-i", "testinit", "cat"])
        .stdout("one\ntwo\n")
        .spawn();
    call.send("one\n");
    call.wait_for("one\n");
    call.send("two\n");
    call.wait_for("two\n");
    call.close_stdin();
    call.wait();
}

#[test]
fn a_background_child_does_not_keep_the_command_waiting() {
    Rbox::with_testinit()
        .args(["run", "--rm", "testinit", "children"])
        .stdout("parent ends\n")
        .run();
}

#[test]
fn environment_of_image_and_flags() {
    let rbox = Rbox::new();
    rbox.load("busybox:env");
    let output = rbox
        .args(["run", "--rm", "--name", "named"])
        .args([
            "-e",
            "A=1",
            "-e",
            "GREETING=bye",
            "-e",
            "FROM_HOST",
            "-e",
            "UNSET_ON_HOST",
        ])
        .args(["--env", "E=x=y", "busybox:env", "env"])
        .env("FROM_HOST", "host value")
        .stdout_any()
        .run()
        .stdout;
    let mut lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.starts_with("HOSTNAME="))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "A=1",
            "E=x=y",
            "EMPTY=",
            "FROM_HOST=host value",
            "GREETING=bye",
            "HOME=/root",
            "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
            "container=rbox",
        ]
    );
}

#[test]
fn working_directory_of_image_and_flag() {
    let rbox = Rbox::new();
    rbox.load("busybox:workdir");
    rbox.args(["run", "--rm", "busybox:workdir", "pwd"])
        .stdout("/srv/app\n")
        .run();
    rbox.args([
        "run",
        "--rm",
        "-w",
        "/made/for/it",
        "busybox:workdir",
        "pwd",
    ])
    .stdout("/made/for/it\n")
    .run();
    rbox.args(["run", "--rm", "--workdir=/tmp", "busybox:workdir", "pwd"])
        .stdout("/tmp\n")
        .run();
}

#[test]
fn an_empty_value_is_none() {
    let rbox = Rbox::new();
    rbox.load("busybox:workdir");
    let script = "pwd; test $HOSTNAME = $(hostname) && echo ${#HOSTNAME}; test -e /etc/localtime";
    rbox.args(["run", "-d", "--name", "c", "-w", "", "--hostname=", "--tz="])
        .args(["busybox:workdir", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["exec", "-w", "", "c", "sh", "-c", script])
        .stdout("/srv/app\n12\n")
        .status(1)
        .run();
    rbox.remove(&["c"]);
    // A name would not be the container's to set.
    rbox.args(["run", "--rm", "--uts=host", "--hostname="])
        .args(["busybox:workdir", "true"])
        .run();
}

#[test]
fn entrypoint_and_command_combine_as_dockers() {
    let rbox = Rbox::new();
    rbox.load("busybox:entry");
    let image = "busybox:entry";
    rbox.args(["run", "--rm", image])
        .stdout("entry cmd\n")
        .run();
    rbox.args(["run", "--rm", image, "other"])
        .stdout("entry other\n")
        .run();
    rbox.args(["run", "--rm", "--entrypoint", "/bin/pwd", image])
        .stdout("/\n")
        .run();
    rbox.args(["run", "--rm", "--entrypoint", "echo", image, "word"])
        .stdout("word\n")
        .run();
    rbox.args(["run", "--rm", "--entrypoint", "", image, "echo", "bare"])
        .stdout("bare\n")
        .run();
}

#[test]
fn user_of_image_and_flag() {
    let rbox = Rbox::new();
    rbox.load("busybox:user");
    for (flag, expected) in [
        (
            None,
            "uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)\n",
        ),
        (Some("root"), "uid=0(root) gid=0(root) groups=0(root)\n"),
        (Some("0:10"), "uid=0(root) gid=10(wheel) groups=10(wheel)\n"),
        // A user without a name gets one, as in Podman.
        (Some("1234"), "uid=1234(1234) gid=0(root) groups=0(root)\n"),
        (Some("1234:77"), "uid=1234(1234) gid=77(77) groups=77(77)\n"),
        (
            Some("alice:tty"),
            "uid=1000(alice) gid=5(tty) groups=5(tty)\n",
        ),
    ] {
        let mut call = rbox.args(["run", "--rm"]);
        if let Some(user) = flag {
            call = call.args(["-u", user]);
        }
        call.args(["busybox:user", "id"]).stdout(expected).run();
    }
    rbox.args([
        "run",
        "--rm",
        "busybox:user",
        "sh",
        "-c",
        "echo $HOME; touch ~/x && ls ~",
    ])
    .stdout("/home/alice\nx\n")
    .run();
}

#[test]
fn bind_mounts_of_directories_and_files() {
    let rbox = Rbox::with_busybox();
    let dir = rbox.work("shared");
    std::fs::create_dir(&dir).unwrap();
    rbox.own(&dir);
    rbox.write("shared/file", "host\n");
    let bind = format!("{}:/mnt", dir.display());
    rbox.args(["run", "--rm", "-v", &bind, "busybox", "sh", "-c"])
        .arg("cat /mnt/file; echo inside >/mnt/new; stat -c %u /mnt/file")
        .stdout("host\n0\n")
        .run();
    assert_eq!(
        std::fs::read_to_string(dir.join("new")).unwrap(),
        "inside\n"
    );
    rbox.args([
        "run",
        "--rm",
        "-v",
        &format!("{bind}:ro"),
        "busybox",
        "touch",
        "/mnt/x",
    ])
    .stderr("touch: /mnt/x: Read-only file system\n")
    .status(1)
    .run();
    let file = format!("{}/file:/etc/motd:ro", dir.display());
    rbox.args([
        "run",
        "--rm",
        "--volume",
        &file,
        "busybox",
        "cat",
        "/etc/motd",
    ])
    .stdout("host\n")
    .run();
}

#[test]
fn writes_stay_in_the_container() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "rm /etc/passwd; echo x >/etc/group",
    ])
    .run();
    rbox.args([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "cat /etc/passwd /etc/group | wc -l",
    ])
    .stdout("7\n")
    .run();
}

#[test]
fn signals_are_passed_on() {
    let rbox = Rbox::with_testinit();
    let call = rbox
        .args(["run", "--rm", "testinit", "trap"])
        .stdout("ready\nsignal 1\nsignal 10\nsignal 2\nlast signal 15\n")
        .status(7)
        .spawn();
    call.wait_for("ready");
    for (signal, text) in [
        (Signal::HUP, "signal 1\n"),
        (Signal::USR1, "signal 10\n"),
        (Signal::INT, "signal 2\n"),
    ] {
        call.signal(signal);
        call.wait_for(text);
    }
    call.signal(Signal::TERM);
    call.wait();
}

#[test]
fn killed_by_a_signal_is_128_and_its_number() {
    let rbox = Rbox::with_testinit();
    let call = rbox
        .args([
            "run", "--rm", "--name", "victim", "testinit", "sleep", "1000",
        ])
        .stdout("sleeping\n")
        .status(137)
        .spawn();
    call.wait_for("sleeping");
    rbox.args(["kill", "victim"]).stdout("victim\n").run();
    call.wait();
}

#[test]
fn networks_none_and_host() {
    let rbox = Rbox::with_busybox();
    for flag in [&[][..], &["--network", "default"], &["--network="]] {
        rbox.args(["run", "--rm"])
            .args(flag)
            .args(["busybox", "ls", "/sys/class/net"])
            .stdout("eth0\nlo\n")
            .run();
    }
    for flag in [&["--network", "none"][..], &["--net=none"]] {
        rbox.args(["run", "--rm"])
            .args(flag)
            .args([
                "busybox",
                "sh",
                "-c",
                "ls /sys/class/net; ip -o addr show lo | grep -o 'inet [^ ]*'",
            ])
            .stdout("lo\ninet 127.0.0.1/8\n")
            .run();
    }
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    rbox.args([
        "run",
        "--rm",
        "--network=host",
        "busybox",
        "readlink",
        "/proc/self/ns/net",
    ])
    .stdout(format!("{}\n", host.display()))
    .run();
}

#[test]
fn names_are_given_or_made() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "web.1_x-y", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["create", "busybox"]).stdout("[ID]\n").run();
    let names = rbox
        .args(["ps", "-a", "--format", "{{.Names}}"])
        .stdout_any()
        .run()
        .stdout;
    assert_eq!(names.lines().count(), 2, "{names}");
    assert!(names.lines().any(|name| name == "web.1_x-y"), "{names}");
    assert!(names.lines().all(|name| !name.is_empty()), "{names}");
    let names: Vec<&str> = names.lines().collect();
    rbox.remove(&names);
}

#[test]
fn the_hostname_is_the_short_id() {
    let rbox = Rbox::with_busybox();
    let id = rbox
        .args(["run", "-d", "--name", "host", "busybox", "hostname"])
        .stdout("[ID]\n")
        .run()
        .stdout;
    rbox.args(["wait", "host"]).stdout("0\n").run();
    let logged = rbox.args(["logs", "host"]).stdout("[ID]\n").run().stdout;
    assert_eq!(logged.trim(), &id[..12]);
    rbox.remove(&["host"]);
}

#[test]
fn h_is_the_hostname_and_help_has_no_letter() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "--rm", "-h", "web", "busybox", "hostname"])
        .stdout("web\n")
        .run();
    for command in ["run", "create"] {
        let help = rbox.args([command, "--help"]).stdout_any().run().stdout;
        let headings: Vec<&str> = help
            .lines()
            .filter(|line| line.ends_with(':') && !line.starts_with(' '))
            .collect();
        assert_eq!(
            headings,
            [
                "Arguments:",
                "Options:",
                "Command and process:",
                "Namespaces and networks:",
                "Environment:",
                "Names and addresses in /etc:",
                "Files and devices:",
                "Users and ids:",
                "Security:",
                "Log:",
                "Health check:",
                "Resource limits:",
                "Examples:"
            ],
            "{help}"
        );
    }
}

#[test]
fn orphans_are_reaped_or_at_least_end_with_the_container() {
    Rbox::with_testinit()
        .args(["run", "--rm", "testinit", "zombies", "50"])
        .stdout("orphaned 50\n")
        .run();
}

#[test]
fn twenty_containers_at_once() {
    let rbox = Rbox::with_busybox();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            rbox.args(["run", "--rm", "busybox", "echo", &n.to_string()])
                .stdout(format!("{n}\n"))
                .spawn()
        })
        .collect();
    for call in calls {
        call.wait();
    }
}

#[test]
fn a_long_runtime_directory_is_no_obstacle() {
    let rbox = Rbox::with_busybox();
    let long = rbox.dir().join("run").join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    rbox.own(&long);
    rbox.args(["run", "--rm", "busybox", "echo", "hi"])
        .env("XDG_RUNTIME_DIR", &long)
        .stdout("hi\n")
        .run();
    std::fs::remove_dir_all(&long).unwrap();
}

/// A program that first writes and then reads, with more of both than all buffers hold.
#[test]
fn input_waits_while_output_flows() {
    let script = "head -c 5000000 /dev/zero | tr '\\0' x; wc -c";
    let output = Rbox::with_busybox()
        .args(["run", "--rm", "-i", "busybox", "sh", "-c", script])
        .stdin(vec![b'y'; 6_000_000])
        .stdout_any()
        .run();
    assert_eq!(output.stdout.len(), 5_000_000 + "6000000\n".len());
    assert!(output.stdout.ends_with("6000000\n"));
}

#[test]
fn signals_pass_input_that_nobody_reads() {
    let rbox = Rbox::with_testinit();
    let mut call = rbox
        .args(["run", "--rm", "-i", "--name", "deaf", "testinit", "trap"])
        .stdout("ready\nsignal 1\nsignal 10\nlast signal 15\n")
        .status(7)
        .spawn();
    call.wait_for("ready");
    let mut stdin = call.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // Ends with EPIPE when the program ends.
        std::io::Write::write_all(&mut stdin, &vec![b'x'; 10 << 20]).ok();
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    call.signal(Signal::HUP);
    call.wait_for("signal 1\n");
    rbox.args(["kill", "-s", "USR1", "deaf"])
        .stdout("deaf\n")
        .run();
    call.wait_for("signal 10\n");
    call.signal(Signal::TERM);
    call.wait();
    writer.join().unwrap();
}

#[test]
fn short_flags_take_attached_values() {
    Rbox::with_busybox()
        .args(["run", "--rm", "-iu1000", "-eA=1", "-e=B=2", "-w/etc"])
        .args(["busybox", "sh", "-ceu", "id -u; echo $A $B; pwd"])
        .stdout("1000\n1 2\n/etc\n")
        .run();
}
