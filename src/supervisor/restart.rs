//! What comes after a run of the container: another one after a rest, or the end.
//!
//! Docker's back-off: 100 ms, doubled from one short run to the next, at most a minute. While the container
//! rests its supervisor serves, its status is "restarting", and clients of published ports wait.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;

use crate::container::config::Restart;
use crate::container::events;
use crate::container::status;
use crate::container::status::State;
use crate::network::stack::Listeners;
use crate::store::atomic::Durability;
use crate::supervisor::Again;
use crate::supervisor::Ran;
use crate::supervisor::Supervisor;
use crate::supervisor::client::Hears;
use crate::supervisor::end::LAST_WORDS;
use crate::supervisor::end::record_of;
use crate::supervisor::failed_exit;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::relay::Relay;
use crate::sys::pages::Pages;
use crate::sys::process::Exit;

/// The first rest, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// A run of this length has gone well: the next rest is a first one.
const GOOD: Duration = Duration::from_secs(10);

/// What follows when the container has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// What its restart policy says.
    #[default]
    Policy,
    /// Another run, whatever that says.
    Run,
    /// The end, as a person wants it.
    Stopped,
    /// The end of this supervisor: the machine goes down, or a service manager ends the unit that it is in.
    /// The container goes on with the next boot.
    Interrupted,
}

impl Next {
    pub fn is_end(self) -> bool {
        matches!(self, Next::Stopped | Next::Interrupted)
    }
}

/// Runs and rests so far.
pub struct Restarts {
    pub count: u32,
    began: Instant,
    rest: Duration,
}

impl Restarts {
    pub fn new() -> Restarts {
        Restarts {
            count: 0,
            began: Instant::now(),
            rest: Duration::ZERO,
        }
    }

    /// Another run begins.
    fn begin(&mut self) {
        self.count = self.count.saturating_add(1);
        self.began = Instant::now();
    }

    /// How long the container rests before its next run, if there is one.
    fn after(&mut self, next: Next, policy: Restart, status: i32) -> Option<Duration> {
        let goes_on = match next {
            Next::Policy => policy.wants(status, self.count),
            Next::Run => true,
            Next::Stopped | Next::Interrupted => false,
        };
        if !goes_on {
            return None;
        }
        self.rest = rest_after(self.began.elapsed(), self.rest);
        Some(self.rest)
    }
}

fn rest_after(ran: Duration, last: Duration) -> Duration {
    if ran >= GOOD || last.is_zero() {
        FIRST
    } else {
        (last * 2).min(LONGEST)
    }
}

/// What outlives a run.
pub struct Kept {
    /// How many descriptors the container may open.
    pub descriptors: (u64, u64),
    /// The group of the run before.
    pub group: Option<PathBuf>,
    /// The published ports of a container whose network is in user mode.
    pub listeners: Option<Listeners>,
    pub left: Left,
}

/// What is left of a run that has ended.
#[derive(Default)]
pub struct Left {
    /// For its connections' last words.
    pub relay: Option<Relay>,
    pub group: Option<Watched>,
    pub userns: Option<OwnedFd>,
}

impl Supervisor<'_> {
    /// Lets the container rest before its next run. `false`: there is none.
    pub fn rest(&mut self, exit: &status::Exit) -> anyhow::Result<bool> {
        let policy = self.container.config.restart;
        let Some(rest) = self.restarts.after(self.next, policy, exit.status) else {
            return Ok(false);
        };
        let ends = Instant::now() + rest;
        if let Some(group) = self.kept.left.group.take() {
            group.remove();
        }
        // With a full runtime directory others do not see that it rests; it goes on all the same.
        self.save_rest(exit).ok();
        self.tell_exit(Exit {
            status: exit.status,
            signal: exit.signal,
        });
        let patience = Instant::now() + LAST_WORDS;
        let mut buffer = Pages::new(PACKET);
        loop {
            let now = Instant::now();
            let speaks = |relay: &Relay| !relay.is_drained() && now < patience;
            let speaks = self.kept.left.relay.as_ref().is_some_and(speaks);
            if self.next.is_end() {
                return Ok(false);
            }
            if now >= ends && !speaks {
                return Ok(true);
            }
            let until = if now < ends { ends } else { patience };
            self.turn(&mut buffer, Some(until))?;
        }
    }

    /// In the runtime directory alone: after a power cut no rest is taken.
    fn save_rest(&self, exit: &status::Exit) -> anyhow::Result<()> {
        let path = self.container.state_file();
        let before = crate::store::record::load::<State>(&path);
        let state = State {
            // Its ports are listened on.
            network: before.ok().and_then(|before| before.network),
            rest: Some(exit.clone()),
            restarts: self.restarts.count,
            ..State::of(exit.started)
        };
        crate::store::record::save(&path, &state, Durability::Volatile)
    }

    /// Clients hear of each end; what comes after it is not theirs.
    fn tell_exit(&mut self, exit: Exit) {
        for client in &mut self.clients {
            client.tell(&Reply::Exit(exit));
            client.flush();
            client.hears = Hears::Nothing;
            client.awaits_taken = false;
        }
    }

    /// The next run. One that cannot be made counts as one that has failed at once.
    pub fn run_again(&mut self, again: &mut Again<'_>) -> anyhow::Result<status::Exit> {
        self.kept.left = Left::default();
        self.next = Next::Policy;
        let started = Timestamp::now();
        self.look_again();
        self.restarts.begin();
        self.log.begin_run();
        events::add(self.dirs, &self.container, "restart");
        let container = self.container.clone();
        let ran = again(&container, &mut |ready| self.run_once(ready, None));
        match ran {
            Ok(Ran::Until(exit)) => Ok(exit),
            Ok(Ran::Never(err)) => Ok(self.failed_run(started, &err)),
            // It could not be prepared.
            Err(err) if self.run.is_none() => Ok(self.failed_run(started, &err)),
            Err(err) => Err(err),
        }
    }

    fn failed_run(&mut self, started: Timestamp, err: &anyhow::Error) -> status::Exit {
        self.log_error(err);
        self.log.finish();
        status::Exit {
            restarts: self.restarts.count,
            ..record_of(started, &failed_exit(err), Some(err))
        }
    }

    /// Reads the record again, which may have been changed, and finds the name.
    pub fn look_again(&mut self) {
        if let Ok(Some(container)) = self.container.as_now(self.dirs) {
            self.container = container;
        }
        let wanted = self.container.config.restart != Restart::No;
        self.container
            .set_wanted(wanted && !self.next.is_end())
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut rest = Duration::ZERO;
        let mut all = vec![];
        for _ in 0..12 {
            rest = rest_after(Duration::from_secs(9), rest);
            all.push(rest.as_millis());
        }
        assert_eq!(
            all,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(rest_after(GOOD, rest), FIRST);
    }

    #[test]
    fn what_a_person_wants_comes_before_the_policy() {
        let mut restarts = Restarts::new();
        assert_eq!(restarts.after(Next::Stopped, Restart::Always, 1), None);
        assert_eq!(restarts.after(Next::Interrupted, Restart::Always, 1), None);
        assert_eq!(restarts.after(Next::Policy, Restart::No, 1), None);
        assert!(restarts.after(Next::Run, Restart::No, 0).is_some());
        assert!(restarts.after(Next::Policy, Restart::Always, 0).is_some());
        let once = Restart::OnFailure { most: 1 };
        assert!(restarts.after(Next::Policy, once, 1).is_some());
        restarts.begin();
        assert_eq!(restarts.after(Next::Policy, once, 1), None);
    }
}
