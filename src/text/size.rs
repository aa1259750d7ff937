//! Sizes: `10m` and `1.5GiB` in (base 1024, as Docker's --memory), `7.81 MB` out
//! (base 1000, as `images` and `ps --size` print).

use anyhow::Result;

use crate::error::Kind;
use crate::error::fail;

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Bytes of a size as it is typed: a number, perhaps with a fraction, then perhaps
/// `b`, or one of `k m g t p` alone or followed by `b` or `ib`. All are powers of 1024.
pub fn parse(text: &str) -> Result<u64> {
    parse_bytes(text).ok_or_else(|| {
        fail(
            Kind::Usage,
            format!("size {text:?}: expected a number with one of b, k, m, g, t, p, as 512m"),
        )
    })
}

fn parse_bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let shift = shift_of(rest.strip_prefix(' ').unwrap_or(rest))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let bytes = whole.checked_mul(1 << shift)?;
    bytes.checked_add(fraction_bytes(fraction, shift))
}

/// The exponent of two of a unit's name.
fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let shift = match letters.next() {
        None => return Some(0),
        Some('b') => return letters.next().is_none().then_some(0),
        Some('k') => 10,
        Some('m') => 20,
        Some('g') => 30,
        Some('t') => 40,
        Some('p') => 50,
        Some(_) => return None,
    };
    matches!(letters.as_str(), "" | "b" | "ib").then_some(shift)
}

/// `.5` of a unit, in bytes, exact for up to 18 digits and cut there.
fn fraction_bytes(digits: &str, shift: u32) -> u64 {
    let digits = &digits[..digits.len().min(18)];
    let Ok(value) = digits.parse::<u128>() else {
        return 0;
    };
    let scale = 10u128.pow(u32::try_from(digits.len()).unwrap_or(18));
    u64::try_from((value << shift) / scale).unwrap_or(u64::MAX)
}

/// A size for people, three significant digits: `0 B`, `532 B`, `7.81 MB`, `1.2 GB`.
pub fn human(bytes: u64) -> String {
    human_with(bytes, 3, " ")
}

/// A size with so many significant digits and this between number and unit; base 1000.
/// Docker's statistics have four digits and nothing between: `1.245GB`.
pub fn human_with(bytes: u64, digits: u32, between: &str) -> String {
    let mut unit = 0;
    let mut scale: u128 = 1;
    while u128::from(bytes) >= scale * 1000 && unit + 1 < UNITS.len() {
        scale *= 1000;
        unit += 1;
    }
    let text = significant(u128::from(bytes), scale, digits);
    // 999.9 rounds up to 1000, which is 1 of the next unit.
    if text == "1000" && unit + 1 < UNITS.len() {
        return format!("1{between}{}", UNITS[unit + 1]);
    }
    format!("{text}{between}{}", UNITS[unit])
}

/// The same in powers of 1024: `3.906KiB`.
pub fn binary(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut scale: u128 = 1;
    while u128::from(bytes) >= scale * 1024 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    format!(
        "{}{}",
        significant(u128::from(bytes), scale, 4),
        UNITS[unit]
    )
}

/// `value / scale` (below 1024) with so many significant digits and no trailing zeros.
fn significant(value: u128, scale: u128, digits: u32) -> String {
    let whole_digits = (value / scale).max(1).ilog10() + 1;
    let places = digits.saturating_sub(whole_digits);
    let power = 10u128.pow(places);
    let rounded = (value * power + scale / 2) / scale;
    let whole = rounded / power;
    let fraction = rounded % power;
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:0width$}", width = places as usize);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_powers_of_1024() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (4000, "3.906KiB"),
            (15 << 30, "15GiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }

    #[test]
    fn sizes_are_parsed_in_powers_of_1024() {
        let table = [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1024),
            ("1K", 1024),
            ("10m", 10 << 20),
            ("10 MB", 10 << 20),
            ("1g", 1 << 30),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("0.5k", 512),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("9007199254740993", 9_007_199_254_740_993),
            ("1.000000000000000000000001k", 1024),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_and_quoted() {
        for text in [
            "", "b", "k", ".", ".5k", "5.", "-1", "+1", "1x", "1kx", "1kib2", "1bb", "1  k", " 1",
            "1 k ", "1.2.3k", "0x10", "1e3", "20000p", "inf", "10mib\n", "1é",
        ] {
            let err = parse(text).expect_err(text);
            assert!(err.to_string().contains(&format!("{text:?}")), "{err}");
        }
    }

    #[test]
    fn sizes_are_printed_as_podman_prints_them() {
        let table = [
            (0, "0 B"),
            (1, "1 B"),
            (532, "532 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1500, "1.5 kB"),
            (7_812_345, "7.81 MB"),
            (7_815_001, "7.82 MB"),
            (77_812_345, "77.8 MB"),
            (777_812_345, "778 MB"),
            (999_400, "999 kB"),
            (999_500, "1 MB"),
            (1_000_000_000, "1 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human_with(1_245_678_901, 4, ""), "1.246GB");
        assert_eq!(human_with(1_000_500, 4, ""), "1.001MB");
    }
}
