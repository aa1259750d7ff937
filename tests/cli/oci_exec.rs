//! `rbox oci exec`, terminals, and what callers get and give beside the container: pids, descriptors, agents.
use std::io::IoSliceMut;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;
use crate::support::skip::skip;

/// What the first caller of this socket sends: bytes, and a descriptor.
fn listen(rbox: &Rbox, path: &Path) -> JoinHandle<(String, OwnedFd)> {
    let listener = UnixListener::bind(path).unwrap();
    rbox.own(path);
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let text = String::from_utf8(bytes[..received.bytes].to_vec()).unwrap();
        (text, fd.expect("a descriptor comes beside it"))
    })
}

/// All that is written to a terminal until its last slave is closed.
fn read_terminal(master: OwnedFd) -> String {
    let mut master = std::fs::File::from(master);
    let mut text = Vec::new();
    // Linux: EIO is the end of it.
    let end = master.read_to_end(&mut text).unwrap_err();
    assert_eq!(end.raw_os_error(), Some(5));
    String::from_utf8(text).unwrap()
}

#[test]
fn exec_has_the_process_of_the_container_and_what_is_said_otherwise() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    bundle.config["process"]["env"] = json!(["PATH=/bin:/", "A=1", "B=1"]);
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    bundle.create("one");
    let refused = "only root can exec in a container that is not started\n";
    bundle
        .oci(["exec", "one", "id", "-u"])
        .stderr(refused)
        .status(255)
        .run();
    bundle.start("one");
    bundle
        .oci(["exec", "one", "sh", "-c", "ulimit -n; exit 9"])
        .stdout("100\n")
        .status(9)
        .run();
    bundle
        .oci(["exec", "one", "cat"])
        .stdin("in")
        .stdout("in")
        .run();
    let env = [
        "exec", "--env", "B=2", "-e", "C=3", "--cwd", "/tmp", "one", "env",
    ];
    bundle
        .oci(env)
        .stdout("PATH=/bin:/\nA=1\nB=2\nC=3\nHOME=/root\nPWD=/tmp\n".replace("PWD=/tmp\n", ""))
        .run();
    let ids = |uid: &str, gid: &str, groups: &str, effective: &str, bounding: &str| {
        let none = "0000000000000000";
        format!(
            "Uid {uid} {uid} {uid} {uid}\nGid {gid} {gid} {gid} {gid}\nGroups{groups}\nCapInh {none}\nCapPrm {effective}\n\
             CapEff {effective}\nCapBnd {bounding}\nCapAmb {none}\nNoNewPrivs 1\nSeccomp 0\n"
        )
    };
    bundle
        .oci(["exec", "one", "/init", "id"])
        .stdout(ids("0", "0", " ", "00000000000000e1", "00000000000000e1"))
        .run();
    bundle
        .oci([
            "exec",
            "-u",
            "7:8",
            "-g",
            "9",
            "-g",
            "10",
            "--cap",
            "CAP_SYS_ADMIN",
            "one",
            "/init",
            "id",
        ])
        .stdout(ids(
            "7",
            "8",
            " 9 10",
            "0000000000000000",
            "00000000002000e1",
        ))
        .run();
    let process = rbox.write(
        "process.json",
        json!({"args": ["sh", "-c", "pwd; id -u"], "cwd": "/etc", "user": {"uid": 5, "gid": 5}})
            .to_string(),
    );
    bundle
        .oci(["exec", "--process"])
        .arg(process)
        .arg("one")
        .stdout_any()
        .stderr_any()
        .status_any()
        .run();
    for (command, said) in [
        (
            "nosuch",
            "exec: \"nosuch\": executable file not found in $PATH: cannot execute \"nosuch\": no such command in PATH /bin:/",
        ),
        (
            "/etc/passwd",
            "exec: \"/etc/passwd\": permission denied: cannot execute \"/etc/passwd\": Permission denied (os error 13)",
        ),
    ] {
        bundle
            .oci(["exec", "one", command])
            .stderr(format!("{said}\n"))
            .status(255)
            .run();
    }
    bundle
        .oci(["exec", "one"])
        .stderr("missing COMMAND, or --process FILE\n")
        .status(255)
        .run();
    bundle.delete("one");
}

#[test]
fn root_executes_in_a_container_that_is_not_started() {
    let Some(rbox) = Rbox::as_root() else { return };
    let bundle = Bundle::new(&rbox);
    bundle.create("one");
    bundle.oci(["exec", "one", "id", "-u"]).stdout("0\n").run();
    assert_eq!(bundle.state("one")["status"], "created");
    bundle.delete("one");
}

