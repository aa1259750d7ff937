//! SIGKILL at random moments to any process of rbox, while it does any of its commands: afterwards the records
//! are all there and true, every command works, and nothing is left running, mounted or in a control group.
//!
//! RBOX_TEST_KILLS says how many (100), RBOX_TEST_SEED makes a run like an earlier one, as far as processes
//! go by a seed.
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::leaks;
use crate::support::processes;
use crate::support::random;
use crate::support::random::Random;

const NAMES: [&str; 5] = ["one", "two", "six", "ten", "nil"];

/// In the longest, a start of a debug build is over.
const LONGEST: Duration = Duration::from_millis(120);

/// Kills between two looks at everything.
const EPOCH: u32 = 10;

#[test]
fn any_process_at_any_moment() {
    random::repeatable(|random| {
        World::new(Rbox::with_busybox(), random).run("RBOX_TEST_KILLS", 100);
    });
}

/// Who may make control groups.
#[test]
fn any_process_at_any_moment_as_root() {
    if let Some(rbox) = Rbox::as_root() {
        rbox.load("busybox");
        random::repeatable(|random| World::new(rbox, random).run("RBOX_TEST_ROOT_KILLS", 40));
    }
}

struct World<'a> {
    rbox: Rbox,
    random: &'a mut Random,
    /// Names of containers that must be there.
    made: BTreeSet<String>,
    /// Those that had an `--rm`, and may go by themselves.
    passing: BTreeSet<String>,
    /// All ids that were ever seen.
    ids: BTreeSet<String>,
    killed: BTreeMap<String, u32>,
}

/// What a command may do to the containers there are.
struct Command {
    words: Vec<String>,
    /// Names that may be there afterwards, or not.
    open: BTreeSet<String>,
    passing: bool,
}

