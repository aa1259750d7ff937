//! The HEALTHCHECK of an image, as it stands in the config. Hostile: what is of a wrong kind or out of
//! all measure is as if it had not been said.

use std::time::Duration;

use serde_json::Value;

/// A check more often than this costs more than it tells.
const SHORTEST: Duration = Duration::from_secs(1);

/// What an image says; absent is what it leaves to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// Docker's list: `CMD` and words, or `CMD-SHELL` and a text, or `NONE`.
    pub test: Vec<String>,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub retries: Option<u32>,
}

/// Reads `Healthcheck` of a config. `None`: it is no list of words.
pub fn parse(value: &Value) -> Option<Healthcheck> {
    let test = value.get("Test")?.as_array()?.iter();
    let test = test.map(|word| Some(word.as_str()?.to_owned()));
    let number = |key| value.get(key).and_then(Value::as_u64).filter(|n| *n > 0);
    let duration = |key| number(key).map(Duration::from_nanos);
    let at_least = |key| duration(key).map(|duration| duration.max(SHORTEST));
    Some(Healthcheck {
        test: test.collect::<Option<Vec<String>>>()?,
        interval: at_least("Interval"),
        timeout: at_least("Timeout"),
        start_period: duration("StartPeriod"),
        start_interval: at_least("StartInterval"),
        retries: number("Retries").map(|retries| u32::try_from(retries).unwrap_or(u32::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dockers_form_is_read() {
        let value = json!({
            "Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"],
            "Interval": 5_000_000_000_u64, "Timeout": 3_000_000_000_u64,
            "StartPeriod": 60_000_000_000_u64, "StartInterval": 2_000_000_000, "Retries": 4,
        });
        let found = parse(&value).unwrap();
        assert_eq!(found.test[1], "curl -f http://localhost/ || exit 1");
        assert_eq!(found.interval, Some(Duration::from_secs(5)));
        assert_eq!(found.timeout, Some(Duration::from_secs(3)));
        assert_eq!(found.start_period, Some(Duration::from_mins(1)));
        assert_eq!(found.start_interval, Some(Duration::from_secs(2)));
        assert_eq!(found.retries, Some(4));
    }

    #[test]
    fn hostile_values_are_bounded() {
        let value = json!({
            "Test": ["CMD", "x"], "Interval": 1, "Timeout": 1, "StartInterval": 1,
            "StartPeriod": u64::MAX, "Retries": 1_u64 << 63,
        });
        let found = parse(&value).unwrap();
        assert_eq!(found.interval, Some(SHORTEST));
        assert_eq!(found.timeout, Some(SHORTEST));
        assert_eq!(found.start_interval, Some(SHORTEST));
        assert_eq!(found.retries, Some(u32::MAX));
        for odd in [
            json!(-1),
            json!(0),
            json!(1e300),
            json!("30s"),
            json!(null),
            json!([]),
        ] {
            let value =
                json!({ "Test": ["NONE"], "Interval": odd, "Retries": odd, "Timeout": odd });
            let expected = Healthcheck {
                test: vec!["NONE".into()],
                ..Healthcheck::default()
            };
            assert_eq!(parse(&value), Some(expected));
        }
        for wrong in [
            json!(null),
            json!({}),
            json!({"Test": "x"}),
            json!({"Test": [1]}),
        ] {
            assert_eq!(parse(&wrong), None);
        }
    }
}
