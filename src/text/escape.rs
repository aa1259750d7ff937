//! Text that came from an image, a registry or a container, made safe for a terminal:
//! what could move the cursor, colour the screen or turn the writing direction is
//! shown as an escape instead.

use std::borrow::Cow;
use std::fmt::Write;

/// One line of a message or table: newlines and tabs are escaped too.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Text of many lines: newlines and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

fn escape(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| is_dangerous(c) && !keep(c);
    // Most text is, and is seen to be in a few steps.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !bad(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            c if c < '\u{100}' => write!(out, "\\x{:02x}", u32::from(c)).unwrap_or_default(),
            c => write!(out, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default(),
        }
    }
    Cow::Owned(out)
}

/// C0 and C1 controls and DEL (ECMA-48: they begin the sequences that command a
/// terminal), line separators, and the marks that reorder text (Trojan Source,
/// CVE-2021-42574).
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_and_text_stays() {
        let table = [
            ("plain", "plain"),
            ("grün 日本 🎉", "grün 日本 🎉"),
            ("\x1b[2Jgone", "\\x1b[2Jgone"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}31m", "\\x9b31m"),
            ("\x7f\0", "\\x7f\\x00"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ];
        for (text, shown) in table {
            assert_eq!(line(text), shown);
        }
        assert!(matches!(line("plain"), Cow::Borrowed(_)));
        assert_eq!(lines("a\n\tb\x1b\r"), "a\n\tb\\x1b\\r");
    }
}