impl World<'_> {
    fn new(rbox: Rbox, random: &mut Random) -> World<'_> {
        rbox.allow_orphans();
        rbox.write("file", "content");
        World {
            rbox,
            random,
            made: BTreeSet::new(),
            passing: BTreeSet::new(),
            ids: BTreeSet::new(),
            killed: BTreeMap::new(),
        }
    }

    fn run(mut self, variable: &str, kills: u32) {
        let kills = random::count(variable, kills);
        let mut round = 0;
        while self.killed.values().sum::<u32>() < kills {
            self.round();
            round += 1;
            if round % EPOCH == 0 {
                self.look_at_everything();
            }
        }
        self.look_at_everything();
        random::tell(&format!("killed: {:?}", self.killed));
    }

    fn round(&mut self) {
        let command = self.command();
        let running = self
            .rbox
            .args(&command.words)
            .stdin("y\n")
            .stdout_any()
            .stderr_any()
            .status_any()
            .spawn();
        let moment = self.random.time(LONGEST);
        let mut chosen = vec![running.pid()];
        let what = match self.random.below(8) {
            0..2 => {
                std::thread::sleep(moment);
                "the command"
            }
            2..5 => {
                chosen = self.newcomers(running.pid(), moment);
                "one that it has started"
            }
            5..7 => {
                std::thread::sleep(moment);
                chosen = self.victims(running.pid());
                "any"
            }
            _ => {
                std::thread::sleep(moment);
                chosen = self.victims(running.pid());
                "all"
            }
        };
        if what != "all" && !chosen.is_empty() {
            chosen = vec![self.random.one_of(&chosen)];
        }
        let mut told = format!("{} after {moment:?}, {what}:", command.words.join(" "));
        for pid in chosen {
            let name = describe(pid, running.pid());
            write!(told, " {pid} {name}").unwrap();
            let pid = Pid::from_raw(pid).unwrap();
            if !is_dead(pid.as_raw_pid())
                && rustix::process::kill_process(pid, Signal::KILL).is_ok()
            {
                *self.killed.entry(name).or_default() += 1;
            }
        }
        self.random.tell(told);
        running.wait();
        self.note_ids();
        self.settle(&command);
    }

    /// What the command starts, the time after the first is there.
    fn newcomers(&self, command: i32, moment: Duration) -> Vec<i32> {
        let old: Vec<i32> = self
            .states()
            .values()
            .map(|state| state.supervisor)
            .collect();
        let deadline = Instant::now() + LONGEST;
        let mut seen = vec![];
        let mut end = None;
        while Instant::now() < end.unwrap_or(deadline) {
            let mut next = vec![command];
            next.extend(&seen);
            while let Some(pid) = next.pop() {
                for child in children(pid) {
                    if !seen.contains(&child) && !old.contains(&child) {
                        seen.push(child);
                        next.push(child);
                    }
                }
            }
            if !seen.is_empty() && end.is_none() {
                end = Some(Instant::now() + moment / 4);
            }
        }
        seen.retain(|pid| !is_dead(*pid));
        seen
    }

    /// The command itself, its children, and the supervisors there are with theirs.
    fn victims(&self, command: i32) -> Vec<i32> {
        let mut found = vec![command];
        found.extend(self.states().values().map(|state| state.supervisor));
        let mut next = 0;
        while next < found.len() {
            for child in children(found[next]) {
                if !found.contains(&child) {
                    found.push(child);
                }
            }
            next += 1;
        }
        found.retain(|pid| !is_dead(*pid));
        found
    }

    fn command(&mut self) -> Command {
        let name = self.random.one_of(&NAMES).to_owned();
        let other = self.random.one_of(&NAMES).to_owned();
        let mut open = BTreeSet::new();
        let mut passing = false;
        let number = self.random.below(33);
        let text = match number {
            0..=5 => {
                open.insert(name.clone());
                passing = self.random.below(3) == 0;
                let how = self.random.one_of(&["run -d", "run", "run -d", "create"]);
                let rm = if passing { "--rm" } else { "" };
                let option = self.random.one_of(&[
                    "",
                    "-v vol:/v",
                    "-v /anonymous",
                    "--init",
                    "--log-opt max-size=1k",
                    "--pid=host",
                    "--user 1000",
                    "--network private",
                    "--restart always",
                    "--restart on-failure:2",
                    "--health-cmd true --health-interval 200ms",
                ]);
                let forbidden = option.contains("--restart") && (passing || how == "run");
                let option = if forbidden { "" } else { option };
                let command = if how == "run" {
                    "echo hi"
                } else {
                    "sleep 1000"
                };
                format!("{how} --name {name} {rm} {option} busybox {command}")
            }
            6..=8 => format!("start {name}"),
            9 => format!("stop -t 0 {name}"),
            10 => format!("restart -t 0 {name}"),
            11 => format!("kill {name}"),
            12 => format!("pause {name}"),
            13 => format!("unpause {name}"),
            14 => format!("exec {name} true"),
            15 => format!("exec -d {name} sleep 1000"),
            16 => format!("cp file {name}:/tmp/file"),
            17 => format!("cp {name}:/etc/passwd -"),
            18 => format!("commit {name} committed"),
            19 => format!("export -o exported {name}"),
            20 => {
                open.extend([name.clone(), other.clone()]);
                format!("rename {name} {other}")
            }
            21 => format!("update --env A={number} {name}"),
            22 => {
                open.insert(name.clone());
                format!("rm {name}")
            }
            23 | 24 => {
                open.insert(name.clone());
                format!("rm -f -v {name}")
            }
            25 => {
                open.extend(self.made.iter().cloned());
                "prune -f".to_owned()
            }
            26 => format!("logs {name}"),
            29 => {
                open.insert(other.clone());
                format!("clone {name} {other}")
            }
            30 => format!("init {name}"),
            31 => format!("healthcheck run {name}"),
            27 => "volume create vol".to_owned(),
            28 => self
                .random
                .one_of(&["volume rm vol", "volume prune -f", "volume prune -a -f"])
                .to_owned(),
            _ => self
                .random
                .one_of(&[
                    "ps -a",
                    "inspect one",
                    "stats --no-stream",
                    "diff two",
                    "top ten",
                ])
                .to_owned(),
        };
        Command {
            words: text.split_whitespace().map(str::to_owned).collect(),
            open,
            passing,
        }
    }

    /// Waits until what was killed has settled, and compares what is said with what is there.
    fn settle(&mut self, command: &Command) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let shown = loop {
            let shown = self.shown();
            let unexplained = self.unexplained();
            if unexplained.is_empty() && shown == self.shown() {
                break shown;
            }
            if Instant::now() > deadline {
                self.fail(&format!(
                    "{shown:?} leaves unexplained:\n{}",
                    processes::describe(&unexplained)
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        for name in &self.made {
            let may_go = command.open.contains(name) || self.passing.contains(name);
            if !may_go && !shown.contains_key(name) {
                self.fail(&format!("container {name} was lost: {shown:?}"));
            }
        }
        for name in shown.keys() {
            if !command.open.contains(name) && !self.made.contains(name) {
                self.fail(&format!("container {name} came from nowhere: {shown:?}"));
            }
        }
        self.random.tell(format!("    {shown:?}"));
        self.made = shown.keys().cloned().collect();
        if command.passing {
            self.passing.extend(command.open.iter().cloned());
        } else if command.words[0] != "rename" && !command.open.is_empty() {
            // Whether the name is that of an earlier one with `--rm` is not known.
            self.passing.retain(|name| self.made.contains(name));
        } else {
            let carried = command.open.iter().any(|name| self.passing.contains(name));
            if carried {
                self.passing.extend(command.open.iter().cloned());
            }
        }
        for (name, state) in &shown {
            match state.as_str() {
                "running" => self.assert_serves(name),
                "created" | "initialized" | "exited" | "paused" | "restarting" | "stopping" => {}
                other => self.fail(&format!("{name} is {other}")),
            }
        }
    }

    /// Names and states.
    fn shown(&self) -> BTreeMap<String, String> {
        let ps = self
            .rbox
            .args(["ps", "-a", "--format", "{{.Names}} {{.State}}"])
            .stdout_any()
            .run();
        let pairs = ps.stdout.lines().map(|line| {
            let (name, state) = line.split_once(' ').expect("a name and a state");
            (name.to_owned(), state.to_owned())
        });
        pairs.collect()
    }

    fn assert_serves(&self, name: &str) {
        let call = || {
            let call = self.rbox.args(["exec", name, "echo", "here"]);
            call.stdout_any().stderr_any().status_any().run()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = call();
            // It may have ended since it was listed.
            let runs = |state: &String| state == "running";
            if answer.stdout == "here\n" || !self.shown().get(name).is_some_and(runs) {
                return;
            }
            // Linux: an init that was killed is there until all that others sent into its namespace are reaped
            // (pid_namespaces(7)), which is a matter of the machine's init where those others were killed.
            if Instant::now() > deadline {
                let said = format!("{} {}", answer.stdout, answer.stderr);
                self.fail(&format!("{name} runs, but {said}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Processes of this test that belong to no container which runs.
    fn unexplained(&self) -> Vec<processes::Process> {
        let mut spaces = BTreeSet::new();
        let mut known = BTreeSet::new();
        for state in self.states().values() {
            if !is_locked(&state.dir) {
                continue;
            }
            known.extend([state.supervisor, state.pid]);
            spaces.extend(fs::read_link(format!("/proc/{}/ns/mnt", state.pid)).ok());
        }
        let mut next: Vec<i32> = known.iter().copied().collect();
        while let Some(pid) = next.pop() {
            let new = children(pid)
                .into_iter()
                .filter(|child| known.insert(*child));
            next.extend(new.collect::<Vec<_>>());
        }
        let mut found = processes::of(self.rbox.dir());
        found.retain(|process| {
            let space = fs::read_link(format!("/proc/{}/ns/mnt", process.pid));
            let inside = space.is_ok_and(|space| spaces.contains(&space));
            // Of `exec -d`: it goes with the command that it waits for.
            let waits = children(process.pid).iter().any(|child| {
                fs::read_link(format!("/proc/{child}/ns/mnt"))
                    .is_ok_and(|space| spaces.contains(&space))
            });
            !known.contains(&process.pid) && !inside && !waits
        });
        found
    }

    fn states(&self) -> BTreeMap<String, State> {
        let mut states = BTreeMap::new();
        for entry in list(&self.rbox.dir().join("run/rbox/containers")) {
            let Ok(bytes) = fs::read(entry.join("state.json")) else {
                continue;
            };
            let record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let pid = |key: &str| i32::try_from(record[key].as_i64().unwrap()).unwrap();
            let id = entry.file_name().unwrap().to_str().unwrap().to_owned();
            states.insert(
                id,
                State {
                    pid: pid("pid"),
                    supervisor: pid("supervisor"),
                    dir: entry,
                },
            );
        }
        states
    }

    fn note_ids(&mut self) {
        for dir in ["data/rbox/containers", "run/rbox/containers"] {
            for entry in list(&self.rbox.dir().join(dir)) {
                let id = entry.file_name().unwrap().to_str().unwrap();
                self.ids.insert(id.to_owned());
            }
        }
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        // Where the leak check looks for the names of control groups.
        fs::write(self.rbox.dir().join("ids"), ids.join("\n")).unwrap();
    }

    /// Every container starts, serves, stops and goes; then nothing is left.
    fn look_at_everything(&mut self) {
        self.random.tell("everything");
        for (name, state) in self.shown() {
            if state == "paused" {
                self.rbox.args(["unpause", &name]).stdout_any().run();
            } else if state != "running" && state != "restarting" {
                self.rbox.args(["start", &name]).stdout_any().run();
            }
            if self.random.below(2) == 0 {
                self.rbox
                    .args(["restart", "-t", "0", &name])
                    .stdout_any()
                    .stderr_any()
                    .status_any()
                    .run();
            }
            self.rbox
                .args(["logs", &name])
                .stdout_any()
                .stderr_any()
                .status_any()
                .run();
            self.rbox
                .args(["inspect", &name])
                .stdout_any()
                .stderr_any()
                .status_any()
                .run();
        }
        let shown = self.shown();
        if !shown.is_empty() {
            self.rbox
                .args(["rm", "-f", "-v", "-t", "0"])
                .args(shown.keys())
                .stdout_any()
                .run();
        }
        self.rbox
            .args(["rmi", "-f", "committed"])
            .stdout_any()
            .run();
        self.rbox
            .args(["volume", "prune", "-a", "-f"])
            .stdout_any()
            .run();
        // Who makes a container takes away what was left of others.
        self.rbox
            .args(["run", "--rm", "busybox", "echo", "hi"])
            .stdout("hi\n")
            .run();
        fs::remove_file(self.rbox.work("exported")).ok();
        let left = leaks::find(self.rbox.dir(), true);
        if !left.is_empty() {
            self.fail(&format!("left behind:\n{left}"));
        }
        self.made.clear();
        self.passing.clear();
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.rbox.diagnostics());
    }
}

struct State {
    pid: i32,
    supervisor: i32,
    dir: PathBuf,
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Gone, or waiting to be reaped.
fn is_dead(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("X", |(_, rest)| &rest[..1]);
    matches!(state, "Z" | "X")
}

/// Linux: /proc/locks names the inode of every file that is locked.
fn is_locked(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(lock) = dir.join("lock").metadata() else {
        return false;
    };
    let inode = format!(":{} ", lock.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks
        .lines()
        .any(|line| line.contains("OFDLCK") && line.contains(&inode))
}

/// What was killed, by what it calls itself.
fn describe(pid: i32, command: i32) -> String {
    if pid == command {
        return "command".into();
    }
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let line = read("cmdline").replace('\0', " ");
    if line.starts_with("rbox: ") {
        return "supervisor".into();
    }
    let name = read("comm").trim().to_owned();
    if line.contains("sleep 1000") || line.contains("echo hi") {
        "program".into()
    } else {
        name
    }
}
