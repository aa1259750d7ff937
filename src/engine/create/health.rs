//! How a container will be checked: what its image says, and what the user wants otherwise.

use std::path::Path;
use std::time::Duration;

use crate::container::config::Health;
use crate::container::config::health::Check;
use crate::container::config::health::Destination;
use crate::container::config::health::Interval;
use crate::container::config::health::OnFailure;
use crate::container::config::health::Startup;
use crate::container::config::health::Test;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::config::ImageConfig;
use crate::image::healthcheck;

/// What the user asks for. Absent is what there is already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// No check at all.
    pub none: bool,
    pub test: Option<Test>,
    pub interval: Option<Interval>,
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub startup_test: Option<Test>,
    pub startup_interval: Option<Interval>,
    pub startup_timeout: Option<Duration>,
    pub startup_retries: Option<u32>,
    pub startup_successes: Option<u32>,
    pub on_failure: Option<OnFailure>,
    pub destination: Option<Destination>,
    pub log_count: Option<u32>,
    pub log_size: Option<u32>,
}

impl Wish {
    /// A flag that means nothing without a check.
    fn of_check(&self) -> Option<&'static str> {
        let given = [
            ("--health-interval", self.interval.is_some()),
            ("--health-timeout", self.timeout.is_some()),
            ("--health-retries", self.retries.is_some()),
            ("--health-start-period", self.start_period.is_some()),
            ("--health-start-interval", self.start_interval.is_some()),
            ("--health-startup-cmd", self.startup_test.is_some()),
            ("--health-on-failure", self.on_failure.is_some()),
            ("--health-log-destination", self.destination.is_some()),
            ("--health-max-log-count", self.log_count.is_some()),
            ("--health-max-log-size", self.log_size.is_some()),
        ];
        let found = given.iter().find(|(_, given)| *given);
        found.map(|(flag, _)| *flag).or(self.of_startup())
    }

    /// One that means nothing without a startup probe.
    fn of_startup(&self) -> Option<&'static str> {
        let given = [
            ("--health-startup-interval", self.startup_interval.is_some()),
            ("--health-startup-timeout", self.startup_timeout.is_some()),
            ("--health-startup-retries", self.startup_retries.is_some()),
            ("--health-startup-success", self.startup_successes.is_some()),
        ];
        let found = given.iter().find(|(_, given)| *given);
        found.map(|(flag, _)| *flag)
    }
}

pub fn decide(wish: Wish, image: &ImageConfig) -> anyhow::Result<Health> {
    change(of_image(image), wish)
}

/// An image whose word is none has no check.
fn of_image(image: &ImageConfig) -> Health {
    let said = image.healthcheck.as_ref().and_then(healthcheck::parse);
    let check = said.and_then(|said| {
        let test = Test::of_list(&said.test).ok().flatten()?;
        let usual = Check::new(test);
        Some(Check {
            interval: said.interval.map_or(usual.interval, Interval::Every),
            timeout: said.timeout.unwrap_or(usual.timeout),
            retries: said.retries.unwrap_or(usual.retries),
            start_period: said.start_period.unwrap_or(usual.start_period),
            start_interval: said.start_interval,
            test: usual.test,
        })
    });
    Health {
        check,
        shell: image.shell.clone(),
        ..Health::default()
    }
}

/// What there is, with what the user wants otherwise.
pub fn change(mut health: Health, wish: Wish) -> anyhow::Result<Health> {
    if wish.none {
        return Ok(Health {
            shell: health.shell,
            ..Health::default()
        });
    }
    let (flag, startup_flag) = (wish.of_check(), wish.of_startup());
    if let Some(test) = wish.test {
        match &mut health.check {
            Some(check) => check.test = test,
            None => health.check = Some(Check::new(test)),
        }
    }
    let Some(check) = &mut health.check else {
        return match flag {
            Some(flag) => Err(
                fail(Kind::Usage, format!("{flag}: there is no health check"))
                    .hint("give one: `--health-cmd COMMAND`"),
            ),
            None => Ok(health),
        };
    };
    set(&mut check.interval, wish.interval);
    set(&mut check.timeout, wish.timeout);
    set(&mut check.retries, wish.retries);
    set(&mut check.start_period, wish.start_period);
    check.start_interval = wish.start_interval.or(check.start_interval);
    if let Some(test) = wish.startup_test {
        match &mut health.startup {
            Some(startup) => startup.test = test,
            None => health.startup = Some(Startup::new(test)),
        }
    }
    match (&mut health.startup, startup_flag) {
        (Some(startup), _) => {
            set(&mut startup.interval, wish.startup_interval);
            set(&mut startup.timeout, wish.startup_timeout);
            set(&mut startup.retries, wish.startup_retries);
            set(&mut startup.successes, wish.startup_successes);
        }
        (None, Some(flag)) => {
            return Err(
                fail(Kind::Usage, format!("{flag}: there is no startup probe"))
                    .hint("give one: `--health-startup-cmd COMMAND`"),
            );
        }
        (None, None) => {}
    }
    set(&mut health.on_failure, wish.on_failure);
    if let Some(destination) = wish.destination {
        if let Destination::Directory(path) = &destination {
            check_directory(path)?;
        }
        health.log.destination = destination;
    }
    set(&mut health.log.count, wish.log_count);
    set(&mut health.log.size, wish.log_size);
    Ok(health)
}

fn set<T>(field: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *field = wanted;
    }
}

fn check_directory(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    Err(fail(
        Kind::Usage,
        format!(
            "--health-log-destination=\"{}\": there is no such directory",
            path.display()
        ),
    ))
}