#[test]
fn a_detached_exec_leaves_its_pid() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    bundle.create("one");
    bundle.start("one");
    let file = rbox.work("pid");
    bundle
        .leaving(["exec", "-d", "--pid-file"])
        .arg(&file)
        .args(["one", "sleep", "999"])
        .run();
    let pid = std::fs::read_to_string(&file).unwrap();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, b"sleep\0999\0");
    let init = bundle.state("one")["pid"].to_string();
    let listed = bundle
        .oci(["ps", "--format", "json", "one"])
        .stdout_any()
        .run()
        .stdout;
    let listed: Vec<i32> = serde_json::from_str(&listed).unwrap();
    let expected: [i32; 2] = [init.parse().unwrap(), pid.parse().unwrap()];
    assert_eq!(listed, expected);
    let table = bundle
        .oci(["ps", "one", "-o", "pid,args"])
        .stdout_any()
        .run()
        .stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["PID", "COMMAND"],
            vec![&init, "sleep", "1000"],
            vec![&pid, "sleep", "999"]
        ]
    );
    bundle.delete("one");
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    for rbox in [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten() {
        let mut bundle =
            Bundle::new(&rbox).command(&["sh", "-c", "tty; stty size; ls /dev/console; sleep 1"]);
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["consoleSize"] = json!({"height": 20, "width": 30});
        bundle.write();
        let path = rbox.work("console");
        let heard = listen(&rbox, &path);
        let create = |socket: Option<&Path>| {
            let call = bundle.oci(["create", "-b"]).arg(&bundle.dir);
            let call = match socket {
                Some(path) => call.arg("--console-socket").arg(path),
                None => call,
            };
            call.arg("one")
        };
        create(None)
            .stderr("process.terminal is true and nobody here would hold the terminal: expected --console-socket\n")
            .status(1)
            .run();
        create(Some(&path)).run();
        let (_, master) = heard.join().unwrap();
        bundle.start("one");
        assert_eq!(
            read_terminal(master),
            "/dev/pts/0\r\n20 30\r\n/dev/console\r\n"
        );
        bundle.delete("one");
        bundle.config["process"]["terminal"] = json!(false);
        bundle.write();
        bundle
            .oci(["create", "--console-socket", "/nowhere", "-b"])
            .arg(&bundle.dir)
            .arg("one")
            .stderr("--console-socket is given and process.terminal is not true\n")
            .status(1)
            .run();
    }
}

#[test]
fn exec_takes_a_terminal_too() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox);
    bundle.create("one");
    bundle.start("one");
    let path = rbox.work("console");
    let heard = listen(&rbox, &path);
    let call = bundle
        .oci(["exec", "-d", "-t", "--console-socket"])
        .arg(&path);
    call.args(["one", "sh", "-c", "tty; sleep 1"]).run();
    assert_eq!(read_terminal(heard.join().unwrap().1), "/dev/pts/0\r\n");
    // In the foreground we hold it.
    bundle
        .oci(["exec", "-t", "one", "sh", "-c", "tty; exit 3"])
        .stdout_has("/dev/pts/")
        .status(3)
        .run();
    bundle.delete("one");
}

#[test]
fn descriptors_are_given_where_they_are_asked_for() {
    let rbox = Rbox::new();
    let bundle = Bundle::new(&rbox).command(&["/init", "fds"]);
    bundle.write();
    let dir = bundle.dir.clone();
    let root = bundle.root();
    let run = |before: &str, options: &str| {
        let script = format!(
            "exec 3</etc/passwd 4</dev/zero 5</dev/full; {before} \
             exec \"$0\" oci --root \"$1\" run {options} -b \"$2\" one"
        );
        rbox.program("sh")
            .args(["-c", &script])
            .arg(rbox.program_path())
            .arg(&root)
            .arg(&dir)
    };
    let (none, two) = ("0 pipe\n1 pipe\n2 pipe\n", "3 /etc/passwd\n4 char 1:5\n");
    run("", "").stdout(none).run();
    run("", "--preserve-fds 2")
        .stdout(format!("{none}{two}"))
        .run();
    run("", "--preserve-fds=4")
        .stderr("descriptor 6 is to be preserved and is not open\n")
        .status(1)
        .run();
    let listening = "export LISTEN_FDS=1 LISTEN_PID=$$;";
    run(listening, "--preserve-fds=1")
        .stdout(format!("{none}{two}"))
        .run();
    // Those of somebody else are not ours.
    run("export LISTEN_FDS=1 LISTEN_PID=1;", "")
        .stdout(none)
        .run();
    let bundle = bundle.command(&["env"]);
    bundle.write();
    run(listening, "")
        .stdout("PATH=/bin:/\nLISTEN_FDS=1\nLISTEN_PID=1\nHOME=/root\n")
        .run();
}

