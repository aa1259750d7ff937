//! When a container is checked, and what follows: the clock beside `container::health::Machine`.

use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;

use crate::container::config::Health;
use crate::container::config::health::Destination;
use crate::container::config::health::OnFailure;
use crate::container::events;
use crate::container::health;
use crate::container::health::Entry;
use crate::container::health::Machine;
use crate::container::health::Need;
use crate::container::health::Outcome;
use crate::container::record::Container;
use crate::container::status;
use crate::error;
use crate::error::Kind;
use crate::error::Told;
use crate::error::fail;
use crate::store::journal;
use crate::supervisor::Supervisor;
use crate::supervisor::checker::Checker;
use crate::supervisor::checker::Job;
use crate::supervisor::checker::Report;
use crate::supervisor::client::Hears;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::Reply;
use crate::supervisor::restart::Next;

/// What joining a container may take beside the command's own time, before all of it counts as hung.
const JOINING: Duration = Duration::from_secs(30);

/// Between two looks at a paused container at least.
const PAUSED: Duration = Duration::from_secs(1);

/// The checks of one run of a container.
pub struct Checks {
    health: Health,
    machine: Machine,
    born: Instant,
    /// When the next one begins; `None`: when somebody asks.
    due: Option<Instant>,
    current: Option<Current>,
    /// Of the last one that was begun.
    number: u64,
}

struct Current {
    checker: Checker,
    /// When it is killed.
    until: Option<Instant>,
    startup: bool,
    outcome: Outcome,
    start: Timestamp,
}

impl Checks {
    /// Of a container that has started just now, if it wants any.
    pub fn of(container: &Container) -> Option<Box<Checks>> {
        Checks::begin(container, &container.config.health)
    }

    fn begin(container: &Container, wanted: &Health) -> Option<Box<Checks>> {
        wanted.check.as_ref()?;
        // Without a record it is as if nothing had been found yet.
        health::begin(container).ok();
        let mut checks = Checks {
            health: wanted.clone(),
            machine: Machine::default(),
            born: Instant::now(),
            due: None,
            current: None,
            number: 0,
        };
        checks.plan();
        Some(Box::new(checks))
    }

    fn plan(&mut self) {
        let pause = self.machine.pause(&self.health, self.born.elapsed());
        self.due = pause.and_then(|pause| Instant::now().checked_add(pause));
    }

    /// When there is something to do without anything else happening.
    pub fn moment(&self) -> Option<Instant> {
        match &self.current {
            Some(current) => current.until,
            None => self.due,
        }
    }

    /// The check that runs.
    pub fn checker(&self) -> Option<&Checker> {
        self.current.as_ref().map(|current| &current.checker)
    }
}

