//! What follows from the results of checks: nothing here looks at a clock or a process.
//!
//! ```text
//! starting ---- success ----> healthy <--- success --- unhealthy
//!    |                           |                         ^
//!    +--- `retries` failures in a row, of those that count-+
//! ```
//!
//! A container with a startup probe is `starting` until that has succeeded often enough; the check
//! itself begins then. A failure does not count within the start period, as long as nothing has
//! succeeded; nor does that of the first check of all, which comes earlier than Docker's, so that who is
//! quick need not wait for the first interval to be healthy.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::container::config::health::Health;
use crate::container::config::health::Startup;
use crate::container::config::health::Test;

/// Before the first check at most so long.
const FIRST: Duration = Duration::from_secs(1);

/// Docker: between checks in the start period, where nothing else is said.
const START_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// Where one run of a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub status: Status,
    /// Failures that count, since the last success.
    pub streak: u32,
    /// The startup probe has succeeded as often as it must.
    is_up: bool,
    probes_failed: u32,
    probes_passed: u32,
    has_checked: bool,
    /// The startup probe has said just now that the time for the check has come.
    is_due: bool,
}

/// What is to be executed.
#[derive(Debug, PartialEq, Eq)]
pub struct Probe<'a> {
    pub test: &'a Test,
    pub timeout: Duration,
    /// It is the startup probe.
    pub startup: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub passed: bool,
    /// When it began, since the start of the container.
    pub began: Duration,
    /// Somebody asked for it.
    pub asked: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// What the user wants done with an unhealthy container.
    OnFailure,
    Restart,
}

