//! What a service manager hears of a container, and what it gives to it: the real protocols of
//! sd_notify(3) and sd_listen_fds(3), with the test as the manager.
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;

use crate::support::Rbox;

/// The manager's end.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(rbox: &Rbox) -> Manager {
        let path = rbox.dir().join("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let manager = Manager { socket, path };
        manager.patience(Duration::from_secs(10));
        manager
    }

    fn patience(&self, time: Duration) {
        self.socket.set_read_timeout(Some(time)).unwrap();
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 8192];
        let length = self.socket.recv(&mut buffer).expect("no message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn hears_nothing(&self) {
        self.patience(Duration::from_millis(300));
        assert!(self.socket.recv(&mut [0; 64]).is_err());
        self.patience(Duration::from_secs(10));
    }
}

/// What a program of the container sees as /dev/notify.
struct Inside {
    dir: std::fs::File,
    socket: UnixDatagram,
}

impl Inside {
    fn of(rbox: &Rbox, name: &str) -> Inside {
        let id = rbox.args(["inspect", "--format", "{{.Id}}", name]);
        let id = id.stdout_any().run().stdout;
        let run = rbox.dir().join("run/rbox/containers").join(id.trim_end());
        Inside {
            dir: std::fs::File::open(run).unwrap(),
            socket: UnixDatagram::unbound().unwrap(),
        }
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}/notify", self.dir.as_raw_fd())
    }

    fn say(&self, message: &str) {
        self.socket
            .send_to(message.as_bytes(), self.path())
            .unwrap();
    }

    /// As sd_notify_barrier(3): whether the descriptor beside the message is closed there.
    fn barrier(&self, message: &str) {
        let (reader, writer) = std::io::pipe().unwrap();
        self.socket.connect(self.path()).unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [writer.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [std::io::IoSlice::new(message.as_bytes())];
        rustix::net::sendmsg(&self.socket, &bytes, &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        let mut fds = [rustix::event::PollFd::new(
            &reader,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
    }
}

#[test]
fn the_supervisor_says_that_the_container_runs() {
    let rbox = Rbox::with_busybox();
    let manager = Manager::new(&rbox);
    let pid = rbox.work("pid");
    let script = "echo \"[$NOTIFY_SOCKET]\"; ls /dev/notify; sleep 1000";
    rbox.args(["run", "-d", "--name", "c", "--sdnotify=conmon"])
        .args(["--env-host", "--conmon-pidfile"])
        .arg(&pid)
        .args(["busybox", "sh", "-c", script])
        .env("NOTIFY_SOCKET", &manager.path)
        .stdout_any()
        .run();
    let pid = std::fs::read_to_string(pid).unwrap();
    assert_eq!(manager.hear(), format!("MAINPID={pid}\nREADY=1\n"));
    rbox.args(["logs", "c"])
        .stdout("[]\n")
        .stderr("ls: /dev/notify: No such file or directory\n")
        .run();
    manager.hears_nothing();
    rbox.remove(&["c"]);
    // Who stays is the manager's process already.
    rbox.args(["run", "--rm", "--sdnotify=conmon", "busybox", "true"])
        .env("NOTIFY_SOCKET", &manager.path)
        .run();
    assert_eq!(manager.hear(), "READY=1\n");
    manager.hears_nothing();
}

#[test]
fn a_container_speaks_over_its_own_socket_and_for_itself_alone() {
    let rbox = Rbox::with_busybox();
    let manager = Manager::new(&rbox);
    let script =
        "echo $NOTIFY_SOCKET $WATCHDOG_USEC $WATCHDOG_PID; stat -c '%A %u' /dev/notify; sleep 1000";
    rbox.args([
        "run", "-d", "--name", "c", "-u", "1234", "busybox", "sh", "-c", script,
    ])
    .env("NOTIFY_SOCKET", &manager.path)
    .env("WATCHDOG_USEC", "5000000")
    .stdout_any()
    .run();
    assert!(manager.hear().starts_with("MAINPID="));
    // That it runs is not that it is ready.
    manager.hears_nothing();
    rbox.args(["logs", "c"])
        .stdout("/dev/notify 5000000\nsrw-rw-rw- 0\n")
        .run();
    let inside = Inside::of(&rbox, "c");
    inside.say("READY=1\nMAINPID=1\nSTATUS=it \x1b[2Jserves\n");
    assert_eq!(manager.hear(), "READY=1\nSTATUS=it [2Jserves\n");
    inside.say("FDSTORE=1\nFDNAME=x\nNOTIFYACCESS=all\nMAINPID=1");
    inside.say(&"x".repeat(100_000));
    inside.say("WATCHDOG=1");
    assert_eq!(manager.hear(), "WATCHDOG=1\n");
    inside.barrier("BARRIER=1");
    inside.barrier("FDSTORE=1\nSTOPPING=1");
    assert_eq!(manager.hear(), "STOPPING=1\n");
    manager.hears_nothing();
    rbox.remove(&["c"]);
}

#[test]
fn who_tells_is_chosen_and_nothing_leaks() {
    let rbox = Rbox::with_busybox();
    let manager = Manager::new(&rbox);
    let show = [
        "busybox",
        "sh",
        "-c",
        "env | grep -c -e NOTIFY -e WATCHDOG -e LISTEN",
    ];
    rbox.args(["run", "--rm", "--sdnotify=ignore", "--env-host"])
        .args(show)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .stdout("0\n")
        .status(1)
        .run();
    manager.hears_nothing();
    // What it was created with holds, unless the start says otherwise.
    rbox.args([
        "create",
        "--name",
        "c",
        "--sdnotify=conmon",
        "busybox",
        "true",
    ])
    .stdout_any()
    .run();
    let start = |flags: &[&str]| {
        rbox.args(["start", "--attach", "c"])
            .args(flags)
            .env("NOTIFY_SOCKET", &manager.path)
            .run();
    };
    start(&[]);
    assert_eq!(manager.hear(), "READY=1\n");
    start(&["--sdnotify=ignore"]);
    manager.hears_nothing();
    rbox.remove(&["c"]);
}

#[test]
fn a_manager_has_an_abstract_address_too() {
    let rbox = Rbox::with_busybox();
    let name = format!("rbox-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    rbox.args(["run", "--rm", "--sdnotify=conmon", "busybox", "true"])
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .run();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1\n");
    rbox.args(["run", "--rm", "--name", "c", "busybox", "true"])
        .env("NOTIFY_SOCKET", "vsock:2:1")
        .stderr("Error: cannot start container \"c\": NOTIFY_SOCKET=\"vsock:2:1\": expected an absolute path or @NAME\nHint: `--sdnotify ignore` does without it\n")
        .status(125)
        .run();
    rbox.args(["run", "--sdnotify=perhaps", "busybox"])
        .stderr_has("--sdnotify=\"perhaps\": expected container, conmon, healthy or ignore")
        .status(125)
        .run();
    // A manager that is gone is no reason not to run.
    rbox.args(["run", "--rm", "busybox", "echo", "it runs"])
        .env("NOTIFY_SOCKET", "/nowhere/notify")
        .stdout("it runs\n")
        .run();
}

#[test]
fn healthy_is_ready() {
    let rbox = Rbox::with_busybox();
    let manager = Manager::new(&rbox);
    rbox.args(["create", "--sdnotify=healthy", "busybox"])
        .stderr("Error: cannot create container: --sdnotify=\"healthy\": the container has no health check\nHint: give one by --health-cmd, or use `--sdnotify conmon`\n")
        .status(125)
        .run();
    rbox.args(["run", "-d", "--name", "c", "--sdnotify=healthy"])
        .args([
            "--health-cmd",
            "test -e /ready",
            "--health-interval",
            "200ms",
        ])
        .args(["--health-retries", "1000", "busybox", "sleep", "1000"])
        .env("NOTIFY_SOCKET", &manager.path)
        .stdout_any()
        .run();
    assert!(manager.hear().starts_with("MAINPID="));
    manager.hears_nothing();
    rbox.args(["exec", "c", "touch", "/ready"]).run();
    assert_eq!(manager.hear(), "READY=1\n");
    rbox.args([
        "exec",
        "c",
        "sh",
        "-c",
        "rm /ready; sleep 0.5; touch /ready",
    ])
    .run();
    manager.hears_nothing();
    rbox.remove(&["c"]);
}

/// Runs rbox as the process that a manager has started with two sockets, here files.
fn activated(rbox: &Rbox, words: &str) -> String {
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin exec {} {words} 3</etc/passwd 4</etc/group 5</dev/null",
        rbox.program_path().display()
    );
    let call = rbox.program("sh").args(["-c", &script]);
    call.stdout_any().run().stdout
}

const LISTEN: &str = "sh -c 'echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES; head -c4 <&3; head -c4 <&4; [ -e /proc/self/fd/5 ] || echo' ";

#[test]
fn sockets_of_activation_arrive_under_the_pid_of_the_command() {
    let rbox = Rbox::with_busybox();
    for (flags, expected) in [
        ("", "1 1 2 web:admin\n"),
        ("--init", "2 2 2 web:admin\n"),
        ("--preserve-fds 2", "1 1 2 web:admin\n"),
    ] {
        let said = activated(&rbox, &format!("run --rm {flags} busybox {LISTEN}"));
        assert_eq!(said, format!("{expected}rootroot\n"), "{flags}");
    }
    let said = activated(&rbox, &format!("run --rm --pid host busybox {LISTEN}"));
    let pids: Vec<&str> = said.split(' ').take(2).collect();
    assert!(pids[0] == pids[1] && pids[0] != "1", "{said}");
    rbox.args([
        "create",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "echo $LISTEN_PID $LISTEN_FDS",
    ])
    .stdout_any()
    .run();
    assert_eq!(activated(&rbox, "start --attach c"), "1 2\n");
    // Those of somebody else are not ours.
    rbox.args(["start", "--attach", "c"])
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "2")
        .stdout("\n")
        .run();
    rbox.remove(&["c"]);
}
