//! How fast a network may be: `RATE[,BURST]` for both directions, or `in=RATE[,BURST],out=RATE[,BURST]`. A rate is
//! in bytes per second, as `500k` and `10m` (base 1024), or in bits per second, as `10mbit` (base 1000).

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::text::size;

/// One full frame a second is much slower than anything still works at.
const LEAST: u64 = 8 * 1024;

/// Of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bytes per second.
    pub bytes: u64,
    /// How much may go at once after a pause.
    pub burst: u64,
}

/// Absent is as fast as it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// To the container.
    pub inward: Option<Rate>,
    pub outward: Option<Rate>,
}

impl Rates {
    /// The lower of the two.
    pub fn least(&self) -> Option<u64> {
        let both = [self.inward, self.outward];
        both.into_iter().flatten().map(|rate| rate.bytes).min()
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Both,
    In,
    Out,
}

/// `unlimited` takes a limit away.
pub fn parse(text: &str) -> Result<Rates, String> {
    let mut rates = Rates::default();
    if text == "unlimited" {
        return Ok(rates);
    }
    let mut last = None;
    for word in text.split(',') {
        let (direction, value) = match word.split_once('=') {
            Some(("in", value)) => (Direction::In, value),
            Some(("out", value)) => (Direction::Out, value),
            Some((other, _)) => {
                return Err(format!("\"{other}\": expected in=RATE or out=RATE"));
            }
            None => match last.take() {
                Some(direction) => {
                    set_burst(&mut rates, direction, word)?;
                    continue;
                }
                None => (Direction::Both, word),
            },
        };
        set_rate(&mut rates, direction, value)?;
        last = Some(direction);
    }
    Ok(rates)
}

fn chosen(rates: &mut Rates, direction: Direction) -> impl Iterator<Item = &mut Option<Rate>> {
    let (inward, outward) = match direction {
        Direction::Both => (true, true),
        Direction::In => (true, false),
        Direction::Out => (false, true),
    };
    let inward = inward.then_some(&mut rates.inward);
    inward
        .into_iter()
        .chain(outward.then_some(&mut rates.outward))
}

fn set_rate(rates: &mut Rates, direction: Direction, text: &str) -> Result<(), String> {
    let expected = || {
        format!(
            "rate \"{text}\": expected bytes per second as 500k or 10m, or bits as 10mbit, from 8k on"
        )
    };
    let bytes = bytes_per_second(text).filter(|bytes| *bytes >= LEAST);
    let bytes = bytes.ok_or_else(expected)?;
    for rate in chosen(rates, direction) {
        if rate.is_some() {
            return Err(format!("rate \"{text}\": the direction has one already"));
        }
        // What comes in a twentieth of a second, or one frame.
        let burst = (bytes / 20).max(64 * 1024);
        *rate = Some(Rate { bytes, burst });
    }
    Ok(())
}

fn set_burst(rates: &mut Rates, direction: Direction, text: &str) -> Result<(), String> {
    let burst = size::parse(text).ok().filter(|burst| *burst > 0);
    let burst = burst.ok_or_else(|| format!("burst \"{text}\": expected bytes, as 64k"))?;
    for rate in chosen(rates, direction).flatten() {
        rate.burst = burst;
    }
    Ok(())
}

fn bytes_per_second(text: &str) -> Option<u64> {
    let Some(rest) = text.strip_suffix("bit") else {
        return size::parse(text).ok();
    };
    let (number, factor) = match rest.as_bytes().last()? {
        b'k' => (&rest[..rest.len() - 1], 1_000),
        b'm' => (&rest[..rest.len() - 1], 1_000_000),
        b'g' => (&rest[..rest.len() - 1], 1_000_000_000),
        _ => (rest, 1),
    };
    Some(number.parse::<u64>().ok()?.checked_mul(factor)? / 8)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.bytes, self.burst)
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.inward, self.outward) {
            (None, None) => f.write_str("unlimited"),
            (Some(both), Some(other)) if both == other => write!(f, "{both}"),
            (Some(inward), Some(outward)) => write!(f, "in={inward},out={outward}"),
            (Some(inward), None) => write!(f, "in={inward}"),
            (None, Some(outward)) => write!(f, "out={outward}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        for (text, shown) in [
            ("500k", "512000,65536"),
            ("10m", "10485760,524288"),
            ("10mbit", "1250000,65536"),
            ("1gbit,1m", "125000000,1048576"),
            ("80000bit", "10000,65536"),
            ("in=1m", "in=1048576,65536"),
            ("out=1m,8k", "out=1048576,8192"),
            (
                "in=10mbit,64k,out=800kbit,16k",
                "in=1250000,65536,out=100000,16384",
            ),
            ("in=1m,out=1m", "1048576,65536"),
            ("unlimited", "unlimited"),
        ] {
            let rates = parse(text).unwrap();
            assert_eq!(rates.to_string(), shown, "{text}");
            assert_eq!(parse(shown), Ok(rates));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let expected = "expected bytes per second as 500k or 10m, or bits as 10mbit, from 8k on";
        for (text, why) in [
            ("", format!("rate \"\": {expected}")),
            ("fast", format!("rate \"fast\": {expected}")),
            ("1k", format!("rate \"1k\": {expected}")),
            ("10mbps", format!("rate \"10mbps\": {expected}")),
            (
                "99999999999gbit",
                format!("rate \"99999999999gbit\": {expected}"),
            ),
            ("up=1m", "\"up\": expected in=RATE or out=RATE".into()),
            ("1m,0", "burst \"0\": expected bytes, as 64k".into()),
            (
                "1m,out=2m",
                "rate \"2m\": the direction has one already".into(),
            ),
            (
                "1m,64k,2m",
                "rate \"2m\": the direction has one already".into(),
            ),
        ] {
            assert_eq!(parse(text), Err(why));
        }
    }
}
