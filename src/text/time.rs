//! Points in time: the stamp of a log line, Go's forms for output, what `--since` takes,
//! and `2 hours ago`. Reading the local zone is the caller's one call of [`local_zone`].

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

use crate::error::Kind;
use crate::error::fail;
use crate::text::duration;

/// The zone of this user: TZ, else /etc/localtime, else UTC. Both are read here.
pub fn local_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// Stamps log lines. All but the fraction is made anew only when the second changes,
/// so that a container that logs fast does not pay for calendars.
#[derive(Clone)]
pub struct LogClock {
    zone: TimeZone,
    second: i64,
    /// `2006-01-02T15:04:05.999999999-07:00`, the fraction at a fixed place.
    stamp: String,
    prefix: usize,
}

impl LogClock {
    pub fn new(zone: TimeZone) -> LogClock {
        LogClock {
            zone,
            second: i64::MIN,
            stamp: String::new(),
            prefix: 0,
        }
    }

    /// The stamp of k8s-file logs: RFC 3339, always nine digits, `+00:00` for UTC.
    pub fn stamp(&mut self, now: Timestamp) -> &str {
        // Before 1970 jiff's fraction is negative; no clock that logs is there.
        let nanos = now.subsec_nanosecond().max(0);
        if now.as_second() != self.second {
            self.second = now.as_second();
            let offset = self.zone.to_offset(now);
            self.stamp = seconds(offset.to_datetime(now), 'T');
            self.prefix = self.stamp.len();
            self.stamp.push_str(".000000000");
            self.stamp.push_str(&numeric(offset, ":"));
        }
        let mut rest = nanos;
        let mut digits = [b'0'; 9];
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        let digits = str::from_utf8(&digits).unwrap_or("000000000");
        let start = self.prefix + 1;
        self.stamp.replace_range(start..start + 9, digits);
        &self.stamp
    }
}

/// Go's RFC3339Nano: trailing zeros of the fraction dropped, `Z` for UTC.
pub fn rfc3339_nano(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    let zone = match offset {
        Offset::UTC => "Z".to_owned(),
        offset => numeric(offset, ":"),
    };
    let civil = offset.to_datetime(time);
    seconds(civil, 'T') + &fraction(civil) + &zone
}

/// Go's Time.String, which `{{.Created}}` prints: `2006-01-02 15:04:05.9 +0100 CET`.
pub fn go_string(time: Timestamp, zone: &TimeZone) -> String {
    let info = zone.to_offset_info(time);
    let civil = info.offset().to_datetime(time);
    let offset = numeric(info.offset(), "");
    format!(
        "{}{} {offset} {}",
        seconds(civil, ' '),
        fraction(civil),
        info.abbreviation()
    )
}

/// `2 hours ago`; what lies in the future is `Less than a second ago`.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    duration::human_ago(age)
}

/// What `--since` and `--until` take: RFC 3339, the same without zone (then local) and
/// without time or seconds, a date with zone, Unix seconds with a fraction, or a Go
/// duration before now.
pub fn parse_since(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    parse_unix(text)
        .or_else(|| {
            let age = duration::parse(text).ok()?;
            now.checked_sub(age).ok()
        })
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| parse_civil(text, zone))
        .ok_or_else(|| {
            fail(
                Kind::Usage,
                format!("time {text:?}: expected 2006-01-02T15:04:05Z, 2006-01-02, seconds since 1970, or an age as 10m"),
            )
        })
}

/// RFC 3339 as log lines have it.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn parse_unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanos).ok()
}

/// Times without a zone, and dates with one.
fn parse_civil(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if !text.is_ascii() {
        return None;
    }
    if text.len() <= 10 {
        let date: Date = text.parse().ok()?;
        return zone
            .to_timestamp(date.to_datetime(jiff::civil::Time::midnight()))
            .ok();
    }
    if text.as_bytes()[10] == b'T' {
        // Without seconds a zone may follow: 2006-01-02T15:04+01:00 is read above.
        let time: DateTime = text.parse().ok()?;
        return zone.to_timestamp(time).ok();
    }
    let (date, zone) = text.split_at(10);
    format!("{date}T00:00:00{zone}").parse().ok()
}

