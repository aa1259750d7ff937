//! One call of a program, with everything it prints and its exit status asserted. By
//! default nothing may be printed and the status is 0.
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use super::filter;
use super::processes;
use super::rbox::Rbox;

/// Far more than any call needs on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

enum Expected {
    Exactly(String),
    Containing(Vec<String>),
    Anything,
}

pub struct Call<'a> {
    rbox: &'a Rbox,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    stdout: Expected,
    stderr: Expected,
    status: Option<i32>,
    limit: Duration,
}

/// What the call printed, unfiltered.
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

impl<'a> Call<'a> {
    pub fn new(rbox: &'a Rbox, program: &OsStr) -> Self {
        Self {
            rbox,
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            stdout: Expected::Exactly(String::new()),
            stderr: Expected::Exactly(String::new()),
            status: Some(0),
            limit: LIMIT,
        }
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Given as standard input, which then ends. Without it: nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// All of standard output, after the filters.
    pub fn stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = Expected::Exactly(text.into());
        self
    }

    pub fn stdout_has(mut self, text: impl Into<String>) -> Self {
        self.stdout = self.stdout.and(text.into());
        self
    }

    pub fn stdout_any(mut self) -> Self {
        self.stdout = Expected::Anything;
        self
    }

    /// All of standard error, after the filters.
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr = Expected::Exactly(text.into());
        self
    }

    pub fn stderr_has(mut self, text: impl Into<String>) -> Self {
        self.stderr = self.stderr.and(text.into());
        self
    }

    pub fn stderr_any(mut self) -> Self {
        self.stderr = Expected::Anything;
        self
    }

    /// The exit status; 128+n also stands for death by signal n.
    pub fn status(mut self, status: i32) -> Self {
        self.status = Some(status);
        self
    }

    pub fn status_any(mut self) -> Self {
        self.status = None;
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs to the end and compares.
    #[track_caller]
    pub fn run(mut self) -> Output {
        let stdin = self.stdin.take();
        let mut running = self.spawn();
        let writer = running.stdin.take();
        let feeder = std::thread::spawn(move || {
            if let (Some(mut writer), Some(bytes)) = (writer, stdin) {
                // A program that stops reading has its reasons: its status will tell.
                writer.write_all(&bytes).ok();
            }
        });
        let output = running.wait();
        feeder.join().unwrap();
        output
    }

    /// Starts it with an open standard input; `Running::wait` compares.
    #[track_caller]
    pub fn spawn(self) -> Running<'a> {
        let mut command = self.rbox.command(&self.program);
        command.args(&self.args).envs(self.env.iter().cloned());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot execute {}: {error}", self.line()));
        Running {
            stdin: child.stdin.take(),
            stdout: Stream::read(child.stdout.take().unwrap()),
            stderr: Stream::read(child.stderr.take().unwrap()),
            deadline: Instant::now() + self.limit,
            call: self,
            child,
        }
    }

    fn line(&self) -> String {
        let mut line = self.program.display().to_string();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }
}

impl Expected {
    fn and(self, text: String) -> Self {
        match self {
            Self::Containing(mut texts) => {
                texts.push(text);
                Self::Containing(texts)
            }
            _ => Self::Containing(vec![text]),
        }
    }

    fn problem(&self, name: &str, actual: &str) -> Option<String> {
        match self {
            Self::Exactly(text) if text != actual => Some(format!(
                "{name} should be {text:?}\n{name} is        {actual:?}\n"
            )),
            Self::Containing(texts) => texts
                .iter()
                .find(|text| !actual.contains(text.as_str()))
                .map(|text| {
                    format!("{name} should contain {text:?}\n{name} is             {actual:?}\n")
                }),
            _ => None,
        }
    }
}

pub struct Running<'a> {
    call: Call<'a>,
    child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Stream,
    pub stderr: Stream,
    deadline: Instant,
}

impl Running<'_> {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output holds `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        while !self.stdout.so_far().contains(text) {
            if Instant::now() > self.deadline {
                self.expired(&format!("standard output {text:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the process and of its output, and compares. Whoever keeps
    /// the output open after the process ended has inherited what it should not.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        self.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.deadline {
                self.expired("its end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        while !(self.stdout.is_finished() && self.stderr.is_finished()) {
            if Instant::now() > self.deadline {
                self.expired("the end of its output");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = Output {
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
            status,
        };
        note_ids(self.call.rbox, &output.stdout);
        self.call.compare(&output);
        output
    }

    #[track_caller]
    fn expired(&self, awaited: &str) -> ! {
        let rbox = self.call.rbox;
        let diagnostics = rbox.diagnostics();
        processes::kill_all(rbox.dir());
        panic!(
            "{}: waited {:?} for {awaited}\nstdout: {:?}\nstderr: {:?}\n{diagnostics}",
            self.call.line(),
            self.call.limit,
            self.stdout.so_far(),
            self.stderr.so_far(),
        );
    }
}

impl Call<'_> {
    #[track_caller]
    fn compare(&self, output: &Output) {
        let dir = self.rbox.dir().to_str().unwrap();
        let status = output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap());
        let mut problems = String::new();
        if let Some(expected) = self.status
            && expected != status
        {
            writeln!(problems, "status should be {expected}, is {status}").unwrap();
        }
        let stdout = filter::stable(&output.stdout, dir);
        let stderr = filter::stable(&output.stderr, dir);
        problems.extend(self.stdout.problem("stdout", &stdout));
        problems.extend(self.stderr.problem("stderr", &stderr));
        assert!(
            problems.is_empty(),
            "{}\n{problems}--- stdout\n{}--- stderr\n{}---",
            self.line(),
            output.stdout,
            output.stderr
        );
    }
}

/// The leak check looks for cgroups with these names.
fn note_ids(rbox: &Rbox, stdout: &str) {
    let ids: Vec<&str> = stdout
        .split_whitespace()
        .filter(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
        .collect();
    if !ids.is_empty() {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(rbox.dir().join("ids"))
            .unwrap();
        // In one call: others append at the same time, and an empty line would be in every group's name.
        file.write_all((ids.join("\n") + "\n").as_bytes()).unwrap();
    }
}

/// Collects what a pipe gives.
pub struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 16384];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                shared.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, reader }
    }

    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }
}
