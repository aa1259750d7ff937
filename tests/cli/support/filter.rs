//! Replaces what differs from run to run, so that whole outputs can be compared:
//! `[DIR]` the directory of the test, `[ID]` 64 or 12 hexadecimal digits,
//! `[TIME]` an RFC 3339 time, `[AGO]` a time told as distance from now.

pub fn stable(text: &str, dir: &str) -> String {
    let text = text.replace(dir, "[DIR]");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        let found = if inside_word { None } else { token(rest) };
        if let Some((length, name)) = found {
            out.push_str(name);
            rest = &rest[length..];
            inside_word = true;
            continue;
        }
        out.push(first);
        inside_word = first.is_ascii_alphanumeric();
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn token(rest: &str) -> Option<(usize, &'static str)> {
    time(rest)
        .map(|length| (length, "[TIME]"))
        .or_else(|| id(rest).map(|length| (length, "[ID]")))
        .or_else(|| ago(rest).map(|length| (length, "[AGO]")))
}

/// A whole word of 64 or 12 lower-case hexadecimal digits, not a plain number.
fn id(rest: &str) -> Option<usize> {
    let word = rest
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(rest.len());
    let hex = rest[..word]
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && matches!(word, 12 | 64)).then_some(word)
}

/// 2026-01-31T12:00:00[.123][Z|+01:00], or with a blank between date and time.
fn time(rest: &str) -> Option<usize> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let bytes = rest.as_bytes();
    if bytes.len() < SHAPE.len() {
        return None;
    }
    let fits = SHAPE.iter().zip(bytes).all(|(shape, byte)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b' '),
        other => byte == other,
    });
    if !fits {
        return None;
    }
    let mut end = SHAPE.len();
    if bytes.get(end) == Some(&b'.') {
        end += 1;
        end += bytes[end..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
    }
    let zone = &rest[end..];
    if zone.starts_with('Z') {
        end += 1;
    } else if zone.len() >= 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':' {
        end += 6;
    }
    Some(end)
}

/// "3 seconds ago", "About a minute ago", "Less than a second ago", "Up 2 seconds" keep
/// their frame: only number and unit are replaced.
fn ago(rest: &str) -> Option<usize> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let start = if digits > 0 {
        digits + usize::from(rest[digits..].starts_with(' '))
    } else {
        ["Less than a ", "About a ", "About an "]
            .iter()
            .find(|lead| rest.starts_with(**lead))?
            .len()
    };
    if digits > 0 && start == digits {
        return None;
    }
    let unit = ["second", "minute", "hour", "day", "week", "month", "year"]
        .iter()
        .find(|unit| rest[start..].starts_with(**unit))?;
    let mut end = start + unit.len();
    if rest[end..].starts_with('s') {
        end += 1;
    }
    if rest[end..].starts_with(" ago") {
        end += 4;
    }
    Some(end)
}

#[test]
fn what_differs_is_replaced_and_nothing_else() {
    let id = "0123456789abcdef".repeat(4);
    let cases = [
        (format!("{id}\n"), "[ID]\n"),
        (format!("sha256:{id} x"), "sha256:[ID] x"),
        ("3f2a91c0d7be is here".into(), "[ID] is here"),
        ("/t/dir/x".into(), "[DIR]/x"),
        ("at 2026-01-31T12:00:00.5+01:00.".into(), "at [TIME]."),
        ("2 seconds ago, Up 3 minutes".into(), "[AGO], Up [AGO]"),
        ("Less than a second ago".into(), "[AGO]"),
        ("12 apples 123456".into(), "12 apples 123456"),
        ("é deadbeefdeadbeef".into(), "é deadbeefdeadbeef"),
    ];
    for (input, expected) in cases {
        assert_eq!(stable(&input, "/t/dir"), expected);
    }
}