fn seconds(civil: DateTime, between: char) -> String {
    let mut text = String::with_capacity(36);
    // Writing to a String cannot fail.
    write!(
        text,
        "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    )
    .ok();
    text
}

fn fraction(civil: DateTime) -> String {
    if civil.subsec_nanosecond() == 0 {
        return String::new();
    }
    let text = format!(".{:09}", civil.subsec_nanosecond());
    text.trim_end_matches('0').to_owned()
}

fn numeric(offset: Offset, between: &str) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn zone(hours: i8) -> TimeZone {
        TimeZone::fixed(Offset::constant(hours))
    }

    #[test]
    fn log_stamps_always_have_nine_digits_and_a_numeric_zone() {
        let mut clock = LogClock::new(zone(-7));
        let table = [
            (
                "2024-03-01T00:00:00.000000001Z",
                "2024-02-29T17:00:00.000000001-07:00",
            ),
            (
                "2024-03-01T00:00:00.120000000Z",
                "2024-02-29T17:00:00.120000000-07:00",
            ),
            (
                "2024-03-01T00:00:01Z",
                "2024-02-29T17:00:01.000000000-07:00",
            ),
        ];
        for (time, stamp) in table {
            assert_eq!(clock.stamp(at(time)), stamp);
            assert_eq!(parse_rfc3339(clock.stamp(at(time))), Some(at(time)));
        }
        let mut clock = LogClock::new(TimeZone::UTC);
        assert_eq!(
            clock.stamp(at("1970-01-01T00:00:00Z")),
            "1970-01-01T00:00:00.000000000+00:00"
        );
    }

    #[test]
    fn log_stamps_follow_daylight_saving_time() {
        let Ok(berlin) = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3") else {
            panic!("a POSIX zone");
        };
        let mut clock = LogClock::new(berlin.clone());
        assert_eq!(
            clock.stamp(at("2024-03-31T00:59:59.9Z")),
            "2024-03-31T01:59:59.900000000+01:00"
        );
        assert_eq!(
            clock.stamp(at("2024-03-31T01:00:00Z")),
            "2024-03-31T03:00:00.000000000+02:00"
        );
        assert_eq!(
            go_string(at("2024-07-01T10:00:00.5Z"), &berlin),
            "2024-07-01 12:00:00.5 +0200 CEST"
        );
    }

    #[test]
    fn times_are_printed_as_go_prints_them() {
        let time = at("2024-01-02T03:04:05.120Z");
        assert_eq!(
            rfc3339_nano(time, &TimeZone::UTC),
            "2024-01-02T03:04:05.12Z"
        );
        assert_eq!(rfc3339_nano(time, &zone(2)), "2024-01-02T05:04:05.12+02:00");
        assert_eq!(
            rfc3339_nano(at("2024-01-02T03:04:05Z"), &zone(0)),
            "2024-01-02T03:04:05Z"
        );
        assert_eq!(
            go_string(time, &TimeZone::UTC),
            "2024-01-02 03:04:05.12 +0000 UTC"
        );
    }

    #[test]
    fn since_takes_dockers_forms() {
        let now = at("2024-06-15T12:00:00Z");
        let table = [
            ("10m", "2024-06-15T11:50:00Z"),
            ("1h30m", "2024-06-15T10:30:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.5", "2006-01-01T00:00:00.5Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("2013-01-02T03:04:05Z", "2013-01-02T03:04:05Z"),
            (
                "2013-01-02T03:04:05.123456789+02:00",
                "2013-01-02T01:04:05.123456789Z",
            ),
            ("2013-01-02T03:04:05", "2013-01-02T01:04:05Z"),
            ("2013-01-02T03:04:05.25", "2013-01-02T01:04:05.25Z"),
            ("2013-01-02T03:04", "2013-01-02T01:04:00Z"),
            ("2013-01-02", "2013-01-01T22:00:00Z"),
            ("2013-01-02Z", "2013-01-02T00:00:00Z"),
            ("2013-01-02+01:00", "2013-01-01T23:00:00Z"),
        ];
        for (text, time) in table {
            assert_eq!(
                parse_since(text, now, &zone(2)).unwrap(),
                at(time),
                "{text}"
            );
        }
        for text in [
            "",
            "yesterday",
            "-5m",
            "12:00",
            "2013-13-01",
            "1.2.3",
            "1136073600.",
            "2013-01-02X",
            "99999999999999999",
            "2013-01-02é",
        ] {
            let err = parse_since(text, now, &zone(2)).expect_err(text);
            assert!(err.to_string().contains(&format!("{text:?}")), "{err}");
        }
    }

    #[test]
    fn ages_have_words() {
        let now = at("2024-06-15T12:00:00Z");
        assert_eq!(ago(at("2024-06-15T10:00:00Z"), now), "2 hours ago");
        assert_eq!(
            ago(at("2024-06-16T10:00:00Z"), now),
            "Less than a second ago"
        );
    }
}