#[test]
fn an_agent_gets_the_listener_with_the_state() {
    let rbox = Rbox::new();
    for no_new_privileges in [true, false] {
        let mut bundle =
            Bundle::new(&rbox).command(&["sh", "-c", "hostname other; exec sleep 1000"]);
        let path = rbox.work("agent");
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["annotations"] = json!({"a": "b"});
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "what it is for",
            "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]
        });
        let heard = listen(&rbox, &path);
        bundle.create("one");
        let pid = &bundle.state("one")["pid"];
        bundle.start("one");
        // Linux: with the listener closed the call is answered with ENOSYS.
        let (text, listener) = heard.join().unwrap();
        drop(listener);
        let state: Value = serde_json::from_str(&text).unwrap();
        let status = if no_new_privileges {
            "created"
        } else {
            "creating"
        };
        let expected = json!({
            "ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": pid, "metadata": "what it is for",
            "state": {
                "ociVersion": "1.0.2", "id": "one", "status": status, "pid": pid, "bundle": bundle.dir,
                "annotations": {"a": "b"}
            }
        });
        assert_eq!(state, expected);
        for _ in 0..200 {
            if !bundle.said().is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(
            bundle.said(),
            "hostname: sethostname: Function not implemented\n"
        );
        std::fs::remove_file(&path).unwrap();
        let heard = listen(&rbox, &path);
        bundle.oci(["exec", "one", "true"]).run();
        let (text, _) = heard.join().unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["state"]["status"], "running");
        assert_eq!(&state["state"]["pid"], pid);
        assert_ne!(&state["pid"], pid);
        bundle.delete("one");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn a_container_has_its_group_and_stands_still_in_it() {
    let Some(rbox) = Rbox::as_root() else { return };
    let mut bundle = Bundle::new(&rbox);
    let Some(group) = bundle.group() else {
        skip("there is no tree of control groups of version 2");
        return;
    };
    let name = group.file_name().unwrap().to_str().unwrap();
    bundle.create("one");
    let pid = bundle.state("one")["pid"].to_string();
    let own = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("0::"));
        line.unwrap().to_owned()
    };
    assert_eq!(own(&pid), format!("/{name}"));
    bundle
        .oci(["create", "-b"])
        .arg(&bundle.dir)
        .arg("two")
        .stderr(format!(
            "control group {} has processes of others: expected one of its own for the container\n",
            group.display()
        ))
        .status(1)
        .run();
    bundle.start("one");
    let inside = bundle.oci(["exec", "one", "cat", "/proc/self/cgroup"]);
    let inside = inside.stdout_any().run().stdout;
    assert!(inside.lines().any(|line| line == "0::/"), "{inside}");
    bundle.oci(["pause", "one"]).run();
    assert_eq!(bundle.state("one")["status"], "paused");
    bundle
        .oci(["exec", "one", "true"])
        .stderr("cannot exec in a paused container (use --ignore-paused to override)\n")
        .status(255)
        .run();
    bundle
        .oci(["pause", "one"])
        .stderr("cannot pause a container that is paused\n")
        .status(1)
        .run();
    let waits = bundle.oci(["exec", "--ignore-paused", "one", "echo", "thawed"]);
    let waits = waits.stdout("thawed\n").spawn();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(waits.stdout.so_far(), "");
    bundle.oci(["resume", "one"]).run();
    waits.wait();
    assert_eq!(bundle.state("one")["status"], "running");
    bundle.leaving(["exec", "-d", "one", "sleep", "999"]).run();
    bundle.oci(["kill", "--all", "one", "KILL"]).run();
    bundle.wait_status("one", "stopped");
    bundle.oci(["delete", "one"]).run();
    assert!(!group.exists());
}

/// Linux: with its first process nothing else ends where the container has no process namespace of its own.
#[test]
fn processes_that_stay_behind_end_with_the_container() {
    let Some(rbox) = Rbox::as_root() else { return };
    let mut bundle =
        Bundle::new(&rbox).command(&["sh", "-c", "sleep 998 & sleep 997 & exec sleep 1000"]);
    if bundle.group().is_none() {
        skip("there is no tree of control groups of version 2");
        return;
    }
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.create("one");
    bundle.start("one");
    bundle.oci(["kill", "one", "KILL"]).run();
    rbox.assert_no_processes();
    bundle.oci(["delete", "one"]).run();
    // A signal that it can take leaves the others to delete.
    bundle.create("one");
    bundle.start("one");
    bundle.oci(["kill", "one", "TERM"]).run();
    bundle.wait_status("one", "stopped");
    bundle.oci(["delete", "one"]).run();
    rbox.assert_no_processes();
}
