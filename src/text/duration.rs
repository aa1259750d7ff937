//! Durations: Go's form (`1h30m`, `500ms`) in and out, and Docker's words for people
//! (`About a minute`, `3 hours`).

use std::time::Duration;

use anyhow::Result;

use crate::error::Kind;
use crate::error::fail;

/// A duration as Go writes it: numbers, perhaps with fractions, each with one of
/// `ns us ms s m h`; or a plain `0`. Negative ones have no use here and are refused.
pub fn parse(text: &str) -> Result<Duration> {
    parse_nanos(text).map(Duration::from_nanos).ok_or_else(|| {
        fail(
            Kind::Usage,
            format!("duration {text:?}: expected numbers with units ns, us, ms, s, m, h, as 1m30s"),
        )
    })
}

fn parse_nanos(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = parse_part(rest)?;
        total = total.checked_add(nanos)?;
        rest = after;
    }
    Some(total)
}

/// One number with its unit, and what is left.
fn parse_part(text: &str) -> Option<(u64, &str)> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c))?;
    let (number, rest) = text.split_at(end);
    let end = rest.find(is_number).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().unwrap_or(0) * u128::from(unit) / scale;
    let nanos = whole
        .checked_mul(unit)?
        .checked_add(u64::try_from(part).ok()?)?;
    Some((nanos, rest))
}

/// Docker's words: `Less than a second`, `12 seconds`, `About a minute`, `2 hours`, `5 days`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => return format!("{seconds} seconds"),
        60..120 => return "About a minute".to_owned(),
        120..3600 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        0 | 1 => "About an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// As Go writes it: `1h2m3.5s`, `250ms`, `0s`.
pub fn go(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    if duration.as_secs() == 0 {
        let (unit, name) = match nanos {
            0 => return "0s".to_owned(),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return decimal((nanos / unit).into(), nanos % unit, unit) + name;
    }
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let seconds = decimal(seconds, nanos, 1_000_000_000) + "s";
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// With so many parts of a unit behind the point.
fn decimal(whole: u64, part: u32, unit: u32) -> String {
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{part:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// `2 hours ago`.
pub fn human_ago(duration: Duration) -> String {
    human(duration) + " ago"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (12, "12ns"),
            (12_500, "12.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (120_000_000_000, "2m0s"),
        ] {
            assert_eq!(go(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn go_durations_are_parsed() {
        let table = [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("90m", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("1500ns", 1_500),
            ("1h", 3_600_000_000_000),
            ("1m0.000000001s", 60_000_000_001),
            ("100h", 360_000_000_000_000),
        ];
        for (text, nanos) in table {
            let duration = parse(text).unwrap();
            assert_eq!(duration.as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_and_quoted() {
        for text in [
            "",
            "+",
            "5",
            "-5s",
            "s",
            ".s",
            "1.2.3s",
            "5 s",
            "5x",
            "5sm",
            "1d",
            "5s ",
            "6000000h",
            "99999999999999999999s",
        ] {
            let err = parse(text).expect_err(text);
            assert!(err.to_string().contains(&format!("{text:?}")), "{err}");
        }
    }

    #[test]
    fn durations_have_dockers_words() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ];
        for (seconds, words) in table {
            assert_eq!(human(Duration::from_secs(seconds)), words, "{seconds}");
        }
        assert_eq!(human_ago(Duration::from_hours(2)), "2 hours ago");
    }
}
