//! The health of a container, by the names that Docker and Podman have for it.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::cli::inspect::go_time;
use crate::container::config::health::Interval;
use crate::container::health;
use crate::container::record::Container;
use crate::container::status::Status;

/// For `State`: nothing where it is not checked.
pub fn state(container: &Container, status: &Status) -> Value {
    let Some(report) = health::of(container, status) else {
        return json!({});
    };
    let log = report.log.iter().map(|entry| {
        json!({
            "Start": go_time(entry.start),
            "End": go_time(entry.end),
            "ExitCode": entry.exit_code,
            "Output": entry.output,
        })
    });
    let health = json!({
        "Status": report.status.name(),
        "FailingStreak": report.failing_streak,
        "Log": log.collect::<Vec<Value>>(),
    });
    json!({ "Health": health, "Healthcheck": health })
}

/// For `Config`.
pub fn config(container: &Container) -> Value {
    let health = &container.config.health;
    let Some(check) = &health.check else {
        return json!({});
    };
    let mut config = json!({
        "Healthcheck": {
            "Test": check.test.list(),
            "Interval": every(check.interval),
            "Timeout": nanos(check.timeout),
            "StartPeriod": nanos(check.start_period),
            "StartInterval": nanos(check.start_interval.unwrap_or_default()),
            "Retries": check.retries,
        },
        "HealthcheckOnFailureAction": health.on_failure.name(),
        "HealthLogDestination": health.log.destination.name(),
        "HealthMaxLogCount": health.log.count,
        "HealthMaxLogSize": health.log.size,
    });
    if let Some(startup) = &health.startup {
        config["StartupHealthCheck"] = json!({
            "Test": startup.test.list(),
            "Interval": every(startup.interval),
            "Timeout": nanos(startup.timeout),
            "Retries": startup.retries,
            "Successes": startup.successes,
        });
    }
    config
}

/// As Docker has durations.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// As Podman: 0 is never.
fn every(interval: Interval) -> u64 {
    interval.duration().map_or(0, nanos)
}
