//! A real terminal around rbox: tmux with a server of its own for each test.
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use super::rbox::Rbox;

const LIMIT: Duration = Duration::from_secs(20);

pub struct Tmux<'a> {
    rbox: &'a Rbox,
}

impl<'a> Tmux<'a> {
    /// A shell with the prompt `host> ` in a terminal of 80 columns and 24 rows; `rbox`
    /// is a function in it that runs the program under test.
    pub fn start(rbox: &'a Rbox) -> Self {
        let tmux = Self { rbox };
        let profile = format!(
            "PS1='host> '\nrbox() {{ {} \"$@\"; }}\n",
            rbox.program_path().display()
        );
        let profile = rbox.write("profile", profile);
        rbox.write(
            "tmux.conf",
            "set -g default-terminal screen\nset -g status off\nset -g prefix None\n\
             set -g escape-time 0\n",
        );
        let shell = format!("env ENV={} /bin/sh -i", profile.display());
        let out = tmux.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &shell]);
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        tmux.wait("host>");
        tmux
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let dir = self.rbox.dir().join("work");
        let mut command: Command = self.rbox.command("tmux".as_ref());
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("-S")
            .arg(dir.join("tmux.sock"))
            .arg("-f")
            .arg(dir.join("tmux.conf"))
            .args(args);
        command.output().expect("tmux is installed")
    }

    /// Types keys by tmux's names: `C-c`, `Enter`, `a`.
    pub fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        assert!(self.tmux(&args).status.success());
    }

    /// Types a line and Enter.
    pub fn line(&self, text: &str) {
        assert!(self.tmux(&["send-keys", "-l", text]).status.success());
        self.keys(&["Enter"]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let out = self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
        assert!(out.status.success());
    }

    /// What the terminal shows, without blanks at line ends and empty lines at the end.
    pub fn screen(&self) -> String {
        let out = self.tmux(&["capture-pane", "-p"]);
        let text = String::from_utf8_lossy(&out.stdout);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    #[track_caller]
    pub fn wait(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    #[track_caller]
    pub fn wait_until(&self, awaited: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(
                Instant::now() < deadline,
                "waited for {awaited:?}, the terminal shows:\n{screen}\n{}",
                self.rbox.diagnostics()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits for a line that is exactly `text`.
    #[track_caller]
    pub fn wait_line(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.lines().any(|line| line == text))
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
