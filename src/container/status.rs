//! What a container does: its runtime state, how it ended last, and the lock that tells which of the two holds.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::config::addresses::Addresses;
use crate::container::config::Restart;
use crate::container::record::Container;
use crate::error::WithHint;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;
use crate::store::remove::remove_tree;
use crate::sys::lock;
use crate::sys::poll;
use crate::sys::process;
use crate::sys::signal;
use crate::text::publish::Publish;

/// The time in which the kernel ends a container that was killed, were it never so large.
const END: Duration = Duration::from_secs(10);

/// The file of `State`, in the runtime directory.
pub const STATE: &str = "state.json";

/// The file that tells of the end.
const EXIT: &str = "exit.json";

/// The empty file that says that the container is to run.
const WANTED: &str = "wanted";

/// The file that names the control group of a start before there is one, in the runtime directory.
const GROUP: &str = "cgroup";

/// The file of the run lock.
const LOCK: &str = "lock";

/// `state.json`, in the runtime directory: true while the run lock is held.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub started: Timestamp,
    /// Init of the container and its supervisor, as pids of the host.
    pub pid: i32,
    pub supervisor: i32,
    /// When init was started, in clock ticks since boot (proc(5), field 22 of stat): with the pid, it
    /// names one process for ever.
    pub start_ticks: u64,
    /// Of a network in user mode.
    pub network: Option<NetworkState>,
    /// The control group of its processes, if there is one.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// How often its supervisor has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// It has ended so, and rests before it is started again: there are no processes.
    #[serde(default)]
    pub rest: Option<Exit>,
    /// Its processes are stopped until they are let go on. Looked up, not recorded.
    #[serde(skip)]
    pub paused: bool,
}

/// What was found for this run of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkState {
    pub addresses: Addresses,
    /// One for each address that is listened on.
    pub published: Vec<Publish>,
}

impl State {
    /// Of a run without processes.
    pub fn of(started: Timestamp) -> State {
        State {
            started,
            pid: 0,
            supervisor: rustix::process::getpid().as_raw_pid(),
            start_ticks: 0,
            network: None,
            cgroup: None,
            restarts: 0,
            rest: None,
            paused: false,
        }
    }
}

impl Record for State {
    const NOUN: &'static str = "container state";
    const VERSION: u32 = 1;
}

/// `exit.json`: how the container ended last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    pub status: i32,
    pub signal: Option<i32>,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// Why the command could not be started, if it could not.
    pub error: Option<String>,
    #[serde(default)]
    pub limited: Limited,
    /// How often its supervisor had started it again.
    #[serde(default)]
    pub restarts: u32,
    /// A person has stopped it.
    #[serde(default)]
    pub stopped: bool,
}

/// How often a run of a container met its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// Processes that were killed because memory was out.
    pub oom_kills: u64,
    /// Processes that were refused.
    pub pids_refused: u64,
    /// Periods in which its time on CPUs was used up, and how long it waited for the next ones.
    pub throttled_periods: u64,
    pub throttled_microseconds: u64,
}

impl Record for Exit {
    const NOUN: &'static str = "container exit";
    const VERSION: u32 = 1;
}

#[derive(Clone, Debug)]
pub enum Status {
    /// Never started.
    Created,
    Running(State),
    /// It has ended so, and its supervisor will start it again.
    Restarting(Exit),
    Exited(Exit),
    /// A record of it cannot be read; why.
    Unreadable(String),
}

impl Status {
    pub fn name(&self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running(state) if state.paused => "paused",
            Status::Running(_) => "running",
            Status::Restarting(_) => "restarting",
            Status::Exited(_) => "exited",
            Status::Unreadable(_) => "unreadable",
        }
    }

    /// Whether it has a supervisor that serves it, also between two runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Status::Running(_) | Status::Restarting(_))
    }

    pub fn is_restarting(&self) -> bool {
        matches!(self, Status::Restarting(_))
    }

    /// How often its supervisor has started it again.
    pub fn restarts(&self) -> u32 {
        match self {
            Status::Created | Status::Unreadable(_) => 0,
            Status::Running(state) => state.restarts,
            Status::Restarting(exit) | Status::Exited(exit) => exit.restarts,
        }
    }

    pub fn is_paused(&self) -> bool {
        matches!(self, Status::Running(state) if state.paused)
    }
}

/// The least by which two starts differ.
const TICK: Duration = Duration::from_nanos(1);

impl Container {
    pub fn exit_file(&self) -> PathBuf {
        self.data.join(EXIT)
    }

    pub fn state_file(&self) -> PathBuf {
        self.run.join(STATE)
    }

    /// Made at the first start, and empty.
    fn started_file(&self) -> PathBuf {
        self.data.join("started")
    }

