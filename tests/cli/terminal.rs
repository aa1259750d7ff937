//! `-t` through a real terminal: job control, resize, detaching, and the terminal given
//! back as it was.
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::tmux::Tmux;

/// A command that says when it is in the foreground.
const BUSY: &str = "sh -c 'echo begun; sleep 1000'";

/// A shell in a container with the prompt `box> `.
fn shell<'a>(rbox: &'a Rbox, flags: &str) -> Tmux<'a> {
    let tmux = Tmux::start(rbox);
    tmux.line(&format!("rbox run {flags} -it -e PS1='box> ' busybox sh"));
    tmux.wait_line("box>");
    tmux
}

#[test]
fn an_interactive_shell_has_a_terminal_of_its_own() {
    let rbox = Rbox::with_busybox();
    let tmux = shell(&rbox, "--rm");
    tmux.line("tty");
    tmux.wait_line("/dev/pts/0");
    tmux.line("stty size");
    tmux.wait_line("24 80");
    tmux.line("echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all-tty");
    tmux.wait_line("xterm");
    tmux.wait_line("all-tty");
    tmux.line("exit 5");
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
    tmux.line("echo status $?");
    tmux.wait_line("status 5");
}

#[test]
fn job_control_works() {
    let rbox = Rbox::with_busybox();
    let tmux = shell(&rbox, "--rm");
    tmux.line(BUSY);
    tmux.wait_line("begun");
    tmux.keys(&["C-z"]);
    tmux.wait("Stopped");
    tmux.line("jobs");
    tmux.wait("[1]+  Stopped");
    tmux.line("fg");
    // The shell gives the terminal away a moment after it has printed the command.
    std::thread::sleep(Duration::from_millis(300));
    tmux.keys(&["C-c"]);
    tmux.wait_until("the end", |screen| screen.ends_with("box>"));
    tmux.keys(&["C-d"]);
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
}

#[test]
fn the_window_size_follows() {
    let rbox = Rbox::with_testinit();
    let tmux = Tmux::start(&rbox);
    tmux.line("rbox run --rm -it testinit trap");
    tmux.wait_line("ready");
    tmux.resize(100, 30);
    tmux.wait_line("size 30 100");
    tmux.resize(61, 17);
    tmux.wait_line("size 17 61");
    // The key of SIGQUIT, which only a terminal with signal keys turns into the signal.
    tmux.keys(&["C-\\"]);
    tmux.wait("last signal 3");
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
}

#[test]
fn ctrl_p_ctrl_q_detaches() {
    let rbox = Rbox::with_busybox();
    let tmux = shell(&rbox, "--name held");
    tmux.line("echo in$((1+1))side");
    tmux.wait_line("in2side");
    tmux.keys(&["C-p", "C-q"]);
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
    tmux.line("rbox ps --format '{{.Names}} is {{.State}}'");
    tmux.wait_line("held is running");
    tmux.line("rbox exec held echo reached");
    tmux.wait_line("reached");
    rbox.remove(&["held"]);
}

#[test]
fn ctrl_p_alone_goes_to_the_shell() {
    let rbox = Rbox::with_busybox();
    let tmux = shell(&rbox, "--rm");
    tmux.line("echo o$((0))ne");
    tmux.wait_line("o0ne");
    // The shell's "previous line", then Enter.
    tmux.keys(&["C-p", "Enter"]);
    tmux.wait_until("twice", |screen| {
        screen.lines().filter(|line| *line == "o0ne").count() == 2
    });
    tmux.line("exit");
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
}

#[test]
fn the_terminal_is_given_back_as_it_was() {
    let rbox = Rbox::with_busybox();
    let tmux = Tmux::start(&rbox);
    tmux.line("stty -g >before; rbox run --rm -it busybox stty -echo; stty -g >after; cmp before after && echo same-settings");
    tmux.wait_line("same-settings");
    tmux.line(
        "rbox run --rm -it busybox nosuch; stty -g >after; cmp before after && echo same-again",
    );
    tmux.wait_line("same-again");
    tmux.line("rbox run --rm -it --name victim busybox sleep 1000");
    let deadline = Instant::now() + Duration::from_secs(20);
    while rbox.args(["ps", "-q"]).stdout_any().run().stdout.is_empty() {
        assert!(Instant::now() < deadline);
    }
    rbox.remove(&["victim"]);
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
    tmux.line("stty -g >after; cmp before after && echo same-still");
    tmux.wait_line("same-still");
}

#[test]
fn exec_t_has_a_terminal_too() {
    let rbox = Rbox::with_busybox();
    rbox.sleeper("c");
    let tmux = Tmux::start(&rbox);
    tmux.line("rbox exec -it -e PS1='box> ' c sh");
    tmux.wait_line("box>");
    tmux.line("tty; stty size");
    tmux.wait("/dev/pts/");
    tmux.wait_line("24 80");
    tmux.resize(90, 20);
    tmux.line("stty size");
    tmux.wait_line("20 90");
    tmux.line(BUSY);
    tmux.wait_line("begun");
    tmux.keys(&["C-c"]);
    tmux.wait_until("the end", |screen| screen.ends_with("box>"));
    tmux.line("echo after=$?");
    tmux.wait_line("after=130");
    tmux.line("exit 3");
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
    tmux.line("echo status $?");
    tmux.wait_line("status 3");
    rbox.remove(&["c"]);
}

#[test]
fn ctrl_c_ends_a_container_without_terminal() {
    let rbox = Rbox::with_testinit();
    let tmux = Tmux::start(&rbox);
    tmux.line("rbox run --rm testinit trap");
    tmux.wait_line("ready");
    tmux.keys(&["C-c"]);
    tmux.wait("signal 2");
    tmux.keys(&["C-\\"]);
    tmux.wait("last signal 3");
    tmux.wait_until("host prompt", |screen| screen.ends_with("host>"));
}

#[test]
fn t_without_a_terminal_still_gives_one_inside() {
    Rbox::with_testinit()
        .args(["run", "--rm", "-t", "testinit", "tty"])
        .stdout_has("tty 1 1 1\r\n")
        .stderr_any()
        .run();
}
