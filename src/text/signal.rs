//! Signals by name and number, as `kill` and `--stop-signal` take them. The numbers
//! are those that x86-64 and arm64 share.

use anyhow::Result;

use crate::error::Kind;
use crate::error::fail;

/// The first real-time signal that glibc leaves to programs (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// By number, from 1.
pub const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names of the same numbers.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// The number of `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-1`.
pub fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| {
        fail(
            Kind::Usage,
            format!("unknown signal {text:?}: use a name as TERM or a number from 1 to {RTMAX}"),
        )
    })
}

fn number(text: &str) -> Option<i32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (1..=RTMAX).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    let (base, sign, rest) = match name.strip_prefix("RTMIN") {
        Some(rest) => (RTMIN, '+', rest),
        None => (RTMAX, '-', name.strip_prefix("RTMAX")?),
    };
    if rest.is_empty() {
        return Some(base);
    }
    let digits = rest.strip_prefix(sign)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset: i32 = digits.parse().ok().filter(|n| *n <= RTMAX - RTMIN)?;
    Some(if base == RTMIN {
        base + offset
    } else {
        base - offset
    })
}

/// `SIGTERM`, `SIGRTMIN+3`; a number that is no signal stays a number.
pub fn name(number: i32) -> String {
    let known = usize::try_from(number - 1)
        .ok()
        .and_then(|index| NAMES.get(index));
    match (known, number) {
        (Some(name), _) => format!("SIG{name}"),
        (None, RTMIN) => "SIGRTMIN".to_owned(),
        (None, RTMAX) => "SIGRTMAX".to_owned(),
        (None, n) if n > RTMIN && n < RTMIN + 16 => format!("SIGRTMIN+{}", n - RTMIN),
        (None, n) if n > RTMIN && n < RTMAX => format!("SIGRTMAX-{}", RTMAX - n),
        (None, n) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_all_their_names() {
        let table = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("term", 15),
            ("sigterm", 15),
            ("15", 15),
            ("KILL", 9),
            ("SIGWINCH", 28),
            ("IOT", 6),
            ("POLL", 29),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMIN+30", 64),
            ("rtmax-1", 63),
            ("RTMAX", 64),
            ("64", 64),
        ];
        for (text, number) in table {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_and_quoted() {
        for text in [
            "",
            "0",
            "65",
            "-9",
            "FOO",
            "SIG",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+",
            "RTMIN++1",
            "RTMAX+1",
            "15x",
            " TERM",
        ] {
            let err = parse(text).expect_err(text);
            assert!(err.to_string().contains(&format!("{text:?}")), "{err}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_is_parsed_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(number)).unwrap(), number);
        }
        assert_eq!(name(1), "SIGHUP");
        assert_eq!(name(31), "SIGSYS");
        assert_eq!(name(37), "SIGRTMIN+3");
        assert_eq!(name(32), "32");
        assert_eq!(name(0), "0");
    }
}