impl Machine {
    fn startup<'a>(&self, health: &'a Health) -> Option<&'a Startup> {
        health.startup.as_ref().filter(|_| !self.is_up)
    }

    /// The next check, if there is one at all.
    pub fn probe<'a>(&self, health: &'a Health) -> Option<Probe<'a>> {
        let check = health.check.as_ref()?;
        Some(match self.startup(health) {
            Some(startup) => Probe {
                test: &startup.test,
                timeout: startup.timeout,
                startup: true,
            },
            None => Probe {
                test: &check.test,
                timeout: check.timeout,
                startup: false,
            },
        })
    }

    /// How long to wait for the next check, so long after the start; `None`: until somebody asks.
    pub fn pause(&self, health: &Health, uptime: Duration) -> Option<Duration> {
        let check = health.check.as_ref()?;
        let is_starting = self.status == Status::Starting;
        let usual = match self.startup(health) {
            Some(startup) => startup.interval.duration()?,
            None if self.is_due => return Some(Duration::ZERO),
            None => check.interval.duration()?,
        };
        let pause = match check.start_period.checked_sub(uptime) {
            Some(left) if is_starting && !left.is_zero() => {
                check.start_interval.unwrap_or(START_INTERVAL.min(usual))
            }
            _ => usual,
        };
        Some(if self.has_checked {
            pause
        } else {
            pause.min(FIRST)
        })
    }

    /// Takes a result.
    pub fn take(&mut self, health: &Health, outcome: Outcome) -> Need {
        let Some(check) = &health.check else {
            return Need::Nothing;
        };
        self.is_due = false;
        if let Some(startup) = self.startup(health) {
            self.has_checked = true;
            return self.take_startup(startup, outcome.passed);
        }
        let is_first = !self.has_checked && !outcome.asked;
        self.has_checked = true;
        if outcome.passed {
            self.status = Status::Healthy;
            self.streak = 0;
            return Need::Nothing;
        }
        let spared = self.status == Status::Starting && outcome.began < check.start_period;
        if spared || is_first {
            return Need::Nothing;
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak < check.retries {
            return Need::Nothing;
        }
        self.status = Status::Unhealthy;
        Need::OnFailure
    }

    fn take_startup(&mut self, startup: &Startup, passed: bool) -> Need {
        if passed {
            self.probes_passed = self.probes_passed.saturating_add(1);
            self.probes_failed = 0;
            self.is_up = self.probes_passed >= startup.successes.max(1);
            self.is_due = self.is_up;
            return Need::Nothing;
        }
        self.probes_failed = self.probes_failed.saturating_add(1);
        if startup.retries == 0 || self.probes_failed < startup.retries {
            return Need::Nothing;
        }
        Need::Restart
    }

    /// The user wants other checks from now on. One that runs has no startup probe any more.
    pub fn changed(&mut self, health: &Health) {
        if health.check.is_none() {
            *self = Machine::default();
        }
        self.is_up |= self.status != Status::Starting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::config::health::Check;
    use crate::container::config::health::Interval;

    const SECOND: Duration = Duration::from_secs(1);

    fn health(change: impl FnOnce(&mut Check)) -> Health {
        let mut check = Check::new(Test::Text("true".into()));
        change(&mut check);
        Health {
            check: Some(check),
            ..Health::default()
        }
    }

    fn run(machine: &mut Machine, health: &Health, passed: bool, seconds: u64) -> Need {
        machine.take(
            health,
            Outcome {
                passed,
                began: Duration::from_secs(seconds),
                asked: false,
            },
        )
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let health = health(|_| ());
        let mut machine = Machine::default();
        assert_eq!(machine.pause(&health, SECOND), Some(SECOND));
        // The first one is early.
        assert_eq!(run(&mut machine, &health, false, 1), Need::Nothing);
        assert_eq!(machine.streak, 0);
        assert_eq!(machine.pause(&health, SECOND), Some(SECOND * 30));
        for streak in 1..3 {
            assert_eq!(run(&mut machine, &health, false, 31), Need::Nothing);
            assert_eq!((machine.status, machine.streak), (Status::Starting, streak));
        }
        assert_eq!(run(&mut machine, &health, false, 91), Need::OnFailure);
        assert_eq!((machine.status, machine.streak), (Status::Unhealthy, 3));
        assert_eq!(run(&mut machine, &health, false, 99), Need::OnFailure);
        assert_eq!(machine.streak, 4);
        assert_eq!(run(&mut machine, &health, true, 121), Need::Nothing);
        assert_eq!((machine.status, machine.streak), (Status::Healthy, 0));
        for _ in 0..2 {
            assert_eq!(run(&mut machine, &health, false, 130), Need::Nothing);
            assert_eq!(machine.status, Status::Healthy);
        }
        assert_eq!(run(&mut machine, &health, false, 140), Need::OnFailure);
    }

    #[test]
    fn a_check_that_was_asked_for_counts_at_once() {
        let health = health(|check| check.retries = 1);
        let mut machine = Machine::default();
        let asked = Outcome {
            passed: false,
            began: Duration::ZERO,
            asked: true,
        };
        assert_eq!(machine.take(&health, asked), Need::OnFailure);
        assert_eq!(machine.status, Status::Unhealthy);
    }

    #[test]
    fn the_start_period_spares_who_was_never_healthy() {
        let health = health(|check| {
            check.retries = 1;
            check.start_period = SECOND * 60;
            check.start_interval = Some(SECOND * 2);
        });
        let mut machine = Machine::default();
        for second in 0..60 {
            assert_eq!(run(&mut machine, &health, false, second), Need::Nothing);
            assert_eq!((machine.status, machine.streak), (Status::Starting, 0));
            let pause = machine.pause(&health, Duration::from_secs(second));
            assert_eq!(pause, Some(SECOND * 2));
        }
        assert_eq!(machine.pause(&health, SECOND * 60), Some(SECOND * 30));
        let mut healthy = machine.clone();
        assert_eq!(run(&mut machine, &health, false, 60), Need::OnFailure);
        run(&mut healthy, &health, true, 10);
        assert_eq!(healthy.pause(&health, SECOND * 10), Some(SECOND * 30));
        assert_eq!(run(&mut healthy, &health, false, 11), Need::OnFailure);
    }

    #[test]
    fn in_the_start_period_checks_are_frequent_by_default() {
        let slow = health(|check| check.start_period = SECOND * 60);
        let quick = health(|check| {
            check.start_period = SECOND * 60;
            check.interval = Interval::Every(SECOND * 3);
        });
        let mut machine = Machine::default();
        run(&mut machine, &slow, false, 1);
        assert_eq!(machine.pause(&slow, SECOND), Some(SECOND * 5));
        assert_eq!(machine.pause(&quick, SECOND), Some(SECOND * 3));
    }

    #[test]
    fn a_startup_probe_comes_before_the_check() {
        let mut health = health(|check| check.retries = 1);
        health.startup = Some(Startup {
            interval: Interval::Every(SECOND * 4),
            retries: 3,
            successes: 2,
            ..Startup::new(Test::Text("up".into()))
        });
        let mut machine = Machine::default();
        assert!(machine.probe(&health).unwrap().startup);
        for need in [Need::Nothing, Need::Nothing, Need::Restart] {
            assert_eq!(run(&mut machine, &health, false, 1), need);
            assert_eq!(machine.pause(&health, SECOND), Some(SECOND * 4));
        }
        let mut machine = Machine::default();
        for passed in [false, true, false, true] {
            assert!(machine.probe(&health).unwrap().startup);
            assert_eq!(run(&mut machine, &health, passed, 1), Need::Nothing);
            assert_eq!((machine.status, machine.streak), (Status::Starting, 0));
        }
        assert!(!machine.probe(&health).unwrap().startup);
        assert_eq!(machine.pause(&health, SECOND), Some(Duration::ZERO));
        assert_eq!(run(&mut machine, &health, false, 1), Need::OnFailure);
        assert_eq!(machine.pause(&health, SECOND), Some(SECOND * 30));
    }

    #[test]
    fn without_an_interval_only_those_that_are_asked_for_run() {
        let mut health = health(|check| check.interval = Interval::Never);
        assert_eq!(Machine::default().pause(&health, SECOND), None);
        assert!(Machine::default().probe(&health).is_some());
        health.check = None;
        assert_eq!(Machine::default().probe(&health), None);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let health = health(|check| {
            check.retries = u32::MAX;
            check.start_period = Duration::MAX;
            check.interval = Interval::Every(Duration::MAX);
            check.start_interval = Some(Duration::MAX);
        });
        let mut machine = Machine {
            streak: u32::MAX - 1,
            has_checked: true,
            status: Status::Healthy,
            ..Machine::default()
        };
        assert_eq!(machine.pause(&health, Duration::MAX), Some(Duration::MAX));
        assert_eq!(run(&mut machine, &health, false, u64::MAX), Need::OnFailure);
        assert_eq!(run(&mut machine, &health, false, 0), Need::OnFailure);
        assert_eq!(machine.streak, u32::MAX);
    }
}