impl Supervisor<'_> {
    /// Begins the check that is due, and ends the one that hangs.
    pub fn keep_checks(&mut self) {
        let moment = self.checks.as_deref().and_then(Checks::moment);
        if moment.is_none_or(|moment| moment > Instant::now()) {
            return;
        }
        let current = self
            .checks
            .as_mut()
            .and_then(|checks| checks.current.take());
        match current {
            Some(current) => {
                let late = "the health check did not end, and cannot be waited for";
                let Current {
                    checker,
                    outcome,
                    startup,
                    start,
                    ..
                } = current;
                checker.kill();
                self.note(start, outcome, late);
                self.take(outcome, startup, -1, late);
            }
            None => self.begin_check(),
        }
    }

    /// Somebody wants a check that begins now or later.
    pub fn ask_for_check(&mut self, client: usize) {
        let refused = match &self.checks {
            None => Some("it has no health check"),
            Some(_) if self.is_paused() => Some("it is paused"),
            Some(_) => None,
        };
        if let Some(why) = refused {
            return self.refuse_check(client, why);
        }
        if let Some(checks) = &self.checks {
            self.clients[client].hears = Hears::Check(checks.number + 1);
            if checks.current.is_none() {
                self.begin_check();
            }
        }
    }

    fn refuse_check(&mut self, client: usize, why: &str) {
        let err = fail(Kind::WrongStatus, why);
        self.clients[client].tell(&Reply::Failed(Told::of(&err)));
        self.clients[client].flush();
    }

    fn is_asked(&self) -> bool {
        let number = self.checks.as_ref().map_or(0, |checks| checks.number);
        let mut clients = self.clients.iter();
        clients.any(|client| matches!(client.hears, Hears::Check(first) if first > number))
    }

    fn is_paused(&self) -> bool {
        let group = self
            .run
            .as_ref()
            .and_then(|run| run.group.as_ref())
            .map(Watched::path);
        group.is_some_and(status::is_frozen)
    }

    fn begin_check(&mut self) {
        let (asked, paused) = (self.is_asked(), self.is_paused());
        let group = self
            .run
            .as_ref()
            .and_then(|run| run.group.as_ref())
            .map(Watched::path);
        let Some(checks) = self.checks.as_deref_mut() else {
            return;
        };
        if paused {
            checks.plan();
            // An interval may be far shorter than a rest.
            checks.due = checks.due.max(Some(Instant::now() + PAUSED));
            return;
        }
        let Some(probe) = checks.machine.probe(&checks.health) else {
            return;
        };
        checks.number += 1;
        checks.due = None;
        let (startup, start) = (probe.startup, Timestamp::now());
        let outcome = Outcome {
            passed: false,
            began: checks.born.elapsed(),
            asked,
        };
        let started = Checker::start(&Job {
            container: &self.container,
            health: &checks.health,
            machine: &checks.machine,
            command: probe.test.args(&checks.health.shell),
            timeout: probe.timeout,
            began: outcome.began,
            asked,
            group,
            execute: self.execute,
        });
        match started {
            Ok(checker) => {
                let most = probe.timeout.saturating_add(JOINING);
                checks.current = Some(Current {
                    checker,
                    until: Instant::now().checked_add(most),
                    startup,
                    outcome,
                    start,
                });
            }
            Err(err) => {
                let (status, text) = (error::status(&err).into(), error::message(&err));
                self.note(start, outcome, &text);
                self.take(outcome, startup, status, &text);
            }
        }
    }

    /// The check has ended, or its process has died.
    pub fn end_check(&mut self, buffer: &mut [u8]) {
        let current = self
            .checks
            .as_mut()
            .and_then(|checks| checks.current.take());
        let Some(current) = current else {
            return;
        };
        let (mut outcome, startup) = (current.outcome, current.startup);
        match current.checker.finish(buffer) {
            Some(Report::Ended(status, output)) => {
                outcome.passed = status == 0;
                self.take(outcome, startup, status, &output);
            }
            Some(Report::Paused) => {
                self.tell_checked(false, startup);
                if let Some(checks) = self.checks.as_deref_mut() {
                    checks.plan();
                }
            }
            None => {
                let died = "the process of the health check was killed";
                self.note(current.start, outcome, died);
                self.take(outcome, startup, -1, died);
            }
        }
    }

    /// Records a failure that the checker could not.
    fn note(&self, start: Timestamp, outcome: Outcome, why: &str) {
        let Some(checks) = &self.checks else {
            return;
        };
        let mut machine = checks.machine.clone();
        machine.take(&checks.health, outcome);
        let entry = Entry {
            start,
            end: Timestamp::now(),
            exit_code: -1,
            output: why.to_owned(),
        };
        health::note(&self.container, &checks.health, &machine, entry).ok();
    }

    /// Does what follows from a result.
    fn take(&mut self, outcome: Outcome, startup: bool, status: i32, output: &str) {
        let Some(checks) = self.checks.as_deref_mut() else {
            return;
        };
        let before = checks.machine.status;
        let need = checks.machine.take(&checks.health, outcome);
        checks.plan();
        let (now, streak) = (checks.machine.status, checks.machine.streak);
        let is_told = checks.health.log.destination == Destination::Events;
        let on_failure = checks.health.on_failure;
        if now != before || is_told {
            let mut event = events::of(&self.container, "health_status");
            let attributes = &mut event.attributes;
            attributes.insert("health_status".into(), now.name().into());
            attributes.insert("health_failing_streak".into(), streak.to_string());
            if is_told {
                attributes.insert("health_exit_code".into(), status.to_string());
                attributes.insert("health_log".into(), output.into());
            }
            journal::add(self.dirs, &event);
        }
        self.tell_checked(outcome.passed, startup);
        if let (health::Status::Healthy, Some(notifier)) = (now, &mut self.sdnotify) {
            notifier.healthy();
        }
        match need {
            Need::OnFailure => self.act(on_failure),
            Need::Restart => self.act(OnFailure::Restart),
            Need::Nothing => {}
        }
        if self.is_asked() {
            self.begin_check();
        }
    }

    /// Tells those who have asked for this check or an earlier one.
    fn tell_checked(&mut self, passed: bool, startup: bool) {
        let number = self.checks.as_ref().map_or(0, |checks| checks.number);
        for client in &mut self.clients {
            if matches!(client.hears, Hears::Check(first) if first <= number) {
                client.tell(&Reply::Checked { passed, startup });
                client.hears = Hears::Nothing;
                client.flush();
            }
        }
    }

    fn act(&mut self, action: OnFailure) {
        if action != OnFailure::None {
            // Once is enough: a second signal makes some programs give up what they do at their end.
            self.checks = None;
        }
        match action {
            OnFailure::None => {}
            OnFailure::Kill => self.signal(libc::SIGKILL),
            OnFailure::Restart => self.stop_then(Next::Run),
            OnFailure::Stop => {
                if let Some(notifier) = &mut self.sdnotify {
                    notifier.unhealthy();
                }
                self.stop_then(Next::Stopped);
            }
        }
    }

    fn stop_then(&mut self, next: Next) {
        if !self.next.is_end() {
            self.next = next;
        }
        let limit = self.container.config.process.stop_timeout;
        self.stop(None, Some(Duration::from_secs(limit.into())));
    }

    /// The container has ended: a check of it says nothing any more.
    pub fn end_checks(&mut self) {
        let checks = self.checks.take();
        if let Some(current) = checks.and_then(|checks| checks.current) {
            current.checker.kill();
        }
    }

    /// The user wants other checks than before.
    pub fn change_checks(&mut self) {
        let wanted = &self.container.config.health;
        let Some(checks) = self.checks.as_deref_mut() else {
            self.checks = self
                .run
                .as_ref()
                .and_then(|_| Checks::begin(&self.container, wanted));
            return;
        };
        if checks.health == *wanted {
            return;
        }
        checks.health = wanted.clone();
        checks.machine.changed(wanted);
        if wanted.check.is_none() {
            self.end_checks();
            // Who waits for one waits in vain.
            for client in 0..self.clients.len() {
                if matches!(self.clients[client].hears, Hears::Check(_)) {
                    self.clients[client].hears = Hears::Nothing;
                    self.refuse_check(client, "it has no health check");
                }
            }
            std::fs::remove_file(self.container.health_file()).ok();
            return;
        }
        if checks.current.is_none() {
            checks.plan();
        }
    }
}