    /// Says that it was started once, whatever may become of the machine before its end is recorded.
    pub fn mark_started(&self) -> anyhow::Result<()> {
        let file = self.started_file();
        std::fs::File::options()
            .append(true)
            .create(true)
            .open(&file)
            .with_context(|| format!("cannot write {}", file.display()))
            .map_err(atomic::with_space_hint)?;
        Ok(())
    }

    fn was_started(&self) -> bool {
        self.started_file().exists()
    }

    fn lock_file(&self) -> PathBuf {
        self.run.join(LOCK)
    }

    /// Takes the run lock. `None`: the container runs, or somebody is starting or removing it.
    pub fn try_lock(&self) -> anyhow::Result<Option<RunLock>> {
        let cannot = || format!("cannot lock container \"{}\"", self.name);
        match atomic::make_dir(&self.run) {
            Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(err).with_context(cannot);
            }
            _ => {}
        }
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.lock_file())
            .with_context(cannot)?;
        Ok(lock::try_exclusive(file.as_fd())
            .with_context(cannot)?
            .then_some(RunLock(file)))
    }

    pub fn is_locked(&self) -> anyhow::Result<bool> {
        Container::is_locked_at(&self.run)
    }

    /// Whether somebody holds the run lock in this runtime directory of a container.
    pub fn is_locked_at(run: &Path) -> anyhow::Result<bool> {
        match std::fs::File::open(run.join(LOCK)) {
            Ok(file) => Ok(lock::is_held(file.as_fd())?),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    /// Names the control group that is about to be made, for who comes after us if we are killed.
    pub fn note_group(&self, group: &Path) -> anyhow::Result<()> {
        let file = self.run.join(GROUP);
        std::fs::write(&file, group.as_os_str().as_encoded_bytes())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The control group of the last start.
    pub fn group_at(run: &Path) -> Option<PathBuf> {
        let state: Option<State> = record::load_if_present(&run.join(STATE)).ok().flatten();
        let noted = || {
            let bytes = std::fs::read(run.join(GROUP)).ok()?;
            Some(PathBuf::from(OsString::from_vec(bytes)))
        };
        state.and_then(|state| state.cgroup).or_else(noted)
    }

    /// Forgets the processes of an earlier run, once they are gone.
    ///
    /// The group that they were in is returned: what is left of it is to be removed.
    ///
    /// Must: be called with the run lock held, which says that their supervisor is not there.
    pub fn clear_state(&self) -> anyhow::Result<Option<PathBuf>> {
        let group = Container::group_at(&self.run);
        let state: Option<State> = match record::load_if_present(&self.state_file()) {
            Ok(None) => return Ok(group),
            Ok(state) => state,
            // Whatever it is, it says nothing of processes, and must not keep us from a new start.
            Err(_) => None,
        };
        if let Some(state) = &state {
            end_orphan(state);
        }
        remove_tree(&self.state_file())?;
        Ok(group)
    }

    /// Now, but after the start of the last run, whatever has become of the clock: by that an end is known to be of
    /// this run.
    pub fn next_start(&self) -> Timestamp {
        let last: Option<Exit> = record::load_if_present(&self.exit_file()).ok().flatten();
        let after = last.and_then(|exit| exit.started.checked_add(TICK).ok());
        after.map_or_else(Timestamp::now, |after| after.max(Timestamp::now()))
    }

    /// What the container does now. Takes no lock. One whose supervisor was killed is ended.
    pub fn status(&self) -> anyhow::Result<Status> {
        let cannot = || format!("cannot tell the status of container \"{}\"", self.name);
        let exit: anyhow::Result<Option<Exit>> = record::load_if_present(&self.exit_file());
        let state: Option<State> =
            record::load_if_present(&self.state_file()).map_err(|err| self.with_hint(err))?;
        let Some(state) = state else {
            return Ok(match exit.map_err(|err| self.with_hint(err))? {
                Some(exit) => Status::Exited(exit),
                // No end of it was recorded: the machine went down under it.
                None if self.was_started() && !self.is_locked()? => {
                    Status::Exited(lost(self.config.created))
                }
                None => Status::Created,
            });
        };
        match exit {
            Ok(Some(exit)) if exit.started >= state.started => Ok(Status::Exited(exit)),
            _ if self.is_locked().with_context(cannot)? => Ok(match state.rest {
                Some(exit) => Status::Restarting(Exit {
                    restarts: state.restarts,
                    ..exit
                }),
                None => Status::Running(State {
                    paused: state.cgroup.as_deref().is_some_and(is_frozen),
                    ..state
                }),
            }),
            // It has ended since the first look, or its supervisor was killed, and it with that.
            _ => {
                let seen = self.exit_since(state.started);
                let seen = seen.map_err(|err| self.with_hint(err))?;
                if seen.is_none() {
                    end_orphan(&state);
                }
                let last = seen.or(state.rest);
                Ok(Status::Exited(last.unwrap_or_else(|| lost(state.started))))
            }
        }
    }

    /// The same where every container is to be shown.
    pub fn status_to_show(&self) -> Status {
        self.status()
            .unwrap_or_else(|err| Status::Unreadable(crate::error::message(&err)))
    }

    /// Whether somebody holds it, also where no record says what it does.
    pub fn runs(&self) -> anyhow::Result<bool> {
        match self.status() {
            Ok(status) => Ok(status.is_running()),
            Err(_) => self.is_locked(),
        }
    }

    fn with_hint(&self, err: anyhow::Error) -> anyhow::Error {
        err.hint(format!(
            "the record is damaged, or of another version of rbox; `rbox restart {0}` writes a new one, `rbox rm -f {0}` removes the container",
            self.name
        ))
    }
}

impl Container {
    /// Records the end. A full disk does not take it from us: the runtime directory, which is another
    /// one mostly, has it until the machine goes down.
    pub fn save_exit(&self, exit: &Exit) -> anyhow::Result<()> {
        // What is there and no file would be in the way of it.
        if self.exit_file().is_dir() {
            remove_tree(&self.exit_file()).ok();
        }
        record::save(&self.exit_file(), exit, Durability::Durable).or_else(|err| {
            record::save(&self.run.join(EXIT), exit, Durability::Volatile).map_err(|_| err)
        })
    }

    /// Says for the next boot whether the container is to run. It has a restart policy, and was started by
    /// a person; it is no more when it has ended for good, or was stopped by a person.
    pub fn set_wanted(&self, wanted: bool) -> anyhow::Result<()> {
        let file = self.data.join(WANTED);
        if wanted == file.exists() {
            return Ok(());
        }
        let set = if wanted {
            std::fs::write(&file, "")
        } else {
            std::fs::remove_file(&file)
        };
        set.with_context(|| format!("cannot write {}", file.display()))
            .map_err(atomic::with_space_hint)?;
        atomic::sync_dir(&self.data)
    }

    pub fn is_wanted(&self) -> bool {
        self.data.join(WANTED).exists()
    }

    /// Whether the next boot starts it: one that ran when the machine went down, and with `always` also one
    /// that was stopped.
    pub fn starts_at_boot(&self) -> bool {
        let was_started = || self.exit_file().exists();
        match self.config.restart {
            Restart::No => false,
            Restart::Always => self.is_wanted() || was_started(),
            Restart::OnFailure { .. } | Restart::UnlessStopped => self.is_wanted(),
        }
    }

    /// The container as its record is now, by the name that it has now.
    pub fn as_now(&self, dirs: &Dirs) -> anyhow::Result<Option<Container>> {
        if let Some(found) = Container::by_name(dirs, &self.name)?
            && found.config.id == self.config.id
        {
            return Ok(Some(found));
        }
        let mut all = Container::list(dirs, drop)?.into_iter();
        Ok(all.find(|one| one.config.id == self.config.id))
    }

    /// The end of the run that was started then, if it was recorded.
    fn exit_since(&self, started: Timestamp) -> anyhow::Result<Option<Exit>> {
        for file in [self.exit_file(), self.run.join(EXIT)] {
            let exit: Option<Exit> = record::load_if_present(&file)?;
            if let Some(exit) = exit.filter(|exit| exit.started >= started) {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }
}

/// Kills a container that has outlived its supervisor, and waits until it is gone.
///
/// Linux: a change of credentials clears the parent-death signal (prctl(2)), as entrypoints make
/// one that go on as another user.
fn end_orphan(state: &State) {
    if let Some(init) = process::open_started(state.pid, state.start_ticks) {
        signal::send(init.as_fd(), libc::SIGKILL).ok();
        poll::readable([Some(init.as_fd())], Some(END)).ok();
    }
    if let Some(cgroup) = &state.cgroup {
        // Linux: kills all in the group and below, since 5.14. Who removes the container does it on
        // older kernels too.
        std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
    }
}

/// Linux: the file is that of the group's own state, whatever groups above it do.
pub fn is_frozen(cgroup: &Path) -> bool {
    std::fs::read(cgroup.join("cgroup.freeze")).is_ok_and(|state| state == b"1\n")
}

/// How a container counts whose end nobody saw: as killed.
fn lost(started: Timestamp) -> Exit {
    Exit {
        status: 137,
        signal: Some(9),
        started,
        finished: started,
        error: Some("the end of it was not seen: its supervisor was killed".into()),
        limited: Limited::default(),
        restarts: 0,
        stopped: false,
    }
}

/// The run lock of a container: inherited by the supervisor, gone with it.
#[derive(Debug)]
pub struct RunLock(std::fs::File);

impl AsFd for RunLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl RunLock {
    /// Gives the lock back before the process ends, for all that inherited it.
    pub fn release(&self) -> anyhow::Result<()> {
        Ok(lock::release(self.0.as_fd())?)
    }
}
