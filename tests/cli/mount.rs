//! `mount` and `unmount`: the files of a container by a path of the host.
use crate::support::Rbox;

fn everybody() -> Vec<Rbox> {
    let all = [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()];
    let all: Vec<Rbox> = all.into_iter().flatten().collect();
    for rbox in &all {
        rbox.load("busybox");
    }
    all
}

fn mount(rbox: &Rbox, name: &str) -> String {
    let path = rbox.args(["mount", name]).stdout_any().run().stdout;
    path.trim().to_owned()
}

/// A script on the host, as the user.
fn host(rbox: &Rbox, script: &str) -> String {
    let call = rbox.program("sh").args(["-ec", script]);
    call.stdout_any().run().stdout
}

#[test]
fn files_of_stopped_containers_are_read_and_written() {
    for rbox in everybody() {
        rbox.args(["create", "--name", "box", "busybox", "cat", "/new"])
            .stdout("[ID]\n")
            .run();
        let path = mount(&rbox, "box");
        assert_eq!(
            host(&rbox, &format!("echo one >{path}/new; ls {path}/bin/cat")),
            format!("{path}/bin/cat\n")
        );
        // A visit is no start.
        rbox.args(["ps", "-a", "--format", "{{.Status}}"])
            .stdout("Created\n")
            .run();
        rbox.args(["cp", "box:/new", "-"]).stdout_has("one").run();
        let busy = "its files are mounted\nHint: unmount it with `rbox unmount box`\n";
        for verb in ["start", "remove"] {
            let word = if verb == "remove" { "rm" } else { verb };
            rbox.args([word, "box"])
                .stderr(format!("Error: cannot {verb} container \"box\": {busy}"))
                .status_any()
                .run();
        }
        assert_eq!(mount(&rbox, "box"), path);
        let listed = rbox.args(["mount"]).stdout_any().run().stdout;
        assert!(listed.trim_end().ends_with(&path), "{listed}");
        // Mounted twice.
        for _ in 0..2 {
            rbox.args(["unmount", "box"]).stdout("box\n").run();
        }
        rbox.args(["umount", "box"])
            .stderr("Error: cannot unmount container \"box\": it is not mounted\n")
            .status(125)
            .run();
        rbox.assert_no_processes();
        rbox.args(["start", "--attach", "box"])
            .stdout("one\n")
            .run();
        mount(&rbox, "box");
        mount(&rbox, "box");
        rbox.args(["unmount", "--force", "box"])
            .stdout("box\n")
            .run();
        mount(&rbox, "box");
        rbox.args(["rm", "-f", "box"]).stdout("box\n").run();
    }
}

#[test]
fn a_container_that_runs_is_mounted() {
    for rbox in everybody() {
        rbox.sleeper("box");
        let path = mount(&rbox, "box");
        assert_eq!(
            host(&rbox, &format!("ls {path}/bin/cat")),
            format!("{path}/bin/cat\n")
        );
        rbox.args(["unmount", "box"])
            .stderr("Error: cannot unmount container \"box\": it is running, and its files are mounted for as long as it does\n")
            .status(125)
            .run();
        rbox.remove(&["box"]);
    }
}

#[test]
fn what_holds_the_files_may_be_killed() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "box", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    let path = mount(&rbox, "box");
    let pid: i32 = path
        .trim_start_matches("/proc/")
        .trim_end_matches("/root")
        .parse()
        .unwrap();
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    let mut ended = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut ended, None).unwrap();
    rbox.args(["mount"]).run();
    rbox.args(["start", "-a", "box"]).run();
    rbox.args(["rm", "box"]).stdout("box\n").run();
}
